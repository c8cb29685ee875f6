//! The command line that OCI runtimes share.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use serde::Deserialize;

use super::{Bundle, Runtime, host};

/// Calls of a runtime for one container.
///
/// # Source
/// `runc(8)`; `crun`, `youki`, `runsc` and `kata-runtime` take the same words.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    program: PathBuf,
    state: PathBuf,
    id: String,
}

/// What `state` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Command {
    pub(crate) fn new(runtime_dir: &Path, runtime: &Runtime, id: &str) -> Self {
        let state = Bundle::state_of(runtime_dir, runtime);
        Self::of(runtime.program.clone(), state, id.to_owned())
    }

    pub(super) fn of(program: PathBuf, state: PathBuf, id: String) -> Self {
        Self { program, state, id }
    }

    /// Makes the container with these standard streams; its program waits for `start`.
    pub(super) fn create(&self, bundle: &Bundle, streams: [OwnedFd; 3]) -> process::Command {
        let [input, output, error] = streams;
        let mut command = self.words("create", Some(bundle));
        command
            .arg("--bundle")
            .arg(bundle.path())
            .arg("--pid-file")
            .arg(bundle.pid_file())
            .arg(&self.id)
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(error));
        command
    }

    /// Lets its program run.
    pub(super) fn start(&self, bundle: &Bundle) -> process::Command {
        let mut command = self.words("start", Some(bundle));
        command.arg(&self.id);
        command
    }

    /// Signals its first process.
    pub(super) fn kill(&self, signal: i32) -> process::Command {
        let mut command = self.words("kill", None);
        command.arg(&self.id).arg(signal.to_string());
        command
    }

    /// Removes whatever there is of it; none is fine.
    pub(crate) fn delete(&self) -> process::Command {
        let mut command = self.words("delete", None);
        command.arg("--force").arg(&self.id);
        command
    }

    /// Asks the runtime how the container is.
    pub(crate) fn state(&self) -> process::Command {
        let mut command = self.words("state", None);
        command.arg(&self.id).stdout(Stdio::piped());
        command
    }

    /// What the answer to [`state`](Self::state) says.
    pub(crate) fn status_in(answer: &[u8]) -> Option<Status> {
        #[derive(Deserialize)]
        struct State {
            status: Status,
        }
        let state = serde_json::from_slice::<State>(answer).ok()?;
        Some(state.status)
    }

    fn words(&self, word: &str, bundle: Option<&Bundle>) -> process::Command {
        let mut before = host::before(&self.program).into_iter();
        let mut command = match before.next() {
            None => process::Command::new(&self.program),
            Some(first) => {
                let mut command = process::Command::new(first);
                command.args(before).arg(&self.program);
                command
            }
        };
        if let Some(bundle) = bundle {
            command.arg("--log").arg(bundle.log());
            command.args(["--log-format", "json"]);
        }
        command.arg("--root").arg(&self.state).arg(word);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_those_of_runc() {
        let command = Command::of("/bin/rt".into(), "/state".into(), "c".into());
        let words = |command: process::Command| {
            let words = command
                .get_args()
                .map(|word| word.to_string_lossy().into_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(command.kill(15)), "--root /state kill c 15");
        assert_eq!(words(command.delete()), "--root /state delete --force c");
        let bundle = Bundle::at("/b".into());
        assert_eq!(
            words(command.start(&bundle)),
            "--log /b/log --log-format json --root /state start c"
        );
    }

    #[test]
    fn the_state_is_read() {
        let answer = br#"{"ociVersion":"1.0.0","id":"c","pid":7,"status":"running"}"#;
        assert_eq!(Command::status_in(answer), Some(Status::Running));
        assert_eq!(Command::status_in(b"no such container"), None);
    }
}
