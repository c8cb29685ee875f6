//! How much the master logs, and for how long (`SET_LOGGING_LEVEL`).

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

/// The level of the log: 0 is what the program was started with, each step above tells more.
/// Clones are the same.
#[derive(Clone, Default)]
pub struct Verbosity(Arc<Inner>);

#[derive(Default)]
struct Inner {
    level: AtomicU32,
    /// What makes the log follow.
    apply: Option<Box<dyn Fn(u32) + Send + Sync>>,
    /// Goes back to 0 when the time is over.
    back: Mutex<Option<AbortHandle>>,
}

impl Verbosity {
    /// Calls `apply` with each new level. By default nothing happens but that the level is shown.
    pub fn new(apply: impl Fn(u32) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            level: AtomicU32::new(0),
            apply: Some(Box::new(apply)),
            back: Mutex::new(None),
        }))
    }

    /// The level there is.
    pub fn level(&self) -> u32 {
        self.0.level.load(Ordering::Relaxed)
    }

    /// Sets the level for some time, within a tokio runtime; the last call counts.
    pub fn set(&self, level: u32, time: Duration) {
        self.0.go_to(level);
        let inner = Arc::downgrade(&self.0);
        let back = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if let Some(inner) = inner.upgrade() {
                inner.go_to(0);
            }
        });
        let mut waiting = self.0.back.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = waiting.replace(back.abort_handle()) {
            earlier.abort();
        }
    }
}

impl Inner {
    fn go_to(&self, level: u32) {
        self.level.store(level, Ordering::Relaxed);
        if let Some(apply) = &self.apply {
            apply(level);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let waiting = self.back.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = waiting.take() {
            waiting.abort();
        }
    }
}

impl fmt::Debug for Verbosity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verbosity").field(&self.level()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_back_by_itself() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let verbosity = Verbosity::new(move |level| {
            told.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(level);
        });
        verbosity.set(1, Duration::from_secs(1));
        verbosity.set(2, Duration::from_secs(10));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(verbosity.level(), 2);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(verbosity.level(), 0);
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(*seen, [1, 2, 0]);
    }
}
