//! [`MemoryElection`]: an election among the candidates of one process, for tests and simulations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{Election, Fence, Leader, Leadership, Term};
use crate::ElectionError;

/// Elects candidates in the order in which they campaigned. A clone is the same election.
#[derive(Clone, Debug)]
pub struct MemoryElection {
    office: Arc<str>,
    seat: Arc<Semaphore>,
    sitting: Arc<Mutex<Sitting>>,
    leader: watch::Sender<Option<Leader>>,
    candidates: watch::Sender<Vec<Bytes>>,
}

#[derive(Debug, Default)]
struct Sitting {
    term: Term,
    lost: CancellationToken,
    /// Those who stand, by numbers that grow: the leader, then those who wait, in the order of their turns.
    standing: BTreeMap<u64, Bytes>,
}

impl MemoryElection {
    /// An election for the office `test`, without a leader.
    pub fn new() -> Self {
        Self::for_office("test")
    }

    /// An election for `office`, without a leader.
    pub fn for_office(office: impl Into<Arc<str>>) -> Self {
        Self {
            office: office.into(),
            seat: Arc::new(Semaphore::new(1)),
            sitting: Arc::default(),
            leader: watch::Sender::new(None),
            candidates: watch::Sender::new(Vec::new()),
        }
    }

    /// Takes the office from the present leader without its help, as a lost connection would, and lets the
    /// next candidate in. The deposed still holds its [`Leadership`] and may try to write.
    pub fn depose(&self) {
        let sitting = self.sitting();
        if !sitting.lost.is_cancelled() && self.leader.send_replace(None).is_some() {
            sitting.lost.cancel();
            self.seat.add_permits(1);
        }
    }

    /// Stands until what is returned is dropped.
    fn stand(&self, candidate: Bytes) -> Standing {
        let number = self.change_standing(|standing| {
            let number = standing.last_key_value().map_or(0, |(last, _)| last + 1);
            standing.insert(number, candidate);
            number
        });
        Standing {
            election: self.clone(),
            number,
        }
    }

    fn change_standing<T>(&self, change: impl FnOnce(&mut BTreeMap<u64, Bytes>) -> T) -> T {
        let mut sitting = self.sitting();
        let changed = change(&mut sitting.standing);
        let all = sitting.standing.values().cloned().collect();
        self.candidates.send_replace(all);
        changed
    }

    fn sitting(&self) -> std::sync::MutexGuard<'_, Sitting> {
        self.sitting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryElection {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Election for MemoryElection {
    async fn campaign(&self, candidate: Bytes) -> Result<Leadership, ElectionError> {
        let standing = self.stand(candidate.clone());
        let seat = self
            .seat
            .acquire()
            .await
            .expect("the semaphore is never closed");
        // From here on there is no await, so a dropped campaign cannot take the seat with it.
        seat.forget();
        let mut sitting = self.sitting();
        let (term, lost) = (Term(sitting.term.0 + 1), CancellationToken::new());
        sitting.term = term;
        sitting.lost = lost.clone();
        drop(sitting);
        self.leader.send_replace(Some(Leader { term, candidate }));
        Ok(Leadership::new(
            Fence::new(self.office.clone(), term),
            lost,
            Resign {
                election: self.clone(),
                term,
                _standing: standing,
            },
        ))
    }

    fn observe(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.subscribe()
    }

    fn candidates(&self) -> watch::Receiver<Vec<Bytes>> {
        self.candidates.subscribe()
    }
}

/// A candidacy, until it is dropped.
#[derive(Debug)]
struct Standing {
    election: MemoryElection,
    number: u64,
}

impl Drop for Standing {
    fn drop(&mut self) {
        let number = self.number;
        self.election
            .change_standing(|standing| standing.remove(&number));
    }
}

/// Gives the seat back unless it was taken already.
#[derive(Debug)]
struct Resign {
    election: MemoryElection,
    term: Term,
    _standing: Standing,
}

impl Drop for Resign {
    fn drop(&mut self) {
        let present = self.election.sitting().term;
        if present == self.term {
            self.election.depose();
        }
    }
}
