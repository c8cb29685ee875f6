//! A store that notes when runs of schedules are on disk.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;
use dcos_store::{
    EmbeddedStore, Entry, Revision, Snapshot, StateStore, StoreError, Transaction, Watch, Write,
};

/// What is noted of the store it stands before.
#[derive(Debug)]
pub(crate) struct Watched {
    store: EmbeddedStore,
    /// When each row was first kept, in microseconds.
    kept: Mutex<HashMap<String, u64>>,
}

impl Watched {
    pub(crate) fn new(store: EmbeddedStore) -> Self {
        Self {
            store,
            kept: Mutex::default(),
        }
    }

    pub(crate) fn kept(&self) -> Vec<u64> {
        self.kept.lock().unwrap().values().copied().collect()
    }
}

#[async_trait]
impl StateStore for Watched {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn scan(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.store.scan(prefix).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        let run = |write: &Write| match write {
            Write::Put(key, _) if key.starts_with("metronome/run/due-") => Some(key.clone()),
            _ => None,
        };
        let runs: Vec<String> = transaction.writes.iter().filter_map(run).collect();
        let done = self.store.transact(transaction).await?;
        let now = crate::now();
        let mut kept = self.kept.lock().unwrap();
        for run in runs {
            kept.entry(run).or_insert(now);
        }
        Ok(done)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.store.watch(prefix, from).await
    }
}
