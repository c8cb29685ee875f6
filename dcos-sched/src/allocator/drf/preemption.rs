//! Room for the more important: when a wish has been in vain for long enough, less important
//! tasks are named that should end.
//!
//! Only a framework that said what it wants ([`Event::Wish`](super::super::Event::Wish)) is made
//! room for, one piece and one agent at a time, and only as far as its role's limits go. Who gives
//! way is less important by priority where the roles' ways part, shares do not matter; reserved
//! resources are never taken from whom they are kept for.

use std::cmp::Reverse;

use dcos_core::resources::Resources;
use dcos_core::time::Time;

use super::super::rules;
use super::super::words::Preemption;
use super::HierarchicalDrf;
use super::amounts::Amounts;

/// Somebody who could give way.
struct Victim {
    leaf: usize,
    /// What it holds of unreserved, non-revocable scalars.
    held: Amounts,
}

impl HierarchicalDrf {
    /// Makes room for the wishes whose patience has run out.
    pub(super) fn preempt(&mut self, now: Time) -> Vec<Preemption> {
        let mut preemptions = Vec::new();
        while let Some((due, leaf)) = self.impatient.first().copied()
            && due.is_due(now)
        {
            self.impatient.pop_first();
            let Some(piece) = self.next_piece(leaf) else {
                self.set_patience(leaf, None);
                continue;
            };
            let next = self.config.preempt_after.map(|patience| now + patience);
            self.set_patience(leaf, next);
            self.impatient.extend(next.map(|next| (next, leaf)));
            if self.tree.is_active(leaf) {
                preemptions.extend(self.make_room(leaf, &piece));
            }
        }
        preemptions
    }

    fn next_piece(&self, leaf: usize) -> Option<Amounts> {
        let seat = &self.seats[leaf];
        let used = seat.used(self.tree.allocated(leaf));
        seat.wish.as_ref()?.next_piece(&used).cloned()
    }

    fn set_patience(&mut self, leaf: usize, due: Option<Time>) {
        if let Some(wish) = &mut self.seats[leaf].wish {
            wish.due = due;
        }
    }

    /// Chooses the agent on which the least has to end, and who ends there. Nothing has to where
    /// the piece fits already: it will be offered, or was refused.
    fn make_room(&self, leaf: usize, piece: &Amounts) -> Vec<Preemption> {
        if !self.quotas.allow(self.seats[leaf].account, piece) {
            return Vec::new();
        }
        let mut best: Option<(f64, usize, Amounts)> = None;
        for at in self.agent_ids.values() {
            let Some(free) = self.free_for(leaf, *at) else {
                continue;
            };
            let lacking = piece.beyond(&free);
            if !lacking.has_positive() {
                return Vec::new();
            }
            let mut held = Amounts::default();
            for victim in self.victims(leaf, *at) {
                held.add(&victim.held);
            }
            let cost = lacking.dominant_share(self.tree.totals(), &[]);
            if held.covers(&lacking) && best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                best = Some((cost, *at, lacking));
            }
        }
        best.map_or_else(Vec::new, |(_, at, lacking)| self.evict(leaf, at, lacking))
    }

    /// What nobody holds of an agent and the leaf may have; `None` if it may have nothing there.
    fn free_for(&self, leaf: usize, at: usize) -> Option<Amounts> {
        let agent = &self.agents[at];
        let spec = &self.frameworks[self.seats[leaf].framework].spec;
        let role = &**self.tree.role(leaf);
        let is_out = !agent.active
            || !self.is_whitelisted(at)
            || rules::barred(&self.config, agent.traits, spec.capabilities, role).is_some()
            || spec.constraints.exclude(role, &agent.spec);
        if is_out {
            return None;
        }
        let suitable = agent.pool.suitable(role);
        self.names.known_quantities(&suitable.scalar_quantities())
    }

    /// Those who hold something of an agent and are less important, the least important first.
    fn victims(&self, leaf: usize, at: usize) -> Vec<Victim> {
        let agent = &self.agents[at];
        let mut victims = Vec::new();
        for (framework, held) in &agent.used {
            for (role, part) in held.allocations() {
                let Some(&other) = self.frameworks[*framework].leaves.get(&role) else {
                    continue;
                };
                let held = self.open_amounts(&part);
                if self.tree.outranks(leaf, other) && held.has_positive() {
                    victims.push(Victim { leaf: other, held });
                }
            }
        }
        let all: Vec<usize> = victims.iter().map(|victim| victim.leaf).collect();
        // Whoever is outranked by more of the others comes earlier.
        let betters = |victim: &Victim| {
            let others = all
                .iter()
                .filter(|other| self.tree.outranks(**other, victim.leaf));
            others.count()
        };
        victims.sort_by_cached_key(|victim| (Reverse(betters(victim)), victim.leaf));
        victims
    }

    fn open_amounts(&self, resources: &Resources) -> Amounts {
        let mut amounts = Amounts::default();
        for (name, amount) in resources
            .filter(super::amounts::is_open)
            .scalar_quantities()
            .iter()
        {
            if let Some(number) = self.names.known(name) {
                *amounts.slot(number) += amount.as_millis();
            }
        }
        amounts
    }

    /// Names who gives up how much, until nothing is lacking.
    fn evict(&self, leaf: usize, at: usize, mut lacking: Amounts) -> Vec<Preemption> {
        let name = |leaf: usize| {
            let framework = &self.frameworks[self.seats[leaf].framework];
            (framework.spec.id.clone(), self.tree.role(leaf).to_string())
        };
        let (to, to_role) = name(leaf);
        let mut preemptions = Vec::new();
        for victim in self.victims(leaf, at) {
            let mut taken = lacking.clone();
            taken.lower_to(&victim.held);
            if !taken.has_positive() {
                continue;
            }
            lacking = lacking.beyond(&taken);
            let (framework, role) = name(victim.leaf);
            preemptions.push(Preemption {
                framework,
                role,
                agent: self.agents[at].spec.id.clone(),
                resources: self.names.to_quantities(&taken),
                to: to.clone(),
                to_role: to_role.clone(),
            });
        }
        preemptions
    }
}
