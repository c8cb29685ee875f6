//! What an operator may set, under the original's names.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::attributes;
use dcos_core::config::{Spec, Values};
use dcos_core::resources::{ParseError, Resources};
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{Attribute, DomainInfo, MasterInfo};
use dcos_security::RateLimits;
use dcos_wire::tls::Ssl;
use dcos_wire::{Firewall, Origins, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Reconfiguration;
use super::hooks::Hooks;
use super::security::Security;
use super::socket::ExecutorSocket;
use crate::oversubscription::{
    FixedEstimator, LoadQosController, NoEstimator, NoQosController, QosController,
    ResourceEstimator,
};
use crate::provisioner::Provisioner;

/// The options of the agent itself; containerizer and isolators have their own.
pub const OPTIONS: &[Spec] = &[
    Spec::text("master")
        .required()
        .help("the master: host:port, a file:// that holds it, or where masters elect their leader: zk://[user:password@]host1:port1,host2:port2/path, etcd://…; zks://… and etcds://… over TLS"),
    Spec::path("work_dir")
        .required()
        .help("sandboxes and checkpoints; has to survive a reboot"),
    Spec::text("ip").help("the address to listen on and to be known by"),
    Spec::port("port")
        .default("5051")
        .help("the port to listen on; 0 takes a free one"),
    Spec::text("advertise_ip").help("the address to be known by, if it is another one"),
    Spec::text("advertise_port").help("the port to be known by, if it is another one"),
    Spec::text("hostname").help("the name to be known by; absent, the host's own"),
    Spec::switch("hostname_lookup")
        .default("true")
        .help("false: absent a `hostname`, the agent is known by its address"),
    Spec::json("firewall_rules").help(
        "endpoints that are closed to everybody: {\"disabled_endpoints\": {\"paths\": [\"/files/browse\"]}}",
    ),
    Spec::text("resources").help("such as `cpus:4;mem:2048`; what is missing is detected"),
    Spec::text("default_role")
        .default("*")
        .help("whose resources are those without a role"),
    Spec::text("attributes").help("such as `rack:r1;ssd:yes`"),
    Spec::json("domain").help("the fault domain, as a DomainInfo"),
    Spec::duration("registration_backoff_factor")
        .default("1secs")
        .help("upper bound of the first random delay before registering; doubles up to 1mins"),
    Spec::duration("executor_registration_timeout")
        .default("1mins")
        .help("how long an executor may take to register, fetching and image pulls included"),
    Spec::duration("executor_reregistration_timeout")
        .default("2secs")
        .help("how long a restarted agent waits for its custom executors; at most 15secs"),
    Spec::duration("executor_reregistration_retry_interval").help(
        "how often executors on the libmesos driver are called again meanwhile; absent, once",
    ),
    Spec::switch("strict")
        .default("true")
        .help("damaged checkpoints stop the agent; false is refused: they would be lost unseen"),
    Spec::duration("executor_shutdown_grace_period")
        .default("5secs")
        .help("how long an executor may take to end"),
    Spec::duration("docker_stop_timeout")
        .default("0ns")
        .help("the same for tasks of Docker Engine without a kill policy; 0ns for as long as that"),
    Spec::duration("recovery_timeout")
        .default("15mins")
        .help("how long executors outlive the agent"),
    Spec::switch("http_executor_domain_sockets")
        .default("false")
        .help("executors on the v1 API are told of a Unix socket of the agent, and need no network to reach it"),
    Spec::text("domain_socket_location").help(
        "where that socket is: a path of less than 108 characters, or `systemd:name` if systemd passes it; `agent.sock` in --runtime_dir by default",
    ),
    Spec::json("executor_environment_variables")
        .help("an object: what executors find in their environment"),
    Spec::switch("switch_user")
        .default("true")
        .help("run tasks as their user"),
    Spec::duration("gc_delay")
        .default("1weeks")
        .help("how long sandboxes are kept at most"),
    Spec::number("gc_disk_headroom")
        .default("0.1")
        .help("the share of the disk to keep free of sandboxes, from 0 to 1"),
    Spec::duration("disk_watch_interval")
        .default("1mins")
        .help("how often the disk's use is measured"),
    Spec::integer("max_completed_executors_per_framework", 0, 1_000_000)
        .default("150")
        .help("how many ended executors of a framework are remembered"),
    Spec::choice("reconfiguration_policy", &["equal", "additive"])
        .default("equal")
        .help("what may change when the agent restarts: nothing, or more resources and attributes"),
    Spec::choice(
        "resource_estimator",
        &["noop", "fixed", "org_apache_mesos_FixedResourceEstimator"],
    )
    .help("what finds resources that can be lent twice; absent, nothing"),
    Spec::text("oversubscribed_resources")
        .help("what the fixed estimator lends, such as `cpus:4;mem:512` (ours)"),
    Spec::duration("oversubscribed_resources_interval")
        .default("15secs")
        .help("how often the master is told of them"),
    Spec::choice(
        "qos_controller",
        &["noop", "load", "org_apache_mesos_LoadQoSController"],
    )
    .help("what ends revocable tasks that harm others; absent, nothing"),
    Spec::number("qos_load_threshold_5min")
        .help("the load average of 5 minutes above which revocable tasks end (ours)"),
    Spec::number("qos_load_threshold_15min").help("the same of 15 minutes (ours)"),
    Spec::duration("qos_correction_interval_min")
        .default("0secs")
        .help("the least pause between two corrections"),
    Spec::duration("http_heartbeat_interval")
        .default("30secs")
        .help("how often who listens to a container hears that the connection stands"),
    Spec::path("external_log_file")
        .help("where this agent's log is, to be read through its API"),
    Spec::switch("check_takeover")
        .default("false")
        .help("say whether this agent can go on in place of the original Mesos agent that left the work directory, and stop (ours)"),
    Spec::choice("recover", &["reconnect", "cleanup"])
        .default("reconnect")
        .help("keep what an earlier agent left running, or end it and stop"),
];

/// The agent's configuration.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "flags, each on its own")]
pub struct Config {
    /// The master: `host:port`, `master@ip:port`, or `file:///path` to a file that holds it.
    pub master: String,
    /// The leading master as an election shows it; `master` is then only a name.
    pub leading: Option<watch::Receiver<Option<Arc<MasterInfo>>>>,
    /// Sandboxes and checkpoints.
    pub work_dir: PathBuf,
    /// The lock on the work directory, if it was [taken](super::occupy) before: whoever prepares anything there does so.
    pub occupied: Option<Arc<File>>,
    /// The address and port to be known by, where they differ from those listened on.
    pub advertise: (Option<IpAddr>, Option<u16>),
    /// The name to be known by; absent, the host's own.
    pub hostname: Option<String>,
    /// Whether, absent one, it is the host's own name; if not, the address.
    pub hostname_lookup: bool,
    /// Endpoints that are closed.
    pub firewall: Firewall,
    /// Whose web pages may have browsers ask for changes here, beside those from here.
    pub origins: Origins,
    /// Messages only from the address their sender names.
    pub require_peer_match: bool,
    /// What the node has, as text or JSON; what is missing is detected.
    pub resources: String,
    /// GPUs that containers can get, unless `resources` says how many.
    pub gpus: u32,
    /// Whose resources are those without a role.
    pub default_role: String,
    /// What describes the node.
    pub attributes: Vec<Attribute>,
    /// Region and zone.
    pub domain: Option<DomainInfo>,
    /// See [`Settings`](super::Settings).
    pub registration_backoff_factor: Duration,
    /// See [`Settings`](super::Settings).
    pub executor_registration_timeout: Duration,
    /// See [`Settings`](super::Settings).
    pub executor_reregistration_timeout: Duration,
    /// See [`Settings`](super::Settings).
    pub executor_reregistration_retry_interval: Option<Duration>,
    /// See [`Settings`](super::Settings).
    pub executor_shutdown_grace_period: Duration,
    /// See [`Settings`](super::Settings).
    pub docker_stop_timeout: Option<Duration>,
    /// See [`Settings`](super::Settings).
    pub recovery_timeout: Duration,
    /// See [`Settings`](super::Settings).
    pub executor_environment: BTreeMap<String, String>,
    /// Where executors reach it without the network; `None` serves its port only.
    pub executor_socket: Option<ExecutorSocket>,
    /// See [`Settings`](super::Settings).
    pub switch_user: bool,
    /// How long sandboxes are kept at most.
    pub gc_delay: Duration,
    /// The share of the disk to keep free of sandboxes.
    pub gc_disk_headroom: f64,
    /// How often the disk's use is measured.
    pub disk_watch_interval: Duration,
    /// See [`Settings`](super::Settings).
    pub max_completed_executors_per_framework: usize,
    /// What may change when the agent restarts.
    pub reconfiguration: Reconfiguration,
    /// End what an earlier agent left running, then stop.
    pub cleanup: bool,
    /// What finds resources that can be lent twice.
    pub estimator: Arc<dyn ResourceEstimator>,
    /// How often the master is told of them.
    pub oversubscribed_resources_interval: Duration,
    /// What ends revocable tasks that harm others.
    pub qos_controller: Arc<dyn QosController>,
    /// The least pause between two of its corrections.
    pub qos_correction_interval_min: Duration,
    /// How often who listens to a container hears that the connection stands.
    pub http_heartbeat_interval: Duration,
    /// A file with this agent's log, shown to those who may read it.
    pub log_file: Option<PathBuf>,
    /// The log this process writes itself: `/slave/log` if [`log_file`](Self::log_file) names none, and
    /// the `log_dir` of `/state` is its folder.
    pub own_log: Option<PathBuf>,
    /// Whose images `PRUNE_IMAGES` removes.
    pub images: Option<Arc<dyn Provisioner>>,
    /// What parts of the agent count by themselves.
    pub meters: Vec<Meter>,
    /// Every option as text, for `/flags`.
    pub flags: BTreeMap<String, String>,
    /// Who it is to the master, whom it lets in, what they may do.
    pub security: Security,
    /// How often `/metrics/snapshot` may be read; by default, as often as anybody likes.
    pub metrics_limit: RateLimits,
    /// What clients may cost.
    pub server: ServerConfig,
    /// What others answer at the agent's port, behind the same gate.
    pub routes: axum::Router,
    /// What an operator's own code adds to tasks and to what is told of them.
    pub hooks: Hooks,
    /// How it speaks TLS; `None` speaks plainly.
    pub tls: Option<Ssl>,
    /// Cancelled, the agent ends every task, unregisters and stops: what `SIGUSR1` asks of it.
    pub sign_off: CancellationToken,
}

/// Metrics that somebody else counts, by name; those of a name add up.
#[derive(Clone)]
pub struct Meter(Arc<dyn Fn() -> Vec<(String, f64)> + Send + Sync>);

impl Meter {
    /// Containers that do not end, and cgroups of them that cannot be removed.
    pub const DESTROY_ERRORS: &'static str = "containerizer/mesos/container_destroy_errors";

    /// Asked for metrics, `read` is called; it does not wait.
    pub fn new(read: impl Fn() -> Vec<(String, f64)> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// What it says now.
    pub fn read(&self) -> Vec<(String, f64)> {
        (self.0)()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter")
    }
}

/// A value that its kind allows and the agent does not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The option.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Config {
    /// The defaults, for `master` and `work_dir`.
    pub fn new(master: impl Into<String>, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            master: master.into(),
            leading: None,
            work_dir: work_dir.into(),
            advertise: (None, None),
            hostname: None,
            hostname_lookup: true,
            firewall: Firewall::default(),
            origins: Origins::default(),
            require_peer_match: false,
            resources: String::new(),
            gpus: 0,
            default_role: "*".to_owned(),
            attributes: Vec::new(),
            domain: None,
            registration_backoff_factor: Duration::from_secs(1),
            executor_registration_timeout: Duration::from_mins(1),
            executor_reregistration_timeout: Duration::from_secs(2),
            executor_reregistration_retry_interval: None,
            executor_shutdown_grace_period: Duration::from_secs(5),
            docker_stop_timeout: None,
            recovery_timeout: Duration::from_mins(15),
            executor_environment: BTreeMap::new(),
            executor_socket: None,
            switch_user: true,
            gc_delay: Duration::from_hours(7 * 24),
            gc_disk_headroom: 0.1,
            disk_watch_interval: Duration::from_mins(1),
            max_completed_executors_per_framework: 150,
            reconfiguration: Reconfiguration::default(),
            cleanup: false,
            estimator: Arc::new(NoEstimator),
            oversubscribed_resources_interval: Duration::from_secs(15),
            qos_controller: Arc::new(NoQosController),
            qos_correction_interval_min: Duration::ZERO,
            http_heartbeat_interval: Duration::from_secs(30),
            log_file: None,
            own_log: None,
            images: None,
            meters: Vec::new(),
            flags: BTreeMap::new(),
            security: Security::default(),
            metrics_limit: RateLimits::default(),
            server: ServerConfig::default(),
            routes: axum::Router::new(),
            hooks: Hooks::default(),
            tls: None,
            sign_off: CancellationToken::new(),
            occupied: None,
        }
    }

    /// From values of [`OPTIONS`].
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let wrong = |key, problem: &dyn std::fmt::Display| ConfigError {
            key,
            problem: problem.to_string(),
        };
        let advertise_ip = values
            .opt_text("advertise_ip")
            .or_else(|| values.opt_text("ip"));
        let advertise_ip = advertise_ip
            .filter(|ip| ip != "0.0.0.0" && ip != "::")
            .map(|ip| ip.parse().map_err(|error| wrong("advertise_ip", &error)))
            .transpose()?;
        let advertise_port = values
            .opt_text("advertise_port")
            .map(|port| {
                port.parse()
                    .map_err(|error| wrong("advertise_port", &error))
            })
            .transpose()?;
        let attributes = attributes::parse(&values.opt_text("attributes").unwrap_or_default())
            .map_err(|error| wrong("attributes", &error))?;
        let domain = values
            .opt_json("domain")
            .map(|value| json::from_value(&value, Dialect::V1))
            .transpose()
            .map_err(|error| wrong("domain", &error))?;
        let variables = values
            .opt_json("executor_environment_variables")
            .map(environment);
        let rules = values.opt_json("firewall_rules");
        let firewall = rules.map(|rules| Firewall::parse(&rules)).transpose();
        let headroom = values.number("gc_disk_headroom");
        if !(0.0..=1.0).contains(&headroom) {
            return Err(wrong("gc_disk_headroom", &"it has to be from 0 to 1"));
        }
        if !values.switch("strict") {
            return Err(wrong(
                "strict",
                &"there is no lax mode: damage is told, never passed over",
            ));
        }
        let reregistration = values.duration("executor_reregistration_timeout");
        if reregistration > Duration::from_secs(15) {
            let problem = "it may be at most 15secs";
            return Err(wrong("executor_reregistration_timeout", &problem));
        }
        Ok(Self {
            advertise: (advertise_ip, advertise_port),
            hostname: values.opt_text("hostname"),
            hostname_lookup: values.switch("hostname_lookup"),
            firewall: firewall
                .map_err(|error| wrong("firewall_rules", &error))?
                .unwrap_or_default(),
            resources: values.opt_text("resources").unwrap_or_default(),
            default_role: values.text("default_role"),
            attributes,
            domain,
            registration_backoff_factor: values.duration("registration_backoff_factor"),
            executor_registration_timeout: values.duration("executor_registration_timeout"),
            executor_reregistration_timeout: reregistration,
            executor_reregistration_retry_interval: values
                .opt_duration("executor_reregistration_retry_interval"),
            executor_shutdown_grace_period: values.duration("executor_shutdown_grace_period"),
            docker_stop_timeout: values
                .opt_duration("docker_stop_timeout")
                .filter(|timeout| !timeout.is_zero()),
            recovery_timeout: values.duration("recovery_timeout"),
            executor_environment: variables
                .transpose()
                .map_err(|error| wrong("executor_environment_variables", &error))?
                .unwrap_or_default(),
            switch_user: values.switch("switch_user"),
            gc_delay: values.duration("gc_delay"),
            gc_disk_headroom: headroom,
            disk_watch_interval: values.duration("disk_watch_interval"),
            max_completed_executors_per_framework: values
                .count("max_completed_executors_per_framework"),
            reconfiguration: match &*values.text("reconfiguration_policy") {
                "additive" => Reconfiguration::Additive,
                _ => Reconfiguration::Equal,
            },
            cleanup: values.text("recover") == "cleanup",
            estimator: estimator(values)?,
            oversubscribed_resources_interval: values.duration("oversubscribed_resources_interval"),
            qos_controller: qos_controller(values)?,
            qos_correction_interval_min: values.duration("qos_correction_interval_min"),
            http_heartbeat_interval: values
                .duration("http_heartbeat_interval")
                .max(Duration::from_millis(1)),
            log_file: values.opt_path("external_log_file"),
            own_log: None,
            flags: values.flags(),
            security: Security::from_values(values)?,
            tls: None,
            sign_off: CancellationToken::new(),
            occupied: None,
            ..Self::new(values.text("master"), values.path("work_dir"))
        })
    }
}

fn environment(value: serde_json::Value) -> Result<BTreeMap<String, String>, serde_json::Error> {
    serde_json::from_value(value)
}

fn estimator(values: &Values) -> Result<Arc<dyn ResourceEstimator>, ConfigError> {
    let name = values.opt_text("resource_estimator").unwrap_or_default();
    let lent = values.opt_text("oversubscribed_resources");
    if name.is_empty() || name == "noop" {
        return Ok(Arc::new(NoEstimator));
    }
    let key = "oversubscribed_resources";
    let wrong = |problem: String| ConfigError { key, problem };
    let lent =
        lent.ok_or_else(|| wrong("the fixed estimator has to know what to lend".to_owned()))?;
    let lent: Resources = lent
        .parse()
        .map_err(|error: ParseError| wrong(error.to_string()))?;
    Ok(Arc::new(FixedEstimator::new(&lent)))
}

fn qos_controller(values: &Values) -> Result<Arc<dyn QosController>, ConfigError> {
    let name = values.opt_text("qos_controller").unwrap_or_default();
    if name.is_empty() || name == "noop" {
        return Ok(Arc::new(NoQosController));
    }
    let threshold = |key| values.opt_number(key);
    let five = threshold("qos_load_threshold_5min");
    let fifteen = threshold("qos_load_threshold_15min");
    if five.is_none() && fifteen.is_none() {
        return Err(ConfigError {
            key: "qos_controller",
            problem: "the load controller needs `qos_load_threshold_5min` or \
                      `qos_load_threshold_15min`"
                .to_owned(),
        });
    }
    Ok(Arc::new(LoadQosController::new(five, fifteen)))
}
