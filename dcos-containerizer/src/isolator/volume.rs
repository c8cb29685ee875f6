//! `volume/host_path` and `volume/sandbox_path`: folders from elsewhere in a container.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use dcos_proto::mesos::volume::Mode;
use dcos_proto::mesos::volume::source::sandbox_path::Type as SandboxType;
use dcos_proto::mesos::volume::source::{HostPath, SandboxPath, Type as SourceType};
use dcos_proto::mesos::{ContainerId, MountPropagation, Volume, mount_propagation};
use oci_spec::runtime::LinuxNamespaceType;

use super::filesystem::bind;
use super::{ContainerConfig, Draft, Isolator, IsolatorError};

/// Mounts folders of the node.
#[derive(Debug)]
pub struct HostPathIsolator {
    sandbox_directory: PathBuf,
    force_creation: Vec<PathBuf>,
}

impl HostPathIsolator {
    /// Missing host folders are made below any of `force_creation`
    /// (`--host_path_volume_force_creation`), and are an error elsewhere.
    pub fn new(sandbox_directory: PathBuf, force_creation: Vec<PathBuf>) -> Self {
        Self {
            sandbox_directory,
            force_creation,
        }
    }

    fn source(&self, config: &ContainerConfig, path: &str) -> Result<PathBuf, IsolatorError> {
        let path = Path::new(path);
        if path.is_relative() {
            let path = config.sandbox.join(inside(path)?);
            make_folder(&path)?;
            return Ok(path);
        }
        if !path.exists() {
            if !self
                .force_creation
                .iter()
                .any(|folder| path.starts_with(folder))
            {
                let reason = format!("host path {} of a volume does not exist", path.display());
                return Err(IsolatorError::refused(reason));
            }
            make_folder(path)?;
        }
        Ok(path.to_owned())
    }
}

/// The host path a volume names, in the old form or the new, and how mounts spread.
fn host_path(volume: &Volume) -> Option<HostPath> {
    if let Some(source) = &volume.source {
        return (source.r#type == Some(SourceType::HostPath.into()))
            .then(|| source.host_path.clone())?;
    }
    // With an image `host_path` is where the image's volume goes: another isolator's business.
    let path = volume
        .host_path
        .clone()
        .filter(|_| volume.image.is_none())?;
    Some(HostPath {
        path,
        mount_propagation: None,
    })
}

#[async_trait]
impl Isolator for HostPathIsolator {
    fn name(&self) -> &'static str {
        "volume/host_path"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        for volume in volumes(config) {
            refuse_unknown(volume)?;
            let Some(wanted) = host_path(volume) else {
                continue;
            };
            let source = self.source(config, &wanted.path)?;
            let both_ways = wanted.mount_propagation.is_some_and(is_bidirectional);
            attach(
                &source,
                volume,
                both_ways,
                &self.sandbox_directory,
                config,
                draft,
            )?;
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

/// A volume that nobody here can make is an error, not a folder that is missing.
fn refuse_unknown(volume: &Volume) -> Result<(), IsolatorError> {
    let path = &volume.container_path;
    let refused = |kind: &str| {
        Err(IsolatorError::refused(format!(
            "volume {path}: this agent cannot mount volumes of type {kind}"
        )))
    };
    let Some(source) = &volume.source else {
        return match &volume.image {
            Some(_) => refused("image"),
            None => Ok(()),
        };
    };
    match source.r#type() {
        SourceType::HostPath | SourceType::SandboxPath | SourceType::Secret => Ok(()),
        other => refused(other.as_str_name()),
    }
}

fn is_bidirectional(propagation: MountPropagation) -> bool {
    propagation.mode == Some(mount_propagation::Mode::Bidirectional.into())
}

/// Mounts folders of the container's own sandbox or of its parent's: what the members of a pod
/// share.
#[derive(Debug)]
pub struct SandboxPathIsolator {
    sandbox_directory: PathBuf,
}

impl SandboxPathIsolator {
    /// Inside images the sandbox is at `sandbox_directory`.
    pub fn new(sandbox_directory: PathBuf) -> Self {
        Self { sandbox_directory }
    }
}

#[async_trait]
impl Isolator for SandboxPathIsolator {
    fn name(&self) -> &'static str {
        "volume/sandbox_path"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        for volume in volumes(config) {
            let Some(wanted) = sandbox_path(volume) else {
                continue;
            };
            let base = match wanted
                .r#type
                .and_then(|kind| SandboxType::try_from(kind).ok())
            {
                Some(SandboxType::Self_) => &config.sandbox,
                Some(SandboxType::Parent) => config.parent_sandbox.as_ref().ok_or_else(|| {
                    IsolatorError::refused("a volume from the parent's sandbox has no parent")
                })?,
                _ => return Err(IsolatorError::refused("a sandbox volume of unknown type")),
            };
            let source = base.join(inside(Path::new(&wanted.path))?);
            make_folder(&source)?;
            attach(
                &source,
                volume,
                false,
                &self.sandbox_directory,
                config,
                draft,
            )?;
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

fn sandbox_path(volume: &Volume) -> Option<&SandboxPath> {
    let source = volume.source.as_ref()?;
    (source.r#type == Some(SourceType::SandboxPath.into()))
        .then_some(source.sandbox_path.as_ref())?
}

pub(super) fn volumes(config: &ContainerConfig) -> impl Iterator<Item = &Volume> {
    let all = config
        .container
        .iter()
        .flat_map(|container| &container.volumes);
    all.filter(|_| !config.debug)
}

/// Puts `source` where the volume wants it.
pub(super) fn attach(
    source: &Path,
    volume: &Volume,
    both_ways: bool,
    sandbox_directory: &Path,
    config: &ContainerConfig,
    draft: &mut Draft,
) -> Result<(), IsolatorError> {
    let readonly = volume.mode == i32::from(Mode::Ro);
    let target = Path::new(&volume.container_path);
    if !draft.has_namespace(LinuxNamespaceType::Mount) {
        // Without mounts a link in the sandbox has to do, as with `filesystem/posix` in Mesos.
        if target.is_absolute() || readonly {
            return Err(IsolatorError::refused(format!(
                "volume {} needs the isolator `filesystem/linux`",
                volume.container_path
            )));
        }
        let link = config.sandbox.join(inside(target)?);
        if let Some(folder) = link.parent() {
            make_folder(folder)?;
        }
        return match symlink(source, &link) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(IsolatorError::file("linking", link)),
        };
    }
    let target = if target.is_absolute() {
        target.to_owned()
    } else {
        let target = inside(target)?;
        // The mount point is made now, as long as it is known to be in the sandbox.
        if source.is_dir() {
            make_folder(&config.sandbox.join(target))?;
        }
        let sandbox = if config.has_rootfs() {
            sandbox_directory
        } else {
            &config.sandbox
        };
        sandbox.join(target)
    };
    let mut mount = bind(source, &target, readonly);
    if both_ways && let Some(options) = mount.options_mut() {
        options.push("rshared".to_owned());
    }
    draft.mount(mount);
    Ok(())
}

/// A relative path that stays inside what it is relative to.
fn inside(path: &Path) -> Result<&Path, IsolatorError> {
    let stays = path
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if stays && path.is_relative() {
        return Ok(path);
    }
    let reason = format!(
        "path {} of a volume leads out of the sandbox",
        path.display()
    );
    Err(IsolatorError::refused(reason))
}

fn make_folder(path: &Path) -> Result<(), IsolatorError> {
    fs::create_dir_all(path).map_err(IsolatorError::file("making", path))
}
