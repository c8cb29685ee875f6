//! Checks and health checks of tasks.
//!
//! [`Checker`] is the pure half: it says when to probe and what a result means. [`Prober`] is the
//! half with sockets and processes. Whoever hosts a task owns one checker a check and lets time
//! and results in:
//!
//! ```
//! use dcos_containerizer::check::{CheckAction, Checker, Outcome};
//! use dcos_core::time::Time;
//! use dcos_proto::mesos::{HealthCheck, health_check};
//!
//! let check = HealthCheck {
//!     r#type: Some(health_check::Type::Tcp.into()),
//!     tcp: Some(health_check::TcpCheckInfo { port: 80, protocol: None }),
//!     delay_seconds: Some(1.0),
//!     ..HealthCheck::default()
//! };
//! let mut checker = Checker::health_check(&check, Time::EPOCH)?;
//! assert_eq!(checker.next_deadline(), Some(Time::from_secs(1)));
//! assert!(matches!(checker.poll(Time::from_secs(1)), Some(CheckAction::Probe { .. })));
//! let action = checker.handle(Time::from_secs(2), &Outcome::Tcp(true));
//! assert!(matches!(action, Some(CheckAction::Health { healthy: true, .. })));
//! # Ok::<(), dcos_containerizer::check::CheckError>(())
//! ```

mod checker;
mod network;
mod prober;

use std::time::Duration;

use dcos_proto::mesos::{CheckStatusInfo, CommandInfo};

pub use checker::Checker;
pub use prober::{ProbeTarget, Prober};

/// What a [`Checker`] wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckAction {
    /// Run the probe, and hand its outcome to [`Checker::handle`].
    Probe {
        /// What to try.
        probe: Probe,
        /// After this long it counts as failed.
        timeout: Duration,
    },
    /// Tell that the task's health is this: `TASK_RUNNING` again, with
    /// `REASON_TASK_HEALTH_CHECK_STATUS_UPDATED`.
    Health {
        /// Whether it is healthy.
        healthy: bool,
        /// Whether it failed too often and is to be killed.
        kill: bool,
        /// What the probe saw, for people.
        message: String,
    },
    /// Tell that the check's status changed to this: `TASK_RUNNING` again, with
    /// `REASON_TASK_CHECK_STATUS_UPDATED`.
    Status(CheckStatusInfo),
}

/// One way to look at a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// A command inside the container.
    Command(CommandInfo),
    /// A GET to the container's loopback address.
    Http {
        /// `http` or `https` (whose certificate is not verified).
        scheme: String,
        /// To which port.
        port: u16,
        /// Path and query, with the slash.
        path: String,
        /// To `::1` instead of `127.0.0.1`.
        ipv6: bool,
    },
    /// A connection to the container's loopback address.
    Tcp {
        /// To which port.
        port: u16,
        /// To `::1` instead of `127.0.0.1`.
        ipv6: bool,
    },
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The command exited with this code.
    Command(i32),
    /// The answer had this status.
    Http(u16),
    /// Whether the connection was made.
    Tcp(bool),
    /// Neither this nor that: a timeout, a command killed by a signal, no answer.
    Failed(String),
    /// The probe could not be tried, which says nothing of the task.
    Skipped,
}

/// A check that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CheckError {
    /// What is wrong with it.
    pub reason: String,
}
