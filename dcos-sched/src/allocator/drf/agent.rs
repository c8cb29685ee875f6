//! One agent as the allocator sees it.

use std::collections::{BTreeMap, HashMap};

use dcos_core::resources::{ResourceExt, Resources};
use dcos_core::time::Time;

use super::super::rules::{self, Traits};
use super::super::words::{AgentSpec, Config};

/// What an agent has, who holds what of it, and who refused what.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) spec: AgentSpec,
    pub(super) traits: Traits,
    pub(super) active: bool,
    /// What frameworks hold, by framework.
    pub(super) used: BTreeMap<usize, Resources>,
    /// What nobody holds. Shared volumes are always here.
    pub(super) available: Resources,
    /// Whether everything available is unreserved, not revocable and not shared, so that whoever
    /// may have any of it may have all.
    pub(super) is_plain: bool,
    /// Whether what is available is worth an offer by the cluster's minimum.
    pub(super) is_worth_it: bool,
    /// The round in which shared volumes were granted last; once a round is enough.
    pub(super) shared_in: u64,
    /// What was refused, by leaf of the tree.
    pub(super) refusals: HashMap<usize, Vec<Refusal>>,
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
            available: Resources::new(),
            is_plain: true,
            is_worth_it: false,
            shared_in: 0,
            refusals: HashMap::new(),
        }
    }

    /// Works out from scratch what is available.
    pub(super) fn recount(&mut self, config: &Config) {
        let mut available = self.spec.total.clone();
        for used in self.used.values() {
            available -= &exclusive(&used.unallocated());
        }
        self.available = available;
        self.review(config);
    }

    /// Hands `resources` (not allocated, a portion of what is available) to nobody else.
    pub(super) fn hold(&mut self, config: &Config, resources: &Resources) {
        // Whole agents are the rule, and need no arithmetic.
        if self.is_plain && resources.len() == self.available.len() {
            self.available = Resources::new();
        } else {
            self.available -= &exclusive(resources);
        }
        self.review(config);
    }

    /// Makes `resources` (not allocated) available again.
    pub(super) fn release(&mut self, config: &Config, resources: &Resources) {
        self.available += &exclusive(resources);
        self.review(config);
    }

    /// Brings the flags in line with what is available.
    fn review(&mut self, config: &Config) {
        self.is_plain = self.available.iter().all(|resource| {
            resource.is_unreserved() && !resource.is_revocable() && !resource.is_shared()
        });
        self.is_worth_it = rules::is_worth_it(&self.available, &config.minimum);
    }

    /// Until when a refusal by `leaf` hides `offer`.
    pub(super) fn hidden_until(
        &self,
        now: Time,
        leaf: usize,
        epoch: u64,
        offer: &Resources,
    ) -> Option<Time> {
        if self.refusals.is_empty() {
            return None;
        }
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
