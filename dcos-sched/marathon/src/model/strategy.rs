//! How instances are treated when things change: upgrades, losses, kills, limits.

use serde::{Deserialize, Serialize};

use super::number;

/// How far an upgrade may go below and above the wanted number of instances. A pod may say only half of it; an app says both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeStrategy {
    /// The share that may run in addition, 0 to 1.
    #[serde(default = "all", serialize_with = "number::write")]
    pub maximum_over_capacity: f64,
    /// The share that must stay healthy, 0 to 1.
    #[serde(default = "all", serialize_with = "number::write")]
    pub minimum_health_capacity: f64,
}

fn all() -> f64 {
    1.0
}

impl UpgradeStrategy {
    /// The default of what has persistent volumes: nothing is launched beside them.
    pub const RESIDENT: Self = Self {
        maximum_over_capacity: 0.0,
        minimum_health_capacity: 0.5,
    };
}

impl Default for UpgradeStrategy {
    fn default() -> Self {
        Self {
            maximum_over_capacity: all(),
            minimum_health_capacity: all(),
        }
    }
}

/// Whom to kill first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KillSelection {
    /// Those started last.
    #[default]
    YoungestFirst,
    /// Those started first.
    OldestFirst,
}

/// What happens to instances on agents the master cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum UnreachableStrategy {
    /// They are replaced and forgotten.
    Enabled(Unreachable),
    /// They are waited for, for ever.
    Disabled(Disabled),
}

/// The text `disabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disabled {
    /// The only one.
    #[serde(rename = "disabled")]
    Disabled,
}

/// When an instance out of reach is replaced and when it is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreachable {
    /// After this long a replacement starts.
    #[serde(default)]
    pub inactive_after_seconds: u64,
    /// After this long it is killed should it return.
    #[serde(default)]
    pub expunge_after_seconds: u64,
}

impl UnreachableStrategy {
    /// Instances out of reach are waited for, for ever.
    pub const NEVER: Self = Self::Disabled(Disabled::Disabled);
}

impl Default for UnreachableStrategy {
    fn default() -> Self {
        Self::Enabled(Unreachable::default())
    }
}

/// Upper bounds beyond what is requested.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<ResourceLimit>,
    /// Memory in MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem: Option<ResourceLimit>,
}

/// One upper bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ResourceLimit {
    /// This much.
    Number(f64),
    /// The text `unlimited`.
    Text(String),
}

impl ResourceLimit {
    /// The bound as Mesos takes it, infinity for none.
    pub fn value(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Text(_) => f64::INFINITY,
        }
    }
}

/// What a custom executor itself needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutorResources {
    /// Cores.
    #[serde(default = "tenth", serialize_with = "number::write")]
    pub cpus: f64,
    /// Memory in MB.
    #[serde(default = "thirty_two", serialize_with = "number::write")]
    pub mem: f64,
    /// Disk in MB.
    #[serde(default = "ten", serialize_with = "number::write")]
    pub disk: f64,
}

impl Default for ExecutorResources {
    fn default() -> Self {
        Self {
            cpus: tenth(),
            mem: thirty_two(),
            disk: ten(),
        }
    }
}

fn tenth() -> f64 {
    0.1
}

fn thirty_two() -> f64 {
    32.0
}

fn ten() -> f64 {
    10.0
}
