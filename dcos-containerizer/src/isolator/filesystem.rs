//! `filesystem/linux` and `filesystem/posix`: what a container sees at `/`.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dcos_proto::mesos::ContainerId;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType, LinuxNamespaceType, Mount, MountBuilder,
};

use super::{ContainerConfig, Draft, Isolator, IsolatorError, VolumeGids, patience, persistent};

/// Where an executor's environment says the agent's socket is.
pub const AGENT_SOCKET_VARIABLE: &str = "MESOS_DOMAIN_SOCKET";
/// The folder of the agent's socket below `--runtime_dir`, with nothing else in it.
pub const AGENT_SOCKETS: &str = "executors";
/// The socket in it.
pub const AGENT_SOCKET: &str = "agent.sock";
/// Where that folder is in the roots of executors.
const AGENT_SOCKETS_INSIDE: &str = "/mnt/mesos/agent";

/// No file system of its own: the container sees the node's, and cannot have an image.
#[derive(Debug, Default)]
pub struct PosixFilesystemIsolator {
    gids: Option<VolumeGids>,
}

impl PosixFilesystemIsolator {
    /// Persistent volumes have groups of their own.
    pub fn gids(mut self, gids: Option<VolumeGids>) -> Self {
        self.gids = gids;
        self
    }
}

#[async_trait]
impl Isolator for PosixFilesystemIsolator {
    fn name(&self) -> &'static str {
        "filesystem/posix"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        if config.has_rootfs() {
            return Err(IsolatorError::refused(
                "a container image needs the isolator `filesystem/linux`",
            ));
        }
        attach(config, &config.sandbox, self.gids.as_ref(), draft).await
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

/// A mount namespace, and with an image a whole file system: root, `/proc`, `/sys`, `/dev`, the
/// sandbox, the node's name resolution.
#[derive(Debug)]
pub struct LinuxFilesystemIsolator {
    sandbox_directory: PathBuf,
    sockets: PathBuf,
    readonly: bool,
    gids: Option<VolumeGids>,
}

impl LinuxFilesystemIsolator {
    /// Inside images the sandbox is at `sandbox_directory` (`/mnt/mesos/sandbox`).
    pub fn new(sandbox_directory: PathBuf) -> Self {
        Self {
            sandbox_directory,
            sockets: PathBuf::new(),
            readonly: false,
            gids: None,
        }
    }

    /// Persistent volumes have groups of their own.
    pub fn gids(mut self, gids: Option<VolumeGids>) -> Self {
        self.gids = gids;
        self
    }

    /// With `readonly` nothing in the roots of images can be changed (`--readonly_rootfs`); what
    /// is mounted in them (sandbox, volumes, `/dev/shm`) can.
    pub fn readonly(mut self, readonly: bool) -> Self {
        self.readonly = readonly;
        self
    }

    /// Executors with an image find the agent's socket, which is in the folder `sockets`.
    pub fn sockets(mut self, sockets: PathBuf) -> Self {
        self.sockets = sockets;
        self
    }

    fn with_image(&self, config: &ContainerConfig, rootfs: &Path, draft: &mut Draft) {
        draft.root(rootfs.to_owned(), self.readonly || config.readonly_rootfs);
        // Before those that other isolators have added: `/dev` has to be there for `/dev/shm`.
        let others = draft.spec.mounts_mut().take().unwrap_or_default();
        let mut mounts = system_mounts();
        mounts.retain(|mount| {
            others
                .iter()
                .all(|other: &Mount| other.destination() != mount.destination())
        });
        mounts.extend(others);
        mounts.extend(node_files());
        mounts.push(bind(&config.sandbox, &self.sandbox_directory, false));
        draft.no_links.push(self.sandbox_directory.clone());
        if config.agent_socket {
            // The folder, not the socket: a restarted agent makes another one.
            mounts.push(bind(&self.sockets, Path::new(AGENT_SOCKETS_INSIDE), true));
        }
        draft.spec.set_mounts(Some(mounts));

        let linux = draft.spec.linux_mut().get_or_insert_default();
        let nodes = linux.devices_mut().get_or_insert_default();
        nodes.splice(..0, devices());
        draft.directory(self.sandbox_directory.clone());
        set(draft, "MESOS_SANDBOX", &self.sandbox_directory);
        if config.agent_socket {
            let socket = Path::new(AGENT_SOCKETS_INSIDE).join(AGENT_SOCKET);
            set(draft, AGENT_SOCKET_VARIABLE, &socket);
        }
    }
}

/// Gives a container its persistent volumes, which may be on disks of their own.
async fn attach(
    config: &ContainerConfig,
    sandbox_directory: &Path,
    gids: Option<&VolumeGids>,
    draft: &mut Draft,
) -> Result<(), IsolatorError> {
    if config.volumes.is_empty() {
        return Ok(());
    }
    let (config, place, mut shaped) = (config.clone(), sandbox_directory.to_owned(), draft.clone());
    let gids = gids.cloned();
    let work = move |going: &patience::Going| {
        persistent::attach(&config, &place, gids.as_ref(), &mut shaped, going).map(|()| shaped)
    };
    *draft = patience::wait(patience::PATIENCE, work).await?;
    Ok(())
}

/// Sets a variable of the environment to a path.
fn set(draft: &mut Draft, name: &str, value: &Path) {
    let process = draft.spec.process_mut().as_mut();
    if let Some(environment) = process.and_then(|process| process.env_mut().as_mut()) {
        let is = |variable: &String| variable.split_once('=').is_some_and(|(key, _)| key == name);
        environment.retain(|variable| !is(variable));
        environment.push(format!("{name}={}", value.display()));
    }
}

#[async_trait]
impl Isolator for LinuxFilesystemIsolator {
    fn name(&self) -> &'static str {
        "filesystem/linux"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        if config.debug {
            let parent = config
                .parent_pid
                .map(|pid| format!("/proc/{pid}/ns/mnt").into());
            draft.namespace(LinuxNamespaceType::Mount, parent);
            return Ok(());
        }
        draft.namespace(LinuxNamespaceType::Mount, None);
        protect(draft, config.has_rootfs());
        if let Some(rootfs) = &config.rootfs {
            self.with_image(config, rootfs, draft);
        }
        attach(config, &self.sandbox_directory, self.gids.as_ref(), draft).await
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        // The kernel takes the mounts down with their namespace.
        Ok(())
    }
}

/// Hides what tells about the node as a whole, and makes read-only what changes it.
fn protect(draft: &mut Draft, own_sys: bool) {
    let paths = |all: &mut dyn Iterator<Item = &&str>| Some(all.map(ToString::to_string).collect());
    let linux = draft.spec.linux_mut().get_or_insert_default();
    linux.set_masked_paths(paths(&mut MASKED.iter()));
    // The node's own comes with its cgroups: who writes there leaves its limits behind.
    let sys = ["/sys"];
    let sys = sys.iter().filter(|_| !own_sys);
    linux.set_readonly_paths(paths(&mut READONLY.iter().chain(sys)));
}

impl Draft {
    /// Gives a terminal of the node a name in a root of its own, where those of the node have none.
    pub(crate) fn name_terminal(&mut self, terminal: &Path) {
        if self.spec.root().is_some() {
            self.mount(bind(terminal, Path::new("/dev/console"), false));
        }
    }
}

/// A bind of a host path to a path inside.
pub(super) fn bind(source: &Path, target: &Path, readonly: bool) -> Mount {
    let mode = if readonly { "ro" } else { "rw" };
    MountBuilder::default()
        .destination(target)
        .source(source)
        .typ("bind")
        .options(vec!["rbind".to_owned(), mode.to_owned()])
        .build()
        .expect("a mount has no required part")
}

pub(super) fn system_mounts() -> Vec<Mount> {
    let mount = |(target, kind, options): (&str, &str, &str)| {
        MountBuilder::default()
            .destination(target)
            .source(kind)
            .typ(kind)
            .options(options.split(',').map(str::to_owned).collect::<Vec<_>>())
            .build()
            .expect("a mount has no required part")
    };
    let all = [
        ("/proc", "proc", "nosuid,nodev,noexec"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec"),
        ("/dev", "tmpfs", "nosuid,noexec,mode=755,size=64k"),
        (
            "/dev/pts",
            "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        ("/dev/shm", "tmpfs", "nosuid,nodev,noexec,mode=1777"),
        ("/dev/mqueue", "mqueue", "nosuid,nodev,noexec"),
    ];
    all.into_iter().map(mount).collect()
}

/// Files of the node by which its network's names are found; a network of the container's own
/// comes with files of its own, mounted over these.
fn node_files() -> impl Iterator<Item = Mount> {
    let files = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
    files
        .into_iter()
        .map(Path::new)
        .filter(|file| file.exists())
        .map(|file| bind(file, file, true))
}

fn devices() -> Vec<LinuxDevice> {
    let device = |(path, major, minor): (&str, i64, i64)| {
        LinuxDeviceBuilder::default()
            .path(path)
            .typ(LinuxDeviceType::C)
            .major(major)
            .minor(minor)
            .file_mode(0o666_u32)
            .uid(0_u32)
            .gid(0_u32)
            .build()
            .expect("path, type and number are given")
    };
    let all = [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ];
    all.into_iter().map(device).collect()
}

/// What tells about or changes the node as a whole.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
