//! One node's containers: agent, isolators, provisioner, fetcher.

pub mod isolator;
