//! What the kernel is asked of project quotas: the id of a file, and the usage and limits of an id.
//!
//! quotactl(2) is one for XFS and ext4: both answer the calls that once were the other's. It is asked by a
//! descriptor (Linux 5.14), so that no device has to be found.

#![expect(
    unsafe_code,
    reason = "quotactl_fd(2), and the two ioctls of a file's project, and nothing else"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What a file system does about projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// It counts.
    pub(super) counts: bool,
    /// It enforces limits.
    pub(super) enforces: bool,
}

/// What is counted of a project, and where it ends; bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) used: u64,
    /// 0 for none.
    pub(super) soft: u64,
    /// 0 for none.
    pub(super) hard: u64,
}

/// Whether the file system of `file` has project quotas.
pub(super) fn state(file: impl AsFd) -> io::Result<State> {
    // `struct fs_quota_statv`, of which the first word is wanted: version, padding, flags.
    let mut answer = [0_u64; 32];
    answer[0] = u64::from_ne_bytes([STATV_VERSION, 0, 0, 0, 0, 0, 0, 0]);
    control(file.as_fd(), Q_XGETQSTATV, 0, &mut answer)?;
    let bytes = answer[0].to_ne_bytes();
    let flags = u16::from_ne_bytes([bytes[2], bytes[3]]);
    Ok(State {
        counts: flags & PROJECTS_COUNTED != 0,
        enforces: flags & PROJECTS_ENFORCED != 0,
    })
}

/// Has the file system of `file`, which counts, enforce limits.
pub(super) fn enforce(file: impl AsFd) -> io::Result<()> {
    let mut flags = u32::from(PROJECTS_COUNTED | PROJECTS_ENFORCED);
    match control(file.as_fd(), Q_XQUOTAON, 0, &mut flags) {
        // It does.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// What is counted of a project on the file system of `file`.
pub(super) fn quota(file: impl AsFd, id: u32) -> io::Result<Quota> {
    let mut block = Block::default();
    match control(file.as_fd(), Q_GETQUOTA, id, &mut block) {
        Ok(()) => Ok(Quota {
            used: block.used,
            soft: block.soft.saturating_mul(UNIT),
            hard: block.hard.saturating_mul(UNIT),
        }),
        // Nothing ever was in it.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Quota::default()),
        Err(error) => Err(error),
    }
}

/// The projects of which the file system of `file` counts anything, be it an empty folder.
pub(super) fn counted(file: impl AsFd) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    let mut next = Some(1);
    while let Some(from) = next {
        let mut block = Block::default();
        match control(file.as_fd(), Q_GETNEXTQUOTA, from, &mut block) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            found => found?,
        }
        if block.used > 0 || block.files_used > 0 {
            ids.push(block.id);
        }
        next = block.id.checked_add(1);
    }
    Ok(ids)
}

/// Bounds a project on the file system of `file`; 0 for no bound.
pub(super) fn set_limits(file: impl AsFd, id: u32, soft: u64, hard: u64) -> io::Result<()> {
    let mut block = Block {
        soft: soft.div_ceil(UNIT),
        hard: hard.div_ceil(UNIT),
        valid: LIMITS_OF_SPACE,
        ..Block::default()
    };
    control(file.as_fd(), Q_SETQUOTA, id, &mut block)
}

/// The project of a file; 0 if it has none.
pub(super) fn project(file: impl AsFd) -> io::Result<u32> {
    Ok(attributes(file.as_fd())?.project)
}

/// Gives a file to a project, and if it is a folder all that will be made in it.
pub(super) fn set_project(file: impl AsFd, id: u32, is_folder: bool) -> io::Result<()> {
    let mut attributes = attributes(file.as_fd())?;
    let flags = if is_folder { INHERITED } else { 0 };
    if attributes.project == id && attributes.flags & flags == flags {
        return Ok(());
    }
    attributes.project = id;
    attributes.flags |= flags;
    // SAFETY: the descriptor is open during the call, which reads a `struct fsxattr`: `attributes` is one.
    let done = unsafe {
        libc::ioctl(
            file.as_fd().as_raw_fd(),
            FS_IOC_FSSETXATTR,
            &raw const attributes,
        )
    };
    done_or_error(done.into())
}

fn attributes(file: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the descriptor is open during the call, which fills in a `struct fsxattr`: `attributes` is one,
    // and any bits make a valid one.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) };
    done_or_error(done.into()).map(|()| attributes)
}

/// Types that a command of quotactl may read and fill in: plain numbers, for which any bits are valid.
trait Argument {}
/// At least a `struct fs_quota_statv`, which has 160 bytes.
impl Argument for [u64; 32] {}
impl Argument for u32 {}
impl Argument for Block {}

fn control(
    file: BorrowedFd<'_>,
    command: u32,
    id: u32,
    argument: &mut impl Argument,
) -> io::Result<()> {
    // SAFETY: the descriptor is open during the call. What a command reads and fills in is no larger than the
    // `Argument` it is called with: `fs_quota_statv` for Q_XGETQSTATV, a word for Q_XQUOTAON, `if_nextdqblk` or
    // its beginning for the others.
    let done = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_raw_fd(),
            (command << 8) | PROJECTS,
            id,
            std::ptr::from_mut(argument),
        )
    };
    done_or_error(done)
}

fn done_or_error(done: libc::c_long) -> io::Result<()> {
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `struct if_nextdqblk`, of which all but the id is `struct if_dqblk`: limits in units, what is used in bytes.
#[repr(C)]
#[derive(Default)]
struct Block {
    hard: u64,
    soft: u64,
    used: u64,
    files_hard: u64,
    files_soft: u64,
    files_used: u64,
    grace: u64,
    files_grace: u64,
    valid: u32,
    id: u32,
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copied_extent_size: u32,
    padding: [u8; 8],
}

// `linux/quota.h`, `linux/dqblk_xfs.h`, `linux/fs.h`.
const PROJECTS: u32 = 2;
const Q_GETQUOTA: u32 = 0x0080_0007;
const Q_SETQUOTA: u32 = 0x0080_0008;
const Q_GETNEXTQUOTA: u32 = 0x0080_0009;
const Q_XQUOTAON: u32 = (b'X' as u32) << 8 | 1;
const Q_XGETQSTATV: u32 = (b'X' as u32) << 8 | 8;
const STATV_VERSION: u8 = 1;
const PROJECTS_COUNTED: u16 = 1 << 4;
const PROJECTS_ENFORCED: u16 = 1 << 5;
/// `QIF_BLIMITS`
const LIMITS_OF_SPACE: u32 = 1;
/// `QIF_DQBLKSIZE`
const UNIT: u64 = 1024;
const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820;
/// `FS_XFLAG_PROJINHERIT`
const INHERITED: u32 = 0x200;
