//! What is on disk about a container's networks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{ContainerId, NetworkInfo};
use serde::{Deserialize, Serialize};

use super::{Attached, Attachment, NetworkError};
use crate::containerizer::runtime;

const NETWORKS: &str = "networks.json";

/// The folder of a container.
#[derive(Debug, Clone)]
pub(super) struct Folder(pub PathBuf);

/// One network of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Joined {
    pub name: String,
    pub interface: String,
    /// What was asked for, as JSON of API v1.
    pub info: serde_json::Value,
    /// What came of it; absent before that is known.
    pub attached: Option<Attached>,
}

impl Folder {
    pub(super) fn of(root: &Path, container: &ContainerId) -> Self {
        Self(root.join(container.to_string()))
    }

    pub(super) fn namespace(&self) -> PathBuf {
        self.0.join("ns")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The networks, in order; `None` if the container has none of its own.
    pub(super) fn read(&self) -> Result<Option<Vec<Joined>>, NetworkError> {
        let path = self.0.join(NETWORKS);
        let failed = |error: &dyn std::fmt::Display| NetworkError::file("reading", &path, error);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&error)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| failed(&error)),
        }
    }

    /// Replaces what [`Self::read`] finds, at once and for good.
    pub(super) fn write(&self, networks: &[Joined]) -> Result<(), NetworkError> {
        let text = serde_json::to_vec(networks).expect("it has text keys only");
        self.save(NETWORKS, &text)
    }

    /// Replaces a file at once and for good.
    pub(super) fn save(&self, name: &str, text: &[u8]) -> Result<(), NetworkError> {
        let path = self.0.join(name);
        runtime::replace(&path, text).map_err(|error| NetworkError::file("writing", &path, error))
    }

    /// Removes all of it; the namespace's file is gone by then.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What a network is told of the container.
    pub(super) fn attachment(&self, container: &ContainerId, joined: &Joined) -> Attachment {
        let namespace = self.namespace();
        Attachment {
            container: container.clone(),
            network: joined.name.clone(),
            interface: joined.interface.clone(),
            namespace: crate::netns::is_held(&namespace).then_some(namespace),
            info: joined.info(),
            folder: self.0.join("networks").join(&joined.name),
        }
    }
}

impl Joined {
    pub(super) fn new(name: &str, number: usize, info: &NetworkInfo) -> Self {
        Self {
            name: name.to_owned(),
            interface: format!("eth{number}"),
            info: json::to_value(info, Dialect::V1),
            attached: None,
        }
    }

    pub(super) fn info(&self) -> NetworkInfo {
        json::from_value(&self.info, Dialect::V1).unwrap_or_default()
    }
}
