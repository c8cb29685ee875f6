//! `environment_secret` and `volume/secret`: secrets in a container's environment and files.
//!
//! Files are on a file system in memory that is never swapped out; nothing is left of them when
//! the container ends.
//!
//! # Source
//! Mesos 1.11 isolators of these names.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dcos_proto::mesos::{ContainerId, Secret, Volume, volume};
use oci_spec::runtime::LinuxNamespaceType;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::ids::outside;
use super::notes::Notes;
use super::volume::{Source, attach, volumes};
use super::{ContainerConfig, Draft, Isolator, IsolatorError};
use crate::secret::{SecretError, SecretResolver, variables};

/// Where the files are, below the runtime directory.
const FOLDER: &str = "isolators/volume/secret";

/// More is no secret: as in DC/OS.
const LARGEST: usize = 1 << 20;

/// Puts secrets into the environment.
#[derive(Debug)]
pub struct EnvironmentSecretIsolator(Arc<dyn SecretResolver>);

impl EnvironmentSecretIsolator {
    /// With values from `resolver`.
    pub fn new(resolver: Arc<dyn SecretResolver>) -> Self {
        Self(resolver)
    }
}

#[async_trait]
impl Isolator for EnvironmentSecretIsolator {
    fn name(&self) -> &'static str {
        "environment_secret"
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
        let found = variables(self.0.as_ref(), &config.command).await;
        for (name, value) in found.map_err(|error| IsolatorError::refused(error.0))? {
            let process = draft.spec.process_mut().as_mut();
            if let Some(all) = process.and_then(|process| process.env_mut().as_mut()) {
                all.retain(|other| other.split_once('=').is_none_or(|(other, _)| other != name));
                all.push(format!("{name}={value}"));
            }
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

/// Mounts secrets as files.
#[derive(Debug)]
pub struct SecretVolumeIsolator {
    /// A mounted folder for each container that has some.
    notes: Notes,
    sandbox_directory: PathBuf,
    resolver: Arc<dyn SecretResolver>,
}

impl SecretVolumeIsolator {
    /// With values from `resolver`; mounts file systems below `runtime_dir`. Inside images the
    /// sandbox is at `sandbox_directory`.
    pub fn new(
        runtime_dir: &Path,
        sandbox_directory: PathBuf,
        resolver: Arc<dyn SecretResolver>,
    ) -> Self {
        Self {
            notes: Notes::in_folder(runtime_dir.join(FOLDER)),
            sandbox_directory,
            resolver,
        }
    }

    /// A file system in memory, which only root may look into.
    fn make(&self, id: &ContainerId) -> io::Result<PathBuf> {
        let folder = self.notes.path(id);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        if !is_mounted(&folder)? {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("ramfs", &folder, "ramfs", flags, c"mode=0700")?;
        }
        Ok(folder)
    }
}

fn is_mounted(folder: &Path) -> io::Result<bool> {
    let above = folder.parent().unwrap_or(folder);
    Ok(fs::metadata(folder)?.dev() != fs::metadata(above)?.dev())
}

/// Secrets that are to be files.
fn wanted(config: &ContainerConfig) -> impl Iterator<Item = (&Volume, Option<&Secret>)> {
    volumes(config).filter_map(|volume| {
        let source = volume.source.as_ref()?;
        (source.r#type() == volume::source::Type::Secret)
            .then_some((volume, source.secret.as_ref()))
    })
}

#[async_trait]
impl Isolator for SecretVolumeIsolator {
    fn name(&self) -> &'static str {
        "volume/secret"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        for id in self.notes.ids()? {
            if !containers.contains(&id) {
                self.cleanup(&id).await?;
            }
        }
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        for (number, (volume, secret)) in wanted(config).enumerate() {
            let path = &volume.container_path;
            let wrong = |why: &str| IsolatorError::refused(format!("secret volume {path}: {why}"));
            if !draft.has_namespace(LinuxNamespaceType::Mount) {
                return Err(wrong("it needs the isolator `filesystem/linux`"));
            }
            let secret = secret.ok_or_else(|| wrong("there is no secret"))?;
            let value = self.resolver.resolve(secret).await;
            let value = value.map_err(|SecretError(why)| wrong(&why))?;
            if value.len() > LARGEST {
                return Err(wrong("its secret is larger than 1 MiB"));
            }
            let made = self.make(&config.id);
            let folder =
                made.map_err(IsolatorError::file("mounting", self.notes.path(&config.id)))?;
            let file = folder.join(number.to_string());
            let user = draft
                .spec
                .process()
                .as_ref()
                .map(|process| process.user().clone());
            let owner = user
                .map(|user| (user.uid(), user.gid()))
                .unwrap_or_default();
            let owner = outside(config, owner)?;
            write(&file, &value, owner).map_err(IsolatorError::file("writing", &file))?;
            attach(
                &Source::at(&file),
                volume,
                &self.sandbox_directory,
                config,
                draft,
            )?;
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        let folder = self.notes.path(id);
        let removed = match is_mounted(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(true) => unmount(&folder, UnmountFlags::DETACH).map_err(io::Error::from),
            other => other.map(drop),
        };
        removed
            .and_then(|()| fs::remove_dir(&folder))
            .map_err(IsolatorError::file("removing", folder))
    }
}

/// Writes what only its owner may read.
fn write(file: &Path, value: &[u8], (user, group): (u32, u32)) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(file)?;
    file.write_all(value)?;
    fchown(&file, Some(user), Some(group))
}
