//! Persistent volumes on disk, and in the containers of the tasks that use them.
//!
//! A volume is a directory: `volumes/roles/<role>/<id>` below the work directory or the root of a
//! `PATH` disk, the root itself of a `MOUNT` disk. It outlives every task; only DESTROY ends it.
//! What is deleted is first moved aside, so that a large volume holds nobody up, and a half
//! deleted one is never taken for a volume.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dcos_core::resources::{ResourceExt, Resources, operation};
use dcos_proto::mesos::resource::disk_info::source::Type as Disk;
use dcos_proto::mesos::{AgentInfo, Resource, TaskId, volume};

use super::core::Agent;
use super::operations::VolumeWork;
use super::records::{Executor, ExecutorKey};
use super::words::Action;
use crate::checkpoint::paths;
use crate::executor::HostedKind;
use crate::isolator::PersistentVolume;

/// Where deleted volumes lie until they are gone, beside `roles`.
const DELETED: &str = ".deleted";

/// Makes and deletes volumes. Returns what is left to be deleted, which may take its time.
///
/// # Errors
/// What the system says of the first that fails. All of it may be repeated.
pub(super) fn change(work: &VolumeWork) -> io::Result<Vec<PathBuf>> {
    let mut aside = Vec::new();
    for path in &work.delete {
        aside.extend(put_aside(path)?);
    }
    for path in &work.empty {
        empty(path)?;
    }
    for path in &work.make {
        fs::create_dir_all(path)?;
        // The entry has to survive a crash as well as what will be in the directory.
        for above in path.ancestors().skip(1).take(2) {
            fs::File::open(above)?.sync_all()?;
        }
    }
    Ok(aside)
}

fn put_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let volumes = path.ancestors().nth(3).unwrap_or(path);
    let deleted = volumes.join(DELETED);
    fs::create_dir_all(&deleted)?;
    let aside = (0..u32::MAX)
        .map(|number| deleted.join(number.to_string()))
        .find(|path| fs::symlink_metadata(path).is_err());
    let Some(aside) = aside else {
        return Err(io::Error::other("no name is left"));
    };
    match fs::rename(path, &aside) {
        Ok(()) => {
            if let Some(above) = path.parent() {
                fs::File::open(above)?.sync_all()?;
            }
            Ok(Some(aside))
        }
        // A file system of its own is mounted there: it cannot be moved.
        Err(_) => remove(path).map(|()| None),
    }
}

fn empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        remove(&entry?.path())?;
    }
    fs::File::open(path)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    dcos_image::tree::remove(path)
}

/// Deletes what was put aside; what resists is found again by [`sweep`].
pub(super) fn discard(aside: &[PathBuf]) {
    for path in aside {
        if let Err(error) = remove(path) {
            tracing::warn!(?path, %error, "deleting a destroyed volume");
        }
    }
}

/// What an earlier agent did not come to delete.
pub(super) fn sweep(work_dir: &Path, info: &AgentInfo) -> Vec<PathBuf> {
    let mut roots = vec![work_dir.to_owned()];
    roots.extend(
        info.resources
            .iter()
            .filter(|resource| resource.is_disk(Disk::Path))
            .filter_map(|resource| Some(work_dir.join(paths::disk_root(resource)?))),
    );
    let mut left = Vec::new();
    for root in roots {
        let Ok(entries) = fs::read_dir(root.join("volumes").join(DELETED)) else {
            continue;
        };
        left.extend(entries.flatten().map(|entry| entry.path()));
    }
    left
}

/// Makes the roots of disks of type `PATH`, and looks whether those of type `MOUNT` are there.
///
/// # Errors
/// The resource that is not as it should be, in words.
pub(super) fn check_disks(work_dir: &Path, resources: &Resources) -> Result<(), String> {
    for resource in resources.iter() {
        let is_path = resource.is_disk(Disk::Path);
        if !is_path && !resource.is_disk(Disk::Mount) {
            continue;
        }
        let kind = if is_path { "PATH" } else { "MOUNT" };
        let Some(root) = paths::disk_root(resource) else {
            return Err(format!("a {kind} disk has no root directory"));
        };
        let root = work_dir.join(root);
        if is_path {
            fs::create_dir_all(&root).map_err(|error| {
                format!("making the root of a PATH disk {}: {error}", root.display())
            })?;
        } else if !root.is_dir() {
            let root = root.display();
            return Err(format!("the root of a MOUNT disk {root} does not exist"));
        }
    }
    Ok(())
}

impl Agent {
    /// The volumes among resources that a container is to have. `user` is whose they are.
    pub(super) fn volumes_of(
        &self,
        user: (&ExecutorKey, Option<&TaskId>),
        resources: &[Resource],
    ) -> Vec<PersistentVolume> {
        let volumes = resources.iter().filter_map(|resource| {
            let source = paths::volume(&self.settings.work_dir, resource)?;
            let mounted = resource.disk.as_ref()?.volume.as_ref()?;
            Some(PersistentVolume {
                keep_owner: resource.is_shared() && self.is_used_elsewhere(user, &source),
                source,
                container_path: mounted.container_path.clone(),
                readonly: mounted.mode() == volume::Mode::Ro,
            })
        });
        volumes.collect()
    }

    /// Whether an executor or task that has not ended, other than `user`, uses a volume.
    fn is_used_elsewhere(
        &self,
        (key, task): (&ExecutorKey, Option<&TaskId>),
        source: &Path,
    ) -> bool {
        let uses = |resources: &[Resource]| {
            resources.iter().any(|resource| {
                paths::volume(&self.settings.work_dir, resource).as_deref() == Some(source)
            })
        };
        self.executors()
            .filter(|executor| !executor.state.is_over())
            .any(|executor| {
                let same = executor.key() == *key;
                let own = !(same && (task.is_none() || executor.hosts(HostedKind::Command)));
                (own && uses(&executor.info.resources))
                    || executor.tasks.iter().any(|(id, record)| {
                        let self_ = same && (task.is_none() || task == Some(id));
                        !self_ && !record.is_terminal() && uses(&record.info.resources)
                    })
            })
    }

    /// The volumes an executor's own container has.
    pub(super) fn executor_volumes(&self, executor: &Executor) -> Vec<PersistentVolume> {
        let key = executor.key();
        if executor.hosts(HostedKind::Default) {
            // Each of its tasks has its own.
            self.volumes_of((&key, None), &executor.info.resources)
        } else {
            self.volumes_of((&key, None), &executor.resources())
        }
    }

    /// Lets a custom executor that runs find the volumes of new tasks.
    pub(super) fn link_volumes(&mut self, key: &ExecutorKey) {
        let Some(executor) = self.executor(key).filter(|executor| {
            executor.hosted.is_none() && !executor.state.is_over() && !executor.destroying
        }) else {
            return;
        };
        let volumes = self.executor_volumes(executor);
        if !volumes.is_empty() {
            let directory = executor.directory.clone();
            self.act(Action::LinkVolumes(directory, volumes));
        }
    }

    /// A reservation or volume that tasks or their executor use, and this agent does not have.
    ///
    /// Source: Mesos 1.11 `Slave::__run`. What made it may have been lost on its way, in front of the launch.
    pub(super) fn unknown_resource<'a>(
        &self,
        mut resources: impl Iterator<Item = &'a Resource>,
    ) -> Option<&'a Resource> {
        resources.find(|resource| {
            operation::is_checkpointed(resource) && {
                let mut plain = (*resource).clone();
                plain.allocation_info = None;
                !self.total().contains_message(&plain)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_made_moved_aside_and_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volumes/roles/db/v1");
        let mount = dir.path().join("mnt");
        fs::create_dir(&mount).unwrap();
        let make = VolumeWork {
            make: vec![volume.clone(), mount.clone()],
            ..VolumeWork::default()
        };
        for _ in 0..2 {
            assert!(change(&make).unwrap().is_empty());
        }
        fs::create_dir(volume.join("sub")).unwrap();
        fs::write(volume.join("sub/file"), "data").unwrap();
        fs::write(mount.join("file"), "data").unwrap();
        let destroy = VolumeWork {
            delete: vec![volume.clone()],
            empty: vec![mount.clone()],
            ..VolumeWork::default()
        };
        let aside = change(&destroy).unwrap();
        assert!(!volume.exists());
        assert_eq!(fs::read_dir(&mount).unwrap().count(), 0);
        assert!(aside[0].join("sub/file").exists());
        assert_eq!(sweep(dir.path(), &AgentInfo::default()), aside);
        discard(&aside);
        assert!(sweep(dir.path(), &AgentInfo::default()).is_empty());
        assert!(change(&destroy).unwrap().is_empty(), "it may be repeated");
    }
}
