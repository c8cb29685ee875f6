//! Places in folders that tasks can write to, made and looked at without going over a link.
//!
//! A sandbox belongs to its task: by the time the agent looks into it, anything in it may be a
//! symbolic link to anywhere. The agent is root, so it must not follow one.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fstat, mkdirat, openat,
    openat2, readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

use crate::containerizer::sandbox::{self, led_away};

/// A relative path that stays inside what it is relative to; `.` is that itself.
///
/// # Errors
/// If it is absolute or has a `..`.
pub(crate) fn inside(path: &Path) -> io::Result<&Path> {
    let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.components().all(stays) {
        return Ok(path);
    }
    let why = format!("path {} leads out of the sandbox", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Makes the folders of `path` in `base`, which get the owner of `base`. Returns the whole path,
/// and whether a folder is there in the end; a file that is there stays.
///
/// # Errors
/// If a link is on the way, or a file.
pub(crate) fn make_folders(base: &Path, path: &Path) -> io::Result<(PathBuf, bool)> {
    let (whole, folder) = sandbox::open(base)?;
    let mut folder = folder;
    let mut parts = names(inside(path)?).peekable();
    while let Some(name) = parts.next() {
        folder = match enter(&folder, name) {
            Err(Errno::NOENT) => make_folder(&folder, name)?,
            Err(Errno::NOTDIR) if parts.peek().is_none() && is_file(&folder, name)? => {
                return Ok((whole.join(path), false));
            }
            entered => entered.map_err(|error| led_away(error, path))?,
        };
    }
    Ok((whole.join(path), true))
}

/// Makes an empty file at `path` in `base`, and the folders above it, unless something is there.
///
/// # Errors
/// If a link is on the way or there.
pub(crate) fn make_file(base: &Path, path: &Path) -> io::Result<PathBuf> {
    let (whole, folder, name) = above(base, path)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(&folder, &name, flags, Mode::from_raw_mode(0o644)) {
        Err(Errno::EXIST) if !is_link(&folder, &name)? => {}
        Err(Errno::EXIST) => return Err(led_away(Errno::LOOP, path)),
        made => {
            made?;
            give(&folder, &name)?;
        }
    }
    Ok(whole)
}

/// Lets `path` in `base` lead to `target`; folders above it are made.
///
/// # Errors
/// If a link is on the way, or something else is there.
pub(crate) fn link(base: &Path, path: &Path, target: &Path) -> io::Result<()> {
    let (_, folder, name) = above(base, path)?;
    match symlinkat(target, &folder, &name) {
        Err(Errno::EXIST) => {
            let there = readlinkat(&folder, &name, Vec::new()).ok();
            let same = there
                .is_some_and(|there| there.to_bytes() == target.as_os_str().as_encoded_bytes());
            if same {
                Ok(())
            } else {
                Err(Errno::EXIST.into())
            }
        }
        done => Ok(done?),
    }
}

/// The whole path, the folder above it, and its name there.
fn above(base: &Path, path: &Path) -> io::Result<(PathBuf, OwnedFd, PathBuf)> {
    let missing = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "a path in the sandbox is wanted",
        )
    };
    let name = path.file_name().ok_or_else(missing)?;
    let (whole, _) = make_folders(base, path.parent().unwrap_or(Path::new("")))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat2(CWD, &whole, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    Ok((
        whole.join(name),
        folder.map_err(|error| led_away(error, path))?,
        name.into(),
    ))
}

fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

fn enter(folder: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(folder, name, flags, Mode::empty(), resolve)
}

fn make_folder(folder: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    match mkdirat(folder, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => give(folder, name)?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(enter(folder, name)?)
}

/// What was made belongs to whom the folder belongs to.
fn give(folder: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<()> {
    let owner = fstat(folder)?;
    if owner.st_uid == 0 && owner.st_gid == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(owner.st_uid), Gid::from_raw(owner.st_gid));
    Ok(chownat(
        folder,
        name,
        Some(user),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn kind(folder: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<FileType> {
    let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(found.st_mode))
}

fn is_link(folder: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<bool> {
    Ok(kind(folder, name)?.is_symlink())
}

fn is_file(folder: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<bool> {
    Ok(!is_link(folder, name)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, base) = (dir.path().join("outside"), dir.path().join("base"));
        fs::create_dir(&outside).unwrap();
        fs::create_dir(&base).unwrap();
        symlink(&outside, base.join("out")).unwrap();
        symlink("nowhere", base.join("dangling")).unwrap();
        fs::create_dir(base.join("in")).unwrap();
        symlink("../../outside", base.join("in/up")).unwrap();
        for path in [
            "out/x",
            "out",
            "in/up/x",
            "in/up",
            "dangling",
            "dangling/x",
            "../x",
            "/x",
        ] {
            let path = Path::new(path);
            assert!(make_folders(&base, path).is_err(), "{path:?}");
            assert!(make_file(&base, path).is_err(), "{path:?}");
            assert!(link(&base, path, Path::new("/etc")).is_err(), "{path:?}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(!base.join("nowhere").exists());
    }

    #[test]
    fn what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        for _ in 0..2 {
            let made = make_folders(&base, Path::new("a/./b")).unwrap();
            assert_eq!(made, (base.join("a/b"), true));
            assert_eq!(
                make_file(&base, Path::new("c/d")).unwrap(),
                base.join("c/d")
            );
            link(&base, Path::new("e/f"), Path::new("/etc")).unwrap();
        }
        assert_eq!(make_folders(&base, Path::new(".")).unwrap().0, base);
        assert!(!make_folders(&base, Path::new("c/d")).unwrap().1);
        assert!(make_folders(&base, Path::new("c/d/e")).is_err());
        assert!(link(&base, Path::new("e/f"), Path::new("/usr")).is_err());
    }
}
