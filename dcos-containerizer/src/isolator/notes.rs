//! What isolators note of containers, to know it after a restart of the agent.

use std::fs;
use std::io;
use std::path::PathBuf;

use dcos_proto::mesos::ContainerId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::IsolatorError;
use crate::containerizer::runtime::{parse_id, replace};

/// A folder with a file, or a folder, for each container that something is known of, named by its id.
#[derive(Debug, Clone)]
pub(super) struct Notes(PathBuf);

impl Notes {
    /// Those in `folder`, which need not be there yet.
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where a container's are.
    pub(super) fn path(&self, id: &ContainerId) -> PathBuf {
        self.0.join(id.to_string())
    }

    /// Whose there are.
    pub(super) fn ids(&self) -> Result<Vec<ContainerId>, IsolatorError> {
        let listing = || IsolatorError::file("listing", &self.0);
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(listing())?,
        };
        let id = |entry: fs::DirEntry| parse_id(&entry.file_name().to_string_lossy());
        let ids = entries.map(|entry| entry.map(id));
        ids.collect::<io::Result<_>>().map_err(listing())
    }

    /// Replaces a container's note: it is there whole or not at all.
    pub(super) fn write(
        &self,
        id: &ContainerId,
        note: &impl Serialize,
    ) -> Result<(), IsolatorError> {
        let text = serde_json::to_vec(note).expect("it has text keys only");
        let file = self.path(id);
        fs::create_dir_all(&self.0)
            .and_then(|()| replace(&file, &text))
            .map_err(IsolatorError::file("writing", file))
    }

    /// A container's note; none, too, if that says nothing.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        id: &ContainerId,
    ) -> Result<Option<T>, IsolatorError> {
        let file = self.path(id);
        match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => {
                let text = text.map_err(IsolatorError::file("reading", file))?;
                Ok(serde_json::from_slice(&text).ok())
            }
        }
    }

    /// Removes a container's note, if there is one.
    pub(super) fn remove(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        let file = self.path(id);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(IsolatorError::file("removing", file)(error))
            }
            _ => Ok(()),
        }
    }
}
