//! The vocabulary of the plug point: what an allocator is told, and what it answers.

mod agent;
mod config;
mod framework;
mod metrics;
mod quota;
mod reason;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dcos_core::resources::{Quantities, Resources};
use dcos_proto::mesos::{AgentId, FrameworkId, Unavailability};

pub use agent::AgentSpec;
pub use config::{Config, Hoarding};
pub use framework::{Capabilities, FrameworkSpec};
pub use metrics::{Metrics, RoleMetrics};
pub use quota::Quota;
pub use reason::{NonOffer, Reason};

/// Something an allocator must know of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A framework subscribed for the first time or came back; its filters are gone and it is
    /// active.
    AddFramework(FrameworkSpec),
    /// A framework changed its roles, suppressed roles, capabilities, minimums or constraints
    /// (`UPDATE_FRAMEWORK`, or it subscribed again with others). What it refused stays refused,
    /// but for roles it wants offers for again or leaves.
    UpdateFramework(FrameworkSpec),
    /// A framework is connected again.
    ActivateFramework(FrameworkId),
    /// A framework is disconnected: no more grants, no more filters.
    DeactivateFramework(FrameworkId),
    /// A framework is gone; whatever it still held is free.
    RemoveFramework(FrameworkId),
    /// An agent registered or came back; it is active and filters on it are gone.
    AddAgent(AgentSpec),
    /// An agent's total, capabilities, attributes or domain changed: it re-registered, its
    /// estimator found other revocable resources, a resource provider came, an operation that
    /// failed is undone. `used` is ignored. Frameworks keep what they hold, even if it is no
    /// longer in the total.
    UpdateAgent(AgentSpec),
    /// An agent may be offered again.
    ActivateAgent(AgentId),
    /// An agent must not be offered: disconnected, draining or deactivated by an operator.
    DeactivateAgent(AgentId),
    /// An agent is gone with all that was held on it.
    RemoveAgent(AgentId),
    /// An offer is no longer open: accepted, declined, rescinded or expired. Tell this for all of
    /// its resources before any [`Event::Convert`] or [`Event::Recover`] that follows from it;
    /// what is not recovered then counts as used.
    Answered {
        /// Who was offered it.
        framework: FrameworkId,
        /// Where.
        agent: AgentId,
        /// What was offered, with `allocation_info` as granted.
        resources: Resources,
    },
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
    /// An operation turned resources a framework holds into others: RESERVE, CREATE and such. The
    /// agent's total changes alike. With nothing `consumed`, what is `converted` is one more use of
    /// a shared volume that the framework holds already, and the total stays. For operations on
    /// what nobody holds there is [`convert_free`](super::Allocator::convert_free).
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
    /// What a framework still wants to use, for each of its roles (`REQUEST`): any number of pieces,
    /// each to be had from one agent. It replaces what the framework wished before, and counts
    /// until the framework uses as much more than it does now.
    Wish {
        /// Who.
        framework: FrameworkId,
        /// The pieces; none takes the wish back.
        pieces: Vec<Quantities>,
    },
    /// Weights of roles, relative to their siblings. Roles not named keep theirs; the default
    /// is 1.
    Weights(BTreeMap<String, f64>),
    /// Priorities of roles among their siblings. Roles not named keep theirs; the default is 0, and
    /// more comes first.
    Priorities(BTreeMap<String, i32>),
    /// Quotas of top-level roles; they hold for the roles below, too. Roles not named keep
    /// theirs; [`Quota::default`] removes one. Outstanding offers are not touched: a master that
    /// wants to make room rescinds them.
    Quotas(BTreeMap<String, Quota>),
    /// When an agent will be unavailable, or that it won't be. Whatever was answered to inverse
    /// offers for it is forgotten. To be told again after [`Event::AddAgent`].
    Unavailability {
        /// Which.
        agent: AgentId,
        /// When; `None` if maintenance is no longer planned.
        unavailability: Option<Unavailability>,
    },
    /// An inverse offer is no longer open: accepted, declined, rescinded or expired. While the
    /// framework holds something of the agent it is asked again when the refusal has run out.
    AnsweredInverse {
        /// Who.
        framework: FrameworkId,
        /// Where.
        agent: AgentId,
        /// For how long the framework does not want to be asked again; `None` if it did not say.
        refuse: Option<Duration>,
    },
    /// Only agents with these host names may be offered; `None` lifts the rule.
    Whitelist(Option<BTreeSet<String>>),
    /// Grant nothing until [`Event::Resume`]: a new leader waits for its agents to come back.
    Pause,
    /// Go on granting.
    Resume,
    /// A new leader found this many agents in the registry, and has told all quotas. If there are
    /// any, nothing is granted until enough of the agents were added, so that guarantees are not
    /// met with too small a part of the cluster ([`Config::recovery_factor`]).
    AwaitAgents {
        /// How many.
        known: usize,
    },
}

/// What a round decided. Whoever is granted something holds it from now on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decisions {
    /// What becomes offers.
    pub grants: Vec<Grant>,
    /// What becomes inverse offers.
    pub inverse: Vec<InverseGrant>,
    /// What should make room.
    pub preemptions: Vec<Preemption>,
}

impl Decisions {
    /// Whether nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.inverse.is_empty() && self.preemptions.is_empty()
    }
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

/// A framework is to be asked to leave an agent. Until [`Event::AnsweredInverse`] or another
/// [`Event::Unavailability`] it is not asked again.
#[derive(Debug, Clone, PartialEq)]
pub struct InverseGrant {
    /// Who.
    pub framework: FrameworkId,
    /// Which.
    pub agent: AgentId,
    /// From when, and for how long.
    pub unavailability: Unavailability,
}

/// Less important tasks are in the way of a wish. The master kills tasks of `role` and
/// `framework` on `agent`, or rescinds its offers there, until `resources` are free; each with
/// reason `REASON_CONTAINER_PREEMPTED`. What comes of it comes back as [`Event::Recover`], and is
/// granted by the usual rules, by which the more important role comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preemption {
    /// Who has to give way.
    pub framework: FrameworkId,
    /// In which of its roles.
    pub role: String,
    /// Where.
    pub agent: AgentId,
    /// How much.
    pub resources: Quantities,
    /// For which framework.
    pub to: FrameworkId,
    /// For which of its roles.
    pub to_role: String,
}

/// Why [`convert_free`](super::Allocator::convert_free) changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotFree {
    /// There is no such agent.
    #[error("agent {0} is unknown")]
    UnknownAgent(AgentId),
    /// Some framework holds, or has been offered, part of what is consumed, or it never was there.
    #[error("{missing} is not free on agent {agent}")]
    Held {
        /// Where.
        agent: AgentId,
        /// What was to be consumed.
        missing: String,
    },
}
