//! The pure heart of the stores of this crate: entries, fences and recent history in memory.
//!
//! [`State`] is what is durable. A [`Batch`] judges transactions against it and what earlier ones of the
//! same batch will have done; once the batch is durable, [`State::apply`] makes it visible.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    Change, Check, Commit, Entry, Revision, Snapshot, StoreError, Term, Transaction, Write,
};

/// How much a [`State`] remembers for watchers that lag: about as much as a busy minute writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryLimit {
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
}

impl Default for HistoryLimit {
    fn default() -> Self {
        Self {
            commits: 65_536,
            bytes: 64 << 20,
        }
    }
}

/// Everything that is durable, ready to be read.
#[derive(Debug, Default)]
pub(crate) struct State {
    entries: BTreeMap<Arc<str>, Entry>,
    fences: BTreeMap<Arc<str>, Term>,
    revision: Revision,
    history: VecDeque<Commit>,
    history_bytes: usize,
    limit: HistoryLimit,
    closed: bool,
}

impl State {
    pub(crate) fn recovered(
        entries: impl IntoIterator<Item = Entry>,
        fences: BTreeMap<Arc<str>, Term>,
        revision: Revision,
    ) -> Self {
        let entries = entries
            .into_iter()
            .map(|entry| (entry.key.clone(), entry))
            .collect();
        Self {
            entries,
            fences,
            revision,
            ..Self::default()
        }
    }

    pub(crate) fn with_history(limit: HistoryLimit) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// All entries, in the order of their keys.
    #[cfg(feature = "ensemble")]
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The highest term of each office.
    #[cfg(feature = "ensemble")]
    pub(crate) fn fences(&self) -> impl Iterator<Item = (&str, Term)> {
        self.fences.iter().map(|(office, term)| (&**office, *term))
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.check_open()?;
        Ok(self.entries.get(key).cloned())
    }

    pub(crate) fn scan(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.check_open()?;
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let found = self
            .entries
            .range::<str, _>(from)
            .take_while(|(key, _)| key.starts_with(prefix));
        Ok(Snapshot {
            revision: self.revision,
            entries: found.map(|(_, entry)| entry.clone()).collect(),
        })
    }

    /// The lowest revision whose successors are all still in the history.
    pub(crate) fn floor(&self) -> Revision {
        Revision(self.revision.0 - self.history.len() as u64)
    }

    /// The commits after `from` that touch `prefix`, and where to continue; at most `limit` are looked at.
    pub(crate) fn since(
        &self,
        prefix: &str,
        from: Revision,
        limit: usize,
    ) -> Result<(Vec<Commit>, Revision), StoreError> {
        let oldest = self.floor();
        if from < oldest || from > self.revision {
            return Err(StoreError::Compacted {
                asked: from,
                oldest,
            });
        }
        let skip = usize::try_from(from.0 - oldest.0).expect("the history fits in memory");
        let looked_at = self.history.range(skip..).take(limit);
        let next = Revision(from.0 + looked_at.len() as u64);
        let touching = looked_at.filter_map(|commit| {
            let changes: Vec<_> = commit
                .changes
                .iter()
                .filter(|change| change.key.starts_with(prefix))
                .cloned()
                .collect();
            (!changes.is_empty()).then_some(Commit {
                revision: commit.revision,
                changes,
            })
        });
        Ok((touching.collect(), next))
    }

    /// Makes a durable batch visible.
    pub(crate) fn apply(&mut self, batch: Batch) {
        self.fences.extend(batch.fences);
        self.revision = batch.revision;
        for commit in batch.commits {
            for Change { key, value } in &commit.changes {
                match value {
                    Some(value) => {
                        let entry = Entry {
                            key: key.clone(),
                            value: value.clone(),
                            revision: commit.revision,
                        };
                        self.entries.insert(key.clone(), entry);
                    }
                    None => {
                        self.entries.remove(key);
                    }
                }
            }
            self.history_bytes += weight(&commit);
            self.history.push_back(commit);
        }
        while self.history.len() > self.limit.commits || self.history_bytes > self.limit.bytes {
            let Some(oldest) = self.history.pop_front() else {
                break;
            };
            self.history_bytes -= weight(&oldest);
        }
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed {
            Err(StoreError::Closed)
        } else {
            Ok(())
        }
    }
}

fn weight(commit: &Commit) -> usize {
    commit
        .changes
        .iter()
        .map(|change| change.key.len() + change.value.as_ref().map_or(0, Bytes::len))
        .sum()
}

/// Transactions that become durable together, in order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) commits: Vec<Commit>,
    pub(crate) fences: BTreeMap<Arc<str>, Term>,
    pub(crate) revision: Revision,
    /// When each key changed by this batch will last have been written; `None` if deleted.
    written: BTreeMap<Arc<str>, Option<Revision>>,
}

impl Batch {
    pub(crate) fn after(state: &State) -> Self {
        Self {
            revision: state.revision,
            ..Self::default()
        }
    }

    /// What was judged and made durable elsewhere.
    #[cfg(feature = "ensemble")]
    pub(crate) fn recorded(
        commits: Vec<Commit>,
        fences: BTreeMap<Arc<str>, Term>,
        revision: Revision,
    ) -> Self {
        Self {
            commits,
            fences,
            revision,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.fences.is_empty()
    }

    /// Takes the transaction in if it holds, and says at which revision; otherwise says why not.
    pub(crate) fn judge(
        &mut self,
        state: &State,
        transaction: Transaction,
    ) -> Result<Revision, StoreError> {
        transaction.validate()?;
        let Transaction {
            fence,
            checks,
            writes,
        } = transaction;
        let current = self
            .fences
            .get(&fence.office)
            .or_else(|| state.fences.get(&fence.office))
            .copied();
        if let Some(current) = current.filter(|current| fence.term < *current) {
            return Err(StoreError::Deposed {
                office: fence.office.to_string(),
                term: fence.term,
                current,
            });
        }
        for check in checks {
            let found = self.written_at(state, check.key());
            match check {
                Check::Absent(_) if found.is_none() => {}
                Check::Unchanged(_, revision) if found == Some(revision) => {}
                Check::Absent(key) | Check::Unchanged(key, _) => {
                    return Err(StoreError::Conflict { key, found });
                }
            }
        }
        if current < Some(fence.term) {
            self.fences.insert(fence.office, fence.term);
        }
        let changes: Vec<Change> = writes
            .into_iter()
            .filter_map(|write| match write {
                Write::Put(key, value) => Some(Change {
                    key: key.into(),
                    value: Some(value),
                }),
                Write::Delete(key) => self.written_at(state, &key).map(|_| Change {
                    key: key.into(),
                    value: None,
                }),
            })
            .collect();
        if !changes.is_empty() {
            self.revision = self.revision.next();
            let when = |change: &Change| change.value.is_some().then_some(self.revision);
            self.written.extend(
                changes
                    .iter()
                    .map(|change| (change.key.clone(), when(change))),
            );
            self.commits.push(Commit {
                revision: self.revision,
                changes,
            });
        }
        Ok(self.revision)
    }

    fn written_at(&self, state: &State, key: &str) -> Option<Revision> {
        match self.written.get(key) {
            Some(written) => *written,
            None => state.entries.get(key).map(|entry| entry.revision),
        }
    }
}
