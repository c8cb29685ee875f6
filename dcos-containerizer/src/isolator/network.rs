//! `network/cni`: networks of their own for containers that name one.
//!
//! A container that names networks in its `network_infos` gets a network namespace, held by a
//! file; a [`ContainerNetwork`] puts a device and addresses into it, one for each name, before
//! the container's first process exists. What is nested in it shares all of that unless it names
//! networks itself. Who names none is on the node's network.
//!
//! ```text
//! <root>/<container>/ns                 the network namespace
//!                   /networks.json      what it is attached to, written before and after
//!                   /hosts, hostname, resolv.conf   what the container sees of these in /etc
//!                   /networks/<name>/    for the network to keep what it needs to detach
//! ```
//!
//! The files are the only record, so that nothing is lost with the agent.
//!
//! # Source
//! Mesos 1.11 `network/cni` (docs/cni.md), which attaches after the process was forked and holds
//! it back until then.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use async_trait::async_trait;
use dcos_proto::mesos::{ContainerId, NetworkInfo};
use serde::{Deserialize, Serialize};

mod cni;
mod files;
mod isolator;
mod ports;
mod record;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use cni::CniNetworks;
pub use files::{DefaultDns, Dns};
pub use isolator::NetworkIsolator;

/// Networks that containers can be attached to: CNI plugins, an overlay, ...
///
/// # Contract
/// 1. `attach` finds an empty namespace, apart from loopback and what other networks put there,
///    and leaves a device named `interface` in it that can be used.
/// 2. What `detach` needs is written to `folder` before anything is changed on the host.
/// 3. `detach` undoes an `attach` that failed, was dropped half-way, or is undone already; also
///    if the namespace is gone (`namespace` absent, after a restart of the host).
#[async_trait]
pub trait ContainerNetwork: Send + Sync + fmt::Debug {
    /// Puts a container into a network.
    ///
    /// # Errors
    /// [`NetworkError`], for people; the caller detaches.
    async fn attach(&self, attachment: &Attachment) -> Result<Attached, NetworkError>;

    /// Takes it out again.
    ///
    /// # Errors
    /// [`NetworkError`]; the caller may try again.
    async fn detach(&self, attachment: &Attachment) -> Result<(), NetworkError>;
}

/// A container and a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// The container.
    pub container: ContainerId,
    /// The network's name.
    pub network: String,
    /// What the device is called inside: `eth0`, `eth1`, ...
    pub interface: String,
    /// A file that holds the namespace; absent if it is gone.
    pub namespace: Option<PathBuf>,
    /// What the container asked for: labels, port mappings.
    pub info: NetworkInfo,
    /// A folder of its own for what has to be known later; exists.
    pub folder: PathBuf,
}

/// What came of attaching.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Addresses of the device, the main one first.
    pub addresses: Vec<Address>,
    /// Name servers of the network; nothing if it has none of its own.
    #[serde(default)]
    pub dns: Dns,
}

/// An address and the length of its network's prefix, as `10.0.0.5/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no address with a prefix length, such as 10.0.0.5/24");
        let (ip, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Self { ip, prefix })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// A node without networks to name.
#[derive(Debug, Clone, Copy)]
pub struct NoNetworks;

#[async_trait]
impl ContainerNetwork for NoNetworks {
    async fn attach(&self, attachment: &Attachment) -> Result<Attached, NetworkError> {
        Err(NetworkError(format!(
            "Unknown CNI network '{}': this agent has none (`--network_cni_config_dir` and \
             `--network_cni_plugins_dir`)",
            attachment.network
        )))
    }

    async fn detach(&self, _: &Attachment) -> Result<(), NetworkError> {
        Ok(())
    }
}

/// Why a container could not be attached or detached: a text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

impl NetworkError {
    fn file(doing: &str, path: &Path, error: impl fmt::Display) -> Self {
        Self(format!("{doing} {}: {error}", path.display()))
    }
}
