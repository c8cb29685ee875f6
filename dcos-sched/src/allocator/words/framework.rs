//! What an allocator knows of a framework.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::{Quantities, Scalar};
use dcos_core::roles;
use dcos_proto::mesos::framework_info::capability::Type as FrameworkCapability;
use dcos_proto::mesos::{FrameworkId, FrameworkInfo};

use super::super::constraints::Constraints;

/// What an allocator knows of a framework.
#[derive(Debug, Clone, Default)]
pub struct FrameworkSpec {
    /// Its id.
    pub id: FrameworkId,
    /// The roles it is subscribed to.
    pub roles: BTreeSet<String>,
    /// Those of its roles it wants no offers for.
    pub suppressed: BTreeSet<String>,
    /// What it can deal with.
    pub capabilities: Capabilities,
    /// The least it wants to be offered, by role: any one of the alternatives suffices. Roles
    /// without an entry follow [`Config::minimum`](crate::allocator::Config::minimum).
    pub minimums: BTreeMap<String, Vec<Quantities>>,
    /// What it wants of an agent.
    pub constraints: Constraints,
}

/// What a framework can deal with.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a set of independent abilities"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Resources that may be taken away at any time.
    pub revocable: bool,
    /// Agents that have graphics processors.
    pub gpu: bool,
    /// Volumes that several tasks use at once.
    pub shared: bool,
    /// Several roles.
    pub multi_role: bool,
    /// Reservations on top of reservations.
    pub refinement: bool,
    /// Agents in other regions than the master's.
    pub region_aware: bool,
}

impl FrameworkSpec {
    /// What `info` says; constraints are not in it. A framework without `MULTI_ROLE` has the one role in `role`, by default
    /// `*`.
    pub fn from_info(info: &FrameworkInfo, suppressed: impl IntoIterator<Item = String>) -> Self {
        let has = |wanted: FrameworkCapability| {
            info.capabilities
                .iter()
                .any(|capability| capability.r#type() == wanted)
        };
        let capabilities = Capabilities {
            revocable: has(FrameworkCapability::RevocableResources),
            gpu: has(FrameworkCapability::GpuResources),
            shared: has(FrameworkCapability::SharedResources),
            multi_role: has(FrameworkCapability::MultiRole),
            refinement: has(FrameworkCapability::ReservationRefinement),
            region_aware: has(FrameworkCapability::RegionAware),
        };
        let roles = if capabilities.multi_role {
            info.roles.iter().cloned().collect()
        } else {
            BTreeSet::from([info
                .role
                .clone()
                .unwrap_or_else(|| roles::DEFAULT.to_owned())])
        };
        let minimums = info
            .offer_filters
            .iter()
            .filter_map(|(role, filters)| {
                let minimum = filters.min_allocatable_resources.as_ref()?;
                let alternatives = minimum.quantities.iter().map(|alternative| {
                    let amounts = alternative.quantities.iter();
                    amounts
                        .map(|(name, amount)| (name.clone(), Scalar::from_f64(amount.value)))
                        .collect()
                });
                Some((role.clone(), alternatives.collect()))
            })
            .collect();
        Self {
            id: info.id.clone().unwrap_or_default(),
            roles,
            suppressed: suppressed.into_iter().collect(),
            capabilities,
            minimums,
            constraints: Constraints::default(),
        }
    }
}
