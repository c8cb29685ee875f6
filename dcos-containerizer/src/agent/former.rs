//! Flags of Mesos 1.11's agent that are no options here, and what becomes of a unit that sets them.
//!
//! Source: `src/slave/flags.cpp`, the names that are deprecated included. What would open something, or leave out
//! what a container is promised, stops the start; the rest is told in the log.

use dcos_core::config::Former;

const PORT_MAPPING: &str = "only the isolator network/port_mapping needs it, which is not there";
const PERF: &str = "nothing samples the events of cgroups/perf_event";
const PROVIDERS: &str =
    "there are no resource providers; volumes of CSI plugins: --csi_plugin_config_dir";
const SANDBOXES: &str = "sandboxes of nested containers go with their executor's";
const IPV6: &str = "the host's IPv6 address is not told to tasks";

/// For the schema of a program that runs an agent.
pub const FORMER: &[Former] = &[
    Former::renamed("executor_secret_key", "jwt_secret_key"),
    Former::renamed("allowed_capabilities", "effective_capabilities"),
    Former::unneeded(
        "agent_subsystems",
        "the agent stays in the cgroups it was started in",
    ),
    Former::unneeded(
        "slave_subsystems",
        "the agent stays in the cgroups it was started in",
    ),
    Former::unneeded(
        "launcher_dir",
        "executors and their helpers are part of this program",
    ),
    Former::unneeded(
        "http_command_executor",
        "the executor of commands is part of the agent",
    ),
    Former::unneeded("agent_features", "what the agent can do is fixed"),
    Former::unneeded(
        "cgroups_hierarchy",
        "hierarchies are found where they are mounted",
    ),
    Former::unneeded(
        "cgroups_cpu_enable_pids_and_tids_count",
        "processes and threads are counted by cgroups/pids",
    ),
    Former::unneeded("perf_duration", PERF),
    Former::unneeded("perf_interval", PERF),
    Former::unneeded("gc_non_executor_container_sandboxes", SANDBOXES),
    Former::unneeded(
        "docker",
        "the engine is asked through its socket, without the client",
    ),
    Former::unneeded(
        "docker_mesos_image",
        "no executor runs beside Docker's containers",
    ),
    Former::only("docker_ignore_runtime", &["false"], "take it out"),
    Former::unneeded("appc_store_dir", "images lie below --docker_store_dir"),
    Former::refused(
        "default_container_info",
        "containers would lack the networks and volumes it gives them; say them with the tasks",
    ),
    Former::refused(
        "secret_resolver",
        "secrets by reference are files in --secrets_dir, or given by value",
    ),
    Former::refused("resource_provider_config_dir", PROVIDERS),
    Former::refused("disk_profile_adaptor", PROVIDERS),
    Former::unneeded("ip6", IPV6),
    Former::unneeded("ip6_discovery_command", IPV6),
    Former::unneeded("memory_profiling", "there is no /memory-profiler"),
    Former::refused(
        "hooks",
        "libraries of Mesos are not loaded, and what a hook decided would be left out unseen; take the name out",
    ),
    Former::refused("master_detector", "masters are named by --master"),
    Former::unneeded("ephemeral_ports_per_container", PORT_MAPPING),
    Former::unneeded("eth0_name", PORT_MAPPING),
    Former::unneeded("lo_name", PORT_MAPPING),
    Former::unneeded("egress_burst", PORT_MAPPING),
    Former::unneeded("egress_ceil_limit", PORT_MAPPING),
    Former::unneeded("egress_flow_classifier_parent", PORT_MAPPING),
    Former::unneeded("egress_rate_limit_per_container", PORT_MAPPING),
    Former::unneeded("egress_rate_per_cpu", PORT_MAPPING),
    Former::unneeded("egress_unique_flow_per_container", PORT_MAPPING),
    Former::unneeded("ingress_burst", PORT_MAPPING),
    Former::unneeded("ingress_ceil_limit", PORT_MAPPING),
    Former::unneeded("ingress_isolate_existing_containers", PORT_MAPPING),
    Former::unneeded("ingress_rate_limit_per_container", PORT_MAPPING),
    Former::unneeded("ingress_rate_per_cpu", PORT_MAPPING),
    Former::unneeded("maximum_egress_rate_limit", PORT_MAPPING),
    Former::unneeded("maximum_ingress_rate_limit", PORT_MAPPING),
    Former::unneeded("minimum_egress_rate_limit", PORT_MAPPING),
    Former::unneeded("minimum_ingress_rate_limit", PORT_MAPPING),
    Former::unneeded("network_enable_rate_statistics", PORT_MAPPING),
    Former::unneeded("network_enable_snmp_statistics", PORT_MAPPING),
    Former::unneeded("network_enable_socket_statistics_details", PORT_MAPPING),
    Former::unneeded("network_enable_socket_statistics_summary", PORT_MAPPING),
    Former::unneeded("network_link_speed", PORT_MAPPING),
    Former::unneeded("network_rate_statistics_interval", PORT_MAPPING),
    Former::unneeded("network_rate_statistics_window", PORT_MAPPING),
];
