//! Agents that operators empty, take out of service, bring back, or declare gone.
//!
//! Rules AG-7, AG-13 and AG-14 of the conformance inventory; Mesos 1.11 `src/master/http.cpp`
//! (`_drainAgent` and its kin), `Master::checkAndTransitionDrainingAgent`, `Master::markGone`.

use std::sync::Arc;

use dcos_proto::internal::{DrainSlaveMessage, ShutdownMessage};
use dcos_proto::master::call;
use dcos_proto::mesos::agent_info::capability::Type as Capability;
use dcos_proto::mesos::framework_info::capability::Type as FrameworkCapability;
use dcos_proto::mesos::master_info::capability::Type as Ability;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    AgentId, DrainConfig, DrainInfo, DrainState, DurationInfo, FrameworkId, OperationState, TaskId,
    TaskState,
};

use super::core::time_info;
use super::standing::{MachineKey, Standing};
use super::tasks::Status;
use super::{Framework, Master, Reply, registry};
use crate::allocator::Event as Allocation;

const GONE: &str = "Agent has been marked gone";

impl Master {
    pub(crate) fn standing_mut(&mut self) -> &mut Standing {
        Arc::make_mut(&mut self.standing)
    }

    fn knows_agent(&self, id: &AgentId) -> bool {
        self.agents.contains_key(id)
            || self.recovered_agents.contains_key(id)
            || self.unreachable.contains_key(id)
    }

    /// `DRAIN_AGENT`: no more offers of it, and the agent is told to end what it runs.
    pub(crate) fn drain_agent(&mut self, drain: &call::DrainAgent) -> Reply {
        let id = &drain.agent_id;
        if let Err(text) = self.check_drain(id) {
            return Reply::refused(400, text);
        }
        let config = DrainConfig {
            max_grace_period: drain.max_grace_period.as_ref().map(nanoseconds),
            mark_gone: Some(drain.mark_gone()),
        };
        let standing = self.standing_mut();
        let info = DrainInfo {
            state: DrainState::Draining.into(),
            config,
        };
        standing.draining.insert(id.clone(), info);
        standing.deactivated.insert(id.clone());
        self.store_agent(id);
        if let Some(pid) = self.agents.get(id).map(|agent| agent.pid.clone()) {
            self.deactivate_agent(id);
            self.send(&pid, &DrainSlaveMessage { config });
            let now = self.now;
            if let Some(agent) = self.agent_mut(id) {
                agent.drain_started = Some(now);
            }
            self.emptied.insert(id.clone());
        }
        Reply::Done
    }

    fn check_drain(&self, id: &AgentId) -> Result<(), String> {
        if let Some(agent) = self.agents.get(id) {
            let machine = MachineKey::of_agent(&agent.info, &agent.pid);
            let windows = &self.standing.schedule.windows;
            let mut scheduled = windows.iter().flat_map(|window| &window.machine_ids);
            if let Some(machine) = scheduled.find(|id| MachineKey::from(*id) == machine) {
                return Err(format!(
                    "Agent {id} is part of a maintenance schedule under Machine {} ({})",
                    machine.hostname(),
                    machine.ip()
                ));
            }
            if !agent.has(Capability::AgentDraining) {
                return Err(format!("Agent {id} is not capable of draining"));
            }
        }
        if self.knows_agent(id) {
            Ok(())
        } else {
            Err("Unknown agent".to_owned())
        }
    }

    /// `DEACTIVATE_AGENT`: no more offers of it; what runs there runs on.
    pub(crate) fn order_deactivation(&mut self, id: &AgentId) -> Reply {
        if !self.knows_agent(id) {
            return Reply::refused(400, "Unknown agent");
        }
        self.standing_mut().deactivated.insert(id.clone());
        self.store_agent(id);
        self.deactivate_agent(id);
        Reply::Done
    }

    /// `REACTIVATE_AGENT`: undoes a deactivation, or a drain that is over.
    pub(crate) fn order_reactivation(&mut self, id: &AgentId) -> Reply {
        if !self.standing.deactivated.contains(id) {
            return Reply::refused(400, "Agent is not deactivated");
        }
        if self.standing.is_draining(id) {
            return Reply::refused(400, "Agent is still in the DRAINING state");
        }
        self.standing_mut().forget_agent(id);
        self.store_agent(id);
        let Some(agent) = self.agent_mut(id) else {
            return Reply::refused(409, "Agent removed while processing the call");
        };
        agent.drain_started = None;
        if agent.connected {
            agent.active = true;
            self.allocator
                .handle(self.now, Allocation::ActivateAgent(id.clone()));
        }
        Reply::Done
    }

    /// Writes down what is ordered for an agent, wherever it stands.
    fn store_agent(&mut self, id: &AgentId) {
        self.show_orders(id);
        let known = self.agents.get(id).map(|agent| &agent.info);
        let write = if let Some(info) = known.or_else(|| self.recovered_agents.get(id)) {
            registry::put_agent(info, &self.standing)
        } else if let Some(since) = self.unreachable.get(id) {
            registry::put_unreachable(id, *since, &self.standing)
        } else {
            return;
        };
        let mut writes = vec![write];
        let ordered = &self.standing;
        if ordered.draining.contains_key(id) || ordered.deactivated.contains(id) {
            writes.push(registry::put_needed(Ability::AgentDraining));
        }
        self.persist(writes);
    }

    /// Notes with the agent what is ordered for it, for its readers.
    fn show_orders(&mut self, id: &AgentId) {
        let deactivated = self.standing.deactivated.contains(id);
        let drain_info = self.standing.draining.get(id).copied();
        if let Some(agent) = self.agent_mut(id) {
            agent.deactivated = deactivated;
            agent.drain_info = drain_info;
        }
    }

    /// Takes back what is offered of an agent, and offers it no more.
    pub(crate) fn deactivate_agent(&mut self, id: &AgentId) {
        let Some(agent) = self.agent_mut(id) else {
            return;
        };
        agent.active = false;
        let offers = agent.offers.clone();
        self.allocator
            .handle(self.now, Allocation::DeactivateAgent(id.clone()));
        for offer in offers {
            self.rescind(&offer);
        }
        self.rescind_inverse_offers_on(id);
    }

    /// An agent is back that an operator wants empty or out of service: it is told again, since it
    /// may have missed it.
    pub(crate) fn repeat_orders(&mut self, id: &AgentId) {
        if self.standing.deactivated.contains(id) {
            self.show_orders(id);
            self.deactivate_agent(id);
        }
        let Some(info) = self.standing.draining.get(id).copied() else {
            return;
        };
        let Some(agent) = self.agents.get(id) else {
            return;
        };
        let (pid, later) = (agent.pid.clone(), agent.has(Capability::ResourceProvider));
        let message = DrainSlaveMessage {
            config: info.config,
        };
        self.send(&pid, &message);
        // Agents with resource providers tell of their operations in an update that follows.
        if !later {
            self.emptied.insert(id.clone());
        }
    }

    /// Agents that may have become empty: those that have are DRAINED, or gone if that was wished.
    pub(crate) fn conclude_drains(&mut self) {
        while let Some(id) = self.emptied.pop_first() {
            let empty = self.agents.get(&id).is_some_and(|agent| !agent.is_busy());
            if !empty || !self.standing.is_draining(&id) {
                continue;
            }
            let Some(info) = self.standing_mut().draining.get_mut(&id) else {
                continue;
            };
            if info.config.mark_gone() {
                self.mark_gone(&id);
            } else {
                info.state = DrainState::Drained.into();
                self.store_agent(&id);
            }
        }
    }

    /// `MARK_AGENT_GONE`.
    pub(crate) fn order_gone(&mut self, id: &AgentId) -> Reply {
        if self.gone.contains_key(id) {
            return Reply::Done;
        }
        if !self.knows_agent(id) {
            return Reply::refused(404, format!("Agent '{id}' not found"));
        }
        self.mark_gone(id);
        Reply::Done
    }

    /// The agent never comes back: whatever ran there is gone, and if it is there, it ends.
    fn mark_gone(&mut self, id: &AgentId) {
        let since = time_info(self.now);
        self.standing_mut().forget_agent(id);
        self.gone.insert(id.clone(), since);
        self.persist(vec![
            registry::delete_agent(id),
            registry::delete_unreachable(id),
            registry::put_gone(id, since),
        ]);
        self.recovered_agents.remove(id);
        if self.unreachable.remove(id).is_some() {
            self.end_unreachable_tasks(id);
        }
        let Some(pid) = self.agents.get(id).map(|agent| agent.pid.clone()) else {
            return;
        };
        self.counters.slave_removals += 1;
        let message = ShutdownMessage {
            message: Some(GONE.to_owned()),
        };
        self.send(&pid, &message);
        if let Some(agent) = self.agents.get(id).cloned() {
            let state = OperationState::OperationGoneByOperator;
            self.end_operations(&agent, Some(state), GONE);
        }
        self.end_agent(id, gone_status);
    }

    /// What could not be reached will not come back.
    fn end_unreachable_tasks(&mut self, id: &AgentId) {
        let lost: Vec<(FrameworkId, TaskId)> = self
            .frameworks
            .iter()
            .flat_map(|(framework, known)| {
                let tasks = known.unreachable_tasks.iter();
                let here = tasks.filter(|task| task.agent_id() == id);
                here.map(|task| (framework.clone(), task.task_id.clone()))
            })
            .collect();
        for (framework, task) in lost {
            let Some(known) = self.frameworks.get(&framework) else {
                continue;
            };
            let status = gone_status(known);
            self.end_unreachable_task(&framework, &task, &status);
        }
    }
}

fn gone_status(framework: &Framework) -> Status {
    let text = GONE.to_owned();
    if framework.has(FrameworkCapability::PartitionAware) {
        let reason = Reason::AgentRemovedByOperator;
        Status::master(TaskState::TaskGoneByOperator, reason, text)
    } else {
        Status::master(TaskState::TaskLost, Reason::AgentRemoved, text)
    }
}

/// A duration of Google's kind as one of Mesos's.
fn nanoseconds(duration: &dcos_proto::mesos::Duration) -> DurationInfo {
    let nanos = i64::from(duration.nanos());
    DurationInfo {
        nanoseconds: duration
            .seconds()
            .saturating_mul(1_000_000_000)
            .saturating_add(nanos),
    }
}
