//! How a master is set up: the flags of Mesos 1.11 that it understands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dcos_core::config::{Spec, Values};
use dcos_core::seed::Seed;
use dcos_core::units::format_duration;
use dcos_proto::mesos::master_info::capability::Type as Ability;
use dcos_proto::mesos::{Address, DomainInfo, MasterInfo, master_info};
use dcos_security::RateLimits;
use dcos_wire::tls::Ssl;
use dcos_wire::{Firewall, Origins, ServerConfig};

use super::Settings;
use super::security::{HttpSecurity, Security};
use crate::allocator;

/// The flags, under the names of Mesos 1.11 (`src/master/flags.cpp`). Where a master listens and
/// where it keeps its state is said by the program.
pub const OPTIONS: &[Spec] = &[
    Spec::text("advertise_ip").help("The address others reach this master at, if it differs from the one it listens on."),
    Spec::port("advertise_port").default("0").help("The port others reach this master at; 0 for the one it listens on."),
    Spec::text("cluster").help("The name of the cluster, shown to readers."),
    Spec::duration("agent_ping_timeout").default("15secs").help("How long an agent may take to answer a ping."),
    Spec::integer("max_agent_ping_timeouts", 1, 1_000_000).default("5").help("How many pings in a row may go unanswered before an agent is unreachable."),
    Spec::duration("agent_reregister_timeout").default("10mins").help("How long an agent may take to come back after it disconnected, or after the master restarted; 10mins at least."),
    Spec::text("agent_removal_rate_limit").help("How many agents may be found unreachable in how much time, such as 1/10mins; any number by default."),
    Spec::percent("recovery_agent_removal_limit").default("100%").help("Which part of the agents may stay away after a failover; if more do once --agent_reregister_timeout is over, the master ends, and gives none of them up."),
    Spec::integer("max_unauthenticated_frameworks", 0, 10_000_000).default("10000").help("With how many frameworks a new one has to authenticate to be taken (ours)."),
    Spec::duration("offer_timeout").default("2mins").help("After how long an unanswered offer is taken back and made to others first; 0secs for never."),
    Spec::duration("allocation_interval").default("1secs").help("The least time for which a refused offer is not made again."),
    Spec::text("min_allocatable_resources").default("cpus:0.01|mem:32").help("What is worth an offer: any of the alternatives between bars."),
    Spec::switch("filter_gpu_resources").default("true").help("Keep agents with gpus for frameworks with GPU_RESOURCES."),
    Spec::list("fair_sharing_excluded_resource_names").help("Resources that do not count for fairness."),
    Spec::list("roles").help("The roles frameworks may use; any by default."),
    Spec::text("role_sorter").default("drf").help("How roles are put in order: drf or random."),
    Spec::text("framework_sorter").default("drf").help("How the frameworks of one role are put in order: drf or random."),
    Spec::list("role_priorities").help("Priorities of roles among their siblings: role=number, separated by commas; more comes first, 0 is the default. A cluster begins with them; later ones are those of /priorities."),
    Spec::percent("unanswered_offers").default("10%").help("Which part of the cluster a framework may hold in offers it has not answered while others wait, beside what it used lately and asked for; 100% for no limit."),
    Spec::duration("preempt_after").help("How long a REQUEST may be in vain before tasks of lower priority are killed for it; never by default."),
    Spec::number("allocator_agent_recovery_factor").default("0.8").help("Which part of the agents has to be back after a failover before anything is offered, if there are quotas."),
    Spec::duration("allocator_recovery_timeout").default("10mins").help("How long to wait for them at most."),
    Spec::list("weights").help("Weights of roles: role=weight, separated by commas."),
    Spec::switch("root_submissions").default("true").help("Whether root may run frameworks."),
    Spec::integer("max_completed_frameworks", 1, 100_000).default("50").help("How many removed frameworks are remembered."),
    Spec::integer("max_completed_tasks_per_framework", 0, 1_000_000).default("1000").help("How many ended tasks of a framework are remembered."),
    Spec::integer("max_unreachable_tasks_per_framework", 0, 1_000_000).default("1000").help("How many tasks of a framework are remembered whose agents can't be reached."),
    Spec::integer("max_operator_event_stream_subscribers", 1, 100_000).default("1000").help("How many readers may watch events; the oldest is cut for a new one."),
    Spec::path("external_log_file").help("Where the master's log is, to be read through its API."),
    Spec::json("domain").help("The fault domain of this master: region and zone."),
    Spec::switch("require_agent_domain").default("false").help("Ignore agents that name no fault domain."),
    Spec::path("whitelist").help("A file with the hostnames of agents that may be offered, one a line, read anew every 5 seconds; all by default, or for `*`."),
    Spec::json("firewall_rules").help("Endpoints that are closed to everybody: {\"disabled_endpoints\": {\"paths\": [\"/files/browse\"]}}."),
    Spec::switch("publish_per_framework_metrics").default("true").help("Whether each framework has metrics of its own."),
    Spec::duration("registry_store_timeout").default("20secs").help("How long a write to the registry may take before the master ends, so that another one can lead."),
    Spec::duration("registry_fetch_timeout").default("1mins").help("How long reading the registry may take before it does; an ensemble that cannot be reached is given up after --registry_store_timeout already."),
    Spec::duration("registry_gc_interval").default("15mins").help("How often the registry is searched for old entries."),
    Spec::duration("registry_max_agent_age").default("2weeks").help("How long an agent that is unreachable or gone is remembered."),
    Spec::integer("registry_max_agent_count", 0, 100_000_000).default("102400").help("How many unreachable and how many gone agents are remembered."),
];

/// The least `--agent_reregister_timeout` (`MIN_AGENT_REREGISTER_TIMEOUT`).
const LEAST_REREGISTER_TIMEOUT: Duration = Duration::from_secs(600);

/// What this master can do, as it says in its `MasterInfo` and demands of its successors.
pub(crate) const CAPABILITIES: [Ability; 3] = [
    Ability::AgentUpdate,
    Ability::AgentDraining,
    Ability::QuotaV2,
];

/// How a master is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where others reach it: the address in its UPID. Port 0 stands for the listener's.
    pub advertise: SocketAddr,
    /// The name of its machine.
    pub hostname: String,
    /// The name of the cluster.
    pub cluster: Option<String>,
    /// Where its log is.
    pub log_file: Option<PathBuf>,
    /// The log this process writes itself: `/master/log` if [`log_file`](Self::log_file) names none, and
    /// the `log_dir` of `/state` is its folder.
    pub own_log: Option<PathBuf>,
    /// Its fault domain.
    pub domain: Option<DomainInfo>,
    /// What readers see as flags.
    pub flags: BTreeMap<String, String>,
    /// How many readers may watch events.
    pub max_subscribers: usize,
    /// Who guards the HTTP endpoints.
    pub http: HttpSecurity,
    /// How it speaks TLS; `None` speaks plainly.
    pub tls: Option<Ssl>,
    /// Messages only from the address their sender names.
    pub require_peer_match: bool,
    /// Endpoints that are closed.
    pub firewall: Firewall,
    /// Whose web pages may have browsers ask for changes here, beside those from here.
    pub origins: Origins,
    /// A file with the hostnames of agents that may be offered; `None` for all.
    pub whitelist: Option<PathBuf>,
    /// How long a write to the registry may take; then the master ends.
    pub registry_store_timeout: Duration,
    /// How long reading the registry may take; then the master ends.
    pub registry_fetch_timeout: Duration,
    /// How often `/metrics/snapshot` may be read; by default, as often as anybody likes.
    pub metrics_limit: RateLimits,
    /// What clients may cost.
    pub server: ServerConfig,
    /// What others answer at the master's port: behind the same gate, and only while it leads.
    pub routes: axum::Router,
    /// How resources are shared.
    pub allocator: allocator::Config,
    /// Timeouts and limits; its `info` is filled in when the master starts.
    pub settings: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            advertise: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
            hostname: Ipv4Addr::LOCALHOST.to_string(),
            cluster: None,
            log_file: None,
            own_log: None,
            domain: None,
            flags: BTreeMap::new(),
            max_subscribers: 1000,
            http: HttpSecurity::default(),
            tls: None,
            require_peer_match: false,
            firewall: Firewall::default(),
            origins: Origins::default(),
            whitelist: None,
            registry_store_timeout: Duration::from_secs(20),
            registry_fetch_timeout: Duration::from_secs(60),
            metrics_limit: RateLimits::default(),
            server: ServerConfig::default(),
            routes: axum::Router::new(),
            allocator: allocator::Config::default(),
            settings: Settings::new(MasterInfo::default()),
        }
    }
}

/// A flag whose value has the right form but makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("--{flag}: {reason}")]
pub struct ConfigError {
    /// Which flag.
    pub flag: &'static str,
    /// What is wrong.
    pub reason: String,
}

impl Config {
    /// What flags in the form of [`OPTIONS`] say, for a master that listens on `ip`.
    ///
    /// # Errors
    /// [`ConfigError`] for the first flag that makes no sense.
    pub fn from_values(values: &Values, ip: IpAddr, hostname: String) -> Result<Self, ConfigError> {
        let wrong = |flag| move |reason: String| ConfigError { flag, reason };
        let ip = match values.opt_text("advertise_ip") {
            Some(text) => text
                .parse()
                .map_err(|_| wrong("advertise_ip")(format!("{text:?} is no address")))?,
            None => ip,
        };
        let mut weights = BTreeMap::new();
        for entry in values.opt_list("weights").unwrap_or_default() {
            let parsed = entry.split_once('=').and_then(|(role, weight)| {
                let weight: f64 = weight.parse().ok()?;
                (weight > 0.0 && weight.is_finite()).then(|| (role.to_owned(), weight))
            });
            let (role, weight) = parsed.ok_or_else(|| {
                wrong("weights")(format!(
                    "{entry:?} is not role=weight with a positive weight"
                ))
            })?;
            weights.insert(role, weight);
        }
        let mut priorities = BTreeMap::new();
        for entry in values.opt_list("role_priorities").unwrap_or_default() {
            let parsed = entry
                .split_once('=')
                .and_then(|(role, priority)| Some((role.to_owned(), priority.parse().ok()?)));
            let (role, priority) = parsed
                .ok_or_else(|| wrong("role_priorities")(format!("{entry:?} is not role=number")))?;
            priorities.insert(role, priority);
        }
        let order = |flag: &'static str| {
            let parsed: Result<allocator::Order, _> = values.text(flag).parse();
            parsed.map_err(|error| wrong(flag)(error.to_string()))
        };
        let floor = values.number("unanswered_offers");
        let domain = match values.opt_json("domain") {
            Some(json) => Some(
                dcos_proto::json::from_value(&json, dcos_proto::json::Dialect::V1)
                    .map_err(|error| wrong("domain")(error.to_string()))?,
            ),
            None => None,
        };
        let minimum = allocator::Config::parse_minimum(&values.text("min_allocatable_resources"))
            .map_err(|error| wrong("min_allocatable_resources")(error.to_string()))?;
        let set =
            |list: Option<Vec<String>>| list.map(|list| list.into_iter().collect::<BTreeSet<_>>());
        let firewall = values
            .opt_json("firewall_rules")
            .map(|rules| Firewall::parse(&rules).map_err(wrong("firewall_rules")));
        // Agents rely on it when they choose how long they wait before they ask again.
        let reregister = values.duration("agent_reregister_timeout");
        if reregister < LEAST_REREGISTER_TIMEOUT {
            let reason = format!(
                "must be at least {}",
                format_duration(LEAST_REREGISTER_TIMEOUT)
            );
            return Err(wrong("agent_reregister_timeout")(reason));
        }
        let security = Security::from_values(values)?;
        let settings = Settings {
            agent_ping_timeout: values.duration("agent_ping_timeout"),
            max_agent_ping_timeouts: u32::try_from(values.count("max_agent_ping_timeouts"))
                .unwrap_or(u32::MAX),
            agent_reregister_timeout: reregister,
            offer_timeout: Some(values.duration("offer_timeout")).filter(|time| !time.is_zero()),
            agent_removal_rate: values
                .opt_text("agent_removal_rate_limit")
                .map(|text| rate(&text).map_err(wrong("agent_removal_rate_limit")))
                .transpose()?,
            recovery_removal_limit: values.number("recovery_agent_removal_limit"),
            max_unproved_frameworks: values.count("max_unauthenticated_frameworks"),
            require_agent_domain: values.switch("require_agent_domain"),
            max_completed_tasks: values.count("max_completed_tasks_per_framework"),
            max_unreachable_tasks: values.count("max_unreachable_tasks_per_framework"),
            roles: set(values.opt_list("roles")),
            root_submissions: values.switch("root_submissions"),
            max_completed_frameworks: values.count("max_completed_frameworks"),
            weights: weights.clone(),
            priorities: priorities.clone(),
            registry_gc_interval: values
                .duration("registry_gc_interval")
                .max(Duration::from_secs(1)),
            registry_max_agent_age: values.duration("registry_max_agent_age"),
            registry_max_agent_count: values.count("registry_max_agent_count"),
            framework_metrics: values.switch("publish_per_framework_metrics"),
            security,
            ..Settings::new(MasterInfo::default())
        };
        Ok(Self {
            advertise: SocketAddr::new(ip, values.port("advertise_port")),
            hostname,
            cluster: values.opt_text("cluster"),
            log_file: values.opt_path("external_log_file"),
            own_log: None,
            domain,
            flags: values.flags(),
            max_subscribers: values.count("max_operator_event_stream_subscribers"),
            http: HttpSecurity::from_values(values, settings.security.credentials.as_ref())?,
            tls: None,
            require_peer_match: false,
            firewall: firewall.transpose()?.unwrap_or_default(),
            origins: Origins::default(),
            whitelist: values
                .opt_path("whitelist")
                .filter(|path| path.as_os_str() != "*"),
            registry_store_timeout: values.duration("registry_store_timeout"),
            registry_fetch_timeout: values.duration("registry_fetch_timeout"),
            metrics_limit: RateLimits::default(),
            server: ServerConfig::default(),
            routes: axum::Router::new(),
            allocator: allocator::Config {
                interval: values
                    .duration("allocation_interval")
                    .max(Duration::from_millis(1)),
                minimum,
                unfair: set(values.opt_list("fair_sharing_excluded_resource_names"))
                    .unwrap_or_default(),
                filter_gpu: values.switch("filter_gpu_resources"),
                role_order: order("role_sorter")?,
                framework_order: order("framework_sorter")?,
                weights,
                priorities,
                hoarding: (floor < 1.0).then(|| allocator::Hoarding {
                    floor,
                    ..allocator::Hoarding::default()
                }),
                preempt_after: values.opt_duration("preempt_after"),
                recovery_factor: values
                    .number("allocator_agent_recovery_factor")
                    .clamp(0.0, 1.0),
                recovery_timeout: values.duration("allocator_recovery_timeout"),
                ..allocator::Config::default()
            },
            settings,
        })
    }

    /// The master as others see it, with an id that no master had before.
    pub(crate) fn master_info(&self, address: SocketAddr, seed: &Seed) -> MasterInfo {
        let ip = match address.ip() {
            // Network byte order in memory, read as a number on a little-endian machine, as the
            // original writes it.
            IpAddr::V4(ip) => u32::from_le_bytes(ip.octets()),
            IpAddr::V6(_) => 0,
        };
        MasterInfo {
            id: seed.stream("master id").uuid(),
            ip,
            port: address.port().into(),
            pid: Some(format!("master@{address}")),
            hostname: Some(self.hostname.clone()),
            version: Some(super::VERSION.to_owned()),
            address: Some(Address {
                hostname: Some(self.hostname.clone()),
                ip: Some(address.ip().to_string()),
                port: address.port().into(),
            }),
            domain: self.domain.clone(),
            capabilities: CAPABILITIES
                .map(|kind| master_info::Capability {
                    r#type: Some(kind.into()),
                })
                .into(),
        }
    }
}

/// A number of permits and the time they are for: `1/10mins`.
fn rate(text: &str) -> Result<(u32, Duration), String> {
    let parsed = text.split_once('/').and_then(|(permits, period)| {
        let permits: u32 = permits.trim().parse().ok()?;
        let period = dcos_core::units::parse_duration(period.trim()).ok()?;
        (permits > 0 && !period.is_zero()).then_some((permits, period))
    });
    parsed.ok_or_else(|| format!("{text:?} is not such as 1/10mins"))
}

#[cfg(test)]
mod tests;
