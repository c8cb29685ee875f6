//! Going on in place of an original Mesos agent, on its work directory.
//!
//! Its checkpoints are read (`original`), checked for what cannot be taken over,
//! written anew in this agent's format beside them, and the two are exchanged: the original's stay
//! in `meta.mesos`. Killed at any instant, the next agent finds either an original's work directory
//! or one of its own. `docs/takeover.md` is the operator's page.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dcos_proto::mesos::executor_info::Type;
use dcos_proto::mesos::{ContainerInfo, container_info};

use super::original::{self, Original, holds_something};
use super::read::bytes;
use super::store::{CheckpointError, Store};
use super::{ExecutorCheckpoint, State, Write, paths};

/// How the files of this agent begin.
const OURS: &[u8] = b"dcos-checkpoint";
/// The new checkpoints until they are complete.
const STAGING: &str = "meta.taking-over";
/// The original's checkpoints afterwards.
const BEFORE: &str = "meta.mesos";

/// What an original agent left, and what stands in the way of going on in its place.
#[derive(Debug, Clone)]
pub struct Takeover {
    /// Its checkpoints.
    pub state: State,
    /// Why they cannot be taken over; nothing, if they can.
    pub obstacles: Vec<String>,
}

impl Takeover {
    /// Looks at `work_dir` without changing anything; `None` if no original agent lived there last.
    ///
    /// # Errors
    /// [`CheckpointError`] if its checkpoints cannot be read.
    pub fn find(work_dir: &Path) -> Result<Option<Self>, CheckpointError> {
        if !is_originals(work_dir)? {
            return Ok(None);
        }
        let Some(found) = original::read(work_dir)? else {
            return Ok(None);
        };
        let obstacles = obstacles(work_dir, &found)?;
        let state = found.state;
        Ok(Some(Self { state, obstacles }))
    }

    /// Executors whose end is not on disk: those that go on under this agent.
    pub fn live(&self) -> usize {
        self.state.containers().len()
    }

    /// Writes everything in this agent's format, in place of the original's.
    ///
    /// # Errors
    /// [`CheckpointError::Refused`] if there are [`obstacles`](Self::obstacles), and
    /// [`CheckpointError::Write`]: nothing has changed then, or the next call completes it.
    pub fn carry_out(&self, work_dir: &Path) -> Result<(), CheckpointError> {
        if !self.obstacles.is_empty() {
            return Err(CheckpointError::Refused {
                obstacles: self.obstacles.join("; "),
            });
        }
        let staging = work_dir.join(STAGING);
        let failed = |source| CheckpointError::Write {
            work_dir: work_dir.to_owned(),
            source,
        };
        remove(&staging).map_err(failed)?;
        let mut store = Store::open(&staging)?;
        store.apply(&writes(&self.state))?;
        store.found_on(&self.state.frameworks)?;
        let boot_id = work_dir.join("meta/boot_id");
        if boot_id.exists() {
            fs::copy(&boot_id, staging.join("meta/boot_id")).map_err(failed)?;
        }
        sync(&staging.join("meta")).map_err(failed)?;
        exchange(work_dir).map_err(failed)
    }
}

/// Completes an exchange that was broken off.
///
/// # Errors
/// [`CheckpointError::Write`].
pub fn complete(work_dir: &Path) -> Result<(), CheckpointError> {
    let broken_off = !work_dir.join("meta").exists() && work_dir.join(STAGING).exists();
    if !broken_off {
        return Ok(());
    }
    exchange(work_dir).map_err(|source| CheckpointError::Write {
        work_dir: work_dir.to_owned(),
        source,
    })
}

/// Puts the new checkpoints in the place of the old; may be repeated.
fn exchange(work_dir: &Path) -> io::Result<()> {
    let (meta, staging) = (work_dir.join("meta"), work_dir.join(STAGING));
    if meta.exists() {
        let mut names = (0..).map(|n| match n {
            0 => BEFORE.to_owned(),
            n => format!("{BEFORE}.{n}"),
        });
        let free = names.find(|name| !work_dir.join(name).exists());
        fs::rename(&meta, work_dir.join(free.unwrap_or_default()))?;
    }
    fs::rename(staging.join("meta"), &meta)?;
    sync(work_dir)?;
    remove(&staging)
}

fn is_originals(work_dir: &Path) -> Result<bool, CheckpointError> {
    let latest = paths::agents(work_dir).join(paths::LATEST);
    let Ok(target) = fs::read_link(latest) else {
        return Ok(false);
    };
    let name = target.file_name().map(PathBuf::from).unwrap_or_default();
    let info = bytes(&paths::agents(work_dir).join(name).join("slave.info"))?;
    Ok(info.is_some_and(|info| !info.is_empty() && !info.starts_with(OURS)))
}

/// Everything that would be lost or misled.
fn obstacles(work_dir: &Path, found: &Original) -> Result<Vec<String>, CheckpointError> {
    let mut all = Vec::new();
    if is_locked(&found.agent.join("resource_provider_registry/LOCK")) {
        all.push("the original agent is still running".to_owned());
    }
    if holds_something(&found.agent.join("resource_providers"))? {
        all.push("resource providers are registered with the agent".to_owned());
    }
    if holds_something(&found.agent.join("operations"))? || !found.operations.is_empty() {
        all.push("operations are pending or not acknowledged".to_owned());
    }
    for name in ["resources.target", "resources_and_operations.target"] {
        if work_dir.join("meta/resources").join(name).exists() {
            let what = "a change of reservations or volumes was broken off: start the original \
                        once more to complete it";
            all.push(what.to_owned());
        }
    }
    for framework in found.state.frameworks.values() {
        for executor in &framework.executors {
            if executor.runs.iter().any(|run| run.ended.is_none()) {
                all.extend(unfit(executor));
            }
        }
    }
    Ok(all)
}

/// Why an executor that runs cannot go on under this agent.
fn unfit(executor: &ExecutorCheckpoint) -> Option<String> {
    let id = &executor.info.executor_id;
    let why = if executor.info.r#type() == Type::Default {
        "it is the default executor, whose task groups are containers of the original agent"
    } else {
        unfit_container(executor.info.container.as_ref()?)?
    };
    Some(format!("executor {id} runs, and {why}"))
}

fn unfit_container(container: &ContainerInfo) -> Option<&'static str> {
    if container.r#type() == container_info::Type::Docker {
        return Some("its container is Docker's");
    }
    let image = container
        .mesos
        .as_ref()
        .and_then(|mesos| mesos.image.as_ref());
    if image.is_some() {
        return Some("its root file system was mounted by the original agent");
    }
    let networks = &container.network_infos;
    let joined = networks.iter().any(|network| network.name.is_some());
    joined.then_some("it is in a CNI network, whose address nobody would give back")
}

/// Whether a process holds the lock that an original agent keeps while it runs.
fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::options().write(true).open(path) else {
        return false;
    };
    // The lock, if it is free, ends with the file.
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::fcntl_lock(&file, lock).is_err()
}

/// What `state` says of the agent itself, as facts to write.
fn writes(state: &State) -> Vec<Write> {
    let mut all: Vec<_> = state.agent.iter().cloned().map(Write::Agent).collect();
    if !state.resources.is_empty() {
        all.push(Write::Resources(
            state.resources.clone(),
            state.operations.clone(),
        ));
    }
    if state.drain.is_some() {
        all.push(Write::Drain(state.drain));
    }
    all
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
