//! What agents say about tasks.

use std::time::Duration;

use dcos_marathon::Timestamp;
use dcos_marathon::engine::calls;
use dcos_marathon::instance::{Condition, Instance, InstanceId, task_instance};
use dcos_proto::mesos::{TaskStatus, task_status};

use super::JobScheduler;
use crate::model::{RestartPolicy, Run, RunKey, RunStatus, RunTask};

impl JobScheduler {
    pub(super) fn status(&mut self, now: Timestamp, status: &TaskStatus) {
        self.counters.spoken.heard(status);
        let id = task_instance(&status.task_id.value);
        let run = id.as_ref().and_then(|id| RunKey::of(&id.app()));
        let run = run.and_then(|key| self.run(&key)).cloned();
        let instance = run.as_ref().and_then(|run| run.instance.clone());
        match (run, instance) {
            (Some(run), Some(instance)) if instance.task_id == status.task_id.value => {
                self.known_status(now, &run, instance, status);
            }
            _ => self.unknown_status(id.as_ref(), status),
        }
        if let Some(call) = calls::acknowledge(status) {
            self.send(call);
        }
    }

    fn known_status(
        &mut self,
        now: Timestamp,
        run: &Run,
        mut instance: Instance,
        status: &TaskStatus,
    ) {
        let condition = Condition::of(status);
        let was = instance.condition;
        match condition {
            // A launch on its way is unknown to a master that is asked about it too early.
            Condition::Unknown if was == Condition::Provisioned => {}
            Condition::Dropped if was == Condition::Provisioned => self.again(now, run),
            // Its agent never heard of it: the launch was lost with an earlier master.
            Condition::Gone
                if was == Condition::Provisioned
                    && status.reason() == task_status::Reason::Reconciliation =>
            {
                self.again(now, run);
            }
            Condition::Finished => {
                let mut run = run.clone();
                note(&mut run, now, &instance.task_id, condition);
                self.complete(now, run, true);
            }
            Condition::Provisioned
            | Condition::Staging
            | Condition::Starting
            | Condition::Running
            | Condition::Killing => {
                if condition == was && run.status == RunStatus::Active {
                    return;
                }
                (instance.condition, instance.since) = (condition, now);
                if condition == Condition::Running {
                    instance.started_at.get_or_insert(now);
                }
                let mut run = run.clone();
                note(&mut run, now, &instance.task_id, condition);
                run.status = RunStatus::Active;
                run.instance = Some(instance);
                self.put_run(run);
            }
            Condition::Unreachable | Condition::UnreachableInactive => {
                // Nobody there to ask; should it come back it is unknown, and killed for that.
                self.failed(now, run, condition);
            }
            Condition::Error
            | Condition::Failed
            | Condition::Killed
            | Condition::Gone
            | Condition::Dropped
            | Condition::Unknown
            | Condition::Reserved => self.failed(now, run, condition),
        }
    }

    /// A task of a run ended badly: another one follows, or the run has failed.
    pub(super) fn failed(&mut self, now: Timestamp, run: &Run, condition: Condition) {
        let mut run = run.clone();
        if let Some(instance) = &run.instance {
            let task = instance.task_id.clone();
            note(&mut run, now, &task, condition);
        }
        let restart = run.job.run.restart;
        let until = restart
            .active_deadline_seconds
            .map(|seconds| run.created_at + Duration::from_secs(seconds));
        let in_time = until.is_none_or(|until| until > now);
        if restart.policy == RestartPolicy::OnFailure && in_time {
            self.again(now, &run);
        } else {
            self.complete(now, run, false);
        }
    }

    /// A task of no run: if it runs, it must go.
    fn unknown_status(&mut self, id: Option<&InstanceId>, status: &TaskStatus) {
        let condition = Condition::of(status);
        if condition.is_terminal() || condition.is_unreachable() {
            if let Some(id) = id {
                self.kills.remove(id);
                self.leftovers.remove(id);
            }
            return;
        }
        if id.is_some_and(|id| self.leftovers.contains_key(id)) {
            // It is being killed, and asked again from time to time.
            return;
        }
        let kill = calls::kill(status.task_id.clone(), status.agent_id.clone());
        self.send(kill);
    }
}

/// How many tasks of a run are remembered: it is stored whole at each change, and one that fails and is restarted may go on so
/// for weeks.
const MOST_TASKS: usize = 100;

/// Notes how a task of a run is.
fn note(run: &mut Run, now: Timestamp, id: &str, condition: Condition) {
    let task = run.tasks.entry(id.to_owned()).or_insert(RunTask {
        started_at: now,
        completed_at: None,
        status: condition.into(),
    });
    task.status = condition.into();
    task.completed_at = (condition == Condition::Finished).then_some(now);
    while run.tasks.len() > MOST_TASKS {
        let others = run.tasks.iter().filter(|(other, _)| *other != id);
        let oldest = others.min_by_key(|(_, task)| task.started_at);
        let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
            return;
        };
        run.tasks.remove(&oldest);
    }
}
