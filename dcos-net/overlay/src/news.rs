//! What an agent and the master say to each other.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{AgentNetwork, NetworkConfig, Wishes};

/// An agent wants to be in the overlays: the body of `POST /overlay-master/agents/register`. The
/// answer is a stream of [`News`], each a record in RecordIO's framing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The address by which other nodes reach it.
    pub ip: IpAddr,
    /// What it asks for.
    pub wishes: Wishes,
    /// What it was given before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<AgentNetwork>,
}

/// An agent is there, and says how it is: the body of `POST /overlay-master/agents/report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its address.
    pub ip: IpAddr,
    /// How often it tried to configure its node since it last knew what to configure.
    pub configuration_attempts: u32,
    /// Why that did not work, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An agent and what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The address by which other nodes reach it.
    pub ip: IpAddr,
    /// What it has.
    pub network: AgentNetwork,
}

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// First, everything.
    All {
        /// The overlays there are.
        config: NetworkConfig,
        /// What it has itself.
        own: AgentNetwork,
        /// What all others have.
        peers: Vec<Peer>,
        /// How often the master wants to hear from it, in milliseconds.
        report_ms: u64,
    },
    /// An agent came, or has something else now.
    Put(Peer),
    /// An agent went.
    Gone(IpAddr),
    /// Nothing changed, and the master is there.
    Heartbeat,
}

/// How often a stream says that it stands.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Three missed mean that the master is gone.
pub(crate) const SILENCE: Duration = Duration::from_secs(45);
