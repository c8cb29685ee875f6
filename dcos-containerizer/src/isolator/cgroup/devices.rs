//! `cgroups/devices`: which devices a container may open and make.

use std::fmt;

use async_trait::async_trait;
use dcos_launcher::CgroupVersion;
use dcos_proto::mesos::ContainerId;

use super::{Cgroups, write};
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};

const NAME: &str = "cgroups/devices";

/// Devices that may be used, as the kernel writes them: `c 1:3 rwm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// `c` or `b`.
    pub kind: char,
    /// Major number; any if absent.
    pub major: Option<u32>,
    /// Minor number; any if absent.
    pub minor: Option<u32>,
    /// Letters of what is allowed: read, write, make.
    pub access: &'static str,
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        let (major, minor) = (number(self.major), number(self.minor));
        write!(f, "{} {major}:{minor} {}", self.kind, self.access)
    }
}

const fn rule(kind: char, major: u32, minor: Option<u32>) -> DeviceRule {
    DeviceRule {
        kind,
        major: Some(major),
        minor,
        access: "rwm",
    }
}

/// What every container may use; Mesos 1.11's list.
const DEFAULT: [DeviceRule; 14] = [
    // Making nodes does no harm while they cannot be opened.
    DeviceRule {
        kind: 'c',
        major: None,
        minor: None,
        access: "m",
    },
    DeviceRule {
        kind: 'b',
        major: None,
        minor: None,
        access: "m",
    },
    rule('c', 5, Some(1)),    // console
    rule('c', 4, Some(0)),    // tty0
    rule('c', 4, Some(1)),    // tty1
    rule('c', 136, None),     // pts/*
    rule('c', 5, Some(2)),    // ptmx
    rule('c', 10, Some(200)), // net/tun
    rule('c', 1, Some(3)),    // null
    rule('c', 1, Some(5)),    // zero
    rule('c', 1, Some(7)),    // full
    rule('c', 5, Some(0)),    // tty
    rule('c', 1, Some(9)),    // urandom
    rule('c', 1, Some(8)),    // random
];

/// Denies all devices but the usual harmless ones and those the agent allows.
///
/// On cgroup v2 the kernel asks a BPF program instead of a list, which is not written yet:
/// [`DevicesIsolator::new`] refuses there.
#[derive(Debug)]
pub struct DevicesIsolator {
    cgroups: Cgroups,
    allowed: Vec<DeviceRule>,
}

impl DevicesIsolator {
    /// Allows `more` beside the default list (`--allowed_devices`).
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] without the `devices` controller of cgroup v1.
    pub fn new(cgroups: Cgroups, more: Vec<DeviceRule>) -> Result<Self, IsolatorError> {
        cgroups.require("devices", NAME)?;
        let allowed = DEFAULT.into_iter().chain(more).collect();
        Ok(Self { cgroups, allowed })
    }
}

#[async_trait]
impl Isolator for DevicesIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        self.cgroups.remove_unknown("devices", containers).await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let folder = self.cgroups.join("devices", &config.id, draft)?;
        // A nested container inherits its parent's list.
        if folder.version == CgroupVersion::V1 && config.id.parent.is_none() {
            write(&folder.path.join("devices.deny"), "a")?;
            for rule in &self.allowed {
                write(&folder.path.join("devices.allow"), &rule.to_string())?;
            }
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.cgroups.remove("devices", id).await
    }
}
