//! [`Keeper`]: has what virtual addresses are made of written down, for a node that starts while no master answers.
//!
//! What changed is written once it is in effect in the kernel, beside whatever comes next: no change waits for a disk. While
//! one write goes on the next ones gather. So a process that is killed has written what its kernel's table shows, less what
//! happened during the last write.

use std::io;
use std::path::PathBuf;

use dcos_core::error::chain;
use dcos_core::time::Time;
use dcos_net::{Around, Follower, Journal, MemoryFile, Remembered, Unreadable};
use tokio::task::JoinHandle;

/// Writes down what a follower knows.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Elsewhere while it is written.
    kept: Option<Kept>,
    writing: Option<JoinHandle<(Kept, io::Result<()>)>>,
    /// Whether it was told that it cannot be written.
    has_warned: bool,
}

/// A file, and what is in it.
#[derive(Debug)]
struct Kept {
    file: MemoryFile,
    journal: Journal,
}

impl Keeper {
    pub(crate) fn new(path: PathBuf) -> Self {
        let kept = Kept {
            file: MemoryFile::new(path),
            journal: Journal::default(),
        };
        Self {
            kept: Some(kept),
            writing: None,
            has_warned: false,
        }
    }

    /// What an earlier process knew, if there was one that can be understood.
    pub(crate) async fn read(&mut self) -> Option<Remembered> {
        let kept = self.kept.take()?;
        let read = tokio::task::spawn_blocking(move || {
            let read = kept.file.read();
            (kept, read)
        });
        let (kept, read) = read.await.ok()?;
        let path = kept.file.path().to_owned();
        self.kept = Some(kept);
        match read {
            Ok(known) => {
                if let Some(broken) = known.as_ref().map(|known| known.broken).filter(|n| *n > 0) {
                    tracing::warn!(
                        ?path,
                        broken,
                        "the end of what was known of virtual addresses is damaged: going on with what is before"
                    );
                }
                known
            }
            Err(error) => {
                let why = reason(&error);
                tracing::warn!(?path, %why, "what was known of virtual addresses is of no use: beginning without");
                None
            }
        }
    }

    /// Whether anything could be written now.
    pub(crate) fn is_idle(&self) -> bool {
        self.kept.is_some()
    }

    /// Begins to write what changed, unless it is written already, or something else is being written.
    pub(crate) fn keep(&mut self, now: Time, around: &Around, follower: &mut Follower) {
        let Some(mut kept) = self.kept.take() else {
            return;
        };
        let Some(entry) = kept.journal.next(now, around, follower) else {
            self.kept = Some(kept);
            return;
        };
        let work = move || {
            let done = kept.file.carry_out(&kept.journal.encode(entry));
            if done.is_err() {
                kept.journal.fail();
            }
            (kept, done)
        };
        self.writing = Some(tokio::task::spawn_blocking(work));
    }

    /// Waits until what is being written is; for ever, if nothing is.
    pub(crate) async fn written(&mut self) {
        let Some(writing) = &mut self.writing else {
            return std::future::pending().await;
        };
        let done = writing.await;
        self.writing = None;
        // Nobody asks it to end; without it nothing is written any more, and virtual addresses work.
        let Ok((kept, done)) = done else { return };
        let had_warned = std::mem::replace(&mut self.has_warned, done.is_err());
        if let Err(error) = done.as_ref()
            && !had_warned
        {
            let path = kept.file.path();
            tracing::warn!(?path, %error, "what is known of virtual addresses cannot be written down");
        }
        self.kept = Some(kept);
    }

    /// Writes what changed last.
    pub(crate) async fn finish(&mut self, now: Time, around: &Around, follower: &mut Follower) {
        if self.writing.is_some() {
            self.written().await;
        }
        self.keep(now, around, follower);
        if self.writing.is_some() {
            self.written().await;
        }
    }
}

fn reason(error: &Unreadable) -> String {
    chain(error).to_string()
}
