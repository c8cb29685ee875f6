//! Volumes of storage plugins that speak the Container Storage Interface, version 1.
//!
//! Volumes are there before tasks ask for them ("static provisioning"); what is done here is to
//! make them available: `ControllerPublishVolume`, `NodeStageVolume`, `NodePublishVolume`, and
//! back. Plugins run outside of us and listen on sockets; their configuration is Mesos's
//! `CSIPluginInfo`, a file a plugin.
//!
//! # Source
//! CSI 1.13, and `volume/csi` of Mesos 1.11 (`src/csi/v1_volume_manager.cpp`). Departure: Mesos
//! takes volumes as attached to the node, here a plugin that attaches is asked to.

mod client;
mod config;
mod messages;
mod plugin;
mod state;
#[cfg(test)]
mod tests;

pub use config::{CsiFolder, Endpoint, PluginInfo, Service};
pub use plugin::CsiPlugin;
