//! `disk/xfs`: the file system counts what a container keeps on disk, and bounds it.
//!
//! The sandbox of a container and what it and those nested in it write to their roots are one project, each
//! persistent volume is one of its own; which id each has is decided in [`projects`](super::projects).
//! What lives is written down below the runtime directory. What does not, bears its id until it is collected:
//! after a restart the folders are asked.
//!
//! # Source
//! Mesos 1.11 `disk/xfs` (`isolators/xfs/disk.cpp`). Departures: any file system with project quotas will do
//! (ext4 has them), what nested containers write to their roots counts, and volumes on `PATH` disks are found
//! again after a restart, at which the original would have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use dcos_core::units::format_bytes;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::value::{self, Scalar};
use dcos_proto::mesos::{ContainerId, DiskStatistics, Resource, ResourceStatistics};
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::folders::{bears, below, mark};
use super::kernel::{self, Quota};
use super::places::{Place, Record};
use super::projects::{Exhausted, ProjectIds};
use crate::checkpoint::paths;
use crate::containerizer::sandbox;
use crate::isolator::notes::Notes;
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError, Limitation, Limits};

const NAME: &str = "disk/xfs";

/// Where it keeps what lives, below the runtime directory.
const FOLDER: &str = "isolators/disk/xfs";

/// How [`ProjectQuotaIsolator`] works.
#[derive(Debug, Clone)]
pub struct QuotaSettings {
    /// Ids it may give. `--xfs_project_range`
    pub projects: ProjectIds,
    /// Bound what containers write, not only count it. `--enforce_container_disk_quota`
    pub enforce: bool,
    /// End those that take more, instead of having their writes fail. `--xfs_kill_containers`
    pub kill: bool,
    /// How much further writes succeed until that is noticed, in bytes. `--xfs_quota_headroom`
    pub headroom: u64,
    /// How often it is looked for those. `--container_disk_watch_interval`
    pub interval: Duration,
    /// How often it is looked for ids that nobody has any more. `--disk_watch_interval`
    pub collect_interval: Duration,
    /// Where sandboxes are. `--work_dir`
    pub work_dir: PathBuf,
    /// Roots of disks of type `PATH`, which have persistent volumes too.
    pub disks: Vec<PathBuf>,
    /// Where it keeps what lives. `--runtime_dir`
    pub runtime_dir: PathBuf,
}

/// Has project quotas count and bound what containers keep on disk.
#[derive(Debug)]
pub struct ProjectQuotaIsolator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: QuotaSettings,
    notes: Notes,
    watched: Mutex<BTreeMap<ContainerId, Watched>>,
    /// Whether somebody [tends](tend) to it.
    tended: AtomicBool,
}

#[derive(Debug)]
struct Watched {
    known: Known,
    limitation: watch::Sender<Option<Limitation>>,
}

/// What is written down of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    record: Record,
    /// The project of its own folders.
    project: u32,
}

/// One project of a container.
struct Bounded {
    place: Place,
    /// Where it is asked for; a folder that bears it.
    folder: PathBuf,
    /// Absent for a file system of its own.
    project: Option<u32>,
}

impl ProjectQuotaIsolator {
    /// An isolator as `settings` say.
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] if the work directory or a disk lies on a file system without project
    /// quotas.
    pub fn new(settings: QuotaSettings) -> Result<Self, IsolatorError> {
        if !rustix::process::geteuid().is_root() {
            return Err(unsupported("it takes root"));
        }
        let work_dir = &settings.work_dir;
        fs::create_dir_all(work_dir).map_err(IsolatorError::file("making", work_dir))?;
        for root in std::iter::once(work_dir).chain(&settings.disks) {
            supports(root, settings.enforce)?;
        }
        Ok(Self(Arc::new(Inner {
            notes: Notes::in_folder(settings.runtime_dir.join(FOLDER)),
            settings,
            watched: Mutex::default(),
            tended: AtomicBool::new(false),
        })))
    }
}

fn unsupported(reason: impl Into<String>) -> IsolatorError {
    IsolatorError::Unsupported {
        isolator: NAME,
        reason: reason.into(),
    }
}

/// Whether there are project quotas where `folder` is; with `enforce`, they bound.
fn supports(folder: &Path, enforce: bool) -> Result<(), IsolatorError> {
    let wanted = |what: &str| {
        unsupported(format!(
            "{} {what}: wanted is XFS mounted with `prjquota`, or ext4 with the features `project,quota` mounted with it",
            folder.display()
        ))
    };
    let (_, file) = sandbox::open(folder).map_err(IsolatorError::file("opening", folder))?;
    match kernel::state(&file) {
        Ok(state) if !state.counts => Err(wanted("lies on a file system that counts no projects")),
        Ok(state) if enforce && !state.enforces => kernel::enforce(&file)
            .map_err(|error| wanted(&format!("has projects that cannot be bounded ({error})"))),
        Ok(_) => Ok(()),
        Err(error) => Err(wanted(&format!(
            "lies on a file system without project quotas ({error})"
        ))),
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody looks now and then.
    fn tend(self: &Arc<Self>) {
        if !self.tended.swap(true, Ordering::Relaxed) {
            tokio::spawn(tend(Arc::downgrade(self)));
        }
    }

    /// Takes up a container that is launched. Takes disk time.
    fn take_up(
        &self,
        id: &ContainerId,
        record: Record,
        recorded: Option<u32>,
    ) -> Result<(), IsolatorError> {
        let known = self.settle(id, record, recorded, None)?;
        self.apply(id, &known)?;
        self.watch_over(id, known);
        Ok(())
    }

    /// Takes up a container that runs already, whatever can be done for it. Takes disk time.
    fn take_up_again(&self, id: &ContainerId, settled: Result<Known, IsolatorError>) {
        match settled {
            Ok(known) => {
                if let Err(error) = self.apply(id, &known) {
                    tracing::error!(
                        container = %id, %error,
                        "not all of what it keeps is counted and bounded: mend its folders and restart the agent, or \
                         end it"
                    );
                }
                self.watch_over(id, known);
            }
            Err(error) => tracing::error!(
                container = %id, %error,
                "what it keeps is neither counted nor bounded: put that right and restart the agent"
            ),
        }
    }

    /// Gives a container its project, and notes it.
    fn settle(
        &self,
        id: &ContainerId,
        record: Record,
        recorded: Option<u32>,
        found: Option<u32>,
    ) -> Result<Known, IsolatorError> {
        let own = record.own();
        let settled = {
            let mut projects = self.settings.projects.lock();
            let settled = projects.settle(id, &own[0], recorded, found);
            let settled = settled.map_err(|error| exhausted(&error))?;
            for folder in &own[1..] {
                projects.add(settled.id, folder);
            }
            settled
        };
        let known = Known {
            record,
            project: settled.id,
        };
        self.notes.write(id, &known)?;
        Ok(known)
    }

    /// Gives the folders of a container their projects, and those their limits.
    fn apply(&self, id: &ContainerId, known: &Known) -> Result<(), IsolatorError> {
        let project = known.project;
        for folder in known.record.own() {
            if bears(&folder)? != Some(project) {
                mark(&folder, project)?;
                tracing::debug!(container = %id, ?folder, project, "given a project");
            }
        }
        self.bound(id, known)
    }

    fn watch_over(&self, id: &ContainerId, known: Known) {
        let limitation = watch::Sender::new(None);
        self.lock()
            .insert(id.clone(), Watched { known, limitation });
    }

    /// Changes what is known of a container; absent, if nothing is.
    fn change(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut Record),
    ) -> Result<Option<Known>, IsolatorError> {
        let mut all = self.lock();
        let Some(watched) = all.get_mut(id) else {
            return Ok(None);
        };
        let mut known = watched.known.clone();
        change(&mut known.record);
        if known != watched.known {
            self.notes.write(id, &known)?;
            watched.known = known.clone();
        }
        Ok(Some(known))
    }

    /// What a nested container writes to its root counts for the one it is nested in.
    fn add_root(&self, id: &ContainerId, folders: &[PathBuf]) -> Result<(), IsolatorError> {
        let root = id.root_id();
        let Some(known) = self.change(root, |record| record.add_root(id, folders))? else {
            return Ok(());
        };
        for folder in folders {
            self.settings.projects.lock().add(known.project, folder);
            mark(folder, known.project)?;
        }
        Ok(())
    }

    fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        let mut before = Record::default();
        let known = self.change(id, |record| {
            before = record.clone();
            record.set_given(limits);
        })?;
        let Some(known) = known.filter(|known| known.record != before) else {
            return Ok(());
        };
        let bounded = self.bound(id, &known);
        if bounded.is_err() {
            self.change(id, |record| record.keep_given(&before))?;
        }
        bounded
    }

    /// Gives the projects of a container the limits of what it was given; volumes get projects before.
    fn bound(&self, id: &ContainerId, known: &Known) -> Result<(), IsolatorError> {
        for place in known.record.places() {
            if place.is_mount() {
                continue;
            }
            let folder = self.folder_of(&place);
            let project = if place.is_sandbox {
                known.project
            } else {
                supports(&folder, self.settings.enforce)?;
                let found = bears(&folder)?;
                let settled = self
                    .settings
                    .projects
                    .lock()
                    .settle(id, &folder, None, found)
                    .map_err(|error| exhausted(&error))?;
                if settled.mark {
                    mark(&folder, settled.id)?;
                    tracing::info!(?folder, project = settled.id, "given a project");
                }
                settled.id
            };
            self.limit(&folder, project, place.limit())?;
        }
        // An id that had limits under somebody else, whose folders an operator removed.
        let is_own = |place: &Place| place.is_sandbox;
        if !known.record.places().iter().any(is_own) {
            self.limit(&known.record.own()[0], known.project, 0)?;
        }
        Ok(())
    }

    /// Bounds a project by `limit` bytes; 0 for none.
    fn limit(&self, folder: &Path, project: u32, limit: u64) -> Result<(), IsolatorError> {
        let (soft, hard) = match (limit, self.settings.enforce, self.settings.kill) {
            (0, _, _) | (_, false, _) => (0, 0),
            (limit, true, false) => (limit, limit),
            (limit, true, true) => (limit, limit.saturating_add(self.settings.headroom)),
        };
        sandbox::open(folder)
            .and_then(|(_, file)| kernel::set_limits(&file, project, soft, hard))
            .map_err(IsolatorError::file("bounding what is kept in", folder))
    }

    /// Where a place is on the host: what a container sees of a volume is in other hands.
    fn folder_of(&self, place: &Place) -> PathBuf {
        let volume = place.given.iter().filter(|_| !place.is_sandbox);
        let mut volumes = volume.filter_map(|given| paths::volume(&self.settings.work_dir, given));
        volumes.next().unwrap_or_else(|| place.folders[0].clone())
    }

    /// All projects of a container, its own first.
    fn bounded(&self, known: &Known) -> Vec<Bounded> {
        let mut places = known.record.places();
        if !places.iter().any(|place| place.is_sandbox) {
            places.push(Place {
                folders: known.record.own(),
                is_sandbox: true,
                ..Place::default()
            });
        }
        places.sort_by_key(|place| !place.is_sandbox);
        let of = |place: Place| {
            let folder = self.folder_of(&place);
            let project = match (place.is_mount(), place.is_sandbox) {
                (true, _) => None,
                (false, true) => Some(known.project),
                (false, false) => bears(&folder).ok()?,
            };
            Some(Bounded {
                place,
                folder,
                project,
            })
        };
        places.into_iter().filter_map(of).collect()
    }

    /// Tells those that take too much.
    fn check(&self) {
        let all: Vec<_> = {
            let all = self.lock();
            let silent = all
                .iter()
                .filter(|(_, one)| one.limitation.borrow().is_none());
            silent
                .map(|(id, one)| (id.clone(), one.known.clone()))
                .collect()
        };
        for (id, known) in all {
            let over = self.bounded(&known).into_iter().find_map(|bounded| {
                let quota = bounded.quota().inspect_err(|error| {
                    tracing::warn!(container = %id, folder = ?bounded.folder, %error, "not counted");
                });
                bounded.limitation(quota.ok()??)
            });
            if let (Some(over), Some(watched)) = (over, self.lock().get(&id)) {
                watched.limitation.send_replace(Some(over));
            }
        }
    }

    /// Frees the ids whose folders are gone.
    fn collect(&self) {
        let waiting = self.settings.projects.lock().waiting();
        let is_gone = |folder: &PathBuf| {
            let looked_for = folder.symlink_metadata();
            looked_for.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let gone: BTreeSet<PathBuf> = waiting.into_iter().filter(is_gone).collect();
        // While it is held nobody is given an id whose limits are being cleared.
        let mut projects = self.settings.projects.lock();
        projects.gone(&gone);
        for id in projects.idle() {
            for root in self.roots() {
                let cleared =
                    sandbox::open(root).and_then(|(_, file)| kernel::set_limits(&file, id, 0, 0));
                if let Err(error) = cleared {
                    // Whoever gets it next is given limits, or none, of its own.
                    tracing::warn!(project = id, ?root, %error, "its limits could not be cleared");
                }
            }
            tracing::debug!(project = id, "free again");
            projects.freed(id);
        }
    }

    /// What bears an id of those that may be dead: sandboxes, and persistent volumes.
    fn scan(
        &self,
        mut unknown: impl FnMut(&Path, &dyn fmt::Display),
    ) -> (BTreeMap<ContainerId, PathBuf>, Vec<PathBuf>) {
        let unknown = &mut unknown;
        let work_dir = &self.settings.work_dir;
        let levels = [
            "slaves",
            "*",
            "frameworks",
            "*",
            "executors",
            "*",
            "runs",
            "*",
        ];
        let mut sandboxes = below(work_dir, &levels, unknown);
        sandboxes.extend(below(work_dir, &["containers", "*"], unknown));
        let mut volumes = Vec::new();
        for root in self.roots() {
            volumes.extend(below(root, &["volumes", "roles", "*", "*"], unknown));
        }
        let named = sandboxes.into_iter().filter_map(|sandbox| {
            let name = sandbox.file_name()?.to_str()?;
            Some((ContainerId::root(name), sandbox))
        });
        (named.collect(), volumes)
    }

    fn recover(&self, live: &[ContainerId]) -> Result<(), IsolatorError> {
        let mut unknown = BTreeSet::new();
        let mut cannot = |folder: &Path, error: &dyn fmt::Display| {
            tracing::error!(
                ?folder, %error,
                "which projects it, and what is in it, are cannot be told: repair it, or remove it; until the agent is \
                 restarted then, ids that anything counts for are given to nobody"
            );
            unknown.insert(folder.to_owned());
        };
        let (sandboxes, volumes) = self.scan(&mut cannot);
        let mut found = BTreeMap::new();
        for folder in sandboxes.values().chain(&volumes) {
            match bears(folder) {
                Ok(Some(id)) => {
                    self.settings.projects.lock().found(folder, id);
                    found.insert(folder.clone(), id);
                }
                Ok(None) => {}
                Err(error) => cannot(folder, &error),
            }
        }
        let mut known = self.known()?;
        // Those that were given an id first: nobody is given theirs.
        let live = live.iter().filter(|id| id.parent.is_none());
        let (recorded, others): (Vec<_>, Vec<_>) = live.partition(|id| known.contains_key(id));
        let settle = |id| {
            let Known { record, project } = known.remove(id).expect("it is among them");
            let found = found.get(&record.own()[0]).copied();
            (id, self.settle(id, record, Some(project), found))
        };
        let settled: Vec<_> = recorded.into_iter().map(settle).collect();
        // Before anything is given, or begins to count for, an id.
        self.hold_what_counts(&unknown);
        for (id, settled) in settled {
            self.take_up_again(id, settled);
        }
        for id in others {
            // It was launched before there was this isolator.
            if let Some(sandbox) = sandboxes.get(id) {
                let found = found.get(sandbox).copied();
                let settled = self.settle(id, Record::of(sandbox.clone()), None, found);
                self.take_up_again(id, settled);
            }
        }
        known.keys().try_for_each(|id| self.notes.remove(id))
    }

    /// Where folders cannot be asked, who is launched must not be given an id that they bear.
    fn hold_what_counts(&self, unknown: &BTreeSet<PathBuf>) {
        if unknown.is_empty() {
            return;
        }
        for root in self.roots() {
            let ids = sandbox::open(root).and_then(|(_, file)| kernel::counted(&file));
            match ids {
                Ok(ids) => {
                    let mut projects = self.settings.projects.lock();
                    for id in ids {
                        projects.counted(id, unknown);
                    }
                }
                Err(error) => tracing::warn!(?root, %error, "what it counts cannot be told"),
            }
        }
    }

    /// What has quotas: the work directory, and disks.
    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.settings.work_dir).chain(&self.settings.disks)
    }

    /// What was written down.
    fn known(&self) -> Result<BTreeMap<ContainerId, Known>, IsolatorError> {
        let read = |id| {
            let known = self.notes.read(&id).unwrap_or_default()?;
            Some((id, known))
        };
        Ok(self.notes.ids()?.into_iter().filter_map(read).collect())
    }
}

impl Bounded {
    /// What is counted; absent for a file system of its own.
    fn quota(&self) -> io::Result<Option<Quota>> {
        let Some(project) = self.project else {
            return Ok(None);
        };
        let (_, file) = sandbox::open(&self.folder)?;
        kernel::quota(&file, project).map(Some)
    }

    /// What a file system of its own has in use, else what is counted.
    fn used(&self) -> io::Result<u64> {
        if let Some(quota) = self.quota()? {
            return Ok(quota.used);
        }
        let disk = statvfs(&self.folder)?;
        Ok(disk.f_blocks.saturating_sub(disk.f_bfree) * disk.f_frsize)
    }

    /// Too much is what is beyond the limit that the file system knows.
    fn limitation(&self, quota: Quota) -> Option<Limitation> {
        if quota.soft == 0 || quota.used <= quota.soft {
            return None;
        }
        let disk = self
            .place
            .given
            .first()
            .and_then(|given| given.disk.clone());
        let volume = disk.as_ref().and_then(|disk| disk.persistence.as_ref());
        let volume = volume.map(|volume| format!(" for volume '{}'", volume.id));
        #[expect(clippy::cast_precision_loss, reason = "megabytes, as Mesos has them")]
        let megabytes = (quota.used >> 20) as f64;
        Some(Limitation {
            resources: vec![Resource {
                name: "disk".to_owned(),
                r#type: value::Type::Scalar.into(),
                scalar: Some(Scalar { value: megabytes }),
                disk,
                ..Resource::default()
            }],
            reason: Reason::ContainerLimitationDisk.into(),
            message: format!(
                "Disk usage ({}) exceeded quota ({}){}",
                format_bytes(quota.used),
                format_bytes(quota.soft),
                volume.unwrap_or_default()
            ),
        })
    }
}

fn exhausted(error: &Exhausted) -> IsolatorError {
    IsolatorError::refused(error.to_string())
}

/// Looks for those that take too much, and for ids that are free again.
async fn tend(inner: Weak<Inner>) {
    let Some(strong) = inner.upgrade() else {
        return;
    };
    let settings = strong.settings.clone();
    drop(strong);
    let every = |interval: Duration| {
        let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks
    };
    let mut watching = every(settings.interval);
    let mut collecting = every(settings.collect_interval);
    loop {
        let collect = tokio::select! {
            _ = watching.tick() => false,
            _ = collecting.tick() => true,
        };
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let work = tokio::task::spawn_blocking(move || {
            if collect {
                inner.collect();
            } else if settings.enforce && settings.kill {
                inner.check();
            }
        });
        if let Err(error) = work.await {
            tracing::error!(%error, "looking after quotas");
        }
    }
}

async fn blocking(
    work: impl FnOnce() -> Result<(), IsolatorError> + Send + 'static,
) -> Result<(), IsolatorError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(IsolatorError::refused(error.to_string())))
}

#[async_trait]
impl Isolator for ProjectQuotaIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    /// What they write to their roots counts for the one they are nested in.
    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        self.0.tend();
        let (inner, containers) = (Arc::clone(&self.0), containers.to_vec());
        blocking(move || inner.recover(&containers)).await
    }

    async fn prepare(&self, config: &ContainerConfig, _: &mut Draft) -> Result<(), IsolatorError> {
        self.0.tend();
        let (inner, id) = (Arc::clone(&self.0), config.id.clone());
        if id.parent.is_some() {
            let folders = config.ephemeral.clone();
            if config.debug || folders.is_empty() {
                return Ok(());
            }
            return blocking(move || inner.add_root(&id, &folders)).await;
        }
        let record = Record::new(config);
        let known = self.0.lock().get(&id).map(|one| one.known.project);
        blocking(move || inner.take_up(&id, record, known)).await
    }

    async fn watch(&self, id: &ContainerId) -> Limitation {
        let limitation = self.0.lock().get(id).map(|one| one.limitation.subscribe());
        if let Some(mut limitation) = limitation
            && let Ok(found) = limitation.wait_for(Option::is_some).await
            && let Some(found) = &*found
        {
            return found.clone();
        }
        std::future::pending().await
    }

    async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        let (inner, id, limits) = (Arc::clone(&self.0), id.clone(), limits.clone());
        blocking(move || inner.update(&id, &limits)).await
    }

    async fn usage(
        &self,
        id: &ContainerId,
        statistics: &mut ResourceStatistics,
    ) -> Result<(), IsolatorError> {
        let Some(known) = self.0.lock().get(id).map(|one| one.known.clone()) else {
            return Ok(());
        };
        for bounded in self.0.bounded(&known) {
            let folder = &bounded.folder;
            let used = bounded
                .used()
                .map_err(IsolatorError::file("counting what is in", folder))?;
            let place = &bounded.place;
            if place.is_sandbox {
                statistics.disk_used_bytes = Some(used);
                statistics.disk_limit_bytes = (!place.given.is_empty()).then(|| place.limit());
                continue;
            }
            let limit_bytes = bounded.project.map(|_| place.limit());
            statistics.disk_statistics.push(DiskStatistics {
                limit_bytes,
                ..place.statistics(Some(used))
            });
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        if id.parent.is_some() {
            let forgotten = self.0.change(id.root_id(), |record| record.remove_root(id));
            return forgotten.map(drop);
        }
        self.0.lock().remove(id);
        // What it leaves bears its id until it is collected.
        self.0.settings.projects.lock().ended(id);
        self.0.notes.remove(id)
    }
}
