//! A double for tests: first come, first served.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::Resources;
use dcos_core::time::{Time, earliest};
use dcos_proto::mesos::{AgentId, FrameworkId};

use super::words::{AgentSpec, Config, Event, FrameworkSpec, Grant, NonOffer, Reason};
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
}

impl Agent {
    fn available(&self) -> Resources {
        let mut available = self.spec.total.clone();
        for used in self.used.values() {
            available -= &used.unallocated();
        }
        available
    }
}

impl FirstCome {
    /// An allocator that follows `config`; weights and fairness mean nothing to it.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ..Self::default()
        }
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
        if !rules::is_worth_it(&suitable, rules::minimum(&self.config, &of.spec, role)) {
            return Err(rules::shortage(&available, role, &suitable));
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
            }
            Event::RemoveFramework(id) => {
                self.frameworks.remove(&id);
                for agent in self.agents.values_mut() {
                    agent.used.remove(&id);
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
                    agent.spec.total -= &consumed.unallocated();
                    agent.spec.total += &converted.unallocated();
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
            Event::Weights(_) => {}
            Event::Whitelist(names) => self.whitelist = names,
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
        }
    }

    fn poll(&mut self, now: Time) -> Vec<Grant> {
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
        self.due = refusals.map(|refusal| refusal.until).min();
        grants
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
