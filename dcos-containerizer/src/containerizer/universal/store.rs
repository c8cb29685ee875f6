//! What is kept on disk about each container: enough to take it up again.
//!
//! ```text
//! <runtime_dir>/containers/<id>/record        what it is, before anything is made for it
//!                              /termination   how it ended, once all is cleaned up
//!                              /containers/   those nested in it
//! ```
//!
//! Both files appear whole or not at all. They need not survive the host: its containers do not.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dcos_proto::agent::response::WaitContainer;
use dcos_proto::mesos::ContainerId;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::super::{ContainerClass, ContainerTermination};
use crate::containerizer::runtime::replace;
use crate::isolator::{IdRange, PersistentVolume};
use crate::logger::LogOrigin;
use crate::oci::Runtime;

/// What must be known of a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The version of this format.
    pub(super) version: u32,
    /// The sandbox on the host.
    pub(super) directory: PathBuf,
    /// The root file system on the host, if it has its own.
    pub(super) rootfs: Option<PathBuf>,
    /// Whom files in the sandbox belong to.
    pub(super) owner: Option<(u32, u32)>,
    /// Who it runs as.
    pub(super) user: Option<String>,
    /// Whether it enters its parent.
    pub(super) debug: bool,
    /// Settings of the container logger that the task asked for.
    pub(super) logger: BTreeMap<String, String>,
    /// Whose its output is.
    #[serde(default)]
    pub(super) origin: Option<LogOrigin>,
    /// What debug containers in it find in their environment.
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
    /// Where it starts, as seen from inside.
    #[serde(default)]
    pub(super) working_directory: Option<PathBuf>,
    /// Where its streams are to be reached.
    #[serde(default)]
    pub(super) switchboard: Option<Board>,
    /// It belongs to nobody the agent knows.
    #[serde(default)]
    pub(super) standalone: bool,
    /// Whose its ids are on the node, if they are its own.
    #[serde(default)]
    pub(super) ids: Option<IdRange>,
    /// What containers nested in it may have of its persistent volumes.
    #[serde(default)]
    pub(super) volumes: Vec<PersistentVolume>,
    /// Who makes it, if the launcher does not.
    #[serde(default)]
    pub(super) runtime: Option<Runtime>,
}

/// The switchboard of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Board {
    pub(super) socket: PathBuf,
    pub(super) terminal: bool,
}

impl Record {
    pub(super) const VERSION: u32 = 1;

    pub(super) fn is_debug(class: ContainerClass) -> bool {
        class == ContainerClass::Debug
    }
}

/// A container found on disk.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: ContainerId,
    /// `None` if it cannot be understood.
    pub(super) record: Option<Record>,
    pub(super) termination: Option<ContainerTermination>,
}

/// The folder of all containers.
#[derive(Debug)]
pub(super) struct Store(PathBuf);

impl Store {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(super) fn save(&self, id: &ContainerId, record: &Record) -> io::Result<()> {
        self.keep(id, "record", &serde_json::to_vec(record)?)
    }

    pub(super) fn end(&self, id: &ContainerId, end: &ContainerTermination) -> io::Result<()> {
        self.keep(id, "termination", &end.to_message().encode_to_vec())
    }

    fn keep(&self, id: &ContainerId, name: &str, bytes: &[u8]) -> io::Result<()> {
        let folder = self.folder(id);
        let file = folder.join(name);
        match replace(&file, bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&folder)?;
                replace(&file, bytes)
            }
            done => done,
        }
    }

    pub(super) fn remove(&self, id: &ContainerId) -> io::Result<()> {
        match fs::remove_dir_all(self.folder(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// All containers, outer ones before those nested in them.
    pub(super) fn load(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        load(&self.0, None, &mut found)?;
        Ok(found)
    }

    fn folder(&self, id: &ContainerId) -> PathBuf {
        match &id.parent {
            None => self.0.join(&id.value),
            Some(parent) => self.folder(parent).join("containers").join(&id.value),
        }
    }
}

fn load(folder: &Path, parent: Option<&ContainerId>, found: &mut Vec<Found>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(value) = entry.file_name().into_string() else {
            continue;
        };
        let id = match parent {
            None => ContainerId::root(value),
            Some(parent) => parent.child(value),
        };
        let record = fs::read(entry.path().join("record")).ok();
        let record = record
            .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
            .filter(|record| record.version == Record::VERSION);
        let termination = fs::read(entry.path().join("termination")).ok();
        let termination = termination
            .and_then(|bytes| WaitContainer::decode(&*bytes).ok())
            .map(ContainerTermination::from_message);
        found.push(Found {
            id: id.clone(),
            record,
            termination,
        });
        load(&entry.path().join("containers"), Some(&id), found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerizer::runtime::parse_id;

    #[test]
    fn finds_what_was_saved_and_nothing_half() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("containers")).unwrap();
        let (outer, inner) = (
            ContainerId::root("a"),
            ContainerId::root("a").child("b").child("c"),
        );
        let record = Record {
            version: Record::VERSION,
            directory: "/sandbox".into(),
            ..Record::default()
        };
        store.save(&outer, &record).unwrap();
        store.save(&inner, &record).unwrap();
        let end = ContainerTermination::exited(9);
        store.end(&inner, &end).unwrap();
        let broken = ContainerId::root("broken");
        store.save(&broken, &record).unwrap();
        fs::write(store.folder(&broken).join("record"), "{").unwrap();

        let mut found = store.load().unwrap();
        found.sort_by_key(|found| found.id.to_string());
        let of = |name: &str| found.iter().find(|found| found.id.to_string() == name);
        assert_eq!(of("a").unwrap().record, Some(record));
        assert_eq!(of("a").unwrap().termination, None);
        assert_eq!(of("a.b.c").unwrap().termination, Some(end));
        assert_eq!(of("broken").unwrap().record, None);

        store.remove(&outer).unwrap();
        assert_eq!(store.load().unwrap().len(), 1);
        store.remove(&outer).unwrap();
    }

    #[test]
    fn names_lead_back_to_ids() {
        let id = ContainerId::root("a").child("b").child("c");
        assert_eq!(parse_id(&id.to_string()), id);
    }
}
