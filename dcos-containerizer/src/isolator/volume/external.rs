//! `docker/volume` and `volume/csi`: volumes that a driver of the node makes available.
//!
//! Drivers, and who counts their mounts, are in [`dcos_volume`]; here a volume of Mesos becomes a
//! request to one, and what it mounted gets into the container.
//!
//! # Source
//! Mesos 1.11 isolators of these names.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dcos_proto::mesos::volume::Mode;
use dcos_proto::mesos::volume::source::csi_volume::volume_capability::access_mode::Mode as CsiMode;
use dcos_proto::mesos::volume::source::{CsiVolume, DockerVolume, Type};
use dcos_proto::mesos::{ContainerId, Secret, Volume};
use dcos_volume::{Access, AccessMode, Drivers, Form, Mounts, Secrets, VolumeRequest};
use oci_spec::runtime::LinuxNamespaceType;

use super::{Source, attach, volumes};
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};
use crate::secret::SecretResolver;

/// A volume and what is asked of whom for it.
type Wanted<'a> = (&'a Volume, String, VolumeRequest);

/// Mounts what drivers provide.
#[derive(Debug)]
struct External {
    mounts: Mounts,
    sandbox_directory: PathBuf,
}

impl External {
    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        let alive = containers.iter().map(ToString::to_string).collect();
        Ok(self.mounts.recover(&alive).await?)
    }

    /// Mounts all, and puts them into the container; where each is on the host.
    async fn prepare(
        &self,
        wanted: Vec<Wanted<'_>>,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<Vec<PathBuf>, IsolatorError> {
        let Some((first, ..)) = wanted.first() else {
            return Ok(Vec::new());
        };
        if !draft.has_namespace(LinuxNamespaceType::Mount) {
            let why = "it needs the isolator `filesystem/linux`";
            return Err(wrong(first, why));
        }
        let (volumes, requests): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .map(|(volume, driver, request)| (volume, (driver, request)))
            .unzip();
        let places = self.mounts.attach(&config.id.to_string(), requests).await?;
        for (volume, place) in volumes.into_iter().zip(&places) {
            let source = Source {
                mapped: true,
                ..Source::at(place)
            };
            attach(&source, volume, &self.sandbox_directory, config, draft)?;
        }
        Ok(places)
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        Ok(self.mounts.release(&id.to_string()).await?)
    }
}

fn wrong(volume: &Volume, why: &str) -> IsolatorError {
    IsolatorError::refused(format!("volume {}: {why}", volume.container_path))
}

/// The volumes of a type, each with its part for that type.
fn of_type<'a, T>(
    config: &'a ContainerConfig,
    wanted: Type,
    part: impl Fn(&'a dcos_proto::mesos::volume::Source) -> Option<&'a T>,
) -> Result<Vec<(&'a Volume, &'a T)>, IsolatorError> {
    let mut found = Vec::new();
    for volume in volumes(config) {
        let source = volume.source.as_ref();
        if let Some(source) = source.filter(|source| source.r#type() == wanted) {
            let part = part(source).ok_or_else(|| wrong(volume, "it does not say which"))?;
            found.push((volume, part));
        }
    }
    Ok(found)
}

/// Volumes of Docker's volume plugins.
#[derive(Debug)]
pub struct DockerVolumeIsolator {
    external: External,
    chown: bool,
}

impl DockerVolumeIsolator {
    /// Keeps who uses what in `checkpoints` (`--docker_volume_checkpoint_dir`). With `chown`
    /// (`--docker_volume_chown`) volumes are given to the user of whom they are mounted for.
    pub fn new(
        checkpoints: PathBuf,
        drivers: Arc<dyn Drivers>,
        sandbox_directory: PathBuf,
        chown: bool,
    ) -> Self {
        Self {
            external: External {
                mounts: Mounts::new(checkpoints, Form::Docker, drivers),
                sandbox_directory,
            },
            chown,
        }
    }
}

fn docker_request(
    volume: &Volume,
    docker: &DockerVolume,
) -> Result<(String, VolumeRequest), IsolatorError> {
    let driver = docker.driver.clone();
    let driver = driver.ok_or_else(|| wrong(volume, "it names no driver"))?;
    let options = docker.driver_options.iter();
    let options = options
        .flat_map(|options| &options.parameter)
        .map(|option| (option.key.clone(), option.value.clone()));
    let request = VolumeRequest {
        name: docker.name.clone(),
        options: options.collect(),
        ..VolumeRequest::default()
    };
    Ok((driver, request))
}

#[async_trait]
impl Isolator for DockerVolumeIsolator {
    fn name(&self) -> &'static str {
        "docker/volume"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        self.external.recover(containers).await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let mut wanted = Vec::new();
        for (volume, docker) in of_type(config, Type::DockerVolume, |source| {
            source.docker_volume.as_ref()
        })? {
            let (driver, request) = docker_request(volume, docker)?;
            wanted.push((volume, driver, request));
        }
        let places = self.external.prepare(wanted, config, draft).await?;
        let user = draft.spec.process().as_ref();
        let user = user.map(|process| (process.user().uid(), process.user().gid()));
        if let Some((uid, gid)) = user.filter(|(uid, _)| self.chown && *uid != 0) {
            for place in places {
                chown(&place, Some(uid), Some(gid))
                    .map_err(IsolatorError::file("giving away", place))?;
            }
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.external.cleanup(id).await
    }
}

/// Volumes of plugins of the Container Storage Interface.
#[derive(Debug)]
pub struct CsiVolumeIsolator {
    external: External,
    secrets: Arc<dyn SecretResolver>,
}

/// Where `volume/csi` keeps who uses what, below the runtime directory.
const FOLDER: &str = "isolators/volume/csi";

impl CsiVolumeIsolator {
    /// Keeps who uses what below `runtime_dir`; values of secrets come from `secrets`.
    pub fn new(
        runtime_dir: &Path,
        drivers: Arc<dyn Drivers>,
        sandbox_directory: PathBuf,
        secrets: Arc<dyn SecretResolver>,
    ) -> Self {
        Self {
            external: External {
                mounts: Mounts::new(runtime_dir.join(FOLDER), Form::Csi, drivers),
                sandbox_directory,
            },
            secrets,
        }
    }

    async fn request(
        &self,
        volume: &Volume,
        csi: &CsiVolume,
    ) -> Result<VolumeRequest, IsolatorError> {
        let given = csi.static_provisioning.as_ref();
        let given = given.ok_or_else(|| wrong(volume, "it does not say which"))?;
        let capability = &given.volume_capability;
        let mode = access_mode(capability.access_mode.mode());
        let mode = mode.ok_or_else(|| wrong(volume, "its access mode is not known"))?;
        if mode.is_read_only() && volume.mode != i32::from(Mode::Ro) {
            let id = &given.volume_id;
            let why = format!("Cannot use the read-only volume '{id}' in read-write mode");
            return Err(IsolatorError::refused(why));
        }
        let mount = capability.mount.as_ref();
        let stage = self.resolve(volume, &given.node_stage_secrets).await?;
        let publish = self.resolve(volume, &given.node_publish_secrets).await?;
        Ok(VolumeRequest {
            name: given.volume_id.clone(),
            options: given.volume_context.clone(),
            access: Access {
                mode,
                block: capability.block.is_some(),
                file_system: mount.and_then(|mount| mount.fs_type.clone()),
                mount_flags: mount.map_or_else(Vec::new, |mount| mount.mount_flags.clone()),
            },
            secrets: Secrets { stage, publish },
        })
    }

    async fn resolve(
        &self,
        volume: &Volume,
        secrets: &BTreeMap<String, Secret>,
    ) -> Result<BTreeMap<String, String>, IsolatorError> {
        let mut values = BTreeMap::new();
        for (name, secret) in secrets {
            let value = self.secrets.resolve(secret).await;
            let value = value.map_err(|error| wrong(volume, &format!("secret {name}: {error}")))?;
            let value = String::from_utf8(value);
            let value = value.map_err(|_| wrong(volume, &format!("secret {name} is no text")))?;
            values.insert(name.clone(), value);
        }
        Ok(values)
    }
}

fn access_mode(mode: CsiMode) -> Option<AccessMode> {
    Some(match mode {
        CsiMode::Unknown => return None,
        CsiMode::SingleNodeWriter => AccessMode::SingleNodeWriter,
        CsiMode::SingleNodeReaderOnly => AccessMode::SingleNodeReaderOnly,
        CsiMode::MultiNodeReaderOnly => AccessMode::MultiNodeReaderOnly,
        CsiMode::MultiNodeSingleWriter => AccessMode::MultiNodeSingleWriter,
        CsiMode::MultiNodeMultiWriter => AccessMode::MultiNodeMultiWriter,
    })
}

#[async_trait]
impl Isolator for CsiVolumeIsolator {
    fn name(&self) -> &'static str {
        "volume/csi"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        self.external.recover(containers).await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let mut wanted = Vec::new();
        for (volume, csi) in of_type(config, Type::CsiVolume, |source| source.csi_volume.as_ref())?
        {
            let request = self.request(volume, csi).await?;
            wanted.push((volume, csi.plugin_name.clone(), request));
        }
        self.external.prepare(wanted, config, draft).await.map(drop)
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.external.cleanup(id).await
    }
}
