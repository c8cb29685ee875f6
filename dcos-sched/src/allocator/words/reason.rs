//! Why something is not offered.

use std::fmt;

use dcos_core::resources::Quantities;
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentId, FrameworkId};

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
    /// The role has consumed as much as its quota allows of these.
    QuotaReached {
        /// The role that has the quota.
        role: String,
        /// Which resources there may be no more of.
        names: Vec<String>,
    },
    /// What is left is kept free for guarantees that are not met yet.
    Headroom {
        /// Of which roles.
        roles: Vec<String>,
    },
    /// The framework has offers it did not answer, and others wait for some.
    Hoarding {
        /// How much it holds in such offers.
        unanswered: Quantities,
        /// How much it may hold.
        allowed: Quantities,
    },
    /// It would be next, but for roles of higher priority.
    Outranked {
        /// Which.
        roles: Vec<String>,
    },
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
            Self::QuotaReached { role, names } => {
                let names = names.join(", ");
                return write!(f, "role {role} has reached its quota limit of {names}");
            }
            Self::Headroom { roles } => {
                let roles = roles.join(", ");
                return write!(f, "what is left is kept free for the guarantees of {roles}");
            }
            Self::Hoarding {
                unanswered,
                allowed,
            } => {
                return write!(
                    f,
                    "the framework holds {unanswered} in offers it has not answered, and may hold \
                     {allowed} while others wait"
                );
            }
            Self::Outranked { roles } => {
                let roles = roles.join(", ");
                return write!(f, "{roles} come first by priority");
            }
            Self::Pending => "it will be decided in the next round",
        };
        f.write_str(text)
    }
}
