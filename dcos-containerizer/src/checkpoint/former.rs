//! What agents of an earlier version left: a directory for each launch of an executor, files in it.
//!
//! ```text
//! frameworks/<framework>/framework.info
//!     executors/<executor>/executor.info
//!         runs/<container>/executor.sentinel         it ended
//!                         /libprocess.pid, adopted
//!                         /tasks/<task>/task.info, task.updates
//! updates.journal.N      updates on their way to `task.updates`
//! ```
//!
//! It is read once, and lives on in the journal.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dcos_core::time::Time;
use dcos_proto::internal::StatusUpdateRecord;
use dcos_proto::mesos::{ContainerId, FrameworkId};
use serde_json::Value;

use super::batches::Bodies;
use super::format::{self, FormatError};
use super::read::{bytes, damaged, directories, file, hosted_kind, message};
use super::{
    Adopted, CheckpointError, ExecutorCheckpoint, FrameworkCheckpoint, RunCheckpoint,
    TaskCheckpoint, TaskHistory,
};

/// What the names of the old journal's files begin with; a number follows.
const UPDATES: &str = "updates.journal.";
/// What the directory of frameworks is called once the journal has it; a number follows.
const ASIDE: &str = "former.";

/// The lines of the old journal, by the directory of the task whose they are.
type Waiting = BTreeMap<PathBuf, Vec<String>>;

/// What was left in the directory of `agent`.
pub(super) fn frameworks(
    agent: &Path,
) -> Result<BTreeMap<FrameworkId, FrameworkCheckpoint>, CheckpointError> {
    let waiting = waiting(agent)?;
    let mut found = BTreeMap::new();
    for (name, directory) in directories(&agent.join("frameworks"))? {
        if let Some(framework) = framework(&directory, &waiting)? {
            found.insert(name.into(), framework);
        }
    }
    Ok(found)
}

/// Takes it out of the way, now that the journal has it: an agent that found it again when the journal has
/// forgotten its launches would take them for new ones. Then it is deleted, as far as that is possible.
///
/// # Errors
/// What the system says; nothing is deleted.
pub(super) fn remove(agent: &Path) -> io::Result<()> {
    let frameworks = agent.join("frameworks");
    if frameworks.exists() {
        let free = (0..).map(|number| agent.join(format!("{ASIDE}{number}")));
        let aside = free.into_iter().find(|path| !path.exists());
        fs::rename(&frameworks, aside.unwrap_or_default())?;
        File::open(agent)?.sync_all()?;
    }
    for path in numbered(agent, ASIDE).into_values() {
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(?path, %error, "deleting the checkpoints of an earlier version");
        }
    }
    for path in numbered(agent, UPDATES).into_values() {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(?path, %error, "deleting the journal of an earlier version");
        }
    }
    Ok(())
}

/// What lies there under `prefix` and a number.
fn numbered(agent: &Path, prefix: &str) -> BTreeMap<u64, PathBuf> {
    let entries = fs::read_dir(agent).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let number = name.strip_prefix(prefix)?.parse().ok()?;
        Some((number, entry.path()))
    });
    numbered.collect()
}

fn waiting(agent: &Path) -> Result<Waiting, CheckpointError> {
    let mut waiting = Waiting::new();
    for path in numbered(agent, UPDATES).into_values() {
        let contents = bytes(&path)?.unwrap_or_default();
        let opened = Bodies::open(&*contents, "dcos-checkpoint-journal 1")
            .map_err(|error| error.at(&path))?;
        let Some((_, mut bodies)) = opened else {
            continue;
        };
        while let Some(body) = bodies.next().map_err(|error| error.at(&path))? {
            let mut task = agent.to_owned();
            for line in body.lines() {
                match line.strip_prefix('/') {
                    Some(named) => task = agent.join(named),
                    None => waiting
                        .entry(task.clone())
                        .or_default()
                        .push(line.to_owned()),
                }
            }
        }
    }
    Ok(waiting)
}

fn framework(
    directory: &Path,
    waiting: &Waiting,
) -> Result<Option<FrameworkCheckpoint>, CheckpointError> {
    let path = directory.join("framework.info");
    let Some(contents) = file(&path)? else {
        return Ok(None);
    };
    let mut executors = Vec::new();
    for (_, directory) in directories(&directory.join("executors"))? {
        executors.extend(executor(&directory, waiting)?);
    }
    Ok(Some(FrameworkCheckpoint {
        info: message(&path, &contents["framework_info"])?,
        pid: contents["pid"].as_str().map(ToOwned::to_owned),
        executors,
    }))
}

fn executor(
    directory: &Path,
    waiting: &Waiting,
) -> Result<Option<ExecutorCheckpoint>, CheckpointError> {
    let path = directory.join("executor.info");
    let Some(contents) = file(&path)? else {
        return Ok(None);
    };
    let hosted = contents["hosted"].as_str().map(hosted_kind).transpose();
    let mut runs = Vec::new();
    for (name, directory) in directories(&directory.join("runs"))? {
        runs.push(run(ContainerId::root(name), &directory, waiting)?);
    }
    Ok(Some(ExecutorCheckpoint {
        info: message(&path, &contents["executor_info"])?,
        hosted: hosted.map_err(|source| damaged(&path, source))?,
        runs,
    }))
}

fn run(
    container: ContainerId,
    directory: &Path,
    waiting: &Waiting,
) -> Result<RunCheckpoint, CheckpointError> {
    let sentinel = fs::metadata(directory.join("executor.sentinel"));
    let ended = sentinel
        .and_then(|data| data.modified())
        .ok()
        .map(Time::from_system);
    let mut tasks = Vec::new();
    for (_, directory) in directories(&directory.join("tasks"))? {
        tasks.extend(task(&directory, waiting)?);
    }
    let pid = file(&directory.join("libprocess.pid"))?;
    let pid = pid.and_then(|contents| contents["pid"].as_str().map(ToOwned::to_owned));
    let adopted = file(&directory.join("adopted"))?.map(|contents| Adopted {
        pid: contents["pid"]
            .as_u64()
            .map_or(0, |pid| u32::try_from(pid).unwrap_or(0)),
        generated: contents["generated"].as_bool().unwrap_or_default(),
    });
    Ok(RunCheckpoint {
        container,
        ended,
        pid,
        adopted,
        tasks,
    })
}

fn task(directory: &Path, waiting: &Waiting) -> Result<Option<TaskHistory>, CheckpointError> {
    let path = directory.join("task.info");
    let Some(contents) = file(&path)? else {
        return Ok(None);
    };
    let container = match &contents["container_id"] {
        Value::Null => None,
        value => Some(message(&path, value)?),
    };
    Ok(Some(TaskHistory {
        checkpoint: TaskCheckpoint {
            task: message(&path, &contents["task_info"])?,
            container,
            group: contents["group"].as_u64().unwrap_or_default(),
        },
        updates: updates(directory, waiting)?,
    }))
}

/// What a log holds, and what waits to be appended to it. A line that a crash left unfinished was never
/// acknowledged to anybody.
fn updates(task: &Path, waiting: &Waiting) -> Result<Vec<StatusUpdateRecord>, CheckpointError> {
    let path = task.join("task.updates");
    let contents = bytes(&path)?.unwrap_or_default();
    let log = format::read_log(&contents).map_err(|source| damaged(&path, source))?;
    let known: HashSet<&[u8]> = contents[..log.good].split(|byte| *byte == b'\n').collect();
    let mut entries = log.entries;
    for line in waiting.get(task).into_iter().flatten() {
        if !known.contains(format::log_line(line).trim_ascii_end()) {
            let entry = serde_json::from_str(line);
            let unexpected = |error: serde_json::Error| FormatError::Contents(error.to_string());
            entries.push(entry.map_err(|error| damaged(&path, unexpected(error)))?);
        }
    }
    let read = entries.iter().map(|entry| message(&path, entry));
    read.collect()
}
