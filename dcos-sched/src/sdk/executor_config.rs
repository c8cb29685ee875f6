//! What the agent tells an executor through its environment.

use std::path::PathBuf;
use std::time::Duration;

use dcos_core::units::{UnitError, parse_duration};
use dcos_proto::mesos::{ExecutorId, FrameworkId};
use dcos_wire::libprocess::Upid;

/// Where the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEndpoint {
    /// `host:port`, or `host:port/slave(1)` where several agents share a port.
    Tcp(String),
    /// A Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// The agent behind it, such as `slave(1)`: an original answers under its name only.
        name: String,
    },
}

/// How agents are called that do not say it.
const AGENT: &str = "slave(1)";

/// Who an executor is, and how it behaves. [`ExecutorConfig::from_env`] reads what an agent sets.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// The agent: `MESOS_DOMAIN_SOCKET` if set, else `MESOS_SLAVE_PID` (as the original's library
    /// does), else `MESOS_AGENT_ENDPOINT`.
    pub agent: AgentEndpoint,
    /// The framework (`MESOS_FRAMEWORK_ID`).
    pub framework_id: FrameworkId,
    /// The executor (`MESOS_EXECUTOR_ID`).
    pub executor_id: ExecutorId,
    /// Whether to wait for an agent that went away (`MESOS_CHECKPOINT`). If not, a broken stream
    /// is the end.
    pub checkpoint: bool,
    /// How long to wait for it (`MESOS_RECOVERY_TIMEOUT`, 15 minutes).
    pub recovery_timeout: Duration,
    /// The longest random wait before subscribing anew (`MESOS_SUBSCRIPTION_BACKOFF_MAX`, 2 s).
    pub backoff_max: Duration,
    /// How long [`Executor::shutdown`](super::Executor::shutdown) may take, and how long the end
    /// waits for acknowledgements (`MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD`, 5 s).
    pub grace: Duration,
    /// The token to show (`MESOS_EXECUTOR_AUTHENTICATION_TOKEN`).
    pub token: Option<String>,
}

/// An environment no agent made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorConfigError {
    /// A variable that every agent sets is missing.
    #[error("{variable} is not set: executors are started by an agent")]
    Missing {
        /// The variable.
        variable: &'static str,
    },
    /// A variable is no duration such as `15mins`.
    #[error("{variable} is no duration")]
    Duration {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        source: UnitError,
    },
}

impl ExecutorConfig {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// [`ExecutorConfigError`], naming the variable.
    pub fn from_env() -> Result<Self, ExecutorConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads variables from anywhere.
    ///
    /// # Errors
    /// [`ExecutorConfigError`], naming the variable.
    ///
    /// ```
    /// use dcos_sched::sdk::ExecutorConfig;
    ///
    /// let config = ExecutorConfig::from_variables(|name| match name {
    ///     "MESOS_AGENT_ENDPOINT" => Some("10.0.0.7:5051".to_owned()),
    ///     "MESOS_FRAMEWORK_ID" => Some("f".to_owned()),
    ///     "MESOS_EXECUTOR_ID" => Some("e".to_owned()),
    ///     _ => None,
    /// })?;
    /// assert!(!config.checkpoint);
    /// # Ok::<(), dcos_sched::sdk::ExecutorConfigError>(())
    /// ```
    pub fn from_variables(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ExecutorConfigError> {
        let needed = |variable: &'static str| {
            let value = get(variable).filter(|value| !value.is_empty());
            value.ok_or(ExecutorConfigError::Missing { variable })
        };
        let duration = |variable: &'static str, default: Duration| match get(variable) {
            None => Ok(default),
            Some(text) => parse_duration(&text)
                .map_err(|source| ExecutorConfigError::Duration { variable, source }),
        };
        let pid = get("MESOS_SLAVE_PID").and_then(|pid| pid.parse::<Upid>().ok());
        let agent = match (get("MESOS_DOMAIN_SOCKET"), pid) {
            (Some(path), pid) => AgentEndpoint::Unix {
                path: path.into(),
                name: pid.map_or_else(|| AGENT.to_owned(), |pid| pid.name().to_owned()),
            },
            (None, Some(pid)) => AgentEndpoint::Tcp(format!("{}/{}", pid.address(), pid.name())),
            (None, None) => AgentEndpoint::Tcp(needed("MESOS_AGENT_ENDPOINT")?),
        };
        Ok(Self {
            agent,
            framework_id: needed("MESOS_FRAMEWORK_ID")?.into(),
            executor_id: needed("MESOS_EXECUTOR_ID")?.into(),
            checkpoint: get("MESOS_CHECKPOINT").is_some_and(|value| value == "1"),
            recovery_timeout: duration("MESOS_RECOVERY_TIMEOUT", Duration::from_mins(15))?,
            backoff_max: duration("MESOS_SUBSCRIPTION_BACKOFF_MAX", Duration::from_secs(2))?,
            grace: duration(
                "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
                Duration::from_secs(5),
            )?,
            token: get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<ExecutorConfig, ExecutorConfigError> {
        ExecutorConfig::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_of_a_checkpointing_agent_is_understood() {
        let config = read(&[
            ("MESOS_AGENT_ENDPOINT", "10.0.0.7:5051"),
            ("MESOS_DOMAIN_SOCKET", "/run/agent.sock"),
            ("MESOS_SLAVE_PID", "slave(2)@10.0.0.7:5051"),
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "e"),
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_RECOVERY_TIMEOUT", "10mins"),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "500ms"),
        ])
        .unwrap();
        let (path, name) = ("/run/agent.sock".into(), "slave(2)".to_owned());
        assert_eq!(config.agent, AgentEndpoint::Unix { path, name });
        assert!(config.checkpoint);
        assert_eq!(config.recovery_timeout, Duration::from_mins(10));
        assert_eq!(config.backoff_max, Duration::from_millis(500));
        assert_eq!(config.grace, Duration::from_secs(5));
    }

    #[test]
    fn an_agent_is_asked_under_its_own_name() {
        let config = read(&[
            ("MESOS_AGENT_ENDPOINT", "10.0.0.7:5051"),
            ("MESOS_SLAVE_PID", "slave(2)@10.0.0.7:5051"),
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "e"),
        ]);
        let expected = AgentEndpoint::Tcp("10.0.0.7:5051/slave(2)".to_owned());
        assert_eq!(config.unwrap().agent, expected);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let error = read(&[("MESOS_SLAVE_PID", "slave(1)@[::1]:5051")]).unwrap_err();
        assert!(error.to_string().contains("MESOS_FRAMEWORK_ID"));
        let error = read(&[
            ("MESOS_AGENT_ENDPOINT", "x:1"),
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "e"),
            ("MESOS_RECOVERY_TIMEOUT", "soon"),
        ]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("MESOS_RECOVERY_TIMEOUT"), "{error}");
    }
}
