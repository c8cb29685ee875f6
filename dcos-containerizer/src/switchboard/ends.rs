//! Both ends of a container's streams, and the socket where lines arrive.

use std::fs::{self, File, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use dcos_launcher::short_name;
use dcos_proto::mesos::TtyInfo;
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, fstatfs, makedev, open, openat2};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Descriptors 0, 1 and 2 of a container.
pub(crate) type Streams = [File; 3];

/// The container's streams, and their other ends.
pub(crate) type Ends = (Streams, [OwnedFd; 3]);

/// A terminal, and its side three times; one of those that process `within` sees, where it has some of its own.
pub(crate) fn open_terminal(
    info: &TtyInfo,
    owner: Option<(u32, u32)>,
    within: Option<u32>,
) -> std::io::Result<Ends> {
    let master = match within.map(master_within) {
        Some(Ok(master)) => master,
        _ => openpt(FLAGS)?,
    };
    grantpt(&master)?;
    unlockpt(&master)?;
    let terminal = File::from(ioctl_tiocgptpeer(&master, FLAGS)?);
    if let Some((uid, _)) = owner {
        // Its group stays that of all terminals.
        fchown(&terminal, Some(uid), None)?;
    }
    if let Some(size) = &info.window_size {
        tcsetwinsize(&master, window(size.rows, size.columns))?;
    }
    let streams = [terminal.try_clone()?, terminal.try_clone()?, terminal];
    Ok((streams, [master.try_clone()?, master.try_clone()?, master]))
}

const FLAGS: OpenptFlags = OpenptFlags::RDWR
    .union(OpenptFlags::NOCTTY)
    .union(OpenptFlags::CLOEXEC);

/// Opens what makes the terminals that a process sees. They have names there, those of the node have none.
fn master_within(pid: u32) -> std::io::Result<OwnedFd> {
    let handle = OFlags::PATH | OFlags::CLOEXEC;
    let root = open(format!("/proc/{pid}/root"), handle, Mode::empty())?;
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let place = openat2(&root, "dev/pts/ptmx", handle, Mode::empty(), stay)?;
    // Whatever else somebody put there is not opened.
    if fstatfs(&place)?.f_type != DEVPTS || fstat(&place)?.st_rdev != makedev(5, 2) {
        return Err(Errno::NOTTY.into());
    }
    let place = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(open(place, flags, Mode::empty())?)
}

/// The file system of terminals (`linux/magic.h`).
const DEVPTS: i64 = 0x1cd1;

/// The name that a terminal has on the node.
pub(crate) fn name_of(terminal: &File) -> std::io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", terminal.as_raw_fd()))
}

fn window(rows: u32, columns: u32) -> Winsize {
    let cut = |number| u16::try_from(number).unwrap_or(u16::MAX);
    Winsize {
        ws_row: cut(rows),
        ws_col: cut(columns),
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Three pipes.
pub(crate) fn open_pipes(owner: Option<(u32, u32)>) -> std::io::Result<Ends> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let ((stdin, stdin_end), (stdout_end, stdout), (stderr_end, stderr)) =
        (pipe()?, pipe()?, pipe()?);
    let streams = [stdin, stdout, stderr].map(File::from);
    if let Some((uid, gid)) = owner {
        // Programs open `/dev/stdout` again, which the kernel checks like any file.
        for stream in &streams {
            fchown(stream, Some(uid), Some(gid))?;
        }
    }
    Ok((streams, [stdin_end, stdout_end, stderr_end]))
}

/// A new socket.
pub(crate) fn listen(folder: &Path) -> std::io::Result<(UnixListener, PathBuf)> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    loop {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let socket = folder.join(&random[..8]);
        let (_folder, short) = short_name(&socket)?;
        match UnixListener::bind(short) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            bound => return Ok((bound?, socket)),
        }
    }
}
