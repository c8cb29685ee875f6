//! How agents are watched, and how they go.
//!
//! Rules AG-1 to AG-3, AG-6 and AG-8 of the conformance inventory.

use std::collections::BTreeSet;

use dcos_proto::internal::PingSlaveMessage;
use dcos_proto::master as operator;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{AgentId, AgentInfo, FrameworkId, OperationState, TaskState};
use dcos_proto::scheduler::{Event, event};

use super::core::{Timer, time_info};
use super::removals::Removal;
use super::tasks::Status;
use super::{Framework, Master, registry};
use crate::allocator::Event as Allocation;

impl Master {
    pub(crate) fn pong(&mut self, from: &str) {
        if let Some(id) = self.agent_pids.get(from).cloned()
            && let Some(agent) = self.agent_mut(&id)
        {
            agent.missed_pings = 0;
            if self.removals.cancel(&id) {
                self.counters.slave_unreachable_canceled += 1;
            }
        }
    }

    /// Pings, or gives up after too many that were not answered.
    pub(crate) fn ping(&mut self, id: &AgentId) {
        let most = self.settings.max_agent_ping_timeouts;
        let Some(agent) = self.agent_mut(id) else {
            return;
        };
        if agent.missed_pings >= most {
            self.schedule_removal(id, Removal::Silent);
            if !self.agents.contains_key(id) {
                return;
            }
        }
        let Some(agent) = self.agent_mut(id) else {
            return;
        };
        agent.missed_pings += 1;
        let (pid, connected) = (agent.pid.clone(), agent.connected);
        self.send(&pid, &PingSlaveMessage { connected });
        self.at(self.settings.agent_ping_timeout, Timer::Ping(id.clone()));
    }

    /// The connection to somebody broke.
    pub(crate) fn exited(&mut self, pid: &str) {
        self.authentication.exited(pid);
        if let Some(framework) = self.pids.get(pid).cloned() {
            self.tell_disconnected(pid);
            self.disconnect_framework(&framework);
        }
        if let Some(agent) = self.agent_pids.get(pid).cloned() {
            self.disconnect_agent(&agent);
        }
    }

    fn disconnect_agent(&mut self, id: &AgentId) {
        let timeout = self.settings.agent_reregister_timeout;
        let expires = self.now + timeout;
        let Some(agent) = self.agent_mut(id) else {
            return;
        };
        if !agent.connected {
            return;
        }
        agent.connected = false;
        agent.active = false;
        agent.expires = Some(expires);
        let (offers, tasks, hostname) = (
            agent.offers.clone(),
            agent.tasks.clone(),
            agent.info.hostname.clone(),
        );
        self.at(timeout, Timer::AgentExpires(id.clone()));
        self.allocator
            .handle(self.now, Allocation::DeactivateAgent(id.clone()));
        for offer in offers {
            self.rescind(&offer);
        }
        self.rescind_inverse_offers_on(id);
        let fleeting: BTreeSet<FrameworkId> = self
            .frameworks
            .values()
            .filter(|framework| !framework.info.checkpoint.unwrap_or(false))
            .map(|framework| framework.id())
            .collect();
        for (framework, task) in tasks {
            if fleeting.contains(&framework) {
                let text = format!("Agent {hostname} disconnected");
                let status = Status::master(TaskState::TaskLost, Reason::AgentDisconnected, text);
                self.end_task(&framework, &task, &status);
            }
        }
        for framework in fleeting {
            self.remove_executors_on(&framework, id);
        }
    }

    fn remove_executors_on(&mut self, framework: &FrameworkId, agent: &AgentId) {
        let executors = self
            .frameworks
            .get(framework)
            .and_then(|known| known.executors.get(agent))
            .cloned();
        for executor in executors.unwrap_or_default().into_keys() {
            self.remove_executor(framework, agent, &executor);
        }
    }

    pub(crate) fn agent_expires(&mut self, id: &AgentId) {
        let expired = self.agents.get(id).is_some_and(|agent| {
            agent
                .expires
                .is_some_and(|expires| expires.is_due(self.now))
        });
        if expired {
            self.schedule_removal(id, Removal::Absent);
        }
    }

    /// A registered agent of a former master did not come back in time.
    pub(crate) fn recovered_agent_expires(&mut self, id: &AgentId) {
        if self.recovered_agents.contains_key(id) && !self.stopped {
            self.schedule_removal(id, Removal::Recovered);
        }
    }

    /// A registered agent of a former master is given up.
    pub(crate) fn give_up_recovered_agent(&mut self, id: &AgentId) {
        let Some(info) = self.recovered_agents.remove(id) else {
            return;
        };
        let since = time_info(self.now);
        self.unreachable.insert(id.clone(), since);
        self.persist(vec![
            registry::delete_agent(id),
            registry::put_unreachable(id, since, &self.standing),
        ]);
        self.counters.recovery_slave_removals += 1;
        self.tell_agent_lost(&info);
    }

    /// The agent can't be reached; its tasks may run on and come back.
    pub(crate) fn mark_unreachable(&mut self, id: &AgentId, why: &str) {
        let since = time_info(self.now);
        self.unreachable.insert(id.clone(), since);
        self.persist(vec![
            registry::delete_agent(id),
            registry::put_unreachable(id, since, &self.standing),
        ]);
        self.counters.slave_removals += 1;
        self.counters.removals_unhealthy += 1;
        let hostname = self.agents.get(id).map(|agent| agent.info.hostname.clone());
        let text = format!(
            "Agent {} is unreachable: {why}",
            hostname.unwrap_or_default()
        );
        if let Some(agent) = self.agents.get(id).cloned() {
            let state = OperationState::OperationUnreachable;
            self.end_operations(&agent, Some(state), "Agent was marked unreachable");
        }
        self.end_agent(id, |framework| {
            let mut status = Status::master(
                framework.state_or_lost(TaskState::TaskUnreachable),
                Reason::AgentRemoved,
                text.clone(),
            );
            status.unreachable_time = Some(since);
            status
        });
    }

    /// The agent is gone for good: it said so, or was replaced.
    pub(crate) fn remove_agent(&mut self, id: &AgentId, why: &str) {
        self.persist(vec![registry::delete_agent(id)]);
        self.standing_mut().forget_agent(id);
        self.counters.slave_removals += 1;
        let hostname = self.agents.get(id).map(|agent| agent.info.hostname.clone());
        let text = format!("Agent {} removed: {why}", hostname.unwrap_or_default());
        self.end_agent(id, |_| {
            Status::master(TaskState::TaskLost, Reason::AgentRemoved, text.clone())
        });
    }

    /// Takes an agent off the books; `status` says what its tasks' frameworks hear.
    pub(crate) fn end_agent(&mut self, id: &AgentId, status: impl Fn(&Framework) -> Status) {
        let Some(agent) = self.agents.get(id).cloned() else {
            return;
        };
        self.removals.cancel(id);
        for offer in &agent.offers {
            self.rescind(offer);
        }
        self.rescind_inverse_offers_on(id);
        self.end_operations(&agent, None, "");
        for (framework, task) in &agent.tasks {
            if let Some(status) = self.frameworks.get(framework).map(|known| status(known)) {
                self.end_task(framework, task, &status);
            }
        }
        let frameworks: Vec<FrameworkId> = self.frameworks.keys().cloned().collect();
        for framework in frameworks {
            self.remove_executors_on(&framework, id);
        }
        self.allocator
            .handle(self.now, Allocation::RemoveAgent(id.clone()));
        self.agents.remove(id);
        if self.agent_pids.get(&agent.pid) == Some(id) {
            self.agent_pids.remove(&agent.pid);
        }
        self.publish(operator::Event {
            r#type: Some(operator::event::Type::AgentRemoved.into()),
            agent_removed: Some(operator::event::AgentRemoved {
                agent_id: id.clone(),
            }),
            ..operator::Event::default()
        });
        self.tell_agent_lost(&agent.info);
    }

    fn tell_agent_lost(&mut self, info: &AgentInfo) {
        let frameworks: Vec<FrameworkId> = self.frameworks.keys().cloned().collect();
        for framework in frameworks {
            let connected = self
                .frameworks
                .get(&framework)
                .is_some_and(|known| known.link.is_connected());
            if connected {
                let event = Event {
                    r#type: Some(event::Type::Failure.into()),
                    failure: Some(event::Failure {
                        agent_id: info.id.clone(),
                        executor_id: None,
                        status: None,
                    }),
                    ..Event::default()
                };
                self.tell(&framework, event);
            }
        }
        self.tell_hooks_agent_lost(info);
    }
}
