//! What a run of a job does, and what it needs.

use std::collections::BTreeMap;

use dcos_marathon::model::{DockerParameter, EnvValue, Network, SecretDef, VolumeMode, number};
use serde::{Deserialize, Serialize};

/// What to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSpec {
    /// Cores.
    #[serde(default = "default::cpus", serialize_with = "number::write")]
    pub cpus: f64,
    /// Memory in MB.
    #[serde(default = "default::mem", serialize_with = "number::write")]
    pub mem: f64,
    /// Disk in MB.
    #[serde(default, serialize_with = "number::write")]
    pub disk: f64,
    /// GPUs.
    #[serde(default)]
    pub gpus: u32,
    /// The command as a line for `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    /// The command as a list of words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// The operating system user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    /// Where it may run.
    #[serde(default)]
    pub placement: Placement,
    /// Files brought into the sandbox.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// Seconds; kept and shown, without effect, as in the original, which restarts without delay.
    #[serde(default = "default::max_launch_delay")]
    pub max_launch_delay: u32,
    /// An image for the Docker Engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<Docker>,
    /// An image for the agent's own containerizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ucr: Option<Ucr>,
    /// What is mounted.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// What happens after a failure.
    #[serde(default)]
    pub restart: Restart,
    /// Time from SIGTERM to SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_kill_grace_period_seconds: Option<u32>,
    /// Secrets by the names used in `env` and `volumes`.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretDef>,
    /// The networks it joins.
    #[serde(default)]
    pub networks: Vec<Network>,
}

/// Where runs may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// All of these must hold.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
}

/// One rule about one property of agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// `@hostname`, `@region`, `@zone`, or the name of an attribute.
    pub attribute: String,
    /// The rule.
    pub operator: Operator,
    /// Its parameter; a rule without one holds everywhere, as in the original.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What a rule asks of an agent's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operator {
    /// It is exactly this; `EQ` is its old name.
    #[serde(alias = "EQ")]
    Is,
    /// It matches a regular expression.
    Like,
    /// It does not match, or is missing.
    Unlike,
}

/// A file brought into the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Where it lies.
    pub uri: String,
    /// Whether archives are unpacked.
    #[serde(default = "default::yes")]
    pub extract: bool,
    /// Whether it becomes executable.
    #[serde(default)]
    pub executable: bool,
    /// Whether the agent keeps a copy.
    #[serde(default)]
    pub cache: bool,
}

/// An image for the Docker Engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Docker {
    /// Its name.
    pub image: String,
    /// Whether the Docker Engine gives all privileges.
    #[serde(default)]
    pub privileged: bool,
    /// Free options of the Docker Engine.
    #[serde(default)]
    pub parameters: Vec<DockerParameter>,
    /// Whether to pull even what is there.
    #[serde(default)]
    pub force_pull_image: bool,
}

/// An image for the agent's own containerizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ucr {
    /// Which one.
    pub image: Image,
    /// Kept and shown, without effect, as in the original.
    #[serde(default)]
    pub privileged: bool,
}

/// Names an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Its name.
    pub id: String,
    /// `docker`, or `appc`.
    #[serde(default = "default::kind")]
    pub kind: String,
    /// Whether to pull even what is there.
    #[serde(default)]
    pub force_pull: bool,
}

/// Something mounted into the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Volume {
    /// A directory of the host.
    #[serde(rename_all = "camelCase")]
    Host {
        /// Where it appears.
        container_path: String,
        /// Which directory.
        host_path: String,
        /// Read-only or not.
        mode: VolumeMode,
    },
    /// A file with a secret in it.
    #[serde(rename_all = "camelCase")]
    Secret {
        /// Where it appears.
        container_path: String,
        /// A key of [`RunSpec::secrets`].
        secret: String,
    },
}

/// What happens when a task of a run fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// Whether there will be another one.
    #[serde(default)]
    pub policy: RestartPolicy,
    /// Only so many seconds after the run began; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<u64>,
}

/// Whether a failed task is followed by another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RestartPolicy {
    /// The run fails with its first task.
    #[default]
    Never,
    /// The run goes on with another task.
    OnFailure,
}

mod default {
    pub(super) fn cpus() -> f64 {
        1.0
    }
    pub(super) fn mem() -> f64 {
        128.0
    }
    pub(super) fn max_launch_delay() -> u32 {
        3600
    }
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn kind() -> String {
        "docker".to_owned()
    }
}
