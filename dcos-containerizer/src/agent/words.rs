//! What goes into the agent's core and what comes out of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dcos_proto::internal::{
    AcknowledgeOperationStatusMessage, ApplyOperationMessage, AuthenticateMessage,
    AuthenticationCompletedMessage, AuthenticationErrorMessage, AuthenticationFailedMessage,
    AuthenticationMechanismsMessage, AuthenticationStartMessage, AuthenticationStepMessage,
    CheckpointResourcesMessage, DrainSlaveMessage, ExecutorToFrameworkMessage,
    ExitedExecutorMessage, FrameworkToExecutorMessage, KillTaskMessage, PingSlaveMessage,
    PongSlaveMessage, ReconcileOperationsMessage, ReconnectExecutorMessage,
    RegisterExecutorMessage, RegisterSlaveMessage, ReregisterExecutorMessage,
    ReregisterSlaveMessage, RunTaskGroupMessage, RunTaskMessage, ShutdownExecutorMessage,
    ShutdownFrameworkMessage, ShutdownMessage, SlaveRegisteredMessage, SlaveReregisteredMessage,
    StatusUpdateAcknowledgementMessage, StatusUpdateMessage, UnregisterSlaveMessage,
    UpdateFrameworkMessage, UpdateOperationStatusMessage, UpdateSlaveMessage,
};
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{
    CheckStatusInfo, ContainerId, ContainerStatus, Resource, TaskId, TaskInfo,
};
use dcos_proto::{DecodeError, Message, decode, executor};
use dcos_security::{Authorizer, Credential, Secret};

use super::gc::Remains;
use super::hooks::Hooks;
use super::operations::VolumeWork;
use super::records::ExecutorKey;
use super::sandboxes::Sandbox;
use super::security::Patience;
use crate::checkpoint::Write;
use crate::containerizer::{ContainerConfig, ContainerTermination};
use crate::isolator::PersistentVolume;
use crate::oversubscription::QosCorrection;

/// What the core knows of its configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Mesos version it answers to; masters refuse agents below 1.0.0.
    pub version: String,
    /// Its UPID, such as `slave(1)@10.0.0.7:5051`.
    pub pid: String,
    /// Where executors reach it: `ip:port`.
    pub endpoint: String,
    /// The directory of sandboxes and checkpoints.
    pub work_dir: PathBuf,
    /// Upper bound of the first, random delay before it registers; doubles up to a minute.
    pub registration_backoff_factor: Duration,
    /// How long a custom executor may take from its launch to its registration.
    pub executor_registration_timeout: Duration,
    /// How long a restarted agent waits for its custom executors.
    pub executor_reregistration_timeout: Duration,
    /// How often drivers that do not come back are called again meanwhile; never, if absent.
    pub executor_reregistration_retry_interval: Option<Duration>,
    /// How long an executor may take to end after SHUTDOWN.
    pub executor_shutdown_grace_period: Duration,
    /// The same for a task that a Docker Engine runs, after SIGTERM; absent, as long as that.
    pub docker_stop_timeout: Option<Duration>,
    /// How long an executor may outlive the agent.
    pub recovery_timeout: Duration,
    /// How long sandboxes are kept on an empty disk.
    pub gc_delay: Duration,
    /// The share of the disk that is kept free of sandboxes.
    pub gc_disk_headroom: f64,
    /// How many ended executors of a framework are remembered.
    pub max_completed_executors_per_framework: usize,
    /// Whether tasks run as their user instead of the agent's.
    pub switch_user: bool,
    /// What each executor finds in its environment besides what Mesos promises.
    pub executor_environment: BTreeMap<String, String>,
    /// The socket by which executors reach it without the network.
    pub executor_socket: Option<PathBuf>,
    /// What it shows the master before it registers.
    pub credential: Option<Credential>,
    /// How long the master may take to look at it.
    pub patience: Patience,
    /// What the tokens of executors are signed with.
    pub executor_key: Option<Secret>,
    /// Whether executors on the libmesos driver are heard, which have no token to show.
    pub drivers: bool,
    /// Decides as whom tasks may run; absent, as anybody.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// What an operator's own code adds.
    pub hooks: Hooks,
}

/// Something happened.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "short-lived, never stored in numbers"
)]
pub enum Input {
    /// The leading master is this one, or nobody knows.
    Detected(Option<String>),
    /// The connection to the master broke.
    Disconnected(String),
    /// The master, or one of its parts, sent a message.
    Message {
        /// The sender's UPID.
        from: String,
        /// What it says.
        message: FromMaster,
    },
    /// An executor opened its event stream.
    Subscribe(ExecutorKey, executor::call::Subscribe),
    /// An executor on the libmesos driver, or whoever says so, sent a message.
    Driver {
        /// The sender's UPID.
        from: String,
        /// What it says.
        message: FromDriver,
    },
    /// An executor's event stream ended.
    Unsubscribed(ExecutorKey),
    /// An executor reports; the status was checked.
    Update(ExecutorKey, dcos_proto::mesos::TaskStatus),
    /// An executor sends bytes to its scheduler.
    ExecutorMessage(ExecutorKey, Vec<u8>),
    /// A container's program was executed.
    Launched(ContainerId, ContainerStatus),
    /// A container could not be launched.
    LaunchFailed(ContainerId, Reason, String),
    /// A container ended.
    Ended(ContainerId, ContainerTermination),
    /// A health check changed its mind or failed again.
    Health {
        /// The container it runs for.
        container: ContainerId,
        /// The task it belongs to.
        task: TaskId,
        /// What it says.
        healthy: bool,
        /// Whether it failed too often.
        kill: bool,
    },
    /// A check has a new result.
    Check(ContainerId, TaskId, CheckStatusInfo),
    /// What became of [`Action::Volumes`]: for which operation, and why not if it failed.
    Volumes(Option<Vec<u8>>, Result<(), String>),
    /// This share of the disk is in use.
    DiskUsage(f64),
    /// These were deleted, and so many could not be.
    Deleted {
        /// Gone.
        done: Vec<Remains>,
        /// Still there.
        failed: u64,
    },
    /// A container resisted its destruction, which is tried again.
    DestroyFailed,
    /// The estimator found that this can be lent beside what is lent as revocable already.
    Oversubscribable(Vec<Resource>),
    /// An executor is to end for the sake of others.
    Correct(QosCorrection),
    /// An operator wants all tasks ended and the agent gone from the cluster.
    Unregister,
}

/// To be carried out, in order.
#[derive(Debug, Clone)]
pub enum Action {
    /// Put on stable storage, before any action after it.
    Write(Box<Write>),
    /// Watch the connection to the master.
    Link(String),
    /// Send to the master, or to the part of it that asked.
    Send(String, Box<ToMaster>),
    /// Ask the driver at a UPID, which an earlier agent knew, to register again.
    Reconnect(String, ReconnectExecutorMessage),
    /// Reach an executor as a driver from now on.
    Admit {
        /// Whose.
        executor: ExecutorKey,
        /// Where it listens.
        pid: String,
        /// Whether it was registered with an earlier agent.
        again: bool,
    },
    /// Tell the log why a driver is not heard, and the driver to end if it is to.
    Refuse {
        /// Whose it says it is.
        executor: ExecutorKey,
        /// Where it listens.
        pid: String,
        /// For the log.
        reason: &'static str,
        /// Whether it is told to end.
        shutdown: bool,
    },
    /// Send to an executor over its stream.
    Event(ExecutorKey, Box<executor::Event>),
    /// End an executor's stream.
    Close(ExecutorKey),
    /// Launch a container, tell [`Input::Launched`] or [`Input::LaunchFailed`], and if it was
    /// launched, later [`Input::Ended`].
    Launch(ContainerId, Box<ContainerConfig>),
    /// Tell [`Input::Launched`] of a container that runs already, and later [`Input::Ended`].
    Watch(ContainerId),
    /// Change what a container may use.
    Resize(ContainerId, Vec<Resource>, BTreeMap<String, Scalar>),
    /// Send a signal to a container.
    Signal(ContainerId, i32),
    /// End a container at once.
    Destroy(ContainerId),
    /// Forget a container that ended.
    Remove(ContainerId),
    /// Run the checks of a task for as long as its container runs, as the task would.
    StartChecks(ContainerId, Box<TaskInfo>, Box<ContainerConfig>),
    /// Make and delete persistent volumes before any action after it, and tell
    /// [`Input::Volumes`].
    Volumes(VolumeWork),
    /// Let a sandbox lead to persistent volumes.
    LinkVolumes(PathBuf, Vec<PersistentVolume>),
    /// Let people look into a sandbox.
    Show(Sandbox),
    /// Delete what executors left, and tell [`Input::Deleted`].
    Delete(Vec<Remains>),
    /// End the process; `fresh` forgets who this agent was.
    Stop {
        /// For the log.
        reason: String,
        /// Whether the next agent starts without a past.
        fresh: bool,
    },
}

macro_rules! messages {
    ($(#[$doc:meta])* $name:ident { $($variant:ident($message:ty),)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        #[expect(missing_docs, reason = "each variant is the message it is named after")]
        pub enum $name {
            $($variant($message),)+
        }

        $(impl From<$message> for $name {
            fn from(message: $message) -> Self {
                Self::$variant(message)
            }
        })+

        impl $name {
            /// Reads the message called `name` (as in the path of a libprocess request).
            ///
            /// # Errors
            /// If the bytes are not that message. `None` for a message an agent does not know.
            pub fn decode(name: &str, bytes: &[u8]) -> Option<Result<Self, DecodeError>> {
                $(if name == <$message as Message>::V0_NAME {
                    return Some(decode::<$message>(bytes).map(Self::$variant));
                })+
                None
            }

            /// The message's name and bytes.
            pub fn encode(&self) -> (&'static str, Vec<u8>) {
                match self {
                    $(Self::$variant(message) => (
                        <$message as Message>::V0_NAME,
                        prost::Message::encode_to_vec(message),
                    ),)+
                }
            }
        }
    };
}

messages! {
    /// What the master tells an agent.
    #[expect(
        clippy::large_enum_variant,
        reason = "short-lived, never stored in numbers"
    )]
    FromMaster {
        Mechanisms(AuthenticationMechanismsMessage),
        Step(AuthenticationStepMessage),
        Completed(AuthenticationCompletedMessage),
        Failed(AuthenticationFailedMessage),
        Error(AuthenticationErrorMessage),
        Registered(SlaveRegisteredMessage),
        Reregistered(SlaveReregisteredMessage),
        Ping(PingSlaveMessage),
        RunTask(RunTaskMessage),
        RunTaskGroup(RunTaskGroupMessage),
        KillTask(KillTaskMessage),
        ShutdownFramework(ShutdownFrameworkMessage),
        ShutdownExecutor(ShutdownExecutorMessage),
        ToExecutor(FrameworkToExecutorMessage),
        UpdateFramework(UpdateFrameworkMessage),
        CheckpointResources(CheckpointResourcesMessage),
        ApplyOperation(ApplyOperationMessage),
        AcknowledgeOperation(AcknowledgeOperationStatusMessage),
        ReconcileOperations(ReconcileOperationsMessage),
        Acknowledge(StatusUpdateAcknowledgementMessage),
        Drain(DrainSlaveMessage),
        Shutdown(ShutdownMessage),
    }
}

messages! {
    /// What an executor on the libmesos driver tells the agent.
    #[expect(
        clippy::large_enum_variant,
        reason = "short-lived, never stored in numbers"
    )]
    FromDriver {
        Register(RegisterExecutorMessage),
        Reregister(ReregisterExecutorMessage),
        Update(StatusUpdateMessage),
        ToFramework(ExecutorToFrameworkMessage),
    }
}

messages! {
    /// What an agent tells the master.
    ToMaster {
        Authenticate(AuthenticateMessage),
        Start(AuthenticationStartMessage),
        Answer(AuthenticationStepMessage),
        Register(RegisterSlaveMessage),
        Reregister(ReregisterSlaveMessage),
        Unregister(UnregisterSlaveMessage),
        Pong(PongSlaveMessage),
        Update(StatusUpdateMessage),
        ExitedExecutor(ExitedExecutorMessage),
        ToFramework(ExecutorToFrameworkMessage),
        UpdateAgent(UpdateSlaveMessage),
        UpdateOperation(UpdateOperationStatusMessage),
    }
}
