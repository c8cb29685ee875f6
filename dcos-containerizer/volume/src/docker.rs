//! Volume plugins of Docker: found by name, spoken to over sockets.
//!
//! A plugin is a server that Docker's daemon would ask, too; REX-Ray is one. Where the original
//! ran `dvdcli`, which asks such a plugin, we ask it ourselves.
//!
//! # Source
//! Docker's "volume plugin" and "plugin API" pages; DC/OS `dvdcli`. What Docker 20.10 sends was
//! looked at for the order of calls and the headers.

mod plugin;
mod registry;

pub use plugin::DockerVolumes;
pub use registry::{Address, PluginFolders};
