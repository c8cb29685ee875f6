//! The plug point that turns images into root file systems.
//!
//! [`ImageProvisioner`] is the default: images from registries or from a directory of this host,
//! unpacked once into layers, and a writable overlay of them a container. What it accepts is told
//! in `docs/images.md`.

mod collect;
mod images;
mod options;

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use dcos_proto::mesos::{ContainerId, Image};

pub use collect::{Collection, CollectionConfig};
pub use dcos_image::ImageConfig;
pub use images::{Backend, ImageProvisioner, ImageProvisionerConfig};
pub use options::OPTIONS;

use crate::isolator::Ids;

/// Turns an image into the root file system of a container.
///
/// # Contract
/// 1. A provisioned root is the container's own: writes to it are seen by nobody else.
/// 2. Repeating a call changes nothing; [`destroy`](Self::destroy) of an unknown container
///    succeeds.
/// 3. [`recover`](Self::recover) comes first and removes the roots of all containers it is not
///    given.
///
/// # Source
/// Mesos 1.11 `Provisioner` (`src/slave/containerizer/mesos/provisioner/provisioner.hpp`).
#[async_trait]
pub trait Provisioner: fmt::Debug + Send + Sync + 'static {
    /// Removes what containers that are gone left behind.
    ///
    /// # Errors
    /// [`ProvisionError`] if the roots cannot be listed.
    async fn recover(&self, alive: &[ContainerId]) -> Result<(), ProvisionError>;

    /// Makes a root for `id` from `image`. With `ids` it belongs to those of them that the image names:
    /// its root to the first.
    ///
    /// # Errors
    /// [`ProvisionError`]; nothing is left then.
    async fn provision(
        &self,
        id: &ContainerId,
        image: &Image,
        ids: Option<&Ids>,
    ) -> Result<Provisioned, ProvisionError>;

    /// Removes the root of a container that ended.
    ///
    /// # Errors
    /// [`ProvisionError`]; the caller may try again.
    async fn destroy(&self, id: &ContainerId) -> Result<(), ProvisionError>;

    /// Removes images that no container needs, but for `kept`.
    ///
    /// # Errors
    /// [`ProvisionError`]; what was removed until then stays removed.
    async fn prune(&self, kept: &[Image]) -> Result<(), ProvisionError>;
}

/// A root file system, and what its image says about running it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// Where it is, on the host.
    pub rootfs: PathBuf,
    /// Folders of the host that hold what is written to it, for whoever measures that: Mesos's
    /// `ephemeral_volumes`.
    pub ephemeral: Vec<PathBuf>,
    /// What the image says.
    pub image: ImageConfig,
}

/// Why there is no root file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ProvisionError {
    /// Why.
    pub reason: String,
}

impl ProvisionError {
    /// It failed because of `reason`.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
        }
    }
}
