//! Work with files of the node whose file system may be gone, as one of a server that died: it is done on a thread
//! that can be missed, and given up after a while.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::IsolatorError;

/// How long a folder of the node may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// Threads that may wait for such folders, of the 512 that the runtime has for all work that blocks.
static THREADS: Semaphore = Semaphore::const_new(64);

/// Does `work`, waiting for it no longer than `patience`.
///
/// It may be done after all once it was given up, so it must do no harm then.
///
/// # Errors
/// Those of `work`; [`IsolatorError::Refused`] if it takes too long.
pub(super) async fn wait<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> Result<T, IsolatorError> + Send + 'static,
) -> Result<T, IsolatorError> {
    let done = tokio::time::timeout(patience, async {
        let permit = THREADS.acquire().await.expect("it is never closed");
        let work = move || {
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await
    });
    let done = done.await.map_err(|_| {
        IsolatorError::refused(format!(
            "a volume of the node does not answer within {patience:?}: is its file system there?"
        ))
    })?;
    // It panicked, or the runtime ends.
    done.map_err(|error| IsolatorError::refused(error.to_string()))?
}
