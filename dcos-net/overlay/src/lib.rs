//! A network of containers over all nodes, as DC/OS has it: VXLAN 1024 on port 64000, a part of each
//! overlay for each agent.
//!
//! ```text
//! master                                              agent
//! NetworkConfig ─► Roll (Allocation, presence) ─► News ─► Node ─► Dataplane: vtep1024, routes, neighbours, ...
//!                  kept in the store         a stream each   └──► Networks: CNI configurations, Docker's networks
//! ```
//!
//! What is decided is pure: [`Allocation`] gives out addresses, [`Roll`] knows who is there,
//! [`Tunnels`] says what a kernel has to know. [`Desk`] is the master's half, [`Node`] that of an
//! agent, [`Kernel`] what changes links, routes and rules by netlink.
//!
//! ```
//! use dcos_overlay::{Allocation, NetworkConfig, Wishes};
//!
//! let mut allocation = Allocation::default();
//! let agent = [10, 0, 0, 7].into();
//! let network = allocation.register(&NetworkConfig::default(), agent, Wishes::ALL, None)?;
//! assert_eq!(network.vtep.ip.to_string(), "44.128.0.1/20");
//! assert_eq!(network.vtep.mac.to_string(), "70:b3:d5:80:00:01");
//! let bridge = network.overlays["dcos"].mesos_bridge.as_ref().unwrap();
//! assert_eq!(bridge.ip.unwrap().to_string(), "9.0.0.0/25");
//! # Ok::<(), dcos_overlay::Exhausted>(())
//! ```

mod allocation;
mod bridge;
mod cni;
mod config;
mod dataplane;
mod desk;
mod document;
mod follow;
mod kernel;
mod mac;
mod metrics;
mod news;
mod node;
pub mod plugin;
mod roll;
mod tunnels;

pub use allocation::{
    AgentNetwork, AgentOverlay, Allocation, Bridge, Exhausted, PORT, VNI, VTEP, Vtep, Wishes,
};
pub use bridge::DefaultBridge;
pub use cni::{CniConfigurations, ContainerNetwork, Networks, NetworksError};
pub use config::{ConfigError, Mistake, NetworkConfig, OverlayInfo};
pub use dataplane::{Dataplane, DataplaneError, Own};
pub use dcos_net::{NoSubnet, Subnet};
pub use desk::{Desk, DeskError};
pub use kernel::Kernel;
pub use mac::{Mac, NoMac};
pub use news::{News, Peer, Registration, Report};
pub use node::{Node, NodeConfig, View};
pub use roll::Roll;
pub use tunnels::{Entry, Step, TABLE, Tunnels};
