//! [`Watch`], what happened since as a stream, and how the stores of this crate make one.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use tokio::sync::watch;

use crate::{Commit, Revision, StoreError, state::State};

/// Transactions in order, each with those of its changes that lie under the watched prefix.
///
/// It ends with [`StoreError::Compacted`] if it was not read for so long that the store dropped what it had to
/// tell, and without an error when the store closes.
pub struct Watch {
    commits: BoxStream<'static, Result<Commit, StoreError>>,
}

impl Watch {
    /// A watch that tells what `commits` yields.
    pub fn new(commits: impl Stream<Item = Result<Commit, StoreError>> + Send + 'static) -> Self {
        Self {
            commits: commits.boxed(),
        }
    }

    /// The next transaction, or `None` once the watch has ended.
    pub async fn next(&mut self) -> Option<Result<Commit, StoreError>> {
        self.commits.next().await
    }
}

impl Stream for Watch {
    type Item = Result<Commit, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.commits.poll_next_unpin(context)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// A [`State`] that is read by many, changed by one, and tells its watchers when it was.
#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<State>,
    changed: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(state),
            changed: watch::Sender::new(()),
        })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state under the lock, then wakes the watchers.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut RwLockWriteGuard<'_, State>) -> T,
    ) -> T {
        let result = change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        result
    }

    pub(crate) fn watch(
        self: &Arc<Self>,
        prefix: &str,
        from: Revision,
    ) -> Result<Watch, StoreError> {
        self.read().since(prefix, from, 0)?;
        let cursor = Cursor {
            shared: Arc::downgrade(self),
            changed: self.changed.subscribe(),
            prefix: prefix.to_owned(),
            from,
        };
        let chunks = stream::unfold(Some(cursor), |cursor| async { cursor?.next_chunk().await });
        Ok(Watch::new(chunks.flat_map(stream::iter)))
    }
}

/// Commits a cursor takes from the history at a time, so that the lock is held only shortly.
const CHUNK: usize = 256;

/// One result for each commit, or the error that ends the watch.
type Chunk = Vec<Result<Commit, StoreError>>;

/// Where one watch stands. It does not keep the store alive.
struct Cursor {
    shared: std::sync::Weak<Shared>,
    changed: watch::Receiver<()>,
    prefix: String,
    from: Revision,
}

impl Cursor {
    async fn next_chunk(mut self) -> Option<(Chunk, Option<Self>)> {
        loop {
            self.changed.borrow_and_update();
            let (found, caught_up, closed) = {
                let shared = self.shared.upgrade()?;
                let state = shared.read();
                match state.since(&self.prefix, self.from, CHUNK) {
                    Err(error) => return Some((vec![Err(error)], None)),
                    Ok((commits, next)) => {
                        self.from = next;
                        (commits, next == state.revision(), state.is_closed())
                    }
                }
            };
            if !found.is_empty() {
                return Some((found.into_iter().map(Ok).collect(), Some(self)));
            }
            if caught_up && (closed || self.changed.changed().await.is_err()) {
                return None;
            }
        }
    }
}
