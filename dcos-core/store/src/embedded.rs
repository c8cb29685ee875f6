//! [`EmbeddedStore`]: cluster state of one machine, in one file.
//!
//! Reads are answered from memory. Writes go through one thread, which commits whatever has queued up
//! while the last batch was being synced as the next batch: one `fsync` for all of them.
//! What lies on disk is `disk`'s business.

mod disk;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

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

/// How long dropping a store waits for the last batch.
const LAST_BATCH: Duration = Duration::from_secs(10);

/// A [`StateStore`] in a file of its own, for one machine.
///
/// The file is in use by one process at a time. Dropping the store waits until what was begun is durable,
/// 10 s at most: a disk that hangs keeps nobody from ending.
///
/// # Damage
/// After a crash the file is checked completely, and a commit that was being written is rolled back: it was
/// not acknowledged. A file that was closed in order must be intact to the last acknowledged
/// transaction. Anything else is refused with [`StoreError::Damaged`], which says what to do.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Request>>,
    writer: Thread,
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
        let writer = Thread::start(move || writer.run(requests));
        let writer = writer.map_err(|source| StoreError::Open {
            path: path.to_owned(),
            source: Arc::new(source),
        })?;
        Ok(Self {
            shared,
            queue: Some(queue),
            writer,
        })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        drop(self.queue.take());
        if !self.writer.has_ended_within(LAST_BATCH) {
            tracing::error!("the disk does not answer: what the store was writing may be lost");
        }
    }
}

/// The thread that writes.
#[derive(Debug)]
struct Thread {
    /// Nothing is sent: it ends with the thread.
    running: Mutex<Receiver<()>>,
}

impl Thread {
    fn start(work: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (ended, running): (Sender<()>, _) = channel();
        let thread = thread::Builder::new().name("store-writer".to_owned());
        thread.spawn(move || {
            // Last, even if the work panics, which was told to those who waited for it.
            let _ended = ended;
            work();
        })?;
        Ok(Self {
            running: Mutex::new(running),
        })
    }

    fn has_ended_within(&mut self, patience: Duration) -> bool {
        let running = self.running.get_mut();
        let running = running.unwrap_or_else(PoisonError::into_inner);
        running.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_hangs_is_not_waited_for_for_ever() {
        let (disk, hangs) = channel::<()>();
        let mut writer = Thread::start(move || assert!(hangs.recv().is_err())).unwrap();
        assert!(!writer.has_ended_within(Duration::from_millis(1)));
        drop(disk);
        assert!(writer.has_ended_within(Duration::from_secs(60)));
        let mut panicking = Thread::start(|| panic!("on purpose")).unwrap();
        assert!(panicking.has_ended_within(Duration::from_secs(60)));
    }
}
