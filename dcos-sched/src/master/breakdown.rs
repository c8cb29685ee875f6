//! What roles hold: allocated, offered, reserved, and how much of their quota that consumes.
//!
//! Amounts of a role include those of the roles below it. Mesos 1.11 `RoleResourceBreakdown`; rule
//! AL-7 of the conformance inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_core::resources::{Quantities, Resources, Scalar};
use dcos_core::roles;
use dcos_core::tree::Tree;
use dcos_proto::mesos::value::Type as Kind;
use dcos_proto::mesos::{AgentId, FrameworkId, Offer, OfferId, Resource};

use super::{Agent, Framework};

/// What one role and those below it hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    /// Used by tasks and executors.
    pub(crate) allocated: Quantities,
    /// In offers nobody has answered.
    pub(crate) offered: Quantities,
    /// Kept for it on agents, whether used or not.
    pub(crate) reserved: Quantities,
    /// Kept for it and not used.
    pub(crate) unused_reservations: Quantities,
}

impl Held {
    /// How much of a quota is used up: what is allocated, and what is kept and lies idle.
    pub(crate) fn consumed(&self) -> Quantities {
        let mut consumed = self.allocated.clone();
        consumed.add_all(&self.unused_reservations);
        consumed
    }

    /// What is used up, and what would be if all offers were accepted.
    pub(crate) fn promised(&self) -> Quantities {
        let mut promised = self.consumed();
        promised.add_all(&self.offered);
        promised
    }
}

/// Every role that holds anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breakdown(BTreeMap<String, Held>);

impl Breakdown {
    /// Looks through everything once.
    pub(crate) fn of(
        frameworks: &Tree<FrameworkId, Arc<Framework>>,
        agents: &Tree<AgentId, Arc<Agent>>,
        offers: &Tree<OfferId, Arc<Offer>>,
    ) -> Self {
        let mut breakdown = Self::default();
        for used in frameworks
            .values()
            .flat_map(|framework| framework.used.values())
        {
            breakdown.add_by(used, allocated_role, |held| &mut held.allocated);
        }
        for offer in offers.values() {
            let resources = Resources::from(&offer.resources);
            breakdown.add_by(&resources, allocated_role, |held| &mut held.offered);
        }
        for agent in agents.values() {
            breakdown.add_by(&agent.total, reserved_role, |held| &mut held.reserved);
            let mut kept = Self::default();
            kept.add_by(&agent.total, reserved_role, |held| &mut held.reserved);
            let mut used = Self::default();
            for resources in agent.used.values() {
                used.add_by(resources, reserved_role, |held| &mut held.reserved);
            }
            for (role, mut idle) in kept.0 {
                if let Some(used) = used.0.get(&role) {
                    idle.reserved.remove_all(&used.reserved);
                }
                let held = breakdown.0.entry(role).or_default();
                held.unused_reservations.add_all(&idle.reserved);
            }
        }
        breakdown
    }

    /// An offer is no more.
    pub(crate) fn take_back(&mut self, offered: &Resources) {
        for resource in offered.iter() {
            let amount = amount_of(resource);
            let role = allocated_role(resource);
            for role in role.into_iter().flat_map(lineage) {
                if let Some(held) = self.0.get_mut(role) {
                    held.offered.remove(&resource.name, amount);
                }
            }
        }
    }

    /// What a role holds.
    pub(crate) fn role(&self, role: &str) -> Held {
        self.0.get(role).cloned().unwrap_or_default()
    }

    /// Every role that holds anything, with what that is.
    pub(crate) fn roles(&self) -> impl Iterator<Item = (&str, &Held)> {
        self.0.iter().map(|(role, held)| (&**role, held))
    }

    fn add_by(
        &mut self,
        resources: &Resources,
        role_of: impl Fn(&Resource) -> Option<&str>,
        place: impl Fn(&mut Held) -> &mut Quantities,
    ) {
        for resource in resources.iter() {
            let Some(role) = role_of(resource) else {
                continue;
            };
            let amount = amount_of(resource);
            for role in lineage(role) {
                let held = self.0.entry(role.to_owned()).or_default();
                place(held).add(&resource.name, amount);
            }
        }
    }
}

/// A role and all above it.
fn lineage(role: &str) -> impl Iterator<Item = &str> {
    std::iter::once(role).chain(roles::ancestors(role))
}

fn allocated_role(resource: &Resource) -> Option<&str> {
    resource.allocation_info.as_ref()?.role.as_deref()
}

fn reserved_role(resource: &Resource) -> Option<&str> {
    resource.reservations.last()?.role.as_deref()
}

/// How much there is: ranges and sets count their members.
fn amount_of(resource: &Resource) -> Scalar {
    #[expect(
        clippy::cast_precision_loss,
        reason = "there are at most 65536 ports, and few items"
    )]
    let count = |number: u64| Scalar::from_f64(number as f64);
    match resource.r#type() {
        Kind::Scalar => {
            let value = resource.scalar.as_ref().map(|scalar| scalar.value);
            Scalar::from_f64(value.unwrap_or_default())
        }
        Kind::Ranges => {
            let ranges = resource.ranges.iter().flat_map(|ranges| &ranges.range);
            count(ranges.map(|range| range.end - range.begin + 1).sum())
        }
        Kind::Set => {
            let items = resource.set.iter().flat_map(|set| &set.item);
            count(items.count() as u64)
        }
        Kind::Text => Scalar::default(),
    }
}

/// What resources amount to by name, ranges and sets counted.
pub(crate) fn amounts(resources: &Resources) -> Quantities {
    let mut amounts = Quantities::default();
    for resource in resources.iter() {
        amounts.add(&resource.name, amount_of(resource));
    }
    amounts
}

/// Every role that is used, kept for, or spoken of by operators, and all above them; or those of
/// the whitelist, if there is one.
pub(crate) fn known_roles<'a>(
    whitelist: Option<&BTreeSet<String>>,
    named: impl Iterator<Item = &'a String>,
    frameworks: &Tree<FrameworkId, Arc<Framework>>,
    agents: &Tree<AgentId, Arc<Agent>>,
) -> BTreeMap<String, BTreeSet<FrameworkId>> {
    let mut known: BTreeMap<String, BTreeSet<FrameworkId>> = BTreeMap::new();
    for (id, framework) in frameworks {
        let held = framework
            .used
            .values()
            .flat_map(|used| used.allocations().into_keys());
        for role in framework.roles().into_iter().chain(held) {
            known.entry(role).or_default().insert(id.clone());
        }
    }
    if let Some(whitelist) = whitelist {
        let listed = whitelist.iter().map(String::as_str).chain([roles::DEFAULT]);
        known = listed
            .map(|role| (role.to_owned(), known.remove(role).unwrap_or_default()))
            .collect();
    } else {
        for role in named {
            known.entry(role.clone()).or_default();
        }
        for agent in agents.values() {
            for role in agent.total.reservations().into_keys() {
                known.entry(role).or_default();
            }
        }
    }
    let above: Vec<String> = known
        .keys()
        .flat_map(|role| roles::ancestors(role))
        .map(ToOwned::to_owned)
        .collect();
    for role in above {
        known.entry(role).or_default();
    }
    known
}
