//! Checkpoints on disk.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use dcos_core::time::Time;
use dcos_proto::json::{self, Dialect, Json as ToJson};
use dcos_proto::mesos::{AgentId, FrameworkId};
use serde_json::{Value, json};

use super::files::Batch;
use super::format::{self, FormatError};
use super::journal::{self, Journal};
use super::lines::Lines;
use super::{FrameworkCheckpoint, Run, State, Write, paths, read};
use crate::executor::HostedKind;

/// Why checkpoints cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The disk failed, or is full.
    #[error("writing checkpoints below {work_dir:?}")]
    Write {
        /// The agent's directory.
        work_dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("reading {path:?}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file was damaged, or is not ours. Moving `meta/slaves/latest` away starts anew.
    #[error("{path:?} is no checkpoint of this agent")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
    /// What an original Mesos agent left cannot be taken over as it is.
    #[error(
        "this work directory is an original Mesos agent's, and cannot be taken over: {obstacles}; \
         drain that agent first"
    )]
    Refused {
        /// All reasons.
        obstacles: String,
    },
    /// Something is to be kept for an agent that has no id.
    #[error("nothing can be kept before the agent has registered")]
    NoAgent,
}

/// The checkpoints below one work directory. Its calls block.
#[derive(Debug)]
pub struct Store {
    work_dir: PathBuf,
    agent: Option<AgentId>,
    /// Of that agent, once something was written to it.
    journal: Option<Journal>,
    /// Room for those of the next batch.
    lines: Lines,
}

impl Store {
    /// The checkpoints below `work_dir`, which is made if it is missing.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn open(work_dir: impl Into<PathBuf>) -> Result<Self, CheckpointError> {
        let work_dir = work_dir.into();
        match fs::create_dir_all(paths::agents(&work_dir)) {
            Ok(()) => Ok(Self {
                work_dir,
                agent: None,
                journal: None,
                lines: Lines::default(),
            }),
            Err(source) => Err(CheckpointError::Write { work_dir, source }),
        }
    }

    /// Everything that was kept, by this version or the one before, whose files are replaced on the way.
    /// `boot_id` tells one boot of the host from another.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] for a file that is not as it was written,
    /// [`CheckpointError::Read`] if the system refuses.
    pub fn read(&mut self, boot_id: &str) -> Result<State, CheckpointError> {
        let mut state = read::state(&self.work_dir)?;
        self.agent = state.agent.as_ref().and_then(|agent| agent.id.clone());
        let boot_file = self.work_dir.join("meta/boot_id");
        let before = fs::read_to_string(&boot_file).ok();
        state.rebooted = before
            .as_deref()
            .is_some_and(|before| before.trim() != boot_id);
        if before.as_deref().map(str::trim) != Some(boot_id) {
            let mut batch = Batch::default();
            let written = batch.replace(&boot_file, boot_id.as_bytes());
            self.written(written.and_then(|()| batch.commit()))?;
        }
        Ok(state)
    }

    /// Returns when all of `writes` are on stable storage.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]: some of them may be, in order.
    pub fn apply<W: Borrow<Write>>(&mut self, writes: &[W]) -> Result<(), CheckpointError> {
        let mut batch = Batch::default();
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        let now = Time::from_system(SystemTime::now());
        for write in writes.iter().map(Borrow::borrow) {
            if let Write::Agent(info) = write {
                self.agent.clone_from(&info.id);
            }
            let agent = self.agent.as_ref().ok_or(CheckpointError::NoAgent)?;
            if let Write::Executor(run, ..) = write
                && let Err(error) = self.point_to(agent, run)
            {
                // Nothing depends on it: no reason to keep a task from running.
                tracing::warn!(container = %run.container, %error, "no link to the latest sandbox");
            }
            if !lines.write(write, now) {
                let noted = self.note(&mut batch, agent, write);
                self.written(noted)?;
            }
        }
        // What tasks use comes before the tasks.
        self.written(batch.commit())?;
        let appended = self.journal().map(|journal| journal.append(&lines));
        self.lines = lines;
        self.written(appended.unwrap_or(Ok(())))
    }

    /// Begins with what is known of the frameworks of the agent.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub(super) fn found_on(
        &self,
        known: &BTreeMap<FrameworkId, FrameworkCheckpoint>,
    ) -> Result<(), CheckpointError> {
        let agent = self.agent.as_ref().ok_or(CheckpointError::NoAgent)?;
        journal::found_on(&paths::agent(&self.work_dir, agent), known)
    }

    /// The journal of the agent, if there is one.
    fn journal(&mut self) -> Option<&mut Journal> {
        let agent = paths::agent(&self.work_dir, self.agent.as_ref()?);
        if self
            .journal
            .as_ref()
            .is_none_or(|journal| journal.agent() != agent)
        {
            self.journal = Some(Journal::new(agent));
        }
        self.journal.as_mut()
    }

    /// Makes the next agent here start without a past.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn forget(&mut self) -> Result<(), CheckpointError> {
        let mut batch = Batch::default();
        let removed = batch.remove(&paths::agents(&self.work_dir).join(paths::LATEST));
        self.written(removed.and_then(|()| batch.commit()))
    }

    /// Deletes a sandbox, and the directories above that hold nothing else any more.
    ///
    /// # Errors
    /// What the system says; the rest may be deleted later.
    pub fn delete(&self, path: &Path) -> io::Result<()> {
        match dcos_image::tree::remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        prune(path, &self.work_dir);
        Ok(())
    }

    fn note(&self, batch: &mut Batch, agent: &AgentId, write: &Write) -> io::Result<()> {
        let root = &self.work_dir;
        match write {
            Write::Agent(info) => {
                batch.replace(&paths::agent(root, agent).join("slave.info"), &fact(info))?;
                batch.link(&paths::agents(root).join(paths::LATEST), agent.as_str())
            }
            Write::Resources(resources, operations) => {
                let contents = json!({
                    "resources": all(resources),
                    "operations": all(operations),
                });
                let path = root.join("meta/resources/resources.info");
                batch.replace(&path, &format::file(&contents))
            }
            Write::Drain(config) => {
                let path = paths::agent(root, agent).join("drain.config");
                match config {
                    Some(config) => batch.replace(&path, &fact(config)),
                    None => batch.remove(&path),
                }
            }
            // These are lines of the journal.
            _ => Ok(()),
        }
    }

    /// People look for sandboxes under `latest`. Nothing else does: it need not survive the host.
    pub(super) fn point_to(&self, agent: &AgentId, run: &Run) -> io::Result<()> {
        let key = crate::agent::ExecutorKey {
            framework: run.framework.clone(),
            executor: run.executor.clone(),
        };
        let sandboxes = paths::sandboxes(&self.work_dir, agent, &key);
        for _ in 0..PRUNED {
            match point(&sandboxes, run) {
                // Whoever deletes what was left of launches before found the directories empty, and took them away: before one was
                // needed, or (`create_dir_all`) between being told that it is there and a look at it.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                    ) => {}
                done => return done,
            }
        }
        point(&sandboxes, run)
    }

    fn written(&self, result: io::Result<()>) -> Result<(), CheckpointError> {
        let work_dir = self.work_dir.clone();
        result.map_err(|source| CheckpointError::Write { work_dir, source })
    }
}

/// How often the directories of one launch may be taken away while they are made: each time something else was
/// deleted there.
const PRUNED: usize = 100;

/// Lets `latest` in `sandboxes`, which is made, lead to the sandbox of `run`.
fn point(sandboxes: &Path, run: &Run) -> io::Result<()> {
    fs::create_dir_all(sandboxes)?;
    let (latest, container) = (sandboxes.join(paths::LATEST), &run.container.value);
    match symlink(container, &latest) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let beside = latest.with_added_extension("new");
            fs::remove_file(&beside).ok();
            symlink(container, &beside)?;
            fs::rename(&beside, &latest)
        }
        made => made,
    }
}

/// Removes what a deleted sandbox leaves: a dangling link, empty directories.
fn prune(path: &Path, top: &Path) {
    for above in path.ancestors().skip(1).take_while(|above| *above != top) {
        let Ok(entries) = fs::read_dir(above) else {
            return;
        };
        let left: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        let idle = left.iter().all(|entry| {
            let is_directory = entry.symlink_metadata().is_ok_and(|data| data.is_dir());
            let link = entry.file_name().is_some_and(|name| name == paths::LATEST);
            !is_directory && (!link || !entry.exists())
        });
        let is_agent = above
            .parent()
            .is_some_and(|parent| parent.ends_with("slaves"));
        if !idle || is_agent {
            return;
        }
        // One by one, and never with what somebody may just have made there: that is used.
        for entry in &left {
            fs::remove_file(entry).ok();
        }
        if fs::remove_dir(above).is_err() {
            return;
        }
    }
}

pub(super) fn hosted_name(kind: HostedKind) -> &'static str {
    match kind {
        HostedKind::Command => "command",
        HostedKind::Default => "default",
    }
}

fn value<M: ToJson>(message: &M) -> Value {
    json::to_value(message, Dialect::V1)
}

fn fact<M: ToJson>(message: &M) -> Vec<u8> {
    format::file(&value(message))
}

fn all<M: ToJson>(messages: &[M]) -> Vec<Value> {
    messages.iter().map(value).collect()
}
