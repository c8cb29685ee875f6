//! A double for tests: first come, first served.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::{Quantities, ResourceExt, Resources, Scalar, shrink};
use dcos_core::roles;
use dcos_core::time::{Time, earliest};
use dcos_proto::mesos::{AgentId, FrameworkId, Resource, Unavailability};

use super::words::{
    AgentSpec, Config, Decisions, Event, FrameworkSpec, Grant, InverseGrant, NonOffer, NotFree,
    Quota, Reason,
};
use super::{Allocator, rules};

/// Grants everything to the first framework (by id) and role (by name) that may have it.
///
/// It keeps the whole contract and is as simple as that allows, which makes it a fair opponent
/// for comparing implementations; it is neither fair to frameworks nor fast.
#[derive(Debug, Default)]
pub struct FirstCome {
    config: Config,
    frameworks: BTreeMap<FrameworkId, Framework>,
    agents: BTreeMap<AgentId, Agent>,
    quotas: BTreeMap<String, Quota>,
    whitelist: Option<BTreeSet<String>>,
    paused: bool,
    due: Option<Time>,
}

#[derive(Debug)]
struct Framework {
    spec: FrameworkSpec,
    active: bool,
    refusals: Vec<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    role: String,
    agent: AgentId,
    resources: Resources,
    until: Time,
}

#[derive(Debug)]
struct Agent {
    spec: AgentSpec,
    used: BTreeMap<FrameworkId, Resources>,
    active: bool,
    unavailability: Option<Unavailability>,
    /// Who was asked to leave, and until when nobody need be asked again, if they answered.
    asked: BTreeMap<FrameworkId, Option<Time>>,
}

impl Agent {
    fn available(&self) -> Resources {
        let mut available = self.spec.total.clone();
        for used in self.used.values() {
            available -= &used.unallocated().filter(|resource| !resource.is_shared());
        }
        available
    }
}

/// Whether a resource counts towards a quota only while it is held.
fn is_open(resource: &Resource) -> bool {
    resource.is_unreserved() && !resource.is_revocable() && resource.scalar_value().is_some()
}

impl FirstCome {
    /// An allocator that follows `config`; weights, priorities, fairness and wishes mean nothing to
    /// it.
    pub fn new(config: Config) -> Self {
        Self {
            quotas: config.quotas.clone(),
            config,
            ..Self::default()
        }
    }

    /// What a top-level role consumes: all reservations, and what it holds of the rest.
    fn consumed(&self, role: &str) -> Quantities {
        let mut consumed = Quantities::default();
        for agent in self.agents.values() {
            for resource in agent.spec.total.iter() {
                let is_ours = |reserved: &str| roles::top_level(reserved) == role;
                if resource.reservation_role().is_some_and(is_ours) {
                    consumed.add(&resource.name, resource.scalar_value().unwrap_or_default());
                }
            }
            for resource in agent.used.values().flat_map(Resources::iter) {
                let is_ours = |held: &str| roles::top_level(held) == role;
                if is_open(resource) && resource.allocation_role().is_some_and(is_ours) {
                    consumed.add(&resource.name, resource.scalar_value().unwrap_or_default());
                }
            }
        }
        consumed
    }

    /// How much of `name` the role may have more: within its limit, and without what is kept
    /// free for the guarantees of others.
    fn room(&self, role: &str, name: &str) -> Scalar {
        let top = roles::top_level(role);
        let mut room = Scalar::from_millis(i64::MAX / 2);
        if let Some(limit) = self
            .quotas
            .get(top)
            .and_then(|quota| quota.limits.get(name))
        {
            room = limit.saturating_sub(self.consumed(top).get(name));
        }
        let missing = |(role, quota): (&String, &Quota)| {
            quota
                .guarantees
                .get(name)
                .saturating_sub(self.consumed(role).get(name))
        };
        let others = self.quotas.iter().filter(|(role, _)| *role != top);
        let kept = others.map(missing).fold(Scalar::ZERO, std::ops::Add::add);
        if kept.is_zero() {
            return room;
        }
        let free = self.agents.values().map(|agent| {
            let open = agent.available().filter(is_open);
            open.scalar(name).unwrap_or_default()
        });
        let free = free.fold(Scalar::ZERO, std::ops::Add::add);
        room.min(free.saturating_sub(kept))
    }

    /// What quotas leave of `resources`.
    fn within_quota(&self, role: &str, resources: &Resources) -> Resources {
        if self.quotas.is_empty() {
            return resources.clone();
        }
        let mut portion = resources.filter(|resource| !is_open(resource));
        for name in resources.filter(is_open).names() {
            let mut room = self.room(role, name);
            for resource in resources.iter().filter(|r| is_open(r) && r.name == name) {
                let mut piece = resource.clone();
                if shrink(&mut piece, room) {
                    room = room.saturating_sub(piece.scalar_value().unwrap_or_default());
                    portion.add_message(&piece);
                }
            }
        }
        portion
    }

    /// Why the role gets less than is there.
    fn quota_reason(&self, role: &str, resources: &Resources) -> Reason {
        let top = roles::top_level(role);
        let consumed = self.consumed(top);
        let limits = self.quotas.get(top).map(|quota| &quota.limits);
        let names: Vec<String> = limits
            .into_iter()
            .flatten()
            .filter(|(name, limit)| {
                consumed.get(name) >= **limit && resources.scalar(name).is_some()
            })
            .map(|(name, _)| name.clone())
            .collect();
        if !names.is_empty() {
            return Reason::QuotaReached {
                role: top.to_owned(),
                names,
            };
        }
        let is_missing =
            |(role, quota): &(&String, &Quota)| !self.consumed(role).contains(&quota.guarantees);
        let waiting = self.quotas.iter().filter(is_missing);
        Reason::Headroom {
            roles: waiting.map(|(role, _)| role.clone()).collect(),
        }
    }

    fn ask_to_leave(&mut self, now: Time) -> Vec<InverseGrant> {
        let mut grants = Vec::new();
        for (id, agent) in &mut self.agents {
            let Some(unavailability) = &agent.unavailability else {
                continue;
            };
            for holder in agent.used.keys() {
                let is_there = self
                    .frameworks
                    .get(holder)
                    .is_some_and(|known| known.active);
                let may_ask = match agent.asked.get(holder) {
                    None => true,
                    Some(until) => until.is_some_and(|until| until.is_due(now)),
                };
                if is_there && may_ask {
                    agent.asked.insert(holder.clone(), None);
                    grants.push(InverseGrant {
                        framework: holder.clone(),
                        agent: id.clone(),
                        unavailability: *unavailability,
                    });
                }
            }
        }
        grants
    }

    fn roles(&self, framework: &FrameworkId, roles: Vec<String>) -> BTreeSet<String> {
        let Some(framework) = self.frameworks.get(framework) else {
            return BTreeSet::new();
        };
        if roles.is_empty() {
            framework.spec.roles.clone()
        } else {
            roles.into_iter().collect()
        }
    }

    /// What the pair would be granted, or why it would not.
    fn judge(
        &self,
        now: Time,
        agent: &Agent,
        of: &Framework,
        role: &str,
    ) -> Result<Resources, Reason> {
        if !of.active {
            return Err(Reason::FrameworkInactive);
        }
        if !of.spec.roles.contains(role) {
            return Err(Reason::NotSubscribed);
        }
        if of.spec.suppressed.contains(role) {
            return Err(Reason::Suppressed);
        }
        if !agent.active {
            return Err(Reason::AgentInactive);
        }
        if self
            .whitelist
            .as_ref()
            .is_some_and(|names| !names.contains(&agent.spec.hostname))
        {
            return Err(Reason::NotWhitelisted);
        }
        let capabilities = of.spec.capabilities;
        if let Some(reason) = rules::barred(
            &self.config,
            rules::Traits::of(&agent.spec),
            capabilities,
            role,
        ) {
            return Err(reason);
        }
        if of.spec.constraints.exclude(role, &agent.spec) {
            return Err(Reason::Constrained);
        }
        let available = agent.available();
        if available.is_empty() {
            return Err(Reason::Held {
                by: agent.used.keys().cloned().collect(),
            });
        }
        let suitable = rules::suitable(&available, role, capabilities);
        let minimum = rules::minimum(&self.config, &of.spec, role);
        if !rules::is_worth_it(&suitable, minimum) {
            return Err(rules::shortage(&available, role, &suitable));
        }
        let whole = suitable;
        let suitable = self.within_quota(role, &whole);
        if !rules::is_worth_it(&suitable, minimum) {
            return Err(self.quota_reason(role, &whole));
        }
        let refused = of.refusals.iter().find(|refusal| {
            refusal.role == role
                && refusal.agent == agent.spec.id
                && refusal.until > now
                && refusal.resources.contains(&suitable)
        });
        match refused {
            Some(refusal) => Err(Reason::Filtered {
                until: refusal.until,
            }),
            None if self.paused => Err(Reason::Paused),
            None => Ok(suitable),
        }
    }
}

impl Allocator for FirstCome {
    fn handle(&mut self, now: Time, event: Event) {
        self.due = Some(now);
        match event {
            Event::AddFramework(spec) => {
                let id = spec.id.clone();
                self.frameworks.insert(
                    id,
                    Framework {
                        spec,
                        active: true,
                        refusals: Vec::new(),
                    },
                );
            }
            Event::UpdateFramework(spec) => {
                if let Some(framework) = self.frameworks.get_mut(&spec.id) {
                    framework.spec = spec;
                }
            }
            Event::ActivateFramework(id) => {
                if let Some(framework) = self.frameworks.get_mut(&id) {
                    framework.active = true;
                }
            }
            Event::DeactivateFramework(id) => {
                if let Some(framework) = self.frameworks.get_mut(&id) {
                    framework.active = false;
                    framework.refusals.clear();
                }
                for agent in self.agents.values_mut() {
                    agent.asked.remove(&id);
                }
            }
            Event::RemoveFramework(id) => {
                self.frameworks.remove(&id);
                for agent in self.agents.values_mut() {
                    agent.used.remove(&id);
                    agent.asked.remove(&id);
                }
            }
            Event::AddAgent(mut spec) => {
                for framework in self.frameworks.values_mut() {
                    framework
                        .refusals
                        .retain(|refusal| refusal.agent != spec.id);
                }
                let used = std::mem::take(&mut spec.used);
                self.agents.insert(
                    spec.id.clone(),
                    Agent {
                        spec,
                        used,
                        active: true,
                        unavailability: None,
                        asked: BTreeMap::new(),
                    },
                );
            }
            Event::UpdateAgent(spec) => {
                if let Some(agent) = self.agents.get_mut(&spec.id) {
                    agent.spec = spec;
                }
            }
            Event::ActivateAgent(id) => {
                if let Some(agent) = self.agents.get_mut(&id) {
                    agent.active = true;
                }
            }
            Event::DeactivateAgent(id) => {
                if let Some(agent) = self.agents.get_mut(&id) {
                    agent.active = false;
                }
            }
            Event::RemoveAgent(id) => _ = self.agents.remove(&id),
            Event::Recover {
                framework,
                agent,
                resources,
                refuse,
            } => {
                self.recover(now, &framework, &agent, &resources, refuse);
            }
            Event::Convert {
                framework,
                agent,
                consumed,
                converted,
            } => {
                if let Some(agent) = self.agents.get_mut(&agent)
                    && let Some(used) = agent.used.get_mut(&framework)
                    && let Some(exchanged) = used.exchange(&consumed, &converted)
                {
                    *used = exchanged;
                    if !consumed.is_empty() {
                        agent.spec.total -= &consumed.unallocated();
                        agent.spec.total += &converted.unallocated();
                    }
                }
            }
            Event::Suppress { framework, roles } => {
                let roles = self.roles(&framework, roles);
                if let Some(framework) = self.frameworks.get_mut(&framework) {
                    framework.spec.suppressed.extend(roles);
                }
            }
            Event::Revive { framework, roles } => {
                let roles = self.roles(&framework, roles);
                if let Some(framework) = self.frameworks.get_mut(&framework) {
                    framework
                        .refusals
                        .retain(|refusal| !roles.contains(&refusal.role));
                    framework
                        .spec
                        .suppressed
                        .retain(|role| !roles.contains(role));
                }
            }
            // It is neither fair nor hurried, and whoever comes first may have it all.
            Event::Answered { .. }
            | Event::Wish { .. }
            | Event::Weights(_)
            | Event::Priorities(_)
            | Event::AwaitAgents { .. } => {}
            Event::Quotas(quotas) => {
                self.quotas.extend(quotas);
                self.quotas.retain(|_, quota| !quota.is_default());
            }
            Event::Unavailability {
                agent,
                unavailability,
            } => {
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.unavailability = unavailability;
                    agent.asked.clear();
                }
            }
            Event::AnsweredInverse {
                framework,
                agent,
                refuse,
            } => {
                let until = now + refuse.unwrap_or_default().max(self.config.interval);
                if self.frameworks.contains_key(&framework)
                    && let Some(agent) = self.agents.get_mut(&agent)
                    && agent.unavailability.is_some()
                {
                    agent.asked.insert(framework, Some(until));
                }
            }
            Event::Whitelist(names) => self.whitelist = names,
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
        }
    }

    fn convert_free(
        &mut self,
        now: Time,
        id: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) -> Result<(), NotFree> {
        let unknown = || NotFree::UnknownAgent(id.clone());
        let agent = self.agents.get_mut(id).ok_or_else(unknown)?;
        let is_in_use = |resource: &Resource| {
            let mut held = agent.used.values().map(Resources::unallocated);
            resource.is_shared() && held.any(|held| held.contains_message(resource))
        };
        if !agent.available().contains(consumed) || consumed.iter().any(is_in_use) {
            return Err(NotFree::Held {
                agent: id.clone(),
                missing: consumed.to_string(),
            });
        }
        agent.spec.total -= consumed;
        agent.spec.total += converted;
        self.due = Some(now);
        Ok(())
    }

    fn poll(&mut self, now: Time) -> Decisions {
        let mut grants = Vec::new();
        let pairs: Vec<(FrameworkId, String)> = self
            .frameworks
            .iter()
            .flat_map(|(id, framework)| {
                framework
                    .spec
                    .roles
                    .iter()
                    .map(|role| (id.clone(), role.clone()))
            })
            .collect();
        let agents: Vec<AgentId> = self.agents.keys().cloned().collect();
        for agent in agents {
            for (framework, role) in &pairs {
                let judged =
                    self.judge(now, &self.agents[&agent], &self.frameworks[framework], role);
                let Ok(suitable) = judged else { continue };
                let resources = suitable.allocated_to(role);
                if let Some(agent) = self.agents.get_mut(&agent) {
                    *agent.used.entry(framework.clone()).or_default() += &resources;
                }
                grants.push(Grant {
                    framework: framework.clone(),
                    role: role.clone(),
                    agent: agent.clone(),
                    resources,
                });
            }
        }
        let refusals = self.frameworks.values_mut().flat_map(|framework| {
            framework.refusals.retain(|refusal| refusal.until > now);
            &framework.refusals
        });
        let refused = refusals.map(|refusal| refusal.until).min();
        let inverse = self.ask_to_leave(now);
        let answers = self.agents.values().flat_map(|agent| agent.asked.values());
        let asked = answers
            .flatten()
            .copied()
            .filter(|until| *until > now)
            .min();
        self.due = earliest(refused, asked);
        Decisions {
            grants,
            inverse,
            ..Decisions::default()
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        earliest(self.due, None)
    }

    fn explain(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer> {
        let Some(framework) = self.frameworks.get(framework) else {
            return Vec::new();
        };
        let reason = |agent: &Agent| self.judge(now, agent, framework, role).err();
        self.agents
            .iter()
            .map(|(id, agent)| NonOffer {
                agent: id.clone(),
                reason: reason(agent).unwrap_or(Reason::Pending),
            })
            .collect()
    }
}

impl FirstCome {
    fn recover(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        agent_id: &AgentId,
        resources: &Resources,
        refuse: Option<std::time::Duration>,
    ) {
        let Some(agent) = self.agents.get_mut(agent_id) else {
            return;
        };
        let Some(used) = agent.used.get_mut(framework) else {
            return;
        };
        *used -= resources;
        if used.is_empty() {
            agent.used.remove(framework);
        }
        let Some(framework) = self.frameworks.get_mut(framework) else {
            return;
        };
        let Some(refuse) = refuse else { return };
        for (role, resources) in resources.allocations() {
            framework.refusals.push(Refusal {
                role,
                agent: agent_id.clone(),
                resources: resources.unallocated(),
                until: now + refuse.max(self.config.interval),
            });
        }
    }
}
