//! Layers: tar files unpacked as root, into a folder and nowhere else.
//!
//! Names are resolved with `openat2(RESOLVE_IN_ROOT)`, so a layer's links lead where they would in
//! a container. What a layer deletes of those below it (`.wh.` names) becomes what overlayfs
//! understands: a character device 0:0, or an opaque folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat2,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::archive::normal;
use crate::error::odd;
use crate::metered::Metered;
use crate::root::{is_mapped, opaque};
use crate::sparse::{self, Sparse};

/// Entries a layer may have: more than any distribution has files.
const MAX_ENTRIES: u64 = 8_000_000;
/// What a tar file may hold beside its files, bytes: headers and padding.
const OVERHEAD: u64 = 8 << 30;
/// Memory for the names of a layer's folders, bytes: two million names of a usual length.
const FOLDERS: usize = 256 << 20;
/// What remembering a folder costs beside its name, bytes.
const EACH: usize = 64;

/// Prefix of a deleted name.
const WHITEOUT: &str = ".wh.";
/// Name of the mark that a folder hides what is below it.
const OPAQUE: &str = ".wh..wh..opq";

/// Unpacks a tar file into `root`, for at most `limit` bytes of files.
pub(crate) fn unpack(source: impl Read, root: &Path, limit: u64) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let layer = Layer {
        root: rustix::fs::open(root, flags, Mode::empty())?,
    };
    let too_large = || odd("the layer is larger than a layer may be");
    let (mut left, mut entries) = (limit, 0);
    let mut folders = Folders::within(FOLDERS);
    let source = source.take(limit.saturating_add(OVERHEAD));
    let (source, meter) = Metered::new(source);
    let mut archive = tar::Archive::new(source);
    let mut all = archive.entries()?;
    let mut last = None;
    while let Some(mut entry) = meter.next(&mut all, last.take())? {
        entries += 1;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            last = Some(entry);
            continue;
        }
        let sparse = Sparse::find(&mut entry)?;
        let path = match &sparse {
            Some(sparse) => normal(&sparse.name),
            None => normal(&entry.path()?),
        };
        left = left.checked_sub(entry.size()).ok_or_else(too_large)?;
        if entries > MAX_ENTRIES {
            return Err(odd("the layer has more files than a layer may have"));
        }
        layer.put(&path, &mut entry, sparse).map_err(|error| {
            let what = format!("unpacking '{}': {error}", path.display());
            io::Error::new(error.kind(), what)
        })?;
        if entry.header().entry_type().is_dir() {
            folders.insert(path, time(entry.header()))?;
        }
        last = Some(entry);
    }
    // What follows the archive belongs to its digest.
    let mut rest = archive.into_inner().into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    if rest.limit() == 0 {
        return Err(too_large());
    }
    for (path, time) in folders.times {
        layer.touch(&path, time)?;
    }
    Ok(())
}

fn time(header: &tar::Header) -> i64 {
    i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0)
}

/// The times of folders, which they get last, since files put into a folder change its time.
struct Folders {
    times: BTreeMap<Box<Path>, i64>,
    left: usize,
}

impl Folders {
    fn within(left: usize) -> Self {
        let times = BTreeMap::new();
        Self { times, left }
    }

    fn insert(&mut self, path: PathBuf, time: i64) -> io::Result<()> {
        let path = path.into_boxed_path();
        let needed = path.as_os_str().len() + EACH;
        if self.times.insert(path, time).is_none() {
            let too_many = "the names of the layer's folders do not fit into 256 MiB: \
                build the image with fewer folders, or shorter names";
            let left = self.left.checked_sub(needed);
            self.left = left.ok_or_else(|| odd(too_many))?;
        }
        Ok(())
    }
}

struct Layer {
    root: OwnedFd,
}

impl Layer {
    /// Gives a folder its time; one that an entry has replaced since is left alone.
    fn touch(&self, path: &Path, time: i64) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        match openat2(&self.root, path, FOLDER, Mode::empty(), INSIDE) {
            Ok(folder) => Ok(futimens(folder, &times(time))?),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn put<R: Read>(
        &self,
        path: &Path,
        entry: &mut tar::Entry<'_, R>,
        sparse: Option<Sparse>,
    ) -> io::Result<()> {
        let header = entry.header();
        let mode = Mode::from(header.mode()? & 0o7777);
        // Some writers leave out what is zero.
        let owner = (
            id(header.uid().unwrap_or(0))?,
            id(header.gid().unwrap_or(0))?,
        );
        let time = time(header);
        let kind = header.entry_type();
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            // The root itself.
            return own(&self.root, mode, owner);
        };
        let folder = self.folder(parent)?;
        let name = Path::new(name);
        let text = name.to_string_lossy();
        if text == OPAQUE {
            fsetxattr(&folder, opaque(), b"y", XattrFlags::empty())?;
            return Ok(());
        }
        if let Some(deleted) = text.strip_prefix(WHITEOUT) {
            remove(&folder, Path::new(deleted))?;
            let none = makedev(0, 0);
            mknodat(
                &folder,
                deleted,
                FileType::CharacterDevice,
                Mode::empty(),
                none,
            )?;
            return Ok(());
        }
        match kind {
            tar::EntryType::Directory => {
                match mkdirat(&folder, name, Mode::from(0o755)) {
                    Ok(()) => {}
                    Err(Errno::EXIST) if is_folder(&folder, name) => {}
                    Err(Errno::EXIST) => {
                        remove(&folder, name)?;
                        mkdirat(&folder, name, Mode::from(0o755))?;
                    }
                    Err(error) => return Err(error.into()),
                }
                let made = openat2(&folder, name, FOLDER, Mode::empty(), HERE)?;
                own(&made, mode, owner)?;
                attributes(entry, &made);
                return Ok(());
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                remove(&folder, name)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = openat2(&folder, name, flags, Mode::from(0o600), HERE)?;
                let mut file = File::from(file);
                match sparse {
                    Some(sparse) => sparse.unpack(&mut BufReader::new(&mut *entry), &file)?,
                    None if kind == tar::EntryType::GNUSparse => sparse::copy(entry, &file)?,
                    None => drop(io::copy(entry, &mut file)?),
                }
                own(&file, mode, owner)?;
                // After the owner, whose change takes a file's capabilities away.
                attributes(entry, &file);
                return Ok(futimens(&file, &times(time))?);
            }
            tar::EntryType::Symlink => {
                let target = link(entry)?;
                remove(&folder, name)?;
                symlinkat(target, &folder, name)?;
            }
            tar::EntryType::Link => {
                let target = normal(&link(entry)?);
                let other = target.parent().unwrap_or(Path::new(""));
                let other = self.folder(other)?;
                let target = target.file_name().unwrap_or_default();
                remove(&folder, name)?;
                linkat(&other, target, &folder, name, AtFlags::empty())?;
                return Ok(());
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                let header = entry.header();
                let number =
                    |number: io::Result<Option<u32>>| Ok::<_, io::Error>(number?.unwrap_or(0));
                let (major, minor) = (
                    number(header.device_major())?,
                    number(header.device_minor())?,
                );
                let kind = match kind {
                    tar::EntryType::Char => FileType::CharacterDevice,
                    tar::EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                remove(&folder, name)?;
                if is_mapped() && kind != FileType::Fifo {
                    // As other engines do it: containers find the devices they may use in `/dev`.
                    tracing::debug!(?path, "in a user namespace an image has no device nodes");
                    return Ok(());
                }
                mknodat(&folder, name, kind, mode, makedev(major, minor))?;
            }
            other => {
                let what = format!("entries of type {:?} are not supported", other.as_byte());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        let (uid, gid) = owner;
        chownat(
            &folder,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|error| unowned(error, owner))?;
        if !kind.is_symlink() {
            let mode = rustix::fs::Mode::from_bits_truncate(mode.bits());
            rustix::fs::chmodat(&folder, name, mode, AtFlags::empty())?;
        }
        utimensat(&folder, name, &times(time), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// A folder of the layer, made with those above it if it is missing.
    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let (mut known, mut missing) = (path, Vec::new());
        let mut folder = loop {
            let (Some(above), Some(name)) = (known.parent(), known.file_name()) else {
                break self.root.try_clone()?;
            };
            match openat2(&self.root, known, FOLDER, Mode::empty(), INSIDE) {
                Err(Errno::NOENT) => missing.push(name),
                found => break found?,
            }
            known = above;
        };
        while let Some(name) = missing.pop() {
            match mkdirat(&folder, name, Mode::from(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            folder = openat2(&folder, name, FOLDER, Mode::empty(), HERE)?;
        }
        Ok(folder)
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
/// Links are followed, with the layer as `/`.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// Links are not followed.
const HERE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn own(file: impl AsFd, mode: Mode, (uid, gid): (Uid, Gid)) -> io::Result<()> {
    let file = file.as_fd();
    fchown(file, Some(uid), Some(gid)).map_err(|error| unowned(error, (uid, gid)))?;
    // After the owner, whose change clears the set-id bits.
    Ok(fchmod(file, mode)?)
}

/// Why nobody became the owner of a file.
fn unowned(error: Errno, (uid, gid): (Uid, Gid)) -> io::Error {
    if error != Errno::INVAL || !is_mapped() {
        return error.into();
    }
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    let what = format!(
        "it belongs to user {uid} and group {gid}, and there is no such id in the agent's user namespace: give the \
         agent's user more ids in /etc/subuid and /etc/subgid"
    );
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// What an image may say of its files beyond mode and owner. Not `trusted.`, and not `user.overlay.` in a user
/// namespace: those names are how overlayfs keeps its own books.
fn is_allowed(attribute: &str) -> bool {
    (attribute.starts_with("user.") && !(is_mapped() && attribute.starts_with("user.overlay.")))
        || [
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_default",
        ]
        .contains(&attribute)
}

/// File capabilities and the like, as far as this file system takes them.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>, file: impl AsFd) {
    let Ok(Some(extensions)) = entry.pax_extensions() else {
        return;
    };
    for extension in extensions.flatten() {
        let name = extension.key().ok();
        let name = name.and_then(|key| key.strip_prefix("SCHILY.xattr."));
        if let Some(name) = name.filter(|name| is_allowed(name)) {
            let set = fsetxattr(&file, name, extension.value_bytes(), XattrFlags::empty());
            if let Err(error) = set {
                tracing::debug!(name, %error, "could not set an attribute of an image's file");
            }
        }
    }
}

fn link<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<PathBuf> {
    let target = entry.link_name()?.map(std::borrow::Cow::into_owned);
    target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a link to nothing"))
}

fn is_folder(folder: &OwnedFd, name: &Path) -> bool {
    openat2(folder, name, FOLDER, Mode::empty(), HERE).is_ok()
}

/// Removes what an entry replaces; a folder only if it is empty.
fn remove(folder: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?),
        Err(error) => Err(error.into()),
    }
}

trait FromRaw {
    fn from_number(number: u32) -> Self;
}

impl FromRaw for Uid {
    fn from_number(number: u32) -> Self {
        Self::from_raw(number)
    }
}

impl FromRaw for Gid {
    fn from_number(number: u32) -> Self {
        Self::from_raw(number)
    }
}

fn id<T: FromRaw>(number: u64) -> io::Result<T> {
    let number = u32::try_from(number)
        .ok()
        .filter(|&number| number != u32::MAX);
    let number = number.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "it belongs to nobody there can be",
        )
    })?;
    Ok(T::from_number(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_folders_is_bounded() {
        let mut folders = Folders::within(2 * (EACH + 100));
        let name = |letter: &str| PathBuf::from(letter.repeat(100));
        // The same one costs once, and has the time it was given last.
        for time in 0..1000 {
            folders.insert(name("a"), time).unwrap();
        }
        assert_eq!(folders.times.values().collect::<Vec<_>>(), [&999]);
        folders.insert(name("b"), 0).unwrap();
        let error = folders.insert(name("c"), 0).unwrap_err().to_string();
        assert!(error.contains("fewer folders"), "{error}");
    }

    /// On a stack that holds no 2,000 calls.
    #[test]
    fn deep_names_need_no_stack() {
        let root = tempfile::tempdir().unwrap();
        let deep = "a/".repeat(2000) + "file";
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        let mut layer = tar::Builder::new(Vec::new());
        layer.append_data(&mut header, &deep, io::empty()).unwrap();
        let layer = layer.into_inner().unwrap();
        let folder = root.path().to_owned();
        let thread = std::thread::Builder::new().stack_size(256 << 10);
        let unpacked = thread.spawn(move || unpack(&*layer, &folder, 1 << 20));
        unpacked.unwrap().join().unwrap().unwrap();
        let found = rustix::fs::open(root.path(), FOLDER, Mode::empty()).unwrap();
        openat2(found, deep, OFlags::PATH, Mode::empty(), INSIDE).unwrap();
        // The standard library keeps a descriptor open for each level.
        let removed = std::process::Command::new("rm")
            .arg("-r")
            .arg(root.keep())
            .status();
        assert!(removed.unwrap().success());
    }
}
