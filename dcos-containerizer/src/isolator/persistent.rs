//! Persistent volumes in a container: mounted where it has mounts of its own, linked elsewhere.
//!
//! Source: Mesos 1.11 `filesystem/posix` and `filesystem/linux`. Departures: paths with a slash
//! are not passed over but work or refuse the container, so that no task runs without the volume
//! it asked for.

use std::io;
use std::os::unix::fs::chown;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::fstat;
use serde::{Deserialize, Serialize};

use super::filesystem::bind;
use super::patience::Going;
use super::{ContainerConfig, Draft, IsolatorError, VolumeGids, place};
use crate::containerizer::sandbox;

/// A persistent volume as a container is to have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistentVolume {
    /// Where its data is on the host.
    pub source: PathBuf,
    /// Where the container finds it: in its sandbox, or an absolute path.
    pub container_path: String,
    /// Whether the container may only read.
    pub readonly: bool,
    /// Whether it keeps the owner it has, since others use it too. Otherwise it gets the
    /// sandbox's, or with [`VolumeGids`] a group of its own.
    pub keep_owner: bool,
}

/// Gives a container its volumes.
pub(super) fn attach(
    config: &ContainerConfig,
    sandbox_directory: &Path,
    gids: Option<&VolumeGids>,
    draft: &mut Draft,
    going: &Going,
) -> Result<(), IsolatorError> {
    for volume in &config.volumes {
        going.at(&volume.source)?;
        if !volume.source.is_dir() {
            let path = volume.source.display();
            return Err(IsolatorError::refused(format!(
                "persistent volume {path} does not exist"
            )));
        }
        let source = volume.source.canonicalize();
        let source = source.map_err(IsolatorError::file("finding", &volume.source))?;
        going.on()?;
        let giving = IsolatorError::file("giving away", &volume.source);
        match (user(config).map_err(giving)?, gids) {
            // Root needs no permission.
            (None, _) => {}
            (Some(_), Some(gids)) => gids.admit(draft, &source, None)?,
            (Some(_), None) if volume.keep_owner => {}
            (Some((user, group)), None) => chown(&volume.source, Some(user), Some(group))
                .map_err(IsolatorError::file("giving away", &volume.source))?,
        }
        going.on()?;
        let mounts = draft.has_namespace(LinuxNamespaceType::Mount);
        // What a holder has is for those nested in it, which have mounts of their own.
        if !mounts || config.holder {
            link(&config.sandbox, volume)
                .map_err(IsolatorError::file("linking", &volume.container_path))?;
            continue;
        }
        let path = Path::new(&volume.container_path);
        let target = if path.is_absolute() {
            path.to_owned()
        } else {
            let point = inside(path).and_then(|path| place::make_folders(&config.sandbox, path));
            let (point, _) = point.map_err(IsolatorError::file("mounting at", path))?;
            if config.has_rootfs() {
                sandbox_directory.join(path)
            } else {
                draft.no_links.push(point.clone());
                point
            }
        };
        draft.mapped.push(target.clone());
        draft.mount(bind(&source, &target, volume.readonly));
    }
    Ok(())
}

/// Whom the volumes are for: whoever the sandbox belongs to, if that is not root. Where ids are mapped that is who
/// it is inside.
fn user(config: &ContainerConfig) -> io::Result<Option<(u32, u32)>> {
    let owner = fstat(sandbox::open(&config.sandbox)?.1)?;
    let owner = (owner.st_uid, owner.st_gid);
    let inside = config.ids.as_ref().and_then(|ids| ids.range.inside(owner));
    Ok(Some(inside.unwrap_or(owner)).filter(|(user, _)| *user != 0))
}

/// Lets a sandbox lead to a volume. What is linked already stays. Whether it may be written to
/// cannot be said by a link.
///
/// # Errors
/// If the path leads out of the sandbox or something else is there.
pub(crate) fn link(sandbox: &Path, volume: &PersistentVolume) -> io::Result<()> {
    place::link(
        sandbox,
        inside(Path::new(&volume.container_path))?,
        &volume.source,
    )
}

/// A relative path that stays inside what it is relative to, and is not that itself.
fn inside(path: &Path) -> io::Result<&Path> {
    let mut parts = path.components().peekable();
    let stays = parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    if stays {
        return Ok(path);
    }
    let text = "the path of a persistent volume has to lie in the sandbox \
                (absolute ones need the isolator `filesystem/linux`)";
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn links_stay_in_the_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        let (sandbox, source) = (dir.path().join("sandbox"), dir.path().join("volume"));
        fs::create_dir(&sandbox).unwrap();
        fs::create_dir(&source).unwrap();
        let at = |path: &str| PersistentVolume {
            source: source.clone(),
            container_path: path.to_owned(),
            ..PersistentVolume::default()
        };
        for path in ["data", "data", "a/b"] {
            link(&sandbox, &at(path)).unwrap();
            assert_eq!(fs::read_link(sandbox.join(path)).unwrap(), source);
        }
        fs::write(sandbox.join("data/file"), "kept").unwrap();
        assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "kept");
        for path in ["", "..", "a/../..", "/data", "."] {
            assert!(link(&sandbox, &at(path)).is_err(), "{path:?}");
        }
        fs::create_dir(sandbox.join("taken")).unwrap();
        assert!(link(&sandbox, &at("taken")).is_err());
    }
}
