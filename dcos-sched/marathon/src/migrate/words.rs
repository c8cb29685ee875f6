//! The original's messages, by their numbers; what nothing here asks for is left out.
//!
//! Source: Marathon 1.11 `src/main/protobuf/marathon.proto`. Enumerations are kept as numbers: their words are given
//! where they are translated.

use std::collections::BTreeMap;

use dcos_proto::mesos;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoreEntry {
    #[prost(bytes = "vec", tag = "3")]
    pub(super) value: Vec<u8>,
    #[prost(bool, tag = "4")]
    pub(super) compressed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StorageVersion {
    #[prost(uint32, tag = "1")]
    pub(super) major: u32,
    #[prost(uint32, tag = "2")]
    pub(super) minor: u32,
    #[prost(uint32, tag = "3")]
    pub(super) patch: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FrameworkId {
    #[prost(string, tag = "1")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Constraint {
    #[prost(string, tag = "1")]
    pub(super) field: String,
    #[prost(int32, tag = "2")]
    pub(super) operator: i32,
    #[prost(string, optional, tag = "3")]
    pub(super) value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheck {
    #[prost(int32, tag = "1")]
    pub(super) protocol: i32,
    #[prost(uint32, optional, tag = "2")]
    pub(super) port_index: Option<u32>,
    #[prost(uint32, optional, tag = "3", default = "15")]
    pub(super) grace_period_seconds: Option<u32>,
    #[prost(uint32, optional, tag = "4", default = "10")]
    pub(super) interval_seconds: Option<u32>,
    #[prost(uint32, optional, tag = "5", default = "20")]
    pub(super) timeout_seconds: Option<u32>,
    #[prost(string, optional, tag = "6")]
    pub(super) path: Option<String>,
    #[prost(uint32, optional, tag = "7", default = "3")]
    pub(super) max_consecutive_failures: Option<u32>,
    #[prost(message, optional, tag = "8")]
    pub(super) command: Option<mesos::CommandInfo>,
    #[prost(bool, tag = "9")]
    pub(super) ignore_http1xx: bool,
    #[prost(uint32, optional, tag = "10")]
    pub(super) port: Option<u32>,
    #[prost(uint32, optional, tag = "11", default = "15")]
    pub(super) delay_seconds: Option<u32>,
    #[prost(string, optional, tag = "12")]
    pub(super) port_name: Option<String>,
    #[prost(int32, optional, tag = "13")]
    pub(super) ip_protocol: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Check {
    #[prost(int32, tag = "1")]
    pub(super) protocol: i32,
    #[prost(uint32, optional, tag = "2", default = "60")]
    pub(super) interval_seconds: Option<u32>,
    #[prost(uint32, optional, tag = "3", default = "20")]
    pub(super) timeout_seconds: Option<u32>,
    #[prost(uint32, optional, tag = "4", default = "15")]
    pub(super) delay_seconds: Option<u32>,
    #[prost(uint32, optional, tag = "5")]
    pub(super) port_index: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    pub(super) port: Option<u32>,
    #[prost(string, optional, tag = "7")]
    pub(super) path: Option<String>,
    #[prost(message, optional, tag = "8")]
    pub(super) command: Option<mesos::CommandInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ReadinessCheck {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(int32, tag = "2")]
    pub(super) protocol: i32,
    #[prost(string, optional, tag = "3")]
    pub(super) path: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(super) port_name: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) interval_millis: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub(super) timeout_millis: Option<u64>,
    #[prost(uint32, repeated, packed = "false", tag = "7")]
    pub(super) codes: Vec<u32>,
    #[prost(bool, tag = "8")]
    pub(super) preserve_last_response: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Network {
    #[prost(int32, tag = "1")]
    pub(super) mode: i32,
    #[prost(string, optional, tag = "2")]
    pub(super) name: Option<String>,
    #[prost(message, repeated, tag = "3")]
    pub(super) labels: Vec<mesos::Label>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpgradeStrategy {
    #[prost(double, tag = "1")]
    pub(super) minimum_health_capacity: f64,
    #[prost(double, optional, tag = "2", default = "1.0")]
    pub(super) maximum_over_capacity: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UnreachableStrategy {
    #[prost(uint64, optional, tag = "1")]
    pub(super) inactive_after_seconds: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) expunge_after_seconds: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceLimits {
    #[prost(double, optional, tag = "1")]
    pub(super) cpus: Option<f64>,
    #[prost(double, optional, tag = "2")]
    pub(super) mem: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceRoles {
    #[prost(string, repeated, tag = "1")]
    pub(super) role: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Secret {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) source: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SecretId {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EnvReference {
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, optional, tag = "3")]
    pub(super) secret: Option<SecretId>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PullConfig {
    #[prost(message, optional, tag = "2")]
    pub(super) secret: Option<mesos::Secret>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DockerInfo {
    #[prost(string, tag = "1")]
    pub(super) image: String,
    #[prost(bool, tag = "4")]
    pub(super) privileged: bool,
    #[prost(message, repeated, tag = "5")]
    pub(super) parameters: Vec<mesos::Parameter>,
    #[prost(bool, tag = "6")]
    pub(super) force_pull_image: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MesosDockerInfo {
    #[prost(string, tag = "1")]
    pub(super) image: String,
    #[prost(message, optional, tag = "2")]
    pub(super) credential: Option<mesos::Credential>,
    #[prost(bool, tag = "3")]
    pub(super) force_pull_image: bool,
    #[prost(message, optional, tag = "4")]
    pub(super) pull_config: Option<PullConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Seccomp {
    #[prost(string, optional, tag = "1")]
    pub(super) profile_name: Option<String>,
    #[prost(bool, tag = "2")]
    pub(super) unconfined: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IpcInfo {
    #[prost(int32, tag = "1")]
    pub(super) mode: i32,
    #[prost(uint32, optional, tag = "2")]
    pub(super) shm_size: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LinuxInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) seccomp: Option<Seccomp>,
    #[prost(message, optional, tag = "2")]
    pub(super) ipc_info: Option<IpcInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PortMapping {
    #[prost(uint32, optional, tag = "1")]
    pub(super) host_port: Option<u32>,
    #[prost(uint32, tag = "2")]
    pub(super) container_port: u32,
    #[prost(string, optional, tag = "3")]
    pub(super) protocol: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(super) name: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) labels: Vec<mesos::Label>,
    #[prost(uint32, tag = "6")]
    pub(super) service_port: u32,
    #[prost(string, repeated, tag = "7")]
    pub(super) network_names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PersistentVolume {
    #[prost(uint64, tag = "1")]
    pub(super) size: u64,
    #[prost(int32, optional, tag = "2")]
    pub(super) disk: Option<i32>,
    #[prost(message, repeated, tag = "3")]
    pub(super) constraints: Vec<Constraint>,
    #[prost(uint64, optional, tag = "4")]
    pub(super) max_size: Option<u64>,
    #[prost(string, optional, tag = "5")]
    pub(super) profile_name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExternalVolume {
    #[prost(uint64, optional, tag = "1")]
    pub(super) size: Option<u64>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) provider: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) options: Vec<mesos::Label>,
    #[prost(bool, tag = "5")]
    pub(super) shared: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CsiVolume {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) plugin_name: String,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(super) volume_context: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SecretVolume {
    #[prost(string, tag = "1")]
    pub(super) secret: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Volume {
    #[prost(string, tag = "1")]
    pub(super) container_path: String,
    #[prost(string, optional, tag = "2")]
    pub(super) host_path: Option<String>,
    #[prost(int32, tag = "3")]
    pub(super) mode: i32,
    #[prost(message, optional, tag = "5")]
    pub(super) persistent: Option<PersistentVolume>,
    #[prost(message, optional, tag = "6")]
    pub(super) external: Option<ExternalVolume>,
    #[prost(message, optional, tag = "7")]
    pub(super) secret: Option<SecretVolume>,
    #[prost(message, optional, tag = "8")]
    pub(super) csi: Option<CsiVolume>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(int32, tag = "1")]
    pub(super) engine: i32,
    #[prost(message, repeated, tag = "2")]
    pub(super) volumes: Vec<Volume>,
    #[prost(message, optional, tag = "3")]
    pub(super) docker: Option<DockerInfo>,
    #[prost(message, optional, tag = "4")]
    pub(super) mesos_docker: Option<MesosDockerInfo>,
    #[prost(message, repeated, tag = "6")]
    pub(super) port_mappings: Vec<PortMapping>,
    #[prost(message, optional, tag = "7")]
    pub(super) linux_info: Option<LinuxInfo>,
}

/// An app.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceDefinition {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) cmd: Option<mesos::CommandInfo>,
    #[prost(uint32, tag = "3")]
    pub(super) instances: u32,
    #[prost(message, repeated, tag = "4")]
    pub(super) resources: Vec<mesos::Resource>,
    #[prost(uint32, repeated, packed = "false", tag = "6")]
    pub(super) ports: Vec<u32>,
    #[prost(message, repeated, tag = "7")]
    pub(super) constraints: Vec<Constraint>,
    #[prost(string, tag = "8")]
    pub(super) executor: String,
    #[prost(string, optional, tag = "11")]
    pub(super) version: Option<String>,
    #[prost(message, repeated, tag = "12")]
    pub(super) health_checks: Vec<HealthCheck>,
    #[prost(int64, optional, tag = "13", default = "1000")]
    pub(super) backoff: Option<i64>,
    #[prost(double, optional, tag = "14", default = "1.15")]
    pub(super) backoff_factor: Option<f64>,
    #[prost(message, optional, tag = "15")]
    pub(super) upgrade_strategy: Option<UpgradeStrategy>,
    #[prost(string, repeated, tag = "16")]
    pub(super) dependencies: Vec<String>,
    #[prost(bool, tag = "18")]
    pub(super) require_ports: bool,
    #[prost(message, optional, tag = "19")]
    pub(super) container: Option<Container>,
    #[prost(message, repeated, tag = "20")]
    pub(super) labels: Vec<mesos::Parameter>,
    #[prost(int64, optional, tag = "21", default = "3600000")]
    pub(super) max_launch_delay: Option<i64>,
    #[prost(message, optional, tag = "22")]
    pub(super) accepted_resource_roles: Option<ResourceRoles>,
    #[prost(int64, optional, tag = "23")]
    pub(super) last_scaling_at: Option<i64>,
    #[prost(int64, optional, tag = "24")]
    pub(super) last_config_change_at: Option<i64>,
    #[prost(message, repeated, tag = "27")]
    pub(super) port_definitions: Vec<mesos::Port>,
    #[prost(message, repeated, tag = "28")]
    pub(super) readiness_checks: Vec<ReadinessCheck>,
    #[prost(message, repeated, tag = "29")]
    pub(super) secrets: Vec<Secret>,
    #[prost(message, repeated, tag = "30")]
    pub(super) env_references: Vec<EnvReference>,
    #[prost(int64, optional, tag = "31")]
    pub(super) task_kill_grace_period: Option<i64>,
    #[prost(message, optional, tag = "32")]
    pub(super) unreachable_strategy: Option<UnreachableStrategy>,
    #[prost(int32, optional, tag = "33")]
    pub(super) kill_selection: Option<i32>,
    #[prost(message, repeated, tag = "34")]
    pub(super) networks: Vec<Network>,
    #[prost(message, optional, tag = "35")]
    pub(super) tty: Option<mesos::TtyInfo>,
    #[prost(message, repeated, tag = "36")]
    pub(super) executor_resources: Vec<mesos::Resource>,
    #[prost(message, optional, tag = "37")]
    pub(super) check: Option<Check>,
    #[prost(string, optional, tag = "38")]
    pub(super) role: Option<String>,
    #[prost(message, optional, tag = "39")]
    pub(super) resource_limits: Option<ResourceLimits>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Reference {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

/// A group, with those in it; of apps and pods it holds ids and versions.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GroupDefinition {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) groups: Vec<GroupDefinition>,
    #[prost(string, repeated, tag = "5")]
    pub(super) dependencies: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(super) apps: Vec<Reference>,
    #[prost(message, repeated, tag = "7")]
    pub(super) pods: Vec<Reference>,
    #[prost(bool, optional, tag = "9")]
    pub(super) enforce_role: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeploymentPlan {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "7")]
    pub(super) target: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TaskFailure {
    #[prost(string, tag = "1")]
    pub(super) app_id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) task_id: Option<mesos::TaskId>,
    #[prost(enumeration = "mesos::TaskState", tag = "3")]
    pub(super) state: i32,
    #[prost(string, tag = "4")]
    pub(super) message: String,
    #[prost(string, tag = "5")]
    pub(super) host: String,
    #[prost(string, tag = "6")]
    pub(super) version: String,
    #[prost(string, tag = "7")]
    pub(super) timestamp: String,
    #[prost(message, optional, tag = "8")]
    pub(super) agent_id: Option<mesos::AgentId>,
}
