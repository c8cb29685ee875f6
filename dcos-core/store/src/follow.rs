//! [`Seen`]: what an election knows of the leader, from whoever learns it first.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::{sync::watch, task::AbortHandle};

use crate::{Leader, election::tell};

/// The leader as seen by an observer that reads now and then, and by a candidate of the same process that knows
/// at once that it was elected.
#[derive(Debug)]
pub(crate) struct Seen {
    leader: watch::Sender<Option<Leader>>,
    candidates: watch::Sender<Vec<Bytes>>,
    /// Counts what candidates said: what was read before is then no longer news.
    said: AtomicU64,
    order: Mutex<()>,
    observer: OnceLock<AbortHandle>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self {
            leader: watch::Sender::new(None),
            candidates: watch::Sender::new(Vec::new()),
            said: AtomicU64::new(0),
            order: Mutex::new(()),
            observer: OnceLock::new(),
        }
    }

    /// Runs `observe` until this is dropped, unless it runs already.
    pub(crate) fn watch(&self, observe: impl FnOnce() -> tokio::task::JoinHandle<()>) -> &Self {
        self.observer.get_or_init(|| observe().abort_handle());
        self
    }

    /// The leader, as far as somebody [watches](Self::watch).
    pub(crate) fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.subscribe()
    }

    /// The same of all candidates.
    pub(crate) fn candidates(&self) -> watch::Receiver<Vec<Bytes>> {
        self.candidates.subscribe()
    }

    /// To be called before reading; [`read`](Self::read) wants it back.
    pub(crate) fn begin(&self) -> u64 {
        self.said.load(Ordering::Acquire)
    }

    /// Who stands, the leader first, as read since `begun`; `false` if a candidate knew better, so that it has to be read
    /// again.
    pub(crate) fn read(&self, begun: u64, standing: Vec<Leader>) -> bool {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if self.said.load(Ordering::Acquire) != begun {
            return false;
        }
        tell(&self.leader, standing.first().cloned());
        let said = standing.into_iter().map(|one| one.candidate);
        tell(&self.candidates, said.collect());
        true
    }

    /// What a candidate knows.
    pub(crate) fn say(&self, leader: Option<Leader>) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.said.fetch_add(1, Ordering::AcqRel);
        tell(&self.leader, leader);
    }

    /// The leader of that term is no more, unless another one is seen already.
    pub(crate) fn gone(&self, leader: &Leader) {
        let seen = self.leader.borrow().as_ref().map(|seen| seen.term);
        if seen == Some(leader.term) {
            self.say(None);
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if let Some(observer) = self.observer.get() {
            observer.abort();
        }
    }
}
