//! Groups of volumes: who is neither root nor the owner of a volume gets to it by a group that is the volume's alone.
//!
//! What is given is on disk before a volume bears it. Nothing here follows a link, and none of the volumes' own mounts
//! is entered.
//!
//! # Source
//! Mesos 1.11 `--volume_gid_range` (`src/slave/volume_gid_manager`). Departures are in `docs/volumes.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dcos_core::resources::Ranges;
use dcos_proto::mesos::ContainerId;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, chownat, fchmod, fstat, openat2,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::disk::id_ranges;
use super::{Draft, IsolatorError};

/// The groups of a node's volumes. Clones are the same.
#[derive(Debug, Clone)]
pub struct VolumeGids(Arc<Gids>);

#[derive(Debug)]
struct Gids {
    range: Ranges,
    file: PathBuf,
    given: Mutex<BTreeMap<PathBuf, Given>>,
    /// Given last: the one behind it is next, so that what was taken back is not another's at once.
    last: AtomicU32,
}

/// What one volume was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    gid: u32,
    /// The container in whose sandbox the volume is, as text; none for a persistent volume.
    container: Option<String>,
}

impl VolumeGids {
    /// Those of `range`, as `--volume_gid_range` has it (`[10000-20000]`), with what was given of them before.
    ///
    /// # Errors
    /// [`IsolatorError`] if that is no range, this is not root, or what is kept below `work_dir` cannot be read.
    pub fn open(range: &str, work_dir: &Path) -> Result<Self, IsolatorError> {
        let refused = |why: &str| IsolatorError::refused(format!("volume_gid_range: {why}"));
        let range = id_ranges(range).ok_or_else(|| {
            refused("ranges of ids from 1 to 4294967295 are wanted, such as `[10000-20000]`")
        })?;
        if !rustix::process::geteuid().is_root() {
            return Err(refused("giving volumes to groups takes root"));
        }
        let file = work_dir.join("meta/volume_gid_manager/volume_gids.json");
        let failed = |error| IsolatorError::file("reading", &file)(error);
        let given = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(failed(error)),
        };
        let highest = given.values().map(|given: &Given| given.gid).max();
        Ok(Self(Arc::new(Gids {
            range,
            file,
            given: Mutex::new(given),
            last: AtomicU32::new(highest.unwrap_or(0)),
        })))
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.range.len()
    }

    /// How many of them no volume has.
    pub fn free(&self) -> u64 {
        self.0.free(&self.lock()).len()
    }

    /// Lets who a draft becomes get to `volume`, which is in the sandbox of `container` or a persistent one.
    ///
    /// # Errors
    /// [`IsolatorError`] if all groups are given, or it could not be written down or done.
    pub(super) fn admit(
        &self,
        draft: &mut Draft,
        volume: &Path,
        container: Option<&ContainerId>,
    ) -> Result<(), IsolatorError> {
        let gid = self.give(volume, container)?;
        let user = draft.spec.process_mut().as_mut();
        if let Some(user) = user.map(oci_spec::runtime::Process::user_mut) {
            let mut groups = user.additional_gids().clone().unwrap_or_default();
            groups.push(gid);
            user.set_additional_gids(Some(groups));
        }
        Ok(())
    }

    fn give(&self, volume: &Path, container: Option<&ContainerId>) -> Result<u32, IsolatorError> {
        let failed = || IsolatorError::file("giving to its group", volume);
        let place = open(volume).map_err(failed())?;
        let group = fstat(&place)
            .map_err(|error| failed()(error.into()))?
            .st_gid;
        // A volume may be in another, whose group it has then. What only bears a group of the range has it from somebody else.
        let known = {
            let given = self.lock();
            let outer = volume.ancestors().find_map(|folder| given.get(folder));
            outer.map(|given| given.gid)
        };
        let gid = match known {
            None => self.next(volume, container)?,
            Some(gid) => gid,
        };
        // The folder itself comes last: it says whether all the others have it.
        if group != gid {
            hand_over(&place, gid, SHARED).map_err(failed())?;
        }
        Ok(gid)
    }

    /// Writes down the group of a volume that has none.
    fn next(&self, volume: &Path, container: Option<&ContainerId>) -> Result<u32, IsolatorError> {
        if self.free() == 0 {
            self.forget_gone()?;
        }
        let mut given = self.lock();
        let free = self.0.free(&given);
        let last = self.0.last.load(Ordering::Relaxed);
        let behind = free.minus(&Ranges::from_pairs([(0, last.into())]));
        let gid = behind.iter().chain(free.iter()).next();
        let gid = gid.and_then(|gid| u32::try_from(gid).ok());
        let gid = gid.ok_or_else(|| {
            let total = self.0.range.len();
            let why = format!("all {total} groups of --volume_gid_range are given to volumes");
            IsolatorError::refused(why)
        })?;
        let container = container.map(ToString::to_string);
        let entry = Given { gid, container };
        let gid = given.entry(volume.to_owned()).or_insert(entry).gid;
        self.0.last.store(gid, Ordering::Relaxed);
        self.0.keep(&given)?;
        Ok(gid)
    }

    /// Takes back what volumes in the sandbox of a container had. They may be kept for a while, and their group is to be
    /// another's then: they get that of the sandbox.
    ///
    /// # Errors
    /// [`IsolatorError`]; what could not be taken back stays given.
    pub(super) fn release(&self, is_gone: impl Fn(&str) -> bool) -> Result<(), IsolatorError> {
        let is_his =
            |(_, given): &(&PathBuf, &Given)| given.container.as_deref().is_some_and(&is_gone);
        let volumes: Vec<_> = self
            .lock()
            .iter()
            .filter(is_his)
            .map(|(path, _)| path.clone())
            .collect();
        let mut outcome = Ok(());
        let mut free = BTreeSet::new();
        for volume in volumes {
            match take_back(&volume) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    outcome = Err(IsolatorError::file("taking from its group", &volume)(error));
                }
                _ => drop(free.insert(volume)),
            }
        }
        self.forget(&free)?;
        outcome
    }

    /// Takes back what volumes had that are no longer there.
    ///
    /// # Errors
    /// [`IsolatorError`] if it could not be written down.
    pub(super) fn forget_gone(&self) -> Result<(), IsolatorError> {
        let volumes: Vec<_> = self.lock().keys().cloned().collect();
        let is_gone = |path: &PathBuf| {
            let found = path.symlink_metadata();
            found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        self.forget(&volumes.into_iter().filter(is_gone).collect())
    }

    fn forget(&self, volumes: &BTreeSet<PathBuf>) -> Result<(), IsolatorError> {
        if volumes.is_empty() {
            return Ok(());
        }
        let mut given = self.lock();
        given.retain(|path, _| !volumes.contains(path));
        self.0.keep(&given)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Given>> {
        self.0.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gids {
    fn free(&self, given: &BTreeMap<PathBuf, Given>) -> Ranges {
        let taken = given
            .values()
            .map(|given| (given.gid.into(), given.gid.into()));
        self.range.minus(&Ranges::from_pairs(taken))
    }

    /// Makes it durable.
    fn keep(&self, given: &BTreeMap<PathBuf, Given>) -> Result<(), IsolatorError> {
        let write = || {
            let folder = self.file.parent().unwrap_or(&self.file);
            fs::create_dir_all(folder)?;
            let new = self.file.with_added_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(given)?)?;
            file.sync_all()?;
            fs::rename(&new, &self.file)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(IsolatorError::file("writing", &self.file))
    }
}

/// What folders are given: new files in them have their group, which may write.
const SHARED: fn(Mode) -> Mode = |mode| mode | Mode::from_raw_mode(0o2020);
/// And what is taken from them.
const OWN: fn(Mode) -> Mode = |mode| mode - Mode::from_raw_mode(0o2020);

/// Gives a volume in a sandbox the group of that again.
fn take_back(volume: &Path) -> io::Result<()> {
    let sandbox = fs::metadata(volume.parent().unwrap_or(volume))?;
    let gid = std::os::unix::fs::MetadataExt::gid(&sandbox);
    hand_over(&open(volume)?, gid, OWN)
}

fn open(volume: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat2(
        CWD,
        volume,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )?)
}

/// Gives a folder, or file, and all that is in it to a group; the folder itself last.
fn hand_over(volume: &OwnedFd, gid: u32, mode: fn(Mode) -> Mode) -> io::Result<()> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut folders = Vec::new();
    if !FileType::from_raw_mode(fstat(volume)?.st_mode).is_dir() {
        return give(volume, Path::new(""), gid);
    }
    let mut left = vec![PathBuf::from(".")];
    while let Some(path) = left.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match openat2(volume, &path, flags, Mode::empty(), inside) {
            Ok(folder) => folder,
            // It went meanwhile, became a link, or something is mounted there.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
            Err(error) => return Err(error.into()),
        };
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
            match entry.file_type() {
                _ if name == Path::new(".") || name == Path::new("..") => {}
                FileType::Directory => left.push(path.join(name)),
                _ => give(&folder, name, gid)?,
            }
        }
        folders.push(path);
    }
    for path in folders.iter().rev() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(folder) = openat2(volume, path, flags, Mode::empty(), inside) else {
            continue;
        };
        let found = Mode::from_raw_mode(fstat(&folder)?.st_mode);
        give(&folder, Path::new(""), gid)?;
        fchmod(&folder, mode(found))?;
    }
    Ok(())
}

fn give(folder: impl AsFd, name: &Path, gid: u32) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    match chownat(folder, name, None, Some(Gid::from_raw(gid)), flags) {
        Err(Errno::NOENT) => Ok(()),
        done => Ok(done?),
    }
}
