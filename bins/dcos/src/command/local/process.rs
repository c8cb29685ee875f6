//! Processes that outlive the command that starts them.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long a program may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(15);

/// One program to be started.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: String,
    path: PathBuf,
    flags: Vec<String>,
    log: PathBuf,
}

impl Program {
    /// The program `file`, which lies beside this one, to be known as `name`.
    pub(super) fn new(
        file: &str,
        name: &str,
        mut flags: Vec<String>,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("finding this program")?;
        let path = own.with_file_name(file);
        anyhow::ensure!(
            path.exists(),
            "{} is not there; build it: cargo build",
            path.display()
        );
        let log = dir.join(format!("{name}.log"));
        flags.push(format!("--external_log_file={}", log.display()));
        Ok(Self {
            name: name.to_owned(),
            path,
            flags,
            log,
        })
    }

    pub(super) fn start(&self) -> anyhow::Result<Running> {
        let log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let errors = log.try_clone().context("sharing the log")?;
        let child = Command::new(&self.path)
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A group of its own: a Ctrl-C at the terminal is not meant for it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", self.path.display()))?;
        let pid = child.id();
        let started = start_time(pid).unwrap_or_default();
        Ok(Running {
            name: self.name.clone(),
            pid,
            started,
            log: self.log.clone(),
        })
    }
}

/// A program that was started, perhaps long ago.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) name: String,
    pub(super) pid: u32,
    /// When, in the kernel's ticks: tells it from a later process of the same number.
    started: u64,
    pub(super) log: PathBuf,
}

impl Running {
    pub(super) fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    pub(super) fn describe(&self) -> Value {
        json!({"name": self.name, "pid": self.pid, "alive": self.is_alive(), "log": self.log})
    }

    /// Asks it to end, and ends it if it does not. An agent is asked to sign off for good, which
    /// kills its tasks.
    pub(super) async fn stop(&self) {
        let agent = self.name.starts_with("agent");
        for signal in [
            if agent { Signal::USR1 } else { Signal::TERM },
            Signal::KILL,
        ] {
            if !self.is_alive() {
                return;
            }
            self.signal(signal);
            let ended = async {
                while self.is_alive() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let _ = tokio::time::timeout(GRACE, ended).await;
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // A process that is gone by now is what was wanted.
        pid.map(|pid| kill_process(pid, signal));
    }
}

/// The signals that this program ignores from its start on, as a set of bits: the first is signal 1.
pub(super) fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or_default()
}

/// When a process started, in ticks since boot; nothing if it is gone or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows it is fixed.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_living_from_the_dead() {
        let own = std::process::id();
        assert!(start_time(own).is_some());
        let running = Running {
            name: "agent-0".into(),
            pid: own,
            started: start_time(own).unwrap() + 1,
            log: PathBuf::new(),
        };
        assert!(!running.is_alive(), "another process of the same number");
    }
}
