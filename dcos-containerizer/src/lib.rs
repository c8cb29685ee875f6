//! One node's containers: agent, isolators, provisioner, fetcher.

pub mod check;
pub mod containerizer;
pub mod fetcher;
pub mod isolator;
pub mod logger;
pub mod provisioner;
