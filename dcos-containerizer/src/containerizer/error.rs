//! What can go wrong with a container.

use std::fmt;

use dcos_proto::mesos::ContainerId;
use dcos_proto::mesos::task_status::Reason;

/// Why a [`Containerizer`](super::Containerizer) did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerizerError {
    /// The id names a container already.
    #[error("container {0} exists already")]
    Exists(ContainerId),
    /// The id names no container (or no longer one that runs).
    #[error("container {0} is unknown")]
    Unknown(ContainerId),
    /// The parent of a nested container does not run.
    #[error("the parent of container {0} does not run")]
    NoParent(ContainerId),
    /// It runs, and what was asked needs it to have ended.
    #[error("container {0} is running")]
    Running(ContainerId),
    /// It has neither a terminal nor a session: its streams cannot be attached to.
    #[error("container {0} was launched without a terminal, so nobody can attach to it")]
    NotAttachable(ContainerId),
    /// It was destroyed while it was being launched.
    #[error("container {0} was destroyed while it was being launched")]
    Destroyed(ContainerId),
    /// It is none of ours: nothing was done.
    #[error(
        "none of the enabled containerizers ({names}) could create a container for what the task asks"
    )]
    Unsupported {
        /// Which.
        id: ContainerId,
        /// Who was asked, as in `--containerizers`.
        names: String,
    },
    /// A launch failed; nothing is left of it.
    #[error("failed to launch container {id}: {step}: {reason}")]
    Launch {
        /// Which.
        id: ContainerId,
        /// What failed, such as `fetch` or `isolate cgroups/mem`.
        step: String,
        /// Why.
        reason: String,
    },
    /// A limit could not be set.
    #[error("failed to update container {id}: {reason}")]
    Update {
        /// Which.
        id: ContainerId,
        /// Why.
        reason: String,
    },
    /// Something of an ended container could not be cleaned up.
    #[error("failed to destroy container {id}: {reason}")]
    Destroy {
        /// Which.
        id: ContainerId,
        /// Why.
        reason: String,
    },
    /// The containerizer itself fails: its state, its launcher.
    #[error("{doing}: {reason}")]
    Broken {
        /// What it was doing.
        doing: String,
        /// Why it failed.
        reason: String,
    },
}

impl ContainerizerError {
    /// The reason of a task status that tells of this error.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Update { .. } => Reason::ContainerUpdateFailed,
            _ => Reason::ContainerLaunchFailed,
        }
    }

    /// `name` leaves the launch of `id` to others.
    pub fn unsupported(id: &ContainerId, name: &str) -> Self {
        Self::Unsupported {
            id: id.clone(),
            names: name.to_owned(),
        }
    }

    /// A failed `step` of a launch.
    pub fn launch(id: &ContainerId, step: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Launch {
            id: id.clone(),
            step: step.into(),
            reason: reason.to_string(),
        }
    }
}
