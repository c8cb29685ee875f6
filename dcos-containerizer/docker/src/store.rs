//! What is kept on disk about each container: enough to take it up again.
//!
//! ```text
//! <state>/node                        whose containers these are, among all of the engine's
//!        /containers/<id>/record      what it is, before the engine hears of it
//!                        /termination how it ended
//!                        /logs.1, .2  how far its output was taken over
//!                        /execs/      commands run in it, by their names at the engine
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dcos_containerizer::containerizer::ContainerTermination;
use dcos_proto::agent::response::WaitContainer;
use dcos_proto::mesos::ContainerId;
use serde::{Deserialize, Serialize};

/// What must be known of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The version of this format.
    pub(crate) version: u32,
    /// The sandbox on the host.
    pub(crate) directory: PathBuf,
    /// Whom files in the sandbox belong to.
    pub(crate) owner: Option<(u32, u32)>,
    /// Settings of the container logger that the task asked for.
    pub(crate) logger: std::collections::BTreeMap<String, String>,
    /// Whose its output is.
    #[serde(default)]
    pub(crate) origin: Option<dcos_containerizer::logger::LogOrigin>,
    /// Whether its output comes as from a terminal: one stream.
    pub(crate) tty: bool,
    /// Whether the engine keeps no output, so that it is only heard live.
    pub(crate) unlogged: bool,
    /// The signal that asks it to end, if not SIGTERM.
    pub(crate) stop_signal: Option<String>,
    /// What the task said of its network, to be told with its addresses.
    pub(crate) network: Option<Vec<u8>>,
    /// Remove it as soon as it ended.
    pub(crate) ephemeral: bool,
    /// The GPUs it has.
    #[serde(default)]
    pub(crate) gpus: BTreeSet<u32>,
}

impl Record {
    pub(crate) const VERSION: u32 = 1;
}

/// A container found on disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: ContainerId,
    /// `None` if it cannot be understood.
    pub(crate) record: Option<Record>,
    pub(crate) termination: Option<ContainerTermination>,
}

/// The folder of all containers.
#[derive(Debug)]
pub(crate) struct Store(PathBuf);

impl Store {
    pub(crate) fn open(state: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(state.join("containers"))?;
        Ok(Self(state))
    }

    /// The name of this node among those that use the same engine; made at the first call.
    pub(crate) fn node(&self) -> io::Result<String> {
        let path = self.0.join("node");
        match fs::read_to_string(&path) {
            Ok(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
            _ => {
                let name = uuid::Uuid::new_v4().to_string();
                write(&path, name.as_bytes())?;
                Ok(name)
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn folder(&self, id: &ContainerId) -> PathBuf {
        self.0.join("containers").join(&id.value)
    }

    pub(crate) fn save(&self, id: &ContainerId, record: &Record) -> io::Result<()> {
        let folder = self.folder(id);
        fs::create_dir_all(&folder)?;
        write(&folder.join("record"), &serde_json::to_vec(record)?)
    }

    pub(crate) fn end(&self, id: &ContainerId, end: &ContainerTermination) -> io::Result<()> {
        let message = end.to_message();
        let bytes = prost::Message::encode_to_vec(&message);
        write(&self.folder(id).join("termination"), &bytes)
    }

    pub(crate) fn remove(&self, id: &ContainerId) -> io::Result<()> {
        match fs::remove_dir_all(self.folder(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    pub(crate) fn load(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.0.join("containers"))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let record = fs::read(entry.path().join("record")).ok();
            let record = record
                .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
                .filter(|record| record.version == Record::VERSION);
            let termination = fs::read(entry.path().join("termination")).ok();
            let termination = termination
                .and_then(|bytes| <WaitContainer as prost::Message>::decode(&*bytes).ok())
                .map(ContainerTermination::from_message);
            found.push(Found {
                id: ContainerId::root(name),
                record,
                termination,
            });
        }
        Ok(found)
    }

    pub(crate) fn save_exec(&self, id: &ContainerId, exec: &str) -> io::Result<()> {
        let folder = self.folder(id).join("execs");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(exec), b"")
    }

    pub(crate) fn remove_exec(&self, id: &ContainerId, exec: &str) {
        fs::remove_file(self.folder(id).join("execs").join(exec)).ok();
    }

    pub(crate) fn execs(&self, id: &ContainerId) -> Vec<String> {
        let entries = fs::read_dir(self.folder(id).join("execs"));
        let names = entries.into_iter().flatten().flatten();
        names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }
}

/// Writes a file that is there whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // Not synced: it has to outlive us, and with the host its containers end.
    fs::write(&new, bytes)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_saved_and_nothing_half() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_owned()).unwrap();
        let node = store.node().unwrap();
        assert_eq!(store.node().unwrap(), node);
        let id = ContainerId::root("a");
        let record = Record {
            version: Record::VERSION,
            tty: true,
            ..Record::default()
        };
        store.save(&id, &record).unwrap();
        store.save_exec(&id, "e1").unwrap();
        assert_eq!(store.execs(&id), ["e1"]);
        store.end(&id, &ContainerTermination::exited(9)).unwrap();
        let broken = ContainerId::root("b");
        store.save(&broken, &record).unwrap();
        fs::write(store.folder(&broken).join("record"), "{").unwrap();
        let mut found = store.load().unwrap();
        found.sort_by_key(|found| found.id.value.clone());
        assert_eq!(found[0].record, Some(record));
        assert_eq!(found[0].termination.as_ref().unwrap().signal(), Some(9));
        assert_eq!(found[1].record, None);
        store.remove(&id).unwrap();
        store.remove(&id).unwrap();
        assert_eq!(store.load().unwrap().len(), 1);
    }
}
