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

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dcos_launcher::CgroupVersion;
use dcos_proto::mesos::ContainerId;

use super::cgroup::{Cgroups, write};
use super::devices::HostDevice;
use super::{ContainerConfig, Draft, Isolator, IsolatorError, Limits};

pub use discovery::{DeviceNodes, GpuDiscovery, Gpus};

const NAME: &str = "gpu/nvidia";
/// Below the runtime directory.
const FOLDER: &str = "isolators/gpu/nvidia";

/// Gives GPUs to root containers; nested ones use those of their root.
#[derive(Debug)]
pub struct NvidiaGpuIsolator {
    cgroups: Cgroups,
    /// What steers the driver; for each container, even without a GPU.
    control: Vec<HostDevice>,
    /// GPUs by their number.
    gpus: BTreeMap<u32, HostDevice>,
    /// Where is noted which GPUs a container has, a file each.
    folder: PathBuf,
    given: Mutex<BTreeMap<ContainerId, BTreeSet<u32>>>,
}

impl NvidiaGpuIsolator {
    /// Gives out `gpus`; notes are kept in `runtime_dir`.
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] without the `devices` controller.
    pub fn new(cgroups: Cgroups, gpus: Gpus, runtime_dir: &Path) -> Result<Self, IsolatorError> {
        cgroups.require("devices", NAME)?;
        Ok(Self {
            cgroups,
            control: gpus.control,
            gpus: gpus.gpus,
            folder: runtime_dir.join(FOLDER),
            given: Mutex::default(),
        })
    }

    /// With what `discovery` finds, or of that only the GPUs `chosen` (`--nvidia_gpu_devices`).
    ///
    /// # Errors
    /// As [`new`](Self::new); [`IsolatorError::Refused`] if a chosen GPU is not there.
    pub fn discover(
        cgroups: Cgroups,
        discovery: &Arc<dyn GpuDiscovery>,
        chosen: Option<&[u32]>,
        runtime_dir: &Path,
    ) -> Result<Self, IsolatorError> {
        let found = discovery.find()?.chosen(chosen)?;
        Self::new(cgroups, found, runtime_dir)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, BTreeSet<u32>>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, id: &ContainerId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// As many GPUs as `count` says: those it has, more of the free ones, or fewer.
    fn give(&self, id: &ContainerId, count: usize) -> Result<BTreeSet<u32>, IsolatorError> {
        let mut given = self.lock();
        let taken: BTreeSet<u32> = given.values().flatten().copied().collect();
        let free = self.gpus.keys().filter(|gpu| !taken.contains(gpu));
        let mine = given.get(id).cloned().unwrap_or_default();
        let wanted: BTreeSet<u32> = mine.iter().chain(free).copied().take(count).collect();
        if wanted.len() < count {
            return Err(IsolatorError::refused(format!(
                "{count} GPUs were asked for, and {} are free",
                wanted.len()
            )));
        }
        let file = self.file(id);
        let text = wanted.iter().map(u32::to_string).collect::<Vec<_>>();
        fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&file, text.join(",")))
            .map_err(IsolatorError::file("writing", file))?;
        given.insert(id.clone(), wanted.clone());
        Ok(wanted)
    }
}

/// A whole number of GPUs.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small whole number that is not negative"
)]
fn count(gpus: f64) -> Result<usize, IsolatorError> {
    if gpus < 0.0 || gpus.fract() != 0.0 || gpus > 4096.0 {
        let reason = format!("`gpus` are whole, and {gpus} were asked for");
        return Err(IsolatorError::refused(reason));
    }
    Ok(gpus as usize)
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
                    self.lock().insert(id.clone(), gpus.collect());
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
            self.give(id, count(config.limits.gpus)?)?
        } else {
            self.lock().get(id).cloned().unwrap_or_default()
        };
        let mine = mine.iter().filter_map(|gpu| self.gpus.get(gpu));
        for device in self.control.iter().chain(mine) {
            draft.devices.push(device.rule.clone());
            // The host's nodes are there without a file system of its own; the rules decide.
            if config.has_rootfs() && !config.debug {
                draft.node(device);
            }
        }
        Ok(())
    }

    async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        let before = self.lock().get(id).cloned();
        let Some(before) = before else { return Ok(()) };
        let wanted = count(limits.gpus)?;
        if wanted == before.len() {
            return Ok(());
        }
        let folder = self.cgroups.folder("devices", id);
        let Some(folder) = folder.filter(|folder| folder.version == CgroupVersion::V1) else {
            return Err(IsolatorError::refused(
                "the GPUs of a running container stay what they are on cgroup v2",
            ));
        };
        let after = self.give(id, wanted)?;
        let changes = [
            ("devices.deny", before.difference(&after)),
            ("devices.allow", after.difference(&before)),
        ];
        for (file, gpus) in changes {
            for device in gpus.filter_map(|gpu| self.gpus.get(gpu)) {
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
        self.lock().remove(id);
        Ok(())
    }
}
