//! `posix/cpu` and `posix/mem`: measured from `/proc`, limiting nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use dcos_proto::mesos::{ContainerId, ResourceStatistics};

use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError, Limits};
use crate::procfs;

/// First processes of the containers and what they may take.
#[derive(Debug, Default)]
struct Known(Mutex<BTreeMap<ContainerId, (Option<u32>, Limits)>>);

impl Known {
    fn change(&self, id: &ContainerId, change: impl FnOnce(&mut (Option<u32>, Limits))) {
        change(self.lock().entry(id.clone()).or_default());
    }

    fn find(&self, id: &ContainerId) -> (Option<u32>, Limits) {
        self.lock().get(id).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ContainerId, (Option<u32>, Limits)>> {
        self.0.lock().expect("no panic happens under this lock")
    }
}

macro_rules! usage_isolator {
    ($(#[$meta:meta])* $type:ident, $name:literal, $measure:ident) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $type {
            known: Known,
        }

        #[async_trait]
        impl Isolator for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn supports_nesting(&self) -> bool {
                false
            }

            async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
                Ok(())
            }

            async fn prepare(
                &self,
                config: &ContainerConfig,
                _: &mut Draft,
            ) -> Result<(), IsolatorError> {
                self.known.change(&config.id, |known| known.1 = config.limits.clone());
                Ok(())
            }

            async fn isolate(&self, id: &ContainerId, pid: u32) -> Result<(), IsolatorError> {
                self.known.change(id, |known| known.0 = Some(pid));
                Ok(())
            }

            async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
                self.known.change(id, |known| known.1 = limits.clone());
                Ok(())
            }

            async fn usage(
                &self,
                id: &ContainerId,
                statistics: &mut ResourceStatistics,
            ) -> Result<(), IsolatorError> {
                let (pid, limits) = self.known.find(id);
                let processes = pid.map(tree).unwrap_or_default();
                $measure(&processes, &limits, statistics);
                Ok(())
            }

            async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
                self.known.lock().remove(id);
                Ok(())
            }
        }
    };
}

usage_isolator!(
    /// Measures the CPU time of a container's processes.
    PosixCpuIsolator,
    "posix/cpu",
    cpu
);
usage_isolator!(
    /// Measures the resident memory of a container's processes.
    PosixMemIsolator,
    "posix/mem",
    memory
);

fn cpu(processes: &[Process], limits: &Limits, statistics: &mut ResourceStatistics) {
    #[expect(clippy::cast_precision_loss, reason = "exact for 2,800 years")]
    // Ticks of USER_HZ, which is 100 on every architecture we run on.
    let seconds = |ticks: u64| ticks as f64 / 100.0;
    statistics.cpus_limit = limits.cpus_limit.filter(|cpus| cpus.is_finite());
    statistics.cpus_user_time_secs = Some(seconds(processes.iter().map(|p| p.user).sum()));
    statistics.cpus_system_time_secs = Some(seconds(processes.iter().map(|p| p.system).sum()));
    statistics.processes = u32::try_from(processes.len()).ok();
}

fn memory(processes: &[Process], limits: &Limits, statistics: &mut ResourceStatistics) {
    statistics.mem_limit_bytes = limits.hard_mem();
    statistics.mem_rss_bytes = Some(processes.iter().map(|p| p.resident).sum());
}

struct Process {
    /// CPU times in ticks.
    user: u64,
    system: u64,
    /// Resident memory, bytes.
    resident: u64,
}

/// The processes from `root` downwards.
fn tree(root: u32) -> Vec<Process> {
    let mut all = procfs::processes();
    let mut wanted = vec![root];
    let mut next = 0;
    while let Some(pid) = wanted.get(next).copied() {
        let below = all.iter().filter(|(_, process)| process.parent == pid);
        wanted.extend(below.map(|(pid, _)| *pid));
        next += 1;
    }
    let members = wanted.into_iter().filter_map(|pid| {
        let process = all.remove(&pid)?;
        Some(Process {
            user: process.user,
            system: process.system,
            resident: procfs::resident_bytes(pid).unwrap_or(0),
        })
    });
    members.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_measured() {
        let processes = tree(std::process::id());
        assert!(processes[0].resident > 100 << 10);
    }
}
