//! What the agent keeps on disk, so that it may be killed at any instant.
//!
//! A [`Write`] is one fact; [`Store::apply`] returns when a batch of them is on stable storage;
//! [`Store::read`] gives back all facts as a [`State`]. What is said of frameworks, executors and tasks goes to a
//! journal that all share, so that one sync does for many; the few facts about the agent itself
//! are files, replaced as a whole. Each carries a version and checksums, and
//! holds JSON as API v1 spells it, so that an operator can read and check it with ordinary tools:
//!
//! ```sh
//! cd meta/slaves/latest
//! tail -n +2 slave.info | sha256sum                        # what the first line says
//! jq . <(tail -n +2 slave.info)
//! grep -ah '^task ' journal.* | cut -d' ' -f2- | jq .      # every task that was launched
//! ```
//!
//! The directories are those of Mesos 1.11 (`src/slave/paths.hpp`), the formats are not: its
//! agent's checkpoints are converted by [`takeover`], or refused, never misread.

mod batches;
mod files;
pub(crate) mod format;
mod former;
mod journal;
mod lines;
mod original;
mod over;
pub mod paths;
mod read;
mod replay;
mod store;
pub mod takeover;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::time::Time;
use dcos_proto::internal::StatusUpdateRecord;
use dcos_proto::mesos::{
    AgentInfo, ContainerId, DrainConfig, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo,
    Operation, Resource, TaskId, TaskInfo,
};

use crate::executor::HostedKind;

pub use format::FormatError;
pub use store::{CheckpointError, Store};

/// One launch of an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Whose.
    pub framework: FrameworkId,
    /// Which.
    pub executor: ExecutorId,
    /// What it runs in.
    pub container: ContainerId,
}

/// A fact to keep.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "short-lived, never stored in numbers"
)]
pub enum Write {
    /// Who the agent is, id included.
    Agent(AgentInfo),
    /// Reservations and volumes, and operations nobody has acknowledged.
    Resources(Vec<Resource>, Vec<Operation>),
    /// The agent is being drained, or no longer.
    Drain(Option<DrainConfig>),
    /// A framework, and where its scheduler listens.
    Framework(FrameworkInfo, Option<String>),
    /// An executor was launched (or is about to be).
    Executor(Run, ExecutorInfo, Option<HostedKind>),
    /// A custom executor has subscribed; one on the libmesos driver listens at a UPID.
    Connected(Run, Option<String>),
    /// An executor was launched by an original Mesos agent, whose place this one took.
    Adopted(Run, Adopted),
    /// A task was given to an executor (or is about to be).
    Task(Run, Box<TaskCheckpoint>),
    /// A task's status update, or its acknowledgement.
    Update(Run, TaskId, Box<StatusUpdateRecord>),
    /// The executor's container ended, and all its tasks have terminal updates.
    Sentinel(Run),
    /// Nothing of it is left but what was written down: that may be forgotten.
    Deleted(Run),
}

/// How to find an executor that an original Mesos agent launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopted {
    /// The first process of its container; 0 if it was never started.
    pub pid: u32,
    /// Whether the original made it for a command task: nobody hears of it.
    pub generated: bool,
}

/// A task as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskCheckpoint {
    /// What the scheduler asked for.
    pub task: TaskInfo,
    /// Where a hosted executor runs it.
    pub container: Option<ContainerId>,
    /// Tasks of one number end together.
    pub group: u64,
}

/// Everything that was kept.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Who the agent is.
    pub agent: Option<AgentInfo>,
    /// Reservations and volumes.
    pub resources: Vec<Resource>,
    /// Operations nobody has acknowledged, oldest first.
    pub operations: Vec<Operation>,
    /// Whether it is being drained.
    pub drain: Option<DrainConfig>,
    /// Whether the host was booted since: no container can be left.
    pub rebooted: bool,
    /// Frameworks with their executors.
    pub frameworks: BTreeMap<FrameworkId, FrameworkCheckpoint>,
}

/// A framework as it was kept.
#[derive(Debug, Clone)]
pub struct FrameworkCheckpoint {
    /// What it said of itself.
    pub info: FrameworkInfo,
    /// Where its scheduler listens.
    pub pid: Option<String>,
    /// Its executors, by id.
    pub executors: Vec<ExecutorCheckpoint>,
}

/// An executor as it was kept.
#[derive(Debug, Clone)]
pub struct ExecutorCheckpoint {
    /// What it was launched from.
    pub info: ExecutorInfo,
    /// Which of the built-in ones it is.
    pub hosted: Option<HostedKind>,
    /// Its launches.
    pub runs: Vec<RunCheckpoint>,
}

/// A launch of an executor as it was kept.
#[derive(Debug, Clone)]
pub struct RunCheckpoint {
    /// What it ran in.
    pub container: ContainerId,
    /// When it ended, if it has.
    pub ended: Option<Time>,
    /// Where it listens, if it is on the libmesos driver and had registered.
    pub pid: Option<String>,
    /// If an original Mesos agent launched it.
    pub adopted: Option<Adopted>,
    /// Its tasks.
    pub tasks: Vec<TaskHistory>,
}

/// A task with its updates.
#[derive(Debug, Clone)]
pub struct TaskHistory {
    /// The task.
    pub checkpoint: TaskCheckpoint,
    /// Updates and acknowledgements, oldest first.
    pub updates: Vec<StatusUpdateRecord>,
}

impl State {
    /// The containers of executors whose end is not on disk: what the containerizer is to
    /// recover.
    pub fn containers(&self) -> BTreeSet<ContainerId> {
        self.live_runs().map(|run| run.container.clone()).collect()
    }

    /// Those of [`containers`](Self::containers) that an original Mesos agent launched, with
    /// their first processes.
    pub fn adopted(&self) -> BTreeMap<ContainerId, u32> {
        let adopted = self.live_runs();
        adopted
            .filter_map(|run| Some((run.container.clone(), run.adopted?.pid)))
            .collect()
    }

    fn live_runs(&self) -> impl Iterator<Item = &RunCheckpoint> {
        let frameworks = self.frameworks.values();
        let executors = frameworks.flat_map(|framework| &framework.executors);
        let runs = executors.flat_map(|executor| &executor.runs);
        runs.filter(|run| run.ended.is_none())
    }
}
