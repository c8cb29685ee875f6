//! `cgroups/cpuset`, `cgroups/hugetlb`, `cgroups/net_prio`, `cgroups/perf_event`: controllers that
//! a container has a cgroup of, and that nobody sets for it.
//!
//! Tools on the host (`perf stat -G`, `tc`, an operator's script) find the container there.

use std::path::Path;

use async_trait::async_trait;
use dcos_launcher::CgroupVersion;
use dcos_proto::mesos::ContainerId;

use super::{Cgroups, Folder, read, write};
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};

/// Gives containers a cgroup of one controller.
#[derive(Debug)]
pub struct MembershipIsolator {
    name: &'static str,
    controller: &'static str,
    cgroups: Cgroups,
}

impl MembershipIsolator {
    /// `cgroups/cpuset`: a container may use the processors and memory nodes of our own cgroup.
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] without the controller; so do the others here.
    pub fn cpuset(cgroups: Cgroups) -> Result<Self, IsolatorError> {
        Self::new("cgroups/cpuset", "cpuset", cgroups)
    }

    /// `cgroups/hugetlb`.
    ///
    /// # Errors
    /// See [`cpuset`](Self::cpuset).
    pub fn hugetlb(cgroups: Cgroups) -> Result<Self, IsolatorError> {
        Self::new("cgroups/hugetlb", "hugetlb", cgroups)
    }

    /// `cgroups/net_prio`; cgroup v1 only.
    ///
    /// # Errors
    /// See [`cpuset`](Self::cpuset).
    pub fn net_prio(cgroups: Cgroups) -> Result<Self, IsolatorError> {
        Self::new("cgroups/net_prio", "net_prio", cgroups)
    }

    /// `cgroups/perf_event`.
    ///
    /// # Errors
    /// See [`cpuset`](Self::cpuset).
    pub fn perf_event(cgroups: Cgroups) -> Result<Self, IsolatorError> {
        Self::new("cgroups/perf_event", "perf_event", cgroups)
    }

    fn new(
        name: &'static str,
        controller: &'static str,
        cgroups: Cgroups,
    ) -> Result<Self, IsolatorError> {
        cgroups.require(controller, name)?;
        Ok(Self {
            name,
            controller,
            cgroups,
        })
    }
}

/// Makes a cpuset of version 1 one that processes can join: a new one has neither processors nor
/// memory nodes, and takes only what its parent has.
fn fill(hierarchy: &Path, folder: &Path) -> Result<(), IsolatorError> {
    let mut above: Vec<_> = folder
        .ancestors()
        .take_while(|path| *path != hierarchy)
        .collect();
    above.reverse();
    for path in above {
        let parent = path.parent().unwrap_or(hierarchy);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if read(&path.join(file))?.trim().is_empty() {
                write(&path.join(file), read(&parent.join(file))?.trim())?;
            }
        }
    }
    Ok(())
}

#[async_trait]
impl Isolator for MembershipIsolator {
    fn name(&self) -> &'static str {
        self.name
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
        let folder = self.cgroups.folder(self.controller, &config.id);
        if let (
            "cpuset",
            Some(Folder {
                path,
                version: CgroupVersion::V1,
            }),
        ) = (self.controller, folder)
        {
            self.cgroups.make(&path)?;
            fill(&self.cgroups.v1[self.controller], &path)?;
        }
        self.cgroups
            .join(self.controller, &config.id, draft)
            .map(drop)
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.cgroups.remove(self.controller, id).await
    }
}
