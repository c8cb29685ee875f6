//! One node's containers: agent, isolators, provisioner, fetcher.

pub mod containerizer;
pub mod isolator;
