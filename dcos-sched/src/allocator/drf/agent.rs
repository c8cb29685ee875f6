//! One agent as the allocator sees it.

use std::collections::BTreeMap;

use dcos_core::resources::{ResourceExt, Resources};
use dcos_core::time::Time;

use super::super::rules::Traits;
use super::super::words::AgentSpec;
use super::alike::Alike;
use super::amounts::{Amounts, Names};
use super::pool::Pool;

/// What an agent has, who holds what of it, and who refused what.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) spec: AgentSpec,
    pub(super) traits: Traits,
    pub(super) active: bool,
    /// What frameworks hold, by framework.
    pub(super) used: BTreeMap<usize, Resources>,
    /// How much of it is in offers nobody has answered, by leaf.
    pub(super) unanswered: Vec<(usize, Amounts)>,
    /// What nobody holds.
    pub(super) pool: Pool,
    /// Whether frameworks hold what is no longer in the total: it does not come back.
    pub(super) is_overdrawn: bool,
    /// The round in which shared volumes were granted last; once a round is enough.
    pub(super) shared_in: u64,
    /// What was refused, by leaf of the tree.
    pub(super) refusals: BTreeMap<usize, Vec<Refusal>>,
    /// Whether it is among the agents that meet everyone in the next round.
    pub(super) is_queued: bool,
}

/// What a framework does not want to see for a while.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The leaf's epoch when it refused; if the leaf has another by now, it has forgotten.
    pub(super) epoch: u64,
    pub(super) resources: Resources,
    pub(super) until: Time,
}

impl Agent {
    pub(super) fn new(spec: AgentSpec) -> Self {
        Self {
            traits: Traits::of(&spec),
            spec,
            active: true,
            used: BTreeMap::new(),
            unanswered: Vec::new(),
            pool: Pool::default(),
            is_overdrawn: false,
            shared_in: 0,
            refusals: BTreeMap::new(),
            is_queued: false,
        }
    }

    /// Works out from scratch what nobody holds.
    pub(super) fn recount(&mut self, names: &mut Names, alike: &mut Alike) {
        let mut free = self.spec.total.clone();
        self.is_overdrawn = false;
        for used in self.used.values() {
            let used = exclusive(&used.unallocated());
            self.is_overdrawn |= !free.contains(&used);
            free -= &used;
        }
        self.pool = Pool::default();
        self.pool.add(names, &free);
        self.pool.change_shared(&free, true);
        self.pool.share(alike);
    }

    /// How much a leaf holds in offers it has not answered.
    pub(super) fn unanswered(&self, leaf: usize) -> Option<&Amounts> {
        let found = self.unanswered.iter().find(|(other, _)| *other == leaf);
        found.map(|(_, amounts)| amounts)
    }

    pub(super) fn take_unanswered(&mut self, leaf: usize) -> Option<Amounts> {
        let at = self
            .unanswered
            .iter()
            .position(|(other, _)| *other == leaf)?;
        Some(self.unanswered.swap_remove(at).1)
    }

    pub(super) fn add_unanswered(&mut self, leaf: usize, amounts: &Amounts) {
        match self.unanswered.iter_mut().find(|(other, _)| *other == leaf) {
            Some((_, unanswered)) => unanswered.add(amounts),
            None => self.unanswered.push((leaf, amounts.clone())),
        }
    }

    /// Until when a refusal by `leaf` hides `offer`.
    pub(super) fn hidden_until(
        &self,
        now: Time,
        leaf: usize,
        epoch: u64,
        offer: &Resources,
    ) -> Option<Time> {
        self.refusals
            .get(&leaf)?
            .iter()
            .find(|refusal| {
                refusal.epoch == epoch && refusal.until > now && refusal.resources.contains(offer)
            })
            .map(|refusal| refusal.until)
    }

    /// Drops refusals of `leaf` that have run out or were forgotten.
    pub(super) fn prune(&mut self, now: Time, leaf: usize, epoch: Option<u64>) {
        if let Some(refusals) = self.refusals.get_mut(&leaf) {
            refusals.retain(|refusal| refusal.until > now && Some(refusal.epoch) == epoch);
            if refusals.is_empty() {
                self.refusals.remove(&leaf);
            }
        }
    }
}

/// What only one may hold at a time.
fn exclusive(resources: &Resources) -> Resources {
    if resources.iter().any(ResourceExt::is_shared) {
        resources.filter(|resource| !resource.is_shared())
    } else {
        resources.clone()
    }
}
