//! Volumes: what a container finds at a path that is not its own.
//!
//! Each kind is an isolator of its own, below; what they share is how a source gets into a
//! container. Persistent volumes are the file system isolators' business, secrets those of
//! [`secret`](super::secret). Every kind is described in `docs/volumes.md`.

mod external;
mod host_path;
mod image;
mod sandbox_path;

use std::path::{Path, PathBuf};

use dcos_proto::mesos::Volume;
use dcos_proto::mesos::volume::Mode;
use dcos_proto::mesos::volume::source::Type as SourceType;
use oci_spec::runtime::LinuxNamespaceType;

pub use external::{CsiVolumeIsolator, DockerVolumeIsolator};
pub use host_path::HostPathIsolator;
pub(super) use host_path::unescape;
pub use image::ImageVolumeIsolator;
pub use sandbox_path::SandboxPathIsolator;

use super::filesystem::bind;
use super::place::{self, inside};
use super::{ContainerConfig, Draft, IsolatorError};

/// The volumes that a container asks for.
pub(super) fn volumes(config: &ContainerConfig) -> impl Iterator<Item = &Volume> {
    let all = config
        .container
        .iter()
        .flat_map(|container| &container.volumes);
    all.filter(|_| !config.debug)
}

/// A volume that no isolator of this agent makes is an error, not a folder that is missing.
/// Asked by an isolator that every agent has; `others` are those that not every agent has.
pub(super) fn refuse_unknown(volume: &Volume, others: Others) -> Result<(), IsolatorError> {
    let refused = |kind: &str| {
        let path = &volume.container_path;
        let why = format!("volume {path}: this agent cannot mount volumes of type {kind}");
        Err(IsolatorError::refused(why))
    };
    let Some(source) = &volume.source else {
        let possible = volume.image.is_none() || others.image;
        return if possible { Ok(()) } else { refused("image") };
    };
    let possible = match source.r#type() {
        SourceType::HostPath | SourceType::SandboxPath | SourceType::Secret => true,
        SourceType::DockerVolume => others.docker,
        SourceType::CsiVolume => others.csi,
        SourceType::Unknown => false,
    };
    if possible {
        Ok(())
    } else {
        refused(source.r#type().as_str_name())
    }
}

/// Which kinds of volumes there are beside those of every agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Others {
    /// `docker/volume`.
    pub docker: bool,
    /// `volume/csi`.
    pub csi: bool,
    /// `volume/image`.
    pub image: bool,
}

/// What is to be put into a container.
#[derive(Debug)]
pub(super) struct Source {
    /// Where it is on the host.
    pub(super) path: PathBuf,
    /// Whether tasks can change what is on the way to it.
    pub(super) writable_way: bool,
    /// Whether what is mounted in it, on either side, is seen on the other.
    pub(super) both_ways: bool,
    /// Whether the ids on its disk are those of containers.
    pub(super) mapped: bool,
}

impl Source {
    /// A place that only the agent and the operator can change the way to.
    pub(super) fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            writable_way: false,
            both_ways: false,
            mapped: false,
        }
    }
}

/// Puts `source` where the volume wants it; inside images the sandbox is at `sandbox_directory`.
pub(super) fn attach(
    source: &Source,
    volume: &Volume,
    sandbox_directory: &Path,
    config: &ContainerConfig,
    draft: &mut Draft,
) -> Result<(), IsolatorError> {
    let readonly = volume.mode == i32::from(Mode::Ro);
    let path = Path::new(&volume.container_path);
    let refused = |why: &str| {
        let path = &volume.container_path;
        IsolatorError::refused(format!("volume {path}: {why}"))
    };
    let failed = |doing| IsolatorError::file(doing, config.sandbox.join(path));
    if !draft.has_namespace(LinuxNamespaceType::Mount) {
        // Without mounts a link in the sandbox has to do, as with `filesystem/posix` in Mesos.
        if path.is_absolute() || readonly || source.both_ways {
            return Err(refused("it needs the isolator `filesystem/linux`"));
        }
        return place::link(
            &config.sandbox,
            inside(path).map_err(failed("linking"))?,
            &source.path,
        )
        .map_err(failed("linking"));
    }
    let (target, no_links) = if path.is_absolute() {
        // Nothing is made on the node outside of sandboxes.
        if !config.has_rootfs() && !path.exists() {
            return Err(refused(
                "there is no such path on this node, and no image to make it in",
            ));
        }
        let real = path.canonicalize().ok().filter(|_| !config.has_rootfs());
        (real.unwrap_or_else(|| path.to_owned()), source.writable_way)
    } else {
        let point = if source.path.is_dir() {
            place::make_folders(&config.sandbox, path).map(|(point, _)| point)
        } else {
            place::make_file(&config.sandbox, path)
        };
        let point = point.map_err(failed("making"))?;
        if config.has_rootfs() {
            (sandbox_directory.join(path), source.writable_way)
        } else {
            (point, true)
        }
    };
    // The way to the source is as good as the links the operator made; a task's are refused.
    let path = if no_links && !source.writable_way {
        let real = source.path.canonicalize();
        real.map_err(IsolatorError::file("finding", &source.path))?
    } else {
        source.path.clone()
    };
    let mut mount = bind(&path, &target, readonly);
    if let Some(options) = mount.options_mut().as_mut().filter(|_| source.both_ways) {
        options.push("rshared".to_owned());
    }
    if source.mapped {
        draft.mapped.push(target.clone());
    }
    if no_links {
        draft.no_links.push(target);
    }
    draft.mount(mount);
    Ok(())
}
