//! `linux/devices`: device nodes of the host in containers with an image, by the operator's list.
//!
//! `cgroups/devices` says which devices may be opened; this puts the nodes where a container with a
//! file system of its own finds them. Both read the same list.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dcos_proto::mesos::{ContainerId, DeviceAccess, DeviceWhitelist};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};

use super::cgroup::DeviceRule;
use super::{ContainerConfig, Draft, Isolator, IsolatorError};

/// A device of the host that containers may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// Its node, the same inside and outside.
    pub path: PathBuf,
    /// What may be done with it.
    pub rule: DeviceRule,
}

impl HostDevice {
    /// Looks at the node `path`; `access` are the letters `r`, `w` and `m` of what may be done.
    ///
    /// # Errors
    /// [`IsolatorError::File`] if it is not there; [`IsolatorError::Refused`] if it is no device.
    pub fn open(path: &Path, access: &str) -> Result<Self, IsolatorError> {
        let found = path
            .metadata()
            .map_err(IsolatorError::file("looking at device", path))?;
        let kind = match found.file_type() {
            kind if kind.is_char_device() => 'c',
            kind if kind.is_block_device() => 'b',
            _ => {
                let path = path.display();
                return Err(IsolatorError::refused(format!("{path} is no device")));
            }
        };
        Ok(Self {
            path: path.to_owned(),
            rule: DeviceRule {
                kind,
                major: Some(rustix::fs::major(found.rdev())),
                minor: Some(rustix::fs::minor(found.rdev())),
                access: access.to_owned(),
            },
        })
    }

    /// The devices of `--allowed_devices`.
    ///
    /// # Errors
    /// As [`open`](Self::open), and for one without a path or without any access.
    pub fn of_whitelist(list: &DeviceWhitelist) -> Result<Vec<Self>, IsolatorError> {
        let one = |allowed: &DeviceAccess| {
            let wrong = |what| IsolatorError::refused(format!("allowed_devices: {what}"));
            let path = allowed.device.path.as_deref();
            let path = path.ok_or_else(|| wrong("a device has no path"))?;
            let letters = [
                ("r", allowed.access.read),
                ("w", allowed.access.write),
                ("m", allowed.access.mknod),
            ];
            let given = letters.iter().filter(|(_, given)| *given == Some(true));
            let access: String = given.map(|(letter, _)| *letter).collect();
            if access.is_empty() {
                return Err(wrong("a device may be neither read, written nor made"));
            }
            Self::open(Path::new(path), &access)
        };
        list.allowed_devices.iter().map(one).collect()
    }

    /// The node as a spec says it: everybody in the container may do what the container may.
    pub(crate) fn node(&self) -> LinuxDevice {
        let bits = [('r', 0o444), ('w', 0o222)];
        let allowed = bits
            .iter()
            .filter(|(letter, _)| self.rule.access.contains(*letter));
        let mode: u32 = 0o600 | allowed.map(|(_, bits)| bits).sum::<u32>();
        let kind = match self.rule.kind {
            'b' => LinuxDeviceType::B,
            _ => LinuxDeviceType::C,
        };
        LinuxDeviceBuilder::default()
            .path(&self.path)
            .typ(kind)
            .major(self.rule.major.unwrap_or_default())
            .minor(self.rule.minor.unwrap_or_default())
            .file_mode(mode)
            .uid(0_u32)
            .gid(0_u32)
            .build()
            .expect("path, type and number are given")
    }
}

/// Puts the nodes of allowed devices into containers that have a `/dev` of their own.
#[derive(Debug)]
pub struct LinuxDevicesIsolator {
    devices: Vec<HostDevice>,
}

impl LinuxDevicesIsolator {
    /// With `devices` in each container.
    pub fn new(devices: Vec<HostDevice>) -> Self {
        Self { devices }
    }
}

#[async_trait]
impl Isolator for LinuxDevicesIsolator {
    fn name(&self) -> &'static str {
        "linux/devices"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        if config.has_rootfs() {
            self.devices.iter().for_each(|device| draft.node(device));
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dcos_proto::json::{self, Dialect};

    use super::*;

    fn read(text: &str) -> Result<Vec<HostDevice>, String> {
        let list = json::from_slice::<DeviceWhitelist>(text.as_bytes(), Dialect::V1).unwrap();
        HostDevice::of_whitelist(&list).map_err(|error| error.to_string())
    }

    #[test]
    fn devices_are_named_by_their_nodes() {
        let text = r#"{"allowed_devices": [
            {"device": {"path": "/dev/null"}, "access": {"read": true, "mknod": true}}]}"#;
        let found = read(text).unwrap();
        assert_eq!(found[0].rule.to_string(), "c 1:3 rm");
        assert_eq!(found[0].node().file_mode(), Some(0o644));

        let check = |path: &str, access: &str, expected: &str| {
            let text = format!(
                r#"{{"allowed_devices": [{{"device": {{{path}}}, "access": {{{access}}}}}]}}"#
            );
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("", r#""read": true"#, "a device has no path");
        check(r#""path": "/dev/null""#, "", "neither read, written");
        check(r#""path": "/""#, r#""read": true"#, "/ is no device");
        check(
            r#""path": "/dev/none""#,
            r#""read": true"#,
            "looking at device",
        );
    }
}
