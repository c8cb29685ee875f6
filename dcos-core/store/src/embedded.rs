//! [`EmbeddedStore`]: cluster state of one machine, in one file.
//!
//! Reads are answered from memory. Writes go through one thread, which commits whatever has queued up
//! while the last batch was being synced as the next batch: one `fsync` for all of them.
//! What lies on disk is `disk`'s business.

mod disk;

use std::{path::Path, sync::Arc, thread};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Entry, Revision, Snapshot, StateStore, StoreError, Transaction, Watch, state::Batch,
    watch::Shared,
};
use disk::Disk;

/// Transactions that may wait for the writer: a few batches of it, so that it never runs dry,
/// while a caller that floods it is held back.
const QUEUE: usize = 1024;

/// Transactions that are committed together at most: enough for the cost of syncing to vanish, few
/// enough for the first of them not to wait noticeably for the last.
const BATCH: usize = 512;

/// A [`StateStore`] in a file of its own, for one machine.
///
/// The file is in use by one process at a time. Dropping the store waits until what was begun is durable.
///
/// # Damage
/// After a crash the file is checked completely, and a commit that was being written is rolled back: it was
/// not acknowledged. A file that was closed in order must be intact to the last acknowledged
/// transaction. Anything else is refused with [`StoreError::Damaged`], which says what to do.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store at `path`, or makes it if there is none. Its directory must exist.
    ///
    /// Reads the whole file, so call it before serving, or through `spawn_blocking`.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Damaged`] or [`StoreError::Open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let (disk, state) = Disk::open(path)?;
        let shared = Shared::new(state);
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = Writer {
            shared: shared.clone(),
            disk,
        };
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(requests))
            .map_err(|source| StoreError::Open {
                path: path.to_owned(),
                source: Arc::new(source),
            })?;
        Ok(Self {
            shared,
            queue: Some(queue),
            writer: Some(writer),
        })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A panic of the writer has been told to those who waited for it.
            drop(writer.join());
        }
    }
}

#[async_trait]
impl StateStore for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.shared.read().get(key)
    }

    async fn scan(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.shared.read().scan(prefix)
    }

    async fn transact(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue
            .send(Request {
                transaction,
                answer,
            })
            .await
            .map_err(|_| StoreError::Closed)?;
        answered.await.unwrap_or_else(|_| {
            Err(StoreError::Uncertain {
                reason: "the writer ended".to_owned(),
            })
        })
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.shared.watch(prefix, from)
    }
}

struct Request {
    transaction: Transaction,
    answer: oneshot::Sender<Result<Revision, StoreError>>,
}

struct Writer {
    shared: Arc<Shared>,
    disk: Disk,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        while requests.blocking_recv_many(&mut batch, BATCH) > 0 {
            if let Err(error) = self.commit(&mut batch) {
                tracing::error!(%error, "the store takes no more writes");
                return;
            }
        }
        self.disk.close(self.shared.read().revision());
    }

    /// Answers every request of the batch. An error means that the disk can no longer be trusted.
    fn commit(&mut self, requests: &mut Vec<Request>) -> Result<(), StoreError> {
        let (batch, verdicts) = {
            let state = self.shared.read();
            let mut batch = Batch::after(&state);
            let judge =
                |request: Request| (batch.judge(&state, request.transaction), request.answer);
            let verdicts: Vec<_> = requests.drain(..).map(judge).collect();
            (batch, verdicts)
        };
        let committed = if batch.is_empty() {
            Ok(())
        } else {
            self.disk.commit(&batch)
        };
        if committed.is_ok() {
            self.shared.change(|state| state.apply(batch));
        }
        for (verdict, answer) in verdicts {
            // Even a refusal may rest on a neighbour in the batch, so it is not told before that is durable.
            // Whoever no longer waits has dropped its future, which is allowed.
            let _ = answer.send(committed.clone().and(verdict));
        }
        committed
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.change(|state| state.close());
    }
}
