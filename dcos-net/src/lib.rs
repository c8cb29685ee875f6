//! One node's network: the names of a cluster and its virtual addresses, as pure data.
//!
//! A [`Snapshot`] says what runs where; [`names::publish`] makes the DNS zones of Mesos-DNS and
//! dcos-dns out of it, and [`vip`] says which tasks stand behind which virtual address. Nothing here
//! opens a socket; only [`MemoryFile`] asks a clock or opens a file, and only [`Keeper`] waits for it: the server that answers queries is the crate `dcos-dns`,
//! what balances connections the crate `dcos-l4lb`.
//!
//! ```
//! use dcos_net::{Snapshot, Task, Agent, names};
//!
//! let mut snapshot = Snapshot::default();
//! snapshot.agents.push(Agent::new("a1-S0", "10.0.0.7".parse()?, 5051));
//! snapshot.tasks.push(Task::new("t1", "Web_Server", "marathon", "a1-S0"));
//! let published = names::publish(&snapshot, &names::Config::default());
//! let found = published.find("web-server.marathon.mesos.").expect("a zone of ours");
//! assert_eq!(found.records().unwrap().a, ["10.0.0.7".parse::<std::net::Ipv4Addr>()?]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod census;
mod follow;
pub mod label;
mod memory;
pub mod names;
mod snapshot;
mod subnet;
pub mod vip;
mod zone;

pub use census::{Census, Counts};
pub use follow::{Follower, Listener, Placed, state_of};
pub use memory::{
    Around, Cluster, Entry, Journal, Keeper, Keeping, KnownAgent, KnownTask, MemoryFile, Origin,
    Record, Remembered, Unreadable, Write,
};
pub use snapshot::{Agent, Discovery, Framework, Port, Snapshot, Task};
pub use subnet::{NoSubnet, Subnet};
pub use zone::{Found, RecordSet, Service, Soa, Zone, reverse};
