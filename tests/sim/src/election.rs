//! An election as `ZooKeeper` holds it: sessions in the order in which they came, the first leads.
//!
//! A session ends when its process dies or is cut off, and its process may learn of that long
//! after everybody else: until then there are two who believe that they lead.

/// Who is a candidate, and who leads.
#[derive(Debug)]
pub(crate) struct Election {
    /// Candidates, oldest first.
    sessions: Vec<usize>,
    term: u64,
}

/// The one who leads from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elected {
    pub(crate) master: usize,
    pub(crate) term: u64,
}

impl Election {
    pub(crate) fn new() -> Self {
        Self {
            sessions: Vec::new(),
            term: 0,
        }
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        self.sessions.first().copied()
    }

    /// The present term, or the last.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// A candidate comes; it is elected if there is no other.
    pub(crate) fn join(&mut self, master: usize) -> Option<Elected> {
        self.change(|sessions| {
            if !sessions.contains(&master) {
                sessions.push(master);
            }
        })
    }

    /// A session ends; the next candidate is elected if it was the leader's.
    pub(crate) fn leave(&mut self, master: usize) -> Option<Elected> {
        self.change(|sessions| sessions.retain(|known| *known != master))
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<usize>)) -> Option<Elected> {
        let before = self.leader();
        change(&mut self.sessions);
        let leader = self.leader();
        if leader == before {
            return None;
        }
        let master = leader?;
        self.term += 1;
        Some(Elected {
            master,
            term: self.term,
        })
    }
}
