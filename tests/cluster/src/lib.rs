//! Whole clusters of real processes: three masters on three servers of `ZooKeeper` or etcd, agents with addresses of
//! their own, real tasks, and a framework; whose leaders are then killed, frozen and cut off.
//!
//! | file | owns |
//! |---|---|
//! | `process.rs` | a program, its log, its signals, its end |
//! | `servers.rs` | ensembles of `ZooKeeper` and etcd from Debian's packages |
//! | `network.rs` | hosts: network namespaces on a bridge |
//! | `cluster.rs` | masters and agents on those hosts |
//! | `workload.rs` | a framework that counts what it is told, and what it is not |
//! | `probe.rs` | who says that it leads, several times a second |
//! | `orders.rs` | quota, weight, maintenance, reservation, failover timeout: what every leader must know |
//! | `fencing.rs` | orders to deposed leaders, and the registry's content |
//! | `departures.rs` | drains and TEARDOWN across failovers |
//! | `drill.rs` | the faults, and what must hold after each |
//! | `machine.rs` | a host that loses its power and comes back |
//! | `site.rs` | two masters, three agents and a public one with all of the network: overlay, VIPs, names, routers |
//! | `talk.rs` | servers in containers, and clients that note how they fare |
//! | `reach.rs` | the drill of the network |
//!
//! `make cluster-test` runs the drill at length; `tests/drill.rs` runs a slice of it.

pub mod cluster;
pub mod departures;
pub mod drill;
pub mod fencing;
pub mod machine;
pub mod network;
pub mod orders;
pub mod probe;
pub mod process;
pub mod reach;
pub mod servers;
pub mod site;
pub mod talk;
pub mod workload;
