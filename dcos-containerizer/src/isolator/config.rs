//! Which isolators a node has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dcos_proto::mesos::CapabilityInfo;
use dcos_volume::csi::CsiFolder;
use dcos_volume::docker::PluginFolders;
use dcos_volume::loopback::LoopVolumes;

use super::cgroup::{
    BlkioIsolator, Cgroups, CpuIsolator, DeviceRule, DevicesIsolator, IoLimit, MembershipIsolator,
    MemoryIsolator, NetClsHandles, NetClsIsolator, PidsIsolator, PressureIsolator, Removals,
    StallLimits,
};
use super::devices::{HostDevice, LinuxDevicesIsolator};
use super::disk::{DiskUsageIsolator, ProjectIds, ProjectQuotaIsolator, QuotaSettings};
use super::filesystem::{AGENT_SOCKETS, LinuxFilesystemIsolator, PosixFilesystemIsolator};
use super::gids::VolumeGids;
use super::gpu::{DeviceNodes, GpuDiscovery, GpuPool, NvidiaGpuIsolator};
use super::ids::UserNamespaces;
use super::landlock::LandlockIsolator;
use super::linux::{CapabilitiesIsolator, NoNewPrivilegesIsolator, SeccompIsolator};
use super::listening::{NetworkPortsIsolator, Ports, PortsSettings};
use super::namespaces::{IpcNamespaceIsolator, PidNamespaceIsolator};
use super::network::{ContainerNetwork, DefaultDns, NetworkIsolator, NoNetworks};
use super::posix::{PosixCpuIsolator, PosixMemIsolator, RlimitsIsolator};
use super::secret::{EnvironmentSecretIsolator, SecretVolumeIsolator};
use super::volume::{
    CsiVolumeIsolator, DockerVolumeIsolator, HostPathIsolator, ImageVolumeIsolator, Others,
    SandboxPathIsolator,
};
use super::{Isolator, IsolatorError, Isolators};
use crate::provisioner::Provisioner;
use crate::rootless;
use crate::secret::{SecretResolver, ValuesOnly};
use crate::systemd::SLICE;

/// The agent's settings that isolators read; the names are those of Mesos's flags.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "flags, each on its own")]
pub struct IsolationConfig {
    /// `--isolation`: names, separated by commas. `process`, `cgroups` and `cgroups/all` are short
    /// for several.
    pub isolation: String,
    /// `--cgroups_root`: our folder in each hierarchy.
    pub cgroups_root: PathBuf,
    /// The slice of systemd's below which that folder lies in version 2.
    pub slice: Option<PathBuf>,
    /// Cgroups that take their time to be removed. `--cgroups_destroy_timeout`
    pub removals: Removals,
    /// `--cgroups_enable_cfs`: cap CPU time at what was given, not only share it.
    pub cgroups_enable_cfs: bool,
    /// `--cgroups_limit_swap`: limit memory and swap together.
    pub cgroups_limit_swap: bool,
    /// Processes and threads a container may have (ours; Mesos has no limit). 32,768 by default:
    /// more than honest programs use, less than a node has.
    pub pids_limit: Option<u64>,
    /// `--revocable_cpu_low_priority`: revocable CPU time is what others leave.
    pub revocable_cpu_low_priority: bool,
    /// `--allowed_devices`, beside the default ones; `linux/devices` makes their nodes.
    pub allowed_devices: Vec<HostDevice>,
    /// More devices for `cgroups/devices`, of any number (ours; no node is made of them).
    pub device_rules: Vec<DeviceRule>,
    /// How fast containers may read and write with `cgroups/blkio` (ours).
    pub io_limits: Vec<IoLimit>,
    /// How long containers may wait, with `cgroups/pressure`. `--container_pressure_limits`
    pub pressure_limits: StallLimits,
    /// What finds the GPUs of `gpu/nvidia`.
    pub gpus: Arc<dyn GpuDiscovery>,
    /// What it found, where others have GPUs of that as well; absent, `gpu/nvidia` looks itself.
    pub gpu_pool: Option<GpuPool>,
    /// `--nvidia_gpu_devices`: of the GPUs those that are given to containers; absent, all.
    pub nvidia_gpu_devices: Option<Vec<u32>>,
    /// `--cgroups_net_cls_primary_handle`, `--cgroups_net_cls_secondary_handles`.
    pub net_cls_handles: Option<NetClsHandles>,
    /// `--container_ports_watch_interval`.
    pub container_ports_watch_interval: Duration,
    /// `--enforce_container_ports`.
    pub enforce_container_ports: bool,
    /// `--container_ports_isolated_range`, or the agent's with `--check_agent_port_range_only`.
    pub container_ports_isolated_range: Option<Ports>,
    /// `--effective_capabilities`.
    pub effective_capabilities: Option<CapabilityInfo>,
    /// `--bounding_capabilities`.
    pub bounding_capabilities: Option<CapabilityInfo>,
    /// Groups that volumes are given. `--volume_gid_range`
    pub volume_gids: Option<VolumeGids>,
    /// `--seccomp_config_dir`.
    pub seccomp_config_dir: Option<PathBuf>,
    /// `--seccomp_profile_name`; the built-in profile if absent.
    pub seccomp_profile_name: Option<String>,
    /// What `linux/landlock` lets every container change. `--landlock_writable`
    pub landlock_writable: Vec<PathBuf>,
    /// Nothing in the roots of images can be changed. `--readonly_rootfs`
    pub readonly_rootfs: bool,
    /// Who has a user namespace; for whoever shapes containers.
    pub user_namespaces: UserNamespaces,
    /// `--disallow_sharing_agent_pid_namespace`.
    pub disallow_sharing_agent_pid_namespace: bool,
    /// `--disallow_sharing_agent_ipc_namespace`.
    pub disallow_sharing_agent_ipc_namespace: bool,
    /// `--default_container_shm_size`, bytes.
    pub default_container_shm_size: Option<u64>,
    /// `--sandbox_directory`: where images see the sandbox.
    pub sandbox_directory: PathBuf,
    /// `--host_path_volume_force_creation`, as a list.
    pub host_path_volume_force_creation: Vec<PathBuf>,
    /// Folders in which Docker's volume plugins are found (`--docker_volume_plugin_dirs`, ours).
    pub docker_volume_plugin_dirs: Vec<PathBuf>,
    /// `--docker_volume_checkpoint_dir`, if not in `runtime_dir`.
    pub docker_volume_checkpoint_dir: Option<PathBuf>,
    /// `--docker_volume_chown`.
    pub docker_volume_chown: bool,
    /// Where volumes of the driver `loop` are; absent, there is no such driver
    /// (`--loop_volumes_dir`, ours).
    pub loop_volumes_dir: Option<PathBuf>,
    /// `--csi_plugin_config_dir`.
    pub csi_plugin_config_dir: Option<PathBuf>,
    /// Where is kept what is known of volumes of CSI plugins, and where they are published:
    /// `<work_dir>/csi`.
    pub csi_work_dir: PathBuf,
    /// What makes images into volumes; nothing else may be made by it.
    pub volume_images: Option<Arc<dyn Provisioner>>,
    /// Networks that containers may name.
    pub networks: Arc<dyn ContainerNetwork>,
    /// Where isolators keep what is lost with the host. `--runtime_dir`
    pub runtime_dir: PathBuf,
    /// Where is kept what containers are attached to, if not in `runtime_dir`: below `--work_dir`
    /// with `--network_cni_root_dir_persist`.
    pub network_root: Option<PathBuf>,
    /// `--network_cni_metrics`.
    pub network_cni_metrics: bool,
    /// `--default_container_dns`.
    pub default_container_dns: DefaultDns,
    /// Where the values of secrets come from.
    pub secrets: Arc<dyn SecretResolver>,
    /// `--container_disk_watch_interval`.
    pub container_disk_watch_interval: Duration,
    /// `--enforce_container_disk_quota`.
    pub enforce_container_disk_quota: bool,
    /// Ids for `disk/xfs`. `--xfs_project_range`
    pub projects: ProjectIds,
    /// `--xfs_kill_containers`.
    pub xfs_kill_containers: bool,
    /// `--xfs_quota_headroom`, bytes.
    pub xfs_quota_headroom: u64,
    /// `--disk_watch_interval`.
    pub disk_watch_interval: Duration,
    /// `--work_dir`.
    pub work_dir: PathBuf,
    /// Roots of the disks of type `PATH` among `--resources`.
    pub disks: Vec<PathBuf>,
}

impl Default for IsolationConfig {
    fn default() -> Self {
        Self {
            isolation: "posix/cpu,posix/mem".to_owned(),
            cgroups_root: "mesos".into(),
            slice: None,
            removals: Removals::default(),
            cgroups_enable_cfs: false,
            cgroups_limit_swap: false,
            pids_limit: Some(32_768),
            revocable_cpu_low_priority: true,
            allowed_devices: Vec::new(),
            device_rules: Vec::new(),
            io_limits: Vec::new(),
            pressure_limits: StallLimits::new(),
            gpus: Arc::new(DeviceNodes::default()),
            gpu_pool: None,
            nvidia_gpu_devices: None,
            net_cls_handles: None,
            container_ports_watch_interval: Duration::from_secs(30),
            enforce_container_ports: false,
            container_ports_isolated_range: None,
            effective_capabilities: None,
            bounding_capabilities: None,
            volume_gids: None,
            seccomp_config_dir: None,
            seccomp_profile_name: None,
            landlock_writable: vec!["/tmp".into(), "/var/tmp".into()],
            readonly_rootfs: false,
            user_namespaces: UserNamespaces::default(),
            disallow_sharing_agent_pid_namespace: false,
            disallow_sharing_agent_ipc_namespace: false,
            default_container_shm_size: None,
            sandbox_directory: "/mnt/mesos/sandbox".into(),
            host_path_volume_force_creation: Vec::new(),
            docker_volume_plugin_dirs: Vec::new(),
            docker_volume_checkpoint_dir: None,
            docker_volume_chown: false,
            loop_volumes_dir: None,
            csi_plugin_config_dir: None,
            csi_work_dir: "/var/lib/mesos/csi".into(),
            volume_images: None,
            networks: Arc::new(NoNetworks),
            runtime_dir: "/var/run/mesos".into(),
            network_root: None,
            network_cni_metrics: true,
            default_container_dns: DefaultDns::default(),
            secrets: Arc::new(ValuesOnly),
            container_disk_watch_interval: Duration::from_secs(15),
            enforce_container_disk_quota: false,
            projects: ProjectIds::default(),
            xfs_kill_containers: false,
            xfs_quota_headroom: 10 << 20,
            disk_watch_interval: Duration::from_mins(1),
            work_dir: "/var/lib/mesos".into(),
            disks: Vec::new(),
        }
    }
}

/// The label by which a task or an executor asks for a root that cannot be changed: `true`.
pub const READONLY_ROOTFS: &str = "readonly_rootfs";

/// What a container might ask for, and must not miss without a word.
const IMPLIED: [&str; 5] = [
    "environment_secret",
    "network/cni",
    "volume/host_path",
    "volume/sandbox_path",
    "volume/secret",
];

/// Where Mesos keeps what containers are attached to, below its runtime directory.
pub const NETWORK_ROOT: &str = "isolators/network/cni";

/// All isolators in the order in which they prepare, whatever order they are named in: cgroups
/// first, then the file system, then what goes into it, and last what looks at all of it.
pub(super) const ORDER: &[&str] = &[
    "environment_secret",
    "posix/cpu",
    "posix/mem",
    "posix/rlimits",
    "cgroups/cpu",
    "cgroups/mem",
    "cgroups/pids",
    "cgroups/blkio",
    "cgroups/cpuset",
    "cgroups/hugetlb",
    "cgroups/net_cls",
    "cgroups/net_prio",
    "cgroups/perf_event",
    "cgroups/pressure",
    "gpu/nvidia",
    "linux/devices",
    "cgroups/devices",
    "filesystem/posix",
    "filesystem/linux",
    "namespaces/pid",
    "namespaces/ipc",
    "network/cni",
    "network/ports",
    "volume/host_path",
    "volume/sandbox_path",
    "volume/secret",
    "volume/image",
    "docker/volume",
    "volume/csi",
    "disk/du",
    "disk/xfs",
    "linux/capabilities",
    "linux/nnp",
    "linux/seccomp",
    "linux/landlock",
];

/// Isolators of Mesos that are parts of something else here, and always in force.
const BUILT_IN: [&str; 1] = ["docker/runtime"];

/// Isolators of Mesos that are not there, and why.
const ABSENT: [(&str, &str); 3] = [
    ("appc/runtime", "the image format has died"),
    ("filesystem/shared", "Mesos had given it up for volumes"),
    (
        "network/port_mapping",
        "`network/cni` gives addresses and ports",
    ),
];

/// Isolators that an agent without root has no use for, and why; `cgroups/` are all of them, unless some were delegated.
const ROOTED: [(&str, &str); 6] = [
    (
        "cgroups/",
        "control groups were not delegated to this agent's user; without them nothing is limited",
    ),
    (
        "gpu/nvidia",
        "it confines devices by control groups; bind those a task needs with `linux/devices`",
    ),
    (
        "network/ports",
        "it finds the processes of containers by their control groups",
    ),
    (
        "docker/volume",
        "what plugins mount belongs to users of the node who are nobody in this agent's user namespace",
    ),
    (
        "volume/csi",
        "what plugins mount belongs to users of the node who are nobody in this agent's user namespace",
    ),
    ("disk/xfs", "project quotas take root; `disk/du` measures"),
];

/// Why an agent without root has no use for an isolator.
pub(super) fn takes_root(name: &str) -> Option<String> {
    let has_cgroups = rootless::delegated().is_ok();
    let found = ROOTED
        .iter()
        .find(|(known, _)| match known.strip_suffix('/') {
            Some(family) => !has_cgroups && (name == family || name.starts_with(known)),
            None => name == *known,
        });
    found.map(|(known, why)| match rootless::delegated() {
        Err(reason) if known.ends_with('/') => format!("{why}: {reason}"),
        _ => (*why).to_owned(),
    })
}

impl IsolationConfig {
    /// The isolators' names, implied ones included, in the order in which they prepare.
    ///
    /// # Errors
    /// [`IsolatorError::UnknownIsolator`]; [`IsolatorError::Refused`] for two file systems, and
    /// for those of Mesos that are not there.
    pub fn names(&self, cgroups: &Cgroups) -> Result<Vec<&'static str>, IsolatorError> {
        let mut wanted: Vec<&str> = Vec::new();
        for name in self
            .isolation
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            if let Some(why) = takes_root(name).filter(|_| rootless::is_entered()) {
                return Err(IsolatorError::refused(format!(
                    "--isolation: `{name}` takes an agent that is root: {why}"
                )));
            }
            match name {
                "posix/disk" => wanted.push("disk/du"),
                "process" => wanted.extend(["posix/cpu", "posix/mem"]),
                "cgroups" => wanted.extend(["cgroups/cpu", "cgroups/mem"]),
                "cgroups/all" => wanted.extend(ORDER.iter().filter(|name| cgroups.can(name))),
                name if BUILT_IN.contains(&name) => {}
                name => wanted.push(name),
            }
        }
        if let Some((name, why)) = ABSENT.iter().find(|(name, _)| wanted.contains(name)) {
            return Err(IsolatorError::refused(format!(
                "isolator `{name}` of Mesos is not there: {why}"
            )));
        }
        if let Some(name) = wanted.iter().find(|name| !ORDER.contains(name)) {
            return Err(IsolatorError::UnknownIsolator {
                name: (*name).to_owned(),
            });
        }
        let linux = wanted.contains(&"filesystem/linux");
        if linux && wanted.contains(&"filesystem/posix") {
            return Err(IsolatorError::refused(
                "there can be one `filesystem/` isolator only",
            ));
        }
        if wanted.contains(&"disk/du") && wanted.contains(&"disk/xfs") {
            return Err(IsolatorError::refused(
                "one of `disk/du` and `disk/xfs` counts what is on disk, not both",
            ));
        }
        if !linux {
            wanted.push("filesystem/posix");
        }
        wanted.extend(IMPLIED);
        Ok(ORDER
            .iter()
            .copied()
            .filter(|name| wanted.contains(name))
            .collect())
    }
}

impl IsolationConfig {
    /// Whether an isolator is named.
    pub fn has(&self, name: &str) -> bool {
        self.isolation.split(',').any(|named| named.trim() == name)
    }

    /// The GPUs that containers can get, by what `isolation` names.
    ///
    /// # Errors
    /// What finds them says so.
    pub fn find_gpus(&self) -> Result<Option<GpuPool>, IsolatorError> {
        if !self.has("gpu/nvidia") {
            return Ok(None);
        }
        let found = self.gpus.find()?;
        let found = found.chosen(self.nvidia_gpu_devices.as_deref())?;
        Ok(Some(GpuPool::new(found)))
    }
}

impl Isolators {
    /// The built-in isolators that `config` names.
    ///
    /// # Errors
    /// As [`IsolationConfig::names`], and what the isolators say of this host.
    pub fn from_config(config: &IsolationConfig) -> Result<Self, IsolatorError> {
        let cgroups = Cgroups::discover(&config.cgroups_root)?;
        let cgroups = cgroups
            .removing(config.removals.clone())
            .of_agent(&config.runtime_dir, &config.work_dir);
        let cgroups = match &config.slice {
            Some(slice) => cgroups.below(slice),
            None => cgroups.formerly_below(SLICE.as_ref()),
        };
        let names = config.names(&cgroups)?;
        names
            .into_iter()
            .map(|name| build(name, config, &cgroups))
            .collect::<Result<_, _>>()
            .map(Self::new)
    }
}

fn build(
    name: &str,
    config: &IsolationConfig,
    cgroups: &Cgroups,
) -> Result<Arc<dyn Isolator>, IsolatorError> {
    let cgroups = cgroups.clone();
    let sandbox = config.sandbox_directory.clone();
    Ok(match name {
        "posix/cpu" => Arc::new(PosixCpuIsolator::default()),
        "posix/mem" => Arc::new(PosixMemIsolator::default()),
        "posix/rlimits" => Arc::new(RlimitsIsolator),
        "cgroups/cpu" => Arc::new(CpuIsolator::new(
            cgroups,
            config.cgroups_enable_cfs,
            config.revocable_cpu_low_priority,
        )?),
        "cgroups/mem" => Arc::new(MemoryIsolator::new(cgroups, config.cgroups_limit_swap)?),
        "cgroups/pids" => Arc::new(PidsIsolator::new(cgroups, config.pids_limit)?),
        "cgroups/blkio" => Arc::new(BlkioIsolator::new(cgroups, config.io_limits.clone())?),
        "cgroups/cpuset" => Arc::new(MembershipIsolator::cpuset(cgroups)?),
        "cgroups/hugetlb" => Arc::new(MembershipIsolator::hugetlb(cgroups)?),
        "cgroups/net_cls" => {
            let handles = config.net_cls_handles.clone();
            Arc::new(NetClsIsolator::new(cgroups, handles)?)
        }
        "cgroups/net_prio" => Arc::new(MembershipIsolator::net_prio(cgroups)?),
        "cgroups/perf_event" => Arc::new(MembershipIsolator::perf_event(cgroups)?),
        "cgroups/pressure" => Arc::new(PressureIsolator::new(cgroups, &config.pressure_limits)?),
        "gpu/nvidia" => {
            let pool = match &config.gpu_pool {
                Some(pool) => Some(pool.clone()),
                None => config.find_gpus()?,
            };
            let pool = pool.expect("it is named");
            Arc::new(NvidiaGpuIsolator::new(cgroups, pool, &config.runtime_dir)?)
        }
        "linux/devices" => Arc::new(LinuxDevicesIsolator::new(config.allowed_devices.clone())),
        "cgroups/devices" => {
            let named = config.allowed_devices.iter().map(|device| &device.rule);
            let more = named.chain(&config.device_rules).cloned().collect();
            Arc::new(DevicesIsolator::new(cgroups, more)?)
        }
        "filesystem/posix" => {
            Arc::new(PosixFilesystemIsolator::default().gids(config.volume_gids.clone()))
        }
        "filesystem/linux" => {
            let readonly = config.readonly_rootfs;
            let sockets = config.runtime_dir.join(AGENT_SOCKETS);
            let isolator = LinuxFilesystemIsolator::new(sandbox).readonly(readonly);
            Arc::new(isolator.sockets(sockets).gids(config.volume_gids.clone()))
        }
        "namespaces/pid" => Arc::new(PidNamespaceIsolator::new(
            !config.disallow_sharing_agent_pid_namespace,
        )),
        "namespaces/ipc" => Arc::new(IpcNamespaceIsolator::new(
            !config.disallow_sharing_agent_ipc_namespace,
            config.default_container_shm_size,
        )),
        "network/cni" => Arc::new(NetworkIsolator::new(
            match &config.network_root {
                Some(root) => root.clone(),
                None => config.runtime_dir.join(NETWORK_ROOT),
            },
            Arc::clone(&config.networks),
            config.default_container_dns.clone(),
            config.network_cni_metrics,
        )),
        "network/ports" => {
            let settings = PortsSettings {
                interval: config.container_ports_watch_interval,
                enforce: config.enforce_container_ports,
                isolated: config.container_ports_isolated_range.clone(),
            };
            let isolator = NetworkPortsIsolator::new(cgroups, settings, &config.runtime_dir)?;
            Arc::new(isolator)
        }
        "volume/host_path" => {
            let force = config.host_path_volume_force_creation.clone();
            let names = config.names(&cgroups)?;
            Arc::new(HostPathIsolator::new(sandbox, force).beside(Others {
                docker: names.contains(&"docker/volume"),
                csi: names.contains(&"volume/csi"),
                image: names.contains(&"volume/image"),
            }))
        }
        "volume/sandbox_path" => {
            Arc::new(SandboxPathIsolator::new(sandbox).gids(config.volume_gids.clone()))
        }
        "volume/image" => Arc::new(ImageVolumeIsolator::new(
            &config.runtime_dir,
            sandbox,
            config.volume_images.clone(),
        )),
        "docker/volume" => {
            let mut plugins = PluginFolders::new(config.docker_volume_plugin_dirs.clone());
            if let Some(folder) = &config.loop_volumes_dir {
                plugins = plugins.with(Arc::new(LoopVolumes::new(folder.clone())));
            }
            let checkpoints = config.docker_volume_checkpoint_dir.clone();
            Arc::new(DockerVolumeIsolator::new(
                checkpoints.unwrap_or_else(|| config.runtime_dir.join("isolators/docker/volume")),
                Arc::new(plugins),
                sandbox,
                config.docker_volume_chown,
            ))
        }
        "volume/csi" => {
            let plugins = config.csi_plugin_config_dir.clone().ok_or_else(|| {
                IsolatorError::refused("the isolator `volume/csi` needs `--csi_plugin_config_dir`")
            })?;
            Arc::new(CsiVolumeIsolator::new(
                &config.runtime_dir,
                Arc::new(CsiFolder::new(plugins, config.csi_work_dir.clone())),
                sandbox,
                Arc::clone(&config.secrets),
            ))
        }
        "environment_secret" => {
            Arc::new(EnvironmentSecretIsolator::new(Arc::clone(&config.secrets)))
        }
        "volume/secret" => Arc::new(SecretVolumeIsolator::new(
            &config.runtime_dir,
            sandbox,
            Arc::clone(&config.secrets),
        )),
        "disk/du" => Arc::new(DiskUsageIsolator::new(
            &config.runtime_dir,
            config.container_disk_watch_interval,
            config.enforce_container_disk_quota,
        )),
        "disk/xfs" => Arc::new(ProjectQuotaIsolator::new(QuotaSettings {
            projects: config.projects.clone(),
            enforce: config.enforce_container_disk_quota,
            kill: config.xfs_kill_containers,
            headroom: config.xfs_quota_headroom,
            interval: config.container_disk_watch_interval,
            collect_interval: config.disk_watch_interval,
            work_dir: config.work_dir.clone(),
            disks: config.disks.clone(),
            runtime_dir: config.runtime_dir.clone(),
        })?),
        "linux/capabilities" => Arc::new(CapabilitiesIsolator::new(
            config.effective_capabilities.as_ref(),
            config.bounding_capabilities.as_ref(),
        )?),
        "linux/nnp" => Arc::new(NoNewPrivilegesIsolator),
        "linux/landlock" => Arc::new(LandlockIsolator::new(config.landlock_writable.clone())),
        "linux/seccomp" => Arc::new(SeccompIsolator::new(
            config.seccomp_config_dir.clone(),
            config.seccomp_profile_name.as_deref(),
        )?),
        name => {
            return Err(IsolatorError::UnknownIsolator {
                name: name.to_owned(),
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(isolation: &str) -> Result<String, String> {
        let config = IsolationConfig {
            isolation: isolation.to_owned(),
            ..Default::default()
        };
        config
            .names(&Cgroups::default())
            .map(|names| names.join(","))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_ordered_and_completed() {
        assert_eq!(
            names("linux/nnp, cgroups,filesystem/linux").unwrap(),
            "environment_secret,cgroups/cpu,cgroups/mem,filesystem/linux,network/cni,volume/host_path,volume/sandbox_path,volume/secret,linux/nnp"
        );
        assert_eq!(
            names("process").unwrap(),
            "environment_secret,posix/cpu,posix/mem,filesystem/posix,network/cni,volume/host_path,volume/sandbox_path,volume/secret"
        );
        assert_eq!(
            names("cgroups/nonsense").unwrap_err(),
            "unknown isolator `cgroups/nonsense`: take it off --isolation; what modules bring is not loaded"
        );
        assert!(names("filesystem/linux,filesystem/posix").is_err());
        assert_eq!(
            names("docker/runtime,cgroups/all").unwrap(),
            names("").unwrap(),
            "the one is always there, and this host has no controllers"
        );
        assert!(names("disk/du,disk/xfs").is_err());
        let absent = names("appc/runtime").unwrap_err();
        assert!(
            absent.starts_with("isolator `appc/runtime` of Mesos is not there"),
            "{absent}"
        );
    }
}
