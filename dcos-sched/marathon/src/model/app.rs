//! An app: what to run, how many of it, and how to treat it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    AppCheck, Constraint, Container, ExecutorResources, ExternalVolume, HealthCheck, IpAddress,
    KillSelection, Network, PersistentVolume, Pod, PortDefinition, PortMapping, ReadinessCheck,
    ResourceLimits, UnreachableStrategy, UpgradeStrategy, number,
};
use crate::{PathId, Timestamp};

/// A complete app definition in canonical form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Where the app lives.
    pub id: PathId,
    /// Roles whose resources may be used; all the app can get if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_resource_roles: Option<Vec<String>>,
    /// The command as a list of words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// By how much the delay between failing launches grows.
    #[serde(default = "default::backoff_factor", serialize_with = "number::write")]
    pub backoff_factor: f64,
    /// The first delay after a failed launch.
    #[serde(default = "default::backoff_seconds")]
    pub backoff_seconds: u32,
    /// The command as a line for `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    /// Where instances may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// The container instances run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Cores of one instance.
    #[serde(default = "default::cpus", serialize_with = "number::write")]
    pub cpus: f64,
    /// Apps and groups that must be up first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<PathId>,
    /// Disk of one instance in MB.
    #[serde(default, serialize_with = "number::write")]
    pub disk: f64,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// A custom executor's command; empty for the built-in one.
    #[serde(default)]
    pub executor: String,
    /// What a custom executor itself needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_resources: Option<ExecutorResources>,
    /// Files brought into the sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetch: Vec<Fetch>,
    /// Checks that decide whether an instance is healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub health_checks: Vec<HealthCheck>,
    /// A check whose result is only reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<AppCheck>,
    /// How many instances are wanted.
    #[serde(default = "default::instances")]
    pub instances: u32,
    /// Free names and values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The longest delay between failing launches.
    #[serde(default = "default::max_launch_delay_seconds")]
    pub max_launch_delay_seconds: u32,
    /// Memory of one instance in MB.
    #[serde(default = "default::mem", serialize_with = "number::write")]
    pub mem: f64,
    /// GPUs of one instance.
    #[serde(default)]
    pub gpus: u32,
    /// The networks instances join.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// Ports on the host, with host networking only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_definitions: Option<Vec<PortDefinition>>,
    /// Checks that hold a deployment until an instance is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readiness_checks: Vec<ReadinessCheck>,
    /// Upper bounds beyond what is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<ResourceLimits>,
    /// Whether port numbers are those on the host.
    #[serde(default)]
    pub require_ports: bool,
    /// Secrets by the names used in `env` and volumes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretDef>,
    /// Time from SIGTERM to SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_kill_grace_period_seconds: Option<u32>,
    /// How far an upgrade may go below and above the wanted number.
    #[serde(default)]
    pub upgrade_strategy: UpgradeStrategy,
    /// The operating system user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When this definition was accepted, which is also its name.
    #[serde(default)]
    pub version: Timestamp,
    /// When number and configuration last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_info: Option<VersionInfo>,
    /// Whom to kill first when there are too many.
    #[serde(default)]
    pub kill_selection: KillSelection,
    /// How long to wait for instances on agents that are gone.
    #[serde(default)]
    pub unreachable_strategy: UnreachableStrategy,
    /// Whether the process gets a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    /// The role whose resources are used.
    #[serde(default)]
    pub role: String,
    /// What to run, if this is not an app but a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Box<Pod>>,
}

/// The two ways in which a definition changes, and when each last did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// The number of instances.
    pub last_scaling_at: Timestamp,
    /// Anything else: instances older than this are outdated.
    pub last_config_change_at: Timestamp,
}

/// The value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvValue {
    /// As it stands.
    Text(String),
    /// Taken from the named secret.
    Secret {
        /// A key of [`App::secrets`].
        secret: String,
    },
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDef {
    /// Its path in the secret store.
    pub source: String,
}

/// A file brought into the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fetch {
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
    /// Where it goes, relative to the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_path: Option<String>,
}

impl App {
    /// A run spec with every default.
    pub fn new(id: PathId) -> Self {
        Self {
            id,
            accepted_resource_roles: None,
            args: Vec::new(),
            backoff_factor: default::backoff_factor(),
            backoff_seconds: default::backoff_seconds(),
            cmd: None,
            constraints: Vec::new(),
            container: None,
            cpus: default::cpus(),
            dependencies: Vec::new(),
            disk: 0.0,
            env: BTreeMap::new(),
            executor: String::new(),
            executor_resources: None,
            fetch: Vec::new(),
            health_checks: Vec::new(),
            check: None,
            instances: default::instances(),
            labels: BTreeMap::new(),
            max_launch_delay_seconds: default::max_launch_delay_seconds(),
            mem: default::mem(),
            gpus: 0,
            networks: Vec::new(),
            port_definitions: None,
            readiness_checks: Vec::new(),
            resource_limits: None,
            require_ports: false,
            secrets: BTreeMap::new(),
            task_kill_grace_period_seconds: None,
            upgrade_strategy: UpgradeStrategy::default(),
            user: None,
            version: Timestamp::default(),
            version_info: None,
            kill_selection: KillSelection::default(),
            unreachable_strategy: UnreachableStrategy::default(),
            tty: None,
            role: String::new(),
            pod: None,
        }
    }

    /// The version that decides whether an instance is outdated.
    pub fn config_version(&self) -> Timestamp {
        self.version_info
            .map_or(self.version, |info| info.last_config_change_at)
    }

    /// Whether all but the number of instances and the version is the same.
    pub fn same_config(&self, other: &Self) -> bool {
        let like = |app: &Self| Self {
            instances: 0,
            version: Timestamp::default(),
            version_info: None,
            ..app.clone()
        };
        like(self) == like(other)
    }

    /// Whether instances share the host's network.
    pub fn is_host_networked(&self) -> bool {
        self.networks.iter().all(Network::is_host)
    }

    /// Port mappings, if there is a container with some.
    pub fn port_mappings(&self) -> &[PortMapping] {
        self.container
            .as_ref()
            .and_then(|c| c.port_mappings.as_deref())
            .unwrap_or_default()
    }

    /// Port definitions, none without host networking.
    pub fn port_definitions(&self) -> &[PortDefinition] {
        self.port_definitions.as_deref().unwrap_or_default()
    }

    /// The ports load balancers use, in order.
    pub fn service_ports(&self) -> Vec<u16> {
        if self.port_mappings().is_empty() {
            self.port_definitions()
                .iter()
                .map(|port| port.port)
                .collect()
        } else {
            self.port_mappings()
                .iter()
                .map(|mapping| mapping.service_port)
                .collect()
        }
    }

    /// How many ports an instance has.
    pub fn port_count(&self) -> usize {
        if self.port_mappings().is_empty() {
            self.port_definitions().len()
        } else {
            self.port_mappings().len()
        }
    }

    /// The persistent volumes, with the paths they appear at: for a pod those in its executor's sandbox, their names.
    pub fn persistent_volumes(&self) -> impl Iterator<Item = (&str, &PersistentVolume)> {
        let volumes = self
            .container
            .iter()
            .flat_map(|container| &container.volumes);
        let of_app = volumes.filter_map(|volume| {
            let persistent = volume.persistent.as_ref()?;
            Some((volume.container_path.as_str(), persistent))
        });
        let of_pod = self.pod.iter().flat_map(|pod| &pod.volumes);
        of_app.chain(of_pod.filter_map(|volume| {
            let persistent = volume.persistent.as_ref()?;
            Some((volume.name.as_str(), persistent))
        }))
    }

    /// The volumes of drivers.
    pub fn external_volumes(&self) -> impl Iterator<Item = &ExternalVolume> {
        let volumes = self
            .container
            .iter()
            .flat_map(|container| &container.volumes);
        volumes.filter_map(|volume| volume.external.as_ref())
    }

    /// Whether instances keep resources and volumes that outlive their tasks.
    pub fn is_resident(&self) -> bool {
        self.persistent_volumes().next().is_some()
    }

    /// Whether an instance has to be gone before another one takes its place: both would use the same volumes.
    pub fn is_exclusive(&self) -> bool {
        self.is_resident() || self.external_volumes().any(|external| !external.shared)
    }

    /// Whether more than one instance would be a mistake.
    pub fn is_single_instance(&self) -> bool {
        self.labels
            .get("MARATHON_SINGLE_INSTANCE_APP")
            .is_some_and(|value| value == "true")
    }

    /// The number of instances an upgrade leaves healthy.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 1 times a u32"
    )]
    pub fn min_healthy(&self) -> u32 {
        (f64::from(self.instances) * self.upgrade_strategy.minimum_health_capacity).ceil() as u32
    }

    /// The number of instances an upgrade does not exceed.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 2 times a u32, saturating"
    )]
    pub fn max_capacity(&self) -> u32 {
        (f64::from(self.instances) * (1.0 + self.upgrade_strategy.maximum_over_capacity)).floor()
            as u32
    }
}

/// An app as users send it: every field optional, deprecated ones included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "field by field as in `App`")]
pub struct AppUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_resource_roles: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_factor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Vec<Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, EnvValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor_resources: Option<ExecutorResources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch: Option<Vec<Fetch>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_checks: Option<Vec<HealthCheck>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<AppCheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_launch_delay_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<Network>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_definitions: Option<Vec<PortDefinition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_checks: Option<Vec<ReadinessCheck>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<ResourceLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_ports: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<BTreeMap<String, SecretDef>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_kill_grace_period_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade_strategy: Option<UpgradeStrategy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_selection: Option<KillSelection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreachable_strategy: Option<UnreachableStrategy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Without effect: what is shown of apps with persistent volumes comes back with them.
    #[serde(skip_serializing)]
    pub residency: Option<serde_json::Value>,
    /// Deprecated: [`AppUpdate::port_definitions`] by number only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
    /// Deprecated: [`AppUpdate::fetch`] by address only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uris: Option<Vec<String>>,
    /// Deprecated: [`AppUpdate::networks`] of one container network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<IpAddress>,
}

pub(super) mod default {
    pub(in super::super) fn backoff_factor() -> f64 {
        1.15
    }
    pub(in super::super) fn backoff_seconds() -> u32 {
        1
    }
    pub(in super::super) fn cpus() -> f64 {
        1.0
    }
    pub(in super::super) fn instances() -> u32 {
        1
    }
    pub(in super::super) fn max_launch_delay_seconds() -> u32 {
        300
    }
    pub(in super::super) fn mem() -> f64 {
        128.0
    }
    pub(in super::super) fn yes() -> bool {
        true
    }
}
