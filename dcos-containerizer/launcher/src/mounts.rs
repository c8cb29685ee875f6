//! The container's file system: its root, mounts, devices, and what is hidden of it.
//!
//! Whatever comes from the host is opened as a detached mount first; then the root is changed;
//! then the rest happens inside. A link in the container's image can therefore lead nowhere but
//! into the container.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, fstat, makedev, mkdirat, mknodat, open, openat2,
};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_bind_recursive, mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::message::{Failure, Step};
use crate::plan::{Device, Mount, Plan};
use crate::report::At;
use crate::sys;

/// Flags of a mount that a bind can only take in a second step, and the kernel's newer numbers.
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
        // Nothing that is mounted inside may come out.
        let slave = |wanted: &Mount| match wanted.propagation {
            0 => libc::MS_SLAVE,
            propagation => propagation,
        };
        let mounts = plan.mounts.iter();
        let mounts = mounts.map(|wanted| open_source(wanted, slave(wanted)));
        let mut opened = Self {
            root: None,
            mounts: mounts.collect::<Result<_, _>>()?,
        };
        if let Some(root) = &plan.root {
            let whole = Mount {
                source: root.path.clone(),
                flags: libc::MS_REC,
                ..Mount::default()
            };
            opened.root = open_source(&whole, libc::MS_SLAVE)?;
        }
        Ok(opened)
    }
}

/// Makes the file system of `plan` in this, new, mount namespace.
pub(crate) fn make(plan: &Plan, outside: Option<Outside>) -> Result<(), Failure> {
    // What is shared with the host both ways has to be opened while it still is.
    let shared = |wanted: &Mount| match wanted.propagation & libc::MS_SHARED {
        0 => Ok(None),
        _ => open_source(wanted, wanted.propagation),
    };
    let (root, mut sources) = match outside {
        Some(Outside { root, mounts }) => (root, mounts),
        None => (
            None,
            plan.mounts.iter().map(shared).collect::<Result<_, _>>()?,
        ),
    };
    // Nothing else done here may reach the host; what the host mounts later may still come in.
    let host = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", host).at(Step::Root, "/")?;
    for (wanted, source) in plan.mounts.iter().zip(&mut sources) {
        if source.is_none() {
            *source = open_source(wanted, wanted.propagation)?;
        }
    }
    let open = |device| open_device(plan, device);
    let devices: Vec<_> = plan.devices.iter().map(open).collect();
    let mut nothing = Nothing::open(plan).at(Step::Mask, "/dev/null")?;
    if let Some(wanted) = &plan.root {
        change_root(&wanted.path, root.as_ref()).at(Step::Pivot, wanted.path.display())?;
    }
    for (wanted, source) in plan.mounts.iter().zip(sources) {
        let strict = wanted.no_links && plan.root.is_none();
        attach(wanted, source.as_ref(), strict).at(Step::Mount, wanted.target.display())?;
    }
    for (device, host) in plan.devices.iter().zip(devices) {
        make_device(device, host).at(Step::Devices, device.path.display())?;
    }
    for link in &plan.links {
        match symlink(&link.target, &link.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.at(Step::Devices, link.path.display())?,
        }
    }
    for path in &plan.readonly_paths {
        make_readonly(path).at(Step::Mask, path.display())?;
    }
    for path in &plan.masked_paths {
        hide(path, &mut nothing).at(Step::Mask, path.display())?;
    }
    if plan.root.as_ref().is_some_and(|root| root.readonly) {
        mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "").at(Step::Root, "/")?;
    }
    if root.is_some() {
        leave_old_root().at(Step::Pivot, "the old root")?;
    }
    Ok(())
}

/// What a bind brings in, detached from where it is.
struct Source {
    tree: OwnedFd,
    is_folder: bool,
}

impl Source {
    fn open(path: &Path, recursive: bool) -> io::Result<Self> {
        Self::of(&open(path, HANDLE, Mode::empty())?, recursive)
    }

    fn of(place: &OwnedFd, recursive: bool) -> io::Result<Self> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        Ok(Self {
            is_folder: FileType::from_raw_mode(fstat(place)?.st_mode).is_dir(),
            tree: open_tree(place, "", flags)?,
        })
    }

    /// Attaches it where no link leads to; the path is never looked up again, since somebody may
    /// change it meanwhile.
    fn attach_at(&self, place: &OwnedFd) -> io::Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(self.tree.as_fd(), "", place, "", flags)?)
    }

    fn attach(&self, target: &Path) -> io::Result<()> {
        self.attach_at(&ensure(target, self.is_folder)?)
    }
}

/// Opens what is bound, and gives it all it is to have while nobody can reach it.
fn open_source(wanted: &Mount, propagation: u64) -> Result<Option<Source>, Failure> {
    if !wanted.kind.is_empty() {
        return Ok(None);
    }
    let recursive = wanted.flags & libc::MS_REC != 0;
    let opened = if wanted.no_links {
        reach(&wanted.source).and_then(|place| Source::of(&place, recursive))
    } else {
        Source::open(&wanted.source, recursive)
    };
    let source = opened.at(Step::Mount, wanted.source.display())?;
    let tree = source.tree.as_fd();
    let known = ATTRIBUTES
        .iter()
        .filter(|(flag, _)| wanted.flags & flag != 0);
    let attributes = known.fold(0, |all, (_, attribute)| all | attribute);
    if attributes != 0 || propagation != 0 {
        sys::set_mount_attributes(tree, attributes, propagation & !libc::MS_REC, None)
            .at(Step::Mount, wanted.source.display())?;
    }
    if let Some(ids) = &wanted.ids {
        File::open(ids)
            .and_then(|ids| sys::set_mount_attributes(tree, 0, 0, Some(ids.as_fd())))
            .at(Step::IdMaps, wanted.source.display())?;
    }
    Ok(Some(source))
}

/// What lies at an absolute path on which there is no link.
pub(crate) fn reach(path: &Path) -> io::Result<OwnedFd> {
    let (mode, resolve) = (Mode::empty(), ResolveFlags::NO_SYMLINKS);
    Ok(openat2(CWD, path, HANDLE, mode, resolve)?)
}

fn open_device(plan: &Plan, device: &Device) -> Option<Source> {
    // Nodes cannot be made from within a user namespace; the host's are bound instead.
    let open = || Source::open(&device.path, false);
    plan.new.user.then(open)?.ok()
}

fn change_root(root: &Path, tree: Option<&Source>) -> io::Result<()> {
    if let Some(tree) = tree {
        let top = open("/", HANDLE, Mode::empty())?;
        tree.attach_at(&top)?;
        fchdir(&tree.tree)?;
    } else {
        // pivot_root wants a mount point; so does whoever remounts it read-only.
        mount_bind_recursive(root, root)?;
        chdir(root)?;
    }
    // The new root is put over the old one, and the old one is taken away from below. In a user
    // namespace that has to wait: the kernel lets `/proc` be mounted only while one can be seen.
    pivot_root(".", ".")?;
    match tree {
        None => leave_old_root(),
        Some(_) => Ok(()),
    }
}

fn leave_old_root() -> io::Result<()> {
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

fn attach(wanted: &Mount, source: Option<&Source>, strict: bool) -> io::Result<()> {
    let target = &wanted.target;
    match source {
        Some(source) if strict => return source.attach_at(&reach(target)?),
        Some(source) => return source.attach(target),
        // Nobody is inside yet who could change the way there.
        None => drop(folder(target)?),
    }
    let data = std::ffi::CString::new(wanted.data.as_bytes())?;
    let data = (!wanted.data.is_empty()).then_some(data.as_c_str());
    let kind = wanted.kind.as_str();
    let flags = MountFlags::from_bits_retain(low(wanted.flags));
    mount(&wanted.source, target, kind, flags, data)?;
    if wanted.propagation != 0 {
        let propagation = MountPropagationFlags::from_bits_retain(low(wanted.propagation));
        mount_change(target, propagation)?;
    }
    Ok(())
}

/// `mount(2)` knows 32 flags.
fn low(flags: u64) -> u32 {
    u32::try_from(flags & u64::from(u32::MAX)).expect("masked")
}

/// Opens what there is at `path` inside to mount onto; what is missing is made, with the folders above it.
fn ensure(path: &Path, is_folder: bool) -> io::Result<OwnedFd> {
    match inside(path) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let above = folder(above)?;
    let made = if is_folder {
        mkdirat(&above, name, Mode::from(0o755))
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat2(&above, name, flags, Mode::from(0o644), HERE).map(drop)
    };
    made.or_else(|error| (error == Errno::EXIST).then_some(()).ok_or(error))?;
    Ok(openat2(&above, name, HANDLE, Mode::empty(), HERE)?)
}

/// A folder inside, made with those above it if it is missing.
pub(crate) fn folder(path: &Path) -> io::Result<OwnedFd> {
    ensure(path, true)
}

/// Only to say where something is.
const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Links are not followed.
const HERE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// What lies at a path inside. Links of the container's lead on inside; those that the kernel has in `/proc` lead
/// nowhere, since they would out of it: process 1 may be somebody else's.
fn inside(path: &Path) -> rustix::io::Result<OwnedFd> {
    let top = open("/", HANDLE, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // It has to be asked again if anything on the node was mounted or renamed while the way led over `..`.
    let mut tries = (0..128).map(|_| openat2(&top, path, HANDLE, Mode::empty(), resolve));
    let opened = tries.find(|opened| !matches!(opened, Err(Errno::AGAIN)));
    opened.unwrap_or(Err(Errno::AGAIN))
}

fn make_device(device: &Device, host: Option<Source>) -> io::Result<()> {
    if let Some(host) = host {
        return host.attach(&device.path);
    }
    if let Some(above) = device.path.parent() {
        folder(above)?;
    }
    let kind = if device.block {
        FileType::BlockDevice
    } else {
        FileType::CharacterDevice
    };
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

/// Nothing below `path` can be written, executed or opened as a device, whatever is mounted there.
fn make_readonly(path: &Path) -> io::Result<()> {
    let source = match Source::open(path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let attributes = libc::MOUNT_ATTR_RDONLY
        | libc::MOUNT_ATTR_NOSUID
        | libc::MOUNT_ATTR_NODEV
        | libc::MOUNT_ATTR_NOEXEC;
    // While it is nowhere yet: there is no moment at which it can be written.
    sys::set_mount_attributes(source.tree.as_fd(), attributes, 0, None)?;
    source.attach(path)
}

/// What things are hidden by: files by the host's `/dev/null`, since the container may not have one, folders by an
/// empty file system. It is put over the first of each kind, and copied from there.
#[derive(Default)]
struct Nothing<'a> {
    null: Option<Source>,
    file: Option<&'a Path>,
    folder: Option<&'a Path>,
}

impl Nothing<'_> {
    fn open(plan: &Plan) -> io::Result<Self> {
        let null = || Source::open(Path::new("/dev/null"), false);
        let null = (!plan.masked_paths.is_empty()).then(null).transpose()?;
        Ok(Self {
            null,
            ..Self::default()
        })
    }
}

fn hide<'a>(path: &'a Path, nothing: &mut Nothing<'a>) -> io::Result<()> {
    let is_folder = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?.is_dir(),
    };
    let place = if is_folder {
        &mut nothing.folder
    } else {
        &mut nothing.file
    };
    let (flags, empty) = (MountFlags::RDONLY, c"size=0k");
    match place.replace(path) {
        Some(first) => Source::open(first, false)?.attach(path),
        None if is_folder => Ok(mount("tmpfs", path, "tmpfs", flags, empty)?),
        None => nothing.null.iter().try_for_each(|null| null.attach(path)),
    }
}
