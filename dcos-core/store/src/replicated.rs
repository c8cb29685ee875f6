//! [`ReplicatedStore`]: the state of several machines, as a log in an engine that all of them reach.
//!
//! ```text
//! transact ─► queue ─► judge against state + batch ─► one page + the register moves, atomically ─► apply ─► answer
//! get, scan ─► is the register where I think it is? ─► catch up ─► memory
//! ```
//!
//! Every machine holds the whole state in memory and follows the log. What an engine has to offer is little
//! (a [`Medium`]): one register with compare-and-set, and pages. All promises of
//! [`StateStore`] follow from the register: a batch that was judged against an old state finds it
//! moved, and is judged anew. That also is the fence: whoever was deposed learns it on its next write.
//!
//! | file | owns |
//! |---|---|
//! | `medium.rs` | the plug point for engines |
//! | `format.rs` | what pages and register hold |
//! | `replica.rs` | the task that owns a machine's copy: writes, catches up |
//! | `base.rs` | the state as a whole: written now and then, so that the log stays short |
//! | `memory.rs` | a medium for tests that fails on demand |

mod base;
mod format;
mod medium;
#[cfg(any(test, feature = "testkit"))]
mod memory;
mod replica;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub use medium::{Medium, MediumError, Swapped, Version};
#[cfg(any(test, feature = "testkit"))]
pub use memory::MemoryMedium;

use crate::{
    Entry, Revision, Snapshot, StateStore, StoreError, Transaction, Watch, state::State,
    watch::Shared,
};
use replica::{Replica, Request};

/// Requests that may wait: a caller that floods the store is held back.
const QUEUE: usize = 1024;

/// How long an engine may be out of reach if nothing else is said: the original's `--registry_store_timeout`.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A [`StateStore`] that several processes share through a [`Medium`].
///
/// Opening connects nothing and cannot fail; what cannot be reached in time is answered with
/// [`StoreError::Unavailable`] or [`StoreError::Uncertain`]. Values of any size that
/// [`StateStore`] allows fit, whatever the engine's own limit, and so do transactions of many.
#[derive(Debug)]
pub struct ReplicatedStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
    replica: JoinHandle<()>,
}

impl ReplicatedStore {
    /// The store in `medium`, which may be out of reach for 20 s. Must be called within a tokio runtime.
    pub fn open(medium: impl Medium) -> Self {
        Self::with_patience(medium, PATIENCE)
    }

    /// The store in `medium`, which may be out of reach for so long. Must be called within a tokio runtime.
    pub fn with_patience(medium: impl Medium, patience: Duration) -> Self {
        let shared = Shared::new(State::default());
        let (queue, requests) = mpsc::channel(QUEUE);
        let replica = Replica::new(Arc::new(medium), Arc::clone(&shared), patience);
        Self {
            shared,
            queue,
            replica: tokio::spawn(replica.run(requests)),
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.queue.send(request(answer)).await;
        sent.map_err(|_| StoreError::Closed)?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Waits until the state in memory is as new as this call.
    async fn refresh(&self) -> Result<(), StoreError> {
        self.ask(Request::Refresh).await
    }
}

impl Drop for ReplicatedStore {
    fn drop(&mut self) {
        self.replica.abort();
    }
}

#[async_trait]
impl StateStore for ReplicatedStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.refresh().await?;
        self.shared.read().get(key)
    }

    async fn scan(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.refresh().await?;
        self.shared.read().scan(prefix)
    }

    async fn transact(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        transaction.validate()?;
        self.ask(|answer| Request::Transact(transaction, answer))
            .await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.refresh().await?;
        self.shared.watch(prefix, from)
    }
}

impl fmt::Display for ReplicatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "replicated store at revision {}",
            self.shared.read().revision()
        )
    }
}
