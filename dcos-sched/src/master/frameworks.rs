//! How frameworks change their mind, go away, and end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::internal::{ShutdownFrameworkMessage, UpdateFrameworkMessage};
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{AgentId, Filters, FrameworkId, FrameworkInfo, TaskState};
use dcos_proto::{master as operator, scheduler};

use super::core::Timer;
use super::tasks::Status;
use super::{Action, Framework, Link, Master, Reply, validation};
use crate::allocator::Event as Allocation;

impl Master {
    pub(crate) fn stream_closed(&mut self, stream_id: &str) {
        if let Some(id) = self.streams.get(stream_id).cloned() {
            self.disconnect_framework(&id);
        }
    }

    /// Nobody listens any more: offers go back, and the failover timeout begins.
    pub(crate) fn disconnect_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else {
            return;
        };
        let link = framework.link.clone();
        let timeout = failover_timeout(&framework.info);
        self.forget_link(&link);
        self.deactivate_framework(id);
        let expires = self.now + timeout;
        if let Some(framework) = self.framework_mut(id) {
            framework.link = Link::Disconnected;
            framework.expires = Some(expires);
        }
        self.at(timeout, Timer::FrameworkExpires(id.clone()));
        self.publish_framework(id);
        if timeout.is_zero() {
            self.framework_expires(id);
        }
    }

    /// No more offers, until it subscribes again.
    pub(crate) fn deactivate_framework(&mut self, id: &FrameworkId) {
        if let Some(framework) = self.framework_mut(id) {
            framework.active = false;
        }
        self.allocator
            .handle(self.now, Allocation::DeactivateFramework(id.clone()));
        self.drop_offers(id);
        self.drop_inverse_offers(id);
    }

    pub(crate) fn framework_expires(&mut self, id: &FrameworkId) {
        let expired = self.frameworks.get(id).is_some_and(|framework| {
            framework
                .expires
                .is_some_and(|expires| expires.is_due(self.now))
        });
        if expired {
            self.remove_framework(id);
        }
    }

    /// TEARDOWN, or the failover timeout has passed: everything of the framework ends.
    pub(crate) fn remove_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id).cloned() else {
            return;
        };
        // Before anybody acts on it: who comes back under the next master must find that it has ended.
        self.bury(id);
        self.deactivate_framework(id);
        for agent in Self::agents_of(&framework) {
            if let Some(pid) = self.agents.get(&agent).map(|agent| agent.pid.clone()) {
                let message = ShutdownFrameworkMessage {
                    framework_id: id.clone(),
                };
                self.send(&pid, &message);
            }
        }
        let removed = Status::master(
            TaskState::TaskKilled,
            Reason::FrameworkRemoved,
            format!("Framework {id} removed"),
        );
        for task in framework.tasks.keys() {
            self.end_task(id, task, &removed);
        }
        for task in &framework.unreachable_tasks {
            self.end_unreachable_task(id, &task.read().task_id, &removed);
        }
        for (agent, executors) in &framework.executors {
            for executor in executors.keys() {
                self.remove_executor(id, agent, executor);
            }
        }
        self.forget_link(&framework.link);
        self.refuse_nothing_more(&framework.link);
        self.allocator
            .handle(self.now, Allocation::RemoveFramework(id.clone()));
        let Some(mut removed) = self.frameworks.remove(id) else {
            return;
        };
        let record = Arc::make_mut(&mut removed);
        record.link = Link::Disconnected;
        record.unregistered = Some(self.now);
        self.publish(operator::Event {
            r#type: Some(operator::event::Type::FrameworkRemoved.into()),
            framework_removed: Some(operator::event::FrameworkRemoved {
                framework_info: record.info.clone(),
            }),
            ..operator::Event::default()
        });
        while self.completed.len() >= self.settings.max_completed_frameworks.max(1) {
            self.completed.pop_front();
        }
        self.completed.push_back(removed);
    }

    fn refuse_nothing_more(&mut self, link: &Link) {
        if let Link::Stream(stream_id) = link {
            self.push(Action::Close {
                stream_id: stream_id.clone(),
            });
        }
    }

    /// The agents on which a framework has something.
    fn agents_of(framework: &Framework) -> BTreeSet<AgentId> {
        let tasks = framework.tasks.values().map(|task| task.agent_id().clone());
        tasks.chain(framework.executors.keys().cloned()).collect()
    }

    /// Agents pass messages of executors to where the framework is now.
    pub(crate) fn tell_agents_of(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id).cloned() else {
            return;
        };
        for agent in Self::agents_of(&framework) {
            let Some(known) = self.agents.get(&agent).filter(|agent| agent.connected) else {
                continue;
            };
            let pid = known.pid.clone();
            let message = UpdateFrameworkMessage {
                framework_id: id.clone(),
                pid: framework.pid.clone(),
                framework_info: Some(framework.info.clone()),
            };
            self.send(&pid, &message);
        }
    }

    /// `TEARDOWN` by an operator.
    pub(crate) fn operator_teardown(&mut self, id: &FrameworkId) -> Reply {
        if !self.frameworks.contains_key(id) {
            return Reply::refused(400, "No framework found with specified ID");
        }
        self.remove_framework(id);
        Reply::Done
    }

    /// `UPDATE_FRAMEWORK`, answered at once.
    pub(crate) fn update_framework(
        &mut self,
        id: &FrameworkId,
        update: scheduler::call::UpdateFramework,
    ) -> Reply {
        let info = update.framework_info;
        if let Err(error) = self.check_framework(&info, &update.suppressed_roles) {
            let text = format!("Supplied FrameworkInfo is not valid: {error}");
            return Reply::refused(400, text);
        }
        if let Some(known) = self.frameworks.get(id) {
            let unchanged = validation::framework::update(&known.info, &info)
                .and_then(|()| validation::framework::immutable(&known.info, &info));
            if let Err(error) = unchanged {
                let text = format!("FrameworkInfo update is not valid: {error}");
                return Reply::refused(400, text);
            }
        }
        let constraints = update.offer_constraints.as_ref();
        if let Err(error) = validation::framework::offer_constraints(&info, constraints) {
            let text = format!("'UpdateFramework.offer_constraints' are not valid: {error}");
            return Reply::refused(400, text);
        }
        if let Err(error) = self.authorize_framework(&info) {
            return Reply::refused(403, error);
        }
        let suppressed = update.suppressed_roles.into_iter().collect();
        self.change_framework(id, &info, suppressed, update.offer_constraints);
        self.tell_agents_of(id);
        Reply::Done
    }

    /// SUPPRESS and REVIVE; as in Mesos nothing happens if one of the roles is not the framework's.
    pub(crate) fn suppress(&mut self, id: &FrameworkId, roles: Vec<String>) {
        if !self.has_roles(id, &roles) {
            return;
        }
        if let Some(framework) = self.framework_mut(id) {
            let own = framework.roles();
            let chosen = chosen_roles(&own, &roles);
            framework.suppressed.extend(chosen);
        }
        let framework = id.clone();
        self.allocator
            .handle(self.now, Allocation::Suppress { framework, roles });
    }

    pub(crate) fn revive(&mut self, id: &FrameworkId, roles: Vec<String>) {
        if !self.has_roles(id, &roles) {
            return;
        }
        if let Some(framework) = self.framework_mut(id) {
            let own = framework.roles();
            for role in chosen_roles(&own, &roles) {
                framework.suppressed.remove(&role);
            }
        }
        let framework = id.clone();
        self.allocator
            .handle(self.now, Allocation::Revive { framework, roles });
    }

    fn has_roles(&self, id: &FrameworkId, roles: &[String]) -> bool {
        let own = self.frameworks.get(id).map(|known| known.roles());
        own.is_some_and(|own| roles.iter().all(|role| own.contains(role)))
    }
}

fn chosen_roles(own: &[String], roles: &[String]) -> Vec<String> {
    own.iter()
        .filter(|role| roles.is_empty() || roles.contains(role))
        .cloned()
        .collect()
}

/// How long a framework may stay away; it was checked when it subscribed.
pub(crate) fn failover_timeout(info: &FrameworkInfo) -> Duration {
    Duration::try_from_secs_f64(info.failover_timeout.unwrap_or(0.0)).unwrap_or(Duration::ZERO)
}

/// When a framework that was known before a restart is given up.
pub(crate) fn expiry(info: &FrameworkInfo, now: Time) -> Time {
    now + failover_timeout(info)
}

/// For how long a declined offer hides its resources.
pub(crate) fn refusal(filters: Option<&Filters>) -> Duration {
    crate::allocator::Config::refuse(filters.and_then(|filters| filters.refuse_seconds))
}
