//! Virtual addresses (VIPs): which address and port stands for which tasks.
//!
//! ```text
//! operator API ─► Follower ─► claims(task) ─► VipTable ─► changes: service ─► backends
//!                                                └─► names and their addresses
//! ```
//!
//! A task declares a VIP by a label of one of its ports (`VIP_0: /web:80`, `VIP_0: 10.1.2.3:80`) or,
//! where its framework knows no labels of ports, by one of its own (`VIP_PORT0: tcp://web:80`).
//! Named VIPs get an address of 11.0.0.0/8 and `fd01:c::/64` by a hash of the name, and are found as
//! `<name>.<framework>.l4lb.thisdcos.directory`.
//!
//! Source: dcos-net `dcos_l4lb_mesos_poller`, `dcos_net_mesos_listener`, `dcos_l4lb_lashup_vip_listener`.

mod address;
mod claim;
mod document;
mod phash;
mod ports;
mod reserved;
mod table;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use address::{Addresses, NAMED_V4, NAMED_V6};
pub use claim::{claims, declares};
pub use document::document;
pub use phash::phash2;
pub use table::{Change, Listed, NameAddresses, Refusal, VipTable};

/// What is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams; those of one socket stay together.
    Udp,
}

impl Protocol {
    /// The word for it in labels and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Its number in packets.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The other way round.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp]
            .into_iter()
            .find(|protocol| protocol.number() == number)
    }
}

/// Where people reach a VIP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address of their choice.
    Address(IpAddr),
    /// A name, mangled: `web.marathon`.
    Named(String),
}

/// What a task declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Connections or datagrams.
    pub protocol: Protocol,
    /// An address or a name.
    pub host: Host,
    /// The port there.
    pub port: u16,
}

/// What packets are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Connections or datagrams.
    pub protocol: Protocol,
    /// The virtual address and port.
    pub address: SocketAddr,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.protocol.as_str())
    }
}

/// One task behind a VIP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// The agent it runs on.
    pub agent: IpAddr,
    /// Where other nodes reach it.
    pub address: SocketAddr,
    /// Where its own node reaches it, if a port of the node only leads into its container: packets
    /// that were redirected once are not redirected again.
    pub inside: Option<SocketAddr>,
    /// Whether it takes new connections: it runs and is healthy. One that does not keeps those it has.
    pub open: bool,
}

/// A task's wish to be one of those behind a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which VIP.
    pub key: Key,
    /// Where the task is.
    pub backend: Backend,
}

/// A task among those of all frameworks: the ids of framework and task.
pub type TaskKey = (String, String);
