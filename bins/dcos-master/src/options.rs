//! Which components run in this process, and where they listen.

use dcos_core::config::Spec;

/// The options of this program itself.
pub(crate) const PROGRAM: &[Spec] = &[
    Spec::path("work_dir").required().help("Where the state is kept."),
    Spec::port("port").default("5050").help("Where the master listens."),
    Spec::text("ip").default("127.0.0.1").help("The address to listen on."),
    Spec::text("hostname").help("The name this machine is reached at; the address by default."),
    Spec::list("only")
        .help("Run only these components in this process: master, marathon, metronome, dns, router."),
    Spec::list("without").help("Run all components but these in this process."),
    Spec::text("master").help(
        "Masters (host:port, separated by commas; zk://, zks://, etcd:// or etcds:// URL) for a Marathon, Metronome or router that runs without a master in its process.",
    ),
    Spec::text("zk").help(
        "One master of several: ZooKeeper, as zk://[user:password@]host1:port1,host2:port2/path, zks:// over TLS, or a file:// that holds it. State is kept there, too.",
    ),
    Spec::text("etcd").help(
        "The same on etcd: etcd://[user:password@]host1:port1,host2:port2/path, or etcds:// (https:// as well) over TLS.",
    ),
    Spec::duration("zk_session_timeout")
        .default("10secs")
        .help("How long a leader may be silent before another master is elected."),
    Spec::integer("quorum", 1, 1000).help(
        "Accepted for the original's sake: ZooKeeper and etcd know by themselves what a majority is.",
    ),
];

/// The options of overlays.
pub(crate) const OVERLAY: &[Spec] = &[
    Spec::json("overlay").help(
        "Give out overlay networks: JSON or a file, as the original's master.json or its `network`; {} for those of DC/OS (ours).",
    ),
    Spec::duration("overlay_agent_timeout").default("10mins").help(
        "How long an agent may be silent before the others forget the way to its containers; its networks stay its own (ours).",
    ),
];

/// The options of the cluster's names.
pub(crate) const NAMES: &[Spec] = &[
    Spec::port("dns_port")
        .default("5353")
        .help("Where DNS is served; 53 takes root and is what resolvers ask."),
    Spec::port("mesos_dns_port")
        .default("8123")
        .help("Where Mesos-DNS's HTTP API is served."),
];

/// The options of Marathon, all beginning with `marathon_`; the names after that are Marathon's.
pub(crate) const MARATHON: &[Spec] = &[
    Spec::port("port")
        .default("8080")
        .help("Where Marathon's REST API listens."),
    Spec::list("access_control_allow_origin")
        .help("Origins whose web pages may read here and POST what browsers send unasked, as https://ui.example.org, or * for all; PUT, PATCH and DELETE are for pages of this service, as in the original."),
    Spec::text("http_credentials").secret().help(
        "user:password that clients must show (HTTP basic), or a file:// that holds it; MARATHON_HTTP_CREDENTIALS and MESOSPHERE_HTTP_CREDENTIALS as well. Without it everybody may do everything.",
    ),
    Spec::text("http_realm")
        .default("Mesosphere")
        .help("What people are told they are asked for a password by."),
    Spec::text("framework_name")
        .default("marathon")
        .help("The name it registers under."),
    Spec::text("mesos_role")
        .default("*")
        .help("The role of services that name none."),
    Spec::text("mesos_user")
        .help("The user of tasks that name none; the user of this process by default."),
    Spec::text("mesos_authentication_principal")
        .help("The principal it registers with, and shows to a master that asks."),
    Spec::path("mesos_authentication_secret_file")
        .help("A file with the secret of that principal, for a master outside of this process."),
    Spec::list("enable_features")
        .help("Abilities to switch on: external_volumes, gpu_resources, secrets (which agents look up, see their --secrets_dir), vips; task_killing is always on."),
    Spec::choice("gpu_scheduling_behavior", &["restricted", "unrestricted"])
        .default("restricted")
        .help("Whether services that need no GPUs run where some are offered; their label GPU_SCHEDULING_BEHAVIOR counts more."),
    Spec::path("backup_dir")
        .help("Where `DELETE /v2/leader?backup=file:///…` may write and `restore=` may read; marathon-backups in the work directory by default."),
    Spec::duration("failover_timeout")
        .default("1weeks")
        .help("How long the master keeps its tasks while it is away."),
    Spec::switch("checkpoint")
        .default("true")
        .help("Whether tasks go on while their agent restarts."),
    Spec::duration("task_launch_timeout")
        .default("1days")
        .help("How long a task may take to start, its images included, before it is killed."),
    Spec::duration("task_launch_confirm_timeout")
        .default("30mins")
        .help("How long nothing may be heard of a launch before it is given up."),
    Spec::text("default_network_name")
        .help("The network of services that want one for containers and name none."),
    Spec::text("mesos_bridge_name")
        .default("mesos-bridge")
        .help("The network that stands for bridge mode."),
    Spec::text("env_vars_prefix").help("Put before the names of variables with hosts and ports."),
    Spec::integer("local_port_min", 1, 65_535)
        .default("10000")
        .help("The smallest service port that is given out."),
    Spec::integer("local_port_max", 1, 65_535)
        .default("20000")
        .help("The largest service port that is given out."),
    Spec::choice("new_group_enforce_role", &["off", "top"])
        .default("off")
        .help("Whether new top-level groups enforce their role."),
    Spec::integer("max_instances_per_offer", 1, 1_000_000)
        .default("100")
        .help("How many instances one offer may start."),
    Spec::integer("max_running_deployments", 1, 1_000_000)
        .default("100")
        .help("How many deployments may run at once."),
    Spec::integer("max_apps", 1, 1_000_000).help("How many apps there may be."),
    Spec::duration("decline_offer_duration")
        .default("2mins")
        .help("How long an offer nobody wants is declined for."),
    Spec::duration("reconciliation_interval")
        .default("10mins")
        .help("The time between two comparisons of all tasks with the master."),
    Spec::integer("kill_chunk_size", 1, 1_000_000)
        .default("100")
        .help("How many kills may be under way."),
    Spec::duration("kill_retry_timeout")
        .default("30secs")
        .help("After so long a kill that nobody confirmed is sent again."),
    Spec::integer("zk_max_versions", 1, 1_000_000)
        .default("50")
        .help("How many versions of an app are kept."),
    Spec::integer("event_stream_max_outstanding_messages", 1, 1_000_000)
        .default("1024")
        .help("How many events a slow listener may lag behind before it loses some."),
    Spec::text("webui_url").help("The address of a user interface, shown by the master."),
];

/// The options of Metronome, all beginning with `metronome_`; the names after that are Metronome's, as far as it has them.
pub(crate) const METRONOME: &[Spec] = &[
    Spec::port("port")
        .default("9000")
        .help("Where Metronome's REST API listens."),
    Spec::list("access_control_allow_origin")
        .help("Origins whose web pages may read here and POST what browsers send unasked, as https://ui.example.org, or * for all; PUT, PATCH and DELETE are for pages of this service, as in the original."),
    Spec::text("http_credentials").secret().help(
        "user:password that clients must show (HTTP basic), or a file:// that holds it; METRONOME_HTTP_CREDENTIALS as well. Without it everybody may do everything.",
    ),
    Spec::text("http_realm")
        .default("Mesosphere")
        .help("What people are told they are asked for a password by."),
    Spec::text("framework_name")
        .default("metronome")
        .help("The name it registers under."),
    Spec::text("mesos_role")
        .default("*")
        .help("The role of jobs."),
    Spec::text("mesos_user")
        .help("The user of tasks that name none; the user of this process by default."),
    Spec::text("mesos_authentication_principal")
        .help("The principal it registers with, and shows to a master that asks."),
    Spec::path("mesos_authentication_secret_file")
        .help("A file with the secret of that principal, for a master outside of this process."),
    Spec::list("features_enable").help("Abilities to switch on: gpu_resources."),
    Spec::choice("gpu_scheduling_behavior", &["restricted", "unrestricted"]).help(
        "Switches gpu_resources on; whether jobs that need no GPUs run where some are offered.",
    ),
    Spec::duration("failover_timeout")
        .default("1weeks")
        .help("How long the master keeps its tasks while it is away."),
    Spec::duration("task_launch_timeout")
        .default("1days")
        .help("How long a task may take to start, its images included, before it is killed."),
    Spec::duration("task_launch_confirm_timeout")
        .default("30mins")
        .help("How long nothing may be heard of a launch before it is given up."),
    Spec::integer("history_count", 1, 100_000)
        .default("1000")
        .help("How many successful and how many failed runs of each job are remembered."),
];
