//! [`Keeper`]: has what is known written down, for a node that starts while no master answers.
//!
//! What changed is written beside whatever comes next: nothing waits for a disk. While one write goes on the next ones
//! gather. So a process that is killed has written what it knew, less what happened during the last write.

use std::io;
use std::time::Duration;

use dcos_core::error::chain;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Around, Entry, Journal, Keeping, MemoryFile, Remembered};
use crate::Follower;

/// How long nothing is written after a failure; twice as long after each further one, up to [`LONGEST`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// How long a begin or an end of the process waits for a disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes down what a follower knows.
///
/// Only [`read`](Self::read), [`written`](Self::written) and [`finish`](Self::finish) wait for a disk, and the first two may be
/// dropped at any time. Failures are told in the log: all else works without.
#[derive(Debug)]
pub struct Keeper {
    /// What is made of it, as the log is to say.
    what: &'static str,
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

impl Keeper {
    /// One of what `what` are made of: names, perhaps.
    pub fn new(what: &'static str, keeping: Keeping) -> Self {
        Self {
            what,
            kept: Some(Kept::new(&keeping)),
            keeping,
            writing: None,
            failed: None,
        }
    }

    /// What an earlier process of this cluster knew, and how long ago that was so, if it can be read and understood.
    pub async fn read(&self) -> Option<(Box<Remembered>, Duration)> {
        let file = MemoryFile::new(self.keeping.clone());
        let now = file.now();
        let read = tokio::task::spawn_blocking(move || file.read());
        let (path, what) = (&self.keeping.path, self.what);
        let Ok(read) = timeout(PATIENCE, read).await else {
            let s = PATIENCE.as_secs();
            tracing::warn!(
                ?path,
                "what was known of {what} is not read within {s} s: beginning without"
            );
            return None;
        };
        match read {
            Err(_) | Ok(Ok(None)) => None,
            Ok(Ok(Some(known))) => {
                let age = now - known.written;
                let (age_s, agents, tasks) = (age.as_secs(), known.agents.len(), known.tasks.len());
                tracing::info!(
                    ?path,
                    age_s,
                    agents,
                    tasks,
                    "what was known of {what} is remembered"
                );
                let Remembered { broken, ended, .. } = known;
                if broken > 0 {
                    tracing::warn!(
                        ?path,
                        broken,
                        "its end is damaged: going on with what is before"
                    );
                }
                if ended > 0 {
                    let tasks = ended;
                    tracing::info!(
                        tasks,
                        "this host was started anew: its own tasks have ended, and have no {what}"
                    );
                }
                Some((Box::new(known), age))
            }
            Ok(Err(error)) => {
                let why = chain(&error);
                tracing::warn!(?path, %why, "what was known of {what} is of no use: beginning without");
                None
            }
        }
    }

    /// Whether anything could be written now; otherwise what is to be [kept](Self::keep) is not.
    pub fn is_idle(&self) -> bool {
        self.kept.is_some() && self.failed.as_ref().is_none_or(|pause| pause.is_over)
    }

    /// Begins to write what changed, unless it is written already.
    pub fn keep(&mut self, around: &Around, follower: &mut Follower) {
        if !self.is_idle() {
            return;
        }
        let next = |kept: &mut Kept| kept.journal.next(kept.file.now(), around, follower);
        if let Some(entry) = self.kept.as_mut().and_then(next) {
            self.write(|_| Some(entry));
        }
    }

    /// Begins to write all that a follower knows now, who is asked where that may take its time.
    pub fn keep_all(&mut self, around: Around, known: impl FnOnce() -> Follower + Send + 'static) {
        if !self.is_idle() {
            return;
        }
        if let Some(now) = self.kept.as_ref().map(|kept| kept.file.now()) {
            self.write(move |kept| kept.journal.next(now, &around, &mut known()));
        }
    }

    /// Whether what was to be kept last was, or is on its way.
    pub fn has_kept(&self) -> bool {
        let kept = self.kept.as_ref();
        kept.is_none_or(|kept| kept.journal.goes_on())
    }

    /// Begins to write that all is still as it was kept, and says whether that can be: it has to be kept anew otherwise.
    pub fn still(&mut self) -> bool {
        let Some(kept) = &self.kept else {
            return true;
        };
        let goes_on = self.has_kept();
        let entry = kept.journal.still(kept.file.now());
        if let Some(entry) = entry.filter(|_| goes_on && self.is_idle()) {
            self.write(|_| Some(entry));
        }
        goes_on
    }

    fn write(&mut self, entry: impl FnOnce(&mut Kept) -> Option<Entry> + Send + 'static) {
        let Some(mut kept) = self.kept.take() else {
            return;
        };
        let (sender, writing) = oneshot::channel();
        self.writing = Some(writing);
        let work = move || {
            let done = entry(&mut kept).map_or(Ok(()), |entry| {
                let write = kept.journal.encode(entry);
                kept.file.carry_out(&write)
            });
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
    /// a failure. For ever, if neither is so. Says whether what was to be written is.
    pub async fn written(&mut self) -> bool {
        if let Some(writing) = &mut self.writing {
            let done = writing.await;
            self.writing = None;
            // What is in the file is not known if the thread panicked.
            let (kept, done) = done.unwrap_or_else(|_| {
                let error = io::Error::other("the thread that was to write it ended without");
                (Kept::new(&self.keeping), Err(error))
            });
            self.kept = Some(kept);
            let is_done = done.is_ok();
            self.note(done);
            is_done
        } else if let Some(pause) = self.failed.as_mut().filter(|pause| !pause.is_over) {
            sleep_until(pause.until).await;
            pause.is_over = true;
            false
        } else {
            std::future::pending().await
        }
    }

    fn note(&mut self, done: io::Result<()>) {
        let before = self.failed.take();
        let Err(error) = done else { return };
        if before.is_none() {
            let (path, what) = (&self.keeping.path, self.what);
            tracing::warn!(?path, %error, "what is known of {what} cannot be written down");
        }
        let length = before.map_or(PAUSE, |before| (before.length * 2).min(LONGEST));
        self.failed = Some(Pause {
            length,
            until: Instant::now() + length,
            is_over: false,
        });
    }

    /// Has `last` keep what changed last, once that can be, and waits until it is written, unless a disk takes too long for
    /// that.
    pub async fn finish(&mut self, last: impl FnOnce(&mut Self)) {
        let work = async {
            if self.writing.is_some() {
                self.written().await;
            }
            self.failed = None;
            last(self);
            if self.writing.is_some() {
                self.written().await;
            }
        };
        if timeout(PATIENCE, work).await.is_err() {
            let (path, what) = (&self.keeping.path, self.what);
            tracing::warn!(
                ?path,
                "what was known last of {what} is not written down: the disk takes too long"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Origin;

    fn keeper(path: &Path) -> Keeper {
        let keeping = Keeping::new(path.to_owned(), Origin::default());
        Keeper::new("virtual addresses", keeping)
    }

    async fn keep(keeper: &mut Keeper, follower: &mut Follower) -> bool {
        keeper.keep(&Around::default(), follower);
        keeper.written().await
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
            assert!(!keep(&mut keeper, &mut follower).await);
            if was_writing {
                attempts.push(begin.elapsed().as_secs());
            }
            assert!(attempts.len() < 100, "without a pause");
        }
        assert_eq!(attempts, [0, 1, 3, 7, 15, 31, 61, 91]);
        std::fs::remove_file(folder.path().join("vips")).unwrap();
        while !keep(&mut keeper, &mut follower).await {}
        assert!(keeper.failed.is_none() && path.is_file());
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
        keeper
            .finish(|keeper| keeper.keep(&around, &mut follower))
            .await;
        assert_eq!(begin.elapsed().as_secs(), PATIENCE.as_secs());
        drop(hangs);
        assert!(!keeper.written().await);
        assert!(keeper.failed.is_some() && !path.exists());
        tokio::time::resume();
        keeper
            .finish(|keeper| keeper.keep(&around, &mut follower))
            .await;
        assert!(path.is_file());
    }

    #[tokio::test]
    async fn that_it_is_still_so_is_written_by_who_wrote_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut keeper = keeper(&path);
        assert!(!keeper.still());
        keeper.keep_all(Around::default(), Follower::of_all);
        assert!(keeper.still(), "it is being written");
        assert!(keeper.written().await && keeper.still());
        keeper.keep_all(Around::default(), || panic!("the test wants it"));
        assert!(!keeper.written().await && !keeper.still() && !keeper.is_idle());
        assert!(!keeper.written().await && keeper.is_idle());
    }
}
