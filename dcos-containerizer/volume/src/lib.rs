//! Volumes that live outside of a node's sandboxes: who makes them available, and who uses them.
//!
//! ```text
//! a container wants (driver, volume) ─► Mounts: written down, counted ─► VolumeDriver::mount ─► a path
//! the container is gone ─────────────► Mounts: nobody else uses it ───► VolumeDriver::unmount
//! ```
//!
//! [`VolumeDriver`] is the plug point. Behind it stand [`docker`] (volume plugins of Docker),
//! [`loopback`] (files with a file system of a fixed size) and [`csi`] (storage plugins of the
//! Container Storage Interface). [`Mounts`] counts for all of them. Containers are names here:
//! how a path gets into one is the isolators' business.

pub mod csi;
pub mod docker;
mod driver;
mod files;
pub mod loopback;
mod mounts;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use driver::{Access, AccessMode, Drivers, Secrets, VolumeDriver, VolumeError, VolumeRequest};
pub use mounts::{Form, Mounts};
