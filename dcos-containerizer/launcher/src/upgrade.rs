//! Becoming another program without losing a container.
//!
//! Children belong to the process, not to its program: after `execve(2)` they are still ours.
//! What the launcher knows of them goes through an anonymous file, and with it the numbers of the
//! descriptors that stay open: the listening socket, the lock, the pipes of inits.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::client::identify;
use crate::codec::Wire;
use crate::server::Server;
use crate::sys;
use crate::table::{Entry, Known, Table};

/// Raised when [`Known`] changes; a program reads what its predecessors wrote, or refuses.
pub(crate) const VERSION: u8 = 2;

record! {
/// What one program tells the next.
#[derive(Debug)]
pub(crate) struct State {
    pub version: u8,
    pub listener: i32,
    pub lock: i32,
    pub containers: Vec<Known>,
}}

/// Becomes `program`, which must be a launcher; returns only if that failed.
pub(crate) fn execute(program: &Path, server: &Server) -> io::Error {
    let kept = || {
        let own = [server.listener.as_fd(), server.lock.as_fd()];
        own.into_iter().chain(server.table.reports())
    };
    let attempt = || -> io::Result<io::Error> {
        let mut arguments = own_arguments();
        // Once it has taken this one's place, nothing leads back. It is asked as it will be called, before anything is kept
        // open, and says `follows` and all versions that it reads.
        let said = identify(program, &arguments[0], &arguments[1..]).unwrap_or_default();
        let version = VERSION.to_string();
        let mut words = said.split(' ').skip_while(|word| *word != "follows");
        if !words.any(|word| word == version) {
            let reason = "it cannot take over what this launcher runs";
            return Err(io::Error::other(reason));
        }
        let file = save(server)?;
        keep(kept(), FdFlags::empty())?;
        keep([file.as_fd()].into_iter(), FdFlags::empty())?;
        arguments.extend(["--resume".into(), file.as_raw_fd().to_string().into()]);
        let text = |word: OsString| CString::new(word.into_vec());
        let arguments = arguments.into_iter().map(text);
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let variable = |(name, value): (OsString, _)| text([name, value].join("=".as_ref()));
        let environment = std::env::vars_os().map(variable);
        let environment = environment.collect::<Result<Vec<_>, _>>()?;
        let program = text(program.into())?;
        Ok(sys::execute(&program, &arguments, &environment))
    };
    let error = attempt().unwrap_or_else(|error| error);
    let _ = keep(kept(), FdFlags::CLOEXEC);
    error
}

/// The arguments this program was started with, without an earlier upgrade's and those that it has no use for: it is
/// in its cgroups already, and the next program may not know how to join them.
fn own_arguments() -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut given = std::env::args_os();
    while let Some(argument) = given.next() {
        if argument == "--resume" || argument == "--join" {
            given.next();
        } else {
            arguments.push(argument);
        }
    }
    arguments
}

fn keep<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>, flags: FdFlags) -> io::Result<()> {
    for fd in fds {
        fcntl_setfd(fd, flags)?;
    }
    Ok(())
}

fn save(server: &Server) -> io::Result<File> {
    let known = |entry: &Entry| Known {
        report: entry.report.as_ref().map(AsRawFd::as_raw_fd),
        ..entry.known.clone()
    };
    let state = State {
        version: VERSION,
        listener: server.listener.as_raw_fd(),
        lock: server.lock.as_raw_fd(),
        containers: server.table.entries.values().map(known).collect(),
    };
    let mut file = File::from(memfd_create(c"launcher", MemfdFlags::CLOEXEC)?);
    file.write_all(&state.to_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Takes over from the program that left its state in descriptor `number`.
pub(crate) fn resume(number: RawFd) -> io::Result<Server> {
    let mut file = File::from(sys::inherited(number)?);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason);
    let state = State::from_bytes(&bytes).map_err(|error| invalid(&error.to_string()))?;
    if state.version != VERSION {
        return Err(invalid("the state is of another version"));
    }
    let mut table = Table::default();
    for known in state.containers {
        let report = known.report.map(sys::inherited).transpose()?;
        table.insert(Entry::new(known, report));
    }
    let listener = sys::inherited(state.listener)?;
    let lock = sys::inherited(state.lock)?;
    let own = [listener.as_fd(), lock.as_fd()];
    keep(own.into_iter().chain(table.reports()), FdFlags::CLOEXEC)?;
    Server::new(listener.into(), lock, table)
}
