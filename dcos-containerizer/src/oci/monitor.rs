//! The process beside a container that a runtime makes: the container's parent as far as the
//! kernel is concerned, so that its true exit status is learnt.
//!
//! What it and the agent say to each other over the socket that is its standard input:
//!
//! | who | says | means |
//! |---|---|---|
//! | agent | descriptors 0, 1, 2 of the container | make it |
//! | monitor | `created` and the process id | it waits |
//! | agent | a byte | let it run; the socket's end instead: take it away |
//! | monitor | `started` | its program runs |
//! | monitor | `failed` and why | it does not, and nothing is left |

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use rustix::process::{WaitOptions, set_child_subreaper, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Bundle, Command};
use crate::descriptors;

/// How a monitor ends whose container did not come to be.
const FAILED: u8 = 125;

/// Signals that are passed on. `SIGKILL` reaches the container without us, and takes us with it.
const PASSED: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGWINCH,
];

/// What a monitor tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Created(u32),
    Started,
    Failed(String),
}

impl Said {
    /// A line as [`line`](Self::line) wrote it.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line
            .trim_end()
            .split_once(' ')
            .unwrap_or((line.trim_end(), ""));
        match word {
            "created" => rest.parse().ok().map(Self::Created),
            "started" => Some(Self::Started),
            "failed" => Some(Self::Failed(rest.to_owned())),
            _ => None,
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Created(pid) => format!("created {pid}\n"),
            Self::Started => "started\n".to_owned(),
            Self::Failed(why) => format!("failed {}\n", why.replace('\n', " ")),
        }
    }
}

/// The arguments of a monitor.
pub(crate) fn arguments(runtime: &str, state: &str, bundle: &str, id: &str) -> Vec<String> {
    [runtime, state, bundle, id].map(str::to_owned).into()
}

/// Runs a monitor until its container has ended; what a program's `main` calls.
///
/// `args` are those after the word that selects this mode, where the monitor is one of several
/// things a program can be.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Mostly there is nobody to read it.
            let _ = writeln!(io::stderr(), "monitor: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(args: impl IntoIterator<Item = OsString>) -> io::Result<u8> {
    let args: Vec<_> = args.into_iter().collect();
    let Ok([program, state, bundle, id]) = <[OsString; 4]>::try_from(args) else {
        return Err(io::Error::other("usage: monitor RUNTIME STATE BUNDLE ID"));
    };
    let id = id.to_string_lossy().into_owned();
    let monitor = Monitor {
        agent: UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?),
        bundle: Bundle::at(PathBuf::from(bundle)),
        command: Command::of(program.into(), state.into(), id),
    };
    // What a runtime leaves behind becomes our child: the container's first process.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(monitor.run())
}

struct Monitor {
    agent: UnixStream,
    bundle: Bundle,
    command: Command,
}

impl Monitor {
    async fn run(mut self) -> io::Result<u8> {
        // Before there is a container, so that no signal and no end of a child is missed.
        let mut signals = listen()?;
        if let Err(error) = self.make() {
            // Whoever asked may be gone.
            self.say(&Said::Failed(error.to_string())).ok();
            self.command.delete().status().ok();
            return Ok(FAILED);
        }
        let pid = self.bundle.pid().unwrap_or_default();
        loop {
            if let Some(status) = reap(pid) {
                self.bundle.set_exit(status)?;
                return Ok(code(status));
            }
            match signals.recv().await {
                Some(libc::SIGCHLD) => {}
                // It may have ended just now.
                Some(number) => drop(self.command.kill(number).status()),
                None => return Err(io::Error::other("no more signals")),
            }
        }
    }

    fn make(&mut self) -> io::Result<()> {
        let streams = descriptors::receive::<3>(&self.agent)?;
        self.call("creating", self.command.create(&self.bundle, streams))?;
        let pid = self.bundle.pid();
        let pid = pid.ok_or_else(|| io::Error::other("the runtime told no process id"))?;
        self.say(&Said::Created(pid))?;
        if self.agent.read(&mut [0])? == 0 {
            return Err(io::Error::other("the agent went away"));
        }
        self.call("starting", self.command.start(&self.bundle))?;
        self.say(&Said::Started)
    }

    fn call(&self, doing: &str, mut command: process::Command) -> io::Result<()> {
        let status = command.status()?;
        if status.success() {
            return Ok(());
        }
        let why = self.bundle.complaint();
        let why = why.unwrap_or_else(|| format!("it ended with {status}"));
        Err(io::Error::other(format!("{doing}: {why}")))
    }

    fn say(&mut self, said: &Said) -> io::Result<()> {
        match self.agent.write_all(said.line().as_bytes()) {
            // An agent that has restarted finds what it needs in the bundle.
            Err(error) if *said == Said::Started => drop(error),
            other => other?,
        }
        Ok(())
    }
}

/// Collects all children that ended; the wait status of `wanted`, if it was among them.
fn reap(wanted: u32) -> Option<i32> {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get().cast_unsigned() == wanted {
            return Some(status.as_raw());
        }
    }
    None
}

/// As a shell tells it; the raw status is in the bundle.
fn code(status: i32) -> u8 {
    let code = if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// All signals that concern us, as they arrive. 64 may wait: more than there are kinds.
fn listen() -> io::Result<mpsc::Receiver<i32>> {
    let (send, receive) = mpsc::channel(64);
    for number in PASSED.into_iter().chain([libc::SIGCHLD]) {
        let mut signals = signal(SignalKind::from_raw(number))?;
        let send = send.clone();
        // They end with this process.
        tokio::spawn(async move {
            while signals.recv().await.is_some() && send.send(number).await.is_ok() {}
        });
    }
    Ok(receive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for said in [
            Said::Created(4711),
            Said::Started,
            Said::Failed("no such program".into()),
        ] {
            assert_eq!(Said::parse(&said.line()), Some(said));
        }
        assert_eq!(Said::parse("created nothing"), None);
        assert_eq!(Said::parse(""), None);
    }
}
