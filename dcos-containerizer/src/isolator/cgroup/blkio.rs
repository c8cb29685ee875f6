//! `cgroups/blkio`: what a container reads from and writes to block devices.
//!
//! Version 1 tells of two layers: what throttling let through, and what the scheduler of the
//! device counted (`cfq` in the messages, a name the kernel has given up: `bfq` counts the same).
//! Version 2's `io.stat` has one, which is told as throttling.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dcos_launcher::CgroupVersion;
use dcos_proto::mesos::cgroup_info::blkio::{Operation, Statistics, Value, cfq, throttling};
use dcos_proto::mesos::{ContainerId, ResourceStatistics, device};
use serde::Deserialize;

use super::{Cgroups, read, write};
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};

const NAME: &str = "cgroups/blkio";

/// How fast a root container and what is nested in it may read from and write to a block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoLimit {
    /// The device's node; a whole disk, not a part of one.
    pub device: PathBuf,
    /// Bytes read a second.
    pub rbps: Option<u64>,
    /// Bytes written a second.
    pub wbps: Option<u64>,
    /// Reads a second.
    pub riops: Option<u64>,
    /// Writes a second.
    pub wiops: Option<u64>,
}

impl IoLimit {
    /// What is written where, in the folder of a container.
    fn settings(
        &self,
        version: CgroupVersion,
    ) -> Result<Vec<(&'static str, String)>, IsolatorError> {
        let found = self
            .device
            .metadata()
            .map_err(IsolatorError::file("looking at device", &self.device))?;
        let (major, minor) = (
            rustix::fs::major(found.rdev()),
            rustix::fs::minor(found.rdev()),
        );
        let all = [
            ("rbps", "blkio.throttle.read_bps_device", self.rbps),
            ("wbps", "blkio.throttle.write_bps_device", self.wbps),
            ("riops", "blkio.throttle.read_iops_device", self.riops),
            ("wiops", "blkio.throttle.write_iops_device", self.wiops),
        ];
        let set = all
            .iter()
            .filter_map(|(key, file, value)| Some((key, *file, (*value)?)));
        Ok(match version {
            CgroupVersion::V1 => set
                .map(|(_, file, value)| (file, format!("{major}:{minor} {value}")))
                .collect(),
            CgroupVersion::V2 => {
                let words = set.map(|(key, _, value)| format!(" {key}={value}"));
                vec![(
                    "io.max",
                    format!("{major}:{minor}{}", words.collect::<String>()),
                )]
            }
        })
    }
}

/// Measures the traffic of containers with block devices, and slows it down to limits.
#[derive(Debug)]
pub struct BlkioIsolator {
    cgroups: Cgroups,
    controller: &'static str,
    limits: Vec<IoLimit>,
}

impl BlkioIsolator {
    /// With `limits` for each root container. On version 1 the controller is `blkio`, and counts
    /// and slows down what goes around the page cache only; on version 2 it is `io`.
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] with neither.
    pub fn new(cgroups: Cgroups, limits: Vec<IoLimit>) -> Result<Self, IsolatorError> {
        let controller = if cgroups.has("io") { "io" } else { "blkio" };
        cgroups.require(controller, NAME)?;
        Ok(Self {
            cgroups,
            controller,
            limits,
        })
    }
}

/// A device; none for the sum of all.
type Number = Option<(u64, u64)>;

/// Lines of `major:minor Operation value`, `major:minor value`, and a last `Total value`.
fn lines(text: &str) -> Vec<(Number, Operation, u64)> {
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (last, before) = words.split_last()?;
        let value = last.parse().ok()?;
        let number = before.first().and_then(|word| {
            let (major, minor) = word.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let operation = match before.last() {
            Some(&"Read") => Operation::Read,
            Some(&"Write") => Operation::Write,
            Some(&"Sync") => Operation::Sync,
            Some(&"Async") => Operation::Async,
            Some(&"Discard") => Operation::Discard,
            Some(&"Total") => Operation::Total,
            _ => Operation::Unknown,
        };
        Some((number, operation, value))
    };
    text.lines().filter_map(line).collect()
}

fn value(operation: Operation, value: u64) -> Value {
    Value {
        op: Some(operation.into()),
        value: Some(value),
    }
}

fn number(number: Number) -> Option<device::Number> {
    number.map(|(major_number, minor_number)| device::Number {
        major_number,
        minor_number,
    })
}

fn throttling(folder: &Path, suffix: &str) -> Vec<throttling::Statistics> {
    let mut found: BTreeMap<Number, throttling::Statistics> = BTreeMap::new();
    let files = ["io_serviced", "io_service_bytes"];
    for (place, name) in files.into_iter().enumerate() {
        let text = read(&folder.join(format!("blkio.throttle.{name}{suffix}")));
        for (device, operation, count) in lines(&text.unwrap_or_default()) {
            let statistics = found.entry(device).or_default();
            statistics.device = number(device);
            let list = if place == 0 {
                &mut statistics.io_serviced
            } else {
                &mut statistics.io_service_bytes
            };
            list.push(value(operation, count));
        }
    }
    found.into_values().collect()
}

fn scheduled(folder: &Path, suffix: &str) -> Vec<cfq::Statistics> {
    let mut found: BTreeMap<Number, cfq::Statistics> = BTreeMap::new();
    for name in [
        "time",
        "sectors",
        "io_serviced",
        "io_service_bytes",
        "io_service_time",
        "io_wait_time",
        "io_merged",
        "io_queued",
    ] {
        let file = |prefix: &str| read(&folder.join(format!("blkio.{prefix}{name}{suffix}")));
        let text = file("").or_else(|_| file("bfq.")).unwrap_or_default();
        for (device, operation, count) in lines(&text) {
            let statistics = found.entry(device).or_default();
            statistics.device = number(device);
            let counted = value(operation, count);
            match name {
                "time" => statistics.time = Some(count),
                "sectors" => statistics.sectors = Some(count),
                "io_serviced" => statistics.io_serviced.push(counted),
                "io_service_bytes" => statistics.io_service_bytes.push(counted),
                "io_service_time" => statistics.io_service_time.push(counted),
                "io_wait_time" => statistics.io_wait_time.push(counted),
                "io_merged" => statistics.io_merged.push(counted),
                _ => statistics.io_queued.push(counted),
            }
        }
    }
    found.into_values().collect()
}

/// From `io.stat`: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn unified(text: &str) -> Vec<throttling::Statistics> {
    let line = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let device = Some((major.parse().ok()?, minor.parse().ok()?));
        let mut statistics = throttling::Statistics {
            device: number(device),
            ..throttling::Statistics::default()
        };
        for (key, count) in rest.split(' ').filter_map(|word| word.split_once('=')) {
            let Ok(count) = count.parse() else { continue };
            let operation = match key.chars().next() {
                Some('r') => Operation::Read,
                Some('w') => Operation::Write,
                _ => Operation::Discard,
            };
            match key {
                "rbytes" | "wbytes" | "dbytes" => {
                    statistics.io_service_bytes.push(value(operation, count));
                }
                "rios" | "wios" | "dios" => statistics.io_serviced.push(value(operation, count)),
                _ => {}
            }
        }
        Some(statistics)
    };
    text.lines().filter_map(line).collect()
}

#[async_trait]
impl Isolator for BlkioIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        self.cgroups
            .remove_unknown(self.controller, containers)
            .await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let folder = self.cgroups.join(self.controller, &config.id, draft)?;
        for limit in self.limits.iter().filter(|_| config.id.parent.is_none()) {
            for (file, line) in limit.settings(folder.version)? {
                write(&folder.path.join(file), &line)?;
            }
        }
        Ok(())
    }

    async fn usage(
        &self,
        id: &ContainerId,
        statistics: &mut ResourceStatistics,
    ) -> Result<(), IsolatorError> {
        let Some(folder) = self.cgroups.folder(self.controller, id) else {
            return Ok(());
        };
        statistics.blkio_statistics = Some(match folder.version {
            CgroupVersion::V1 => Statistics {
                cfq: scheduled(&folder.path, ""),
                cfq_recursive: scheduled(&folder.path, "_recursive"),
                throttling: throttling(&folder.path, ""),
            },
            CgroupVersion::V2 => Statistics {
                throttling: unified(&read(&folder.path.join("io.stat"))?),
                ..Statistics::default()
            },
        });
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.cgroups.remove(self.controller, id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_for_both_versions() {
        let limit = IoLimit {
            device: "/dev/null".into(),
            rbps: Some(1000),
            wiops: Some(5),
            ..IoLimit::default()
        };
        let first = limit.settings(CgroupVersion::V1).unwrap();
        let expected = [
            ("blkio.throttle.read_bps_device", "1:3 1000"),
            ("blkio.throttle.write_iops_device", "1:3 5"),
        ];
        assert_eq!(first, expected.map(|(file, line)| (file, line.to_owned())));
        let second = limit.settings(CgroupVersion::V2).unwrap();
        assert_eq!(second, [("io.max", "1:3 rbps=1000 wiops=5".to_owned())]);
    }

    #[test]
    fn both_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        let serviced = "8:0 Read 3\n8:0 Write 4\n8:0 Total 7\nTotal 7\n";
        write("blkio.throttle.io_serviced", serviced).unwrap();
        write("blkio.throttle.io_service_bytes", "8:0 Read 4096\n").unwrap();
        let found = throttling(folder.path(), "");
        assert_eq!(found.len(), 2, "{found:?}");
        let all = value(Operation::Total, 7);
        assert_eq!((found[0].device, &found[0].io_serviced), (None, &vec![all]));
        assert_eq!(found[1].device, number(Some((8, 0))));
        assert_eq!(found[1].io_serviced.len(), 3);
        assert_eq!(
            found[1].io_service_bytes,
            [value(Operation::Read, 4096)],
            "of the same device"
        );

        write("blkio.bfq.io_serviced_recursive", serviced).unwrap();
        write("blkio.time_recursive", "8:0 12\n").unwrap();
        let found = scheduled(folder.path(), "_recursive");
        assert_eq!((found[1].time, found[1].io_serviced.len()), (Some(12), 3));

        let text = "254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n";
        let found = unified(text);
        assert_eq!(found[0].io_serviced[0], value(Operation::Read, 1));
        assert_eq!(found[0].io_service_bytes[0], value(Operation::Read, 4096));
    }
}
