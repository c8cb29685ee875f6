//! A container while it is being shaped.

use std::path::PathBuf;
use std::sync::Arc;

use dcos_launcher::{Cgroup, Filter};
use dcos_wire::limits::{self, OpenFiles};
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
    UserBuilder,
};

use super::cgroup::DeviceRule;
use super::devices::HostDevice;
use super::seccomp::Compiled;
use super::{ContainerConfig, Ids, IsolatorError};
use crate::isolator::users::User;

/// An OCI runtime spec, and beside it what that format cannot say.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The container as any OCI runtime would understand it, the seccomp profile aside: that is long, and only
    /// runtimes that compile it themselves are given it.
    pub spec: Spec,
    /// Cgroups that were made for it.
    pub cgroups: Vec<Cgroup>,
    /// Devices it may use beside those that every container may.
    pub devices: Vec<DeviceRule>,
    /// Seccomp filters, in the order of installation.
    pub seccomp: Vec<Filter>,
    /// What they were compiled from.
    pub(crate) profile: Option<Arc<Compiled>>,
    /// Mounts, by their destinations, between places that tasks can write to: no symbolic link may
    /// lead to either end.
    pub no_links: Vec<PathBuf>,
    /// What can be changed, as seen from inside, if not everything; no OCI runtime knows of it.
    pub writable: Option<Vec<PathBuf>>,
    /// Its ids, in a user namespace.
    pub ids: Option<Ids>,
    /// Mounts, by their destinations, whose files have inside the ids they have on the disk, if there are
    /// ids to be mapped.
    pub mapped: Vec<PathBuf>,
    /// Put a small init before the command: reaps orphans, passes signals on.
    pub init: bool,
}

impl Draft {
    /// A container that runs the command of `config` and is confined by nothing yet.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] if there is no command to run or no such user.
    pub fn new(config: &ContainerConfig) -> Result<Self, IsolatorError> {
        let mut user = UserBuilder::default();
        if let Some(name) = &config.user {
            let found = User::of_container(name, config.rootfs.as_deref())
                .ok_or_else(|| IsolatorError::refused(format!("there is no user `{name}`")))?
                .reachable()
                .map_err(|why| IsolatorError::refused(format!("user `{name}`: {why}")))?;
            user = user
                .uid(found.uid)
                .gid(found.gid)
                .additional_gids(found.groups);
        } else {
            user = user.uid(rustix::process::geteuid().as_raw());
            user = user.gid(rustix::process::getegid().as_raw());
        }
        let process = ProcessBuilder::default()
            .user(user.build().map_err(refused)?)
            .args(arguments(config)?)
            .env(
                config
                    .environment
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect::<Vec<_>>(),
            )
            .cwd(config.sandbox.clone())
            .terminal(false)
            .no_new_privileges(false)
            .build()
            .map_err(refused)?;
        let mut process = without_defaults(process);
        // Not the agent's own, which the kernel may be told to spare.
        process.set_oom_score_adj(Some(0));
        let linux = LinuxBuilder::default()
            .namespaces(Vec::new())
            .masked_paths(Vec::new())
            .readonly_paths(Vec::new())
            .build()
            .map_err(refused)?;
        let mut spec = SpecBuilder::default()
            .version("1.0.2")
            .process(process)
            .linux(linux)
            .mounts(Vec::new())
            .build()
            .map_err(refused)?;
        spec.set_root(None);
        spec.set_hostname(None);
        Ok(Self {
            spec,
            cgroups: Vec::new(),
            devices: Vec::new(),
            seccomp: Vec::new(),
            profile: None,
            no_links: Vec::new(),
            writable: None,
            ids: None,
            mapped: Vec::new(),
            init: false,
        })
    }

    /// Adds a namespace: a new one, or the one `path` names.
    pub fn namespace(&mut self, kind: LinuxNamespaceType, path: Option<PathBuf>) {
        let mut namespace = LinuxNamespaceBuilder::default().typ(kind);
        if let Some(path) = path {
            namespace = namespace.path(path);
        }
        let namespace = namespace
            .build()
            .expect("a namespace has no required part but its kind");
        let linux = self.spec.linux_mut().get_or_insert_default();
        let namespaces = linux.namespaces_mut().get_or_insert_default();
        namespaces.retain(|other: &LinuxNamespace| other.typ() != kind);
        namespaces.push(namespace);
    }

    /// Whether the container has a namespace of `kind`, new or joined.
    pub fn has_namespace(&self, kind: LinuxNamespaceType) -> bool {
        self.spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.namespaces().as_ref())
            .is_some_and(|all| all.iter().any(|namespace| namespace.typ() == kind))
    }

    /// Adds a mount after those that are there.
    pub fn mount(&mut self, mount: Mount) {
        self.spec.mounts_mut().get_or_insert_default().push(mount);
    }

    /// Adds the node of a device to a container with a file system of its own.
    pub fn node(&mut self, device: &HostDevice) {
        let linux = self.spec.linux_mut().get_or_insert_default();
        let nodes = linux.devices_mut().get_or_insert_default();
        nodes.retain(|node| *node.path() != device.path);
        nodes.push(device.node());
    }

    /// Sets the root of the container.
    pub fn root(&mut self, path: PathBuf, readonly: bool) {
        let root = RootBuilder::default().path(path).readonly(readonly).build();
        self.spec.set_root(root.ok());
    }

    /// Sets the working directory, a path inside the container.
    pub fn directory(&mut self, path: PathBuf) {
        if let Some(process) = self.spec.process_mut() {
            process.set_cwd(path);
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn refused(error: oci_spec::OciSpecError) -> IsolatorError {
    IsolatorError::refused(error.to_string())
}

/// The program and its arguments, as Mesos reads a `CommandInfo`.
fn arguments(config: &ContainerConfig) -> Result<Vec<String>, IsolatorError> {
    let command = &config.command;
    if config.holder {
        return Ok(Vec::new());
    }
    let shell = command.shell.unwrap_or(true);
    match (shell, &command.value) {
        (true, Some(value)) => Ok(vec!["/bin/sh".into(), "-c".into(), value.clone()]),
        (true, None) => Err(IsolatorError::refused("a shell command has no value")),
        // `value` is the program and `arguments` is `argv`, its own name included.
        (false, Some(value)) if command.arguments.is_empty() => Ok(vec![value.clone()]),
        (false, Some(value)) => Ok(std::iter::once(value.clone())
            .chain(command.arguments.iter().skip(1).cloned())
            .collect()),
        (false, None) if command.arguments.is_empty() => {
            Err(IsolatorError::refused("there is no command to run"))
        }
        (false, None) => Ok(command.arguments.clone()),
    }
}

/// The builder fills in what suits a container engine; a draft starts with nothing decided.
fn without_defaults(mut process: oci_spec::runtime::Process) -> oci_spec::runtime::Process {
    process.set_capabilities(None);
    process.set_rlimits(open_files(limits::former_open_files()));
    process.set_apparmor_profile(None);
    process
}

/// The limit of open files that a container begins with if its agent raised its own: programs that use
/// `select(2)` cannot have more than 1024.
fn open_files(former: Option<OpenFiles>) -> Option<Vec<PosixRlimit>> {
    let OpenFiles { soft, hard } = former?;
    let limit = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNofile)
        .soft(soft)
        .hard(hard);
    limit.build().ok().map(|limit| vec![limit])
}
