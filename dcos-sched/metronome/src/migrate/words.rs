//! The original's messages, by their numbers; what nothing here asks for is left out.
//!
//! Source: Metronome 0.6 `jobs/src/main/protobuf/metronome.proto`.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Pair {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Schedule {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) cron: String,
    #[prost(string, tag = "3")]
    pub(super) zone: String,
    #[prost(int64, tag = "4")]
    pub(super) starting_deadline: i64,
    #[prost(int32, tag = "5")]
    pub(super) concurrency_policy: i32,
    #[prost(bool, tag = "6")]
    pub(super) enabled: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Constraint {
    #[prost(string, tag = "1")]
    pub(super) attribute: String,
    #[prost(int32, tag = "2")]
    pub(super) operator: i32,
    #[prost(string, optional, tag = "3")]
    pub(super) value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Placement {
    #[prost(message, repeated, tag = "1")]
    pub(super) constraints: Vec<Constraint>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Artifact {
    #[prost(string, tag = "1")]
    pub(super) url: String,
    #[prost(bool, tag = "2")]
    pub(super) extract: bool,
    #[prost(bool, tag = "3")]
    pub(super) executable: bool,
    #[prost(bool, tag = "4")]
    pub(super) cache: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Docker {
    #[prost(string, tag = "1")]
    pub(super) image: String,
    #[prost(bool, tag = "2")]
    pub(super) force_pull_image: bool,
    #[prost(bool, tag = "3")]
    pub(super) privileged: bool,
    #[prost(message, repeated, tag = "4")]
    pub(super) parameters: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Image {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, optional, tag = "2", default = "docker")]
    pub(super) kind: Option<String>,
    #[prost(bool, tag = "3")]
    pub(super) force_pull: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Ucr {
    #[prost(message, optional, tag = "1")]
    pub(super) image: Option<Image>,
    #[prost(bool, tag = "2")]
    pub(super) privileged: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Volume {
    #[prost(string, tag = "1")]
    pub(super) container_path: String,
    #[prost(string, optional, tag = "2")]
    pub(super) host_path: Option<String>,
    #[prost(int32, tag = "3")]
    pub(super) mode: i32,
    #[prost(string, optional, tag = "4")]
    pub(super) secret: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Restart {
    #[prost(int32, tag = "1")]
    pub(super) policy: i32,
    #[prost(int64, optional, tag = "2")]
    pub(super) active_deadline: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Network {
    #[prost(int32, tag = "1")]
    pub(super) mode: i32,
    #[prost(string, optional, tag = "2")]
    pub(super) name: Option<String>,
    #[prost(message, repeated, tag = "3")]
    pub(super) labels: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RunSpec {
    #[prost(double, tag = "1")]
    pub(super) cpus: f64,
    #[prost(double, tag = "2")]
    pub(super) mem: f64,
    #[prost(double, tag = "3")]
    pub(super) disk: f64,
    #[prost(string, optional, tag = "4")]
    pub(super) cmd: Option<String>,
    #[prost(string, repeated, tag = "5")]
    pub(super) arguments: Vec<String>,
    #[prost(string, optional, tag = "6")]
    pub(super) user: Option<String>,
    #[prost(message, repeated, tag = "7")]
    pub(super) environment: Vec<Pair>,
    #[prost(message, optional, tag = "8")]
    pub(super) placement: Option<Placement>,
    #[prost(message, repeated, tag = "9")]
    pub(super) artifacts: Vec<Artifact>,
    #[prost(int64, optional, tag = "10", default = "3600")]
    pub(super) max_launch_delay: Option<i64>,
    #[prost(message, optional, tag = "11")]
    pub(super) docker: Option<Docker>,
    #[prost(message, repeated, tag = "12")]
    pub(super) volumes: Vec<Volume>,
    #[prost(message, optional, tag = "13")]
    pub(super) restart: Option<Restart>,
    #[prost(int64, optional, tag = "14")]
    pub(super) kill_grace_seconds: Option<i64>,
    #[prost(message, repeated, tag = "15")]
    pub(super) environment_secrets: Vec<Pair>,
    #[prost(message, repeated, tag = "16")]
    pub(super) secrets: Vec<Pair>,
    #[prost(message, optional, tag = "17")]
    pub(super) ucr: Option<Ucr>,
    #[prost(int32, tag = "18")]
    pub(super) gpus: i32,
    #[prost(message, repeated, tag = "19")]
    pub(super) networks: Vec<Network>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dependency {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JobSpec {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, optional, tag = "2")]
    pub(super) description: Option<String>,
    #[prost(message, repeated, tag = "3")]
    pub(super) labels: Vec<Pair>,
    #[prost(message, repeated, tag = "5")]
    pub(super) schedules: Vec<Schedule>,
    #[prost(message, optional, tag = "6")]
    pub(super) run: Option<RunSpec>,
    #[prost(message, repeated, tag = "20")]
    pub(super) dependencies: Vec<Dependency>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RunId {
    #[prost(string, tag = "1")]
    pub(super) job: String,
    #[prost(string, tag = "2")]
    pub(super) run: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RunTask {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(int64, tag = "2")]
    pub(super) started_at: i64,
    #[prost(int64, optional, tag = "3")]
    pub(super) completed_at: Option<i64>,
    #[prost(int32, tag = "4")]
    pub(super) status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct JobRun {
    #[prost(message, optional, tag = "1")]
    pub(super) id: Option<RunId>,
    #[prost(message, optional, tag = "2")]
    pub(super) job: Option<JobSpec>,
    #[prost(int32, tag = "3")]
    pub(super) status: i32,
    #[prost(int64, tag = "4")]
    pub(super) created_at: i64,
    #[prost(message, repeated, tag = "6")]
    pub(super) tasks: Vec<RunTask>,
    #[prost(int64, optional, tag = "7")]
    pub(super) starting_deadline_seconds: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RunInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) id: Option<RunId>,
    #[prost(int64, tag = "2")]
    pub(super) created_at: i64,
    #[prost(int64, tag = "3")]
    pub(super) finished_at: i64,
    #[prost(string, repeated, tag = "4")]
    pub(super) tasks: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct History {
    #[prost(string, tag = "1")]
    pub(super) job: String,
    #[prost(int64, tag = "2")]
    pub(super) success_count: i64,
    #[prost(int64, tag = "3")]
    pub(super) failure_count: i64,
    #[prost(int64, optional, tag = "4")]
    pub(super) last_success_at: Option<i64>,
    #[prost(int64, optional, tag = "5")]
    pub(super) last_failure_at: Option<i64>,
    #[prost(message, repeated, tag = "6")]
    pub(super) successful: Vec<RunInfo>,
    #[prost(message, repeated, tag = "7")]
    pub(super) failed: Vec<RunInfo>,
}
