//! What an agent has counted since it started.

use std::collections::BTreeMap;

use dcos_proto::mesos::{TaskState, TaskStatus};

use super::records::ExecutorState;
use super::view::View;

/// Numbers that only grow, named after the metrics they become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tasks by the state they ended in.
    pub ended: BTreeMap<TaskState, u64>,
    /// Executors that ended.
    pub executors_terminated: u64,
    /// Executors that were ended for the sake of others.
    pub executors_preempted: u64,
    /// Updates of tasks that are known.
    pub valid_status_updates: u64,
    /// Updates of tasks or executors that are not, or have ended.
    pub invalid_status_updates: u64,
    /// Messages between frameworks and executors that were passed on.
    pub valid_framework_messages: u64,
    /// Messages to executors that are not there, and of those that are not, or have no framework.
    pub invalid_framework_messages: u64,
    /// Containers that could not be launched.
    pub container_launch_errors: u64,
    /// Times a container resisted its destruction.
    pub container_destroy_errors: u64,
    /// Directories that were deleted when their time had come.
    pub removals_succeeded: u64,
    /// Directories that could not be.
    pub removals_failed: u64,
}

impl Counters {
    /// Counts a task that ended like this.
    pub(super) fn end(&mut self, status: &TaskStatus) {
        *self.ended.entry(status.state()).or_default() += 1;
    }
}

/// How many executors are in each state of their life.
pub(super) fn executors(view: &View, state: ExecutorState) -> usize {
    let live = view.frameworks.iter();
    let executors = live.flat_map(|framework| &framework.executors);
    executors.filter(|executor| executor.state == state).count()
}
