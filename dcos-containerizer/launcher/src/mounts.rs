//! The container's file system: its root, mounts, devices, and what is hidden of it.
//!
//! Whatever comes from the host is opened as a detached mount first; then the root is changed;
//! then the rest happens inside. A link in the container's image can therefore lead nowhere but
//! into the container.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{
    CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, chownat, fstat, makedev, mknodat,
    open, openat2,
};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_bind_recursive, mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use crate::message::{Failure, Step};
use crate::plan::{Device, Mount, Plan};
use crate::report::At;
use crate::sys;

/// Flags of a mount that a bind can only take in a second step.
const REMOUNTED: u64 =
    libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_NOATIME;

/// Makes the file system of `plan` in this, new, mount namespace.
pub(crate) fn make(plan: &Plan) -> Result<(), Failure> {
    // What is shared with the host both ways has to be opened while it still is.
    let shared = plan
        .mounts
        .iter()
        .map(|wanted| match wanted.propagation & libc::MS_SHARED {
            0 => Ok(None),
            _ => open_source(wanted),
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Nothing else done here may reach the host; what the host mounts later may still come in.
    let host = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", host).at(Step::Root, "/")?;

    let sources = plan
        .mounts
        .iter()
        .zip(shared)
        .map(|(wanted, shared)| match shared {
            None => open_source(wanted),
            shared => Ok(shared),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let devices = plan
        .devices
        .iter()
        .map(|device| open_device(plan, device))
        .collect::<Vec<_>>();
    let mut nothing = Nothing::open(plan).at(Step::Mask, "/dev/null")?;
    if let Some(root) = &plan.root {
        change_root(&root.path).at(Step::Pivot, root.path.display())?;
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
        remount("/", MountFlags::RDONLY).at(Step::Root, "/")?;
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
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Self::of(&open(path, flags, Mode::empty())?, recursive)
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
        ensure(target, self.is_folder)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
            | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS
            | MoveMountFlags::MOVE_MOUNT_T_AUTOMOUNTS;
        Ok(move_mount(self.tree.as_fd(), "", CWD, target, flags)?)
    }
}

fn open_source(wanted: &Mount) -> Result<Option<Source>, Failure> {
    if !wanted.kind.is_empty() {
        return Ok(None);
    }
    let recursive = wanted.flags & libc::MS_REC != 0;
    let opened = if wanted.no_links {
        reach(&wanted.source).and_then(|place| Source::of(&place, recursive))
    } else {
        Source::open(&wanted.source, recursive)
    };
    opened.map(Some).at(Step::Mount, wanted.source.display())
}

/// What lies at an absolute path on which there is no link.
pub(crate) fn reach(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(openat2(
        CWD,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )?)
}

fn open_device(plan: &Plan, device: &Device) -> Option<Source> {
    // Nodes cannot be made from within a user namespace; the host's are bound instead.
    if plan.new.user {
        Source::open(&device.path, false).ok()
    } else {
        None
    }
}

fn change_root(root: &Path) -> io::Result<()> {
    // pivot_root wants a mount point; so does whoever remounts it read-only.
    mount_bind_recursive(root, root)?;
    chdir(root)?;
    // The new root is put over the old one, and the old one is taken away from below.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

fn attach(wanted: &Mount, source: Option<&Source>, strict: bool) -> io::Result<()> {
    let mut target = &wanted.target;
    let mounted;
    if let Some(source) = source {
        if strict {
            source.attach_at(&reach(target)?)?;
            mounted = format!("/proc/self/fd/{}", source.tree.as_raw_fd()).into();
            target = &mounted;
        } else {
            source.attach(target)?;
        }
        let flags = wanted.flags & REMOUNTED;
        if flags != 0 {
            remount(target, flags_of(flags))?;
        }
    } else {
        ensure(target, true)?;
        let data = std::ffi::CString::new(wanted.data.as_bytes())?;
        let data = (!wanted.data.is_empty()).then_some(data.as_c_str());
        mount(
            &wanted.source,
            target,
            wanted.kind.as_str(),
            flags_of(wanted.flags),
            data,
        )?;
    }
    if wanted.propagation != 0 {
        mount_change(
            target,
            MountPropagationFlags::from_bits_retain(low(wanted.propagation)),
        )?;
    }
    Ok(())
}

fn flags_of(flags: u64) -> MountFlags {
    MountFlags::from_bits_retain(low(flags))
}

/// `mount(2)` knows 32 flags.
fn low(flags: u64) -> u32 {
    u32::try_from(flags & u64::from(u32::MAX)).expect("masked")
}

fn remount(target: impl AsRef<Path>, flags: MountFlags) -> io::Result<()> {
    Ok(mount_remount(
        target.as_ref(),
        MountFlags::BIND | flags,
        "",
    )?)
}

/// Makes sure that there is something at `path` to mount onto.
fn ensure(path: &Path, folder: bool) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    if folder {
        return fs::create_dir_all(path);
    }
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    match File::options().write(true).create_new(true).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn make_device(device: &Device, host: Option<Source>) -> io::Result<()> {
    if let Some(host) = host {
        return host.attach(&device.path);
    }
    if let Some(folder) = device.path.parent() {
        fs::create_dir_all(folder)?;
    }
    let kind = if device.block {
        FileType::BlockDevice
    } else {
        FileType::CharacterDevice
    };
    let mode = Mode::from_bits_truncate(device.mode);
    match mknodat(
        CWD,
        &device.path,
        kind,
        mode,
        makedev(device.major, device.minor),
    ) {
        Ok(()) => {}
        // A root that brings its own nodes keeps them.
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    // The mask of this process has been applied.
    chmodat(CWD, &device.path, mode, rustix::fs::AtFlags::empty())?;
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        chownat(
            CWD,
            &device.path,
            Some(uid),
            Some(gid),
            rustix::fs::AtFlags::empty(),
        )?;
    }
    Ok(())
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
    sys::set_mount_attributes(source.tree.as_fd(), attributes)?;
    source.attach(path)
}

/// The host's `/dev/null`, to be put over files; the container may not have one.
enum Nothing<'a> {
    Unneeded,
    Fresh(Source),
    /// It was put here first, and is copied from here.
    At(&'a Path),
}

impl Nothing<'_> {
    fn open(plan: &Plan) -> io::Result<Self> {
        if plan.masked_paths.is_empty() {
            return Ok(Self::Unneeded);
        }
        Source::open(Path::new("/dev/null"), false).map(Self::Fresh)
    }
}

fn hide<'a>(path: &'a Path, nothing: &mut Nothing<'a>) -> io::Result<()> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.is_dir() => {
            return Ok(mount(
                "tmpfs",
                path,
                "tmpfs",
                MountFlags::RDONLY,
                c"size=0k",
            )?);
        }
        Ok(_) => {}
    }
    match nothing {
        Nothing::Unneeded => Ok(()),
        Nothing::At(place) => Source::open(place, false)?.attach(path),
        Nothing::Fresh(source) => {
            source.attach(path)?;
            *nothing = Nothing::At(path);
            Ok(())
        }
    }
}
