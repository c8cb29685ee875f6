//! The rules that hold for every allocator: who may be offered what, whatever is fair.

use dcos_core::resources::{Quantities, ResourceExt, Resources};
use dcos_proto::mesos::Resource;

use super::words::{AgentSpec, Capabilities, Config, FrameworkSpec, Reason};

/// What makes an agent unfit for some frameworks.
#[expect(clippy::struct_excessive_bools, reason = "a set of independent traits")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    multi_role: bool,
    hierarchical_role: bool,
    gpu: bool,
    remote: bool,
}

impl Traits {
    pub(crate) fn of(agent: &AgentSpec) -> Self {
        Self {
            multi_role: agent.multi_role,
            hierarchical_role: agent.hierarchical_role,
            gpu: agent.total.gpus().is_some_and(|gpus| gpus > 0.0),
            remote: agent.remote,
        }
    }
}

/// Why nothing of `agent` may be offered to `role` of a framework, whatever is left there.
pub(crate) fn barred(
    config: &Config,
    agent: Traits,
    capabilities: Capabilities,
    role: &str,
) -> Option<Reason> {
    if capabilities.multi_role && !agent.multi_role {
        return Some(Reason::AgentSingleRole);
    }
    if role.contains('/') && !agent.hierarchical_role {
        return Some(Reason::AgentFlatRole);
    }
    if config.filter_gpu && !capabilities.gpu && agent.gpu {
        return Some(Reason::GpuAgent);
    }
    if agent.remote && !capabilities.region_aware {
        return Some(Reason::RemoteAgent);
    }
    None
}

/// Whether a framework with these abilities can deal with the resource.
pub(crate) fn is_understood(resource: &Resource, capabilities: Capabilities) -> bool {
    (capabilities.shared || !resource.is_shared())
        && (capabilities.revocable || !resource.is_revocable())
        && (capabilities.refinement || !resource.has_refined_reservations())
}

/// The part of `available` that `role` may have and the framework can deal with.
pub(crate) fn suitable(available: &Resources, role: &str, capabilities: Capabilities) -> Resources {
    available.filter(|resource| {
        resource.is_allocatable_to(role) && is_understood(resource, capabilities)
    })
}

/// Whether `resources` are worth an offer to `role`.
pub(crate) fn is_worth_it(resources: &Resources, minimum: &[Quantities]) -> bool {
    !resources.is_empty()
        && (minimum.is_empty()
            || minimum
                .iter()
                .any(|least| resources.contains_quantities(least)))
}

/// The minimum that counts for `role` of a framework.
pub(crate) fn minimum<'a>(
    config: &'a Config,
    framework: &'a FrameworkSpec,
    role: &str,
) -> &'a [Quantities] {
    framework.minimums.get(role).unwrap_or(&config.minimum)
}

/// Why `suitable` came out empty, or too little, of what is `available`.
pub(crate) fn shortage(available: &Resources, role: &str, suitable: &Resources) -> Reason {
    if !suitable.is_empty() {
        return Reason::BelowMinimum;
    }
    if !available.allocatable_to(role).is_empty() {
        return Reason::Incapable;
    }
    let roles = available.reservations().into_keys().collect();
    Reason::Reserved { roles }
}
