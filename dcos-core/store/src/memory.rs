//! [`MemoryStore`]: a whole store that forgets, for tests and simulations.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Entry, Revision, Snapshot, StateStore, StoreError, Transaction, Watch,
    state::{Batch, HistoryLimit, State},
    watch::Shared,
};

/// Keeps every promise of [`StateStore`] but durability.
///
/// A clone is another handle on the same entries, as a second process would have one.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            shared: Shared::new(State::default()),
        }
    }

    /// An empty store that remembers only so many commits for its watchers, to test being too late.
    pub fn with_history(commits: usize) -> Self {
        let limit = HistoryLimit {
            commits,
            ..HistoryLimit::default()
        };
        Self {
            shared: Shared::new(State::with_history(limit)),
        }
    }

    /// Breaks the store, as a failing disk would: whatever is asked from now on is answered with
    /// [`StoreError::Closed`], and watches end.
    pub fn close(&self) {
        self.shared.change(|state| state.close());
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.shared.read().get(key)
    }

    async fn scan(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.shared.read().scan(prefix)
    }

    async fn transact(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        self.shared.change(|state| {
            if state.is_closed() {
                return Err(StoreError::Closed);
            }
            let mut batch = Batch::after(state);
            let revision = batch.judge(state, transaction)?;
            state.apply(batch);
            Ok(revision)
        })
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.shared.watch(prefix, from)
    }
}
