//! `cgroups/devices`: which devices a container may open and make.

mod bpf;

use std::fmt;
use std::fs::File;
use std::str::FromStr;

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
    pub access: String,
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        let (major, minor) = (number(self.major), number(self.minor));
        write!(f, "{} {major}:{minor} {}", self.kind, self.access)
    }
}

impl FromStr for DeviceRule {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let [kind, numbers, access] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(());
        };
        let (major, minor) = numbers.split_once(':').ok_or(())?;
        let number = |text: &str| match text {
            "*" => Ok(None),
            text => text.parse().map(Some).map_err(|_| ()),
        };
        let known = !access.is_empty() && access.chars().all(|letter| "rwm".contains(letter));
        let kind = match kind {
            "c" | "b" if known => kind.chars().next().ok_or(())?,
            _ => return Err(()),
        };
        let (major, minor) = (number(major)?, number(minor)?);
        Ok(Self {
            kind,
            major,
            minor,
            access: access.to_owned(),
        })
    }
}

/// What every container may use; Mesos 1.11's list.
const DEFAULT: [&str; 14] = [
    // Making nodes does no harm while they cannot be opened.
    "c *:* m",
    "b *:* m",
    "c 5:1 rwm",    // console
    "c 4:0 rwm",    // tty0
    "c 4:1 rwm",    // tty1
    "c 136:* rwm",  // pts/*
    "c 5:2 rwm",    // ptmx
    "c 10:200 rwm", // net/tun
    "c 1:3 rwm",    // null
    "c 1:5 rwm",    // zero
    "c 1:7 rwm",    // full
    "c 5:0 rwm",    // tty
    "c 1:9 rwm",    // urandom
    "c 1:8 rwm",    // random
];

/// Denies all devices but the usual harmless ones and those the agent allows.
///
/// On cgroup v1 the rules are written to a list, on v2 they become a BPF program.
#[derive(Debug)]
pub struct DevicesIsolator {
    cgroups: Cgroups,
    allowed: Vec<DeviceRule>,
}

impl DevicesIsolator {
    /// Allows `more` beside the default list (`--allowed_devices`).
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] with neither the `devices` controller of cgroup v1 nor v2.
    pub fn new(cgroups: Cgroups, more: Vec<DeviceRule>) -> Result<Self, IsolatorError> {
        cgroups.require("devices", NAME)?;
        let default = DEFAULT
            .iter()
            .map(|rule| rule.parse().expect("the list is well-formed"));
        let allowed = default.chain(more).collect();
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
        // A nested container inherits its parent's rules.
        if config.id.parent.is_some() {
            return Ok(());
        }
        let allowed: Vec<_> = self.allowed.iter().chain(&draft.devices).cloned().collect();
        if folder.version == CgroupVersion::V2 {
            let failed = IsolatorError::file("attaching a device program to", &folder.path);
            return bpf::attach(&folder.path, &allowed).map_err(failed);
        }
        write(&folder.path.join("devices.deny"), "a")?;
        // A rule a write, as the kernel wants it, but all to one open file: opening costs as much as writing.
        let path = folder.path.join("devices.allow");
        let file = File::options().write(true).open(&path);
        let file = file.map_err(IsolatorError::file("opening", &path))?;
        for rule in &allowed {
            let written = rustix::io::write(&file, rule.to_string().as_bytes());
            written.map_err(|error| IsolatorError::file("writing", &path)(error.into()))?;
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.cgroups.remove("devices", id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also on a host whose limits are cgroup v1's: the program goes with v2 in any case.
    #[test]
    fn the_program_of_version_2_allows_and_denies() {
        let cgroups = Cgroups::discover("mesos".as_ref()).unwrap();
        let Some(v2) = cgroups.v2.filter(|_| rustix::process::geteuid().is_root()) else {
            println!("skipped: needs root and cgroup v2");
            return;
        };
        let cgroup = v2.join(format!("mesos-devices-{}", std::process::id()));
        std::fs::create_dir(&cgroup).unwrap();
        let rules: Vec<_> = DEFAULT.iter().map(|rule| rule.parse().unwrap()).collect();
        bpf::attach(&cgroup, &rules).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let script = "echo $$ > \"$0/cgroup.procs\" && cd \"$1\" && head -c 1 /dev/zero | wc -c; \
                      mknod kmsg c 1 11 && echo made; head -c 1 kmsg 2>/dev/null || echo denied; \
                      : < /dev/null && : > /dev/null && echo allowed";
        let mut shell = std::process::Command::new("sh");
        let output = shell
            .args(["-c", script])
            .arg(&cgroup)
            .arg(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        while std::fs::remove_dir(&cgroup).is_err() {
            std::thread::yield_now();
        }
        assert_eq!(text, "1\nmade\ndenied\nallowed\n");
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        for rule in DEFAULT {
            assert_eq!(rule.parse::<DeviceRule>().unwrap().to_string(), rule);
        }
        for rule in [
            "",
            "c 1:3",
            "x 1:3 r",
            "c 1 r",
            "c 1:3 rx",
            "c a:3 r",
            "c 1:3 r w",
        ] {
            assert!(rule.parse::<DeviceRule>().is_err(), "{rule}");
        }
    }
}
