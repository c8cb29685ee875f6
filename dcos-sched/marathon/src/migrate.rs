//! Taking over the state of an original Marathon 1.11.
//!
//! [`import`] makes rows of our store from the nodes of its `ZooKeeper`; it is pure, decides nothing about where either
//! come from, and leaves out what it cannot take over, with a note that says why. [`write()`] puts rows into a store.
//!
//! What is taken over: the tree of groups with its versions, apps and pods in all their versions, deployments under way,
//! the last failures, and (unless [`Options::new_framework`]) the framework's id with all instances, so that what runs
//! goes on running: to the master the original has failed over.
//!
//! Layout of the nodes, below the path of `--zk`:
//!
//! ```text
//! state/internal:storage:version             ZKStoreEntry of a StorageVersion
//! state/<category>/<bucket>/<id>             what holds now; empty if it was removed
//! state/<category>/<bucket>/<id>/<version>   what held then
//! leader-curator/…                           one for each Marathon that leads or stands by
//! ```
//!
//! | category | value |
//! |---|---|
//! | `apps` | `ServiceDefinition` |
//! | `pods` | the pod's document |
//! | `group` | `GroupDefinition` of the root: ids and versions of what is in it |
//! | `instance` | a document with encoded statuses in it |
//! | `deployment` | `DeploymentPlanDefinition` |
//! | `taskFailures` | `TaskFailure` |
//! | `framework-id` | `FrameworkID` |
//!
//! Source: Marathon 1.11 `storage/store/ZkStoreSerialization.scala`, `core/storage/store/impl/zk/ZkPersistenceStore.scala`.

mod app;
mod instance;
mod report;
mod specs;
mod tree;
mod unread;
mod words;
mod write;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use flate2::read::MultiGzDecoder;
use prost::Message;
use serde_json::Value;

use crate::core::{Core, RecoverError, Row, TaskFailure, rows};
use crate::instance::{Instance, InstanceId};
use crate::model::App;
use crate::{Config, PathId, Timestamp};

use instance::Stored;
use specs::Specs;
use tree::Trees;

pub use report::{Fate, Note, Report};
pub use unread::unread;
pub use write::{Replaced, WriteError, Written, write};

/// The storage version Marathon 1.10 and 1.11 write.
const VERSION: (u32, u32, u32) = (110, 100, 0);

/// The most a compressed value may have, unpacked: far more than an original can keep in a node.
const LARGEST: u64 = 64 << 20;

/// Data of nodes, by their paths below that of `--zk`, without a leading slash.
pub type Nodes = BTreeMap<String, Bytes>;

/// What an operator decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Register as a new framework: what runs is left to the old one, and everything is launched anew.
    pub new_framework: bool,
}

/// What was made of the nodes.
#[derive(Clone, Debug)]
pub struct Import {
    /// The rows of our store, by their keys.
    pub rows: BTreeMap<String, Vec<u8>>,
    /// What became of what was there.
    pub report: Report,
}

/// Why nothing can be taken over.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// There is nothing of that kind.
    #[error("no node {0}: this is not where such a service keeps its state")]
    NotThere(&'static str),
    /// Another version wrote it.
    #[error(
        "the state was written in storage version {0}, and {wanted} is read: let a Marathon 1.11 start on it once, which \
         brings it there", wanted = dotted(VERSION)
    )]
    Version(String),
    /// A node everything else hangs on cannot be read.
    #[error("node {node} cannot be read: {why}")]
    Unreadable {
        /// The node.
        node: String,
        /// Why not.
        why: String,
    },
    /// Something runs, and nobody can say for which framework: as another one everything would be launched twice.
    #[error(
        "{instances} instances are there, and the framework's id is not ({why}): to leave them to the old framework and \
         launch everything anew, pass --new-framework"
    )]
    NoFramework {
        /// How many.
        instances: usize,
        /// What is wrong with its node.
        why: String,
    },
    /// What was made of it would not be understood by our own service.
    #[error("what would be written makes no sense")]
    Recover(#[from] RecoverError),
}

fn dotted((major, minor, patch): (u32, u32, u32)) -> String {
    format!("{major}.{minor}.{patch}")
}

/// The services that run on these nodes right now: who changes state while it is copied spoils the copy.
pub fn running(nodes: &Nodes) -> usize {
    let candidates = "leader-curator/";
    let below = nodes.range(candidates.to_owned()..);
    below
        .take_while(|(path, _)| path.starts_with(candidates))
        .count()
}

/// Makes rows of what an original Marathon left.
///
/// # Errors
/// [`MigrateError`]: then nothing can be taken over. A row that cannot be read is none, but a note.
pub fn import(nodes: &Nodes, options: Options, now: Time) -> Result<Import, MigrateError> {
    check_version(nodes)?;
    let mut report = Report::default();
    let specs = Specs::read(nodes, &mut report);
    let trees = Trees::read(nodes, &specs, &mut report)?;
    let mut rows = Vec::new();
    trees.write(&specs, &mut rows, &mut report);
    failures(nodes, &mut rows, &mut report);
    let keep = framework_id(nodes, options, &mut report)?;
    let made = instances(nodes, keep.is_some(), &mut report, |id, stored| {
        specs.spec_of(&trees, &id.app(), stored)
    });
    if let Some(id) = &keep {
        rows.push(rows::framework(id, &[]));
        report.take("framework id", 1);
    }
    rows.extend(made.iter().map(rows::instance));
    specs.note_undated_pods(&made, &mut report);
    trees.write_deployments(nodes, &mut rows, &mut report);
    let deployment = rows::deployment_key("");
    let rows = loop {
        // One that hangs in the air is left, and no other for it.
        match checked(&rows, now) {
            Err(RecoverError::Dangling(row)) if row.starts_with(&deployment) => {
                rows.retain(|kept| kept.key != row);
                tree::left(
                    &row[deployment.len()..],
                    "what was before it is not kept any more",
                    &mut report,
                );
            }
            checked => break checked?,
        }
    };
    let deployments = rows.keys().filter(|key| key.starts_with(&deployment));
    report.take("deployments", deployments.count());
    Ok(Import { rows, report })
}

/// The rows, if our Marathon starts with them.
fn checked(rows: &[Row], now: Time) -> Result<BTreeMap<String, Vec<u8>>, RecoverError> {
    let rows = rows.iter().cloned();
    let rows = rows.filter_map(|row| Some((row.key, row.value?)));
    let rows: BTreeMap<String, Vec<u8>> = rows.collect();
    let all = rows
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_slice()));
    Core::recover(Arc::new(Config::default()), Seed::new(0), now, all)?;
    Ok(rows)
}

fn check_version(nodes: &Nodes) -> Result<(), MigrateError> {
    const NODE: &str = "state/internal:storage:version";
    let data = nodes.get(NODE).ok_or(MigrateError::NotThere(NODE))?;
    let unreadable = |why: String| MigrateError::Unreadable {
        node: NODE.to_owned(),
        why,
    };
    let value = entry(data).map_err(unreadable)?;
    let version = words::StorageVersion::decode(value.as_slice());
    let version = version.map_err(|error| unreadable(error.to_string()))?;
    let version = (version.major, version.minor, version.patch);
    if version == VERSION {
        Ok(())
    } else {
        Err(MigrateError::Version(dotted(version)))
    }
}

/// What a `ZKStoreEntry` holds.
///
/// # Errors
/// It is none, or its content is not as it says.
pub fn entry(data: &[u8]) -> Result<Vec<u8>, String> {
    let entry = words::StoreEntry::decode(data).map_err(|error| error.to_string())?;
    if !entry.compressed {
        return Ok(entry.value);
    }
    let mut plain = Vec::new();
    let mut unpacked = MultiGzDecoder::new(entry.value.as_slice()).take(LARGEST + 1);
    let read = unpacked.read_to_end(&mut plain);
    let length = read.map_err(|error| error.to_string())?;
    if length as u64 > LARGEST {
        return Err(format!("unpacked it has more than {LARGEST} bytes"));
    }
    Ok(plain)
}

/// A node of a category: its path, the id in it, whether it is of a version, and its data.
struct Found<'a> {
    path: &'a str,
    id: &'a str,
    data: &'a [u8],
}

/// The nodes of a category that hold something, those of earlier versions last.
fn category<'a>(nodes: &'a Nodes, name: &str) -> impl Iterator<Item = Found<'a>> {
    let folder = format!("state/{name}/");
    let inside = nodes.range(folder.clone()..);
    let inside = inside.take_while(move |(path, _)| path.starts_with(&folder));
    inside.filter_map(|(path, data)| {
        let id = path.split('/').nth(3)?;
        (!data.is_empty()).then_some(Found { path, id, data })
    })
}

/// A document without the fields that are absent.
pub fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let there = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        there
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// The word a number of an enumeration stands for; no word is empty.
///
/// # Errors
/// No word does.
pub fn word(words: &[&'static str], number: i32, what: &str) -> Result<&'static str, String> {
    let word = usize::try_from(number).ok().and_then(|at| words.get(at));
    let word = word.filter(|word| !word.is_empty());
    word.copied()
        .ok_or_else(|| format!("{what} {number} is unknown"))
}

fn decode<T: Message + Default>(data: &[u8]) -> Result<T, String> {
    T::decode(data).map_err(|error| error.to_string())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .map_err(|error: crate::TimestampError| error.to_string())
}

/// The id of the framework to go on as; none if a new one is wanted, or if it never had one.
///
/// # Errors
/// [`MigrateError::NoFramework`]
pub fn framework_id(
    nodes: &Nodes,
    options: Options,
    report: &mut Report,
) -> Result<Option<String>, MigrateError> {
    if options.new_framework {
        return Ok(None);
    }
    let found = category(nodes, "framework-id").next();
    let id = found
        .as_ref()
        .map(|found| decode::<words::FrameworkId>(found.data));
    let why = match id {
        Some(Ok(id)) if !id.value.is_empty() => return Ok(Some(id.value)),
        Some(Ok(_)) => "it is empty".to_owned(),
        Some(Err(why)) => why,
        None => "there is none".to_owned(),
    };
    match somewhere(nodes).count() {
        0 => {
            if let Some(found) = found {
                report.note(Fate::Left, found.path, why);
            }
            Ok(None)
        }
        instances => Err(MigrateError::NoFramework { instances, why }),
    }
}

/// The instances of which something may be on an agent: those that say so, and those that cannot be read.
pub fn somewhere(nodes: &Nodes) -> impl Iterator<Item = InstanceId> {
    let there = category(nodes, "instance").filter(|found| {
        let stored = Stored::read(found.data);
        stored.map_or(true, |stored| stored.is_somewhere())
    });
    there.map(|found| InstanceId::from(found.id.to_owned()))
}

/// The instances that are somewhere, if they are to be `kept`; `spec` says what each was launched with.
///
/// # Errors
/// The reason `spec` gives for having none leaves an instance out.
pub fn instances(
    nodes: &Nodes,
    kept: bool,
    report: &mut Report,
    spec: impl Fn(&InstanceId, Timestamp) -> Result<Arc<App>, String>,
) -> Vec<Instance> {
    let mut made = Vec::new();
    let mut left = 0;
    for found in category(nodes, "instance") {
        let lost = |volumes: bool, why: &str| {
            let end = if volumes {
                "it is killed and its volumes are destroyed"
            } else {
                "it is killed"
            };
            format!("{why}; {end} once the framework is taken over")
        };
        let stored = match Stored::read(found.data) {
            Ok(stored) => stored,
            Err(why) if kept => {
                report.note(
                    Fate::Lost,
                    format!("instance {}", found.id),
                    lost(true, &why),
                );
                continue;
            }
            Err(_) => continue,
        };
        if !stored.is_somewhere() {
            continue;
        }
        if !kept {
            left += 1;
            continue;
        }
        let id = stored.id();
        let instance = spec(&id, stored.version()).and_then(|spec| stored.instance(&spec));
        match instance {
            Ok(instance) => made.extend(instance),
            Err(why) => {
                let why = lost(stored.has_volumes(), &why);
                report.note(Fate::Lost, format!("instance {id}"), why);
            }
        }
    }
    if left > 0 {
        let what = format!("{left} instances");
        let why = "they stay with the old framework, together with what is reserved for them, and all are launched anew; \
                   tear the old framework down when they serve";
        report.note(Fate::Left, what, why);
    }
    report.take("instances", made.len());
    made
}

fn failures(nodes: &Nodes, rows: &mut Vec<Row>, report: &mut Report) {
    let mut taken = BTreeMap::new();
    for found in category(nodes, "taskFailures") {
        // Earlier failures are nowhere shown.
        if found.path.split('/').count() > 4 {
            continue;
        }
        match failure(found.data) {
            Ok(failure) => {
                taken.insert(failure.app_id.clone(), rows::failure(&failure));
            }
            Err(why) => report.note(Fate::Left, format!("last failure {}", found.path), why),
        }
    }
    report.take("last failures", taken.len());
    rows.extend(taken.into_values());
}

fn failure(data: &[u8]) -> Result<TaskFailure, String> {
    let failure: words::TaskFailure = decode(data)?;
    Ok(TaskFailure {
        app_id: PathId::absolute(&failure.app_id),
        state: failure.state().as_str_name().to_owned(),
        host: failure.host,
        message: failure.message,
        task_id: failure.task_id.unwrap_or_default().value,
        timestamp: moment(&failure.timestamp)?,
        started_at: None,
        version: moment(&failure.version)?,
        slave_id: failure.agent_id.map(|agent| agent.value),
    })
}

#[cfg(test)]
mod tests;
