//! `cgroups/pids`: how many processes there are, and may be.

use async_trait::async_trait;
use dcos_proto::mesos::{ContainerId, ResourceStatistics};

use super::{Cgroups, read, write};
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError, owns};

const NAME: &str = "cgroups/pids";

/// Counts the processes and threads of a container, and stops it from making more than so many.
///
/// Mesos 1.11 only counts; a fork bomb there takes the node along.
#[derive(Debug)]
pub struct PidsIsolator {
    cgroups: Cgroups,
    limit: Option<u64>,
}

impl PidsIsolator {
    /// At most `limit` processes and threads in each container, its nested ones included.
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] without the `pids` controller.
    pub fn new(cgroups: Cgroups, limit: Option<u64>) -> Result<Self, IsolatorError> {
        cgroups.require("pids", NAME)?;
        Ok(Self { cgroups, limit })
    }
}

#[async_trait]
impl Isolator for PidsIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        self.cgroups.remove_unknown("pids", containers).await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let folder = self.cgroups.join("pids", &config.id, draft)?;
        match self.limit {
            Some(limit) if owns(config) => write(&folder.path.join("pids.max"), &limit.to_string()),
            _ => Ok(()),
        }
    }

    async fn usage(
        &self,
        id: &ContainerId,
        statistics: &mut ResourceStatistics,
    ) -> Result<(), IsolatorError> {
        let Some(folder) = self.cgroups.folder("pids", id) else {
            return Ok(());
        };
        let threads = read(&folder.path.join("pids.current"))?;
        statistics.threads = threads.trim().parse().ok();
        let processes = read(&folder.members().join("cgroup.procs"))?
            .lines()
            .count();
        statistics.processes = u32::try_from(processes).ok();
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.cgroups.remove("pids", id).await
    }
}
