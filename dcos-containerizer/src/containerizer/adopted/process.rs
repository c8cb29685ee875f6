//! The processes of a container, found from its first one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dcos_core::time::Time;
use dcos_proto::mesos::{ContainerId, ResourceStatistics};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::procfs;

/// Where the helper that an original agent puts around each container keeps how it ended.
const RUNTIME_DIRECTORY: &str = "MESOS_CONTAINERIZER_RUNTIME_DIRECTORY=";
/// Rounds of killing, for processes that are made meanwhile.
const ROUNDS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(20);

/// The first process of a container.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pid: u32,
    handle: Arc<OwnedFd>,
    runtime: PathBuf,
    /// The container's own cgroups, if it has any.
    cgroups: Vec<PathBuf>,
}

impl Process {
    /// The process `pid`, if it is the first one of container `id`: its number may belong to
    /// another one by now.
    pub(super) fn find(pid: u32, id: &ContainerId) -> Option<Self> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let handle = pidfd_open(number, PidfdFlags::empty()).ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let runtime = environment.split(|byte| *byte == 0).find_map(|variable| {
            let text = std::str::from_utf8(variable).ok()?;
            text.strip_prefix(RUNTIME_DIRECTORY).map(PathBuf::from)
        })?;
        let named = runtime.file_name().is_some_and(|name| name == &*id.value);
        named.then(|| Self {
            pid,
            handle: Arc::new(handle),
            runtime,
            cgroups: cgroups(pid, id),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns when the first process has ended.
    pub(super) async fn ended(&self) {
        let handle = Arc::clone(&self.handle);
        let Ok(handle) = watched(handle) else {
            return;
        };
        let _ = handle.readable().await;
    }

    /// How it ended, as its helper noted it.
    pub(super) fn status(&self) -> Option<i32> {
        let kept = fs::read_to_string(self.runtime.join("status")).ok()?;
        kept.trim().parse().ok()
    }

    /// Sends a signal to everything in the container.
    pub(super) fn signal(&self, signal: i32) {
        let Some(signal) = Signal::from_named_raw(signal) else {
            return;
        };
        for pid in self.everything() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }

    /// Ends everything in the container, and returns when it is gone.
    pub(super) async fn kill_all(&self) {
        let mut met: Vec<u32> = Vec::new();
        for _ in 0..ROUNDS {
            // Whoever was met once belongs to it, also when its parent is gone.
            met.extend(self.everything());
            met.sort_unstable();
            met.dedup();
            let table = table();
            let left: Vec<_> = related(&table, &met);
            if left.is_empty() {
                break;
            }
            for pid in &left {
                if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            met = left;
            tokio::time::sleep(PAUSE).await;
        }
        for cgroup in &self.cgroups {
            let _ = fs::remove_dir(cgroup);
        }
    }

    /// Every process of the container that has not ended.
    pub(super) fn everything(&self) -> Vec<u32> {
        let table = table();
        let mut all = related(&table, &[self.pid]);
        for cgroup in &self.cgroups {
            let members = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            all.extend(members.lines().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What all of them use.
    pub(super) fn usage(&self) -> ResourceStatistics {
        let table = table();
        let members = self.everything();
        let members = members
            .iter()
            .filter_map(|pid| Some((pid, table.get(pid)?)));
        let (mut user, mut system, mut resident, mut count) = (0, 0, 0, 0);
        for (pid, entry) in members {
            user += entry.user;
            system += entry.system;
            resident += procfs::resident_bytes(*pid).unwrap_or(0);
            count += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "exact for 2,800 years")]
        // Ticks of USER_HZ, which is 100 on every architecture we run on.
        let seconds = |ticks: u64| ticks as f64 / 100.0;
        ResourceStatistics {
            timestamp: Time::from_system(SystemTime::now()).as_secs_f64(),
            processes: Some(count),
            cpus_user_time_secs: Some(seconds(user)),
            cpus_system_time_secs: Some(seconds(system)),
            mem_rss_bytes: Some(resident),
            ..ResourceStatistics::default()
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is `unsafe`; nobody else owns or closes this descriptor"
)]
fn watched(handle: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    AsyncFd::with_interest(handle, Interest::READABLE)
}

/// Every process that has not ended.
fn table() -> BTreeMap<u32, procfs::Process> {
    let mut table = procfs::processes();
    table.retain(|_, process| !process.has_ended());
    table
}

/// `roots` that are alive, and all below them or in sessions and groups that they lead.
fn related(table: &BTreeMap<u32, procfs::Process>, roots: &[u32]) -> Vec<u32> {
    let mut found: Vec<u32> = roots.to_vec();
    let mut next = 0;
    while let Some(&known) = found.get(next) {
        for (pid, entry) in table {
            let belongs = [entry.parent, entry.session, entry.group].contains(&known);
            if belongs && !found.contains(pid) {
                found.push(*pid);
            }
        }
        next += 1;
    }
    found.retain(|pid| table.contains_key(pid));
    found
}

/// The cgroups that bear the container's name.
fn cgroups(pid: u32, id: &ContainerId) -> Vec<PathBuf> {
    let member = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let lines = member.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    });
    lines
        .filter(|(_, path)| path.ends_with(&*id.value))
        .map(|(controllers, path)| {
            let mount = controllers.trim_start_matches("name=");
            let root = PathBuf::from("/sys/fs/cgroup").join(mount);
            root.join(path.trim_start_matches('/'))
        })
        .filter(|path| path.is_dir())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(parent: u32, group: u32, session: u32) -> procfs::Process {
        procfs::Process {
            state: 'S',
            parent,
            group,
            session,
            user: 0,
            system: 0,
        }
    }

    #[test]
    fn a_session_belongs_to_its_leader() {
        let table = BTreeMap::from([
            (1, entry(0, 1, 1)),
            (10, entry(1, 10, 10)),
            (11, entry(10, 11, 11)),
            // Its parent ended, its session leader did not.
            (12, entry(1, 10, 10)),
            (20, entry(1, 20, 20)),
        ]);
        assert_eq!(related(&table, &[10]), [10, 11, 12]);
        // Its first process is gone already.
        assert_eq!(related(&table, &[11, 99]), [11]);
    }
}
