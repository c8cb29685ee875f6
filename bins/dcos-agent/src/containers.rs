//! The containerizer this program puts together.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use dcos_containerizer::containerizer::{LauncherProgram, UniversalConfig};
use dcos_containerizer::fetcher::{FetcherConfig, UriFetcher};
use dcos_containerizer::isolator::{IsolationConfig, Isolators};
use dcos_containerizer::logger::{RotatingFiles, Rotation};
use dcos_core::config::{Spec, Values};
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::CapabilityInfo;
use dcos_proto::mesos::capability_info::Capability;

/// The word that makes this program the launcher.
pub(crate) const LAUNCHER: &str = "launcher";

/// Options under Mesos's names (`src/slave/flags.cpp`), but for those said to be ours.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::path("runtime_dir").help(
        "State that is lost with the host; /var/run/mesos as root, else `run` in the work directory.",
    ),
    Spec::choice("launcher", &["linux", "posix"])
        .help("linux: namespaces and cgroups, which takes root; posix: plain processes. linux as root."),
    Spec::text("isolation").help("Isolators, separated by commas; the Linux ones as root, else posix/cpu,posix/mem."),
    Spec::path("cgroups_root").default("mesos").help("Our folder in each control group hierarchy."),
    Spec::switch("cgroups_enable_cfs").default("false").help("Cap CPU time at what was given."),
    Spec::switch("cgroups_limit_swap").default("false").help("Limit memory and swap together."),
    Spec::json("effective_capabilities")
        .help("The capabilities of tasks that name none, as a CapabilityInfo; a short list by default."),
    Spec::json("bounding_capabilities")
        .help("The most capabilities a task may have, as a CapabilityInfo; no bound by default."),
    Spec::path("sandbox_directory")
        .default("/mnt/mesos/sandbox")
        .help("Where containers with an image see their sandbox."),
    Spec::path("frameworks_home").help("Where relative URIs start; without it they are refused."),
    Spec::path("fetcher_cache_dir").help("Where fetched files are kept; below the work directory by default."),
    Spec::bytes("fetcher_cache_size").default("2GB").help("How much of that."),
    Spec::duration("fetcher_stall_timeout").default("1mins").help("How long a download may stand still."),
    Spec::bytes("container_log_size")
        .default("10MB")
        .help("At which size `stdout` and `stderr` are rotated (ours)."),
];

/// What an agent that is root confines tasks with unless told otherwise. A node of Mesos defaults to
/// `posix/cpu,posix/mem`; ours is safe by default.
const LINUX_ISOLATION: &str = "cgroups/cpu,cgroups/mem,cgroups/pids,cgroups/devices,\
filesystem/linux,namespaces/pid,namespaces/ipc,linux/capabilities,linux/nnp,linux/seccomp,posix/rlimits";

/// What a task has that names no capabilities: Docker's default set less making device nodes, raw
/// sockets and audit records. (A node of Mesos takes nothing away.)
const CAPABILITIES: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Setfcap,
];

/// The capabilities an option names, if it is there.
fn capabilities(values: &Values, option: &str) -> anyhow::Result<Option<CapabilityInfo>> {
    let given = values.opt_json(option);
    let read = |given| json::from_value(&given, Dialect::V1);
    given
        .map(read)
        .transpose()
        .with_context(|| format!("--{option}"))
}

pub(crate) fn config(values: &Values) -> anyhow::Result<UniversalConfig> {
    let root = rustix::process::geteuid().is_root();
    let work_dir = values.path("work_dir");
    let linux = values
        .opt_text("launcher")
        .map_or(root, |launcher| launcher == "linux");
    ensure!(
        root || !linux,
        "--launcher=linux takes root; use --launcher=posix"
    );
    let default = if linux {
        LINUX_ISOLATION
    } else {
        "posix/cpu,posix/mem"
    };
    let isolation = IsolationConfig {
        isolation: values
            .opt_text("isolation")
            .unwrap_or_else(|| default.to_owned()),
        cgroups_root: values.path("cgroups_root"),
        cgroups_enable_cfs: values.switch("cgroups_enable_cfs"),
        cgroups_limit_swap: values.switch("cgroups_limit_swap"),
        effective_capabilities: capabilities(values, "effective_capabilities")?.or_else(|| {
            linux.then(|| CapabilityInfo {
                capabilities: CAPABILITIES.map(Into::into).into(),
            })
        }),
        bounding_capabilities: capabilities(values, "bounding_capabilities")?,
        sandbox_directory: values.path("sandbox_directory"),
        ..IsolationConfig::default()
    };
    let cache = values
        .opt_path("fetcher_cache_dir")
        .unwrap_or_else(|| work_dir.join("fetch"));
    let mut fetcher = FetcherConfig::new(cache);
    fetcher.frameworks_home = values.opt_path("frameworks_home");
    fetcher.stall_timeout = values.duration("fetcher_stall_timeout");
    fetcher.cache.size = values.bytes("fetcher_cache_size");
    let rotation = Rotation {
        max_size: values.bytes("container_log_size"),
        ..Rotation::default()
    };
    let runtime_dir = values.opt_path("runtime_dir").unwrap_or_else(|| {
        if root {
            PathBuf::from("/var/run/mesos")
        } else {
            work_dir.join("run")
        }
    });
    Ok(UniversalConfig {
        runtime_dir,
        launcher: LauncherProgram {
            program: std::env::current_exe().context("finding this program")?,
            arguments: vec![LAUNCHER.to_owned()],
        },
        isolators: Isolators::from_config(&isolation)?,
        provisioner: None,
        fetcher: Arc::new(UriFetcher::new(fetcher).context("opening the fetcher's cache")?),
        logger: Arc::new(RotatingFiles::new(rotation)),
        switch_user: root && values.switch("switch_user"),
        sandbox_directory: values.path("sandbox_directory"),
    })
}
