//! What agents say about tasks.

use std::sync::Arc;

use dcos_proto::mesos::{TaskState, TaskStatus, task_status};

use super::{Core, TaskFailure, rows};
use crate::Timestamp;
use crate::engine::calls;
use crate::event::Event;
use crate::health::executor_found;
use crate::instance::{Condition, Instance, brief, task_instance};

impl Core {
    pub(super) fn status(&mut self, now: Timestamp, status: &TaskStatus) {
        self.counters.spoken.heard(status);
        let id = task_instance(&status.task_id.value);
        let known = id.as_ref().and_then(|id| self.instance(id)).cloned();
        match known {
            Some(instance) if instance.has_task(&status.task_id.value) => {
                self.known_status(now, &instance, status);
            }
            _ => self.unknown_status(now, id.as_ref(), status),
        }
        self.acknowledge(status);
    }

    fn known_status(&mut self, now: Timestamp, instance: &Arc<Instance>, status: &TaskStatus) {
        let condition = Condition::of(status);
        // A launch on its way is unknown to a master that is asked about it too early. A kill follows
        // its launch on the same way, so what is unknown to it then never got there.
        let asked_early =
            instance.condition == Condition::Provisioned && !self.kills.contains(&instance.id);
        if condition == Condition::Unknown && asked_early {
            return;
        }
        // Nobody is left to confirm a kill on an agent out of reach.
        if condition == Condition::Unreachable
            && instance.is_leaving()
            && instance.reservation.is_none()
        {
            self.expunge(now, instance);
            return;
        }
        // What is said of a task that is over is old news; unless it is not over, as when a launch was given up too early
        // or the store is an older one (case 3 of Task.update in Marathon 1.11).
        let task = &status.task_id.value;
        let is_over = || {
            if instance.tasks.is_empty() {
                instance.reservation.as_ref().is_some_and(|kept| kept.over)
            } else {
                !instance.live_tasks().any(|live| live == task)
            }
        };
        if instance.condition == Condition::Reserved && (!condition.is_under_way() || is_over()) {
            return;
        }
        let mut next = (**instance).clone();
        let was = instance.condition;
        Self::confirm(&mut next, status);
        let condition = if next.tasks.is_empty() {
            condition
        } else {
            self.note_container(now, &mut next, status, condition)
        };
        next.note(now, status, condition);
        let same_failure = status.reason() == task_status::Reason::Reconciliation
            && (status.healthy, instance.healthy) == (Some(false), Some(false));
        if !same_failure {
            self.note_health(now, &mut next, status);
        }
        // What a comparison of notes confirms is no news.
        if next.tells_more_than(instance) {
            let state = status.state().as_str_name();
            let message = status.message.as_deref().unwrap_or_default();
            self.batch
                .events
                .push(Event::status_update(now, &next, status, state, message));
        }
        if was == Condition::Reserved && next.is_leaving() {
            self.kills.add(&next.id);
        }
        if next.condition != was {
            self.batch.events.push(Event::instance_changed(now, &next));
        }
        let spec = self.history.spec(&next.app, next.version).cloned();
        if condition.is_terminal() {
            if next.tasks.is_empty() {
                self.terminated(now, &next, status);
            }
            let gone = status.state() == TaskState::TaskGoneByOperator;
            if !self.park(now, &next, gone) {
                self.remove_instance(&next.id);
            }
            // A launch that never arrived, for one of the two ends crashed, is hardly a failure of what was launched.
            let is_lost = was == Condition::Provisioned
                && status.reason() == task_status::Reason::Reconciliation;
            if let Some(spec) = spec {
                if status.reason() == task_status::Reason::AgentDraining {
                    self.queue.backoff().reset(&spec.id);
                } else if condition.backs_off() && is_lost {
                    self.queue.backoff().hold(now, &spec);
                } else if condition.backs_off() {
                    self.queue.backoff().grow(now, &spec);
                }
            }
            return;
        }
        if matches!(
            condition,
            Condition::Staging | Condition::Starting | Condition::Running
        ) && next.condition != was
            && let Some(spec) = spec
        {
            self.queue.backoff().advance(now, &spec);
        }
        // Coming back from out of reach it may be one too many, which settling finds out.
        let changed = next != **instance;
        self.put_instance(next, changed);
    }

    fn terminated(&mut self, now: Timestamp, instance: &Instance, status: &TaskStatus) {
        if instance.condition.is_failure() && !instance.is_leaving() {
            let message = status.message.as_deref().unwrap_or_default();
            self.fail(now, instance, status.state().as_str_name(), message);
        }
    }

    /// Takes in how a container of a pod is; the first that failed is what the pod failed of.
    fn note_container(
        &mut self,
        now: Timestamp,
        next: &mut Instance,
        status: &TaskStatus,
        condition: Condition,
    ) -> Condition {
        let spec = self.history.spec(&next.app, next.version).cloned();
        let pod = spec.as_ref().and_then(|spec| spec.pod.as_deref());
        let before = pod.and_then(|pod| next.pod_health(pod));
        let news = condition.is_failure()
            && !next.is_leaving()
            && next.live_tasks().any(|task| task == status.task_id.value);
        let together = next.note_task(now, status, condition);
        if news {
            let failed = Instance {
                task_id: status.task_id.value.clone(),
                ..next.clone()
            };
            let message = status.message.as_deref().unwrap_or_default();
            self.fail(now, &failed, status.state().as_str_name(), message);
        }
        let after = pod.and_then(|pod| next.pod_health(pod));
        if after.is_some() && before != after && !together.is_terminal() {
            self.batch
                .events
                .push(Event::instance_health(now, next, after));
        }
        together
    }

    /// Remembers an app's last failure.
    pub(super) fn fail(&mut self, now: Timestamp, instance: &Instance, state: &str, message: &str) {
        let failure = TaskFailure {
            app_id: instance.app.clone(),
            host: instance.agent.host.clone(),
            message: brief(message),
            state: state.to_owned(),
            task_id: instance.task_id.clone(),
            timestamp: now,
            started_at: instance.started_at,
            version: instance.version,
            slave_id: Some(instance.agent.id.clone()),
        };
        if self.root.app(&instance.app).is_some() {
            self.batch.rows.push(rows::failure(&failure));
            self.failures
                .insert(instance.app.clone(), Arc::new(failure));
        }
    }

    /// A task that is not ours, or not any more: if it runs, it must go.
    fn unknown_status(
        &mut self,
        now: Timestamp,
        id: Option<&crate::instance::InstanceId>,
        status: &TaskStatus,
    ) {
        let condition = Condition::of(status);
        if condition.is_terminal() {
            if let Some(id) = id {
                self.batch
                    .events
                    .push(Event::unknown_terminated(now, id, condition));
            }
            return;
        }
        if !condition.is_unreachable() {
            self.send(calls::kill(status.task_id.clone(), status.agent_id.clone()));
        }
    }

    fn acknowledge(&mut self, status: &TaskStatus) {
        if let Some(call) = calls::acknowledge(status) {
            self.send(call);
        }
    }

    /// The executor's word on the health check it performs.
    fn note_health(&mut self, now: Timestamp, next: &mut Instance, status: &TaskStatus) {
        let Some(healthy) = status.healthy.filter(|_| next.tasks.is_empty()) else {
            return;
        };
        let was = next.healthy.replace(healthy);
        let Some(spec) = self.history.spec(&next.app, next.version).cloned() else {
            return;
        };
        let cause = status.message.as_deref().unwrap_or_default();
        executor_found(&mut next.health, &spec, now, healthy, cause);
        let checks = spec.health_checks.iter();
        let own: Vec<_> = checks.filter(|check| check.protocol.is_mesos()).collect();
        if !healthy {
            for check in &own {
                self.batch
                    .events
                    .push(Event::failed_check(now, next, check));
            }
        }
        if was != Some(healthy) && !own.is_empty() {
            self.batch
                .events
                .push(Event::health_status(now, next, healthy));
            self.batch
                .events
                .push(Event::instance_health(now, next, Some(healthy)));
        }
    }
}
