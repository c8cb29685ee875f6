//! Users and groups by name, from `etc/passwd` and `etc/group` below a root.
//!
//! The files are read, not the C library asked: a name means what it means inside the
//! container's image, and the C library knows only the host's.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use crate::rootless;

/// Users of the host that were found, as long as neither of its files changes.
#[derive(Debug, Default)]
struct Host {
    marks: [Option<Mark>; 2],
    users: HashMap<String, User>,
}

static HOST: LazyLock<Mutex<Host>> = LazyLock::new(Mutex::default);

/// So many are remembered.
const MANY: usize = 1024;

/// Tells one state of a file from another.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    inode: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Mark {
    fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self {
            inode: (data.dev(), data.ino()),
            size: data.size(),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

/// Where users and groups are, below a root.
const FILES: [&str; 2] = ["etc/passwd", "etc/group"];

/// Files of users larger than this are none: text of a hundred thousand of them has its place.
const MAX_FILE: u64 = 16 << 20;

/// A file below a root that a stranger may have made: its links lead where they would inside, and
/// what is no file, which could block or never end, is not even opened.
fn read(root: &Path, path: &str) -> io::Result<String> {
    let below = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, below, Mode::empty())?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // It has to be asked again if anything on the node was mounted or renamed while the way led over `..`.
    let mut tries = (0..128).map(|_| openat2(&root, path, flags, Mode::empty(), inside));
    let place = tries.find(|place| !matches!(place, Err(Errno::AGAIN)));
    let place = place.unwrap_or(Err(Errno::AGAIN))?;
    let found = fstat(&place)?;
    let size = u64::try_from(found.st_size).unwrap_or(u64::MAX);
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || size > MAX_FILE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let file = File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text)?;
    // Who a user is does not depend on how somebody else's full name is written.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

impl User {
    /// Finds `name` as a command's user: who it is on the host, as in Mesos, and else who it is in
    /// the container's root. A user that an image names is looked up in its root alone.
    ///
    /// What an image calls otherwise is not root: whoever asked was allowed to run as that name. Nor is
    /// anybody whom the image says while the host's users cannot be read.
    pub(crate) fn of_container(name: &str, rootfs: Option<&Path>) -> Option<Self> {
        Self::of(name, rootfs, Self::of_host(name))
    }

    fn of(name: &str, rootfs: Option<&Path>, host: io::Result<Option<Self>>) -> Option<Self> {
        match host {
            Ok(None) => {
                let inside = Self::find(name, rootfs?);
                inside.filter(|user| user.uid != 0 || name == "root")
            }
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "could not read the users of this host");
                None
            }
        }
    }

    /// Finds `name`, which is `user` or `user:group`, each a name or a number, below the root of an image.
    ///
    /// A number that no file knows is taken as it is, with group 0 as Docker does.
    pub(crate) fn find(name: &str, root: &Path) -> Option<Self> {
        let [passwd, group] = FILES.map(|path| read(root, path).unwrap_or_default());
        Self::lookup(name, &passwd, &group)
    }

    /// The same on the host, whose users are asked for at each launch, and hardly ever change.
    fn of_host(name: &str) -> io::Result<Option<Self>> {
        let root = Path::new("/");
        let read = |path| match read(root, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        let marks = FILES.map(|path| Mark::of(&root.join(path)));
        let mut known = HOST.lock().unwrap_or_else(PoisonError::into_inner);
        if known.marks != marks {
            let users = HashMap::new();
            *known = Host { marks, users };
        }
        if let Some(user) = known.users.get(name) {
            return Ok(Some(user.clone()));
        }
        let user = Self::lookup(name, &read(FILES[0])?, &read(FILES[1])?);
        // A number is one inside, such as an image's.
        let user = if Self::is_name(name) {
            user.map(Self::seen_here)
        } else {
            user
        };
        // Numbers that no file knows are many.
        if let Some(user) = user.as_ref().filter(|_| known.users.len() < MANY) {
            known.users.insert(name.to_owned(), user.clone());
        }
        Ok(user)
    }

    /// Who a user of the node is to this process: root, if that is whose it is and it entered a user namespace.
    fn seen_here(self) -> Self {
        if !rootless::is_own(self.uid) {
            return self;
        }
        Self {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        }
    }

    /// Takes from the groups those that nobody can have here.
    ///
    /// # Errors
    /// A text: it is nobody here, in the user namespace of this process.
    pub(crate) fn reachable(mut self) -> Result<Self, String> {
        let Some(own) = rootless::own() else {
            return Ok(self);
        };
        if !own.has(self.uid, self.gid) {
            return Err(own.missing(self.uid, self.gid));
        }
        self.groups.retain(|group| own.has_group(*group));
        Ok(self)
    }

    /// Whether `text` is a name, as those are that rights are given to: no number, and no
    /// `user:group`, both of which [`find`](Self::find) takes.
    pub(crate) fn is_name(text: &str) -> bool {
        !text.is_empty() && !text.contains(':') && text.parse::<u32>().is_err()
    }

    fn lookup(name: &str, passwd: &str, group: &str) -> Option<Self> {
        let (name, wanted_group) = match name.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (name, None),
        };
        let number = id(name);
        let entry = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| {
                fields.len() >= 4
                    && (fields[0] == name || number.is_some_and(|uid| fields[2] == uid.to_string()))
            });
        let (login, uid, gid) = match &entry {
            Some(fields) => (fields[0], id(fields[2])?, id(fields[3])?),
            None => ("", number?, 0),
        };
        let groups = || {
            group
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
        };
        if let Some(wanted) = wanted_group {
            let named = |fields: &Vec<&str>| fields.len() >= 3 && fields[0] == wanted;
            let gid = id(wanted).or_else(|| id(groups().find(named)?[2]))?;
            return Some(Self {
                uid,
                gid,
                groups: Vec::new(),
            });
        }
        let member = |fields: &Vec<&str>| {
            fields.len() >= 4 && !login.is_empty() && fields[3].split(',').any(|one| one == login)
        };
        let groups = groups()
            .filter(member)
            .filter_map(|fields| id(fields[2]))
            .collect();
        Some(Self { uid, gid, groups })
    }
}

/// An id that somebody can have; -1 means "as it is" to the kernel, which for who asks it is root.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\ndora:x:1002:1002:::\n";
    const GROUP: &str = "root:x:0:\nann:x:1001:\naudio:x:29:bob,ann,dora\nnone:x:4294967295:dora\n";

    fn check(name: &str, expected: Option<(u32, u32, &[u32])>) {
        let found = User::lookup(name, PASSWD, GROUP);
        let found = found
            .as_ref()
            .map(|user| (user.uid, user.gid, user.groups.as_slice()));
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn names_and_numbers_are_found() {
        check("root", Some((0, 0, &[])));
        check("ann", Some((1000, 1001, &[29])));
        check("1000", Some((1000, 1001, &[29])));
        check("4321", Some((4321, 0, &[])));
        check("ann:audio", Some((1000, 29, &[])));
        check("7:8", Some((7, 8, &[])));
        check("carl", None);
        check("ann:nobody", None);
        check("4294967295", None);
        check("ann:4294967295", None);
        check("dora", Some((1002, 1002, &[29])));
    }

    #[test]
    fn what_stands_for_somebody_by_number_is_no_name() {
        for name in ["root", "ann", "0x0", "-1", "www-data"] {
            assert!(User::is_name(name), "{name}");
        }
        for other in [
            "",
            "0",
            "00",
            "+0",
            "1000",
            "0:0",
            "root:root",
            "ann:audio",
            ":",
        ] {
            assert!(!User::is_name(other), "{other}");
        }
    }

    #[test]
    fn an_image_makes_nobody_root() {
        let image = tempfile::tempdir().unwrap();
        fs::create_dir(image.path().join("etc")).unwrap();
        // The kernel takes -1 for "as it is".
        let users = "no-root-here:x:0:0::/:/bin/sh\nno-such-user:x:1234:0::/:/bin/sh\n\
            as-it-is:x:4294967295:1::/:/bin/sh\nas-its-group:x:1234:4294967295::/:/bin/sh\n";
        fs::write(image.path().join("etc/passwd"), users).unwrap();
        let find = |name| User::of_container(name, Some(image.path())).map(|user| user.uid);
        assert_eq!(find("no-such-user"), Some(1234));
        assert_eq!(find("no-root-here"), None);
        assert_eq!(find("as-it-is"), None);
        assert_eq!(find("as-its-group"), None);
        assert_eq!(find("root"), Some(0));
    }

    /// A file of the host that cannot be read is no leave for the image to say who somebody is.
    #[test]
    fn an_image_stands_in_for_no_host_that_cannot_be_read() {
        let image = tempfile::tempdir().unwrap();
        fs::create_dir(image.path().join("etc")).unwrap();
        // With a name that is no UTF-8.
        let users = b"bob:x:2000:2000:J\xfcrgen::\nann:x:1234:5::/:/bin/sh\n";
        fs::write(image.path().join("etc/passwd"), users).unwrap();
        let of = |host| User::of("ann", Some(image.path()), host).map(|user| user.uid);
        assert_eq!(of(Ok(None)), Some(1234));
        assert_eq!(of(Err(io::ErrorKind::InvalidData.into())), None);
        let host = User::lookup("ann", PASSWD, GROUP);
        assert_eq!(of(Ok(host)), Some(1000));
    }

    #[test]
    fn an_images_files_lead_nowhere_and_are_bounded() {
        let image = tempfile::tempdir().unwrap();
        let etc = image.path().join("etc");
        fs::create_dir(&etc).unwrap();
        let passwd = etc.join("passwd");
        let find = |name| User::find(name, image.path()).map(|user| user.uid);
        // What would give the host's ids, never end, or wait for a writer.
        let host = tempfile::NamedTempFile::new().unwrap();
        fs::write(host.path(), PASSWD).unwrap();
        for target in [
            host.path(),
            Path::new("/dev/zero"),
            Path::new("/proc/1/root/etc/passwd"),
        ] {
            symlink(target, &passwd).unwrap();
            assert_eq!(find("ann"), None, "{}", target.display());
            fs::remove_file(&passwd).unwrap();
        }
        let kind = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, kind, Mode::from(0o644), 0).unwrap();
        assert_eq!(find("ann"), None);
        fs::remove_file(&passwd).unwrap();
        let long = File::create(&passwd).unwrap();
        long.set_len(1 << 40).unwrap();
        assert_eq!(find("ann"), None);
        fs::remove_file(&passwd).unwrap();
        // A link that stays inside is fine, as systemd's images have it.
        fs::create_dir_all(image.path().join("usr/lib")).unwrap();
        fs::write(image.path().join("usr/lib/passwd"), PASSWD).unwrap();
        symlink("/usr/lib/passwd", &passwd).unwrap();
        assert_eq!(find("ann"), Some(1000));
    }
}
