//! [`Dataplane`]: what carries out what the overlays want of one node. A plug point.

use std::io;
use std::net::IpAddr;

use crate::{Step, Subnet, Tunnels, Vtep};

/// A node's own part in the overlays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its tunnel end.
    pub vtep: Vtep,
    /// What a packet in a tunnel may have, in bytes.
    pub mtu: u32,
    /// Its parts of the overlays.
    pub parts: Vec<Subnet>,
    /// The overlays as a whole: what goes from `parts` to anywhere else leaves as if the node
    /// itself had sent it.
    pub overlays: Vec<Subnet>,
}

/// What knows the way to other nodes' containers.
///
/// Calls may block; they are made one at a time, and repeating one changes nothing. What is right
/// is never touched, not even for a moment. After an error the data path may be anywhere between
/// before and after: whoever called makes it right by calling again.
pub trait Dataplane: Send + 'static {
    /// What fits into a packet of the network that `node`, an address of this host, is in: bytes.
    ///
    /// # Errors
    /// No device has that address, or what the system said.
    fn mtu_below(&mut self, node: IpAddr) -> Result<u32, DataplaneError>;

    /// Makes the node's own tunnel end and its rules as they should be. Says whether anything was
    /// not.
    ///
    /// # Errors
    /// What the system said.
    fn establish(&mut self, own: &Own) -> Result<bool, DataplaneError>;

    /// Compares what leads to others with `wanted`, and makes it so; says how many entries were
    /// not.
    ///
    /// # Errors
    /// What the system said.
    fn reconcile(&mut self, wanted: &Tunnels) -> Result<usize, DataplaneError>;

    /// Carries out changes to what it was told before.
    ///
    /// # Errors
    /// What the system said.
    fn apply(&mut self, steps: &[Step]) -> Result<(), DataplaneError>;
}

/// Why a data path does not do as told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataplaneError {
    /// Another process has the overlays of this network namespace.
    #[error("taking the overlays of this node (another process may have them)")]
    Taken {
        /// What the system said.
        source: io::Error,
    },
    /// There is no way to the kernel's routing.
    #[error("opening a netlink socket to the kernel's routing")]
    Open {
        /// What the system said.
        source: io::Error,
    },
    /// The address by which others know this node is none of its own.
    #[error("no device of this node has the address {node}")]
    Unknown {
        /// The address.
        node: IpAddr,
    },
    /// The kernel's state cannot be read.
    #[error("reading the kernel's {what}")]
    Read {
        /// Of what.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a change.
    #[error("changing the kernel's {what} (that takes root)")]
    Write {
        /// Of what.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program that makes rules did not.
    #[error("making the rules that masquerade")]
    Rules {
        /// Why.
        #[from]
        source: dcos_netlink::NftError,
    },
}
