//! Reading the checkpoints of an original Mesos agent.
//!
//! The directories are those of [`paths`]; the files hold protobuf messages of API v0 behind their
//! length (four bytes, little endian), lists of such, or plain text:
//!
//! | file | holds |
//! |---|---|
//! | `slave.info`, `framework.info`, `executor.info`, `drain.config` | a message |
//! | `framework.pid`, `pids/libprocess.pid`, `pids/forked.pid` | text |
//! | `pids/http.marker`, `executor.sentinel` | nothing: they are there or not |
//! | `executor_generated_for_command_task` | `1` for an executor made by the agent |
//! | `task.info` | a `Task`, not the `TaskInfo` it was made from |
//! | `task.updates` | a list of `StatusUpdateRecord`s, the last of which may be torn |
//! | `meta/resources/resources.info` | a list of resources |
//! | `meta/resources/resources_and_operations.state` | operations and resources |
//!
//! Source: Mesos 1.11 `src/slave/state.cpp`, `src/slave/state.proto`, `src/slave/paths.cpp`.

use std::fs;
use std::path::{Path, PathBuf};

use dcos_core::resources::convert::upgrade_all;
use dcos_core::time::Time;
use dcos_proto::internal::StatusUpdateRecord;
use dcos_proto::mesos::{
    AgentInfo, ContainerId, DrainConfig, ExecutorInfo, FrameworkInfo, Operation, Resource, Task,
    TaskInfo,
};
use dcos_proto::{Message, decode};

use super::read::{bytes, damaged, directories, unreadable};
use super::{
    Adopted, CheckpointError, ExecutorCheckpoint, FormatError, FrameworkCheckpoint, RunCheckpoint,
    State, TaskCheckpoint, TaskHistory, paths,
};
use dcos_core::states::is_terminal;

/// What an original agent left.
#[derive(Debug, Clone, Default)]
pub(super) struct Original {
    pub(super) state: State,
    /// The directory of its own checkpoints.
    pub(super) agent: PathBuf,
    /// Operations that are pending, or whose end is not acknowledged.
    pub(super) operations: Vec<Operation>,
}

/// Reads everything below `work_dir`; `None` if no original agent registered here.
pub(super) fn read(work_dir: &Path) -> Result<Option<Original>, CheckpointError> {
    let latest = paths::agents(work_dir).join(paths::LATEST);
    let Ok(target) = fs::read_link(&latest) else {
        return Ok(None);
    };
    // The link is absolute, and the directory may have been moved since.
    let name = target.file_name().map(PathBuf::from).unwrap_or_default();
    let agent = paths::agents(work_dir).join(name);
    let Some(info) = message::<AgentInfo>(&agent.join("slave.info"))? else {
        return Ok(None);
    };
    let mut state = State {
        agent: Some(info),
        drain: message::<DrainConfig>(&agent.join("drain.config"))?,
        ..State::default()
    };
    for (name, directory) in directories(&agent.join("frameworks"))? {
        if let Some(framework) = framework(&directory)? {
            state.frameworks.insert(name.into(), framework);
        }
    }
    let resources = work_dir.join("meta/resources");
    state.resources = messages::<Resource>(&resources.join("resources.info"))?;
    upgrade_all(&mut state.resources);
    if let Some(agent) = &mut state.agent {
        upgrade_all(&mut agent.resources);
    }
    let kept = resources.join("resources_and_operations.state");
    let kept: Option<ResourceState> = plain(&kept)?;
    Ok(Some(Original {
        state,
        agent,
        operations: kept.map(|kept| kept.operations).unwrap_or_default(),
    }))
}

/// `mesos.internal.slave.ResourceState`.
#[derive(Clone, PartialEq, prost::Message)]
struct ResourceState {
    #[prost(message, repeated, tag = "1")]
    operations: Vec<Operation>,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Resource>,
}

fn framework(directory: &Path) -> Result<Option<FrameworkCheckpoint>, CheckpointError> {
    let Some(info) = message::<FrameworkInfo>(&directory.join("framework.info"))? else {
        return Ok(None);
    };
    let pid = text(&directory.join("framework.pid"))?;
    let mut executors = Vec::new();
    for (_, directory) in directories(&directory.join("executors"))? {
        executors.extend(executor(&directory)?);
    }
    Ok(Some(FrameworkCheckpoint {
        info,
        pid: pid.filter(|pid| is_pid(pid)),
        executors,
    }))
}

/// A scheduler on the HTTP API is kept as a UPID without a name.
fn is_pid(text: &str) -> bool {
    let named = text
        .split_once('@')
        .is_some_and(|(name, _)| !name.is_empty());
    named && !text.ends_with(":0")
}

fn executor(directory: &Path) -> Result<Option<ExecutorCheckpoint>, CheckpointError> {
    let Some(mut info) = message::<ExecutorInfo>(&directory.join("executor.info"))? else {
        return Ok(None);
    };
    upgrade_all(&mut info.resources);
    let marker = directory.join("executor_generated_for_command_task");
    let generated = text(&marker)?.is_some_and(|text| text == "1");
    let runs = directory.join("runs");
    let latest = fs::read_link(runs.join(paths::LATEST)).ok();
    let mut found = Vec::new();
    for (name, directory) in directories(&runs)? {
        let is_latest = latest.as_ref().is_none_or(|latest| latest.ends_with(&name));
        found.push(run(
            ContainerId::root(name),
            &directory,
            generated,
            is_latest,
        )?);
    }
    Ok(Some(ExecutorCheckpoint {
        info,
        hosted: None,
        runs: found,
    }))
}

fn run(
    container: ContainerId,
    directory: &Path,
    generated: bool,
    is_latest: bool,
) -> Result<RunCheckpoint, CheckpointError> {
    let modified = |path: &Path| {
        let modified = fs::metadata(path).and_then(|data| data.modified());
        modified.ok().map(Time::from_system)
    };
    // Only the latest run of an executor can be alive.
    let ended = modified(&directory.join("executor.sentinel"))
        .or_else(|| modified(directory).filter(|_| !is_latest));
    let mut tasks = Vec::new();
    for (_, directory) in directories(&directory.join("tasks"))? {
        let group = tasks.len() as u64;
        tasks.extend(task(&directory, group)?);
    }
    if ended.is_some() {
        tasks.retain(has_ended);
    }
    let pids = directory.join("pids");
    let forked = text(&pids.join("forked.pid"))?.and_then(|pid| pid.parse().ok());
    Ok(RunCheckpoint {
        container,
        ended,
        pid: text(&pids.join("libprocess.pid"))?,
        adopted: Some(Adopted {
            pid: forked.unwrap_or(0),
            generated,
        }),
        tasks,
    })
}

fn has_ended(task: &TaskHistory) -> bool {
    task.updates.iter().any(|record| {
        let status = record.update.as_ref().map(|update| &update.status);
        status.is_some_and(|status| is_terminal(status.state()))
    })
}

fn task(directory: &Path, group: u64) -> Result<Option<TaskHistory>, CheckpointError> {
    let Some(task) = message::<Task>(&directory.join("task.info"))? else {
        return Ok(None);
    };
    let updates = directory.join("task.updates");
    let updates = messages::<StatusUpdateRecord>(&updates)?;
    let mut info = TaskInfo {
        name: task.name,
        task_id: task.task_id,
        agent_id: task.agent_id,
        resources: task.resources,
        health_check: task.health_check.map(|boxed| *boxed),
        container: task.container.map(|boxed| *boxed),
        labels: task.labels,
        discovery: task.discovery.map(|boxed| *boxed),
        kill_policy: task.kill_policy,
        limits: task.limits,
        ..TaskInfo::default()
    };
    upgrade_all(&mut info.resources);
    Ok(Some(TaskHistory {
        checkpoint: TaskCheckpoint {
            task: info,
            container: None,
            group,
        },
        updates,
    }))
}

/// One message behind its length; none in a file that is empty, as a crash can leave it.
fn message<M: Message>(path: &Path) -> Result<Option<M>, CheckpointError> {
    let Some(bytes) = bytes(path)?.filter(|bytes| !bytes.is_empty()) else {
        return Ok(None);
    };
    let (first, _) = split(&bytes).ok_or_else(|| broken(path, &"it is cut off"))?;
    decode::<M>(first)
        .map(Some)
        .map_err(|error| broken(path, &error))
}

/// A message that the schema does not hold.
fn plain<M: prost::Message + Default>(path: &Path) -> Result<Option<M>, CheckpointError> {
    let Some(bytes) = bytes(path)?.filter(|bytes| !bytes.is_empty()) else {
        return Ok(None);
    };
    let (first, _) = split(&bytes).ok_or_else(|| broken(path, &"it is cut off"))?;
    M::decode(first)
        .map(Some)
        .map_err(|error| broken(path, &error))
}

/// Messages one after the other; a torn last one was never acknowledged to anybody.
fn messages<M: Message>(path: &Path) -> Result<Vec<M>, CheckpointError> {
    let bytes = bytes(path)?.unwrap_or_default();
    let mut rest = &bytes[..];
    let mut all = Vec::new();
    while let Some((next, after)) = split(rest) {
        all.push(decode::<M>(next).map_err(|error| broken(path, &error))?);
        rest = after;
    }
    Ok(all)
}

/// The first message of `bytes` and what follows it; `None` if it is not whole.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

fn text(path: &Path) -> Result<Option<String>, CheckpointError> {
    let Some(bytes) = bytes(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|error| broken(path, &error))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn broken(path: &Path, why: &impl ToString) -> CheckpointError {
    damaged(path, FormatError::Contents(why.to_string()))
}

/// Whether a directory holds anything.
pub(super) fn holds_something(path: &Path) -> Result<bool, CheckpointError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(unreadable(path, source)),
    }
}
