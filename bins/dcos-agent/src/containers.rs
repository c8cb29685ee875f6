//! The containerizer this program puts together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use dcos_containerizer::agent::Meter;
use dcos_containerizer::checkpoint::paths;
use dcos_containerizer::containerizer::{
    Composing, Containerizer, LauncherProgram, SwitchboardProgram, Universal, UniversalConfig,
};
use dcos_containerizer::fetcher::{FetcherConfig, UriFetcher};
use dcos_containerizer::isolator::listening::{Ports, parse_ports};
use dcos_containerizer::isolator::{IsolationConfig, Isolators, NETWORK_ROOT, VolumeGids};
use dcos_containerizer::logger::{
    self, ContainerLogger, JOURNALD, JournaldLogger, JournaldSettings, RotatingFiles, Rotation,
};
use dcos_containerizer::oci::{MonitorProgram, Runtimes};
use dcos_containerizer::provisioner::{Collection, ImageProvisioner, Provisioner};
use dcos_containerizer::systemd::{SLICE, Slice};
use dcos_core::config::{Spec, Values};
use dcos_core::resources::Resources;
use dcos_docker::{Docker, DockerConfig};
use dcos_proto::mesos::Resource;
use dcos_proto::mesos::resource::disk_info::source;
use tokio_util::sync::CancellationToken;

use crate::rootless::{self, Begun};
use crate::{names, overlay};

/// The word that makes this program the launcher.
pub(crate) const LAUNCHER: &str = "launcher";
/// The word that makes this program a switchboard.
pub(crate) const SWITCHBOARD: &str = "switchboard";
/// The word that makes this program a monitor.
pub(crate) const MONITOR: &str = "monitor";

/// Options under Mesos's names (`src/slave/flags.cpp`), but for those said to be ours.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::duration("zk_session_timeout")
        .default("10secs")
        .help("how long the ensemble in which masters elect their leader may be out of reach before the agent asks another member"),
    Spec::text("containerizers")
        .default("mesos")
        .help("what runs containers, separated by commas: `mesos`, `docker`; the first that can does."),
    Spec::path("runtime_dir").help(
        "State that is lost with the host; /var/run/mesos as root, else `run` in the work directory.",
    ),
    Spec::choice("launcher", &["linux", "posix"])
        .help("linux: namespaces and cgroups, without root those of a user namespace, and cgroups that were delegated to the user; posix: plain processes. linux as root, and without root where it can be had and neither --containerizers nor --isolation says otherwise."),
    Spec::path("frameworks_home").help("Where relative URIs start; without it they are refused."),
    Spec::path("hadoop_home").help("Where Hadoop's client is, for URIs such as hdfs://; else HADOOP_HOME, else what `hadoop` in PATH is."),
    Spec::path("fetcher_cache_dir").help("Where fetched files are kept; below the work directory by default."),
    Spec::bytes("fetcher_cache_size").default("2GB").help("How much of that."),
    Spec::duration("fetcher_stall_timeout").default("1mins").help("How long a download may stand still."),
    Spec::text("container_logger").help(
        "what keeps output: `com_mesosphere_mesos_JournaldLogger` sends it to journald, as its parameters in `--modules` say; \
         else files that are rotated, whatever logger of Mesos is named.",
    ),
    Spec::json("modules").help(
        "Mesos's description of libraries: none is loaded, of the logger above the parameters are taken.",
    ),
    Spec::path("modules_dir").help("The same, as the files of a folder."),
    Spec::bytes("container_log_size")
        .default("10MB")
        .help("At which size `stdout` and `stderr` are rotated (ours)."),
    Spec::duration("container_log_age")
        .help("How old what is in `stdout` or `stderr` may become before it is rotated; any age by default (ours)."),
    Spec::switch("container_log_compress")
        .help("Pack rotated files by gzip, as `stdout.1.gz` (ours)."),
    Spec::integer("container_log_keep", 0, 1000)
        .default("9")
        .help("How many rotated files are kept of each (ours)."),
];

/// Everything that runs containers here.
pub(crate) struct Containers {
    /// As one.
    pub(crate) all: Arc<dyn Containerizer>,
    /// The one with a launcher, which ends only when it is told.
    pub(crate) universal: Option<Universal>,
    /// Whose images can be removed.
    pub(crate) images: Option<Arc<dyn Provisioner>>,
    /// What the fetcher and the cgroups count.
    pub(crate) counted: Meter,
    /// How many GPUs containers can get.
    pub(crate) gpus: u32,
}

impl Containers {
    /// What `--containerizers` names, in its order; what removes images runs until `stop`.
    pub(crate) async fn new(
        values: &Values,
        begun: &Begun,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let mut isolation = isolation(values, begun)?;
        isolation.container_ports_isolated_range = isolated_ports(values, &isolation)?;
        let pool = isolation.find_gpus()?;
        isolation.gpu_pool.clone_from(&pool);
        let slice = if rootless::is_root() {
            Slice::from_values(values).await.context(
                "containers would end with this agent's unit (`--systemd_enable_support=false` puts up with it)",
            )?
        } else {
            None
        };
        isolation.slice = slice.as_ref().map(|_| SLICE.into());
        let (mut config, collection, counted) = config(values, isolation, begun)?;
        if let Some(slice) = slice {
            config.launcher.arguments.extend(slice.arguments());
        }
        let (fetcher, logger) = (Arc::clone(&config.fetcher), Arc::clone(&config.logger));
        let images = config.provisioner.clone();
        let sockets = config.runtime_dir.join("docker");
        let mut universal = None;
        let mut parts: Vec<Arc<dyn Containerizer>> = Vec::new();
        let mut config = Some(config);
        for name in values.text("containerizers").split(',').map(str::trim) {
            match name {
                "mesos" => {
                    let config = config.take().context("--containerizers: `mesos` twice")?;
                    let made = Universal::new(config).await?;
                    universal = Some(made.clone());
                    parts.push(Arc::new(made));
                }
                "docker" => {
                    let (fetcher, logger) = (Arc::clone(&fetcher), Arc::clone(&logger));
                    let mut config = DockerConfig::from_values(values, fetcher, logger)?;
                    config.sockets.clone_from(&sockets);
                    config.gpus.clone_from(&pool);
                    let docker = Docker::new(config).await?;
                    if let Some(collector) = docker.collector() {
                        tokio::spawn(collector.run(stop.clone()));
                    }
                    parts.push(Arc::new(docker));
                }
                other => bail!("--containerizers: there is no `{other}`, but `mesos` and `docker`"),
            }
        }
        if let Some(collection) = collection.filter(|_| universal.is_some()) {
            tokio::spawn(collection.run(stop.clone()));
        }
        let all = match <[_; 1]>::try_from(parts) {
            Ok([one]) => one,
            Err(parts) => Arc::new(Composing::new(parts)),
        };
        Ok(Self {
            all,
            universal,
            images,
            counted,
            gpus: pool.map_or(0, |pool| pool.total()),
        })
    }
}

/// Where state is that is lost with the host.
pub(crate) fn runtime_dir(values: &Values) -> PathBuf {
    values.opt_path("runtime_dir").unwrap_or_else(|| {
        if rootless::is_root() {
            PathBuf::from("/var/run/mesos")
        } else {
            values.path("work_dir").join("run")
        }
    })
}

/// What confines containers.
fn isolation(values: &Values, begun: &Begun) -> anyhow::Result<IsolationConfig> {
    let work_dir = values.path("work_dir");
    let linux = begun.is_linux();
    ensure!(
        rootless::is_root() || values.opt_text("oci_runtimes").is_none(),
        "--oci_runtimes takes root"
    );
    let mut isolation = IsolationConfig::from_values(values, linux)?;
    isolation.runtime_dir = runtime_dir(values);
    if let Some(networks) = overlay::own_networks(values, linux && rootless::is_root())? {
        isolation.networks = networks;
    }
    if let Some(dns) = names::of_containers(values)? {
        isolation.default_container_dns = dns;
    }
    isolation.disk_watch_interval = values.duration("disk_watch_interval");
    isolation.disks = disks(values)?;
    isolation.work_dir.clone_from(&work_dir);
    isolation.network_root = values
        .switch("network_cni_root_dir_persist")
        .then(|| work_dir.join(NETWORK_ROOT));
    Ok(isolation)
}

/// Roots of the disks of type `PATH` that the agent offers.
fn disks(values: &Values) -> anyhow::Result<Vec<PathBuf>> {
    let named = values.opt_text("resources").unwrap_or_default();
    let resources = Resources::parse_for(&named, &values.text("default_role"))?;
    let is_path = |disk: &&Resource| {
        let source = disk.disk.as_ref().and_then(|disk| disk.source.as_ref());
        source.is_some_and(|source| source.r#type() == source::Type::Path)
    };
    let roots = resources
        .iter()
        .filter(is_path)
        .filter_map(paths::disk_root);
    Ok(roots
        .map(|root| values.path("work_dir").join(root))
        .collect())
}

/// The ports that `network/ports` looks at: with `--check_agent_port_range_only` the agent's own.
fn isolated_ports(values: &Values, isolation: &IsolationConfig) -> anyhow::Result<Option<Ports>> {
    let named = values.opt_text("resources").unwrap_or_default();
    if !values.switch("check_agent_port_range_only") || !named.contains("ports") {
        return Ok(isolation.container_ports_isolated_range.clone());
    }
    let resources = Resources::parse_for(&named, &values.text("default_role"))?;
    Ok(Some(parse_ports(&resources.ports().to_string())?))
}

/// The containerizer's parts, what removes images when the disk fills up, and what is counted.
fn config(
    values: &Values,
    mut isolation: IsolationConfig,
    begun: &Begun,
) -> anyhow::Result<(UniversalConfig, Option<Collection>, Meter)> {
    let work_dir = values.path("work_dir");
    let runtime_dir = isolation.runtime_dir.clone();
    let cache = values
        .opt_path("fetcher_cache_dir")
        .unwrap_or_else(|| work_dir.join("fetch"));
    let mut fetcher = FetcherConfig::new(cache);
    fetcher.frameworks_home = values.opt_path("frameworks_home");
    let environment = || std::env::var_os("HADOOP_HOME").map(PathBuf::from);
    fetcher.hadoop_home = values.opt_path("hadoop_home").or_else(environment);
    fetcher.stall_timeout = values.duration("fetcher_stall_timeout");
    fetcher.cache.size = values.bytes("fetcher_cache_size");
    let rotation = Rotation {
        max_size: values.bytes("container_log_size").max(4096),
        max_age: values.opt_duration("container_log_age"),
        compress: values.switch("container_log_compress"),
        keep: u32::try_from(values.count("container_log_keep")).unwrap_or(u32::MAX),
    };
    let provisioner = ImageProvisioner::from_values(values)?;
    let volume_images = provisioner.as_ref().map(ImageProvisioner::for_volumes);
    isolation.volume_images = volume_images.map(|one| Arc::new(one) as Arc<dyn Provisioner>);
    isolation.csi_work_dir = work_dir.join("csi");
    let collection = match &provisioner {
        Some(provisioner) => Collection::from_values(values, provisioner)?,
        None => None,
    };
    let program = std::env::current_exe().context("finding this program")?;
    let monitor = MonitorProgram {
        program: program.clone(),
        arguments: vec![MONITOR.to_owned()],
    };
    let fetcher = Arc::new(UriFetcher::new(fetcher).context("opening the fetcher's cache")?);
    let (counted, removals) = (Arc::clone(&fetcher), isolation.removals.clone());
    let gids = values.opt_text("volume_gid_range");
    let gids = gids.map(|range| VolumeGids::open(&range, &work_dir));
    isolation.volume_gids = gids.transpose()?;
    let gids = isolation.volume_gids.clone();
    let projects = isolation
        .has("disk/xfs")
        .then(|| isolation.projects.clone());
    let config = UniversalConfig {
        runtime_dir,
        launcher: launcher(&program, begun),
        switchboard: SwitchboardProgram {
            program,
            arguments: vec![SWITCHBOARD.to_owned()],
        },
        runtimes: Runtimes::from_values(values, monitor)?,
        isolators: Isolators::from_config(&isolation)?,
        provisioner: provisioner.map(|one| Arc::new(one) as Arc<dyn Provisioner>),
        fetcher,
        logger: logger(values, rotation)?,
        switch_user: rustix::process::geteuid().is_root() && values.switch("switch_user"),
        sandbox_directory: isolation.sandbox_directory,
        user_namespaces: isolation.user_namespaces,
        destroy_timeout: isolation.removals.timeout(),
    };
    let counted = Meter::new(move || {
        let mut all = counted.metrics();
        all.push((Meter::DESTROY_ERRORS.to_owned(), count(removals.failed())));
        if let Some(projects) = &projects {
            let ids = |name: &str| format!("containerizer/mesos/disk/project_ids_{name}");
            all.push((ids("total"), count(projects.total())));
            all.push((ids("free"), count(projects.free())));
        }
        if let Some(gids) = &gids {
            let ids = |name: &str| format!("volume_gid_manager/volume_gids_{name}");
            all.push((ids("total"), count(gids.total())));
            all.push((ids("free"), count(gids.free())));
        }
        all
    });
    Ok((config, collection, counted))
}

/// What keeps output.
fn logger(values: &Values, rotation: Rotation) -> anyhow::Result<Arc<dyn ContainerLogger>> {
    let modules = values.opt_json("modules");
    let folder = values.opt_path("modules_dir");
    if modules.is_some() || folder.is_some() {
        tracing::warn!(
            "not used here: --modules, --modules_dir: libraries of Mesos are not loaded: what they are named for in other flags is refused, what they do by themselves is not done"
        );
    }
    let name = values.opt_text("container_logger");
    if name.as_deref() != Some(JOURNALD) {
        if let Some(name) = name {
            tracing::warn!(
                "not used here: --container_logger={name}: stdout and stderr are files that are rotated: --container_log_size, --container_log_keep"
            );
        }
        return Ok(Arc::new(RotatingFiles::new(rotation)));
    }
    let parameters = logger::parameters(JOURNALD, modules.as_ref(), folder.as_deref())?;
    let settings = JournaldSettings::from_parameters(&parameters, rotation)
        .with_context(|| format!("parameters of {JOURNALD} in --modules"))?;
    let logger = JournaldLogger::new(settings).context("making a socket for journald")?;
    Ok(Arc::new(logger))
}

fn count(number: u64) -> f64 {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}

/// The small launcher beside this program, else this program.
fn launcher(own: &Path, begun: &Begun) -> LauncherProgram {
    match begun.launcher() {
        Some(program) => LauncherProgram {
            program: program.to_owned(),
            arguments: Vec::new(),
        },
        None => LauncherProgram {
            program: own.to_owned(),
            arguments: vec![LAUNCHER.to_owned()],
        },
    }
}
