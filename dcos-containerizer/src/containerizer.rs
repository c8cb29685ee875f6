//! The plug point that runs containers, and its words.
//!
//! [`Containerizer`] is what the agent, the hosted executors and the checks call. It owns
//! containers from launch to removal; tasks, updates and checkpoints of tasks are the agent's.
//!
//! | implementation | runs containers as | survives the agent |
//! |---|---|---|
//! | [`Universal`] | isolators shape them, the launcher makes them; the default | yes |
//! | [`Composing`] | the first of several that takes it | if all of them do |
//! | [`WithAdopted`] | another one's, and those an original Mesos agent left | yes |
//! | [`Processes`] | plain children of the calling process; a double for tests | no |

mod adopted;
mod composing;
mod error;
mod processes;
pub(crate) mod runtime;
pub mod sandbox;
mod termination;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod universal;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{
    CommandInfo, ContainerId, ContainerInfo, ContainerStatus, Resource, ResourceStatistics,
    container_info,
};

use crate::isolator::PersistentVolume;
pub use crate::logger::LogOrigin;
use crate::switchboard::Switchboard;
pub use adopted::WithAdopted;
pub use composing::Composing;
pub use error::ContainerizerError;
pub use processes::Processes;
pub use termination::ContainerTermination;
pub use universal::{
    LauncherProgram, SwitchboardProgram, Universal, UniversalConfig, launcher_socket,
};

/// Runs containers: one tree of processes each, confined, fetched for, logged.
///
/// A container is *launched*, it *ends* (by itself, by [`destroy`](Self::destroy), by a limit),
/// and stays known, with its [`ContainerTermination`], until it is *removed*.
///
/// # Contract
/// 1. [`recover`](Self::recover) is the first call, once; the others come in any order, also at
///    the same time. All take `&self` and may be repeated.
/// 2. When [`launch`](Self::launch) returns `Ok`, the container's program was executed. When it
///    returns an error, nothing of the container is left but its sandbox.
/// 3. Each container that was launched ends in exactly one termination. Every
///    [`wait`](Self::wait), however late, returns that one, until [`remove`](Self::remove).
/// 4. When a container ends, each process in it is gone, and so are the containers nested in it:
///    they are destroyed, and end, before it does.
/// 5. A container outlives the process that launched it, if the implementation says so
///    ([`survives`](Self::survives)); how it ended meanwhile is told by the next
///    [`recover`](Self::recover).
/// 6. Dropping a future changes nothing that was begun: a launch completes, a kill happens.
///
/// # Source
/// Mesos 1.11 `Containerizer` (`src/slave/containerizer/containerizer.hpp`). Departures: terminations
/// are kept until removal for root containers too, so that an agent that dies between
/// a container's end and its own checkpoint of it learns it again; a failed launch is an error of
/// `launch` and never a termination.
///
/// # Implementing
/// Run `containerizer::testkit::all` (feature `testkit`) in your tests.
#[async_trait]
pub trait Containerizer: fmt::Debug + Send + Sync + 'static {
    /// The name in logs and in `--containerizers`, such as `mesos`.
    fn name(&self) -> &'static str;

    /// Whether containers outlive the process that launched them.
    fn survives(&self) -> bool;

    /// Takes up what an earlier process launched.
    ///
    /// `known` are the root containers that the agent has checkpoints of. Those it does not know
    /// are destroyed and removed before this returns. The answer holds each of `known`, and each
    /// container nested in one of them.
    ///
    /// # Errors
    /// Only if the state of an earlier process cannot be read at all; a single damaged container
    /// is told as [`Recovered::Ended`].
    async fn recover(
        &self,
        known: &BTreeSet<ContainerId>,
    ) -> Result<BTreeMap<ContainerId, Recovered>, ContainerizerError>;

    /// Provisions, isolates, fetches and starts a container.
    ///
    /// Returns once its program runs. [`destroy`](Self::destroy) during the launch ends it with
    /// [`ContainerizerError::Destroyed`].
    ///
    /// # Errors
    /// [`Exists`](ContainerizerError::Exists) if the id is known already,
    /// [`NoParent`](ContainerizerError::NoParent) if it is nested and its parent does not run,
    /// [`Unsupported`](ContainerizerError::Unsupported) if another containerizer has to do it,
    /// [`Launch`](ContainerizerError::Launch) naming the step that failed.
    async fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
    ) -> Result<(), ContainerizerError>;

    /// Waits for a container's end.
    ///
    /// # Errors
    /// [`Unknown`](ContainerizerError::Unknown).
    async fn wait(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError>;

    /// Changes what a running container may use: `resources` are all it has from now on,
    /// `limits` (by name, `cpus` and `mem`, infinity allowed) what it may burst to.
    ///
    /// # Errors
    /// [`Unknown`](ContainerizerError::Unknown); [`Update`](ContainerizerError::Update) if a limit
    /// could not be set: those set before it stay.
    async fn update(
        &self,
        id: &ContainerId,
        resources: &[Resource],
        limits: &BTreeMap<String, Scalar>,
    ) -> Result<(), ContainerizerError>;

    /// What a container uses and may use, nested ones included; CPU times in seconds since launch.
    ///
    /// # Errors
    /// [`Unknown`](ContainerizerError::Unknown), also once it ended.
    async fn usage(&self, id: &ContainerId) -> Result<ResourceStatistics, ContainerizerError>;

    /// Its first process, addresses and cgroup settings.
    ///
    /// # Errors
    /// [`Unknown`](ContainerizerError::Unknown), also once it ended.
    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerizerError>;

    /// Sends `signal` to the container's command and its process group.
    ///
    /// # Errors
    /// [`Unknown`](ContainerizerError::Unknown). Signalling one that ended succeeds.
    async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerizerError>;

    /// Ends a container, whatever it is doing and whatever is left of it, and tells how it ended
    /// (as [`wait`](Self::wait) does).
    ///
    /// # Errors
    /// [`Unknown`](ContainerizerError::Unknown); [`Destroy`](ContainerizerError::Destroy) if
    /// something of it could not be cleaned up, after which `destroy` may be tried again.
    async fn destroy(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError>;

    /// Forgets a container that ended, and those nested in it. Unknown ones are fine. The
    /// sandbox is the agent's and stays.
    ///
    /// # Errors
    /// [`Running`](ContainerizerError::Running).
    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerizerError>;

    /// How to reach the standard streams of a container that was launched with a terminal or as
    /// a session. An implementation that has no such containers leaves it as it is.
    ///
    /// # Errors
    /// [`Unknown`](ContainerizerError::Unknown);
    /// [`NotAttachable`](ContainerizerError::NotAttachable) for any other container.
    async fn switchboard(&self, id: &ContainerId) -> Result<Switchboard, ContainerizerError> {
        Err(ContainerizerError::NotAttachable(id.clone()))
    }

    /// Each container that is known: being launched, running, or ended and not yet removed.
    async fn containers(&self) -> BTreeSet<ContainerId>;

    /// From which processes of this host containers descend. Asked whenever somebody who shows no credentials wants
    /// into a container, so quickly: what is not known at once is [hidden](Origins::hidden).
    async fn origins(&self) -> Origins;
}

/// From which processes of this host containers descend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// The first process of each container that runs.
    pub first: BTreeMap<u32, ContainerId>,
    /// Processes that have containers as children: what descends from them and from nothing in `first` is of a container
    /// that begins or ends at this moment.
    pub makers: BTreeSet<u32>,
    /// Something runs of which neither is known.
    pub hidden: bool,
}

impl Origins {
    /// Takes in what another knows.
    pub fn extend(&mut self, other: Self) {
        self.first.extend(other.first);
        self.makers.extend(other.makers);
        self.hidden |= other.hidden;
    }
}

/// What became of a container while nobody looked.
#[derive(Debug, Clone, PartialEq)]
pub enum Recovered {
    /// It runs.
    Running,
    /// It ended like this. One without a trace has a termination without a status.
    Ended(ContainerTermination),
}

/// Where programs are looked for when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to launch.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "wishes, each on its own")]
pub struct ContainerConfig {
    /// What the container is for.
    pub class: ContainerClass,
    /// What runs in it: shell or argv, the URIs fetched before, the `user`. Its environment is
    /// ignored. None in a holder.
    pub command: Option<CommandInfo>,
    /// Image, volumes, networks, Linux settings, terminal.
    pub container: Option<ContainerInfo>,
    /// What the container has, its nested containers included.
    pub resources: Vec<Resource>,
    /// What it may burst to, by name; infinity lifts a limit.
    pub limits: BTreeMap<String, Scalar>,
    /// The whole environment. An image's own variables are added where a name is missing, and
    /// `MESOS_SANDBOX` is set to where the sandbox is seen from inside.
    pub environment: BTreeMap<String, String>,
    /// The sandbox on the host; made if it is missing. Empty in a debug container: it uses its
    /// parent's.
    pub directory: PathBuf,
    /// Who the command runs as, unless `command.user` says so; absent, the agent's user.
    pub user: Option<String>,
    /// Where the command starts, as seen from inside; absent, the image's directory, then the
    /// sandbox.
    pub working_directory: Option<PathBuf>,
    /// Persistent volumes it finds in its sandbox.
    pub volumes: Vec<PersistentVolume>,
    /// Where the three standard streams lead, unless it has a terminal or is a session.
    pub stdio: Stdio,
    /// Its streams are kept for whoever attaches, from the first byte on: it waits for the first
    /// to listen. What it says is kept nowhere else.
    pub session: bool,
    /// Who is to make it, by a name the agent gave ([`oci::LABEL`](crate::oci::LABEL)); absent,
    /// whoever makes containers here.
    pub runtime: Option<String>,
    /// Nothing in the root of its image can be changed ([`isolator::READONLY_ROOTFS`]).
    ///
    /// [`isolator::READONLY_ROOTFS`]: crate::isolator::READONLY_ROOTFS
    pub readonly_rootfs: bool,
    /// Root in it is to be nobody on the node ([`isolator::USER_NAMESPACE`]).
    ///
    /// [`isolator::USER_NAMESPACE`]: crate::isolator::USER_NAMESPACE
    pub user_namespace: bool,
    /// It is an executor with a root of its own, in which it has to find the agent's socket.
    pub agent_socket: bool,
    /// Whose its output is.
    pub origin: Option<LogOrigin>,
    /// It belongs to nobody the agent knows, and is not ended by [`Containerizer::recover`].
    pub standalone: bool,
}

/// What a container is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerClass {
    /// A task or an executor.
    #[default]
    Task,
    /// Holds namespaces and cgroups for containers nested in it, and runs nothing itself.
    Holder,
    /// Enters its parent, sees what the parent sees, has its limits: checks, `exec` sessions.
    Debug,
}

impl ContainerConfig {
    /// Whether it enters its parent.
    pub fn is_debug(&self) -> bool {
        self.class == ContainerClass::Debug
    }

    /// Whether it asks for a Docker Engine.
    pub fn is_docker(&self) -> bool {
        self.container.as_ref().is_some_and(is_docker)
    }
}

/// Whether a container is to be run by a Docker Engine.
pub(crate) fn is_docker(container: &ContainerInfo) -> bool {
    container.r#type() == container_info::Type::Docker
}

/// Where the standard streams of a container lead.
#[derive(Debug, Clone, Default)]
pub struct Stdio {
    /// File descriptor 0.
    pub input: Stream,
    /// File descriptor 1.
    pub output: Stream,
    /// File descriptor 2.
    pub error: Stream,
}

impl Stdio {
    /// All three lead nowhere.
    pub fn null() -> Self {
        Self {
            input: Stream::Null,
            output: Stream::Null,
            error: Stream::Null,
        }
    }
}

/// Where one standard stream leads.
#[derive(Debug, Clone, Default)]
pub enum Stream {
    /// Output: to the container logger (by default the files `stdout` and `stderr` of the
    /// sandbox). Input: nowhere.
    #[default]
    Logger,
    /// Nowhere.
    Null,
    /// A file, pipe, socket or terminal that the caller opened.
    File(Arc<File>),
}
