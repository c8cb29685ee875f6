//! What an operator decides.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use dcos_wire::Origins;
use dcos_wire::tls::Ssl;

use crate::guard::Guard;

/// What becomes of services that need no GPUs on agents that offer some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuScheduling {
    /// They run elsewhere: GPUs are left to those who need them.
    #[default]
    Restricted,
    /// They run there as well.
    Unrestricted,
}

impl GpuScheduling {
    /// The one of a name, as options and labels have it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "restricted" => Some(Self::Restricted),
            "unrestricted" => Some(Self::Unrestricted),
            _ => None,
        }
    }
}

/// The settings of a Marathon, with Marathon's names where it has them.
#[derive(Clone, Debug)]
pub struct Config {
    /// The framework's name.
    pub framework_name: String,
    /// The operating system user of tasks that name none.
    pub mesos_user: String,
    /// The role of services that name none.
    pub mesos_role: String,
    /// The principal the framework registers as.
    pub principal: Option<String>,
    /// The host clients reach this Marathon at.
    pub hostname: String,
    /// The port clients reach this Marathon at.
    pub http_port: u16,
    /// The address of a user interface, shown by the master.
    pub webui_url: Option<String>,
    /// The master's address, for information only.
    pub master: String,
    /// How long the master keeps tasks of a Marathon that is gone.
    pub failover_timeout: Duration,
    /// Whether agents keep tasks over a restart of the agent.
    pub checkpoint: bool,
    /// Optional abilities that are switched on: `secrets`, `gpu_resources`, `external_volumes`, `vips`.
    pub features: BTreeSet<String>,
    /// Whether services that need no GPUs run where some are offered; the label `GPU_SCHEDULING_BEHAVIOR` of a service counts
    /// more.
    pub gpu_scheduling_behavior: GpuScheduling,
    /// The network meant by a container network without a name.
    pub default_network_name: Option<String>,
    /// The network that stands for bridge mode.
    pub mesos_bridge_name: String,
    /// Put before the names of port variables.
    pub env_vars_prefix: Option<String>,
    /// The smallest service port that is given out.
    pub local_port_min: u16,
    /// The largest service port that is given out.
    pub local_port_max: u16,
    /// Whether new top-level groups enforce their role.
    pub new_group_enforce_role: bool,
    /// How many instances one offer may start.
    pub max_instances_per_offer: usize,
    /// How many deployments may run at once.
    pub max_running_deployments: usize,
    /// How many apps there may be.
    pub max_apps: Option<usize>,
    /// How long an offer nobody wants is declined for.
    pub decline_offer_duration: Duration,
    /// The least time between two requests for fresh offers.
    pub min_revive_offers_interval: Duration,
    /// So long for each offer that the last request brought, where that is less; `None` always waits the whole interval.
    pub revive_interval_per_offer: Option<Duration>,
    /// After this long a launch nobody confirmed is given up.
    pub task_launch_confirm_timeout: Duration,
    /// After this long a task that does not start is killed.
    pub task_launch_timeout: Duration,
    /// The time between two comparisons of all tasks with the master.
    pub reconciliation_interval: Duration,
    /// How many kills may be under way.
    pub kill_chunk_size: usize,
    /// After this long a kill nobody confirmed is sent again.
    pub kill_retry_timeout: Duration,
    /// How many versions of an app are kept.
    pub max_versions: usize,
    /// How many events a slow listener may lag behind before it loses some.
    pub event_stream_max_outstanding_messages: usize,
    /// Where backups are written to and read from; `None` makes none.
    pub backup_dir: Option<PathBuf>,
    /// How it speaks TLS; `None` speaks plainly.
    pub tls: Option<Ssl>,
    /// Who may speak with it; `None` is everybody.
    pub guard: Option<Guard>,
    /// Whose web pages may have browsers ask for something here, beside the service's own.
    pub origins: Origins,
    /// Whether others run in the same process (a master, say): how much it logs is then not for this Marathon's clients to
    /// change, whom nobody asks who they are.
    pub log_is_shared: bool,
}

impl Config {
    /// Where clients reach this Marathon.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.hostname, self.http_port)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            framework_name: "marathon".to_owned(),
            mesos_user: "root".to_owned(),
            mesos_role: "*".to_owned(),
            principal: None,
            hostname: "127.0.0.1".to_owned(),
            http_port: 8080,
            webui_url: None,
            master: String::new(),
            failover_timeout: Duration::from_hours(168),
            checkpoint: true,
            features: BTreeSet::new(),
            gpu_scheduling_behavior: GpuScheduling::default(),
            default_network_name: None,
            mesos_bridge_name: "mesos-bridge".to_owned(),
            env_vars_prefix: None,
            local_port_min: 10_000,
            local_port_max: 20_000,
            new_group_enforce_role: false,
            max_instances_per_offer: 100,
            max_running_deployments: 100,
            max_apps: None,
            decline_offer_duration: Duration::from_mins(2),
            min_revive_offers_interval: Duration::from_millis(200),
            revive_interval_per_offer: None,
            task_launch_confirm_timeout: Duration::from_mins(5),
            task_launch_timeout: Duration::from_mins(5),
            reconciliation_interval: Duration::from_mins(10),
            kill_chunk_size: 100,
            kill_retry_timeout: Duration::from_secs(30),
            max_versions: 50,
            event_stream_max_outstanding_messages: 1024,
            backup_dir: None,
            tls: None,
            guard: None,
            origins: Origins::default(),
            log_is_shared: false,
        }
    }
}
