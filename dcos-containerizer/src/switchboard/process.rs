//! The program around the loop, and the launcher's plan for it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use dcos_launcher::{Namespaces, Plan};
use rustix::thread::{
    Gid, Uid, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::server::Server;
use crate::{descriptors, rootless};

/// Who the switchboard is, where it may choose: nobody.
const NOBODY: u32 = 65534;

/// What a switchboard works with. It gets them in one message over the socket that is its standard
/// input: descriptors that come so have an owner, those that are inherited have none.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// Where lines arrive.
    pub(crate) listener: OwnedFd,
    /// Where standard output is kept.
    pub(crate) stdout_log: OwnedFd,
    /// Where standard error is kept.
    pub(crate) stderr_log: OwnedFd,
    /// The writing end of standard input, or the terminal.
    pub(crate) stdin: OwnedFd,
    /// The reading end of standard output, or the terminal once more.
    pub(crate) stdout: OwnedFd,
    /// The reading end of standard error; with a terminal, anything.
    pub(crate) stderr: OwnedFd,
}

impl Descriptors {
    /// Puts them into a socket; the other end of it becomes the standard input of a switchboard.
    pub(crate) fn send(&self) -> io::Result<UnixStream> {
        let (near, far) = UnixStream::pair()?;
        let fds = [
            &self.listener,
            &self.stdout_log,
            &self.stderr_log,
            &self.stdin,
            &self.stdout,
            &self.stderr,
        ];
        descriptors::send(&near, &fds.map(AsFd::as_fd))?;
        Ok(far)
    }

    fn receive(socket: impl AsFd) -> io::Result<Self> {
        let [listener, stdout_log, stderr_log, stdin, stdout, stderr] =
            descriptors::receive(socket)?;
        Ok(Self {
            listener,
            stdout_log,
            stderr_log,
            stdin,
            stdout,
            stderr,
        })
    }
}

/// The launcher's plan for the switchboard of a container; `arguments` begin with its program,
/// `waiting` says that output waits for the first line.
pub(crate) fn plan(id: String, mut arguments: Vec<String>, terminal: bool, waiting: bool) -> Plan {
    arguments.extend(terminal.then(|| "--terminal".to_owned()));
    arguments.extend(waiting.then(|| "--waiting".to_owned()));
    Plan {
        id,
        arguments,
        directory: Some("/".into()),
        // With a namespace of its own it is the only process: else an init is put before it.
        new: Namespaces {
            pid: rustix::process::geteuid().is_root(),
            ..Namespaces::default()
        },
        ..Plan::default()
    }
}

/// Runs a switchboard until its container has no more to say; what a program's `main` calls.
///
/// `args` are those after the word that selects this mode, where the switchboard is one of several
/// things a program can be: `--terminal`, `--waiting`. Call it before anything starts a thread: it
/// gives up its privileges for the calling thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Mostly there is nobody to read it.
            let _ = writeln!(io::stderr(), "switchboard: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: impl IntoIterator<Item = OsString>) -> io::Result<()> {
    let (mut terminal, mut waiting) = (false, false);
    for argument in args {
        match argument.to_str() {
            Some("--terminal") => terminal = true,
            Some("--waiting") => waiting = true,
            _ => {
                return Err(io::Error::other(
                    "usage: switchboard [--terminal] [--waiting]",
                ));
            }
        }
    }
    let descriptors = Descriptors::receive(io::stdin())?;
    give_up_privileges()?;
    Server::new(descriptors, terminal, waiting)?.serve()
}

/// All it needs is open by now.
fn give_up_privileges() -> io::Result<()> {
    set_no_new_privs(true)?;
    // In a user namespace without nobody there is nobody else to become.
    let is_there = rootless::own().is_none_or(|own| own.has(NOBODY, NOBODY) && !own.keeps_groups());
    if rustix::process::geteuid().is_root() && is_there {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
    }
    Ok(())
}
