//! The small init: parent of a container's command, or of nothing in a pause process.
//!
//! It is process 1 where the container has a pid namespace, and elsewhere the subreaper of
//! whatever the command starts: a daemon that leaves its session and its parent behind still
//! ends up here, and ends with the container.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, set_child_subreaper, set_parent_process_death_signal};
use rustix::thread::set_name;

use crate::process;
use crate::report::Report;
use crate::sys;

/// Prepares this process for being an init, before its command is cloned.
pub(crate) fn become_init(pause: bool) {
    let _ = set_name(if pause { c"dcos-pause" } else { c"dcos-init" });
    // Fails only on kernels before 3.4; process 1 of a namespace adopts without it.
    let _ = set_child_subreaper(Pid::from_raw(1));
    sys::block_signals();
    // A container that nobody watches over must not go on: its agent is told that it is lost.
    let _ = set_parent_process_death_signal(Some(Signal::POWER));
}

/// Serves `command` until it ends, or, without one, until asked to end; never returns.
pub(crate) fn serve(command: Option<i32>, report: &OwnedFd) -> ! {
    // A node has thousands of inits, each a copy of all that the launcher knew. Process 1 of a namespace allocates nothing
    // from here on; any other looks through `/proc` at its end.
    if rustix::process::getpid().is_init() {
        sys::forget_heap();
    }
    loop {
        match sys::take_signal(None) {
            Some(libc::SIGCHLD) => {
                while let Some((pid, status)) = sys::reap() {
                    if Some(pid) == command {
                        end(status, report);
                    }
                }
            }
            Some(libc::SIGPWR) => end(libc::SIGKILL, report),
            Some(signal @ (libc::SIGTERM | libc::SIGINT)) if command.is_none() => {
                // A wait status of death by a signal is its number.
                end(signal, report);
            }
            Some(signal) => {
                command.map(|command| process::signal(command, signal));
            }
            None => {}
        }
    }
}

/// Ends all that is left, then this process.
fn end(status: i32, report: &OwnedFd) -> ! {
    let _ = rustix::io::write(report, &Report::ended(status));
    let own = rustix::process::getpid();
    // The kernel kills the rest of a pid namespace together with its process 1.
    if !own.is_init() {
        let own = own.as_raw_nonzero().get();
        while process::signal_descendants(own, libc::SIGKILL) > 0 {
            // Deaths arrive as signals; looking again after a moment covers one that was missed.
            sys::take_signal(Some(20));
            while sys::reap().is_some() {}
        }
    }
    let code = ExitStatus::from_raw(status).code();
    sys::exit(code.unwrap_or_else(|| 128 + libc::WTERMSIG(status)))
}
