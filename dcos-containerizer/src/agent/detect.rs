//! What the node has and is called.
//!
//! Source: Mesos 1.11 `Containerizer::resources` (`src/slave/containerizer/containerizer.cpp`).

use std::io;
use std::net::IpAddr;
use std::path::Path;

use dcos_core::resources::{Ranges, Resources, ranges_resource, scalar_resource};

const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

/// The capacities of a node, in bytes and cores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Processors.
    pub cpus: f64,
    /// Main memory.
    pub memory: u64,
    /// The file system of the work directory.
    pub disk: u64,
    /// GPUs that containers can get; not detected here, but by what isolates them.
    pub gpus: u32,
}

impl Capacity {
    /// What this node has, `work_dir` being on its file system.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn of_this_node(work_dir: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(work_dir)?;
        let info = rustix::system::sysinfo();
        let cpus = std::thread::available_parallelism()?.get();
        Ok(Self {
            cpus: f64::from(u32::try_from(cpus).unwrap_or(u32::MAX)),
            memory: info.totalram * u64::from(info.mem_unit),
            disk: disk.f_blocks * disk.f_frsize,
            gpus: 0,
        })
    }

    /// What is offered: memory and disk leave something for the system.
    #[expect(clippy::cast_precision_loss, reason = "megabytes fit a double exactly")]
    pub fn to_resources(self) -> Resources {
        let keep = |total: u64, reserve: u64| {
            if total < 2 * reserve {
                total / 2
            } else {
                total - reserve
            }
        };
        let memory = keep(self.memory, GB) / MB;
        let disk = keep(self.disk, 5 * GB) / MB;
        let ports = Ranges::from_pairs([(31_000, 32_000)]);
        let all = [
            scalar_resource("cpus", self.cpus),
            scalar_resource("mem", memory as f64),
            scalar_resource("disk", disk as f64),
            ranges_resource("ports", &ports),
        ];
        let gpus = (self.gpus > 0).then(|| scalar_resource("gpus", f64::from(self.gpus)));
        all.iter().chain(&gpus).collect()
    }
}

/// `given`, and of `detected` what `given` does not name.
pub fn complete(given: &Resources, detected: &Resources) -> Resources {
    let missing = detected.filter(|resource| !given.names().contains(resource.name.as_str()));
    given + &missing
}

/// The share of a file system that is in use.
///
/// # Errors
/// If the kernel does not tell.
#[expect(
    clippy::cast_precision_loss,
    reason = "a share needs no more precision"
)]
pub fn disk_usage(path: &Path) -> io::Result<f64> {
    let disk = rustix::fs::statvfs(path)?;
    let taken = disk.f_blocks.saturating_sub(disk.f_bfree);
    Ok(taken as f64 / (disk.f_blocks.max(1)) as f64)
}

/// The host's name.
pub fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The address by which other machines know this one, when listening on `bound`: for a wildcard,
/// the one from which this host would talk to `peer`.
pub fn address(bound: IpAddr, peer: IpAddr) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    let any: IpAddr = if peer.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    // Connecting a datagram socket sends nothing; it only chooses a route.
    let route = std::net::UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((peer, 9))?;
        socket.local_addr()
    });
    route.map_or(bound, |local| local.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_nodes_offer_half() {
        let text = |memory, disk| {
            Capacity {
                cpus: 2.0,
                memory,
                disk,
                gpus: 0,
            }
            .to_resources()
            .to_string()
        };
        let small = text(GB, 4 * GB);
        assert!(
            small.contains("mem:512") && small.contains("disk:2048"),
            "{small}"
        );
        let large = text(8 * GB, 100 * GB);
        assert!(
            large.contains("mem:7168") && large.contains("disk:97280"),
            "{large}"
        );
        assert!(large.contains("ports:[31000-32000]"), "{large}");
    }

    #[test]
    fn what_an_operator_says_is_not_detected() {
        let given: Resources = "cpus:1;mem:100".parse().unwrap();
        let detected = Capacity {
            cpus: 8.0,
            memory: 4 * GB,
            disk: 20 * GB,
            gpus: 2,
        }
        .to_resources();
        let all = complete(&given, &detected);
        assert_eq!(
            (all.cpus(), all.mem(), all.disk(), all.gpus()),
            (Some(1.0), Some(100.0), Some(15360.0), Some(2.0))
        );
    }
}
