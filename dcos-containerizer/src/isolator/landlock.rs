//! `linux/landlock`: which of the node's files a container without an image can change.
//!
//! Such a container sees the node's files, and as root may change them. Here the kernel lets it
//! change its sandbox, its volumes, and what the operator names; all else it reads and executes
//! as before. A container with an image has a root of its own, and is left alone.
//!
//! Mesos has nothing like it.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dcos_proto::mesos::ContainerId;

use super::{ContainerConfig, Draft, Isolator, IsolatorError};

const NAME: &str = "linux/landlock";

/// What every program writes to: devices have limits of their own, and of `/proc` only what the
/// kernel gives.
const ALWAYS: [&str; 2] = ["/dev", "/proc"];

/// Lets containers without an image change their own files only.
#[derive(Debug)]
pub struct LandlockIsolator {
    writable: Vec<PathBuf>,
}

impl LandlockIsolator {
    /// All containers can change what lies below `writable` (`--landlock_writable`).
    pub fn new(writable: Vec<PathBuf>) -> Self {
        Self { writable }
    }
}

#[async_trait]
impl Isolator for LandlockIsolator {
    fn name(&self) -> &'static str {
        NAME
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
        if config.has_rootfs() || config.holder {
            return Ok(());
        }
        let mounts = draft.spec.mounts().iter().flatten();
        let has = |mount: &oci_spec::runtime::Mount, wanted: &str| {
            let mut options = mount.options().iter().flatten();
            options.any(|option| option == wanted)
        };
        let volumes = mounts.filter(|mount| has(mount, "rbind") && !has(mount, "ro"));
        let volumes = volumes.map(|mount| mount.destination().clone());
        let mut writable: Vec<_> = volumes.collect();
        writable.extend(ALWAYS.iter().map(PathBuf::from));
        writable.extend(self.writable.iter().cloned());
        writable.push(config.sandbox.clone());
        // Without a mount namespace a volume is a link out of the sandbox.
        let volumes = config.volumes.iter().filter(|volume| !volume.readonly);
        writable.extend(volumes.map(|volume| volume.source.clone()));
        draft.writable = Some(writable);
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

/// The folders of `--landlock_writable`, separated by colons.
///
/// # Errors
/// [`IsolatorError::Refused`] if one is not absolute.
pub(super) fn folders(text: &str) -> Result<Vec<PathBuf>, IsolatorError> {
    let named = text.split(':').filter(|folder| !folder.is_empty());
    let checked = named.map(|folder| match Path::new(folder) {
        path if path.is_absolute() => Ok(path.to_owned()),
        _ => Err(IsolatorError::refused(format!(
            "landlock_writable: `{folder}` is not absolute"
        ))),
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_absolute() {
        let found = folders("/tmp::/srv/a").unwrap();
        assert_eq!(found, [Path::new("/tmp"), Path::new("/srv/a")]);
        assert!(folders("tmp").is_err());
    }
}
