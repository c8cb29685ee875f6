//! `volume/sandbox_path`: folders of the container's own sandbox, or of its parent's.
//!
//! # Source
//! Mesos 1.11 isolator of this name. Departure: no link in a sandbox is followed, on the way to a
//! source or to a mount point, neither when it is looked at nor when it is mounted.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dcos_core::error::chain;
use dcos_proto::mesos::volume::Mode;
use dcos_proto::mesos::volume::source::sandbox_path::Type as SandboxType;
use dcos_proto::mesos::volume::source::{SandboxPath, Type as SourceType};
use dcos_proto::mesos::{ContainerId, Volume};

use oci_spec::runtime::LinuxNamespaceType;
use tracing::warn;

use super::{Source, attach, volumes};
use crate::isolator::{
    ContainerConfig, Draft, Isolator, IsolatorError, PersistentVolume, VolumeGids, patience, place,
};

/// Mounts folders of the container's own sandbox or of its parent's: what the members of a pod
/// share.
#[derive(Debug)]
pub struct SandboxPathIsolator {
    sandbox_directory: PathBuf,
    gids: Option<VolumeGids>,
}

impl SandboxPathIsolator {
    /// Inside images the sandbox is at `sandbox_directory`.
    pub fn new(sandbox_directory: PathBuf) -> Self {
        Self {
            sandbox_directory,
            gids: None,
        }
    }

    /// Folders of the parent's sandbox have groups of their own where they are another user's.
    pub fn gids(mut self, gids: Option<VolumeGids>) -> Self {
        self.gids = gids;
        self
    }

    /// Takes back the groups of volumes in the sandboxes of containers that are gone.
    async fn release(
        &self,
        is_gone: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), IsolatorError> {
        let Some(gids) = self.gids.clone() else {
            return Ok(());
        };
        let work = move |going: &patience::Going| {
            going.on()?;
            gids.release(is_gone)
        };
        patience::wait(patience::PATIENCE, work).await
    }
}

impl SandboxPathIsolator {
    /// Lets a container get to a folder of its parent's sandbox that is another user's. In user namespaces all have the
    /// same ids, and with links nobody but root gets into the sandbox of another.
    async fn admit(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
        volume: PathBuf,
    ) -> Result<(), IsolatorError> {
        let process = draft.spec.process().as_ref();
        let user = process.map_or(0, |process| process.user().uid());
        let mounts = draft.has_namespace(LinuxNamespaceType::Mount);
        let (Some(gids), true) = (&self.gids, user != 0 && mounts && config.ids.is_none()) else {
            return Ok(());
        };
        let (gids, parent, mut shaped) = (gids.clone(), config.id.parent.clone(), draft.clone());
        let work = move |going: &patience::Going| {
            going.at(&volume)?;
            let owner = volume.symlink_metadata();
            let owner = owner
                .map_err(IsolatorError::file("finding", &volume))?
                .uid();
            if owner != user {
                gids.admit(&mut shaped, &volume, parent.as_deref())?;
            }
            Ok(shaped)
        };
        *draft = patience::wait(patience::PATIENCE, work).await?;
        Ok(())
    }
}

/// The sandbox path a volume names, in the old form (a relative host path) or the new.
fn sandbox_path(volume: &Volume) -> Option<SandboxPath> {
    if let Some(source) = &volume.source {
        return (source.r#type == Some(SourceType::SandboxPath.into()))
            .then(|| source.sandbox_path.clone())?;
    }
    let path = volume
        .host_path
        .clone()
        .filter(|path| volume.image.is_none() && !path.starts_with('/'))?;
    Some(SandboxPath {
        r#type: Some(SandboxType::Self_.into()),
        path,
    })
}

/// The persistent volume that a path in a sandbox leads to, and what is left of the path there. The sandbox has a link in
/// its place, which anybody who writes there could have replaced.
fn kept<'a>(
    volumes: &'a [PersistentVolume],
    path: &'a Path,
) -> Option<(&'a PersistentVolume, &'a Path)> {
    volumes.iter().find_map(|volume| {
        let rest = path.strip_prefix(&volume.container_path).ok()?;
        Some((volume, rest))
    })
}

#[async_trait]
impl Isolator for SandboxPathIsolator {
    fn name(&self) -> &'static str {
        "volume/sandbox_path"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        let alive: BTreeSet<_> = containers.iter().map(ToString::to_string).collect();
        // What tasks left in the place of a volume keeps no agent from starting: its group stays given.
        if let Err(error) = self.release(move |id| !alive.contains(id)).await {
            warn!(error = %chain(&error), "a shared volume keeps its group (--volume_gid_range)");
        }
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
            let base = match wanted.r#type() {
                SandboxType::Self_ => &config.sandbox,
                SandboxType::Parent => config.parent_sandbox.as_ref().ok_or_else(|| {
                    IsolatorError::refused("a volume from the parent's sandbox has no parent")
                })?,
                SandboxType::Unknown => {
                    return Err(IsolatorError::refused("a sandbox volume of unknown type"));
                }
            };
            let path = Path::new(&wanted.path);
            let is_parents = wanted.r#type() == SandboxType::Parent;
            let kept = is_parents.then(|| kept(&config.parent_volumes, path));
            let (kept, base, path) = match kept.flatten() {
                Some((kept, rest)) => (Some(kept), &kept.source, rest),
                None => (None, base, path),
            };
            let made = place::make_folders(base, path);
            let failed = IsolatorError::file("making", base.join(path));
            let source = Source {
                path: made.map_err(failed)?.0,
                writable_way: true,
                both_ways: false,
                mapped: false,
            };
            let mut volume = volume.clone();
            if kept.is_some_and(|kept| kept.readonly) {
                volume.set_mode(Mode::Ro);
            }
            attach(&source, &volume, &self.sandbox_directory, config, draft)?;
            if is_parents && kept.is_none() {
                self.admit(config, draft, source.path).await?;
            }
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        let gone = id.to_string();
        self.release(move |id| id == gone).await
    }
}
