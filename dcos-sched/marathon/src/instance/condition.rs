//! How an instance is: Mesos's task states as Marathon names them.

use std::fmt;

use dcos_proto::mesos::{TaskState, TaskStatus};
use serde::{Deserialize, Serialize};

/// How an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Condition {
    /// Launched, not yet heard of.
    Provisioned,
    /// The agent has it.
    Staging,
    /// Its executor starts it.
    Starting,
    /// It runs.
    Running,
    /// It is being killed.
    Killing,
    /// Its agent is out of reach.
    Unreachable,
    /// Its agent has been out of reach for so long that it is replaced.
    UnreachableInactive,
    /// It could not be launched.
    Error,
    /// It ended with an error.
    Failed,
    /// It ended well.
    Finished,
    /// It was killed.
    Killed,
    /// Its agent is gone.
    Gone,
    /// It never got to an agent.
    Dropped,
    /// The master does not know it.
    Unknown,
    /// It has no task now; what is reserved for it waits for the next one.
    Reserved,
}

impl Condition {
    /// Whether an instance like that counts as one of its app's.
    pub fn is_active(self) -> bool {
        !self.is_terminal() && !matches!(self, Self::UnreachableInactive | Self::Reserved)
    }

    /// Whether its task was launched and does not run yet, as far as anybody knows.
    pub fn is_launching(self) -> bool {
        matches!(self, Self::Provisioned | Self::Staging | Self::Starting)
    }

    /// Whether an agent has its task, as far as anybody knows.
    pub fn is_under_way(self) -> bool {
        matches!(
            self,
            Self::Staging | Self::Starting | Self::Running | Self::Killing
        )
    }

    /// Whether it is over.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Error
                | Self::Failed
                | Self::Finished
                | Self::Killed
                | Self::Gone
                | Self::Dropped
                | Self::Unknown
        )
    }

    /// Whether it is over as somebody saw it end, so that it cannot go on. What nobody knows of may turn up again.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Error | Self::Failed | Self::Finished | Self::Killed
        )
    }

    /// Whether the app's launches are held back for a while after this end.
    pub fn backs_off(self) -> bool {
        matches!(
            self,
            Self::Error | Self::Failed | Self::Finished | Self::Gone | Self::Dropped
        )
    }

    /// Whether this end is remembered as the app's last failure.
    pub fn is_failure(self) -> bool {
        self.is_terminal() && !matches!(self, Self::Finished | Self::Killed)
    }

    /// Whether a task that is `later` was like that before. An agent repeats what it does not know to be acknowledged, after a
    /// crash also what is: old news then.
    pub fn precedes(self, later: Self) -> bool {
        let place = |condition| match condition {
            Self::Provisioned => Some(0),
            Self::Staging => Some(1),
            Self::Starting => Some(2),
            Self::Running => Some(3),
            Self::Killing => Some(4),
            _ => None,
        };
        place(self)
            .zip(place(later))
            .is_some_and(|(before, after)| before < after)
    }

    /// Whether it says that nobody knows of it.
    pub fn is_lost(self) -> bool {
        matches!(
            self,
            Self::Gone | Self::Dropped | Self::Unknown | Self::Unreachable
        )
    }

    /// Whether its agent is out of reach.
    pub fn is_unreachable(self) -> bool {
        matches!(self, Self::Unreachable | Self::UnreachableInactive)
    }

    /// What a status says.
    pub fn of(status: &TaskStatus) -> Self {
        match status.state() {
            TaskState::TaskStaging => Self::Staging,
            TaskState::TaskStarting => Self::Starting,
            TaskState::TaskRunning => Self::Running,
            TaskState::TaskKilling => Self::Killing,
            TaskState::TaskFinished => Self::Finished,
            TaskState::TaskFailed => Self::Failed,
            TaskState::TaskKilled => Self::Killed,
            TaskState::TaskError => Self::Error,
            TaskState::TaskUnreachable => Self::Unreachable,
            TaskState::TaskGone | TaskState::TaskGoneByOperator => Self::Gone,
            TaskState::TaskLost | TaskState::TaskDropped => Self::Dropped,
            TaskState::TaskUnknown => Self::Unknown,
        }
    }

    /// The task state shown for it.
    pub fn state(self) -> &'static str {
        match self {
            Self::Provisioned | Self::Staging => "TASK_STAGING",
            Self::Starting => "TASK_STARTING",
            Self::Running => "TASK_RUNNING",
            Self::Killing => "TASK_KILLING",
            Self::Unreachable | Self::UnreachableInactive => "TASK_UNREACHABLE",
            Self::Error => "TASK_ERROR",
            Self::Failed => "TASK_FAILED",
            // What Marathon 1.11 shows of an instance whose last task ended at its own wish.
            Self::Finished | Self::Reserved => "TASK_FINISHED",
            Self::Killed => "TASK_KILLED",
            Self::Gone => "TASK_GONE",
            Self::Dropped => "TASK_DROPPED",
            Self::Unknown => "TASK_UNKNOWN",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
