//! A pod: containers that live and die together on one agent, sharing networks and volumes.
//!
//! To the core a pod is a run spec like any other, an [`App`] whose [`App::pod`] says what to run. What all run
//! specs have (number, placement, strategies, role) is kept in the fields of the app and written back into the
//! document by [`App::pod_document`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    App, CheckCommand, EnvValue, ExecutorResources, Fetch, KillSelection, LinuxInfo, Network,
    PersistentVolume, PullConfig, ResourceLimits, SecretDef, UnreachableStrategy, UpgradeStrategy,
    number,
};
use crate::{PathId, Timestamp};

/// A pod as users send and see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Where the pod lives.
    pub id: PathId,
    /// Free names and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When this definition was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Timestamp>,
    /// The operating system user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment variables of all containers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, EnvValue>,
    /// What runs, at least one.
    pub containers: Vec<PodContainer>,
    /// Secrets by the names used in environments and volumes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretDef>,
    /// What containers can mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<PodVolume>,
    /// The networks all containers share.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// How many instances are wanted.
    #[serde(default)]
    pub scaling: Scaling,
    /// Where and how instances are launched and replaced.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// What the executor itself needs.
    #[serde(default)]
    pub executor_resources: ExecutorResources,
    /// The role whose resources are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Whether containers share the executor's cgroups, as before Mesos 1.10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_shared_cgroups: Option<bool>,
    /// Security settings, passed on as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux_info: Option<LinuxInfo>,
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodContainer {
    /// Its name, unique in the pod.
    pub name: String,
    /// What it runs, unless the image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// What it needs.
    #[serde(default)]
    pub resources: PodResources,
    /// Upper bounds beyond what is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<ResourceLimits>,
    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// The image it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<PodImage>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, EnvValue>,
    /// The operating system user, instead of the pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The check that decides whether it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<PodHealthCheck>,
    /// The check whose result is only reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<PodCheck>,
    /// Volumes of the pod it mounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Files brought into its sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Fetch>,
    /// Free names and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Lifecycle>,
    /// Security settings, passed on as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux_info: Option<LinuxInfo>,
    /// Whether the process gets a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<bool>,
}

/// What a container runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exec {
    /// A line for the shell, or words.
    pub command: CheckCommand,
    /// Whether the words replace the image's entry point, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_entrypoint: Option<bool>,
}

/// What a container needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodResources {
    /// Cores.
    #[serde(default = "one", serialize_with = "number::write")]
    pub cpus: f64,
    /// Memory in MB.
    #[serde(default = "mem", serialize_with = "number::write")]
    pub mem: f64,
    /// Disk in MB.
    #[serde(default, serialize_with = "number::write")]
    pub disk: f64,
    /// GPUs.
    #[serde(default)]
    pub gpus: u32,
}

impl Default for PodResources {
    fn default() -> Self {
        Self {
            cpus: one(),
            mem: mem(),
            disk: 0.0,
            gpus: 0,
        }
    }
}

/// Where a container is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its name, unique in the pod.
    pub name: String,
    /// The port inside; 0 is the same as on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_port: Option<u16>,
    /// The port on the host; 0 is any, absent is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// `tcp`, `udp`, or both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocol: Vec<String>,
    /// Free names and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The networks it belongs to; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_names: Vec<String>,
}

/// The image of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodImage {
    /// `DOCKER`, there is no other kind.
    pub kind: String,
    /// Its name.
    pub id: String,
    /// Where the registry's credentials are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_config: Option<PullConfig>,
    /// Whether to pull even what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_pull: Option<bool>,
    /// Free names and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A check that decides whether a container is healthy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodHealthCheck {
    /// What is checked, and when.
    #[serde(flatten)]
    pub check: PodCheck,
    /// Failures before the first success do not count for this long.
    #[serde(default = "grace")]
    pub grace_period_seconds: u32,
    /// As many failures in a row end the container.
    #[serde(default = "failures")]
    pub max_consecutive_failures: u32,
}

/// A check, by itself one whose result is only reported: one of `http`, `tcp`, `exec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCheck {
    /// A request to an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<EndpointCheck>,
    /// A connection to an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<EndpointCheck>,
    /// A command inside the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Between two checks.
    #[serde(default = "minute")]
    pub interval_seconds: u32,
    /// How long one check may take.
    #[serde(default = "timeout")]
    pub timeout_seconds: u32,
    /// Before the first check.
    #[serde(default = "delay")]
    pub delay_seconds: u32,
}

/// A check of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCheck {
    /// The endpoint's name.
    pub endpoint: String,
    /// The path of an HTTP check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `HTTP` or `HTTPS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
}

/// A volume of the pod in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// The volume.
    pub name: String,
    /// Where it appears.
    pub mount_path: String,
    /// Whether it cannot be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// How a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Time from SIGTERM to SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_grace_period_seconds: Option<f64>,
}

/// A volume containers can mount: of a directory of the host, a secret, a reserved disk, or, with none of these, one
/// that ends with the instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodVolume {
    /// Its name, unique in the pod.
    pub name: String,
    /// A directory of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A name among the pod's secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// A reserved disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<PersistentVolume>,
}

/// How many instances are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// `fixed`, there is no other kind.
    #[serde(default = "fixed")]
    pub kind: String,
    /// The number.
    #[serde(default = "instances")]
    pub instances: u32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            kind: fixed(),
            instances: instances(),
        }
    }
}

/// Where and how instances are launched and replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Delays between failing launches.
    #[serde(default)]
    pub backoff: PodBackoff,
    /// How far an upgrade may go below and above the wanted number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStrategy>,
    /// Where instances may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Whom to kill first when there are too many.
    #[serde(default)]
    pub kill_selection: KillSelection,
    /// How long to wait for instances on agents that are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_strategy: Option<UnreachableStrategy>,
}

/// Delays between failing launches, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodBackoff {
    /// The first.
    #[serde(default = "one", serialize_with = "number::write")]
    pub backoff: f64,
    /// By how much it grows.
    #[serde(
        default = "super::app::default::backoff_factor",
        serialize_with = "number::write"
    )]
    pub backoff_factor: f64,
    /// The longest.
    #[serde(default = "longest", serialize_with = "number::write")]
    pub max_launch_delay: f64,
}

impl Default for PodBackoff {
    fn default() -> Self {
        Self {
            backoff: one(),
            backoff_factor: super::app::default::backoff_factor(),
            max_launch_delay: longest(),
        }
    }
}

/// Where instances may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Rules about agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<PodConstraint>,
    /// Roles whose resources may be used; all the pod can get if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted_resource_roles: Vec<String>,
}

/// One rule about one property of agents, with its words named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodConstraint {
    /// The property.
    pub field_name: String,
    /// The rule.
    pub operator: String,
    /// Its parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Pod {
    /// All endpoints, container by container: the order of an instance's ports.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.containers
            .iter()
            .flat_map(|container| &container.endpoints)
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&PodContainer> {
        self.containers
            .iter()
            .find(|container| container.name == name)
    }

    /// Cores, memory, disk and GPUs of an instance, its executor included.
    pub fn total(&self) -> PodResources {
        let executor = PodResources {
            cpus: self.executor_resources.cpus,
            mem: self.executor_resources.mem,
            disk: self.executor_resources.disk,
            gpus: 0,
        };
        let all = self.containers.iter().map(|container| container.resources);
        all.fold(executor, |sum, each| PodResources {
            cpus: sum.cpus + each.cpus,
            mem: sum.mem + each.mem,
            disk: sum.disk + each.disk,
            gpus: sum.gpus + each.gpus,
        })
    }
}

impl App {
    /// Whether this run spec is a pod.
    pub fn is_pod(&self) -> bool {
        self.pod.is_some()
    }

    /// The pod this run spec is, as it is now.
    pub fn pod_document(&self) -> Option<Pod> {
        let pod = self.pod.as_deref()?;
        Some(Pod {
            version: Some(self.version),
            role: Some(self.role.clone()),
            scaling: Scaling {
                instances: self.instances,
                ..pod.scaling.clone()
            },
            ..pod.clone()
        })
    }
}

fn one() -> f64 {
    1.0
}

fn mem() -> f64 {
    super::app::default::mem()
}

fn longest() -> f64 {
    f64::from(super::app::default::max_launch_delay_seconds())
}

fn fixed() -> String {
    "fixed".to_owned()
}

fn instances() -> u32 {
    super::app::default::instances()
}

fn grace() -> u32 {
    300
}

fn minute() -> u32 {
    60
}

fn failures() -> u32 {
    3
}

fn timeout() -> u32 {
    20
}

fn delay() -> u32 {
    15
}
