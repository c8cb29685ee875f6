//! Which GPUs a node has.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use crate::isolator::IsolatorError;
use crate::isolator::devices::HostDevice;

/// Finds the GPUs of a node, once, when the agent starts.
///
/// # Contract
/// 1. GPUs are numbered as `--nvidia_gpu_devices` numbers them, and keep their numbers as long as
///    the node runs.
/// 2. A node without GPUs has an empty answer; an error is for one whose driver is broken.
pub trait GpuDiscovery: fmt::Debug + Send + Sync + 'static {
    /// Looks.
    ///
    /// # Errors
    /// [`IsolatorError`] if there are GPUs, and they cannot be used.
    fn find(&self) -> Result<Gpus, IsolatorError>;
}

/// The GPUs of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpus {
    /// Devices that every user of a GPU needs.
    pub control: Vec<HostDevice>,
    /// The GPUs by number.
    pub gpus: BTreeMap<u32, HostDevice>,
    /// What NVIDIA's tools call them (`GPU-…`), as far as that is known: a runtime of NVIDIA's is told these.
    pub names: BTreeMap<u32, String>,
}

impl Gpus {
    /// Of these the ones named; all if none are.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] if one is not there.
    pub fn chosen(mut self, numbers: Option<&[u32]>) -> Result<Self, IsolatorError> {
        if let Some(numbers) = numbers {
            if let Some(absent) = numbers.iter().find(|gpu| !self.gpus.contains_key(gpu)) {
                return Err(IsolatorError::refused(format!(
                    "nvidia_gpu_devices: this node has no GPU {absent}"
                )));
            }
            self.gpus.retain(|gpu, _| numbers.contains(gpu));
        }
        Ok(self)
    }
}

/// Finds GPUs by the nodes that the driver makes: `nvidia0`, `nvidia1`, `nvidiactl`, `nvidia-uvm`.
#[derive(Debug, Clone)]
pub struct DeviceNodes {
    folder: PathBuf,
    driver: PathBuf,
}

impl DeviceNodes {
    /// Looks into `folder`, which is `/dev` but in tests.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            driver: "/proc/driver/nvidia".into(),
        }
    }

    /// With names that the driver tells in `folder`, which is `/proc/driver/nvidia` but in tests.
    #[must_use]
    pub fn named_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.driver = folder.into();
        self
    }

    /// What the driver tells of each GPU: its name by its number.
    fn names(&self) -> BTreeMap<u32, String> {
        let entries = fs::read_dir(self.driver.join("gpus")).into_iter().flatten();
        let told = entries.flatten().filter_map(|entry| {
            let text = fs::read_to_string(entry.path().join("information")).ok()?;
            let field = |name: &str| {
                let mut lines = text.lines().filter_map(|line| line.split_once(':'));
                lines.find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
            };
            // One that was not initialised yet is called `GPU-????????-…`.
            let name = field("GPU UUID").filter(|name| !name.contains('?'))?;
            Some((field("Device Minor")?.parse().ok()?, name.to_owned()))
        });
        told.collect()
    }
}

impl Default for DeviceNodes {
    fn default() -> Self {
        Self::new("/dev")
    }
}

impl GpuDiscovery for DeviceNodes {
    fn find(&self) -> Result<Gpus, IsolatorError> {
        let mut found = Gpus::default();
        let entries = fs::read_dir(&self.folder)
            .map_err(IsolatorError::file("looking for GPUs in", &self.folder))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("nvidia"));
            if let Some(Ok(number)) = number.map(str::parse) {
                let device = HostDevice::open(&entry.path(), "rwm")?;
                found.gpus.insert(number, device);
            }
        }
        if found.gpus.is_empty() {
            return Ok(found);
        }
        found.names = self.names();
        // The last is for debuggers, and not on every node.
        for (name, needed) in [
            ("nvidiactl", true),
            ("nvidia-uvm", true),
            ("nvidia-uvm-tools", false),
        ] {
            let path = self.folder.join(name);
            if needed || path.exists() {
                found.control.push(HostDevice::open(&path, "rwm")?);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_that_were_not_initialised_have_no_name() {
        let driver = tempfile::tempdir().unwrap();
        for (folder, minor, uuid) in [
            (
                "0000:01:00.0",
                0,
                "GPU-0f1e2d3c-aaaa-bbbb-cccc-001122334455",
            ),
            (
                "0000:02:00.0",
                1,
                "GPU-????????-????-????-????-????????????",
            ),
        ] {
            let folder = driver.path().join("gpus").join(folder);
            fs::create_dir_all(&folder).unwrap();
            let text =
                format!("Model: \t\t Tesla\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n");
            fs::write(folder.join("information"), text).unwrap();
        }
        let names = DeviceNodes::new("/none").named_in(driver.path()).names();
        let named = (0, "GPU-0f1e2d3c-aaaa-bbbb-cccc-001122334455".to_owned());
        assert_eq!(names, BTreeMap::from([named]));
    }
}
