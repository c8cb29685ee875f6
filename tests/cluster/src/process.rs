//! [`Process`]: a program that was started here, and is ended here.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    /// What it is called in messages.
    pub name: String,
    /// Where its output goes.
    pub log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command`, with its output appended to `<name>.log` in `directory`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, directory: &Path, mut command: Command) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A signal to the test's terminal is not meant for it.
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            log,
            child,
        })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Stops it, and waits until none of its threads runs: on a busy machine the others go on until the one that is to
    /// take the signal has had its turn.
    ///
    /// # Errors
    /// It has ended.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP);
        let folder = format!("/proc/{}/task", self.child.id());
        loop {
            let mut stopped = true;
            for thread in std::fs::read_dir(&folder).with_context(|| folder.clone())? {
                let stat = std::fs::read_to_string(thread?.path().join("stat"));
                let state = stat.unwrap_or_default();
                let state = state.rsplit_once(") ").map_or("", |(_, rest)| rest);
                stopped &= state.is_empty() || state.starts_with('T');
            }
            if stopped {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that runs in the network namespace `host`, or in ours.
pub fn command(host: Option<&str>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    match host {
        None => Command::new(program),
        Some(host) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{host}")).arg(program);
            command
        }
    }
}
