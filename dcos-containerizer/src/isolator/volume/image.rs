//! `volume/image`: volumes whose content is that of an image.
//!
//! Each container has a copy of its own: what it writes there, in mode RW, goes with it.
//!
//! # Source
//! Mesos 1.11 isolator of this name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dcos_proto::mesos::{ContainerId, Image, Volume};
use oci_spec::runtime::LinuxNamespaceType;

use super::{Source, attach, volumes};
use crate::isolator::notes::Notes;
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};
use crate::provisioner::{ProvisionError, Provisioner};

/// Where its notes are, below the runtime directory.
const FOLDER: &str = "isolators/volume/image";

/// Provisions images as volumes.
#[derive(Debug)]
pub struct ImageVolumeIsolator {
    /// How many of these volumes a container has.
    notes: Notes,
    sandbox_directory: PathBuf,
    images: Option<Arc<dyn Provisioner>>,
}

impl ImageVolumeIsolator {
    /// Volumes made by `images`, which makes nothing else; all are refused if there is none. Keeps
    /// notes below `runtime_dir`.
    pub fn new(
        runtime_dir: &Path,
        sandbox_directory: PathBuf,
        images: Option<Arc<dyn Provisioner>>,
    ) -> Self {
        Self {
            notes: Notes::in_folder(runtime_dir.join(FOLDER)),
            sandbox_directory,
            images,
        }
    }

    /// What the provisioner calls the volumes of a container.
    fn noted(&self, id: &ContainerId) -> Result<Vec<ContainerId>, IsolatorError> {
        let count = self.notes.read(id)?.unwrap_or(0);
        Ok((0..count).map(|number| name(id, number)).collect())
    }
}

fn name(id: &ContainerId, number: usize) -> ContainerId {
    id.child(format!("volume-{number}"))
}

fn failed(error: ProvisionError) -> IsolatorError {
    IsolatorError::refused(error.reason)
}

fn wanted(config: &ContainerConfig) -> impl Iterator<Item = (&Volume, &Image)> {
    volumes(config).filter_map(|volume| match volume.source {
        None => Some((volume, volume.image.as_ref()?)),
        Some(_) => None,
    })
}

#[async_trait]
impl Isolator for ImageVolumeIsolator {
    fn name(&self) -> &'static str {
        "volume/image"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        let Some(images) = &self.images else {
            return Ok(());
        };
        let mut alive = Vec::new();
        for id in containers {
            alive.extend(self.noted(id)?);
        }
        images.recover(&alive).await.map_err(failed)?;
        let gone = self.notes.ids()?.into_iter();
        let mut gone = gone.filter(|id| !containers.contains(id));
        gone.try_for_each(|id| self.notes.remove(&id))
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let count = wanted(config).count();
        if count == 0 {
            return Ok(());
        }
        self.notes.write(&config.id, &count)?;
        for (number, (volume, image)) in wanted(config).enumerate() {
            let wrong = |why: &str| {
                IsolatorError::refused(format!("volume {}: {why}", volume.container_path))
            };
            if !draft.has_namespace(LinuxNamespaceType::Mount) {
                return Err(wrong("it needs the isolator `filesystem/linux`"));
            }
            let images = self.images.as_ref();
            let images = images
                .ok_or_else(|| wrong("this agent provides no images (`--image_providers`)"))?;
            let made = images
                .provision(&name(&config.id, number), image, config.ids.as_ref())
                .await;
            let made = made.map_err(|error| wrong(&error.reason))?;
            let source = Source::at(made.rootfs);
            attach(&source, volume, &self.sandbox_directory, config, draft)?;
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        let Some(images) = &self.images else {
            return Ok(());
        };
        for volume in self.noted(id)? {
            images.destroy(&volume).await.map_err(failed)?;
        }
        self.notes.remove(id)
    }
}
