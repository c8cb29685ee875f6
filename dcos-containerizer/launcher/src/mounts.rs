//! The container's file system: its root, mounts, devices, and what is hidden of it.
//!
//! Whatever is mounted is opened, or made by the kernel, as a detached mount first; then the root is
//! changed; then the rest happens inside. A link in the container's image can therefore lead nowhere
//! but into the container.
//!
//! Each mount may change where a link leads. So none may lead to what the kernel makes (`/proc`,
//! `/sys`, `/dev`), nor to what is hidden or read-only; and devices are made before anything is
//! bound that others can write to.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::sync::LazyLock;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, fstat, makedev, mkdirat, mknodat, open, openat2,
    stat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::message::{Failure, Step};
use crate::plan::{Device, Mount, Plan, Root};
use crate::report::At;
use crate::sys;

/// Flags of a mount, and the kernel's newer numbers.
const ATTRIBUTES: [(u64, u64); 5] = [
    (libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
    (libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
    (libc::MS_NODEV, libc::MOUNT_ATTR_NODEV),
    (libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    (libc::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
];

/// What has to be opened outside of a user namespace: in it nobody is root of the node any more.
pub(crate) struct Outside {
    root: Option<Source>,
    mounts: Vec<Option<Source>>,
}

impl Outside {
    pub(crate) fn open(plan: &Plan) -> Result<Self, Failure> {
        // Nothing that is mounted inside may come out; what the kernel makes is made there.
        let open = |wanted: &Mount| match (wanted.kind.as_str(), wanted.propagation) {
            ("", 0) => open_source(wanted, libc::MS_SLAVE).map(Some),
            ("", propagation) => open_source(wanted, propagation).map(Some),
            _ => Ok(None),
        };
        Ok(Self {
            root: open_root(plan)?,
            mounts: plan.mounts.iter().map(open).collect::<Result<_, _>>()?,
        })
    }
}

/// Makes the file system of `plan` in this, new, mount namespace.
pub(crate) fn make(plan: &Plan, outside: Option<Outside>) -> Result<(), Failure> {
    // What is shared with the host both ways has to be opened while it still is.
    let shared = plan
        .mounts
        .iter()
        .map(|wanted| match wanted.propagation & libc::MS_SHARED {
            0 => Ok(None),
            _ => open_source(wanted, wanted.propagation).map(Some),
        });
    let (root, sources) = match outside {
        Some(Outside { root, mounts }) => (root, mounts),
        None => (None, shared.collect::<Result<_, _>>()?),
    };
    // Nothing else done here may reach the host; what the host mounts later may still come in.
    let host = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", host).at(Step::Root, "/")?;
    let open = |(wanted, source): (&Mount, Option<Source>)| match source {
        Some(source) => Ok(source),
        None => open_source(wanted, wanted.propagation),
    };
    let sources = plan.mounts.iter().zip(sources).map(open);
    let sources: Vec<_> = sources.collect::<Result<_, _>>()?;
    let open = |device| open_device(plan, device);
    let devices: Vec<_> = plan.devices.iter().map(open).collect();
    let mut nothing = nothing()?;
    let root = root.map_or_else(|| open_root(plan), |root| Ok(Some(root)))?;
    if let Some(root) = &root {
        change_root(root).at(Step::Pivot, "its own")?;
    }
    let attach = |(wanted, source): (&Mount, &Source)| {
        attach(plan, wanted, source).at(Step::Mount, wanted.target.display())
    };
    let made = (plan.mounts.iter()).rposition(|wanted| !wanted.kind.is_empty());
    let made = made.map_or(0, |last| last + 1);
    let mut mounts = plan.mounts.iter().zip(&sources);
    mounts.by_ref().take(made).try_for_each(attach)?;
    for (device, host) in plan.devices.iter().zip(devices) {
        make_device(device, host).at(Step::Devices, device.path.display())?;
    }
    for link in &plan.links {
        match symlink(&link.target, &link.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.at(Step::Devices, link.path.display())?,
        }
    }
    mounts.try_for_each(attach)?;
    for path in &plan.readonly_paths {
        if_there(path, make_readonly).at(Step::Mask, path.display())?;
    }
    for path in &plan.masked_paths {
        let hide = |place: &OwnedFd| hide(place, &mut nothing);
        if_there(path, hide).at(Step::Mask, path.display())?;
    }
    if plan.root.as_ref().is_some_and(|root| root.readonly) {
        mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "").at(Step::Root, "/")?;
    }
    Ok(())
}

/// What is mounted, while it is nowhere yet.
struct Source(OwnedFd);

impl Source {
    fn open(path: &Path, recursive: bool) -> io::Result<Self> {
        Self::of(&open(path, HANDLE, Mode::empty())?, recursive)
    }

    fn of(place: &OwnedFd, recursive: bool) -> io::Result<Self> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        Ok(Self(open_tree(place, "", flags)?))
    }

    /// What the kernel makes of a file system.
    fn make(wanted: &Mount) -> io::Result<Self> {
        let context = fsopen(&wanted.kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", &wanted.source)?;
        for option in wanted.data.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some((key, value)) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, option)?,
            }
        }
        fsconfig_create(&context)?;
        let (flags, none) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
        Ok(Self(fsmount(&context, flags, none)?))
    }

    /// Attaches it where no link leads to; the path is never looked up again, since somebody may
    /// change it meanwhile.
    fn attach_at(&self, place: &OwnedFd) -> io::Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(&self.0, "", place, "", flags)?)
    }

    fn attach(&self, target: &Path, look: Look) -> io::Result<()> {
        let place = ensure(target, is_folder(&self.0)?, look)?;
        let (top, found) = (stat("/")?, fstat(&place)?);
        if (top.st_dev, top.st_ino) == (found.st_dev, found.st_ino) {
            // Only who enters the container later would have it as root.
            return Err(Errno::BUSY.into());
        }
        self.attach_at(&place)
    }
}

fn is_folder(place: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(place)?.st_mode).is_dir())
}

/// Opens what is mounted, and gives it all it is to have while nobody can reach it.
fn open_source(wanted: &Mount, propagation: u64) -> Result<Source, Failure> {
    let recursive = wanted.flags & libc::MS_REC != 0;
    let is_bind = wanted.kind.is_empty();
    let Mount { source, target, .. } = wanted;
    let name = if is_bind { source } else { target };
    let opened = match wanted.no_links {
        _ if !is_bind => Source::make(wanted),
        true => reach(name).and_then(|place| Source::of(&place, recursive)),
        false => Source::open(name, recursive),
    };
    let source = opened.at(Step::Mount, name.display())?;
    let tree = source.0.as_fd();
    let known = ATTRIBUTES
        .iter()
        .filter(|(flag, _)| wanted.flags & flag != 0);
    let attributes = known.fold(0, |all, (_, attribute)| all | attribute);
    if attributes != 0 || propagation != 0 {
        sys::set_mount_attributes(tree, attributes, propagation & !libc::MS_REC, None)
            .at(Step::Mount, name.display())?;
    }
    if let Some(ids) = &wanted.ids {
        File::open(ids)
            .and_then(|ids| sys::set_mount_attributes(tree, 0, 0, Some(ids.as_fd())))
            .at(Step::IdMaps, wanted.source.display())?;
    }
    Ok(source)
}

/// What lies at an absolute path on which there is no link.
pub(crate) fn reach(path: &Path) -> io::Result<OwnedFd> {
    let (mode, resolve) = (Mode::empty(), ResolveFlags::NO_SYMLINKS);
    Ok(openat2(CWD, path, HANDLE, mode, resolve)?)
}

/// Whether the launcher itself is in a user namespace.
pub(crate) static IN_USER_NAMESPACE: LazyLock<bool> = LazyLock::new(|| {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().ne(["0", "0", "4294967295"])
});

fn open_device(plan: &Plan, device: &Device) -> Option<Source> {
    // Nodes cannot be made from within a user namespace; the host's are bound instead.
    let open = || Source::open(&device.path, false);
    (plan.new.user || *IN_USER_NAMESPACE).then(open)?.ok()
}

fn open_root(plan: &Plan) -> Result<Option<Source>, Failure> {
    let whole = |root: &Root| Mount {
        source: root.path.clone(),
        flags: libc::MS_REC,
        ..Mount::default()
    };
    let whole = plan.root.as_ref().map(whole);
    let open = |whole| open_source(&whole, libc::MS_SLAVE);
    whole.map(open).transpose()
}

fn change_root(root: &Source) -> io::Result<()> {
    let top = open("/", HANDLE, Mode::empty())?;
    root.attach_at(&top)?;
    fchdir(&root.0)?;
    // The new root was put over the old one, and the old one is taken away from below.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

fn attach(plan: &Plan, wanted: &Mount, source: &Source) -> io::Result<()> {
    let own_root = plan.root.is_some();
    if wanted.no_links && !own_root {
        return source.attach_at(&reach(&wanted.target)?);
    }
    let plain = own_root && !wanted.kind.is_empty();
    source.attach(&wanted.target, if plain { reach } else { inside })
}

/// How to find what there is at a path: [`reach`], [`inside`].
type Look = fn(&Path) -> io::Result<OwnedFd>;

/// Opens what there is at `path` inside to mount onto, as `look` finds it; what is missing is made, with the
/// folders above it.
fn ensure(path: &Path, is_folder: bool, look: Look) -> io::Result<OwnedFd> {
    let (mut known, mut missing) = (path, Vec::new());
    let mut place = loop {
        match look(known) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => break found?,
        }
        let (Some(above), Some(name)) = (known.parent(), known.file_name()) else {
            return Err(Errno::INVAL.into());
        };
        missing.push(name);
        known = above;
    };
    while let Some(name) = missing.pop() {
        let made = if is_folder || !missing.is_empty() {
            mkdirat(&place, name, Mode::from(0o755))
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            openat2(&place, name, flags, Mode::from(0o644), HERE).map(drop)
        };
        made.or_else(|error| (error == Errno::EXIST).then_some(()).ok_or(error))?;
        place = openat2(&place, name, HANDLE, Mode::empty(), HERE)?;
    }
    Ok(place)
}

/// A folder inside, made with those above it if it is missing.
pub(crate) fn folder(path: &Path) -> io::Result<OwnedFd> {
    ensure(path, true, inside)
}

/// Only to say where something is.
const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Links are not followed.
const HERE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// What lies at a path inside. Links of the container's lead on inside; those that the kernel has in `/proc` lead
/// nowhere, since they would out of it: process 1 may be somebody else's.
fn inside(path: &Path) -> io::Result<OwnedFd> {
    let top = open("/", HANDLE, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // It has to be asked again if anything on the node was mounted or renamed while the way led over `..`.
    let mut tries = (0..128).map(|_| openat2(&top, path, HANDLE, Mode::empty(), resolve));
    let opened = tries.find(|opened| !matches!(opened, Err(Errno::AGAIN)));
    Ok(opened.unwrap_or(Err(Errno::AGAIN))?)
}

fn make_device(device: &Device, host: Option<Source>) -> io::Result<()> {
    if let Some(host) = host {
        return host.attach(&device.path, inside);
    }
    if let Some(above) = device.path.parent() {
        folder(above)?;
    }
    let kinds = [FileType::CharacterDevice, FileType::BlockDevice];
    let kind = kinds[usize::from(device.block)];
    let mode = Mode::from_bits_truncate(device.mode);
    let number = makedev(device.major, device.minor);
    match mknodat(CWD, &device.path, kind, mode, number) {
        Ok(()) => {}
        // A root that brings its own nodes keeps them.
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    // The mask of this process has been applied.
    fs::set_permissions(&device.path, Permissions::from_mode(device.mode))?;
    lchown(&device.path, Some(device.uid), Some(device.gid))
}

/// For what is to be hidden or kept as it is. Behind a link it would be left as it is elsewhere.
fn if_there(path: &Path, then: impl FnOnce(&OwnedFd) -> io::Result<()>) -> io::Result<()> {
    match reach(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        found => then(&found?),
    }
}

/// Nothing below `place` can be written, executed or opened as a device, whatever is mounted there.
fn make_readonly(place: &OwnedFd) -> io::Result<()> {
    let source = Source::of(place, true)?;
    let attributes = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    // While it is nowhere yet: there is no moment at which it can be written.
    sys::set_mount_attributes(source.0.as_fd(), attributes, 0, None)?;
    source.attach_at(place)
}

/// What things are hidden by: files by the host's `/dev/null`, since the container may not have one, folders by an
/// empty file system.
fn nothing() -> Result<[Source; 2], Failure> {
    let open = |source: &str, kind: &str, flags| {
        let wanted = Mount {
            source: source.into(),
            kind: kind.into(),
            flags,
            ..Mount::default()
        };
        open_source(&wanted, 0)
    };
    Ok([
        open("/dev/null", "", 0)?,
        open("tmpfs", "tmpfs", libc::MS_RDONLY)?,
    ])
}

fn hide(place: &OwnedFd, nothing: &mut [Source; 2]) -> io::Result<()> {
    let nothing = &mut nothing[usize::from(is_folder(place)?)];
    nothing.attach_at(place)?;
    // It is in one place only; the next is hidden by a copy.
    *nothing = Source::of(&nothing.0, false)?;
    Ok(())
}
