//! Figures an allocator shows to operators.

use std::collections::BTreeMap;

use dcos_core::resources::Quantities;

use super::Quota;

/// What is behind the `allocator/mesos/...` metrics (AL-15); times are up to the caller.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// How many rounds there were.
    pub rounds: u64,
    /// What all agents have.
    pub total: Quantities,
    /// What frameworks hold, in offers or in use.
    pub held: Quantities,
    /// By role.
    pub roles: BTreeMap<String, RoleMetrics>,
}

/// Figures of one role.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoleMetrics {
    /// The largest part it holds of any resource.
    pub share: f64,
    /// How many refusals hide something from its frameworks.
    pub refusals: usize,
    /// Its bounds, if it is a top-level role.
    pub quota: Quota,
    /// What counts towards them, if it is a top-level role.
    pub consumed: Quantities,
}
