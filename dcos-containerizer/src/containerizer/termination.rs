//! How a container ended.

use dcos_proto::agent::response::WaitContainer;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{Resource, TaskResourceLimitation};

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerTermination {
    /// The status of its command as `wait(2)` gives it; absent if nobody could learn it.
    pub status: Option<i32>,
    /// Why it was ended, if not by itself: a limit, a lost parent.
    pub reason: Option<Reason>,
    /// The resources it exceeded.
    pub limited: Vec<Resource>,
    /// For people.
    pub message: Option<String>,
}

impl ContainerTermination {
    /// Ended by itself with the raw wait status `status`.
    pub fn exited(status: i32) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    /// Ended, and nobody knows how.
    pub fn lost(message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            ..Self::default()
        }
    }

    /// The exit code, if the command exited.
    pub fn exit_code(&self) -> Option<i32> {
        self.status
            .filter(|&status| libc::WIFEXITED(status))
            .map(|status| libc::WEXITSTATUS(status))
    }

    /// The signal that ended the command, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status
            .filter(|&status| libc::WIFSIGNALED(status))
            .map(|status| libc::WTERMSIG(status))
    }

    /// Whether the command exited with 0 and no limit was exceeded.
    pub fn succeeded(&self) -> bool {
        self.exit_code() == Some(0) && self.reason.is_none()
    }

    /// In the words of Mesos: `exited with status 1`, `terminated with signal Killed`.
    pub fn describe(&self) -> String {
        match (self.exit_code(), self.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (_, Some(signal)) => format!("terminated with signal {}", signal_name(signal)),
            _ => "ended with unknown status".to_owned(),
        }
    }

    /// As the operator API answers `WAIT_CONTAINER`, and as it is kept on disk.
    pub fn to_message(&self) -> WaitContainer {
        WaitContainer {
            exit_status: self.status,
            state: None,
            reason: self.reason.map(Into::into),
            limitation: (!self.limited.is_empty()).then(|| TaskResourceLimitation {
                resources: self.limited.clone(),
            }),
            message: self.message.clone(),
        }
    }

    /// Back from [`to_message`](Self::to_message).
    pub fn from_message(message: WaitContainer) -> Self {
        Self {
            status: message.exit_status,
            reason: message
                .reason
                .and_then(|reason| Reason::try_from(reason).ok()),
            limited: message
                .limitation
                .map(|limitation| limitation.resources)
                .unwrap_or_default(),
            message: message.message,
        }
    }
}

/// What `strsignal(3)` says, which is what Mesos prints.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "Hangup",
        libc::SIGINT => "Interrupt",
        libc::SIGQUIT => "Quit",
        libc::SIGILL => "Illegal instruction",
        libc::SIGTRAP => "Trace/breakpoint trap",
        libc::SIGABRT => "Aborted",
        libc::SIGBUS => "Bus error",
        libc::SIGFPE => "Floating point exception",
        libc::SIGKILL => "Killed",
        libc::SIGUSR1 => "User defined signal 1",
        libc::SIGSEGV => "Segmentation fault",
        libc::SIGUSR2 => "User defined signal 2",
        libc::SIGPIPE => "Broken pipe",
        libc::SIGALRM => "Alarm clock",
        libc::SIGTERM => "Terminated",
        libc::SIGXCPU => "CPU time limit exceeded",
        libc::SIGXFSZ => "File size limit exceeded",
        libc::SIGSYS => "Bad system call",
        other => return other.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_exits_from_signals() {
        assert_eq!(
            ContainerTermination::exited(3 << 8).describe(),
            "exited with status 3"
        );
        let killed = ContainerTermination::exited(9);
        assert_eq!(killed.describe(), "terminated with signal Killed");
        assert!(!killed.succeeded());
        assert!(ContainerTermination::exited(0).succeeded());
        assert_eq!(ContainerTermination::lost("gone").exit_code(), None);
    }

    #[test]
    fn survives_the_way_to_disk() {
        let termination = ContainerTermination {
            status: Some(9),
            reason: Some(Reason::ContainerLimitationMemory),
            limited: Vec::new(),
            message: Some("too much".into()),
        };
        let back = ContainerTermination::from_message(termination.to_message());
        assert_eq!(back, termination);
    }
}
