//! What an agent has not confirmed yet, and has to be told again if it restarts.

use dcos_proto::executor::call::{Subscribe, Update};
use dcos_proto::mesos::{TaskInfo, TaskStatus};
use indexmap::IndexMap;

/// Updates that are not acknowledged, and tasks none of whose updates is. A pure state machine;
/// `session` numbers the streams to the agent.
///
/// Source: Mesos 1.11 `src/launcher/default_executor.cpp` (`unacknowledgedUpdates`,
/// `unacknowledgedTasks`).
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    tasks: IndexMap<String, TaskInfo>,
    updates: IndexMap<Vec<u8>, Pending>,
    session: u64,
    open: bool,
}

#[derive(Debug)]
struct Pending {
    status: TaskStatus,
    /// In which session the agent was told.
    told: Option<u64>,
}

impl Unacknowledged {
    /// A new stream is being opened: what SUBSCRIBE tells the agent.
    pub(super) fn begin_session(&mut self) -> Subscribe {
        self.session += 1;
        for pending in self.updates.values_mut() {
            pending.told = Some(self.session);
        }
        let update = |pending: &Pending| Update {
            status: pending.status.clone(),
        };
        Subscribe {
            unacknowledged_tasks: self.tasks.values().cloned().collect(),
            unacknowledged_updates: self.updates.values().map(update).collect(),
        }
    }

    /// The agent accepted the stream: updates may be sent.
    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// The stream broke.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    pub(super) fn launched(&mut self, task: TaskInfo) {
        self.tasks.insert(task.task_id.value.clone(), task);
    }

    pub(super) fn add(&mut self, status: TaskStatus) {
        let uuid = status.uuid.clone().unwrap_or_default();
        self.updates.insert(uuid, Pending { status, told: None });
    }

    /// The oldest update this session's agent was not told, while there is a stream.
    pub(super) fn next_to_tell(&mut self) -> Option<TaskStatus> {
        let session = self.session;
        let mut pending = self.updates.values_mut().filter(|_| self.open);
        let pending = pending.find(|pending| pending.told != Some(session))?;
        pending.told = Some(session);
        Some(pending.status.clone())
    }

    /// Telling failed although the stream stands: to be tried again.
    pub(super) fn untold(&mut self, uuid: &[u8]) {
        if let Some(pending) = self.updates.get_mut(uuid) {
            pending.told = None;
        }
    }

    pub(super) fn acknowledged(&mut self, task: &str, uuid: &[u8]) {
        self.updates.shift_remove(uuid);
        self.tasks.shift_remove(task);
    }

    /// The agent wants nothing of this update.
    pub(super) fn refused(&mut self, uuid: &[u8]) {
        self.updates.shift_remove(uuid);
    }

    /// Whether the agent has confirmed all updates.
    pub(super) fn is_settled(&self) -> bool {
        self.updates.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_proto::mesos::TaskState;

    fn status(uuid: u8, state: TaskState) -> TaskStatus {
        TaskStatus {
            task_id: "t".into(),
            state: state.into(),
            uuid: Some(vec![uuid]),
            ..TaskStatus::default()
        }
    }

    fn task() -> TaskInfo {
        TaskInfo {
            task_id: "t".into(),
            ..TaskInfo::default()
        }
    }

    #[test]
    fn each_agent_is_told_each_update_once_and_in_order() {
        let mut state = Unacknowledged::default();
        state.begin_session();
        state.add(status(1, TaskState::TaskStarting));
        assert_eq!(state.next_to_tell(), None, "no stream yet");
        state.open();
        state.add(status(2, TaskState::TaskRunning));
        let told = [state.next_to_tell(), state.next_to_tell()];
        assert_eq!(told.map(|status| status.unwrap().uuid.unwrap()), [[1], [2]]);
        assert_eq!(state.next_to_tell(), None);
        state.untold(&[2]);
        assert_eq!(state.next_to_tell().unwrap().uuid.unwrap(), [2]);
    }

    #[test]
    fn a_new_agent_hears_what_the_old_one_did_not_confirm() {
        let mut state = Unacknowledged::default();
        assert_eq!(state.begin_session(), Subscribe::default());
        state.open();
        state.launched(task());
        state.add(status(1, TaskState::TaskRunning));
        state.next_to_tell();
        state.close();
        let subscribe = state.begin_session();
        assert_eq!(subscribe.unacknowledged_tasks.len(), 1);
        assert_eq!(subscribe.unacknowledged_updates.len(), 1);
        // An update made while SUBSCRIBE is under way is told once the stream stands.
        state.add(status(2, TaskState::TaskFinished));
        state.open();
        assert_eq!(state.next_to_tell().unwrap().uuid.unwrap(), [2]);
        assert_eq!(state.next_to_tell(), None);
        state.acknowledged("t", &[1]);
        assert!(!state.is_settled());
        state.acknowledged("t", &[2]);
        assert!(state.is_settled());
        assert_eq!(state.begin_session(), Subscribe::default());
    }
}
