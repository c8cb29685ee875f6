//! RECONCILE: what the master says when a framework asks.
//!
//! Source: the table 5.6 of the conformance inventory; Mesos 1.11 `src/master/master.cpp`
//! `reconcile`.

use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{FrameworkId, Task, TaskState, TaskStatus};
use dcos_proto::scheduler::call::reconcile;

use super::Master;
use super::tasks::{Status, update_event};

impl Master {
    /// Answers about `tasks`, or about every task the master knows if there are none.
    pub(crate) fn reconcile(&mut self, framework: &FrameworkId, tasks: &[reconcile::Task]) {
        let answers: Vec<TaskStatus> = if tasks.is_empty() {
            let known = self.frameworks.get(framework);
            known
                .into_iter()
                .flat_map(|known| known.tasks.values())
                .map(|task| self.latest(&task.read()))
                .collect()
        } else {
            tasks
                .iter()
                .filter_map(|task| self.answer(framework, task))
                .collect()
        };
        for answer in answers {
            self.tell(framework, update_event(answer));
        }
    }

    /// The last state the framework was told, so that it is not told the future.
    fn latest(&self, task: &Task) -> TaskStatus {
        let state = task.status_update_state.unwrap_or(task.state);
        let status = Status::master(
            TaskState::try_from(state).unwrap_or(task.state()),
            Reason::Reconciliation,
            "Reconciliation: Latest task state".to_owned(),
        );
        let executor = task.executor_id.as_ref();
        let mut answer = status.of(&task.task_id, Some(&task.agent_id), executor, self.now);
        if let Some(last) = task.statuses.last() {
            answer.healthy = last.healthy;
            answer.check_status.clone_from(&last.check_status);
            answer.container_status.clone_from(&last.container_status);
        }
        answer
    }

    fn answer(&self, id: &FrameworkId, asked: &reconcile::Task) -> Option<TaskStatus> {
        let framework = self.frameworks.get(id)?;
        if let Some(task) = framework.tasks.get(&asked.task_id) {
            return Some(self.latest(&task.read()));
        }
        let agent = asked.agent_id.as_ref();
        let awaited = match agent {
            Some(agent) => self.recovered_agents.contains_key(agent),
            None => !self.recovered_agents.is_empty(),
        };
        if awaited {
            return None;
        }
        let mut unreachable_time = None;
        let (state, message) = match agent {
            Some(agent) if self.agents.contains_key(agent) => {
                (TaskState::TaskGone, "Task is unknown to the agent")
            }
            Some(agent) if self.unreachable.contains_key(agent) => {
                unreachable_time = self.unreachable.get(agent).copied();
                (TaskState::TaskUnreachable, "Task is unreachable")
            }
            Some(agent) if self.gone.contains_key(agent) => {
                (TaskState::TaskGoneByOperator, "Task is gone")
            }
            _ => (TaskState::TaskUnknown, "Task is unknown"),
        };
        let mut status = Status::master(
            framework.state_or_lost(state),
            Reason::Reconciliation,
            format!("Reconciliation: {message}"),
        );
        status.unreachable_time = unreachable_time;
        Some(status.of(&asked.task_id, agent, None, self.now))
    }
}
