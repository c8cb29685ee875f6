//! How an allocator is set up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dcos_core::resources::{Quantities, QuantityError};

use super::super::sorter::Order;
use super::Quota;

/// How an allocator is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The least time for which a refusal hides resources from who refused them
    /// (`--allocation_interval`). Too short lets frameworks that refuse everything keep the
    /// master busy; too long delays those that wait for more than they were offered.
    pub interval: Duration,
    /// The least time between two rounds: what happens meanwhile is decided together.
    pub round_gap: Duration,
    /// The least amounts worth an offer: any one of the alternatives suffices
    /// (`--min_allocatable_resources`). None lets everything pass.
    pub minimum: Vec<Quantities>,
    /// Resources that do not count for fairness (`--fair_sharing_excluded_resource_names`).
    pub unfair: BTreeSet<String>,
    /// Whether agents with graphics processors are only for frameworks that ask for them
    /// (`--filter_gpu_resources`).
    pub filter_gpu: bool,
    /// How roles below one role are put in order (`--role_sorter`).
    pub role_order: Order,
    /// How the frameworks of one role are put in order (`--framework_sorter`).
    pub framework_order: Order,
    /// Weights of roles to begin with.
    pub weights: BTreeMap<String, f64>,
    /// Quotas of roles to begin with.
    pub quotas: BTreeMap<String, Quota>,
    /// Priorities of roles to begin with (`--role_priorities`): among siblings those of higher
    /// priority come first, whatever their share. The default is 0.
    pub priorities: BTreeMap<String, i32>,
    /// How much a framework may hold in offers it has not answered (`--unanswered_offers`); `None`
    /// for as much as there is, as in Mesos.
    pub hoarding: Option<Hoarding>,
    /// For how long a wish must have been in vain before less important tasks make room for it
    /// (`--preempt_after`); `None` for never.
    pub preempt_after: Option<Duration>,
    /// Which part of the agents known before a failover has to be back before a leader with
    /// quotas grants anything (`--allocator_agent_recovery_factor`).
    pub recovery_factor: f64,
    /// How long it waits for them at most (`--allocator_recovery_timeout`).
    pub recovery_timeout: Duration,
}

/// How much a framework may hold in unanswered offers while others wait for some; see
/// `docs/allocator.md`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hoarding {
    /// Which part of the cluster everybody may hold, whatever it used lately. Too small makes
    /// new frameworks look through a large cluster slowly; 1 switches the limit off.
    pub floor: f64,
    /// How long use counts as recent.
    pub memory: Duration,
}

impl Default for Hoarding {
    fn default() -> Self {
        Self {
            floor: 0.1,
            memory: Duration::from_mins(10),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let minimum = ["cpus:0.01", "mem:32"].map(|text| text.parse().expect("it is a quantity"));
        Self {
            interval: Duration::from_secs(1),
            round_gap: Duration::from_millis(20),
            minimum: minimum.into(),
            unfair: BTreeSet::new(),
            filter_gpu: true,
            role_order: Order::default(),
            framework_order: Order::default(),
            weights: BTreeMap::new(),
            quotas: BTreeMap::new(),
            priorities: BTreeMap::new(),
            hoarding: Some(Hoarding::default()),
            preempt_after: None,
            recovery_factor: 0.8,
            recovery_timeout: Duration::from_mins(10),
        }
    }
}

impl Config {
    /// What `--min_allocatable_resources` says: `cpus:0.01|mem:32`.
    ///
    /// # Errors
    /// [`QuantityError`] for the first alternative that is no list of amounts.
    pub fn parse_minimum(text: &str) -> Result<Vec<Quantities>, QuantityError> {
        text.split('|')
            .filter(|piece| !piece.trim().is_empty())
            .map(str::parse)
            .collect()
    }

    /// What `refuse_seconds` means (F-1): by default and for nonsense 5 s, at most a year.
    pub fn refuse(seconds: Option<f64>) -> Duration {
        const DEFAULT: Duration = Duration::from_secs(5);
        const LONGEST: f64 = 365.0 * 86_400.0;
        let seconds = seconds.filter(|seconds| !seconds.is_nan());
        seconds.map_or(DEFAULT, |seconds| {
            Duration::try_from_secs_f64(seconds.min(LONGEST)).unwrap_or(DEFAULT)
        })
    }
}
