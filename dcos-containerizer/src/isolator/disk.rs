//! `disk/du`: how much a container keeps on disk, and its end if that is too much.
//!
//! Sandboxes and persistent volumes are measured by walking through them, one after the other,
//! at an interval; one that takes more than a minute goes on beside the others. What is measured is written down below the runtime directory, so that an agent
//! that is started again goes on.
//!
//! # Source
//! Mesos 1.11 `disk/du` (`isolators/posix/disk.cpp`), which runs du(1). As there, nested
//! containers count for their root. Departure: what a container with an image writes to its root counts, too.
//!
//! [`ProjectQuotaIsolator`] is `disk/xfs`, which has the file system count.

mod folders;
mod kernel;
mod places;
mod projects;
mod quota;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use dcos_proto::mesos::{ContainerId, ResourceStatistics};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::JoinSet;

use dcos_image::tree::{self, Part, Visitor};

use self::places::Record;
use super::notes::Notes;
use super::{ContainerConfig, Draft, Isolator, IsolatorError, Limitation, Limits};
use crate::containerizer::sandbox;

pub(super) use projects::id_ranges;
pub use projects::{ProjectIds, ProjectRangeError};
pub use quota::{ProjectQuotaIsolator, QuotaSettings};

/// Where it keeps what it measures, below the runtime directory.
const FOLDER: &str = "isolators/disk/du";

/// How long the others wait for one that is being measured: its disk may be gone.
const TURN: Duration = Duration::from_mins(1);
/// So many may go on beside the others; beyond that each is waited for.
const BESIDE: usize = 64;

/// Measures disks, and enforces what was given of them.
#[derive(Debug)]
pub struct DiskUsageIsolator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    notes: Notes,
    interval: Duration,
    turn: Duration,
    enforce: bool,
    watched: Mutex<BTreeMap<ContainerId, Watched>>,
    /// Whether somebody measures; changed under the lock of `watched`.
    measuring: AtomicBool,
}

#[derive(Debug)]
struct Watched {
    record: Record,
    /// As long as the places of the record, in bytes; absent before the first measurement.
    used: Vec<Option<u64>>,
    limitation: watch::Sender<Option<Limitation>>,
}

impl DiskUsageIsolator {
    /// Measures every `interval` (`--container_disk_watch_interval`); ends containers that take
    /// too much if `enforce` (`--enforce_container_disk_quota`); keeps notes in `runtime_dir`.
    pub fn new(runtime_dir: &Path, interval: Duration, enforce: bool) -> Self {
        Self(Arc::new(Inner {
            notes: Notes::in_folder(runtime_dir.join(FOLDER)),
            interval,
            turn: TURN,
            enforce,
            watched: Mutex::default(),
            measuring: AtomicBool::new(false),
        }))
    }

    fn watch_over(&self, id: &ContainerId, record: Record) {
        let mut all = self.0.lock();
        if !self.0.measuring.swap(true, Ordering::Relaxed) {
            tokio::spawn(measure(Arc::downgrade(&self.0)));
        }
        let watched = Watched {
            used: vec![None; record.places().len()],
            record,
            limitation: watch::Sender::new(None),
        };
        all.insert(id.clone(), watched);
    }

    /// Changes what is known of a container, if it is known.
    fn change(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), IsolatorError> {
        let mut all = self.0.lock();
        let Some(watched) = all.get_mut(id) else {
            return Ok(());
        };
        let mut record = watched.record.clone();
        change(&mut record);
        if record == watched.record {
            return Ok(());
        }
        self.0.notes.write(id, &record)?;
        // What was measured holds until the next time, where there are the same places.
        let before: Vec<_> = watched.record.places();
        let used = |folder: &PathBuf| {
            let known = before
                .iter()
                .position(|place| place.folders[0] == *folder)?;
            watched.used[known]
        };
        let places = record.places();
        watched.used = places.iter().map(|place| used(&place.folders[0])).collect();
        watched.record = record;
        Ok(())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is to measure, and whose it is.
    fn places(&self) -> Vec<(ContainerId, Vec<PathBuf>)> {
        let all = self.lock();
        let of = |(id, watched): (&ContainerId, &Watched)| {
            let id = id.clone();
            let places = watched.record.places().into_iter();
            places.map(move |place| (id.clone(), place.folders))
        };
        all.iter().flat_map(of).collect()
    }

    /// Takes in what was measured of a container.
    fn found(&self, id: &ContainerId, path: &Path, used: u64) {
        let mut all = self.lock();
        // It may have ended, or been given other disks, meanwhile.
        let Some(watched) = all.get_mut(id) else {
            return;
        };
        let places = watched.record.places();
        let Some(index) = places.iter().position(|place| place.folders[0] == path) else {
            return;
        };
        if self.enforce && watched.limitation.borrow().is_none() {
            let over = places[index].limitation(used);
            if over.is_some() {
                watched.limitation.send_replace(over);
            }
        }
        watched.used[index] = Some(used);
    }
}

/// Folders that are being measured, each on a thread.
#[derive(Default)]
struct Walks {
    results: JoinSet<u64>,
    under_way: HashMap<tokio::task::Id, (ContainerId, PathBuf)>,
}

impl Walks {
    /// Measures a place, unless that is under way. What takes longer than its turn is taken in later.
    async fn measure(&mut self, inner: &Inner, id: ContainerId, folders: Vec<PathBuf>) {
        let path = folders[0].clone();
        if self.under_way.values().any(|(_, other)| *other == path) {
            return;
        }
        let walk = self.results.spawn_blocking(move || used(&folders)).id();
        self.under_way.insert(walk, (id, path));
        while self.under_way.contains_key(&walk) {
            let next = tokio::time::timeout(inner.turn, self.results.join_next_with_id());
            match next.await {
                Ok(Some(result)) => {
                    let task = result
                        .as_ref()
                        .map_or_else(tokio::task::JoinError::id, |found| found.0);
                    let known = self.under_way.remove(&task);
                    // A walk that panicked is told of by its thread.
                    if let (Some((id, path)), Ok((_, used))) = (known, result) {
                        inner.found(&id, &path, used);
                    }
                }
                Ok(None) => return,
                Err(_) if self.under_way.len() <= BESIDE => {
                    let path = self.under_way.get(&walk).map(|(_, path)| path);
                    tracing::warn!(?path, "measuring it takes long; the others go on");
                    return;
                }
                Err(_) => {}
            }
        }
    }
}

/// Measures all containers, again and again, while there are any.
async fn measure(inner: Weak<Inner>) {
    let mut walks = Walks::default();
    loop {
        let Some(strong) = inner.upgrade() else {
            return;
        };
        for (id, folders) in strong.places() {
            walks.measure(&strong, id, folders).await;
        }
        let interval = strong.interval;
        drop(strong);
        tokio::time::sleep(interval).await;
        let Some(strong) = inner.upgrade() else {
            return;
        };
        let all = strong.lock();
        if all.is_empty() {
            strong.measuring.store(false, Ordering::Relaxed);
            return;
        }
    }
}

/// Bytes that folders and all in them take on disk. Links are not followed, whoever puts one there and
/// when: everything is looked for from the folder's descriptor on. A file with several names counts
/// once, and what vanishes meanwhile counts nothing.
fn used(folders: &[PathBuf]) -> u64 {
    let mut usage = Usage::default();
    for folder in folders {
        let walked = open(folder).and_then(|top| tree::walk(top.as_fd(), &mut usage));
        if let Err(error) = walked {
            tracing::debug!(?folder, %error, "measured in part");
        }
    }
    u64::try_from(usage.blocks).unwrap_or_default() * 512
}

/// Opens a folder to look into it; no link leads there.
fn open(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (_, top) = sandbox::open(folder)?;
    Ok(openat(top, c".", flags, Mode::empty())?)
}

#[derive(Default)]
struct Usage {
    blocks: i64,
    /// Files with several names.
    names: HashSet<(u64, u64)>,
}

impl Visitor for Usage {
    fn enter(&mut self, folder: BorrowedFd<'_>, from: i64, room: usize) -> io::Result<Part> {
        let mut part = Part::default();
        let Ok(mut entries) = Dir::read_from(folder) else {
            return Ok(part);
        };
        if from == 0 {
            self.blocks += fstat(folder).map_or(0, |found| found.st_blocks);
        } else if entries.seek(from).is_err() {
            return Ok(part);
        }
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(found) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if FileType::from_raw_mode(found.st_mode).is_dir() {
                part.folders.push(name.to_owned());
                if part.folders.len() == room {
                    part.rest = Some(entry.offset());
                    break;
                }
            } else if found.st_nlink < 2 || self.names.insert((found.st_dev, found.st_ino)) {
                self.blocks += found.st_blocks;
            }
        }
        Ok(part)
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &CStr) -> io::Result<()> {
        Ok(())
    }

    fn pass(&mut self, _: BorrowedFd<'_>, _: &CStr, _: Errno) -> io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Isolator for DiskUsageIsolator {
    fn name(&self) -> &'static str {
        "disk/du"
    }

    /// What they write to their roots counts for the one they are nested in.
    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        let notes = &self.0.notes;
        for id in notes.ids()? {
            match notes.read(&id).unwrap_or_default() {
                Some(record) if containers.contains(&id) => self.watch_over(&id, record),
                _ => notes.remove(&id)?,
            }
        }
        Ok(())
    }

    async fn prepare(&self, config: &ContainerConfig, _: &mut Draft) -> Result<(), IsolatorError> {
        if config.id.parent.is_some() {
            if config.debug {
                return Ok(());
            }
            return self.change(config.id.root_id(), |record| {
                record.add_root(&config.id, &config.ephemeral);
            });
        }
        let record = Record::new(config);
        self.0.notes.write(&config.id, &record)?;
        self.watch_over(&config.id, record);
        Ok(())
    }

    async fn watch(&self, id: &ContainerId) -> Limitation {
        let limitation = self
            .0
            .lock()
            .get(id)
            .map(|watched| watched.limitation.subscribe());
        if let Some(mut limitation) = limitation
            && let Ok(found) = limitation.wait_for(Option::is_some).await
            && let Some(found) = &*found
        {
            return found.clone();
        }
        std::future::pending().await
    }

    async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        self.change(id, |record| record.set_given(limits))
    }

    async fn usage(
        &self,
        id: &ContainerId,
        statistics: &mut ResourceStatistics,
    ) -> Result<(), IsolatorError> {
        let all = self.0.lock();
        let Some(watched) = all.get(id) else {
            return Ok(());
        };
        for (place, used) in watched.record.places().iter().zip(&watched.used) {
            if place.is_sandbox {
                statistics.disk_limit_bytes = Some(place.limit());
                statistics.disk_used_bytes = *used;
            }
            statistics.disk_statistics.push(place.statistics(*used));
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        if id.parent.is_some() {
            return self.change(id.root_id(), |record| record.remove_root(id));
        }
        self.0.lock().remove(id);
        self.0.notes.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use dcos_proto::mesos::Resource;
    use dcos_proto::mesos::task_status::Reason;
    use dcos_proto::mesos::value::{self, Scalar};

    fn disk(megabytes: f64) -> Resource {
        Resource {
            name: "disk".into(),
            r#type: value::Type::Scalar.into(),
            scalar: Some(Scalar { value: megabytes }),
            ..Resource::default()
        }
    }

    fn config(sandbox: &Path, megabytes: f64) -> ContainerConfig {
        ContainerConfig {
            sandbox: sandbox.to_owned(),
            limits: Limits {
                disks: vec![disk(megabytes)],
                ..Limits::default()
            },
            ..super::super::testkit::config("disk")
        }
    }

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn files_with_two_names_count_once_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("large"), vec![1; 1 << 20]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("file"), vec![1; 100_000]).unwrap();
        fs::hard_link(inner.join("file"), folder.path().join("again")).unwrap();
        std::os::unix::fs::symlink(outside.path(), inner.join("link")).unwrap();
        let du = std::process::Command::new("du")
            .args(["-s", "-B1"])
            .arg(folder.path())
            .output()
            .unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        assert_eq!(
            used(&[folder.path().to_owned()]).to_string(),
            du.split('\t').next().unwrap()
        );
    }

    #[test]
    fn nothing_is_too_deep_to_be_measured() {
        // So many folders take a disk a while.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut place = openat(rustix::fs::CWD, folder.path(), flags, Mode::empty()).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&place, c"d", Mode::RWXU).unwrap();
            place = openat(&place, c"d", flags, Mode::empty()).unwrap();
        }
        let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&place, c"large", create, Mode::RWXU).unwrap();
        let before = used(&[folder.path().to_owned()]);
        rustix::io::write(&file, &vec![1; 1 << 20]).unwrap();
        rustix::fs::fsync(&file).unwrap();
        assert!(used(&[folder.path().to_owned()]) - before >= 1 << 20);
        drop((file, place));
        tree::remove(folder.path()).unwrap();
    }

    #[tokio::test]
    async fn too_much_is_told_and_survives_the_agent() {
        let (state, sandbox) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let make = || DiskUsageIsolator::new(state.path(), SOON, true);
        let config = config(sandbox.path(), 1.0);
        let isolator = make();
        let mut draft = Draft::new(&config).unwrap();
        isolator.prepare(&config, &mut draft).await.unwrap();
        drop(isolator);

        let isolator = make();
        isolator
            .recover(std::slice::from_ref(&config.id))
            .await
            .unwrap();
        fs::write(sandbox.path().join("file"), vec![1; 2 << 20]).unwrap();
        let limitation = isolator.watch(&config.id).await;
        assert_eq!(
            limitation.reason,
            i32::from(Reason::ContainerLimitationDisk)
        );
        assert!(
            limitation.message.starts_with("Disk usage (2"),
            "{limitation:?}"
        );
        assert_eq!(limitation.resources, [disk(1.0)]);
        let mut statistics = ResourceStatistics::default();
        isolator.usage(&config.id, &mut statistics).await.unwrap();
        assert_eq!(statistics.disk_limit_bytes, Some(1 << 20));
        assert!(statistics.disk_used_bytes >= Some(2 << 20));
        isolator.cleanup(&config.id).await.unwrap();
        assert_eq!(fs::read_dir(state.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_written_to_roots_counts_for_the_sandbox() {
        let (state, sandbox) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let make = || DiskUsageIsolator::new(state.path(), SOON, true);
        let isolator = make();
        let parent = ContainerConfig {
            ephemeral: vec![root.path().to_owned()],
            ..config(sandbox.path(), 4.0)
        };
        let nested = ContainerConfig {
            id: parent.id.child("nested"),
            ephemeral: vec![other.path().to_owned()],
            ..config(&sandbox.path().join("nested"), 1.0)
        };
        fs::write(root.path().join("file"), vec![1; 3 << 20]).unwrap();
        for config in [&parent, &nested] {
            let mut draft = Draft::new(config).unwrap();
            isolator.prepare(config, &mut draft).await.unwrap();
        }
        tokio::time::timeout(SOON * 5, isolator.watch(&parent.id))
            .await
            .unwrap_err();
        drop(isolator);
        // After a restart those that are nested are known still.
        let isolator = make();
        let live = [parent.id.clone(), nested.id.clone()];
        isolator.recover(&live).await.unwrap();
        fs::write(other.path().join("file"), vec![1; 2 << 20]).unwrap();
        let limitation = isolator.watch(&parent.id).await;
        assert!(
            limitation.message.starts_with("Disk usage (5"),
            "{limitation:?}"
        );
        isolator.cleanup(&nested.id).await.unwrap();
        let places = isolator.0.places();
        let [sandbox, root] = [&sandbox, &root].map(|folder| folder.path().to_owned());
        assert_eq!(places, [(parent.id, vec![sandbox, root])]);
    }

    /// A file system in user space whose server never answers stands for one of a server that died.
    #[tokio::test]
    async fn who_does_not_answer_keeps_nobody_else_from_being_measured() {
        let (state, dead) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let Some(silent) = crate::isolator::testkit::Silent::mount(dead.path()) else {
            return;
        };
        let sandbox = tempfile::tempdir().unwrap();
        let mut isolator = DiskUsageIsolator::new(state.path(), SOON, true);
        Arc::get_mut(&mut isolator.0).unwrap().turn = SOON;
        let first = ContainerConfig {
            id: ContainerId::root("first"),
            ..config(&dead.path().join("data"), 1.0)
        };
        let second = ContainerConfig {
            id: ContainerId::root("second"),
            ..config(sandbox.path(), 1.0)
        };
        for config in [&first, &second] {
            let mut draft = Draft::new(config).unwrap();
            isolator.prepare(config, &mut draft).await.unwrap();
        }
        fs::write(sandbox.path().join("file"), vec![1; 2 << 20]).unwrap();
        isolator.watch(&second.id).await;
        let mut statistics = ResourceStatistics::default();
        isolator.usage(&first.id, &mut statistics).await.unwrap();
        assert_eq!(statistics.disk_used_bytes, None);
        drop(silent);
    }

    #[tokio::test]
    async fn less_may_be_given_later() {
        let (state, sandbox) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(sandbox.path().join("file"), vec![1; 2 << 20]).unwrap();
        let isolator = DiskUsageIsolator::new(state.path(), SOON, true);
        let config = config(sandbox.path(), 4.0);
        let mut draft = Draft::new(&config).unwrap();
        isolator.prepare(&config, &mut draft).await.unwrap();
        tokio::time::timeout(SOON * 5, isolator.watch(&config.id))
            .await
            .unwrap_err();
        let less = Limits {
            disks: vec![disk(0.5), disk(0.5)],
            ..Limits::default()
        };
        isolator.update(&config.id, &less).await.unwrap();
        let limitation = isolator.watch(&config.id).await;
        assert!(
            limitation.message.ends_with("exceeds quota (1MB)"),
            "{limitation:?}"
        );
    }
}
