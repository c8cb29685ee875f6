//! What an operator may set, under the original's names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dcos_containerizer::fetcher::Fetcher;
use dcos_containerizer::isolator::gpu::GpuPool;
use dcos_containerizer::logger::ContainerLogger;
use dcos_containerizer::secret::{self, SecretResolver, ValuesOnly};
use dcos_core::config::{Spec, Values};
use dcos_core::error::chain;
use dcos_image::credentials::Credentials;
use serde::Deserialize;

use crate::collect::CollectConfig;
use crate::shape::DefaultDns;

/// The options of this containerizer; `docker_stop_timeout` is the agent's, `docker_config` that
/// of images, `default_container_dns` that of isolation.
pub const OPTIONS: &[Spec] = &[
    Spec::path("docker_socket")
        .default("/var/run/docker.sock")
        .help("where Docker Engine listens"),
    Spec::duration("docker_remove_delay")
        .default("6hrs")
        .help("how long containers that ended stay known to Docker"),
    Spec::duration("docker_timeout")
        .default("2mins")
        .help("how long Docker may take to begin an answer before it is said to hang (ours)"),
    Spec::switch("docker_kill_orphans")
        .default("true")
        .help("end containers of this agent that nobody waits for"),
    Spec::json("docker_gc").help(
        "when images and containers are removed from Docker, such as {\"max_age\": \"1weeks\"}; never by default (ours)",
    ),
];

/// How a [`Docker`](crate::Docker) is put together.
#[derive(Debug)]
pub struct DockerConfig {
    /// Where the engine listens.
    pub socket: PathBuf,
    /// What is kept of containers; has to survive the host's restart.
    pub state: PathBuf,
    /// Where the sockets of sessions are; a short path, and a folder of its own.
    pub sockets: PathBuf,
    /// What brings files.
    pub fetcher: Arc<dyn Fetcher>,
    /// What keeps output.
    pub logger: Arc<dyn ContainerLogger>,
    /// Who we are to registries.
    pub credentials: Credentials,
    /// Where containers see their sandbox.
    pub sandbox_directory: PathBuf,
    /// Give sandboxes to the task's user; otherwise they are ours.
    pub switch_user: bool,
    /// Cap CPU time at what was given, not only share it.
    pub cfs: bool,
    /// How long the engine may take to begin an answer. Starting a container with a volume of a
    /// remote driver is the longest of what it is asked; pulls and logs only have to begin.
    pub timeout: Duration,
    /// How long containers that ended stay known to the engine.
    pub remove_delay: Duration,
    /// End containers that nobody waits for.
    pub kill_orphans: bool,
    /// Where the values of secrets come from.
    pub secrets: Arc<dyn SecretResolver>,
    /// The GPUs that containers get, shared with others of this node; absent, none.
    pub gpus: Option<GpuPool>,
    /// Name servers by network.
    pub(crate) dns: Vec<DefaultDns>,
    /// When images are removed.
    pub collect: Option<CollectConfig>,
}

/// A value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{option}: {problem}")]
pub struct OptionError {
    /// The option.
    pub option: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

#[derive(Deserialize)]
struct DnsWire {
    #[serde(default)]
    docker: Vec<DefaultDns>,
}

impl DockerConfig {
    /// The defaults.
    pub fn new(
        socket: impl Into<PathBuf>,
        state: impl Into<PathBuf>,
        fetcher: Arc<dyn Fetcher>,
        logger: Arc<dyn ContainerLogger>,
    ) -> Self {
        let state: PathBuf = state.into();
        Self {
            socket: socket.into(),
            sockets: state.join("io"),
            state,
            fetcher,
            logger,
            credentials: Credentials::default(),
            sandbox_directory: "/mnt/mesos/sandbox".into(),
            switch_user: true,
            cfs: false,
            timeout: Duration::from_mins(2),
            remove_delay: Duration::from_hours(6),
            kill_orphans: true,
            secrets: Arc::new(ValuesOnly),
            gpus: None,
            dns: Vec::new(),
            collect: None,
        }
    }

    /// From values of [`OPTIONS`] and those the agent has anyway.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn from_values(
        values: &Values,
        fetcher: Arc<dyn Fetcher>,
        logger: Arc<dyn ContainerLogger>,
    ) -> Result<Self, OptionError> {
        let state = values.path("work_dir").join("docker");
        let wrong = |option, problem: String| OptionError { option, problem };
        let credentials = match values.opt_text("docker_config") {
            None => Credentials::default(),
            Some(text) => Credentials::parse(text.as_bytes())
                .map_err(|error| wrong("docker_config", chain(&error).to_string()))?,
        };
        let dns = values.opt_json("default_container_dns");
        let dns = dns.map(serde_json::from_value::<DnsWire>).transpose();
        let dns = dns.map_err(|error| wrong("default_container_dns", error.to_string()))?;
        let collect = values.opt_json("docker_gc");
        let collect = collect
            .map(|value| CollectConfig::from_json(&value))
            .transpose();
        Ok(Self {
            credentials,
            sandbox_directory: values.path("sandbox_directory"),
            cfs: values.switch("cgroups_enable_cfs"),
            timeout: values.duration("docker_timeout"),
            remove_delay: values.duration("docker_remove_delay"),
            kill_orphans: values.switch("docker_kill_orphans"),
            secrets: secret::from_values(values),
            dns: dns.map(|dns| dns.docker).unwrap_or_default(),
            collect: collect.map_err(|problem| wrong("docker_gc", problem))?,
            ..Self::new(values.path("docker_socket"), state, fetcher, logger)
        })
    }
}
