//! One node's containers: agent, isolators, provisioner, fetcher.

pub mod check;
pub mod containerizer;
pub mod isolator;
