//! `network/ports`: containers on the node's network listen on ports they were given, and no others.
//!
//! Every so often the sockets that listen on the node are compared with the open files of each
//! container's processes. What is found is told in the log, or ends the container
//! (`--enforce_container_ports`).
//!
//! # Source
//! Mesos 1.11 `network/ports` (`docs/isolators/network-ports.md`). That looks at IPv4 alone; here a
//! port taken over IPv6 is taken, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::value::{Range, Ranges, Type};
use dcos_proto::mesos::{ContainerId, Resource};

use super::cgroup::Cgroups;
use super::{ContainerConfig, Draft, Isolator, IsolatorError, Limitation, Limits};
use crate::procfs;

const NAME: &str = "network/ports";
/// Below the runtime directory.
const FOLDER: &str = "isolators/network/ports";

/// Ports, as ranges.
pub type Ports = Vec<RangeInclusive<u16>>;

/// What is watched, and how.
#[derive(Debug, Clone)]
pub struct PortsSettings {
    /// `--container_ports_watch_interval`.
    pub interval: Duration,
    /// `--enforce_container_ports`: end who listens elsewhere.
    pub enforce: bool,
    /// Only these ports are looked at (`--container_ports_isolated_range`, or the agent's own with
    /// `--check_agent_port_range_only`); absent, all.
    pub isolated: Option<Ports>,
}

/// Watches the ports that containers without a network of their own listen on.
#[derive(Debug)]
pub struct NetworkPortsIsolator {
    cgroups: Cgroups,
    controller: &'static str,
    settings: PortsSettings,
    folder: PathBuf,
    given: Mutex<BTreeMap<ContainerId, Ports>>,
    /// What was told of a container already.
    told: Mutex<BTreeMap<ContainerId, BTreeSet<u16>>>,
}

impl NetworkPortsIsolator {
    /// Notes which ports a container has are kept in `runtime_dir`.
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] without any cgroup to find processes by.
    pub fn new(
        cgroups: Cgroups,
        settings: PortsSettings,
        runtime_dir: &Path,
    ) -> Result<Self, IsolatorError> {
        let known = ["freezer", "pids", "memory", "cpu"];
        let controller = known.into_iter().find(|name| cgroups.has(name));
        let controller = controller.ok_or_else(|| IsolatorError::Unsupported {
            isolator: NAME,
            reason: "no cgroup controller is mounted by which processes could be found".into(),
        })?;
        Ok(Self {
            cgroups,
            controller,
            settings,
            folder: runtime_dir.join(FOLDER),
            given: Mutex::default(),
            told: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Ports>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, id: &ContainerId, ports: &Ports) -> Result<(), IsolatorError> {
        let file = self.folder.join(id.to_string());
        fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&file, text(ports)))
            .map_err(IsolatorError::file("writing", file))?;
        self.lock().insert(id.clone(), ports.clone());
        Ok(())
    }

    /// Ports that a container listens on without having been given them; nested ones may use all
    /// that their root was given.
    fn strange(&self, id: &ContainerId) -> BTreeSet<u16> {
        let Some(folder) = self.cgroups.folder(self.controller, id) else {
            return BTreeSet::new();
        };
        let given = self.lock();
        let mine = given.get(id.root_id()).cloned().unwrap_or_default();
        drop(given);
        let isolated = |port: &u16| {
            let ranges = self.settings.isolated.as_ref();
            ranges.is_none_or(|ranges| contains(ranges, *port))
        };
        listened_on(&folder.path)
            .into_iter()
            .filter(|port| isolated(port) && !contains(&mine, *port))
            .collect()
    }
}

fn contains(ranges: &Ports, port: u16) -> bool {
    ranges.iter().any(|range| range.contains(&port))
}

/// `1-2,5-5`.
fn text(ports: &Ports) -> String {
    let range = |range: &RangeInclusive<u16>| format!("{}-{}", range.start(), range.end());
    ports.iter().map(range).collect::<Vec<_>>().join(",")
}

/// Reads `[1-2, 5-5]` or `1-2,5-5`, as Mesos writes ranges.
///
/// # Errors
/// [`IsolatorError::Refused`] for anything else.
pub fn parse_ports(text: &str) -> Result<Ports, IsolatorError> {
    let wrong = || IsolatorError::refused(format!("`{text}` are no ranges of ports"));
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let range = |range: &str| {
        let (first, last) = range.trim().split_once('-')?;
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    inner
        .split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| range(part).ok_or_else(wrong))
        .collect()
}

/// Ports of the node's network that processes in `cgroup` and below listen on.
fn listened_on(cgroup: &Path) -> BTreeSet<u16> {
    let mut members = Vec::new();
    processes(cgroup, &mut members);
    if members.is_empty() {
        return BTreeSet::new();
    }
    let listening = procfs::sockets(|socket| socket.listens);
    let ports: BTreeMap<u64, u16> = listening
        .iter()
        .map(|socket| (socket.inode, socket.local.port()))
        .collect();
    // One of them may have ended meanwhile.
    let open = members.into_iter().flat_map(procfs::open_sockets);
    open.filter_map(|inode| ports.get(&inode).copied())
        .collect()
}

fn processes(cgroup: &Path, found: &mut Vec<u32>) {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            processes(&entry.path(), found);
        }
    }
}

fn limitation(ports: &BTreeSet<u16>) -> Limitation {
    let range = |port: &u16| Range {
        begin: u64::from(*port),
        end: u64::from(*port),
    };
    let numbers: Vec<_> = ports.iter().map(u16::to_string).collect();
    Limitation {
        resources: vec![Resource {
            name: "ports".to_owned(),
            r#type: Type::Ranges.into(),
            ranges: Some(Ranges {
                range: ports.iter().map(range).collect(),
            }),
            ..Resource::default()
        }],
        reason: Reason::ContainerLimitation.into(),
        message: format!(
            "Container is listening on unallocated port(s): {}",
            numbers.join(", ")
        ),
    }
}

#[async_trait]
impl Isolator for NetworkPortsIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            match containers.iter().find(|id| *name == *id.to_string()) {
                Some(id) => {
                    let text = fs::read_to_string(entry.path())
                        .map_err(IsolatorError::file("reading", entry.path()))?;
                    self.lock().insert(id.clone(), parse_ports(&text)?);
                }
                None => fs::remove_file(entry.path())
                    .map_err(IsolatorError::file("removing", entry.path()))?,
            }
        }
        self.cgroups
            .remove_unknown(self.controller, containers)
            .await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let networks = config.container.iter().flat_map(|info| &info.network_infos);
        // Who has an address of its own has all ports of it.
        let own_network = networks.into_iter().any(|network| network.name.is_some());
        let is_root = config.id.parent.is_none();
        if own_network || !(is_root || self.lock().contains_key(config.id.root_id())) {
            return Ok(());
        }
        self.cgroups.join(self.controller, &config.id, draft)?;
        if is_root {
            self.note(&config.id, &config.limits.ports)?;
        }
        Ok(())
    }

    async fn watch(&self, id: &ContainerId) -> Limitation {
        if !self.lock().contains_key(id.root_id()) {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(self.settings.interval).await;
            let strange = self.strange(id);
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let before = told.insert(id.clone(), strange.clone());
            if strange.is_empty() {
                continue;
            }
            let limitation = limitation(&strange);
            if before.as_ref() != Some(&strange) {
                tracing::warn!(container = %id, "{}", limitation.message);
            }
            if self.settings.enforce {
                return limitation;
            }
        }
    }

    async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        let known = self.lock().get(id).cloned();
        match known {
            Some(ports) if ports != limits.ports => self.note(id, &limits.ports),
            _ => Ok(()),
        }
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        let file = self.folder.join(id.to_string());
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(IsolatorError::file("removing", file)(error));
            }
            _ => {}
        }
        self.lock().remove(id);
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        self.cgroups.remove(self.controller, id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_ports("[1-2, 5-5]").unwrap(), [1..=2, 5..=5]);
        assert_eq!(text(&parse_ports("1-2,5-5").unwrap()), "1-2,5-5");
        assert_eq!(parse_ports("").unwrap(), []);
        for wrong in ["1", "1-x", "1-65536", "[a]"] {
            assert!(parse_ports(wrong).is_err(), "{wrong}");
        }
    }
}
