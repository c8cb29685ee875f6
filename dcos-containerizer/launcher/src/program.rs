//! The program around the loop: arguments, lock, socket, background.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, set_child_subreaper, setsid};

use crate::child;
use crate::server::Server;
use crate::socket::short_name;
use crate::sys::{self, Cloned};
use crate::table::Table;
use crate::upgrade;

/// Asks a program which launcher it is.
pub(crate) const IDENTIFY: &str = "--identify";
/// Why one does not start.
pub(crate) const SERVED: &str = "another launcher serves this socket";
const USAGE: &str = "usage: dcos-launcher --daemon --socket PATH [--join CGROUP]...";

/// Runs the launcher until it is told to stop; what a program's `main` calls.
///
/// `args` are the arguments after the program's name (and after the word that selects this mode,
/// where the launcher is one of several things a program can be):
///
/// | argument | meaning |
/// |---|---|
/// | `--socket PATH` | where to listen; the folder is made if it is missing |
/// | `--daemon` | go to the background once listening, and exit 0: what it does in any case |
/// | `--join CGROUP` | begin in the cgroup of that folder, and with it all containers that are not told otherwise; any number |
/// | `--resume N` | take over after an upgrade, state in descriptor N |
/// | `--identify` | say which sources this launcher is made of and which predecessors it can follow, for [`is_own`](crate::is_own) and upgrades, and end |
///
/// Call it before anything starts a thread: the launcher clones without executing, and a clone
/// has one thread only.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(args.into_iter()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A launcher whose errors nobody reads has nowhere else to tell them.
            let _ = writeln!(io::stderr(), "dcos-launcher: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: impl Iterator<Item = OsString>) -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, USAGE);
    let (mut socket, mut resume, mut cgroups) = (None, None, Vec::new());
    while let Some(argument) = args.next() {
        match argument.to_str() {
            Some("--socket") => socket = Some(PathBuf::from(args.next().ok_or_else(usage)?)),
            Some("--daemon") => {}
            Some("--join") => cgroups.push(PathBuf::from(args.next().ok_or_else(usage)?)),
            Some(IDENTIFY) => return io::stdout().write_all(identity().as_bytes()),
            Some("--resume") => {
                let number = args.next().and_then(|number| number.to_str()?.parse().ok());
                resume = Some(number.ok_or_else(usage)?);
            }
            _ => return Err(usage()),
        }
    }
    let socket = socket.ok_or_else(usage)?;
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(io::Error::other(
            "the launcher needs a process with one thread",
        ));
    }
    sys::note_heap();
    let mut server = match resume {
        Some(number) => upgrade::resume(number)?,
        None => start(&socket, &cgroups)?,
    };
    // Whoever loses its parent comes to the launcher, not to the host's init.
    set_child_subreaper(Pid::from_raw(1))?;
    let outcome = server.serve(&socket);
    // While the lock is held: later it might be another launcher's.
    let _ = fs::remove_file(&socket);
    outcome
}

/// The sources of this launcher, and what it reads of a predecessor.
pub(crate) fn identity() -> String {
    concat!(env!("DCOS_LAUNCHER_SOURCES"), " follows ").to_owned() + &upgrade::VERSION.to_string()
}

fn join(cgroups: &[PathBuf]) -> io::Result<()> {
    for cgroup in cgroups {
        let file = cgroup.join("cgroup.procs");
        fs::write(&file, "0").map_err(|error| {
            io::Error::new(error.kind(), format!("joining {}: {error}", file.display()))
        })?;
    }
    Ok(())
}

fn start(socket: &Path, cgroups: &[PathBuf]) -> io::Result<Server> {
    join(cgroups)?;
    // What the starter leaves open by mistake must not reach containers; nothing of this
    // program is open yet.
    sys::close_range(3, u32::MAX);
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder)?;
    }
    let lock = take_lock(socket)?;
    // The lock says that nobody serves it any more.
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_folder, short) = short_name(socket)?;
    let listener = UnixListener::bind(short)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    if let Cloned::Parent(_) = sys::clone(0, None)? {
        sys::exit(0);
    }
    setsid()?;
    rustix::process::chdir("/")?;
    let server = Server::new(listener, lock, Table::default())?;
    // The starter waits for the end of our errors before it connects: it shall find this process listening.
    child::connect(&[])?;
    Ok(server)
}

fn lock_of(socket: &Path) -> PathBuf {
    socket.with_added_extension("lock")
}

/// Whether a launcher serves `socket`, without a word to it; whoever may not look is told so, too.
pub fn is_served(socket: &Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    match File::open(lock_of(socket)) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_err(),
        Err(error) => !matches!(error.kind(), NotFound | NotADirectory),
    }
}

fn take_lock(socket: &Path) -> io::Result<OwnedFd> {
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(lock_of(socket))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::new(io::ErrorKind::AddrInUse, SERVED))?;
    Ok(file.into())
}
