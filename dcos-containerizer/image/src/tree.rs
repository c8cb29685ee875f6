//! Going through folders that strangers filled: as deep as they like, and moved while one is there.
//!
//! A folder at a time is open, and nothing calls itself: the way back up is `..`, believed if it leads to the folder
//! one came from. What else would have to be known of a way is a name a level.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, unlinkat,
};
use rustix::io::Errno;

/// What is done with the folders of a tree.
pub trait Visitor {
    /// Deals with what is in a folder that was just entered, and names the folders in it that are to be entered.
    ///
    /// # Errors
    /// The walk ends with it.
    fn enter(&mut self, folder: BorrowedFd<'_>) -> io::Result<Vec<CString>>;

    /// All below the folder `name` of `parent` has been visited.
    ///
    /// # Errors
    /// The walk ends with it.
    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()>;

    /// A folder that was named cannot be entered, for it is gone, no folder any more, or a mount.
    ///
    /// # Errors
    /// The walk ends with it.
    fn pass(&mut self, error: Errno) -> io::Result<()>;
}

/// A folder on the way from the top to where one is.
struct Level {
    /// Its name in the one above.
    name: CString,
    identity: (u64, u64),
    /// Folders in it that are still to be entered.
    ahead: Vec<CString>,
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Visits `top` and all folders below it, each before those in it. No link is followed, no mount entered.
///
/// # Errors
/// The first of `visitor`, or the system's reason why `top` cannot be looked at.
pub fn walk(top: BorrowedFd<'_>, visitor: &mut impl Visitor) -> io::Result<()> {
    let mut here = top.try_clone_to_owned()?;
    let mut way = vec![Level {
        name: CString::default(),
        identity: identity(top)?,
        ahead: visitor.enter(top)?,
    }];
    while let Some(level) = way.last_mut() {
        if let Some(name) = level.ahead.pop() {
            match below(here.as_fd(), &name) {
                Ok(folder) => {
                    way.push(Level {
                        name,
                        identity: identity(folder.as_fd())?,
                        ahead: visitor.enter(folder.as_fd())?,
                    });
                    here = folder;
                }
                Err(error) => visitor.pass(error)?,
            }
            continue;
        }
        let done = way.pop().expect("there is a last one");
        if way.is_empty() {
            break;
        }
        let depth = way.len();
        here = back(top, here.as_fd(), &mut way)?;
        if way.len() == depth {
            visitor.leave(here.as_fd(), &done.name)?;
        }
    }
    Ok(())
}

fn below(folder: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(folder, name, FOLDER, Mode::empty(), resolve)
}

fn identity(folder: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let found = fstat(folder)?;
    Ok((found.st_dev, found.st_ino))
}

/// The last folder of `way`, coming from one that was in it. Where folders were moved meanwhile, the way is taken
/// again from the top, as far as it is still there; it is that long then.
fn back(top: BorrowedFd<'_>, here: BorrowedFd<'_>, way: &mut Vec<Level>) -> io::Result<OwnedFd> {
    let is = |folder: &OwnedFd, level: &Level| {
        identity(folder.as_fd()).is_ok_and(|found| found == level.identity)
    };
    if let (Ok(above), Some(last)) = (openat(here, c"..", FOLDER, Mode::empty()), way.last())
        && is(&above, last)
    {
        return Ok(above);
    }
    let mut folder = top.try_clone_to_owned()?;
    for depth in 1..way.len() {
        match below(folder.as_fd(), &way[depth].name) {
            Ok(next) if is(&next, &way[depth]) => folder = next,
            _ => {
                way.truncate(depth);
                break;
            }
        }
    }
    Ok(folder)
}

/// Removes what is called `name` in `folder`, and if it is a folder all that is in it.
///
/// # Errors
/// The system's reason, [`io::ErrorKind::NotFound`] if there is nothing of that name; `EXDEV` if something is
/// mounted in it. Some of it may be gone then.
pub fn remove_in(folder: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        // A folder, as Linux and as POSIX say it.
        Err(Errno::ISDIR | Errno::PERM) => {}
        removed => return Ok(removed?),
    }
    let top = openat(folder, name, FOLDER, Mode::empty())?;
    walk(top.as_fd(), &mut Removing)?;
    Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

/// As [`remove_in`], by its path; the way to it may lead over links.
///
/// # Errors
/// As those of [`remove_in`].
pub fn remove(path: &Path) -> io::Result<()> {
    let nameless = || io::Error::new(io::ErrorKind::InvalidInput, "what is removed has a name");
    let name = path.file_name().ok_or_else(nameless)?;
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, above, flags, Mode::empty())?;
    remove_in(folder.as_fd(), name.as_ref())
}

struct Removing;

impl Visitor for Removing {
    fn enter(&mut self, folder: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
        let mut folders = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                folders.push(name.to_owned());
                continue;
            }
            match unlinkat(folder, name, AtFlags::empty()) {
                // Not every file system tells what an entry is.
                Err(Errno::ISDIR) => folders.push(name.to_owned()),
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(folders)
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn pass(&mut self, error: Errno) -> io::Result<()> {
        match error {
            Errno::NOENT => Ok(()),
            error => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::mkdirat;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    /// Folders in each other below `top`, which no path could name; the innermost.
    fn deep(top: &Path, levels: usize) -> OwnedFd {
        let mut folder = openat(CWD, top, FOLDER, Mode::empty()).unwrap();
        for _ in 0..levels {
            mkdirat(&folder, c"d", Mode::RWXU).unwrap();
            folder = openat(&folder, c"d", FOLDER, Mode::empty()).unwrap();
        }
        folder
    }

    #[test]
    fn folders_may_be_deeper_than_there_are_descriptors() {
        let had = getrlimit(Resource::Nofile);
        let few = Some(had.current.map_or(256, |had| had.min(256)));
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: few,
                ..had
            },
        )
        .unwrap();
        // So many folders take a disk a while.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        let inner = deep(&top, 20_000);
        openat(&inner, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
        drop(inner);
        remove(&top).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_removed_and_not_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, top) = (dir.path().join("kept"), dir.path().join("top"));
        fs::create_dir_all(kept.join("below")).unwrap();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir_all(top.join("c")).unwrap();
        for place in ["link", "a/link", "a/b/link"] {
            std::os::unix::fs::symlink(&kept, top.join(place)).unwrap();
        }
        remove(&top.join("link")).unwrap();
        remove(&top).unwrap();
        assert!(kept.join("below").is_dir());
        assert!(!top.exists());
        assert_eq!(remove(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::write(&top, "").unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
    }

    /// Moves the folder one is in to somewhere else, once.
    struct Mover<'a> {
        from: &'a Path,
        to: &'a Path,
        entered: usize,
        inner: Removing,
    }

    impl Visitor for Mover<'_> {
        fn enter(&mut self, folder: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
            self.entered += 1;
            if self.entered == 3 {
                fs::rename(self.from, self.to)?;
            }
            self.inner.enter(folder)
        }

        fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
            self.inner.leave(parent, name)
        }

        fn pass(&mut self, error: Errno) -> io::Result<()> {
            self.inner.pass(error)
        }
    }

    #[test]
    fn who_is_moved_out_of_the_tree_finds_back_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir_all(outside.join("beside")).unwrap();
        let folder = openat(CWD, &top, FOLDER, Mode::empty()).unwrap();
        let mut mover = Mover {
            from: &top.join("a/b"),
            to: &outside.join("b"),
            entered: 0,
            inner: Removing,
        };
        walk(folder.as_fd(), &mut mover).unwrap();
        assert!(outside.join("beside").is_dir() && outside.join("b").is_dir());
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
    }
}
