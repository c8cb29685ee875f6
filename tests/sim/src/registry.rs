//! The store the masters share: a real [`MemoryStore`], behind a network that is slow or fails.

use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::Message;
use dcos_sched::master::PREFIX;
use dcos_store::{
    Fence, MemoryStore, Revision, Snapshot, StateStore, StoreError, Term, Transaction, Write,
};
use futures::FutureExt;

use crate::sabotage::Sabotage;

/// What is wrong with the store for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// Each write takes seconds.
    Slow,
    /// Writes fail: some of them nevertheless happened.
    Failing,
}

/// The store, and what it must never do.
#[derive(Debug)]
pub(crate) struct Registry {
    store: MemoryStore,
    seed: Seed,
    sabotage: Option<Sabotage>,
    ailing: Option<(Ailment, Time)>,
    /// The highest term that has read: nothing of a lower one may be written any more.
    newest: u64,
    pub(crate) writes: u64,
    pub(crate) complaint: Option<String>,
}

impl Registry {
    pub(crate) fn new(seed: &Seed, sabotage: Option<Sabotage>) -> Self {
        Self {
            store: MemoryStore::new(),
            seed: seed.stream("registry"),
            sabotage,
            ailing: None,
            newest: 0,
            writes: 0,
            complaint: None,
        }
    }

    pub(crate) fn ail(&mut self, ailment: Ailment, until: Time) {
        self.ailing = Some((ailment, until));
    }

    /// How long a write takes to get there, or its answer to come back.
    pub(crate) fn delay(&mut self, now: Time) -> Duration {
        let most = match self.ailment(now) {
            Some(Ailment::Slow) => 4_000_000,
            _ => 5_000,
        };
        Duration::from_micros(self.seed.range(50..most))
    }

    fn ailment(&self, now: Time) -> Option<Ailment> {
        self.ailing
            .filter(|(_, until)| now < *until)
            .map(|(ailment, _)| ailment)
    }

    /// What a new leader does first: close the door behind the last one, then read.
    pub(crate) fn read(&mut self, term: u64, master: usize) -> Result<Snapshot, StoreError> {
        let close = Transaction::new(self.fence(term, master));
        now_or_never(self.store.transact(close))?;
        self.newest = self.newest.max(term);
        now_or_never(self.store.scan(PREFIX))
    }

    /// Carries out a write that has arrived.
    pub(crate) fn write(
        &mut self,
        now: Time,
        term: u64,
        master: usize,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        let fails = self.ailment(now) == Some(Ailment::Failing);
        if fails && self.seed.chance(0.5) {
            return Err(StoreError::Closed);
        }
        let mut transaction = Transaction::new(self.fence(term, master));
        transaction.writes = writes;
        if self.sabotage == Some(Sabotage::Gone) {
            let is_gone =
                |write: &Write| matches!(write, Write::Put(key, _) if key.contains("/gone/"));
            transaction.writes.retain(|write| !is_gone(write));
        }
        let done = now_or_never(self.store.transact(transaction))?;
        self.writes += 1;
        if term < self.newest {
            self.complaint = Some(format!(
                "a write of term {term} was accepted after term {} had read",
                self.newest
            ));
        }
        if fails {
            return Err(StoreError::Closed);
        }
        Ok(done)
    }

    /// Whether there is something at a key.
    pub(crate) fn has(&self, key: &str) -> bool {
        matches!(now_or_never(self.store.get(key)), Ok(Some(_)))
    }

    /// What is at a key.
    pub(crate) fn get<M: Message>(&self, key: &str) -> Option<M> {
        let entry = now_or_never(self.store.get(key)).ok()??;
        dcos_proto::decode(&entry.value).ok()
    }

    fn fence(&self, term: u64, master: usize) -> Fence {
        // Offices do not know each other, so that their terms exclude nobody.
        if self.sabotage == Some(Sabotage::Fence) {
            return Fence::new(format!("master-{master}"), Term(term));
        }
        Fence::new("master", Term(term))
    }
}

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    future
        .now_or_never()
        .expect("a store in memory answers at once")
}
