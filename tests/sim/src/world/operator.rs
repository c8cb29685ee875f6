//! An operator: gives orders while there is trouble, and puts everything right afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::resources::{ResourceExt, Resources};
use dcos_proto::maintenance::{Schedule, Window};
use dcos_proto::master::{Call, call};
use dcos_proto::mesos::machine_info::Mode;
use dcos_proto::mesos::{
    AgentId, MachineId, Resource, TimeInfo, Unavailability, WeightInfo, value,
};
use dcos_proto::quota::QuotaConfig;
use dcos_sched::master::{Input, Master};

use super::happening::Happening;
use super::{BEGIN, World};
use crate::framework::{ROLES, keep, volume_on};
use crate::kept;
use crate::node::{Node, host};
use crate::order::Order;
use crate::watch::holdings;

/// How often the operator looks whether something is left to be put right.
const TIDY: Duration = Duration::from_secs(4);
/// Requests of the operator have numbers above those of frameworks.
const FIRST: u64 = 1 << 62;

/// What the operator has asked for, and what was promised.
#[derive(Debug)]
pub(super) struct Operator {
    next: u64,
    /// What each open request would promise.
    asked: BTreeMap<u64, Promise>,
    /// What was promised last, and since when nothing else was asked for.
    pub(super) promised: BTreeMap<Subject, Promise>,
    made: u64,
}

/// What a promise is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Quota(String),
    Weight(String),
    Agent(AgentId),
}

/// What has to be found in every later leader's books.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Promise {
    Quota(QuotaConfig),
    Weight(String, f64),
    Deactivated(AgentId),
    Gone(AgentId),
}

impl Promise {
    fn subject(&self) -> Subject {
        match self {
            Self::Quota(config) => Subject::Quota(config.role.clone()),
            Self::Weight(role, _) => Subject::Weight(role.clone()),
            Self::Deactivated(agent) | Self::Gone(agent) => Subject::Agent(agent.clone()),
        }
    }
}

impl Operator {
    pub(super) fn new() -> Self {
        Self {
            next: FIRST,
            asked: BTreeMap::new(),
            promised: BTreeMap::new(),
            made: 0,
        }
    }

    /// A request that makes earlier promises on its subject void.
    fn ask(&mut self, call: &Call) -> u64 {
        self.next += 1;
        for subject in subjects(call) {
            self.promised.remove(&subject);
            self.asked.retain(|_, promise| promise.subject() != subject);
        }
        if let Some(promise) = promise(call) {
            self.asked.insert(self.next, promise);
        }
        self.next
    }

    /// A request was answered: done, or refused.
    pub(super) fn hear(&mut self, request: u64, is_done: bool) {
        if let Some(promise) = self.asked.remove(&request)
            && is_done
        {
            self.promised.insert(promise.subject(), promise);
        }
    }
}

fn subjects(call: &Call) -> Vec<Subject> {
    let quotas = call.update_quota.iter().flat_map(|it| &it.quota_configs);
    let mut all: Vec<Subject> = quotas.map(|it| Subject::Quota(it.role.clone())).collect();
    let weights = call.update_weights.iter().flat_map(|it| &it.weight_infos);
    all.extend(weights.map(|it| Subject::Weight(it.role().to_owned())));
    all.extend(agent_of(call).map(|id| Subject::Agent(id.clone())));
    all
}

fn agent_of(call: &Call) -> Option<&AgentId> {
    let drain = call.drain_agent.as_ref().map(|it| &it.agent_id);
    let deactivate = call.deactivate_agent.as_ref().map(|it| &it.agent_id);
    let reactivate = call.reactivate_agent.as_ref().map(|it| &it.agent_id);
    let gone = call.mark_agent_gone.as_ref().map(|it| &it.agent_id);
    drain.or(deactivate).or(reactivate).or(gone)
}

fn promise(call: &Call) -> Option<Promise> {
    if let Some(update) = &call.update_quota {
        return update.quota_configs.first().cloned().map(Promise::Quota);
    }
    if let Some(update) = &call.update_weights {
        let info = update.weight_infos.first()?;
        return Some(Promise::Weight(info.role().to_owned(), info.weight));
    }
    let agent = agent_of(call)?.clone();
    match call.r#type() {
        call::Type::DrainAgent | call::Type::DeactivateAgent => Some(Promise::Deactivated(agent)),
        call::Type::MarkAgentGone => Some(Promise::Gone(agent)),
        _ => None,
    }
}

impl World {
    /// An order is given to whoever leads.
    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::Grow { who, pause } => {
                let node = super::faults::pick(who, self.nodes.len());
                return self.restart(node, pause, Node::grow);
            }
            Order::Wipe { who, pause } => {
                let node = super::faults::pick(who, self.nodes.len());
                self.watch.forgot(node);
                self.watch.expect_end_at(node);
                return self.restart(node, pause, Node::wipe);
            }
            _ => {}
        }
        if let Some(call) = self.call_of(order) {
            self.give(call);
        }
    }

    /// An agent ends, its node is changed, and the agent starts again.
    fn restart(&mut self, node: usize, pause: Duration, change: fn(&mut Node)) {
        let was_up = self.nodes[node].agent.is_some();
        if was_up {
            self.nodes[node].crash();
        }
        change(&mut self.nodes[node]);
        if was_up {
            self.agent_is_gone(node, pause);
        }
    }

    fn give(&mut self, call: Call) {
        let Some(at) = self.election.leader() else {
            return;
        };
        let life = self.hosts[at].life;
        let time = self.now + self.network.delay();
        let call = Box::new(call);
        self.queue.at(time, Happening::Order { at, life, call });
    }

    /// It arrives.
    pub(super) fn reach_operator_api(&mut self, at: usize, life: u64, call: Box<Call>) {
        if life != self.hosts[at].life || self.hosts[at].master.is_none() {
            return;
        }
        for operation in operations_of(&call) {
            self.watch.operates(&operation);
        }
        let request = self.operator.ask(&call);
        let principal = None;
        self.tell_master(
            at,
            Input::Operator {
                request,
                principal,
                call,
            },
        );
    }

    fn agent_at(&self, who: u64) -> Option<AgentId> {
        let node = &self.nodes[super::faults::pick(who, self.nodes.len())];
        node.agent.as_ref()?.id().cloned()
    }

    /// What the leader believes that an agent has and nobody uses.
    fn free_of(&self, id: &AgentId) -> Option<Resources> {
        let master = self.hosts[self.election.leader()?].master.as_ref()?;
        let agent = master.agent(id)?;
        Some(&agent.total - &agent.used_total().unallocated())
    }

    fn call_of(&mut self, order: Order) -> Option<Call> {
        let role_of = |role: u64| {
            let role = ROLES[super::faults::pick(role, ROLES.len())];
            role.split('/').next().unwrap_or(role).to_owned()
        };
        Some(match order {
            Order::Quota {
                role,
                guarantee,
                limit,
                force,
            } => {
                let nodes = self.nodes.len() as u64;
                let part = |percent: u64, each: u64| value::Scalar {
                    value: f64::from(u32::try_from(percent * nodes * each / 100).unwrap_or(0)),
                };
                let both = |percent| {
                    let amounts = [("cpus", part(percent, 4)), ("mem", part(percent, 1024))];
                    amounts.map(|(name, amount)| (name.to_owned(), amount))
                };
                let config = QuotaConfig {
                    role: role_of(role),
                    guarantees: both(guarantee.min(limit)).into_iter().collect(),
                    limits: both(limit).into_iter().collect(),
                };
                quota(config, force)
            }
            Order::NoQuota { role } => no_quota(role_of(role)),
            Order::Weight { role, weight } => weigh(role_of(role), weight),
            Order::Reserve { who, role } => {
                let agent_id = self.agent_at(who)?;
                self.operator.made += 1;
                let label = format!("operator/{}", self.operator.made);
                let what = Resources::parse("cpus:1;mem:64;disk:64").ok()?;
                let what = keep(
                    &what,
                    ROLES[super::faults::pick(role, ROLES.len())],
                    &label,
                    None,
                )?;
                reserve(agent_id, what.to_messages())
            }
            Order::Unreserve { who } => {
                let agent_id = self.agent_at(who)?;
                let free = self.free_of(&agent_id)?.checkpointed();
                let resources = free.filter(|it| holdings::volume_id(it).is_none());
                unreserve(agent_id, resources.to_messages())?
            }
            Order::Create { who } => {
                let agent_id = self.agent_at(who)?;
                let free = self.free_of(&agent_id)?.checkpointed();
                let disk = free.filter(|it| it.name == "disk" && it.disk.is_none());
                self.operator.made += 1;
                let id = format!("operator-{}", self.operator.made);
                let volume = volume_on(disk.iter().next()?, &id);
                create(agent_id, vec![volume])
            }
            Order::Destroy { who } => {
                let agent_id = self.agent_at(who)?;
                let free = self.free_of(&agent_id)?;
                let volumes = free.filter(ResourceExt::is_persistent_volume);
                destroy(agent_id, volumes.to_messages())?
            }
            Order::Drain { who, gone } => drain(self.agent_at(who)?, gone),
            Order::Deactivate { who } => deactivate(self.agent_at(who)?),
            Order::Reactivate { who } => reactivate(self.agent_at(who)?),
            Order::Gone { who } => gone(self.agent_at(who)?),
            Order::Schedule { who, count } => {
                let first = super::faults::pick(who, self.nodes.len());
                let count = usize::try_from(count).unwrap_or(1);
                let some = (first..self.nodes.len()).take(count).map(machine);
                let start = (self.now - BEGIN).as_nanos();
                let start = i64::try_from(start).unwrap_or(0) + 60_000_000_000;
                schedule(some.collect(), start)
            }
            Order::Down => self.maintenance(Mode::Draining)?,
            Order::Up => self.maintenance(Mode::Down)?,
            Order::Grow { .. } | Order::Wipe { .. } => return None,
        })
    }

    /// The next step of maintenance for all machines in a mode.
    fn maintenance(&self, mode: Mode) -> Option<Call> {
        let master = self.hosts[self.election.leader()?].master.as_ref()?;
        let machines = master.standing().machines.values();
        let machines = machines.filter(|machine| machine.mode() == mode);
        let machines: Vec<MachineId> = machines.map(|machine| machine.id.clone()).collect();
        if machines.is_empty() {
            return None;
        }
        Some(if mode == Mode::Down {
            Call {
                stop_maintenance: Some(call::StopMaintenance { machines }),
                ..kind(call::Type::StopMaintenance)
            }
        } else {
            Call {
                start_maintenance: Some(call::StartMaintenance { machines }),
                ..kind(call::Type::StartMaintenance)
            }
        })
    }

    /// After the trouble: takes back every order, and what is kept by nobody who is still there.
    pub(super) fn tidy(&mut self) {
        self.queue.at(self.now + TIDY, Happening::Tidy);
        let Some(at) = self.election.leader() else {
            return;
        };
        let Some(master) = &self.hosts[at].master else {
            return;
        };
        for call in tidying(master) {
            self.give(call);
        }
    }

    /// A new leader keeps what earlier ones promised.
    pub(super) fn check_promises(&mut self, at: usize) {
        let Some(master) = &self.hosts[at].master else {
            return;
        };
        let standing = master.standing();
        let broken = self
            .operator
            .promised
            .values()
            .find(|promise| match promise {
                Promise::Quota(config) => {
                    let wanted = dcos_sched::allocator::Quota::from_config(config);
                    standing
                        .quotas
                        .get(&config.role)
                        .cloned()
                        .unwrap_or_default()
                        != wanted
                }
                Promise::Weight(role, weight) => standing.weights.get(role) != Some(weight),
                Promise::Deactivated(agent) => {
                    let is_known = self.registry.has(&format!("mesos/agents/{agent}"));
                    is_known && !standing.deactivated.contains(agent)
                }
                Promise::Gone(agent) => !master.is_gone(agent),
            });
        if let Some(broken) = broken {
            self.watch
                .complain(format!("the next leader does not know {broken:?}"));
        }
    }
}

/// What is left to be put right.
fn tidying(master: &Master) -> Vec<Call> {
    let standing = master.standing();
    let mut calls: Vec<Call> = standing.quotas.keys().cloned().map(no_quota).collect();
    let down = standing
        .machines
        .values()
        .filter(|it| it.mode() == Mode::Down);
    let machines: Vec<MachineId> = down.map(|machine| machine.id.clone()).collect();
    if !machines.is_empty() {
        calls.push(Call {
            stop_maintenance: Some(call::StopMaintenance { machines }),
            ..kind(call::Type::StopMaintenance)
        });
    } else if !standing.machines.is_empty() {
        calls.push(schedule(Vec::new(), 0));
    }
    calls.extend(standing.deactivated.iter().cloned().map(reactivate));
    for agent in master.agents() {
        if agent.total.checkpointed().is_empty() {
            continue;
        }
        let free = &agent.total - &agent.used_total().unallocated();
        // What a Marathon has, it gives back itself.
        let free = free.checkpointed().filter(|it| kept::owner(it).is_none());
        let volumes = free.filter(ResourceExt::is_persistent_volume);
        let rest = free.filter(|it| !it.is_persistent_volume());
        calls.extend(destroy(agent.id(), volumes.to_messages()));
        calls.extend(unreserve(agent.id(), rest.to_messages()));
    }
    calls
}

/// The operations of resources an order asks for.
fn operations_of(call: &Call) -> Vec<dcos_proto::mesos::offer::Operation> {
    use dcos_proto::mesos::offer::{Operation, operation};
    let mut operation = Operation::default();
    if let Some(call) = &call.unreserve_resources {
        let resources = call.resources.clone();
        operation.unreserve = Some(operation::Unreserve { resources });
    }
    if let Some(call) = &call.destroy_volumes {
        let volumes = call.volumes.clone();
        operation.destroy = Some(operation::Destroy { volumes });
    }
    vec![operation]
}

fn machine(node: usize) -> MachineId {
    MachineId {
        hostname: Some(host(node)),
        ip: Some(host(node)),
    }
}

fn kind(kind: call::Type) -> Call {
    Call {
        r#type: Some(kind.into()),
        ..Call::default()
    }
}

fn quota(config: QuotaConfig, force: bool) -> Call {
    Call {
        update_quota: Some(call::UpdateQuota {
            force: Some(force),
            quota_configs: vec![config],
        }),
        ..kind(call::Type::UpdateQuota)
    }
}

fn no_quota(role: String) -> Call {
    let nothing = QuotaConfig {
        role,
        ..QuotaConfig::default()
    };
    quota(nothing, true)
}

fn weigh(role: String, weight: u64) -> Call {
    let info = WeightInfo {
        role: Some(role),
        weight: f64::from(u32::try_from(weight).unwrap_or(1)),
    };
    Call {
        update_weights: Some(call::UpdateWeights {
            weight_infos: vec![info],
        }),
        ..kind(call::Type::UpdateWeights)
    }
}

fn reserve(agent_id: AgentId, resources: Vec<Resource>) -> Call {
    Call {
        reserve_resources: Some(call::ReserveResources {
            agent_id,
            resources,
            source: Vec::new(),
        }),
        ..kind(call::Type::ReserveResources)
    }
}

fn unreserve(agent_id: AgentId, resources: Vec<Resource>) -> Option<Call> {
    (!resources.is_empty()).then(|| Call {
        unreserve_resources: Some(call::UnreserveResources {
            agent_id,
            resources,
        }),
        ..kind(call::Type::UnreserveResources)
    })
}

fn create(agent_id: AgentId, volumes: Vec<Resource>) -> Call {
    Call {
        create_volumes: Some(call::CreateVolumes { agent_id, volumes }),
        ..kind(call::Type::CreateVolumes)
    }
}

fn destroy(agent_id: AgentId, volumes: Vec<Resource>) -> Option<Call> {
    (!volumes.is_empty()).then(|| Call {
        destroy_volumes: Some(call::DestroyVolumes { agent_id, volumes }),
        ..kind(call::Type::DestroyVolumes)
    })
}

fn drain(agent_id: AgentId, gone: bool) -> Call {
    Call {
        drain_agent: Some(call::DrainAgent {
            agent_id,
            max_grace_period: None,
            mark_gone: Some(gone),
        }),
        ..kind(call::Type::DrainAgent)
    }
}

fn deactivate(agent_id: AgentId) -> Call {
    Call {
        deactivate_agent: Some(call::DeactivateAgent { agent_id }),
        ..kind(call::Type::DeactivateAgent)
    }
}

fn reactivate(agent_id: AgentId) -> Call {
    Call {
        reactivate_agent: Some(call::ReactivateAgent { agent_id }),
        ..kind(call::Type::ReactivateAgent)
    }
}

fn gone(agent_id: AgentId) -> Call {
    Call {
        mark_agent_gone: Some(call::MarkAgentGone { agent_id }),
        ..kind(call::Type::MarkAgentGone)
    }
}

fn schedule(machine_ids: Vec<MachineId>, start: i64) -> Call {
    let window = Window {
        machine_ids,
        unavailability: Unavailability {
            start: TimeInfo { nanoseconds: start },
            duration: None,
        },
    };
    let windows = (!window.machine_ids.is_empty()).then_some(window);
    Call {
        update_maintenance_schedule: Some(call::UpdateMaintenanceSchedule {
            schedule: Schedule {
                windows: windows.into_iter().collect(),
            },
        }),
        ..kind(call::Type::UpdateMaintenanceSchedule)
    }
}
