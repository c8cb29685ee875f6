//! The default provisioner: images of this host.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dcos_proto::mesos::{ContainerId, Image};
use tokio::sync::Mutex;

use super::images::Images;
use super::{ProvisionError, Provisioned, Provisioner, root};

/// How a [`LocalProvisioner`] works.
#[derive(Debug, Clone)]
pub struct LocalProvisionerConfig {
    /// Where Docker and OCI images are found, by name. `--docker_registry`, if it is a path.
    pub docker_images: Option<PathBuf>,
    /// Where appc images are found, by name. `--appc_simple_discovery_uri_prefix`, if a path.
    pub appc_images: Option<PathBuf>,
    /// Where unpacked layers are kept. `--docker_store_dir`.
    pub store: PathBuf,
    /// Where containers' roots are. `<work_dir>/provisioner`.
    pub roots: PathBuf,
    /// How layers become a root. `--image_provisioner_backend`.
    pub backend: Backend,
}

/// How layers become a root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// Overlay where it works, else a copy.
    #[default]
    Auto,
    /// `overlayfs`: nothing is copied but what is changed.
    Overlay,
    /// Everything is copied.
    Copy,
}

/// Provisions images of this host. Needs root.
///
/// Layers are unpacked into a folder of their own that gets its name when it is complete and its
/// digest was checked; so a crash leaves nothing that could be taken for a layer.
#[derive(Debug, Clone)]
pub struct LocalProvisioner {
    config: Arc<LocalProvisionerConfig>,
    images: Arc<Images>,
    /// One image is unpacked at a time: two could share layers.
    unpacking: Arc<Mutex<()>>,
}

impl LocalProvisioner {
    /// A provisioner; makes its folders at [`recover`](Provisioner::recover).
    pub fn new(config: LocalProvisionerConfig) -> Self {
        let images = Images {
            docker: config.docker_images.clone(),
            appc: config.appc_images.clone(),
            store: config.store.clone(),
        };
        Self {
            config: Arc::new(config),
            images: Arc::new(images),
            unpacking: Arc::default(),
        }
    }

    fn folder(&self, id: &ContainerId) -> PathBuf {
        self.config.roots.join(id.to_string())
    }
}

#[async_trait]
impl Provisioner for LocalProvisioner {
    async fn recover(&self, alive: &[ContainerId]) -> Result<(), ProvisionError> {
        let alive: Vec<PathBuf> = alive.iter().map(|id| self.folder(id)).collect();
        let (images, roots) = (Arc::clone(&self.images), self.config.roots.clone());
        blocking(move || {
            images.recover()?;
            std::fs::create_dir_all(&roots)?;
            for entry in std::fs::read_dir(&roots)? {
                let folder = entry?.path();
                if !alive.contains(&folder) {
                    remove(&folder)?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn provision(
        &self,
        id: &ContainerId,
        image: &Image,
    ) -> Result<Provisioned, ProvisionError> {
        if !rustix::process::geteuid().is_root() {
            return Err(ProvisionError::new(
                "images need an agent that runs as root",
            ));
        }
        let (images, wanted) = (Arc::clone(&self.images), image.clone());
        let unpacking = self.unpacking.clone().lock_owned().await;
        let ready = tokio::task::spawn_blocking(move || {
            // Held even if nobody waits for the outcome any more.
            let _unpacking = unpacking;
            images.ready(&wanted)
        });
        let ready = ready.await.map_err(ProvisionError::new)??;
        let (folder, backend) = (self.folder(id), self.config.backend);
        blocking(move || {
            let rootfs = folder.join("rootfs");
            let made = make(&ready.layers, &folder, &rootfs, backend);
            if made.is_err() {
                remove(&folder).ok();
            }
            made.map(|()| Provisioned {
                rootfs,
                image: ready.config,
            })
        })
        .await
    }

    async fn destroy(&self, id: &ContainerId) -> Result<(), ProvisionError> {
        let folder = self.folder(id);
        blocking(move || remove(&folder)).await
    }
}

fn make(layers: &[PathBuf], folder: &Path, rootfs: &Path, backend: Backend) -> io::Result<()> {
    remove(folder)?;
    std::fs::create_dir_all(rootfs)?;
    match backend {
        Backend::Overlay => root::overlay(layers, folder, rootfs),
        Backend::Copy => root::copy(layers, rootfs),
        Backend::Auto => root::overlay(layers, folder, rootfs).or_else(|error| {
            tracing::debug!(%error, "no overlay here, copying the image");
            root::copy(layers, rootfs)
        }),
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    root::undo(&folder.join("rootfs"))?;
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ProvisionError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(ProvisionError::new)?
        .map_err(ProvisionError::new)
}
