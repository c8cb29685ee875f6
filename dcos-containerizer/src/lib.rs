//! One node's containers: agent, isolators, provisioner, fetcher.

pub mod agent;
mod callers;
pub mod check;
pub mod checkpoint;
pub mod containerizer;
mod descriptors;
pub mod executor;
pub mod fetcher;
pub mod isolator;
pub mod logger;
mod netns;
pub mod oci;
pub mod oversubscription;
mod procfs;
pub mod provisioner;
pub mod rootless;
pub mod secret;
pub mod switchboard;
pub mod systemd;
