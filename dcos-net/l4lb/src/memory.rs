//! [`Keeper`]: has what virtual addresses are made of written down, for a node that starts while no master answers.
//!
//! What changed is written once it is in effect in the kernel, beside whatever comes next: no change waits for a disk. While
//! one write goes on the next ones gather. So a process that is killed has written what its kernel's table shows, less what
//! happened during the last write.

use std::io;
use std::time::Duration;

use dcos_core::error::chain;
use dcos_net::{Around, Follower, Journal, Keeping, MemoryFile, Remembered, Unreadable};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

/// How long nothing is written after a failure; twice as long after each further one, up to [`LONGEST`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How long an end of the process waits for a disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes down what a follower knows.
#[derive(Debug)]
pub(crate) struct Keeper {
    keeping: Keeping,
    /// Elsewhere while it is written.
    kept: Option<Kept>,
    /// By a thread of its own, for which no end of the process waits.
    writing: Option<oneshot::Receiver<(Kept, io::Result<()>)>>,
    /// If it cannot be written.
    failed: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    length: Duration,
    until: Instant,
    is_over: bool,
}

/// A file, and what is in it.
#[derive(Debug)]
struct Kept {
    file: MemoryFile,
    journal: Journal,
}

impl Kept {
    fn new(keeping: &Keeping) -> Self {
        let file = MemoryFile::new(keeping.clone());
        Self {
            journal: file.journal(),
            file,
        }
    }
}

/// What an earlier process left.
#[derive(Debug)]
pub(crate) enum Left {
    /// Nothing that counts.
    Nothing,
    /// What a node of another cluster knew.
    OfAnother,
    /// What this node knew, and how long ago that was so.
    Known(Box<Remembered>, Duration),
}

impl Keeper {
    pub(crate) fn new(keeping: Keeping) -> Self {
        Self {
            kept: Some(Kept::new(&keeping)),
            keeping,
            writing: None,
            failed: None,
        }
    }

    /// What an earlier process knew, if there was one that can be understood.
    pub(crate) async fn read(&mut self) -> Left {
        let Some(kept) = self.kept.take() else {
            return Left::Nothing;
        };
        let now = kept.file.now();
        let read = tokio::task::spawn_blocking(move || {
            let read = kept.file.read();
            (kept, read)
        });
        let Ok((kept, read)) = read.await else {
            return Left::Nothing;
        };
        self.kept = Some(kept);
        let path = &self.keeping.path;
        match read {
            Ok(None) => Left::Nothing,
            Ok(Some(known)) => {
                let Remembered { broken, ended, .. } = known;
                if broken > 0 {
                    tracing::warn!(
                        ?path,
                        broken,
                        "the end of what was known of virtual addresses is damaged: going on with what is before"
                    );
                }
                if ended > 0 {
                    tracing::info!(
                        tasks = ended,
                        "this host was started anew: its own tasks have ended, and have no virtual addresses"
                    );
                }
                let age = now - known.written;
                Left::Known(Box::new(known), age)
            }
            Err(error) => {
                let why = reason(&error);
                tracing::warn!(?path, %why, "what was known of virtual addresses is of no use: beginning without");
                match error {
                    Unreadable::Elsewhere { .. } => Left::OfAnother,
                    _ => Left::Nothing,
                }
            }
        }
    }

    /// Whether anything could be written now.
    pub(crate) fn is_idle(&self) -> bool {
        self.kept.is_some() && self.failed.as_ref().is_none_or(|pause| pause.is_over)
    }

    /// Begins to write what changed, unless it is written already, or something else is being written.
    pub(crate) fn keep(&mut self, around: &Around, follower: &mut Follower) {
        let Some(mut kept) = self.kept.take() else {
            return;
        };
        let now = kept.file.now();
        let Some(entry) = kept.journal.next(now, around, follower) else {
            self.kept = Some(kept);
            return;
        };
        let (sender, writing) = oneshot::channel();
        self.writing = Some(writing);
        let work = move || {
            let done = kept.file.carry_out(&kept.journal.encode(entry));
            if done.is_err() {
                kept.journal.fail();
            }
            // Nobody may wait for it any more.
            let _ = sender.send((kept, done));
        };
        let thread = std::thread::Builder::new().name("memory".to_owned());
        // Without a thread nobody sends: that is told where it is waited for.
        drop(thread.spawn(work));
    }

    /// Waits until it may be that something can be written: what is being written is, or it was paused for long enough after
    /// a failure. For ever, if neither is so.
    pub(crate) async fn written(&mut self) {
        if let Some(writing) = &mut self.writing {
            let done = writing.await;
            self.writing = None;
            // What is in the file is not known if the thread panicked.
            let (kept, done) = done.unwrap_or_else(|_| {
                let error = io::Error::other("the thread that was to write it ended without");
                (Kept::new(&self.keeping), Err(error))
            });
            self.kept = Some(kept);
            self.note(done);
        } else if let Some(pause) = self.failed.as_mut().filter(|pause| !pause.is_over) {
            sleep_until(pause.until).await;
            pause.is_over = true;
        } else {
            std::future::pending().await
        }
    }

    fn note(&mut self, done: io::Result<()>) {
        let before = self.failed.take();
        let Err(error) = done else { return };
        if before.is_none() {
            let path = &self.keeping.path;
            tracing::warn!(?path, %error, "what is known of virtual addresses cannot be written down");
        }
        let length = before.map_or(PAUSE, |before| (before.length * 2).min(LONGEST));
        self.failed = Some(Pause {
            length,
            until: Instant::now() + length,
            is_over: false,
        });
    }

    /// Writes what changed last, unless a disk takes too long for that.
    pub(crate) async fn finish(&mut self, around: &Around, follower: &mut Follower) {
        let work = async {
            if self.writing.is_some() {
                self.written().await;
            }
            self.keep(around, follower);
            if self.writing.is_some() {
                self.written().await;
            }
        };
        if timeout(PATIENCE, work).await.is_err() {
            let path = &self.keeping.path;
            tracing::warn!(
                ?path,
                "what was known last of virtual addresses is not written down: the disk takes too long"
            );
        }
    }
}

fn reason(error: &Unreadable) -> String {
    chain(error).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dcos_net::Origin;

    use super::*;

    fn keeper(path: &Path) -> Keeper {
        Keeper::new(Keeping::new(path.to_owned(), Origin::default()))
    }

    async fn keep(keeper: &mut Keeper, follower: &mut Follower) {
        if keeper.is_idle() {
            keeper.keep(&Around::default(), follower);
        }
        keeper.written().await;
    }

    /// The time stands still while a thread writes, and goes on by itself while nobody has anything to do.
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_is_tried_again_after_pauses_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vips/state");
        std::fs::write(folder.path().join("vips"), "").unwrap();
        let (mut keeper, mut follower) = (keeper(&path), Follower::of_vips());
        let begin = Instant::now();
        let mut attempts = Vec::new();
        while begin.elapsed() < Duration::from_secs(100) {
            let was_writing = keeper.is_idle();
            keep(&mut keeper, &mut follower).await;
            if was_writing {
                attempts.push(begin.elapsed().as_secs());
            }
            assert!(attempts.len() < 100, "without a pause");
        }
        assert_eq!(attempts, [0, 1, 3, 7, 15, 31, 61, 91]);
        std::fs::remove_file(folder.path().join("vips")).unwrap();
        while keeper.failed.is_some() {
            keep(&mut keeper, &mut follower).await;
        }
        assert!(path.is_file());
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_does_not_wait_for_a_disk_that_hangs_and_a_panic_is_no_end_of_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut keeper, mut follower) = (keeper(&path), Follower::of_vips());
        let (hangs, writing) = oneshot::channel();
        keeper.kept = None;
        keeper.writing = Some(writing);
        let around = Around::default();
        let begin = Instant::now();
        keeper.finish(&around, &mut follower).await;
        assert_eq!(begin.elapsed().as_secs(), PATIENCE.as_secs());
        drop(hangs);
        keeper.written().await;
        assert!(keeper.failed.is_some() && !path.exists());
        tokio::time::resume();
        keeper.finish(&around, &mut follower).await;
        assert!(path.is_file());
    }
}
