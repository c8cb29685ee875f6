//! Does this offer suit this app, and if so, what exactly does an instance take of it?
//!
//! The answer "no" is as valuable as "yes": each [`Reason`] is counted by the launch queue, so that a
//! user can ask why an app is waiting.

mod constraints;
mod portions;
mod ports;
pub mod resident;
mod supply;

use std::collections::BTreeSet;

use dcos_core::seed::Seed;
use dcos_proto::mesos::{Attribute, Offer, Resource, value};

use crate::instance::Agent;
use crate::model::App;

pub use constraints::Placed;
pub use portions::Portions;
pub use supply::Supply;

/// Why an offer does not suit an app, in the order in which it is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The resources are for another role.
    UnfulfilledRole,
    /// A constraint does not hold.
    UnfulfilledConstraint,
    /// A reservation is needed that is not here.
    NoCorrespondingReservationFound,
    /// The agent is, or soon will be, under maintenance.
    AgentMaintenance,
    /// Too few cores.
    InsufficientCpus,
    /// Too little memory.
    InsufficientMemory,
    /// Too little disk.
    InsufficientDisk,
    /// Too few GPUs.
    InsufficientGpus,
    /// The ports are not there.
    InsufficientPorts,
    /// The agent's GPUs are kept for those who need them.
    DeclinedScarceResources,
}

impl Reason {
    /// All reasons, in the order in which they are found out.
    pub const ALL: [Self; 10] = [
        Self::UnfulfilledRole,
        Self::UnfulfilledConstraint,
        Self::NoCorrespondingReservationFound,
        Self::AgentMaintenance,
        Self::InsufficientCpus,
        Self::InsufficientMemory,
        Self::InsufficientDisk,
        Self::InsufficientGpus,
        Self::InsufficientPorts,
        Self::DeclinedScarceResources,
    ];

    /// The name in documents.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// What an instance takes of an offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The resources.
    pub resources: Vec<Resource>,
    /// The host's port of each port of the app; `None` where it needs none.
    pub ports: Vec<Option<u16>>,
}

/// What stays the same for all apps that look at an offer.
#[derive(Clone, Debug)]
pub struct Site {
    /// The agent the offer is of.
    pub agent: Agent,
    /// The role the offer was made to.
    pub role: String,
    /// Whether the agent is about to be under maintenance.
    pub maintenance: bool,
    /// Whether the agent has GPUs.
    pub has_gpus: bool,
    /// The region the master is in; apps without a wish stay there.
    pub home_region: Option<String>,
}

impl Site {
    /// The site of `offer` at a moment, in nanoseconds since the epoch.
    pub fn of(offer: &Offer, home_region: Option<String>, now_nanos: i64) -> Self {
        let domain = offer
            .domain
            .as_ref()
            .and_then(|domain| domain.fault_domain.as_ref());
        let attributes = offer
            .attributes
            .iter()
            .filter_map(|attribute| Some((attribute.name.clone(), attribute_text(attribute)?)));
        Self {
            agent: Agent {
                id: offer.agent_id.value.clone(),
                host: offer.hostname.clone(),
                region: domain.map(|domain| domain.region.name.clone()),
                zone: domain.map(|domain| domain.zone.name.clone()),
                attributes: attributes.collect(),
            },
            role: offer
                .allocation_info
                .as_ref()
                .and_then(|info| info.role.clone())
                .unwrap_or_else(|| "*".to_owned()),
            maintenance: offer
                .unavailability
                .as_ref()
                .is_some_and(|window| window.start.nanoseconds <= now_nanos),
            has_gpus: offer
                .resources
                .iter()
                .any(|resource| resource.name == "gpus"),
            home_region,
        }
    }
}

/// Matches `app` against what is left of an offer; takes nothing of it yet.
///
/// `placed` tells of the app's active instances of the current configuration, for constraints.
///
/// # Errors
/// Every reason against it.
pub fn matches(
    app: &App,
    site: &Site,
    supply: &Supply,
    placed: &Placed,
    seed: &mut Seed,
) -> Result<Match, BTreeSet<Reason>> {
    let mut reasons = BTreeSet::new();
    if site.role != app.role {
        return Err(BTreeSet::from([Reason::UnfulfilledRole]));
    }
    if !constraints::hold(app, site, placed) {
        reasons.insert(Reason::UnfulfilledConstraint);
    }
    if site.maintenance {
        reasons.insert(Reason::AgentMaintenance);
    }
    if site.has_gpus && app.gpus == 0 {
        reasons.insert(Reason::DeclinedScarceResources);
    }
    let roles = accepted_roles(app);
    let (mut resources, missing) = amounts(app, supply, &roles);
    reasons.extend(missing);
    let ports = ports::assign(app, supply, &roles, seed);
    if ports.is_none() {
        reasons.insert(Reason::InsufficientPorts);
    }
    match ports {
        Some((ports, taken)) if reasons.is_empty() => {
            resources.extend(taken);
            Ok(Match { resources, ports })
        }
        _ => Err(reasons),
    }
}

/// Cores, memory, disk and GPUs of an instance, and which of them are missing.
fn amounts(app: &App, supply: &Supply, roles: &[&str]) -> (Vec<Resource>, BTreeSet<Reason>) {
    let (mut resources, mut missing) = (Vec::new(), BTreeSet::new());
    for (name, amount, reason) in [
        ("cpus", app.cpus, Reason::InsufficientCpus),
        ("mem", app.mem, Reason::InsufficientMemory),
        ("disk", app.disk, Reason::InsufficientDisk),
        ("gpus", f64::from(app.gpus), Reason::InsufficientGpus),
    ] {
        match supply.scalar(name, amount, roles) {
            Some(taken) => resources.extend(taken),
            None => {
                missing.insert(reason);
            }
        }
    }
    (resources, missing)
}

/// Roles whose resources an app may use, its own first.
fn accepted_roles(app: &App) -> Vec<&str> {
    // What is to be reserved must not be reserved yet.
    if app.is_resident() {
        return vec!["*"];
    }
    let accepts = |role: &str| match &app.accepted_resource_roles {
        None => true,
        Some(roles) => roles.iter().any(|accepted| accepted == role),
    };
    let mut roles: Vec<&str> = vec![&app.role];
    if app.role != "*" {
        roles.push("*");
    }
    roles.retain(|role| accepts(role));
    roles
}

/// An attribute as constraints see it: Mesos's own notation.
pub(crate) fn attribute_text(attribute: &Attribute) -> Option<String> {
    if let Some(text) = &attribute.text {
        return Some(text.value.clone());
    }
    if let Some(scalar) = &attribute.scalar {
        return Some(scalar_text(scalar.value));
    }
    if let Some(ranges) = &attribute.ranges {
        let mut ranges: Vec<(u64, u64)> = ranges
            .range
            .iter()
            .map(|range: &value::Range| (range.begin, range.end))
            .collect();
        ranges.sort_unstable();
        let text: Vec<_> = ranges
            .iter()
            .map(|(begin, end)| format!("{begin}-{end}"))
            .collect();
        return Some(format!("[{}]", text.join(",")));
    }
    let mut items = attribute.set.as_ref()?.item.clone();
    items.sort_unstable();
    Some(format!("{{{}}}", items.join(",")))
}

/// A scalar with at most three decimals and no zeros at the end.
pub(crate) fn scalar_text(value: f64) -> String {
    let text = format!("{:.3}", (value * 1000.0).round_ties_even() / 1000.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
