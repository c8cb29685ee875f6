//! Directories of containers on the host: whose they are, and how to get there.
//!
//! The sandbox of a nested container lies in the sandbox of its parent, which belongs to the
//! parent's user: that user can replace any part of the way by a symbolic link at any time. The
//! agent is root and must not be led away. So a way is only ever taken from a descriptor, and a
//! link on it is followed only if nobody but root (or whoever we are) could have put it there: a
//! work directory that the operator made a link is fine.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RawMode, ResolveFlags, Stat, Uid, chownat, fstat, mkdirat,
    openat2, readlinkat, statat,
};
use rustix::io::Errno;

use crate::containerizer::ContainerConfig;
use crate::isolator::users::User;

/// Links on one way, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// How often the way to one sandbox may be taken away while it is made.
const PRUNED: usize = 100;

/// The user that a container asks for, its command's before its own; nobody where users are not
/// switched (`--switch_user=false`), whatever it asks for.
///
/// Those who ask are authorized by that text, so it is a name: numbers and `user:group` would be
/// other words for somebody else. Mesos, which asks `getpwnam(3)`, knows neither.
///
/// # Errors
/// A text: it is no name.
pub fn asked_user(config: &ContainerConfig, switch_user: bool) -> Result<Option<&str>, String> {
    if !switch_user {
        return Ok(None);
    }
    let command = config.command.as_ref();
    let asked = command.and_then(|command| command.user.as_deref());
    let asked = asked.or(config.user.as_deref());
    match asked.filter(|name| !User::is_name(name)) {
        Some(other) => Err(format!("there is no user `{other}`: users have names here")),
        None => Ok(asked),
    }
}

/// The user and group that `name` means: on the host, and else in the container's root.
///
/// # Errors
/// A text: there is no such user.
pub fn owner(name: Option<&str>, rootfs: Option<&Path>) -> Result<Option<(u32, u32)>, String> {
    let Some(name) = name else {
        return Ok(None);
    };
    let user =
        User::of_container(name, rootfs).ok_or_else(|| format!("there is no user `{name}`"))?;
    let user = user
        .reachable()
        .map_err(|why| format!("user `{name}`: {why}"))?;
    Ok(Some((user.uid, user.gid)))
}

/// Makes a sandbox that only its owner and root can look into; one that is there stays as it is.
/// Returns where it really is: no link leads there.
///
/// # Errors
/// The system's reason; [`io::ErrorKind::InvalidInput`] if somebody's link is on the way.
pub fn make(directory: &Path, owner: Option<(u32, u32)>) -> io::Result<PathBuf> {
    for _ in 0..PRUNED {
        match try_make(directory, owner) {
            // Whoever deletes what earlier containers left takes away directories that are empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    try_make(directory, owner)
}

fn try_make(directory: &Path, owner: Option<(u32, u32)>) -> io::Result<PathBuf> {
    match open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found.map(|(real, _)| real),
    }
    let (above, name) = last(directory)?;
    let (above, folder) = make_way(above)?;
    mkdirat(&folder, name, Mode::from_raw_mode(0o750))?;
    if let Some((uid, gid)) = owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(&folder, name, Some(uid), Some(gid), flags)?;
    }
    Ok(above.join(name))
}

/// Opens a directory, and tells where it really is: no link leads there.
///
/// # Errors
/// The system's reason; [`io::ErrorKind::InvalidInput`] if somebody's link is on the way.
pub fn open(directory: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    match reach(directory) {
        Ok(folder) => Ok((directory.to_owned(), folder)),
        Err(Errno::LOOP | Errno::NOTDIR) => {
            let real = follow(directory)?;
            let folder = reach(&real).map_err(|error| led_away(error, directory))?;
            Ok((real, folder))
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes a sandbox and all that is in it; one that is not there is fine.
///
/// # Errors
/// The system's reason; [`io::ErrorKind::InvalidInput`] if somebody's link is on the way.
pub fn remove(directory: &Path) -> io::Result<()> {
    let (above, name) = last(directory)?;
    let removed = open(above).and_then(|(_, folder)| {
        // The descriptor stays where it is, whatever becomes of the way to it.
        dcos_image::tree::remove_in(folder.as_fd(), name.as_ref())
    });
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Opens a directory and makes it, and those above it, if they are missing.
fn make_way(directory: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    match open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let (above, name) = last(directory)?;
    let (above, folder) = make_way(above)?;
    match mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
        Err(error) if error != Errno::EXIST => return Err(error.into()),
        _ => {}
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let made = openat2(&folder, name, flags, Mode::empty(), resolve);
    let made = made.map_err(|error| led_away(error, directory))?;
    Ok((above.join(name), made))
}

fn reach(directory: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(
        CWD,
        directory,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )
}

/// Where `path` leads over links of the operator.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut real = PathBuf::from("/");
    let mut ahead = names(path);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let folder = reach(&real).map_err(|error| led_away(error, path))?;
        match readlinkat(&folder, &name, Vec::new()) {
            Ok(target) => {
                links += 1;
                let link = statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                if links > MAX_LINKS || !is_trusted(&fstat(&folder)?, &link) {
                    return Err(led_away(Errno::LOOP, path));
                }
                let target = PathBuf::from(OsString::from(os(&target)));
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                let mut next = names(&target);
                next.append(&mut ahead);
                ahead = next;
            }
            // It is none.
            Err(Errno::INVAL) => real.push(name),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(real)
}

/// Whether nobody but root, or whoever we are, could have put this link into this folder.
fn is_trusted(folder: &Stat, link: &Stat) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let ours = |of: &Stat| of.st_uid == 0 || of.st_uid == own;
    let mode: RawMode = folder.st_mode;
    let others_write = mode & 0o022 != 0;
    let sticky = mode & 0o1000 != 0;
    ours(folder) && (!others_write || sticky && ours(link))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

fn os(bytes: &std::ffi::CStr) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes.to_bytes())
}

fn last(path: &Path) -> io::Result<(&Path, &std::ffi::OsStr)> {
    let parts = path.parent().zip(path.file_name());
    let nameless = || io::Error::new(io::ErrorKind::InvalidInput, "a directory has a name");
    parts.ok_or_else(nameless)
}

/// What to say of a path that must not be followed.
pub(crate) fn led_away(error: Errno, path: &Path) -> io::Error {
    match error {
        Errno::LOOP | Errno::NOTDIR => {
            let why = format!("a link or a file is on the way to {}", path.display());
            io::Error::new(io::ErrorKind::InvalidInput, why)
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn the_operators_links_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir(real.join("disk")).unwrap();
        symlink("disk", real.join("work")).unwrap();
        symlink(real.join("work/../work"), real.join("again")).unwrap();
        for name in ["work/a/b", "again/a/c"] {
            let made = make(&real.join(name), None).unwrap();
            assert!(made.starts_with(real.join("disk/a")), "{made:?}");
            assert!(made.is_dir());
            // What is there stays.
            fs::write(made.join("kept"), "").unwrap();
            assert_eq!(make(&real.join(name), None).unwrap(), made);
            assert!(made.join("kept").exists());
            remove(&real.join(name)).unwrap();
            assert!(!made.exists());
            remove(&real.join(name)).unwrap();
        }
        symlink("circle", real.join("circle")).unwrap();
        assert!(make(&real.join("circle/a"), None).is_err());
    }

    #[test]
    fn links_of_others_lead_nowhere() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can be led away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let (victim, theirs) = (real.join("victim"), real.join("theirs"));
        fs::create_dir_all(victim.join("id/below")).unwrap();
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(4242), Some(4242)).unwrap();
        symlink(&victim, theirs.join("containers")).unwrap();
        symlink("../victim", theirs.join("relative")).unwrap();
        for name in [
            "containers/new",
            "containers/id",
            "relative/new",
            "relative",
            "containers",
        ] {
            let path = theirs.join(name);
            for refused in [
                make(&path, Some((4242, 4242))).map(drop),
                open(&path).map(drop),
            ] {
                let kind = refused.unwrap_err().kind();
                assert_eq!(kind, io::ErrorKind::InvalidInput, "{name}");
            }
        }
        assert!(remove(&theirs.join("containers/id")).is_err());
        assert!(victim.join("id/below").exists());
        assert!(!victim.join("new").exists());
        // What a link of theirs leads to is never removed, only the link.
        fs::create_dir(theirs.join("real")).unwrap();
        symlink(&victim, theirs.join("real/link")).unwrap();
        remove(&theirs.join("real")).unwrap();
        assert!(victim.join("id/below").exists());
    }
}
