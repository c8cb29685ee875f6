//! Isolators: each confines one aspect of a container.
//!
//! A container is made from a [`Draft`]: an OCI runtime spec and what that format has no word
//! for. Each [`Isolator`] of the [`Isolators`] of a node edits the draft and owns the lifetime of
//! one kind of resource on the host (a cgroup, a mount, a folder); the sum of all is complete,
//! and becomes the launcher's plan through [`Draft::to_plan`].
//!
//! What runs a container is the containerizer's business, not theirs.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use async_trait::async_trait;
use dcos_proto::mesos::{
    CommandInfo, ContainerId, ContainerInfo, ContainerStatus, Resource, ResourceStatistics,
};

pub mod cgroup;
mod config;
pub mod devices;
pub mod disk;
mod draft;
pub mod filesystem;
mod gids;
pub mod gpu;
mod ids;
pub mod landlock;
pub mod linux;
pub mod listening;
mod mounted;
pub mod namespaces;
pub mod network;
mod notes;
mod options;
pub(crate) mod patience;
pub(crate) mod persistent;
pub(crate) mod place;
mod plan;
pub mod posix;
pub mod seccomp;
pub mod secret;
mod set;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub(crate) mod users;
pub mod volume;

pub use config::{IsolationConfig, NETWORK_ROOT, READONLY_ROOTFS};
pub use draft::Draft;
pub use gids::VolumeGids;
pub use ids::{IdRange, Ids, USER_NAMESPACE, UserNamespaces};
pub use options::OPTIONS;
pub use persistent::PersistentVolume;
pub use set::Isolators;

/// Confines one aspect of a container: CPU time, memory, devices, a network, ...
///
/// # Contract
/// 1. Order of calls for a container: `prepare`, `isolate`, any number of `update`, `usage`,
///    `status` and one pending `watch`, then `cleanup`. After a restart of the agent `recover`
///    comes before all, once.
/// 2. Repeating a call changes nothing; `cleanup` of an unknown container succeeds.
/// 3. After a failed `prepare` the caller calls `cleanup`.
/// 4. A future dropped half-way leaves either the old limits or the new, never a mix.
/// 5. Containers that `recover` does not name are gone: what is left of them is removed.
///
/// The methods with a default are events that most isolators have no part in; those without are
/// the ones that leave something behind on the host when forgotten.
///
/// # Source
/// Mesos 1.11 `Isolator` (`include/mesos/slave/isolator.hpp`). There, what an isolator wants is
/// returned as a `ContainerLaunchInfo` and merged; here it edits the draft in its turn.
#[async_trait]
pub trait Isolator: Send + Sync + fmt::Debug {
    /// Its name in `--isolation`, as Mesos spells it: `cgroups/mem`.
    fn name(&self) -> &'static str;

    /// Whether nested containers pass through it too; otherwise they share what their root has.
    fn supports_nesting(&self) -> bool;

    /// Takes up the containers that survived a restart of the agent.
    ///
    /// # Errors
    /// [`IsolatorError`] if what is found on the host contradicts it.
    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError>;

    /// Makes what the container needs on the host and writes it into `draft`.
    ///
    /// # Errors
    /// [`IsolatorError`]; the container will not be made.
    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError>;

    /// The container's first process exists, as `pid` of the host; its program may run already.
    ///
    /// # Errors
    /// [`IsolatorError`]; the container will be killed.
    async fn isolate(&self, id: &ContainerId, pid: u32) -> Result<(), IsolatorError> {
        let _ = (id, pid);
        Ok(())
    }

    /// Waits until the container takes more than it may have; for ever if that cannot happen.
    ///
    /// The caller kills the container and tells `Limitation` as the reason.
    async fn watch(&self, id: &ContainerId) -> Limitation {
        let _ = id;
        std::future::pending().await
    }

    /// Applies new limits to a running container.
    ///
    /// # Errors
    /// [`IsolatorError`]; the old limits are in force then.
    async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        let _ = (id, limits);
        Ok(())
    }

    /// Adds what it measures of the container to `statistics`.
    ///
    /// # Errors
    /// [`IsolatorError`] if a kernel file cannot be read.
    async fn usage(
        &self,
        id: &ContainerId,
        statistics: &mut ResourceStatistics,
    ) -> Result<(), IsolatorError> {
        let _ = (id, statistics);
        Ok(())
    }

    /// Adds what it knows of the container (addresses, class ids) to `status`.
    ///
    /// # Errors
    /// [`IsolatorError`] if it cannot be found out.
    async fn status(
        &self,
        id: &ContainerId,
        status: &mut ContainerStatus,
    ) -> Result<(), IsolatorError> {
        let _ = (id, status);
        Ok(())
    }

    /// Removes what `prepare` made; all processes of the container are gone.
    ///
    /// # Errors
    /// [`IsolatorError`]; the caller may try again.
    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError>;
}

/// What a container is to be: the input of [`Isolator::prepare`].
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing")]
pub struct ContainerConfig {
    /// Its id; nested if it has a parent.
    pub id: ContainerId,
    /// What it runs. `uris` are fetched by then; of its `environment` only the secrets are looked at, see below.
    pub command: CommandInfo,
    /// What Mesos was told about it.
    pub container: Option<ContainerInfo>,
    /// The complete environment, in order.
    pub environment: Vec<(String, String)>,
    /// Resources it was given.
    pub limits: Limits,
    /// User name or number; absent, the agent's own.
    pub user: Option<String>,
    /// Its sandbox on the host.
    pub sandbox: PathBuf,
    /// Its root on the host, made by the provisioner; absent, it sees the host's.
    pub rootfs: Option<PathBuf>,
    /// Folders of the host that hold what is written to that root.
    pub ephemeral: Vec<PathBuf>,
    /// First process of the parent of a nested container.
    pub parent_pid: Option<u32>,
    /// Sandbox of the parent of a nested container, on the host.
    pub parent_sandbox: Option<PathBuf>,
    /// Persistent volumes of the parent of a nested container, which are in that sandbox.
    pub parent_volumes: Vec<PersistentVolume>,
    /// A debug session: it enters the parent's mounts and environment instead of having its own.
    pub debug: bool,
    /// Runs nothing: holds namespaces and cgroups for what is nested in it.
    pub holder: bool,
    /// Nothing in the root of its image can be changed.
    pub readonly_rootfs: bool,
    /// It has to find the agent's socket in its root.
    pub agent_socket: bool,
    /// Persistent volumes it finds in its sandbox.
    pub volumes: Vec<PersistentVolume>,
    /// Ids of its own, in a user namespace; absent, it has the node's.
    pub ids: Option<Ids>,
}

impl ContainerConfig {
    /// Whether the container has its own file system.
    pub fn has_rootfs(&self) -> bool {
        self.rootfs.is_some()
    }
}

/// Whether limits of its own are set for a container: nested ones share those of their root,
/// unless they asked for their own.
pub(crate) fn owns(config: &ContainerConfig) -> bool {
    let shares = || {
        let linux = config.container.as_ref()?.linux_info.as_ref()?;
        linux.share_cgroups
    };
    config.id.parent.is_none() || (!config.debug && shares() == Some(false))
}

/// How much a container may take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Share of CPU time that is kept for it, in cores.
    pub cpus: Option<f64>,
    /// Some of `cpus` can be taken away from it: it comes after all others.
    pub revocable_cpus: bool,
    /// CPU time it may take at most, in cores; infinite if it may take all. Absent: as `cpus`
    /// where the agent enforces quotas.
    pub cpus_limit: Option<f64>,
    /// Memory that is kept for it, bytes.
    pub mem: Option<u64>,
    /// Memory it may take at most, bytes; `u64::MAX` is unlimited. Absent: as `mem`.
    pub mem_limit: Option<u64>,
    /// Disk that is kept for it: of its sandbox, and of its persistent volumes.
    pub disks: Vec<Resource>,
    /// GPUs it has; whole ones.
    pub gpus: f64,
    /// Ports of the node it may listen on.
    pub ports: Vec<RangeInclusive<u16>>,
}

impl Limits {
    /// Memory at which the container ends.
    pub fn hard_mem(&self) -> Option<u64> {
        self.mem_limit.or(self.mem)
    }
}

/// A container took more than it may have.
#[derive(Debug, Clone, PartialEq)]
pub struct Limitation {
    /// What it took too much of.
    pub resources: Vec<Resource>,
    /// `TaskStatus.Reason` to tell.
    pub reason: i32,
    /// For people, with the usage.
    pub message: String,
}

/// Why an isolator could not do its part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolatorError {
    /// This host lacks the mechanism; nothing has changed.
    #[error("isolator `{isolator}` is not supported by this host: {reason}")]
    Unsupported {
        /// Which isolator.
        isolator: &'static str,
        /// What is missing.
        reason: String,
    },
    /// There is no isolator of that name.
    #[error("unknown isolator `{name}`: take it off --isolation; what modules bring is not loaded")]
    UnknownIsolator {
        /// The name.
        name: String,
    },
    /// The container asks for something that it cannot get.
    #[error("{reason}")]
    Refused {
        /// What, and why not.
        reason: String,
    },
    /// A file of the host or the kernel could not be handled.
    #[error("{doing} {path:?}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A volume is not available, or still is.
    #[error(transparent)]
    Volume(#[from] dcos_volume::VolumeError),
    /// A seccomp profile cannot be compiled.
    #[error("compiling the seccomp profile: {reason}")]
    Seccomp {
        /// Why.
        reason: String,
    },
}

impl IsolatorError {
    /// A [`IsolatorError::File`] from a system error, for `map_err`.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }

    /// A [`IsolatorError::Refused`].
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused {
            reason: reason.into(),
        }
    }
}
