//! The master's own threads: one that decides, and some for readers.
//!
//! On the threads of the program's runtime the core would wait for its turn behind whatever is being
//! sent there, which takes milliseconds when many read documents of a hundred megabytes.

use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Where documents are written and sent: on half of the cores at most. They are as quick as all others on what they
/// have: were they nicer, whatever else a machine does would keep readers waiting.
#[derive(Debug)]
pub(super) struct Readers(Option<Runtime>);

impl Readers {
    pub(super) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism()?.get();
        let runtime = Builder::new_multi_thread()
            .worker_threads((cores / 2).max(1))
            .thread_name("reader")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn handle(&self) -> Option<Handle> {
        self.0.as_ref().map(|runtime| runtime.handle().clone())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs `work` on a thread of its own, with the timers and sockets of this runtime. Dropping the
/// returned future drops `work`, wherever it waits, and ends the thread.
pub(super) fn apart<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<impl Future<Output = T> + Send> {
    let stop = CancellationToken::new();
    let (sender, done) = oneshot::channel();
    let (runtime, stopped) = (Handle::current(), stop.clone());
    let thread = thread::Builder::new()
        .name("master".to_owned())
        .spawn(move || {
            if let Some(result) = runtime.block_on(stopped.run_until_cancelled_owned(work)) {
                // Nobody waits any more.
                let _ = sender.send(result);
            }
        })?;
    let mut thread = Thread {
        stop,
        running: Some(thread),
    };
    Ok(async move {
        match done.await {
            Ok(result) => result,
            Err(_) => thread.fail(),
        }
    })
}

struct Thread {
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl Thread {
    /// The work broke off.
    fn fail(&mut self) -> ! {
        match self.running.take().map(JoinHandle::join) {
            Some(Err(panic)) => resume_unwind(panic),
            _ => unreachable!("work that does not fail has a result"),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.running.take() {
            // It stops at once: what it does waits for nothing else.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn work_has_timers_and_a_result() {
        let work = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            thread::current().name().map(ToOwned::to_owned)
        };
        let name = apart(work).unwrap().await;
        assert_eq!(name.as_deref(), Some("master"));
    }

    #[tokio::test]
    async fn nothing_is_left_of_work_that_is_dropped() {
        let held = Arc::new(());
        let kept = Arc::clone(&held);
        let work = apart(async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        assert!(work.unwrap().now_or_never().is_none());
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    #[should_panic(expected = "no way")]
    async fn a_panic_is_passed_on() {
        apart(async { panic!("no way") }).unwrap().await
    }
}
