//! `gpu/nvidia`: whole GPUs, each for one container at a time.
//!
//! A container gets as many GPUs as it has of the resource `gpus`: it may open their device nodes
//! and those by which the driver is controlled, and no other. Which nodes there are is for a
//! [`GpuDiscovery`] to say.
//!
//! # Source
//! Mesos 1.11 `gpu/nvidia` (`docs/gpu-support.md`). There the driver's library is asked for the GPUs;
//! here its device nodes are looked at, which needs no library. Departures are in
//! `docs/isolators.md`.

mod discovery;
mod pool;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dcos_launcher::CgroupVersion;
use dcos_proto::mesos::ContainerId;

use super::cgroup::{Cgroups, write};
use super::{ContainerConfig, Draft, Isolator, IsolatorError, Limits};

pub use discovery::{DeviceNodes, GpuDiscovery, Gpus};
pub use pool::GpuPool;
use pool::whole;

const NAME: &str = "gpu/nvidia";
/// Below the runtime directory.
const FOLDER: &str = "isolators/gpu/nvidia";

/// Gives GPUs to root containers; nested ones use those of their root.
#[derive(Debug)]
pub struct NvidiaGpuIsolator {
    cgroups: Cgroups,
    pool: GpuPool,
    /// Where is noted which GPUs a container has, a file each.
    folder: PathBuf,
}

impl NvidiaGpuIsolator {
    /// Gives out GPUs of `pool`; notes are kept in `runtime_dir`.
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] without the `devices` controller.
    pub fn new(cgroups: Cgroups, pool: GpuPool, runtime_dir: &Path) -> Result<Self, IsolatorError> {
        cgroups.require("devices", NAME)?;
        Ok(Self {
            cgroups,
            pool,
            folder: runtime_dir.join(FOLDER),
        })
    }

    fn file(&self, id: &ContainerId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// As many GPUs as `count` says, noted.
    fn give(&self, id: &ContainerId, count: f64) -> Result<BTreeSet<u32>, IsolatorError> {
        let before = self.pool.of(id);
        let wanted = self.pool.give(id, count)?;
        let file = self.file(id);
        let text = wanted.iter().map(u32::to_string).collect::<Vec<_>>();
        let noted =
            fs::create_dir_all(&self.folder).and_then(|()| fs::write(&file, text.join(",")));
        if noted.is_err() {
            match before {
                Some(before) => self.pool.keep(id, before),
                None => self.pool.take_back(id),
            }
        }
        noted.map_err(IsolatorError::file("writing", file))?;
        Ok(wanted)
    }
}

#[async_trait]
impl Isolator for NvidiaGpuIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let known = containers.iter().find(|id| *name == *id.to_string());
            match known {
                Some(id) => {
                    let text = fs::read_to_string(entry.path())
                        .map_err(IsolatorError::file("reading", entry.path()))?;
                    let gpus = text.split(',').filter_map(|gpu| gpu.parse().ok());
                    self.pool.keep(id, gpus.collect());
                }
                None => fs::remove_file(entry.path())
                    .map_err(IsolatorError::file("removing", entry.path()))?,
            }
        }
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let id = config.id.root_id();
        let mine = if config.id.parent.is_none() {
            self.give(id, config.limits.gpus)?
        } else {
            self.pool.of(id).unwrap_or_default()
        };
        // What steers the driver is for each container, even without a GPU.
        for device in self.pool.devices(&mine) {
            draft.devices.push(device.rule.clone());
            // The host's nodes are there without a file system of its own; the rules decide.
            if config.has_rootfs() && !config.debug {
                draft.node(device);
            }
        }
        Ok(())
    }

    async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        let Some(before) = self.pool.of(id) else {
            return Ok(());
        };
        if whole(limits.gpus)? == before.len() {
            return Ok(());
        }
        let folder = self.cgroups.folder("devices", id);
        let Some(folder) = folder.filter(|folder| folder.version == CgroupVersion::V1) else {
            return Err(IsolatorError::refused(
                "the GPUs of a running container stay what they are on cgroup v2",
            ));
        };
        let after = self.give(id, limits.gpus)?;
        let changes = [
            ("devices.deny", before.difference(&after)),
            ("devices.allow", after.difference(&before)),
        ];
        for (file, gpus) in changes {
            for device in gpus.filter_map(|gpu| self.pool.device(*gpu)) {
                write(&folder.path.join(file), &device.rule.to_string())?;
            }
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        let file = self.file(id);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(IsolatorError::file("removing", file)(error));
            }
            _ => {}
        }
        self.pool.take_back(id);
        Ok(())
    }
}
