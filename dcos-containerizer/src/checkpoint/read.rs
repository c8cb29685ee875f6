//! Reading everything that was kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dcos_core::time::Time;
use dcos_proto::Message;
use dcos_proto::internal::StatusUpdateRecord;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{AgentInfo, ContainerId, Operation, Resource};
use serde_json::Value;

use super::format::{self, FormatError};
use super::store::hosted_name;
use super::{
    Adopted, CheckpointError, ExecutorCheckpoint, FrameworkCheckpoint, RunCheckpoint, State,
    TaskCheckpoint, TaskHistory, journal, paths,
};
use crate::executor::HostedKind;

pub(super) fn state(work_dir: &Path) -> Result<State, CheckpointError> {
    let mut state = State::default();
    let resources = work_dir.join("meta/resources/resources.info");
    if let Some(contents) = file(&resources)? {
        state.resources = messages::<Resource>(&resources, &contents["resources"])?;
        state.operations = messages::<Operation>(&resources, &contents["operations"])?;
    }
    let latest = paths::agents(work_dir).join(paths::LATEST);
    let Ok(target) = fs::read_link(&latest) else {
        return Ok(state);
    };
    let agent = paths::agents(work_dir).join(target);
    let info = agent.join("slave.info");
    let Some(contents) = file(&info)? else {
        // The link was made, the file was not: the agent had not registered yet.
        return Ok(state);
    };
    state.agent = Some(message::<AgentInfo>(&info, &contents)?);
    journal::settle(&agent)?;
    let drain = agent.join("drain.config");
    if let Some(contents) = file(&drain)? {
        state.drain = Some(message(&drain, &contents)?);
    }
    for (name, directory) in directories(&agent.join("frameworks"))? {
        if let Some(framework) = framework(&directory)? {
            state.frameworks.insert(name.into(), framework);
        }
    }
    Ok(state)
}

fn framework(directory: &Path) -> Result<Option<FrameworkCheckpoint>, CheckpointError> {
    let path = directory.join("framework.info");
    let Some(contents) = file(&path)? else {
        return Ok(None);
    };
    let mut executors = Vec::new();
    for (_, directory) in directories(&directory.join("executors"))? {
        executors.extend(executor(&directory)?);
    }
    Ok(Some(FrameworkCheckpoint {
        info: message(&path, &contents["framework_info"])?,
        pid: contents["pid"].as_str().map(ToOwned::to_owned),
        executors,
    }))
}

fn executor(directory: &Path) -> Result<Option<ExecutorCheckpoint>, CheckpointError> {
    let path = directory.join("executor.info");
    let Some(contents) = file(&path)? else {
        return Ok(None);
    };
    let hosted = contents["hosted"].as_str().map(|name| {
        let kinds = [HostedKind::Command, HostedKind::Default];
        let known = kinds.into_iter().find(|kind| hosted_name(*kind) == name);
        known.ok_or_else(|| unexpected(&path, format!("executor kind `{name}`")))
    });
    let mut runs = Vec::new();
    for (name, directory) in directories(&directory.join("runs"))? {
        runs.push(run(ContainerId::root(name), &directory)?);
    }
    Ok(Some(ExecutorCheckpoint {
        info: message(&path, &contents["executor_info"])?,
        hosted: hosted.transpose()?,
        runs,
    }))
}

fn run(container: ContainerId, directory: &Path) -> Result<RunCheckpoint, CheckpointError> {
    let sentinel = fs::metadata(directory.join("executor.sentinel"));
    let ended = sentinel
        .and_then(|data| data.modified())
        .ok()
        .map(Time::from_system);
    let mut tasks = Vec::new();
    for (_, directory) in directories(&directory.join("tasks"))? {
        tasks.extend(task(&directory)?);
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

fn task(directory: &Path) -> Result<Option<TaskHistory>, CheckpointError> {
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
        updates: updates(&directory.join("task.updates"))?,
    }))
}

/// Reads a log, and cuts off what a crash left unfinished, so that more can be appended.
fn updates(path: &Path) -> Result<Vec<StatusUpdateRecord>, CheckpointError> {
    let Some(bytes) = bytes(path)? else {
        return Ok(Vec::new());
    };
    let log = format::read_log(&bytes).map_err(|source| damaged(path, source))?;
    if log.good < bytes.len() {
        let cut = || {
            let file = fs::OpenOptions::new().write(true).open(path)?;
            file.set_len(log.good as u64)?;
            file.sync_all()
        };
        cut().map_err(|source| unreadable(path, source))?;
    }
    log.entries
        .iter()
        .map(|entry| message(path, entry))
        .collect()
}

fn file(path: &Path) -> Result<Option<Value>, CheckpointError> {
    let Some(bytes) = bytes(path)? else {
        return Ok(None);
    };
    format::read_file(&bytes)
        .map(Some)
        .map_err(|source| damaged(path, source))
}

pub(super) fn bytes(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable(path, source)),
    }
}

/// The directories in a directory, by name; links are not followed.
pub(super) fn directories(path: &Path) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(path, source)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| unreadable(path, source))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn message<M: Message>(path: &Path, value: &Value) -> Result<M, CheckpointError> {
    let parsed = json::from_value(value, Dialect::V1);
    parsed.map_err(|error| unexpected(path, error.to_string()))
}

/// The messages of a list; none if it is missing.
fn messages<M: Message>(path: &Path, list: &Value) -> Result<Vec<M>, CheckpointError> {
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|value| message(path, value)).collect()
}

fn unexpected(path: &Path, what: String) -> CheckpointError {
    damaged(path, FormatError::Contents(what))
}

pub(super) fn damaged(path: &Path, source: FormatError) -> CheckpointError {
    CheckpointError::Damaged {
        path: path.to_owned(),
        source,
    }
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Read {
        path: path.to_owned(),
        source,
    }
}
