//! What happens to agents.

use dcos_core::resources::{ResourceExt, Resources};
use dcos_proto::mesos::AgentId;

use super::super::rules::Traits;
use super::super::words::{AgentSpec, NotFree};
use super::HierarchicalDrf;
use super::agent::Agent;
use super::amounts::Amounts;

impl HierarchicalDrf {
    pub(super) fn add_agent(&mut self, mut spec: AgentSpec) {
        self.remove_agent(&spec.id.clone());
        let used = std::mem::take(&mut spec.used);
        let id = spec.id.clone();
        let total = spec.total.clone();
        let at = self.agents.insert(Agent::new(spec));
        self.agent_ids.insert(id, at);
        self.count_total(&total, &Resources::new());
        for (framework, held) in used {
            let framework = self.framework(&framework);
            self.recharge(framework, &held);
            self.agents[at].used.insert(framework, held);
        }
        self.recount(at);
        self.queue(at);
    }

    pub(super) fn update_agent(&mut self, spec: AgentSpec) {
        let Some(&at) = self.agent_ids.get(&spec.id) else {
            return;
        };
        let agent = &mut self.agents[at];
        // Whoever refused it may have done so for what it was.
        if agent.spec.attributes != spec.attributes {
            agent.refusals.clear();
        }
        agent.traits = Traits::of(&spec);
        let (before, after) = (agent.spec.total.clone(), spec.total.clone());
        agent.spec = spec;
        self.count_total(&after, &before);
        self.recount(at);
        self.queue(at);
    }

    /// Counts a total that takes the place of another.
    pub(super) fn count_total(&mut self, after: &Resources, before: &Resources) {
        let (more, less) = (self.names.scalars(after), self.names.scalars(before));
        self.tree.change_totals(&more, &less);
        self.quotas.reserve(&mut self.names, after, true);
        self.quotas.reserve(&mut self.names, before, false);
        for role in [after, before]
            .into_iter()
            .flat_map(|total| total.reservations().into_keys())
        {
            self.settle_account_of(&role);
        }
    }

    /// Lets what follows from a role's consumption follow.
    pub(super) fn settle_account_of(&mut self, role: &str) {
        if let Some(account) = self.quotas.find(role) {
            self.settle_account(account);
        }
    }

    pub(super) fn settle_account(&mut self, account: usize) {
        self.follow_account(account);
        let state = self.quotas.get_mut(account);
        if state.is_limiting && state.lane != super::tree::Lane::Full {
            state.is_limiting = false;
            self.agenda.leaves.extend(&state.leaves);
        }
        if state.is_missing_something() && !state.leaves.is_empty() {
            for agent in &self.held_back {
                self.agenda
                    .pairs
                    .entry(*agent)
                    .or_default()
                    .extend(&state.leaves);
            }
        }
    }

    /// Works out from scratch what nobody holds of an agent.
    pub(super) fn recount(&mut self, at: usize) {
        let agent = &mut self.agents[at];
        let before = agent.pool.scalars().clone();
        agent.recount(&mut self.names, &mut self.alike);
        self.quotas.change_free(agent.pool.scalars(), &before);
    }

    pub(super) fn set_agent_active(&mut self, id: &AgentId, active: bool) {
        let Some(&at) = self.agent_ids.get(id) else {
            return;
        };
        self.agents[at].active = active;
        if active {
            self.queue(at);
        }
    }

    pub(super) fn remove_agent(&mut self, id: &AgentId) {
        let Some(at) = self.agent_ids.remove(id) else {
            return;
        };
        let Some(agent) = self.agents.remove(at) else {
            return;
        };
        self.agenda.agents.retain(|other| *other != at);
        self.agenda.pairs.remove(&at);
        self.held_back.remove(&at);
        self.maintenance.remove(at);
        self.quotas
            .change_free(&Amounts::default(), agent.pool.scalars());
        for (leaf, unanswered) in &agent.unanswered {
            if let Some(seat) = self.seats.get_mut(*leaf) {
                seat.unanswered = seat.unanswered.beyond(unanswered);
            }
        }
        for (framework, held) in agent.used {
            self.discharge(framework, &held);
            self.settle_framework(framework);
        }
        self.count_total(&Resources::new(), &agent.spec.total);
    }

    /// An operation on what nobody holds.
    pub(super) fn exchange_free(
        &mut self,
        id: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) -> Result<(), NotFree> {
        let unknown = || NotFree::UnknownAgent(id.clone());
        let at = *self.agent_ids.get(id).ok_or_else(unknown)?;
        let (consumed, converted) = (consumed.unallocated(), converted.unallocated());
        let agent = &mut self.agents[at];
        let is_in_use = |resource: &dcos_proto::mesos::Resource| {
            resource.is_shared()
                && agent
                    .used
                    .values()
                    .any(|held| held.unallocated().contains_message(resource))
        };
        if !agent.pool.contains(&consumed) || consumed.iter().any(is_in_use) {
            return Err(NotFree::Held {
                agent: id.clone(),
                missing: consumed.to_string(),
            });
        }
        let before = agent.pool.scalars().clone();
        agent.pool.remove(&mut self.names, &consumed);
        agent.pool.change_shared(&consumed, false);
        agent.pool.add(&mut self.names, &converted);
        agent.pool.change_shared(&converted, true);
        self.quotas.change_free(agent.pool.scalars(), &before);
        agent.spec.total -= &consumed;
        agent.spec.total += &converted;
        let is_overdrawn = agent.is_overdrawn;
        self.count_total(&converted, &consumed);
        if is_overdrawn {
            // What became of it may be what somebody uses beyond what is there.
            self.recount(at);
        }
        self.queue(at);
        Ok(())
    }
}
