//! What Marathon's own checks find, and killing instances that fail too often.

use super::Core;
use crate::Timestamp;
use crate::event::Event;
use crate::health::{Health, verdict};
use crate::instance::{Condition, Instance, InstanceId, ReadinessResult};

/// The end of a check the shell performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A health check.
    Health {
        /// The instance.
        instance: InstanceId,
        /// The place of the check in the app.
        check: usize,
        /// Why it failed, if it did.
        outcome: Result<(), String>,
    },
    /// A readiness check.
    Readiness {
        /// The instance.
        instance: InstanceId,
        /// What it answered.
        result: ReadinessResult,
    },
}

impl Core {
    pub(super) fn probed(&mut self, now: Timestamp, probe: Probe) {
        match probe {
            Probe::Health {
                instance,
                check,
                outcome,
            } => {
                self.health_probed(now, &instance, check, outcome);
            }
            Probe::Readiness { instance, result } => {
                if let Some(instance) = self.instance(&instance).cloned() {
                    self.put_instance(
                        Instance {
                            ready: Some(result),
                            ..(*instance).clone()
                        },
                        false,
                    );
                }
            }
        }
    }

    fn health_probed(
        &mut self,
        now: Timestamp,
        id: &InstanceId,
        at: usize,
        outcome: Result<(), String>,
    ) {
        let Some(instance) = self.instance(id).cloned() else {
            return;
        };
        let Some(spec) = self.history.spec(&instance.app, instance.version).cloned() else {
            return;
        };
        let Some(check) = spec.health_checks.get(at) else {
            return;
        };
        if instance.condition != Condition::Running {
            return;
        }
        let mut next = (*instance).clone();
        if next.health.len() <= at {
            next.health.resize_with(at + 1, Health::default);
        }
        let (known, alive) = (next.health[at].is_known(), next.health[at].is_alive());
        let before = verdict(&spec, &next.health);
        match outcome {
            Ok(()) => next.health[at].pass(now),
            Err(cause) => {
                let started = next.started_at.unwrap_or(next.staged_at);
                let counts = next.health[at].failure_counts(check, started, now);
                next.health[at].fail(now, &cause, counts);
                if counts {
                    self.batch
                        .events
                        .push(Event::failed_check(now, &next, check));
                    self.punish(now, &next, at, check.max_consecutive_failures, &cause);
                }
            }
        }
        let health = &next.health[at];
        if health.is_known() && (!known || alive != health.is_alive()) {
            self.batch
                .events
                .push(Event::health_status(now, &next, health.is_alive()));
        }
        let after = verdict(&spec, &next.health);
        if before != after {
            self.batch
                .events
                .push(Event::instance_health(now, &next, after));
        }
        self.put_instance(next, false);
    }

    /// Kills an instance that failed a check too often; `most` of 0 never does.
    fn punish(&mut self, now: Timestamp, instance: &Instance, at: usize, most: u32, cause: &str) {
        if most == 0 || instance.health[at].consecutive_failures < most {
            return;
        }
        self.batch
            .events
            .push(Event::unhealthy_kill(now, instance, cause));
        let message = format!("Task was killed since health check failed. Reason: {cause}");
        self.fail(now, instance, "TASK_KILLED", &message);
        self.counters.unhealthy_kills += 1;
        self.unhealthy.insert(instance.id.clone());
    }
}
