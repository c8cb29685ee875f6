//! The isolators' settings as an operator writes them.

use std::path::PathBuf;
use std::sync::Arc;

use dcos_core::config::{Spec, Values};
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::CapabilityInfo;

use super::cgroup::{Cgroups, DeviceRule};
use super::network::{CniNetworks, ContainerNetwork, DefaultDns, NoNetworks};
use super::{IsolationConfig, IsolatorError};

/// The options of isolation, under Mesos's names; `pids_limit` is ours.
pub const OPTIONS: &[Spec] = &[
    Spec::text("isolation")
        .help("isolators; absent, all that are safe for root, posix/cpu,posix/mem without root"),
    Spec::path("cgroups_root")
        .default("mesos")
        .help("our folder in each cgroup hierarchy"),
    Spec::switch("cgroups_enable_cfs").help("cap CPU time at what was given, not only share it"),
    Spec::switch("cgroups_limit_swap").help("limit memory and swap together"),
    Spec::integer("pids_limit", 0, 4_194_304)
        .default("32768")
        .help("processes and threads of a container with `cgroups/pids`; 0 for no limit"),
    Spec::json("allowed_devices")
        .help("more devices for `cgroups/devices`, as `[\"c 10:229 rwm\"]`"),
    Spec::json("effective_capabilities").help("what tasks can do if they ask for nothing"),
    Spec::json("bounding_capabilities").help("what tasks may ask for at most"),
    Spec::path("seccomp_config_dir").help("folder of seccomp profiles in Docker's format"),
    Spec::text("seccomp_profile_name").help("the default one among them; absent, a built-in one"),
    Spec::switch("disallow_sharing_agent_pid_namespace")
        .help("refuse tasks that want to see the node's processes"),
    Spec::switch("disallow_sharing_agent_ipc_namespace")
        .help("refuse tasks that want to share the node's memory segments"),
    Spec::bytes("default_container_shm_size").help("size of `/dev/shm`; absent, half the memory"),
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
        .help("how often `disk/du` measures sandboxes and volumes"),
    Spec::switch("enforce_container_disk_quota")
        .help("end containers that take more disk than they were given"),
    Spec::json("default_container_dns")
        .help("name servers for networks that name none, as Mesos's ContainerDNSInfo"),
];

/// What containers are confined with by an agent that is root, unless it is told otherwise.
/// Mesos defaults to `posix/cpu,posix/mem`; this is safe by default.
const LINUX: &str = "cgroups/cpu,cgroups/mem,cgroups/pids,cgroups/devices,filesystem/linux,\
namespaces/pid,namespaces/ipc,linux/capabilities,linux/nnp,linux/seccomp,posix/rlimits,disk/du,\
docker/volume,volume/image";

/// As much of it as the host can do.
fn default_for(cgroups: &Cgroups) -> String {
    let possible = |name: &&str| match name.strip_prefix("cgroups/") {
        Some("mem") => cgroups.has("memory"),
        Some(controller) => cgroups.has(controller),
        None => true,
    };
    LINUX
        .split(',')
        .filter(possible)
        .collect::<Vec<_>>()
        .join(",")
}

impl IsolationConfig {
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
            cgroups_enable_cfs: values.switch("cgroups_enable_cfs"),
            cgroups_limit_swap: values.switch("cgroups_limit_swap"),
            pids_limit: (pids > 0).then_some(pids),
            allowed_devices: devices(values)?,
            effective_capabilities: capabilities(values, "effective_capabilities")?,
            bounding_capabilities: capabilities(values, "bounding_capabilities")?,
            seccomp_config_dir: values.opt_path("seccomp_config_dir"),
            seccomp_profile_name: values.opt_text("seccomp_profile_name"),
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
            csi_plugin_config_dir: values.opt_path("csi_plugin_config_dir"),
            networks: networks(values)?,
            container_disk_watch_interval: values.duration("container_disk_watch_interval"),
            enforce_container_disk_quota: values.switch("enforce_container_disk_quota"),
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

fn devices(values: &Values) -> Result<Vec<DeviceRule>, IsolatorError> {
    let Some(list) = values.opt_json("allowed_devices") else {
        return Ok(Vec::new());
    };
    let wrong = || {
        IsolatorError::refused("allowed_devices: a list of texts such as `c 10:229 rwm` is wanted")
    };
    let texts: Vec<String> = serde_json::from_value(list).map_err(|_| wrong())?;
    texts
        .iter()
        .map(|text| text.parse().map_err(|()| wrong()))
        .collect()
}
