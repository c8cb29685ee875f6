//! The isolators' settings as an operator writes them.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use dcos_core::config::{Spec, Values};
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{CapabilityInfo, DeviceWhitelist};

use super::cgroup::{Cgroups, DeviceRule, NetClsHandles, Removals, StallLimits};
use super::config::takes_root;
use super::devices::HostDevice;
use super::disk::ProjectIds;
use super::listening::{Ports, parse_ports};
use super::network::{CniNetworks, ContainerNetwork, DefaultDns, NoNetworks};
use super::{IdRange, IsolationConfig, IsolatorError, UserNamespaces, landlock};
use crate::{rootless, secret};

/// The options of isolation, under Mesos's names; `pids_limit` is ours.
pub const OPTIONS: &[Spec] = &[
    Spec::text("isolation")
        .help("isolators; absent, all that are safe for root, posix/cpu,posix/mem without root"),
    Spec::path("cgroups_root")
        .default("mesos")
        .help("our folder in each cgroup hierarchy"),
    Spec::duration("cgroups_destroy_timeout").default("1mins").help(
        "after what time a container that does not end, or a cgroup that does not empty, counts as failed; it is tried on",
    ),
    Spec::switch("cgroups_enable_cfs").help("cap CPU time at what was given, not only share it"),
    Spec::switch("cgroups_limit_swap").help("limit memory and swap together"),
    Spec::integer("pids_limit", 0, 4_194_304)
        .default("32768")
        .help("processes and threads of a container with `cgroups/pids`; 0 for no limit"),
    Spec::switch("revocable_cpu_low_priority")
        .default("true")
        .help("revocable CPU time is what others leave"),
    Spec::json("allowed_devices").help(
        "more devices for tasks, as Mesos's DeviceWhitelist; `linux/devices` makes their nodes",
    ),
    Spec::json("device_rules")
        .help("more devices for `cgroups/devices`, as `[\"c 10:229 rwm\"]` (ours)"),
    Spec::json("container_io_limits").help(
        "how fast each task may use a disk with `cgroups/blkio`, as \
         `[{\"device\": \"/dev/sda\", \"wbps\": 10000000}]`, also rbps, riops, wiops (ours)",
    ),
    Spec::json("container_pressure_limits").help(
        "with `cgroups/pressure` containers end that stand still for longer shares of time, as \
         `{\"memory\": {\"full\": 0.4, \"window\": 10}}`, also some, cpu, io (ours)",
    ),
    Spec::text("nvidia_gpu_devices")
        .help("GPUs that tasks get, such as `0,2`; absent, all that are found"),
    Spec::text("cgroups_net_cls_primary_handle")
        .help("upper half of the class ids of `cgroups/net_cls`, such as `0x10`"),
    Spec::text("cgroups_net_cls_secondary_handles")
        .help("first and last of the lower halves, such as `0x1,0xffff`"),
    Spec::text("perf_events").help("refused: nothing samples the events of `cgroups/perf_event`"),
    Spec::duration("container_ports_watch_interval")
        .default("30secs")
        .help("how often `network/ports` looks"),
    Spec::switch("enforce_container_ports")
        .help("end containers that listen on ports they were not given"),
    Spec::switch("check_agent_port_range_only")
        .help("`network/ports` looks at the ports of `--resources` only"),
    Spec::text("container_ports_isolated_range")
        .help("`network/ports` looks at these ports only, such as `[31000-32000]`"),
    Spec::json("effective_capabilities").help("what tasks can do if they ask for nothing"),
    Spec::json("bounding_capabilities").help("what tasks may ask for at most"),
    Spec::path("seccomp_config_dir").help("folder of seccomp profiles in Docker's format"),
    Spec::text("seccomp_profile_name").help("the default one among them; absent, a built-in one"),
    Spec::text("landlock_writable")
        .default("/tmp:/var/tmp")
        .help("folders, separated by colons, that `linux/landlock` lets every task change (ours)"),
    Spec::switch("readonly_rootfs").help(
        "nothing in the roots of images can be changed; also by a task's label `readonly_rootfs` \
         with `true` (ours)",
    ),
    Spec::switch("user_namespaces").help(
        "root in tasks is nobody on the node; also by a task's label `user_namespace` with `true` \
         (ours)",
    ),
    Spec::text("user_namespace_ids")
        .default("1000000000-1000065535")
        .help("ids of the node, nobody else's, that tasks with user namespaces have (ours)"),
    Spec::switch("disallow_sharing_agent_pid_namespace")
        .help("refuse tasks that want to see the node's processes"),
    Spec::switch("disallow_sharing_agent_ipc_namespace")
        .help("refuse tasks that want to share the node's memory segments"),
    Spec::bytes("default_container_shm_size").help("size of `/dev/shm`; absent, half the memory"),
    Spec::path("secrets_dir").help(
        "the folder in which secrets by reference are files, named as they are; who may launch tasks may name any (ours)",
    ),
    Spec::path("sandbox_directory")
        .default("/mnt/mesos/sandbox")
        .help("where tasks with an image see their sandbox"),
    Spec::text("host_path_volume_force_creation")
        .help("folders, separated by colons, below which missing host paths are made"),
    Spec::text("docker_volume_plugin_dirs")
        .default("/run/docker/plugins:/etc/docker/plugins:/usr/lib/docker/plugins")
        .help("folders, separated by colons, in which Docker's volume plugins are found (ours)"),
    Spec::path("docker_volume_checkpoint_dir")
        .help("where `docker/volume` keeps who uses what; in the runtime directory by default"),
    Spec::switch("docker_volume_chown")
        .help("give volumes of Docker's plugins to their tasks' users"),
    Spec::path("loop_volumes_dir")
        .help("folder of volumes of the driver `loop`; absent, there is no such driver (ours)"),
    Spec::path("csi_plugin_config_dir")
        .help("folder of descriptions of CSI plugins, for `volume/csi`"),
    Spec::path("network_cni_config_dir").help("folder of CNI network configurations"),
    Spec::text("network_cni_plugins_dir").help("folders of CNI plugins, separated by colons"),
    Spec::switch("network_cni_root_dir_persist")
        .help("keep what containers are attached to over a restart of the host, to clean up then"),
    Spec::switch("network_cni_metrics")
        .default("true")
        .help("count the traffic of containers on networks of their own"),
    Spec::duration("container_disk_watch_interval")
        .default("15secs")
        .help("how often `disk/du` measures sandboxes and volumes, and `disk/xfs` looks for those to end"),
    Spec::switch("enforce_container_disk_quota").help(
        "end containers that take more disk than they were given; with `disk/xfs` their writes fail",
    ),
    Spec::text("volume_gid_range").help(
        "groups, nobody else's, that volumes are given which a task without root uses: persistent ones and those from \
         the sandbox of its pod; `[10000-20000]`. As root only",
    ),
    Spec::text("xfs_project_range")
        .default("[5000-10000]")
        .help("project ids, nobody else's, that `disk/xfs` gives to sandboxes and volumes"),
    Spec::switch("xfs_kill_containers")
        .help("`disk/xfs` ends containers that take more disk than they were given"),
    Spec::bytes("xfs_quota_headroom")
        .default("10MB")
        .help("how much further they may write until then"),
    Spec::json("default_container_dns")
        .help("name servers for networks that name none, as Mesos's ContainerDNSInfo"),
];

/// Ports that an agent offers when nobody says otherwise.
const DEFAULT_PORTS: RangeInclusive<u16> = 31_000..=32_000;

/// What containers are confined with by an agent that is root, unless it is told otherwise.
/// Mesos defaults to `posix/cpu,posix/mem`; this is safe by default.
const LINUX: &str = "cgroups/cpu,cgroups/mem,cgroups/pids,cgroups/devices,filesystem/linux,\
namespaces/pid,namespaces/ipc,linux/capabilities,linux/nnp,linux/seccomp,posix/rlimits,disk/du,\
docker/volume,volume/image";

/// As much of it as the host can do.
fn default_for(cgroups: &Cgroups) -> String {
    let rooted = |name: &str| rootless::is_entered() && takes_root(name).is_some();
    let possible =
        |name: &&str| !rooted(name) && (!name.starts_with("cgroups/") || cgroups.can(name));
    LINUX
        .split(',')
        .filter(possible)
        .collect::<Vec<_>>()
        .join(",")
}

impl IsolationConfig {
    /// What an agent that is root confines containers with, unless it is told otherwise.
    ///
    /// # Errors
    /// [`IsolatorError::File`] if the kernel does not tell what it has.
    pub fn of_root() -> Result<Self, IsolatorError> {
        let config = Self::default();
        Ok(Self {
            isolation: default_for(&Cgroups::discover(&config.cgroups_root)?),
            ..config
        })
    }

    /// From values of [`OPTIONS`]; `linux` says what is the default of `isolation`.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] naming the option that makes no sense.
    pub fn from_values(values: &Values, linux: bool) -> Result<Self, IsolatorError> {
        let cgroups_root = values.path("cgroups_root");
        let pids = u64::try_from(values.integer("pids_limit")).unwrap_or(0);
        let folders = values
            .opt_text("host_path_volume_force_creation")
            .unwrap_or_default();
        Ok(Self {
            isolation: match values.opt_text("isolation") {
                Some(isolation) => isolation,
                None if linux => {
                    let default = default_for(&Cgroups::discover(&cgroups_root)?);
                    match values.opt_path("csi_plugin_config_dir") {
                        None => default,
                        Some(_) => default + ",volume/csi",
                    }
                }
                None => "posix/cpu,posix/mem".to_owned(),
            },
            cgroups_root,
            removals: Removals::new(values.duration("cgroups_destroy_timeout")),
            cgroups_enable_cfs: values.switch("cgroups_enable_cfs"),
            cgroups_limit_swap: values.switch("cgroups_limit_swap"),
            pids_limit: (pids > 0).then_some(pids),
            revocable_cpu_low_priority: values.switch("revocable_cpu_low_priority"),
            allowed_devices: allowed_devices(values)?,
            device_rules: device_rules(values)?,
            io_limits: match values.opt_json("container_io_limits") {
                None => Vec::new(),
                Some(json) => serde_json::from_value(json).map_err(|error| {
                    IsolatorError::refused(format!("container_io_limits: {error}"))
                })?,
            },
            pressure_limits: match values.opt_json("container_pressure_limits") {
                None => StallLimits::new(),
                Some(json) => serde_json::from_value(json).map_err(|error| {
                    IsolatorError::refused(format!("container_pressure_limits: {error}"))
                })?,
            },
            nvidia_gpu_devices: gpu_numbers(values)?,
            net_cls_handles: net_cls_handles(values)?,
            container_ports_watch_interval: values.duration("container_ports_watch_interval"),
            enforce_container_ports: values.switch("enforce_container_ports"),
            container_ports_isolated_range: isolated_ports(values)?,
            effective_capabilities: capabilities(values, "effective_capabilities")?,
            bounding_capabilities: capabilities(values, "bounding_capabilities")?,
            seccomp_config_dir: values.opt_path("seccomp_config_dir"),
            seccomp_profile_name: values.opt_text("seccomp_profile_name"),
            landlock_writable: landlock::folders(&values.text("landlock_writable"))?,
            readonly_rootfs: values.switch("readonly_rootfs"),
            user_namespaces: UserNamespaces {
                always: values.switch("user_namespaces"),
                range: IdRange::parse(&values.text("user_namespace_ids"))?,
            },
            disallow_sharing_agent_pid_namespace: values
                .switch("disallow_sharing_agent_pid_namespace"),
            disallow_sharing_agent_ipc_namespace: values
                .switch("disallow_sharing_agent_ipc_namespace"),
            default_container_shm_size: values.opt_bytes("default_container_shm_size"),
            sandbox_directory: values.path("sandbox_directory"),
            host_path_volume_force_creation: folders
                .split(':')
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from)
                .collect(),
            docker_volume_plugin_dirs: values
                .text("docker_volume_plugin_dirs")
                .split(':')
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from)
                .collect(),
            docker_volume_checkpoint_dir: values.opt_path("docker_volume_checkpoint_dir"),
            docker_volume_chown: values.switch("docker_volume_chown"),
            loop_volumes_dir: values.opt_path("loop_volumes_dir"),
            secrets: secret::from_values(values),
            csi_plugin_config_dir: values.opt_path("csi_plugin_config_dir"),
            networks: networks(values)?,
            container_disk_watch_interval: values.duration("container_disk_watch_interval"),
            enforce_container_disk_quota: values.switch("enforce_container_disk_quota"),
            projects: ProjectIds::parse(&values.text("xfs_project_range"))
                .map_err(|error| IsolatorError::refused(format!("xfs_project_range: {error}")))?,
            xfs_kill_containers: values.switch("xfs_kill_containers"),
            xfs_quota_headroom: values.bytes("xfs_quota_headroom"),
            network_cni_metrics: values.switch("network_cni_metrics"),
            default_container_dns: match values.opt_json("default_container_dns") {
                None => DefaultDns::default(),
                Some(json) => serde_json::from_value(json).map_err(|error| {
                    IsolatorError::refused(format!("default_container_dns: {error}"))
                })?,
            },
            ..Self::default()
        })
    }
}

fn networks(values: &Values) -> Result<Arc<dyn ContainerNetwork>, IsolatorError> {
    let configurations = values.opt_path("network_cni_config_dir");
    let plugins = values.opt_text("network_cni_plugins_dir");
    match (configurations, plugins) {
        (Some(configurations), Some(plugins)) => {
            Ok(Arc::new(CniNetworks::new(configurations, &plugins)))
        }
        (None, None) => Ok(Arc::new(NoNetworks)),
        _ => Err(IsolatorError::refused(
            "network_cni_config_dir and network_cni_plugins_dir: either both or none",
        )),
    }
}

fn capabilities(values: &Values, name: &str) -> Result<Option<CapabilityInfo>, IsolatorError> {
    let read = |value| json::from_value(&value, Dialect::V1);
    let read = values.opt_json(name).map(read).transpose();
    read.map_err(|error| IsolatorError::refused(format!("{name}: {error}")))
}

fn allowed_devices(values: &Values) -> Result<Vec<HostDevice>, IsolatorError> {
    let Some(list) = values.opt_json("allowed_devices") else {
        return Ok(Vec::new());
    };
    let list: DeviceWhitelist = json::from_value(&list, Dialect::V1)
        .map_err(|error| IsolatorError::refused(format!("allowed_devices: {error}")))?;
    HostDevice::of_whitelist(&list)
}

fn device_rules(values: &Values) -> Result<Vec<DeviceRule>, IsolatorError> {
    let Some(list) = values.opt_json("device_rules") else {
        return Ok(Vec::new());
    };
    let wrong =
        || IsolatorError::refused("device_rules: a list of texts such as `c 10:229 rwm` is wanted");
    let texts: Vec<String> = serde_json::from_value(list).map_err(|_| wrong())?;
    texts
        .iter()
        .map(|text| text.parse().map_err(|()| wrong()))
        .collect()
}

fn gpu_numbers(values: &Values) -> Result<Option<Vec<u32>>, IsolatorError> {
    let Some(text) = values.opt_text("nvidia_gpu_devices") else {
        return Ok(None);
    };
    let wrong = || IsolatorError::refused("nvidia_gpu_devices: numbers, each once, are wanted");
    let numbers = text.split(',').map(|number| number.trim().parse());
    let mut numbers: Vec<u32> = numbers.collect::<Result<_, _>>().map_err(|_| wrong())?;
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() < count {
        return Err(wrong());
    }
    Ok(Some(numbers))
}

fn net_cls_handles(values: &Values) -> Result<Option<NetClsHandles>, IsolatorError> {
    if values.opt_text("perf_events").is_some() {
        let reason = "perf_events: `cgroups/perf_event` gives containers a cgroup; nothing samples";
        return Err(IsolatorError::refused(reason));
    }
    let secondary = values.opt_text("cgroups_net_cls_secondary_handles");
    values
        .opt_text("cgroups_net_cls_primary_handle")
        .map(|primary| NetClsHandles::parse(&primary, secondary.as_deref()))
        .transpose()
}

fn isolated_ports(values: &Values) -> Result<Option<Ports>, IsolatorError> {
    let range = values.opt_text("container_ports_isolated_range");
    let range = range.as_deref().map(parse_ports).transpose()?;
    if !values.switch("check_agent_port_range_only") {
        return Ok(range);
    }
    if range.is_some() {
        return Err(IsolatorError::refused(
            "check_agent_port_range_only and container_ports_isolated_range: one of the two",
        ));
    }
    Ok(Some(vec![DEFAULT_PORTS]))
}
