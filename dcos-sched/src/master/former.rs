//! Flags of Mesos 1.11's master that are no options here, and what becomes of a unit that sets them.
//!
//! Source: `src/master/flags.cpp`, the names that are deprecated included. What would open something if it were passed
//! over stops the start; the rest is told in the log.

use dcos_core::config::Former;

const NO_LOG: &str = "the registry is kept in the embedded store, ZooKeeper or etcd";
const MODULES: &str = "libraries of Mesos are not loaded: what they are named for in other flags is refused, what they do by themselves is not done";

/// For the schema of a program that runs a master.
pub const FORMER: &[Former] = &[
    Former::renamed("slave_ping_timeout", "agent_ping_timeout"),
    Former::renamed("max_slave_ping_timeouts", "max_agent_ping_timeouts"),
    Former::renamed("slave_reregister_timeout", "agent_reregister_timeout"),
    Former::renamed("slave_removal_rate_limit", "agent_removal_rate_limit"),
    Former::renamed("user_sorter", "role_sorter"),
    Former::renamed("authenticate", "authenticate_frameworks"),
    Former::renamed("authenticate_slaves", "authenticate_agents"),
    Former::renamed("authenticate_http", "authenticate_http_readwrite"),
    Former::only(
        "allocator",
        &["hierarchical", "HierarchicalDRF"],
        "another one is given in Rust, see `dcos-sched/docs/allocator.md`",
    ),
    Former::only(
        "registry",
        &["replicated_log", "log_storage"],
        "give an empty --work_dir to begin with nothing",
    ),
    Former::only("registry_strict", &["false"], "Mesos refuses it as well"),
    Former::unneeded("log_auto_initialize", NO_LOG),
    Former::renamed(
        "recovery_slave_removal_limit",
        "recovery_agent_removal_limit",
    ),
    Former::unneeded("offer_constraints_re2_max_mem", PATTERNS),
    Former::unneeded("offer_constraints_re2_max_program_size", PATTERNS),
    Former::unneeded("max_executors_per_agent", PORT_MAPPING),
    Former::unneeded("max_executors_per_slave", PORT_MAPPING),
    Former::unneeded("webui_dir", "there is no web UI yet"),
    Former::unneeded("memory_profiling", "there is no /memory-profiler"),
    Former::unneeded("modules", MODULES),
    Former::unneeded("modules_dir", MODULES),
    Former::refused("hooks", HOOKS),
    Former::refused("master_contender", ELECTION),
    Former::refused("master_detector", ELECTION),
    Former::unneeded(
        "hostname_lookup",
        "no name is looked up: without --hostname, the address is the name",
    ),
];

const PATTERNS: &str = "patterns of offer constraints have a fixed bound";
const PORT_MAPPING: &str = "only the isolator network/port_mapping needs it, which is not there";
const HOOKS: &str = "what a hook decided would be left out unseen; take the name out, and give the hook in Rust if it is needed";
const ELECTION: &str = "masters meet by --zk or --etcd";
