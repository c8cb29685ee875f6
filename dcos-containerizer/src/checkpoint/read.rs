//! Reading everything that was kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dcos_proto::Message;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{AgentInfo, Operation, Resource};
use serde_json::Value;

use super::format::{self, FormatError};
use super::store::hosted_name;
use super::{CheckpointError, State, journal, paths};
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
    let drain = agent.join("drain.config");
    if let Some(contents) = file(&drain)? {
        state.drain = Some(message(&drain, &contents)?);
    }
    state.frameworks = journal::recover(&agent)?;
    Ok(state)
}

/// The built-in executor of that name.
pub(super) fn hosted_kind(name: &str) -> Result<HostedKind, FormatError> {
    let mut kinds = [HostedKind::Command, HostedKind::Default].into_iter();
    let known = kinds.find(|kind| hosted_name(*kind) == name);
    known.ok_or_else(|| FormatError::Contents(format!("executor kind `{name}`")))
}

pub(super) fn file(path: &Path) -> Result<Option<Value>, CheckpointError> {
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

pub(super) fn message<M: Message>(path: &Path, value: &Value) -> Result<M, CheckpointError> {
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
