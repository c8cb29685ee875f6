//! Draining: every task ends, no more are taken, and it is written down until that is done.
//!
//! The master asks for it, again after every re-registration; an agent that restarts meanwhile
//! goes on by itself. Source: Mesos 1.11 `Slave::drain`, `updateDrainStatus`, `statusUpdate`.

use dcos_core::time::Time;
use dcos_proto::mesos::framework_info::capability;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    DrainConfig, DurationInfo, FrameworkId, KillPolicy, TaskInfo, TaskState, TaskStatus,
};

use super::core::Agent;
use crate::checkpoint::Write;

impl Agent {
    /// Ends every task, within the grace the operator allows, and takes no more until all that is
    /// here has been forgotten. The last order counts.
    pub(super) fn start_drain(&mut self, now: Time, config: DrainConfig) {
        if self.is_drained() {
            return;
        }
        if self.drain.is_none_or(|(known, _)| known != config) {
            self.write(Write::Drain(Some(config)));
        }
        let since = self.drain.map_or(now, |(_, since)| since);
        self.drain = Some((config, since));
        self.end_all_tasks(now, config.max_grace_period);
    }

    /// Goes on with what an earlier agent began. Custom executors hear of it when they are back.
    pub(super) fn resume_drain(&mut self, now: Time) {
        if let Some((config, _)) = self.drain {
            self.end_all_tasks(now, config.max_grace_period);
        }
    }

    fn end_all_tasks(&mut self, now: Time, most: Option<DurationInfo>) {
        let tasks: Vec<(FrameworkId, TaskInfo)> = self
            .executors()
            .flat_map(|executor| executor.tasks.values().map(|task| (executor.key(), task)))
            .filter(|(_, task)| !task.is_terminal())
            .map(|(key, task)| (key.framework, task.info.clone()))
            .collect();
        for (framework, task) in tasks {
            let policy = shorter(task.kill_policy.as_ref(), most);
            self.kill_task(now, &framework, &task.task_id, policy.as_ref());
        }
    }

    /// Whether nothing is left that a drain would have to wait for.
    fn is_drained(&self) -> bool {
        self.frameworks.is_empty()
    }

    /// Forgets the drain once it is done, so that an agent that is put back into service may run
    /// tasks again.
    pub(super) fn conclude_drain(&mut self) {
        if self.drain.is_some() && self.is_drained() {
            self.drain = None;
            self.write(Write::Drain(None));
        }
    }

    /// What an agent's drain ends, it says it ended.
    pub(super) fn mark_drained(&self, framework: &FrameworkId, status: &mut TaskStatus) {
        let Some((config, _)) = &self.drain else {
            return;
        };
        let known = self.frameworks.get(framework);
        let aware = known.is_some_and(|known| known.can(capability::Type::PartitionAware));
        match status.state() {
            TaskState::TaskKilled | TaskState::TaskKilling if config.mark_gone() && aware => {
                status.state = TaskState::TaskGoneByOperator.into();
            }
            TaskState::TaskKilled | TaskState::TaskKilling => {}
            _ => return,
        }
        status.reason = Some(Reason::AgentDraining.into());
    }
}

/// The policy that cuts a task's grace down to what the operator allows, if that is less.
fn shorter(own: Option<&KillPolicy>, most: Option<DurationInfo>) -> Option<KillPolicy> {
    let most = most?;
    let own = own.and_then(|policy| policy.grace_period);
    let longer = own.is_none_or(|own| own.nanoseconds > most.nanoseconds);
    longer.then_some(KillPolicy {
        grace_period: Some(most),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_grace_bounds_the_tasks() {
        let grace = |nanoseconds| DurationInfo { nanoseconds };
        let policy = |nanoseconds| KillPolicy {
            grace_period: Some(grace(nanoseconds)),
        };
        assert_eq!(shorter(Some(&policy(9)), None), None);
        assert_eq!(shorter(Some(&policy(9)), Some(grace(10))), None);
        assert_eq!(
            shorter(Some(&policy(11)), Some(grace(10))),
            Some(policy(10))
        );
        assert_eq!(shorter(None, Some(grace(10))), Some(policy(10)));
    }
}
