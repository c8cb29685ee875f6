//! Does this offer suit this app, and if so, what exactly does an instance take of it?
//!
//! The answer "no" is as valuable as "yes": each [`Reason`] is counted by the launch queue, so that a
//! user can ask why an app is waiting.

mod constraints;
mod needs;
mod places;
mod portions;
mod ports;
mod reasons;
pub mod resident;
mod supply;

use dcos_core::seed::Seed;
use dcos_proto::mesos::{Attribute, Offer, Resource, value};

use crate::config::{Config, GpuScheduling};
use crate::instance::Agent;
use crate::model::App;

pub use constraints::Placed;
pub(crate) use constraints::broken;
pub(crate) use needs::{Needs, Stock, refusal};
pub use places::{Places, places};
pub use portions::Portions;
pub use reasons::{Reason, Reasons};
pub use supply::Supply;
pub(crate) use supply::role_of;

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
    /// Whether services without GPUs run there all the same, unless they say otherwise.
    pub gpu_scheduling: GpuScheduling,
    /// The region the master is in; apps without a wish stay there.
    pub home_region: Option<String>,
}

impl Site {
    /// The site of `offer` at a moment, in nanoseconds since the epoch, as `config` has it.
    pub fn of(offer: &Offer, home_region: Option<String>, now_nanos: i64, config: &Config) -> Self {
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
            gpu_scheduling: config.gpu_scheduling_behavior,
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
) -> Result<Match, Reasons> {
    if site.role != app.role {
        return Err(Reason::UnfulfilledRole.into());
    }
    let roles = accepted_roles(app);
    let mut reasons = missing(app, supply, &roles);
    if !constraints::hold(app, site, placed) {
        reasons.insert(Reason::UnfulfilledConstraint);
    }
    if site.maintenance {
        reasons.insert(Reason::AgentMaintenance);
    }
    if site.has_gpus && app.gpus == 0 && gpu_scheduling(app, site) == GpuScheduling::Restricted {
        reasons.insert(Reason::DeclinedScarceResources);
    }
    chosen(app, supply, &roles, seed, reasons)
}

/// How `app` wants it with agents that have GPUs.
fn gpu_scheduling(app: &App, site: &Site) -> GpuScheduling {
    own_gpu_scheduling(app).unwrap_or(site.gpu_scheduling)
}

/// What `app` says about it itself; a label of another meaning has none.
fn own_gpu_scheduling(app: &App) -> Option<GpuScheduling> {
    let own = app.labels.get("GPU_SCHEDULING_BEHAVIOR");
    own.and_then(|name| GpuScheduling::named(name))
}

/// What an instance takes, unless there are `reasons` against it or its ports cannot be had.
fn chosen(
    app: &App,
    supply: &Supply,
    roles: &[&str],
    seed: &mut Seed,
    mut reasons: Reasons,
) -> Result<Match, Reasons> {
    // Most offers are looked at in vain: what is taken is put together only where something is.
    if !reasons.is_empty() {
        if !ports::suffice(app, supply, roles) {
            reasons.insert(Reason::InsufficientPorts);
        }
        return Err(reasons);
    }
    let (ports, taken) =
        ports::assign(app, supply, roles, seed).ok_or(Reason::InsufficientPorts)?;
    let wanted = amounts(app).into_iter();
    let parts = wanted.filter_map(|(name, amount, _)| supply.scalar(name, amount, roles));
    let mut resources: Vec<Resource> = parts.flatten().collect();
    resources.extend(taken);
    Ok(Match { resources, ports })
}

/// Cores, memory, disk and GPUs of an instance, and what to say if they are missing.
fn amounts(app: &App) -> [(&'static str, f64, Reason); 4] {
    [
        ("cpus", app.cpus, Reason::InsufficientCpus),
        ("mem", app.mem, Reason::InsufficientMemory),
        ("disk", app.disk, Reason::InsufficientDisk),
        ("gpus", f64::from(app.gpus), Reason::InsufficientGpus),
    ]
}

/// What is not there of what an instance needs, its ports aside.
fn missing(app: &App, supply: &Supply, roles: &[&str]) -> Reasons {
    let wanted = amounts(app).into_iter();
    let missing = wanted.filter(|(name, amount, _)| !supply.has(name, *amount, roles));
    missing.map(|(_, _, reason)| reason).collect()
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
