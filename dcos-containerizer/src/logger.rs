//! The plug point that keeps what tasks print.
//!
//! [`RotatingFiles`] is the default: files `stdout` and `stderr` in the sandbox, rotated. Why it
//! is built without a pipe is told in `docs/container-logger.md`. [`JournaldLogger`] sends what lands there to journald.

mod files;
mod journal;
mod journald;
mod lines;
mod modules;
mod rotation;
mod tail;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use dcos_proto::mesos::ContainerId;
use serde::{Deserialize, Serialize};

pub use files::RotatingFiles;
pub use journald::{Destination, JOURNALD, JournaldLogger, JournaldSettings};
pub use modules::{ModulesError, parameters};
pub use rotation::{Rotation, RotationError};

/// Gives containers something to print to.
///
/// # Contract
/// 1. [`prepare`](Self::prepare) comes before a container's launch,
///    [`cleanup`](Self::cleanup) after its end. After a restart of the agent,
///    [`recover`](Self::recover) comes once for each container that still runs; where the agent
///    itself writes what containers print (those of a Docker Engine), `prepare` comes again.
/// 2. What `prepare` hands out goes on working while no agent runs: a task never blocks, fails
///    or gets `SIGPIPE` because of it.
/// 3. `cleanup` loses nothing that was printed; of an unknown container it does nothing.
///
/// # Source
/// Mesos 1.11 `ContainerLogger` (`include/mesos/slave/container_logger.hpp`).
#[async_trait]
pub trait ContainerLogger: fmt::Debug + Send + Sync + 'static {
    /// The name in configuration and logs.
    fn name(&self) -> &'static str;

    /// Opens the two streams of a new container.
    ///
    /// # Errors
    /// [`LoggerError`]; the container is not launched then.
    async fn prepare(&self, request: &LogRequest) -> Result<Logs, LoggerError>;

    /// Takes up the logs of a container that was launched before a restart.
    ///
    /// # Errors
    /// [`LoggerError`]; the container goes on all the same.
    async fn recover(&self, request: &LogRequest) -> Result<(), LoggerError>;

    /// The container ended.
    async fn cleanup(&self, id: &ContainerId);
}

/// Whose output is to be kept, and where.
#[derive(Debug, Clone, Default)]
pub struct LogRequest {
    /// The container.
    pub id: ContainerId,
    /// Its sandbox.
    pub directory: PathBuf,
    /// User and group that own what lies there; absent, whoever the agent is.
    pub owner: Option<(u32, u32)>,
    /// Its environment, where a task may ask for settings of its own.
    pub environment: BTreeMap<String, String>,
    /// Whose it is; absent for containers that belong to no executor.
    pub origin: Option<LogOrigin>,
}

/// Whose output it is, for those who look for it among all others'.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOrigin {
    /// The framework's id.
    pub framework: String,
    /// The executor's id.
    pub executor: String,
    /// The agent's id.
    pub agent: String,
    /// The executor's name, or else its id.
    pub name: String,
    /// Labels of the executor, and of the task where that is nested in it.
    pub labels: Vec<(String, String)>,
}

/// What a container prints to.
#[derive(Debug)]
pub struct Logs {
    /// File descriptor 1.
    pub stdout: File,
    /// File descriptor 2.
    pub stderr: File,
}

/// Why output cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggerError {
    /// A log file cannot be opened.
    #[error("opening {path:?}: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A task asks for settings that make no sense.
    #[error(transparent)]
    Rotation(#[from] RotationError),
}
