//! Going through folders that strangers filled: as deep as they like, and moved while one is there.
//!
//! A folder at a time is open, and nothing calls itself: the way back up is `..`, believed if it leads to the folder
//! one came from. What else would have to be known of a way is a name a level. However many folders lie in one, some
//! of their names are known at a time: the others are read when those are done.

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
    /// Deals with what is in a folder that was just entered, and names the folders in it that are to be entered:
    /// `room` of them at most, and where it goes on. From there on it is called again once those have been visited;
    /// at first `from` is 0.
    ///
    /// # Errors
    /// The walk ends with it.
    fn enter(&mut self, folder: BorrowedFd<'_>, from: i64, room: usize) -> io::Result<Part>;

    /// All below the folder `name` of `parent` has been visited.
    ///
    /// # Errors
    /// The walk ends with it.
    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()>;

    /// The folder `name` of `parent` cannot be entered, for it is gone, no folder any more, or a mount.
    ///
    /// # Errors
    /// The walk ends with it.
    fn pass(&mut self, parent: BorrowedFd<'_>, name: &CStr, error: Errno) -> io::Result<()>;
}

/// What was found in a folder.
#[derive(Debug, Default)]
pub struct Part {
    /// Folders that are to be entered.
    pub folders: Vec<CString>,
    /// Where there may be more, as [`Entry::offset`](rustix::fs::DirEntry::offset) says.
    pub rest: Option<i64>,
}

/// Names that are remembered of all folders on the way together: 16 MB at most, for names have 255 bytes.
const NAMES: usize = 1 << 16;
/// Names that each of them has room for, whatever the others take.
const FEW: usize = 16;

/// A folder on the way from the top to where one is.
struct Level {
    /// Its name in the one above.
    name: CString,
    identity: (u64, u64),
    /// What is in it and still to be entered.
    ahead: Part,
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
        ahead: visitor.enter(top, 0, NAMES)?,
    }];
    let names = |way: &[Level]| way.iter().map(|level| level.ahead.folders.len()).sum();
    let mut known: usize = names(&way);
    while let Some(level) = way.last_mut() {
        let room = NAMES.saturating_sub(known).max(FEW);
        if let Some(name) = level.ahead.folders.pop() {
            known -= 1;
            match below(here.as_fd(), &name) {
                Ok(folder) => {
                    let ahead = visitor.enter(folder.as_fd(), 0, room)?;
                    known += ahead.folders.len();
                    way.push(Level {
                        name,
                        identity: identity(folder.as_fd())?,
                        ahead,
                    });
                    here = folder;
                }
                Err(error) => visitor.pass(here.as_fd(), &name, error)?,
            }
            continue;
        }
        if let Some(from) = level.ahead.rest {
            level.ahead = visitor.enter(here.as_fd(), from, room)?;
            known += level.ahead.folders.len();
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
        } else {
            known = names(&way);
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

/// How often it is looked for what others put into a tree while it is being removed.
const PASSES: usize = 3;

/// Removes what is called `name` in `folder`, and if it is a folder all that is in it.
///
/// # Errors
/// The system's reason, [`io::ErrorKind::NotFound`] if there is nothing of that name; `EXDEV` if something is
/// mounted in it. All that can be removed is gone then.
pub fn remove_in(folder: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        // A folder, as Linux and as POSIX say it.
        Err(Errno::ISDIR | Errno::PERM) => {}
        removed => return Ok(removed?),
    }
    let top = openat(folder, name, FOLDER, Mode::empty())?;
    for pass in 1.. {
        let mut removing = Removing::default();
        walk(top.as_fd(), &mut removing)?;
        let removed = match removing.failed {
            None => unlinkat(folder, name, AtFlags::REMOVEDIR),
            Some(error) => Err(error),
        };
        if removed != Err(Errno::NOTEMPTY) || pass == PASSES {
            return Ok(removed?);
        }
    }
    unreachable!("there is a last pass");
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

/// Goes on past what cannot be removed.
#[derive(Default)]
struct Removing {
    /// The first reason, which is the innermost.
    failed: Option<Errno>,
}

impl Removing {
    fn note(&mut self, removed: Result<(), Errno>) {
        if let Err(error) = removed
            && error != Errno::NOENT
        {
            self.failed.get_or_insert(error);
        }
    }

    fn read(&mut self, folder: BorrowedFd<'_>, from: i64, room: usize) -> Result<Part, Errno> {
        let mut part = Part::default();
        let mut entries = Dir::read_from(folder)?;
        // Of what was named before nothing is left, and not every file system finds its place again after that.
        if from != 0 && self.failed.is_some() {
            entries.seek(from)?;
        }
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // Not every file system tells what an entry is.
            let removed = match entry.file_type() {
                FileType::Directory => Err(Errno::ISDIR),
                _ => unlinkat(folder, name, AtFlags::empty()),
            };
            if removed != Err(Errno::ISDIR) {
                self.note(removed);
                continue;
            }
            part.folders.push(name.to_owned());
            if part.folders.len() == room {
                part.rest = Some(entry.offset());
                break;
            }
        }
        Ok(part)
    }
}

impl Visitor for Removing {
    fn enter(&mut self, folder: BorrowedFd<'_>, from: i64, room: usize) -> io::Result<Part> {
        Ok(self.read(folder, from, room).unwrap_or_else(|error| {
            self.note(Err(error));
            Part::default()
        }))
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        self.note(unlinkat(parent, name, AtFlags::REMOVEDIR));
        Ok(())
    }

    fn pass(&mut self, parent: BorrowedFd<'_>, name: &CStr, error: Errno) -> io::Result<()> {
        self.note(match error {
            // Something else was put in its place.
            Errno::LOOP | Errno::NOTDIR => unlinkat(parent, name, AtFlags::empty()),
            error => Err(error),
        });
        Ok(())
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

    /// Removes, knows few folders at a time, and does something behind each that it entered.
    struct Meddling<F> {
        inner: Removing,
        room: usize,
        then: F,
    }

    impl<F: FnMut() -> io::Result<()>> Visitor for Meddling<F> {
        fn enter(&mut self, folder: BorrowedFd<'_>, from: i64, room: usize) -> io::Result<Part> {
            let part = self.inner.enter(folder, from, room.min(self.room))?;
            (self.then)()?;
            Ok(part)
        }

        fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
            self.inner.leave(parent, name)
        }

        fn pass(&mut self, parent: BorrowedFd<'_>, name: &CStr, error: Errno) -> io::Result<()> {
            self.inner.pass(parent, name, error)
        }
    }

    #[test]
    fn who_is_moved_out_of_the_tree_finds_back_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir_all(outside.join("beside")).unwrap();
        let folder = openat(CWD, &top, FOLDER, Mode::empty()).unwrap();
        let mut entered = 0;
        let mut mover = Meddling {
            inner: Removing::default(),
            room: usize::MAX,
            then: || {
                entered += 1;
                match entered {
                    // It is in that one.
                    3 => fs::rename(top.join("a/b"), outside.join("b")),
                    _ => Ok(()),
                }
            },
        };
        walk(folder.as_fd(), &mut mover).unwrap();
        assert!(outside.join("beside").is_dir() && outside.join("b").is_dir());
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
    }

    #[test]
    fn many_folders_are_gone_through_a_few_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, top) = (dir.path().join("kept"), dir.path().join("top"));
        fs::create_dir_all(kept.join("below")).unwrap();
        for number in 0..50 {
            fs::create_dir_all(top.join(format!("{number}/a/b"))).unwrap();
            fs::create_dir_all(top.join(format!("{number}/c"))).unwrap();
        }
        let folder = openat(CWD, &top, FOLDER, Mode::empty()).unwrap();
        // A link comes into the place of a folder that was named.
        let swap = |place: &Path| {
            let mut place = Some(place.to_owned());
            let kept = kept.clone();
            move || match place.take() {
                Some(place) => {
                    fs::remove_dir(&place)?;
                    std::os::unix::fs::symlink(&kept, place)
                }
                None => Ok(()),
            }
        };
        for link in ["0/link", "link"] {
            fs::create_dir_all(top.join(link)).unwrap();
            let mut swapper = Meddling {
                inner: Removing::default(),
                room: 3,
                then: swap(&top.join(link)),
            };
            walk(folder.as_fd(), &mut swapper).unwrap();
            assert_eq!(swapper.inner.failed, None);
            assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
        }
        assert!(kept.join("below").is_dir());
    }

    #[test]
    fn what_cannot_be_removed_keeps_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        for place in ["a", "held", "z"] {
            fs::create_dir_all(top.join(place).join("below")).unwrap();
        }
        let held = top.join("held");
        let flags = rustix::mount::MountFlags::empty();
        if let Err(error) = rustix::mount::mount("tmpfs", &held, "tmpfs", flags, None) {
            eprintln!("skipped: mounting takes root: {error}");
            return;
        }
        let removed = remove(&top);
        rustix::mount::unmount(&held, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(
            removed.unwrap_err().raw_os_error(),
            Some(Errno::XDEV.raw_os_error())
        );
        assert!(held.join("below").is_dir());
        assert_eq!(fs::read_dir(&top).unwrap().count(), 1);
    }
}
