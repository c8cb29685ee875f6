//! One round of granting.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use dcos_core::resources::{ResourceExt, Resources};
use dcos_core::time::Time;

use super::super::rules;
use super::super::words::{Grant, Reason};
use super::{Agenda, HierarchicalDrf};

/// Whom an agent meets in this round.
#[derive(Debug)]
enum Meets {
    Everyone,
    These(BTreeSet<usize>),
}

/// From this many on it is cheaper to meet everyone, who are in order already, than to bring
/// these in order for each agent.
const MANY: usize = 16;

impl HierarchicalDrf {
    /// Grants what is due to be decided.
    pub(super) fn round(&mut self, now: Time) -> Vec<Grant> {
        self.rounds += 1;
        self.last_round = Some(now);
        self.expire(now);
        self.tree.refresh();
        let agenda = std::mem::take(&mut self.agenda);
        let mut meetings: Vec<(usize, Meets)> = self.meetings(agenda).into_iter().collect();
        self.seed.shuffle(&mut meetings);
        let mut grants = Vec::new();
        for (agent, meets) in meetings {
            self.grant_agent(now, agent, &meets, &mut grants);
        }
        grants
    }

    /// Lets those whose refusals have run out meet the agent again.
    fn expire(&mut self, now: Time) {
        while let Some((until, agent, leaf, epoch)) = self.expiries.first().copied() {
            if !until.is_due(now) {
                break;
            }
            self.expiries.pop_first();
            if let Some(agent_state) = self.agents.get_mut(agent) {
                agent_state.prune(now, leaf, Some(epoch));
                if self.tree.is_active(leaf) {
                    self.agenda.pairs.entry(agent).or_default().insert(leaf);
                }
            }
        }
    }

    /// Who meets whom. Agents with nothing to give meet nobody.
    fn meetings(&self, agenda: Agenda) -> BTreeMap<usize, Meets> {
        let mut meetings = BTreeMap::new();
        let is_open = |agent: usize| {
            self.agents.get(agent).is_some_and(|agent| {
                agent.active
                    && !agent.available.is_empty()
                    && (agent.is_worth_it || !agent.is_plain || self.own_minimums > 0)
                    && self
                        .whitelist
                        .as_ref()
                        .is_none_or(|names| names.contains(&agent.spec.hostname))
            })
        };
        if agenda.everything || agenda.leaves.len() >= MANY {
            let all = self.agents.keys().filter(|agent| is_open(*agent));
            return all.map(|agent| (agent, Meets::Everyone)).collect();
        }
        for agent in agenda.agents.into_iter().filter(|agent| is_open(*agent)) {
            meetings.insert(agent, Meets::Everyone);
        }
        if !agenda.leaves.is_empty() {
            for agent in self.agents.keys().filter(|agent| is_open(*agent)) {
                meetings
                    .entry(agent)
                    .or_insert_with(|| Meets::These(agenda.leaves.clone()));
            }
        }
        for (agent, leaves) in agenda.pairs {
            if !is_open(agent) {
                continue;
            }
            match meetings
                .entry(agent)
                .or_insert(Meets::These(BTreeSet::new()))
            {
                Meets::These(some) => some.extend(leaves),
                Meets::Everyone => {}
            }
        }
        meetings
    }

    /// Grants what is left on one agent, framework after framework.
    fn grant_agent(&mut self, now: Time, agent: usize, meets: &Meets, grants: &mut Vec<Grant>) {
        let mut served = Vec::new();
        while !self.agents[agent].available.is_empty() {
            let Some((leaf, portion)) = self.next_taker(now, agent, meets, &served) else {
                break;
            };
            served.push(leaf);
            grants.push(self.grant(agent, leaf, &portion));
        }
    }

    /// The first in order that may have something, and what.
    fn next_taker(
        &self,
        now: Time,
        agent: usize,
        meets: &Meets,
        served: &[usize],
    ) -> Option<(usize, Resources)> {
        let mut consider = |leaf: usize| {
            if served.contains(&leaf) {
                return ControlFlow::Continue(());
            }
            match self.portion(now, agent, leaf) {
                Ok(portion) => ControlFlow::Break((leaf, portion)),
                Err(_) => ControlFlow::Continue(()),
            }
        };
        let found = match meets {
            Meets::Everyone => self.tree.visit(&mut consider),
            Meets::These(leaves) if leaves.len() == 1 => leaves
                .iter()
                .filter(|leaf| self.tree.is_active(**leaf))
                .copied()
                .try_for_each(consider),
            Meets::These(leaves) => self
                .tree
                .sorted(leaves.iter().copied())
                .into_iter()
                .try_for_each(consider),
        };
        match found {
            ControlFlow::Break(taker) => Some(taker),
            ControlFlow::Continue(()) => None,
        }
    }

    /// What an active leaf may have of an agent, or why it may not.
    pub(super) fn portion(
        &self,
        now: Time,
        agent: usize,
        leaf: usize,
    ) -> Result<Resources, Reason> {
        let agent = &self.agents[agent];
        let framework = &self.frameworks[self.tree.framework(leaf)];
        let role = self.tree.role(leaf);
        let capabilities = framework.spec.capabilities;
        if let Some(reason) = rules::barred(&self.config, agent.traits, capabilities, role) {
            return Err(reason);
        }
        if framework.spec.constraints.exclude(role, &agent.spec) {
            return Err(Reason::Constrained);
        }
        let own_minimum = if self.own_minimums == 0 {
            None
        } else {
            framework.spec.minimums.get(&**role)
        };
        let portion = if agent.is_plain {
            Cow::Borrowed(&agent.available)
        } else {
            let mut suitable = rules::suitable(&agent.available, role, capabilities);
            if agent.shared_in == self.rounds {
                suitable = suitable.filter(|resource| !resource.is_shared());
            }
            Cow::Owned(suitable)
        };
        let is_worth_it = match own_minimum {
            None if agent.is_plain => agent.is_worth_it,
            None => rules::is_worth_it(&portion, &self.config.minimum),
            Some(minimum) => rules::is_worth_it(&portion, minimum),
        };
        if !is_worth_it {
            return Err(rules::shortage(&agent.available, role, &portion));
        }
        let epoch = framework.leaves.get(&**role).map_or(0, |leaf| leaf.epoch);
        match agent.hidden_until(now, leaf, epoch, &portion) {
            Some(until) => Err(Reason::Filtered { until }),
            None => Ok(portion.into_owned()),
        }
    }

    /// Hands a portion out and charges for it.
    fn grant(&mut self, agent: usize, leaf: usize, portion: &Resources) -> Grant {
        let framework = self.tree.framework(leaf);
        let role = self.tree.role(leaf).clone();
        let resources = portion.allocated_to(&role);
        let amounts = self.names.amounts(portion);
        self.tree.charge(leaf, &amounts);
        let state = &mut self.agents[agent];
        let held = state.used.entry(framework).or_default();
        let is_new = held
            .iter()
            .all(|other| other.allocation_role() != Some(&role));
        *held += &resources;
        if portion.iter().any(ResourceExt::is_shared) {
            state.shared_in = self.rounds;
        }
        state.hold(&self.config, portion);
        let grant = Grant {
            framework: self.frameworks[framework].spec.id.clone(),
            role: role.to_string(),
            agent: state.spec.id.clone(),
            resources,
        };
        if is_new {
            self.count_holding(framework, &role, true);
        }
        grant
    }
}
