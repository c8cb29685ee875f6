//! How often what was said to the master, and what it said of tasks; names are Marathon's.

use dcos_proto::mesos::offer::operation;
use dcos_proto::mesos::{TaskState, TaskStatus, task_status};
use dcos_proto::scheduler::Call;

/// More than there are states of tasks, whose numbers are small.
const STATES: usize = 16;

/// Counters for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    launches: u64,
    launch_groups: u64,
    reserves: u64,
    /// By the number of the state.
    updates: [u64; STATES],
    limit_exceeded: u64,
}

impl Spoken {
    /// Counts what is done with offers.
    pub fn said<'a>(&mut self, calls: impl IntoIterator<Item = &'a Call>) {
        let accepts = calls.into_iter().filter_map(|call| call.accept.as_ref());
        for operation in accepts.flat_map(|accept| &accept.operations) {
            match operation.r#type() {
                operation::Type::Launch => self.launches += 1,
                operation::Type::LaunchGroup => self.launch_groups += 1,
                operation::Type::Reserve => self.reserves += 1,
                _ => {}
            }
        }
    }

    /// Counts what an agent says of a task.
    pub fn heard(&mut self, status: &TaskStatus) {
        let state = usize::try_from(status.state).ok();
        if let Some(count) = state.and_then(|state| self.updates.get_mut(state)) {
            *count += 1;
        }
        if status.reason() == task_status::Reason::ContainerLimitationMemory {
            self.limit_exceeded += 1;
        }
    }

    /// Names, all beginning with that of the service, and values; of states only those that were heard of.
    pub fn named(&self, service: &str) -> impl Iterator<Item = (String, u64)> {
        let operation = |name| format!("mesos.offer-operations.{name}.counter");
        let fixed = [
            (operation("launch"), self.launches),
            (operation("launch-group"), self.launch_groups),
            (operation("reserve"), self.reserves),
            (
                "mesos.task.oom.memory-limit-exceeded.counter".to_owned(),
                self.limit_exceeded,
            ),
        ];
        let heard = (0..).zip(self.updates).filter(|(_, count)| *count > 0);
        let updates = heard.filter_map(|(state, count)| {
            let state = TaskState::try_from(state).ok()?.as_str_name();
            let state = state.to_ascii_lowercase().replace('_', "-");
            Some((format!("mesos.task-updates.{state}.counter"), count))
        });
        let all = fixed.into_iter().chain(updates);
        all.map(move |(name, count)| (format!("{service}.{name}"), count))
    }
}
