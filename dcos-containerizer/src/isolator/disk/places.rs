//! What a container has on disk, and what it was given of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dcos_core::units::format_bytes;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::resource::disk_info::source;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{ContainerId, DiskStatistics, Resource};
use serde::{Deserialize, Serialize};

use crate::isolator::{ContainerConfig, Limitation, Limits};

/// What is on disk of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    sandbox: PathBuf,
    /// What it and those nested in it write to their roots, by their ids.
    #[serde(default)]
    roots: BTreeMap<String, Vec<PathBuf>>,
    /// Persistent volumes: where the container has them, and where they are.
    volumes: Vec<(String, PathBuf)>,
    /// The disk that was given, as JSON of API v1.
    resources: Vec<serde_json::Value>,
}

/// Folders and what was given for them.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The first tells one place from another.
    pub(super) folders: Vec<PathBuf>,
    pub(super) given: Vec<Resource>,
    pub(super) is_sandbox: bool,
}

impl Record {
    pub(super) fn new(config: &ContainerConfig) -> Self {
        let volumes = config.volumes.iter();
        let mut record = Self {
            sandbox: config.sandbox.clone(),
            volumes: volumes
                .map(|volume| (volume.container_path.clone(), volume.source.clone()))
                .collect(),
            ..Self::default()
        };
        record.add_root(&config.id, &config.ephemeral);
        record.set_given(&config.limits);
        record
    }

    /// Of a container of which only the sandbox is known.
    pub(super) fn of(sandbox: PathBuf) -> Self {
        Self {
            sandbox,
            ..Self::default()
        }
    }

    pub(super) fn set_given(&mut self, limits: &Limits) {
        let disks = limits.disks.iter();
        self.resources = disks
            .map(|disk| json::to_value(disk, Dialect::V1))
            .collect();
    }

    /// Takes in what `id`, the container or one nested in it, writes to its root.
    pub(super) fn add_root(&mut self, id: &ContainerId, folders: &[PathBuf]) {
        if !folders.is_empty() {
            self.roots.insert(id.to_string(), folders.to_vec());
        }
    }

    /// Forgets the root of a nested container.
    pub(super) fn remove_root(&mut self, id: &ContainerId) {
        self.roots.remove(&id.to_string());
    }

    /// It was given what `other` was given.
    pub(super) fn keep_given(&mut self, other: &Self) {
        self.resources.clone_from(&other.resources);
    }

    /// The sandbox, and what is written to roots.
    pub(super) fn own(&self) -> Vec<PathBuf> {
        let roots = self.roots.values().flatten();
        std::iter::once(&self.sandbox)
            .chain(roots)
            .cloned()
            .collect()
    }

    fn given(&self) -> impl Iterator<Item = Resource> {
        let read = |value| json::from_value(value, Dialect::V1).ok();
        self.resources.iter().filter_map(read)
    }

    /// What is measured: each volume, and the container's own folders if something was given for them.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for resource in self.given() {
            let volume = resource.disk.as_ref().and_then(|disk| disk.volume.as_ref());
            let folders = match volume {
                None => self.own(),
                Some(volume) => {
                    let of = |(path, _): &&(String, PathBuf)| *path == volume.container_path;
                    let known = self.volumes.iter().find(of);
                    vec![known.map_or_else(
                        || self.sandbox.join(&volume.container_path),
                        |known| known.1.clone(),
                    )]
                }
            };
            let is_same = |place: &&mut Place| place.folders[0] == folders[0];
            match places.iter_mut().find(is_same) {
                Some(place) => place.given.push(resource),
                None => places.push(Place {
                    is_sandbox: volume.is_none(),
                    folders,
                    given: vec![resource],
                }),
            }
        }
        places
    }
}

impl Place {
    /// What was given, in bytes.
    pub(super) fn limit(&self) -> u64 {
        let megabytes = self.given.iter().filter_map(|disk| disk.scalar);
        let megabytes: f64 = megabytes.map(|scalar| scalar.value).sum();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates; resources are not negative"
        )]
        let bytes = (megabytes * 1_048_576.0).round() as u64;
        bytes
    }

    /// Whether it is a file system of its own, which bounds itself.
    pub(super) fn is_mount(&self) -> bool {
        self.given.iter().any(|resource| {
            let source = resource.disk.as_ref().and_then(|disk| disk.source.as_ref());
            source.is_some_and(|source| source.r#type() == source::Type::Mount)
        })
    }

    /// Whether `used` is too much.
    pub(super) fn limitation(&self, used: u64) -> Option<Limitation> {
        (!self.is_mount() && used > self.limit()).then(|| Limitation {
            resources: self.given.clone(),
            reason: Reason::ContainerLimitationDisk.into(),
            message: format!(
                "Disk usage ({}) exceeds quota ({})",
                format_bytes(used),
                format_bytes(self.limit())
            ),
        })
    }

    pub(super) fn statistics(&self, used: Option<u64>) -> DiskStatistics {
        let disk = self
            .given
            .first()
            .and_then(|resource| resource.disk.as_ref());
        DiskStatistics {
            source: disk.and_then(|disk| disk.source.clone()),
            persistence: disk.and_then(|disk| disk.persistence.clone()),
            limit_bytes: Some(self.limit()),
            used_bytes: used,
        }
    }
}
