//! `namespaces/pid` and `namespaces/ipc`: whose processes and shared memory a container sees.

use std::path::PathBuf;

use async_trait::async_trait;
use dcos_proto::mesos::linux_info::IpcMode;
use dcos_proto::mesos::{ContainerId, LinuxInfo};
use oci_spec::runtime::{LinuxNamespaceType, Mount, MountBuilder};

use super::{ContainerConfig, Draft, Isolator, IsolatorError};

fn linux_info(config: &ContainerConfig) -> Option<&LinuxInfo> {
    config.container.as_ref()?.linux_info.as_ref()
}

/// A namespace of the parent of a nested container.
fn of_parent(config: &ContainerConfig, file: &str) -> Option<PathBuf> {
    config
        .parent_pid
        .map(|pid| PathBuf::from(format!("/proc/{pid}/ns/{file}")))
}

fn special_mount(target: &str, kind: &str, options: &[&str]) -> Mount {
    MountBuilder::default()
        .destination(target)
        .source(kind)
        .typ(kind)
        .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()
        .expect("a mount has no required part")
}

/// A container sees its own processes only, and they die with its first one.
#[derive(Debug)]
pub struct PidNamespaceIsolator {
    sharing_allowed: bool,
}

impl PidNamespaceIsolator {
    /// `sharing_allowed` lets a container ask for the node's processes
    /// (not `--disallow_sharing_agent_pid_namespace`).
    pub fn new(sharing_allowed: bool) -> Self {
        Self { sharing_allowed }
    }
}

#[async_trait]
impl Isolator for PidNamespaceIsolator {
    fn name(&self) -> &'static str {
        "namespaces/pid"
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
        let asked = linux_info(config)
            .and_then(|linux| linux.share_pid_namespace)
            .unwrap_or(false);
        let shared = asked || config.debug;
        match (shared, of_parent(config, "pid")) {
            (true, Some(parent)) => draft.namespace(LinuxNamespaceType::Pid, Some(parent)),
            (true, None) if self.sharing_allowed => return Ok(()),
            (true, None) => {
                return Err(IsolatorError::refused(
                    "sharing the agent's pid namespace is not allowed here",
                ));
            }
            (false, _) => {
                draft.namespace(LinuxNamespaceType::Pid, None);
                // Process 1 of a namespace ignores signals it has no handler for: a shell that
                // were process 1 could not be asked to end.
                draft.init = true;
            }
        }
        if !config.debug {
            // `/proc` shows the processes of the namespace it is mounted in.
            draft.namespace(LinuxNamespaceType::Mount, None);
            let mounted = |mount: &Mount| mount.destination().as_os_str() == "/proc";
            if !draft.spec.mounts().iter().flatten().any(mounted) {
                draft.mount(special_mount(
                    "/proc",
                    "proc",
                    &["nosuid", "nodev", "noexec"],
                ));
            }
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

/// A container has its own shared memory, its parent's, or the node's.
#[derive(Debug)]
pub struct IpcNamespaceIsolator {
    sharing_allowed: bool,
    default_shm: Option<u64>,
}

impl IpcNamespaceIsolator {
    /// `sharing_allowed` lets a container share the node's (not
    /// `--disallow_sharing_agent_ipc_namespace`); `default_shm` is the size of `/dev/shm` in bytes
    /// where none is asked for (`--default_container_shm_size`), else half the memory.
    pub fn new(sharing_allowed: bool, default_shm: Option<u64>) -> Self {
        Self {
            sharing_allowed,
            default_shm,
        }
    }

    fn own(&self, config: &ContainerConfig, draft: &mut Draft) {
        draft.namespace(LinuxNamespaceType::Ipc, None);
        draft.namespace(LinuxNamespaceType::Mount, None);
        let asked = linux_info(config).and_then(|linux| linux.shm_size);
        let size = asked
            .map(|megabytes| u64::from(megabytes) << 20)
            .or(self.default_shm);
        let size = size.map(|bytes| format!("size={bytes}"));
        let mut options = vec!["nosuid", "nodev", "noexec", "mode=1777"];
        options.extend(size.as_deref());
        draft.mount(special_mount("/dev/shm", "tmpfs", &options));
    }
}

#[async_trait]
impl Isolator for IpcNamespaceIsolator {
    fn name(&self) -> &'static str {
        "namespaces/ipc"
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
        let mode = linux_info(config).and_then(|linux| linux.ipc_mode);
        let mode = mode
            .and_then(|mode| IpcMode::try_from(mode).ok())
            .unwrap_or_default();
        let parent = of_parent(config, "ipc");
        if config.debug {
            draft.namespace(LinuxNamespaceType::Ipc, parent);
            return Ok(());
        }
        match (mode, parent) {
            (IpcMode::Private, _) => self.own(config, draft),
            (IpcMode::ShareParent, Some(parent)) => {
                draft.namespace(LinuxNamespaceType::Ipc, Some(parent));
                draft.namespace(LinuxNamespaceType::Mount, None);
                let pid = config.parent_pid.unwrap_or_default();
                let shm = MountBuilder::default()
                    .destination("/dev/shm")
                    .source(format!("/proc/{pid}/root/dev/shm"))
                    .options(vec!["rbind".to_owned()])
                    .build()
                    .expect("a mount has no required part");
                draft.mount(shm);
            }
            (IpcMode::ShareParent, None) if !self.sharing_allowed => {
                return Err(IsolatorError::refused(
                    "sharing the agent's IPC namespace is not allowed here",
                ));
            }
            (IpcMode::ShareParent, None) => {}
            // Nothing was asked for. A container with its own files has its own; others share
            // the node's as they did before there was a choice.
            (IpcMode::Unknown, parent) => {
                if config.has_rootfs() || parent.is_some() || !self.sharing_allowed {
                    self.own(config, draft);
                }
            }
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}
