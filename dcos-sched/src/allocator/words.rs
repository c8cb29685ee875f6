//! The vocabulary of the plug point.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use dcos_core::resources::{Quantities, QuantityError, Resources, Scalar};
use dcos_core::roles;
use dcos_core::time::Time;
use dcos_proto::mesos::framework_info::capability::Type as FrameworkCapability;
use dcos_proto::mesos::{AgentId, AgentInfo, Attribute, FrameworkId, FrameworkInfo, agent_info};

use super::constraints::Constraints;

/// Something an allocator must know of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A framework subscribed for the first time or came back; its filters are gone and it is
    /// active.
    AddFramework(FrameworkSpec),
    /// A framework changed its roles, capabilities or suppression.
    UpdateFramework(FrameworkSpec),
    /// A framework is connected again.
    ActivateFramework(FrameworkId),
    /// A framework is disconnected: no more grants, no more filters.
    DeactivateFramework(FrameworkId),
    /// A framework is gone; whatever it still held is free.
    RemoveFramework(FrameworkId),
    /// An agent registered or came back; it is active and filters on it are gone.
    AddAgent(AgentSpec),
    /// An agent's total, capabilities or description changed. `used` is ignored.
    UpdateAgent(AgentSpec),
    /// An agent may be offered again.
    ActivateAgent(AgentId),
    /// An agent must not be offered: disconnected, draining or deactivated by an operator.
    DeactivateAgent(AgentId),
    /// An agent is gone with all that was held on it.
    RemoveAgent(AgentId),
    /// Resources came back: an offer was declined, rescinded or used in part, or a task ended.
    Recover {
        /// Who held them.
        framework: FrameworkId,
        /// Where.
        agent: AgentId,
        /// What, with `allocation_info` as granted.
        resources: Resources,
        /// For how long the framework does not want to see them again on this agent; `None` if
        /// it did not refuse them. [`Config::refuse`] turns `refuse_seconds` into this.
        refuse: Option<Duration>,
    },
    /// An operation turned resources a framework holds into others: RESERVE, CREATE and such.
    Convert {
        /// Who holds them.
        framework: FrameworkId,
        /// Where.
        agent: AgentId,
        /// What is used up, with `allocation_info`.
        consumed: Resources,
        /// What came of it, with `allocation_info`.
        converted: Resources,
    },
    /// A framework wants no offers for these roles; all of its roles if there are none.
    Suppress {
        /// Who.
        framework: FrameworkId,
        /// For which of its roles.
        roles: Vec<String>,
    },
    /// A framework wants offers for these roles again, and forgets what it refused; all of its
    /// roles if there are none.
    Revive {
        /// Who.
        framework: FrameworkId,
        /// For which of its roles.
        roles: Vec<String>,
    },
    /// Weights of roles, relative to their siblings. Roles not named keep theirs; the default
    /// is 1.
    Weights(BTreeMap<String, f64>),
    /// Only agents with these host names may be offered; `None` lifts the rule.
    Whitelist(Option<BTreeSet<String>>),
    /// Grant nothing until [`Event::Resume`]: a new leader waits for its agents to come back.
    Pause,
    /// Go on granting.
    Resume,
}

/// Some resources of one agent for one role of one framework.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// To whom.
    pub framework: FrameworkId,
    /// For which of its roles.
    pub role: String,
    /// From where.
    pub agent: AgentId,
    /// What, with `allocation_info` set to the role.
    pub resources: Resources,
}

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
    /// without an entry follow [`Config::minimum`].
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

/// What an allocator knows of an agent.
#[derive(Debug, Clone, Default)]
pub struct AgentSpec {
    /// Its id.
    pub id: AgentId,
    /// Its host name, for the whitelist and for constraints.
    pub hostname: String,
    /// What describes it, for constraints.
    pub attributes: Vec<Attribute>,
    /// Where it lies, for constraints.
    pub region: Option<String>,
    /// Where in the region it lies, for constraints.
    pub zone: Option<String>,
    /// All it has.
    pub total: Resources,
    /// What frameworks hold there already, with `allocation_info`.
    pub used: BTreeMap<FrameworkId, Resources>,
    /// Whether it understands frameworks with several roles.
    pub multi_role: bool,
    /// Whether it understands roles with a `/`.
    pub hierarchical_role: bool,
    /// Whether it lies in another region than the master.
    pub remote: bool,
}

impl AgentSpec {
    /// What `info` and the agent's `capabilities` say, seen from a master in `region`.
    pub fn from_info(
        info: &AgentInfo,
        capabilities: &[agent_info::Capability],
        total: Resources,
        region: Option<&str>,
    ) -> Self {
        use agent_info::capability::Type;
        let has = |wanted: Type| {
            capabilities
                .iter()
                .any(|capability| capability.r#type() == wanted)
        };
        let fault_domain = info
            .domain
            .as_ref()
            .and_then(|domain| domain.fault_domain.as_ref());
        Self {
            id: info.id.clone().unwrap_or_default(),
            hostname: info.hostname.clone(),
            attributes: info.attributes.clone(),
            region: fault_domain.map(|fault_domain| fault_domain.region.name.clone()),
            zone: fault_domain.map(|fault_domain| fault_domain.zone.name.clone()),
            total,
            used: BTreeMap::new(),
            multi_role: has(Type::MultiRole),
            hierarchical_role: has(Type::HierarchicalRole),
            remote: fault_domain
                .is_some_and(|fault_domain| Some(&*fault_domain.region.name) != region),
        }
    }
}

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
    /// Weights of roles to begin with.
    pub weights: BTreeMap<String, f64>,
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
            weights: BTreeMap::new(),
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

/// Why one agent is not offered to one role of a framework.
#[derive(Debug, Clone, PartialEq)]
pub struct NonOffer {
    /// The agent.
    pub agent: AgentId,
    /// Why.
    pub reason: Reason,
}

/// A reason not to offer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The framework is not connected.
    FrameworkInactive,
    /// The framework is not subscribed to the role.
    NotSubscribed,
    /// The framework suppressed offers for the role.
    Suppressed,
    /// The allocator is paused: a new leader waits for agents.
    Paused,
    /// The agent is disconnected, draining or deactivated.
    AgentInactive,
    /// The agent is not on the whitelist.
    NotWhitelisted,
    /// Frameworks with several roles need an agent that understands them.
    AgentSingleRole,
    /// Roles with a `/` need an agent that understands them.
    AgentFlatRole,
    /// The agent has graphics processors, the framework did not ask for such.
    GpuAgent,
    /// The agent is in another region, the framework is not region-aware.
    RemoteAgent,
    /// The framework's constraints exclude the agent.
    Constrained,
    /// Everything on the agent is held.
    Held {
        /// By whom, most cpus first.
        by: Vec<FrameworkId>,
    },
    /// What is left is kept for other roles.
    Reserved {
        /// For which.
        roles: Vec<String>,
    },
    /// What is left needs capabilities the framework lacks (revocable, shared, refined).
    Incapable,
    /// What is left is less than the minimum worth an offer.
    BelowMinimum,
    /// The framework refused it.
    Filtered {
        /// Until then.
        until: Time,
    },
    /// It will be decided in the next round, in which others may come first.
    Pending,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::FrameworkInactive => "the framework is not connected",
            Self::NotSubscribed => "the framework is not subscribed to the role",
            Self::Suppressed => "the framework suppressed offers for the role",
            Self::Paused => "the master waits for agents to come back",
            Self::AgentInactive => "the agent is disconnected, draining or deactivated",
            Self::NotWhitelisted => "the agent is not on the whitelist",
            Self::AgentSingleRole => "the agent does not understand frameworks with several roles",
            Self::AgentFlatRole => "the agent does not understand hierarchical roles",
            Self::GpuAgent => "the agent has gpus and the framework lacks GPU_RESOURCES",
            Self::RemoteAgent => "the agent is remote and the framework lacks REGION_AWARE",
            Self::Constrained => "the framework's offer constraints exclude the agent",
            Self::Held { by } => {
                let names: Vec<&str> = by.iter().map(|id| &*id.value).collect();
                return write!(f, "everything is held by {}", names.join(", "));
            }
            Self::Reserved { roles } => {
                return write!(f, "what is left is reserved for {}", roles.join(", "));
            }
            Self::Incapable => "what is left needs capabilities the framework lacks",
            Self::BelowMinimum => "what is left is too little to be worth an offer",
            Self::Filtered { until } => {
                return write!(f, "the framework refused it until {until}");
            }
            Self::Pending => "it will be decided in the next round",
        };
        f.write_str(text)
    }
}
