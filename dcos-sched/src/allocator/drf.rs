//! The default allocator: hierarchical roles with weights, dominant resource fairness among
//! roles and among the frameworks of a role, whole agents to whoever comes first.
//!
//! # How it decides
//! A round looks at the agents that changed, in random order. On each, the active framework with
//! the smallest share that may have something gets all it may have; then the next, until nothing
//! is left or nobody wants it.
//!
//! # How it stays fast
//! - Only what changed is looked at: an agent with new resources meets every framework, but a
//!   framework whose refusal ran out, or that revived, meets the agents alone. A round in which
//!   nothing changed does not happen.
//! - Shares are vectors of integers; the order is kept up to date grant by grant (`drf/tree.rs`).
//! - Resource messages are copied only for what is granted.
//!
//! | file | owns |
//! |---|---|
//! | `drf/tree.rs` | the order of roles and frameworks |
//! | `drf/agent.rs` | one agent: available, held, refused |
//! | `drf/round.rs` | one round |
//! | `drf/explain.rs` | the reasons for what is not granted |
//! | `drf/amounts.rs`, `drf/slab.rs` | compact numbers for the above |

mod agent;
mod amounts;
mod explain;
mod round;
mod slab;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::resources::{ResourceExt, Resources};
use dcos_core::seed::Seed;
use dcos_core::time::{Time, earliest};
use dcos_proto::mesos::{AgentId, FrameworkId};

use super::Allocator;
use super::words::{AgentSpec, Config, Event, FrameworkSpec, Grant, NonOffer};
use agent::{Agent, Refusal};
use amounts::{Amounts, Names};
use slab::Slab;
use tree::Tree;

/// Hierarchical dominant resource fairness; see the [module](self)'s page.
#[derive(Debug)]
pub struct HierarchicalDrf {
    config: Config,
    seed: Seed,
    names: Names,
    tree: Tree,
    frameworks: Slab<Framework>,
    framework_ids: BTreeMap<FrameworkId, usize>,
    agents: Slab<Agent>,
    agent_ids: BTreeMap<AgentId, usize>,
    whitelist: Option<BTreeSet<String>>,
    paused: bool,
    /// What the next round looks at.
    agenda: Agenda,
    /// When refusals run out: time, agent, leaf, the leaf's epoch.
    expiries: BTreeSet<(Time, usize, usize, u64)>,
    rounds: u64,
    last_round: Option<Time>,
    /// Ever growing; numbers the lives of leaves.
    epochs: u64,
    /// How many leaves have a minimum of their own.
    own_minimums: usize,
}

/// What the next round looks at.
#[derive(Debug, Default)]
struct Agenda {
    /// Every agent meets every framework.
    everything: bool,
    /// These agents meet every framework.
    agents: BTreeSet<usize>,
    /// These leaves meet every agent.
    leaves: BTreeSet<usize>,
    /// These leaves meet one agent.
    pairs: BTreeMap<usize, BTreeSet<usize>>,
}

impl Agenda {
    fn is_empty(&self) -> bool {
        !self.everything
            && self.agents.is_empty()
            && self.leaves.is_empty()
            && self.pairs.is_empty()
    }
}

#[derive(Debug)]
struct Framework {
    /// What we were told; empty if we only know of resources it holds.
    spec: FrameworkSpec,
    id: Arc<str>,
    known: bool,
    active: bool,
    /// Its place in each role it is subscribed to or holds something for.
    leaves: BTreeMap<String, Leaf>,
}

#[derive(Debug, Clone)]
struct Leaf {
    at: usize,
    /// Changes when refusals are to be forgotten.
    epoch: u64,
    /// How many agents it holds something on.
    holdings: usize,
}

impl HierarchicalDrf {
    /// An allocator that follows `config` and takes its chances from `seed`.
    pub fn new(config: Config, seed: &Seed) -> Self {
        let mut names = Names::default();
        let unfair = config
            .unfair
            .iter()
            .map(|name| names.number(name))
            .collect();
        Self {
            tree: Tree::new(config.weights.clone(), unfair),
            config,
            seed: seed.stream("allocator"),
            names,
            frameworks: Slab::default(),
            framework_ids: BTreeMap::new(),
            agents: Slab::default(),
            agent_ids: BTreeMap::new(),
            whitelist: None,
            paused: false,
            agenda: Agenda::default(),
            expiries: BTreeSet::new(),
            rounds: 0,
            last_round: None,
            epochs: 0,
            own_minimums: 0,
        }
    }

    fn next_epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }

    // ---- frameworks -------------------------------------------------------------------------

    /// The number of a framework; one we have not been told of yet is made up.
    fn framework(&mut self, id: &FrameworkId) -> usize {
        if let Some(at) = self.framework_ids.get(id) {
            return *at;
        }
        let at = self.frameworks.insert(Framework {
            spec: FrameworkSpec {
                id: id.clone(),
                ..FrameworkSpec::default()
            },
            id: id.value.as_str().into(),
            known: false,
            active: false,
            leaves: BTreeMap::new(),
        });
        self.framework_ids.insert(id.clone(), at);
        at
    }

    fn known_framework(&self, id: &FrameworkId) -> Option<usize> {
        self.framework_ids
            .get(id)
            .copied()
            .filter(|at| self.frameworks[*at].known)
    }

    fn add_framework(&mut self, spec: FrameworkSpec) {
        let at = self.framework(&spec.id);
        self.frameworks[at].known = true;
        self.frameworks[at].active = true;
        self.forget_refusals(at, |_| true);
        self.describe_framework(at, spec);
        self.invite(at, |_| true);
    }

    /// Takes over what a framework says of itself and lets its leaves follow.
    fn describe_framework(&mut self, at: usize, spec: FrameworkSpec) {
        self.own_minimums -= self.frameworks[at].spec.minimums.len();
        self.own_minimums += spec.minimums.len();
        let capable = self.frameworks[at].spec.capabilities != spec.capabilities
            || self.frameworks[at].spec.minimums != spec.minimums;
        let had_constraints = !self.frameworks[at].spec.constraints.is_empty();
        for role in &spec.roles {
            self.leaf(at, role);
        }
        self.frameworks[at].spec = spec;
        self.settle_framework(at);
        // Constraints cannot be compared; a framework that sends them again is looked at again.
        if capable || had_constraints || !self.frameworks[at].spec.constraints.is_empty() {
            self.invite(at, |_| true);
        }
    }

    /// The leaf of a framework in a role, made if there is none.
    fn leaf(&mut self, at: usize, role: &str) -> usize {
        if let Some(leaf) = self.frameworks[at].leaves.get(role) {
            return leaf.at;
        }
        let epoch = self.next_epoch();
        let shared: Arc<str> = role.into();
        let id = self.frameworks[at].id.clone();
        let leaf = Leaf {
            at: self.tree.leaf(&shared, at, &id),
            epoch,
            holdings: 0,
        };
        let number = leaf.at;
        self.frameworks[at].leaves.insert(role.to_owned(), leaf);
        number
    }

    /// Lets each leaf take part or not, and drops those that have no purpose any more.
    fn settle_framework(&mut self, at: usize) {
        let Framework {
            spec,
            active,
            leaves,
            known,
            ..
        } = &mut self.frameworks[at];
        let mut idle = Vec::new();
        for (role, leaf) in leaves.iter() {
            let wanted = spec.roles.contains(role);
            let takes_part = *active && wanted && !spec.suppressed.contains(role);
            if takes_part && !self.tree.is_active(leaf.at) {
                self.agenda.leaves.insert(leaf.at);
            }
            self.tree.set_active(leaf.at, takes_part);
            if !wanted && leaf.holdings == 0 {
                idle.push(role.clone());
            }
        }
        for role in idle {
            if let Some(leaf) = leaves.remove(&role) {
                self.tree.remove(leaf.at);
            }
        }
        if !*known && leaves.is_empty() {
            let id = spec.id.clone();
            self.frameworks.remove(at);
            self.framework_ids.remove(&id);
        }
    }

    fn set_framework_active(&mut self, id: &FrameworkId, active: bool) {
        let Some(at) = self.known_framework(id) else {
            return;
        };
        self.frameworks[at].active = active;
        if !active {
            self.forget_refusals(at, |_| true);
        }
        self.settle_framework(at);
    }

    fn remove_framework(&mut self, id: &FrameworkId) {
        let Some(at) = self.known_framework(id) else {
            return;
        };
        let holders: Vec<usize> = self
            .agents
            .keys()
            .filter(|agent| self.agents[*agent].used.contains_key(&at))
            .collect();
        for agent in holders {
            if let Some(held) = self.agents[agent].used.remove(&at) {
                self.discharge(at, &held);
                self.agents[agent].release(&self.config, &held.unallocated());
                self.agenda.agents.insert(agent);
            }
        }
        self.own_minimums -= self.frameworks[at].spec.minimums.len();
        let framework = &mut self.frameworks[at];
        framework.spec = FrameworkSpec {
            id: id.clone(),
            ..FrameworkSpec::default()
        };
        framework.known = false;
        framework.active = false;
        self.settle_framework(at);
    }

    fn suppress(&mut self, id: &FrameworkId, roles: Vec<String>) {
        let Some(at) = self.known_framework(id) else {
            return;
        };
        let spec = &mut self.frameworks[at].spec;
        let roles = if roles.is_empty() {
            spec.roles.iter().cloned().collect()
        } else {
            roles
        };
        spec.suppressed.extend(roles);
        self.settle_framework(at);
    }

    fn revive(&mut self, id: &FrameworkId, roles: &[String]) {
        let Some(at) = self.known_framework(id) else {
            return;
        };
        let is_meant = |role: &str| roles.is_empty() || roles.iter().any(|other| other == role);
        self.frameworks[at]
            .spec
            .suppressed
            .retain(|role| !is_meant(role));
        self.forget_refusals(at, is_meant);
        self.settle_framework(at);
        self.invite(at, is_meant);
    }

    fn forget_refusals(&mut self, at: usize, is_meant: impl Fn(&str) -> bool) {
        let mut epochs = self.epochs;
        for (role, leaf) in &mut self.frameworks[at].leaves {
            if is_meant(role) {
                epochs += 1;
                leaf.epoch = epochs;
            }
        }
        self.epochs = epochs;
    }

    /// Lets a framework meet every agent in the next round.
    fn invite(&mut self, at: usize, is_meant: impl Fn(&str) -> bool) {
        let leaves = self.frameworks[at].leaves.iter();
        self.agenda.leaves.extend(
            leaves
                .filter(|(role, _)| is_meant(role))
                .map(|(_, leaf)| leaf.at),
        );
    }

    // ---- agents -----------------------------------------------------------------------------

    fn add_agent(&mut self, mut spec: AgentSpec) {
        self.remove_agent(&spec.id.clone());
        let used = std::mem::take(&mut spec.used);
        let id = spec.id.clone();
        let total = self.names.amounts(&spec.total);
        self.tree.change_totals(&total, &Amounts::default());
        let at = self.agents.insert(Agent::new(spec));
        self.agent_ids.insert(id, at);
        for (framework, held) in used {
            let framework = self.framework(&framework);
            self.recharge(framework, &held);
            self.agents[at].used.insert(framework, held);
        }
        self.agents[at].recount(&self.config);
        self.agenda.agents.insert(at);
    }

    fn update_agent(&mut self, spec: AgentSpec) {
        let Some(&at) = self.agent_ids.get(&spec.id) else {
            return;
        };
        let before = self.names.amounts(&self.agents[at].spec.total);
        let after = self.names.amounts(&spec.total);
        self.tree.change_totals(&after, &before);
        let agent = &mut self.agents[at];
        agent.traits = super::rules::Traits::of(&spec);
        agent.spec = spec;
        agent.recount(&self.config);
        self.agenda.agents.insert(at);
    }

    fn set_agent_active(&mut self, id: &AgentId, active: bool) {
        let Some(&at) = self.agent_ids.get(id) else {
            return;
        };
        self.agents[at].active = active;
        if active {
            self.agenda.agents.insert(at);
        }
    }

    fn remove_agent(&mut self, id: &AgentId) {
        let Some(at) = self.agent_ids.remove(id) else {
            return;
        };
        let Some(agent) = self.agents.remove(at) else {
            return;
        };
        self.agenda.agents.remove(&at);
        self.agenda.pairs.remove(&at);
        let total = self.names.amounts(&agent.spec.total);
        self.tree.change_totals(&Amounts::default(), &total);
        for (framework, held) in agent.used {
            self.discharge(framework, &held);
            self.settle_framework(framework);
        }
    }

    // ---- resources --------------------------------------------------------------------------

    /// Counts what a framework holds on one more agent.
    fn recharge(&mut self, framework: usize, held: &Resources) {
        for (role, part) in held.allocations() {
            let leaf = self.leaf(framework, &role);
            let amounts = self.names.amounts(&part);
            self.tree.recharge(leaf, &amounts);
            self.count_holding(framework, &role, true);
        }
    }

    /// Takes back [`HierarchicalDrf::recharge`].
    fn discharge(&mut self, framework: usize, held: &Resources) {
        for (role, part) in held.allocations() {
            let leaf = self.leaf(framework, &role);
            let amounts = self.names.amounts(&part);
            self.tree.discharge(leaf, &amounts);
            self.count_holding(framework, &role, false);
        }
    }

    fn count_holding(&mut self, framework: usize, role: &str, more: bool) {
        if let Some(leaf) = self.frameworks[framework].leaves.get_mut(role) {
            leaf.holdings = if more {
                leaf.holdings + 1
            } else {
                leaf.holdings.saturating_sub(1)
            };
        }
    }

    fn recover(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &Resources,
        refuse: Option<Duration>,
    ) {
        let (Some(&at), Some(&on)) = (self.framework_ids.get(framework), self.agent_ids.get(agent))
        else {
            return;
        };
        let Some(held) = self.agents[on].used.get(&at) else {
            return;
        };
        if !held.contains(resources) {
            return;
        }
        let after = held - resources;
        for (role, part) in resources.allocations() {
            let leaf = self.leaf(at, &role);
            let amounts = self.names.amounts(&part);
            self.tree.discharge(leaf, &amounts);
            if after
                .iter()
                .all(|resource| resource.allocation_role() != Some(&role))
            {
                self.count_holding(at, &role, false);
            }
        }
        if after.is_empty() {
            self.agents[on].used.remove(&at);
        } else {
            self.agents[on].used.insert(at, after);
        }
        self.agents[on].release(&self.config, &resources.unallocated());
        self.agenda.agents.insert(on);
        if let Some(refuse) = refuse.filter(|_| self.frameworks.get(at).is_some()) {
            self.refuse(now, at, on, resources, refuse);
        }
        if self.frameworks.get(at).is_some() {
            self.settle_framework(at);
        }
    }

    fn refuse(&mut self, now: Time, at: usize, on: usize, resources: &Resources, refuse: Duration) {
        let until = now + refuse.max(self.config.interval);
        for (role, part) in resources.allocations() {
            let Some(leaf) = self.frameworks[at].leaves.get(&role) else {
                continue;
            };
            let (number, epoch) = (leaf.at, leaf.epoch);
            self.agents[on].prune(now, number, Some(epoch));
            let refusal = Refusal {
                epoch,
                resources: part.unallocated(),
                until,
            };
            self.agents[on]
                .refusals
                .entry(number)
                .or_default()
                .push(refusal);
            self.expiries.insert((until, on, number, epoch));
        }
    }

    fn convert(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) {
        let (Some(&at), Some(&on)) = (self.framework_ids.get(framework), self.agent_ids.get(agent))
        else {
            return;
        };
        let Some(before) = self.agents[on].used.get(&at).cloned() else {
            return;
        };
        let Some(after) = before.exchange(consumed, converted) else {
            return;
        };
        self.discharge(at, &before);
        self.recharge(at, &after);
        self.agents[on].used.insert(at, after);
        let total = &mut self.agents[on].spec.total;
        let less = self.names.amounts(total);
        *total -= &consumed.unallocated();
        *total += &converted.unallocated();
        let more = self.names.amounts(total);
        self.tree.change_totals(&more, &less);
        self.agents[on].recount(&self.config);
    }
}

impl Allocator for HierarchicalDrf {
    fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::AddFramework(spec) => self.add_framework(spec),
            Event::UpdateFramework(spec) => {
                if let Some(at) = self.known_framework(&spec.id) {
                    self.describe_framework(at, spec);
                }
            }
            Event::ActivateFramework(id) => self.set_framework_active(&id, true),
            Event::DeactivateFramework(id) => self.set_framework_active(&id, false),
            Event::RemoveFramework(id) => self.remove_framework(&id),
            Event::AddAgent(spec) => self.add_agent(spec),
            Event::UpdateAgent(spec) => self.update_agent(spec),
            Event::ActivateAgent(id) => self.set_agent_active(&id, true),
            Event::DeactivateAgent(id) => self.set_agent_active(&id, false),
            Event::RemoveAgent(id) => self.remove_agent(&id),
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
                self.convert(&framework, &agent, &consumed, &converted);
            }
            Event::Suppress { framework, roles } => self.suppress(&framework, roles),
            Event::Revive { framework, roles } => self.revive(&framework, &roles),
            Event::Weights(weights) => self.tree.set_weights(weights),
            Event::Whitelist(names) => {
                self.whitelist = names;
                self.agenda.everything = true;
            }
            Event::Pause => self.paused = true,
            Event::Resume => {
                self.paused = false;
                self.agenda.everything = true;
            }
        }
    }

    fn poll(&mut self, now: Time) -> Vec<Grant> {
        match self.next_deadline() {
            Some(deadline) if deadline.is_due(now) => self.round(now),
            _ => Vec::new(),
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        if self.paused {
            return None;
        }
        let expiry = self.expiries.first().map(|(until, ..)| *until);
        let agenda = (!self.agenda.is_empty()).then_some(Time::EPOCH);
        let soonest = self
            .last_round
            .map_or(Time::EPOCH, |last| last + self.config.round_gap);
        earliest(expiry, agenda).map(|wanted| wanted.max(soonest))
    }

    fn explain(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer> {
        self.reasons(now, framework, role)
    }
}
