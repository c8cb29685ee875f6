//! What frameworks hold: where it goes, where it comes back.

use std::time::Duration;

use dcos_core::resources::{ResourceExt, Resources};
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentId, FrameworkId};

use super::HierarchicalDrf;
use super::agent::Refusal;
use super::amounts::Amounts;

impl HierarchicalDrf {
    /// Counts what a framework holds on one more agent.
    pub(super) fn recharge(&mut self, framework: usize, held: &Resources) {
        for (role, part) in held.allocations() {
            let leaf = self.leaf(framework, &role);
            self.charge_more(leaf, &part);
            self.seats[leaf].holdings += 1;
        }
    }

    /// Takes back [`HierarchicalDrf::recharge`].
    pub(super) fn discharge(&mut self, framework: usize, held: &Resources) {
        for (role, part) in held.allocations() {
            let leaf = self.leaf(framework, &role);
            self.charge_less(leaf, &part);
            let seat = &mut self.seats[leaf];
            seat.holdings = seat.holdings.saturating_sub(1);
        }
    }

    fn charge_more(&mut self, leaf: usize, part: &Resources) {
        let amounts = self.names.scalars(part);
        self.tree.recharge(leaf, &amounts);
        let open = self.names.open_scalars(part);
        let account = self.seats[leaf].account;
        self.quotas.consume(account, &open);
        self.follow_account(account);
    }

    fn charge_less(&mut self, leaf: usize, part: &Resources) {
        let amounts = self.names.scalars(part);
        self.tree.discharge(leaf, &amounts);
        let open = self.names.open_scalars(part);
        let account = self.seats[leaf].account;
        self.quotas.release(account, &open);
        if self.quotas.are_bounded() {
            self.settle_account(account);
        }
    }

    /// Takes everything from a framework that is gone.
    pub(super) fn release_everything(&mut self, framework: usize) {
        let is_holder = |agent: &usize| self.agents[*agent].used.contains_key(&framework);
        let holders: Vec<usize> = self.agents.keys().filter(is_holder).collect();
        for on in holders {
            let Some(held) = self.agents[on].used.remove(&framework) else {
                continue;
            };
            self.discharge(framework, &held);
            let leaves = self.frameworks[framework].leaves.values();
            for leaf in leaves {
                if let Some(unanswered) = self.agents[on].take_unanswered(*leaf) {
                    let seat = &mut self.seats[*leaf];
                    seat.unanswered = seat.unanswered.beyond(&unanswered);
                }
            }
            self.put_back(on, &held);
        }
    }

    /// Lets nobody hold some allocated resources of an agent any more; shows them as they are now,
    /// if that is known.
    fn put_back(&mut self, on: usize, resources: &Resources) -> Option<Resources> {
        if self.agents[on].is_overdrawn {
            self.recount(on);
            self.queue(on);
            return None;
        }
        let agent = &mut self.agents[on];
        let before = agent.pool.scalars().clone();
        let plain = agent.pool.put_back(&mut self.names, resources).cloned();
        self.quotas.change_free(agent.pool.scalars(), &before);
        self.queue(on);
        plain
    }

    fn find(&self, framework: &FrameworkId, agent: &AgentId) -> Option<(usize, usize)> {
        let framework = self.framework_ids.get(framework)?;
        Some((*framework, *self.agent_ids.get(agent)?))
    }

    /// An offer is closed: what is not recovered from now on is in use.
    pub(super) fn answered(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &Resources,
    ) {
        let Some((at, on)) = self.find(framework, agent) else {
            return;
        };
        for (role, part) in resources.allocations() {
            let Some(&leaf) = self.frameworks[at].leaves.get(&role) else {
                continue;
            };
            let amounts = self.names.scalars(&part);
            self.close(now, on, leaf, &amounts);
        }
    }

    /// Counts `amounts` as no longer offered, as far as they were.
    fn close(&mut self, now: Time, on: usize, leaf: usize, amounts: &Amounts) {
        let seat = &mut self.seats[leaf];
        seat.note_use(now, self.config.hoarding, self.tree.allocated(leaf));
        let Some(mut open) = self.agents[on].take_unanswered(leaf) else {
            return;
        };
        let mut closed = amounts.clone();
        closed.lower_to(&open);
        open.remove(&closed);
        if open.has_positive() {
            self.agents[on].add_unanswered(leaf, &open);
        }
        seat.close(now, &closed);
        if std::mem::take(&mut seat.is_held_up) {
            self.agenda.leaves.insert(leaf);
        }
    }

    pub(super) fn recover(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &Resources,
        refuse: Option<Duration>,
    ) {
        let Some((at, on)) = self.find(framework, agent) else {
            return;
        };
        let Some(held) = self.agents[on].used.get(&at) else {
            return;
        };
        let after = if held.len() == resources.len() && held == resources {
            Resources::new()
        } else if held.contains(resources) {
            held - resources
        } else {
            return;
        };
        for (role, part) in resources.allocations() {
            let leaf = self.leaf(at, &role);
            let seat = &mut self.seats[leaf];
            seat.note_use(now, self.config.hoarding, self.tree.allocated(leaf));
            self.charge_less(leaf, &part);
            let left = after.filter(|resource| resource.allocation_role() == Some(&role));
            if left.is_empty() {
                let seat = &mut self.seats[leaf];
                seat.holdings = seat.holdings.saturating_sub(1);
            }
            // Whoever forgets to say that an offer was answered still gets it right in the end.
            if let Some(unanswered) = self.agents[on].unanswered(leaf) {
                let closed = unanswered.beyond(&self.names.scalars(&left));
                self.close(now, on, leaf, &closed);
            }
        }
        if after.is_empty() {
            self.agents[on].used.remove(&at);
        } else {
            self.agents[on].used.insert(at, after);
        }
        let plain = self.put_back(on, resources);
        if let Some(refuse) = refuse {
            self.refuse(now, at, on, resources, plain.as_ref(), refuse);
        }
        self.drop_idle_leaves(at);
    }

    /// A framework that only held something of a role it is not subscribed to leaves it.
    fn drop_idle_leaves(&mut self, at: usize) {
        let framework = &self.frameworks[at];
        let is_idle = |(role, leaf): (&String, &usize)| {
            self.seats[*leaf].holdings == 0 && !framework.spec.roles.contains(role)
        };
        if framework.leaves.iter().any(is_idle) || !framework.known {
            self.settle_framework(at);
        }
    }

    /// Hides resources from who refused them; `plain` are the same without their allocation, if
    /// they are at hand.
    fn refuse(
        &mut self,
        now: Time,
        at: usize,
        on: usize,
        resources: &Resources,
        plain: Option<&Resources>,
        refuse: Duration,
    ) {
        let until = now + refuse.max(self.config.interval);
        for (role, part) in resources.allocations() {
            let Some(&leaf) = self.frameworks[at].leaves.get(&role) else {
                continue;
            };
            let epoch = self.seats[leaf].epoch;
            self.agents[on].prune(now, leaf, Some(epoch));
            let refusal = Refusal {
                epoch,
                // What was granted at once has one role.
                resources: plain.cloned().unwrap_or_else(|| part.unallocated()),
                until,
            };
            self.agents[on]
                .refusals
                .entry(leaf)
                .or_default()
                .push(refusal);
            self.expiries.insert((until, on, leaf, epoch));
        }
    }

    pub(super) fn convert(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) {
        let Some((at, on)) = self.find(framework, agent) else {
            return;
        };
        let Some(before) = self.agents[on].used.get(&at) else {
            return;
        };
        let Some(after) = before.exchange(consumed, converted) else {
            return;
        };
        for (role, part) in converted.allocations() {
            let leaf = self.leaf(at, &role);
            self.charge_more(leaf, &part);
        }
        for (role, part) in consumed.allocations() {
            let leaf = self.leaf(at, &role);
            self.charge_less(leaf, &part);
            if after
                .iter()
                .all(|resource| resource.allocation_role() != Some(&role))
            {
                let seat = &mut self.seats[leaf];
                seat.holdings = seat.holdings.saturating_sub(1);
            }
        }
        if after.is_empty() {
            self.agents[on].used.remove(&at);
        } else {
            self.agents[on].used.insert(at, after);
        }
        if consumed.is_empty() {
            return;
        }
        let (consumed, converted) = (consumed.unallocated(), converted.unallocated());
        let agent = &mut self.agents[on];
        agent.spec.total -= &consumed;
        agent.spec.total += &converted;
        let is_shared = |resources: &Resources| resources.iter().any(ResourceExt::is_shared);
        if is_shared(&consumed) || is_shared(&converted) {
            agent.pool.change_shared(&consumed, false);
            agent.pool.change_shared(&converted, true);
            self.queue(on);
        }
        self.count_total(&converted, &consumed);
    }
}
