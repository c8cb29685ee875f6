//! `volume/sandbox_path`: folders of the container's own sandbox, or of its parent's.
//!
//! # Source
//! Mesos 1.11 isolator of this name. Departure: no link in a sandbox is followed, on the way to a
//! source or to a mount point, neither when it is looked at nor when it is mounted.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dcos_proto::mesos::volume::source::sandbox_path::Type as SandboxType;
use dcos_proto::mesos::volume::source::{SandboxPath, Type as SourceType};
use dcos_proto::mesos::{ContainerId, Volume};

use super::{Source, attach, volumes};
use crate::isolator::place;
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};

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
            let base = match wanted.r#type() {
                SandboxType::Self_ => &config.sandbox,
                SandboxType::Parent => config.parent_sandbox.as_ref().ok_or_else(|| {
                    IsolatorError::refused("a volume from the parent's sandbox has no parent")
                })?,
                SandboxType::Unknown => {
                    return Err(IsolatorError::refused("a sandbox volume of unknown type"));
                }
            };
            let made = place::make_folders(base, Path::new(&wanted.path));
            let failed = IsolatorError::file("making", base.join(&wanted.path));
            let source = Source {
                path: made.map_err(failed)?.0,
                writable_way: true,
                both_ways: false,
                mapped: false,
            };
            attach(&source, volume, &self.sandbox_directory, config, draft)?;
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}
