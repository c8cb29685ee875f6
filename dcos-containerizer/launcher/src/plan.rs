//! What the launcher is told to make: one container, decided down to the last mount.
//!
//! A plan holds no choice: whoever writes it (the agent, from the sum of its isolators) has
//! decided everything, and the launcher carries it out step by step in the order of the fields
//! below. Paths are those of the host unless a field says otherwise.

use std::path::PathBuf;

use crate::codec::{DecodeError, Wire};

/// The version of the format that this library writes, and the only one it reads.
///
/// Agent and launcher come from one release, but a running launcher may be older than the agent
/// that connects to it, or newer: then it refuses the plan ([`Error::Version`](crate::Error::Version)), and
/// the agent lets it become its own ([`Client::upgrade`](crate::Client::upgrade)) before it tries again.
pub const VERSION: u8 = 5;

/// Bytes an encoded plan may have at most; Linux takes 2 MiB of arguments and environment.
pub const MAX_PLAN: usize = 4 << 20;

record! {
/// A container, ready to be made.
///
/// [`Plan::default`] runs nothing (a pause process), in every namespace of the launcher itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Names the container to the launcher; unique among those that are not acknowledged yet.
    pub id: String,
    /// Namespaces that are made for the container.
    pub new: Namespaces,
    /// Namespaces of others that it enters, in this order.
    pub join: Vec<Join>,
    /// User ids inside a new user namespace.
    pub uid_maps: Vec<IdMap>,
    /// Group ids inside a new user namespace.
    pub gid_maps: Vec<IdMap>,
    /// Cgroups it belongs to; made by the plan's writer.
    pub cgroups: Vec<Cgroup>,
    /// Host name in a new UTS namespace.
    pub hostname: Option<String>,
    /// What `/` becomes; absent, it stays what the launcher sees.
    pub root: Option<Root>,
    /// Mounts, in order; needs a new mount namespace.
    pub mounts: Vec<Mount>,
    /// Device nodes made inside the root, after the last mount that is no bind and before the binds that follow it.
    pub devices: Vec<Device>,
    /// Symbolic links made inside the root when devices are; existing ones are left alone.
    pub links: Vec<Link>,
    /// Paths inside the root that are hidden behind nothing, if they are there; no link may lead there.
    pub masked_paths: Vec<PathBuf>,
    /// Paths inside the root that become read-only, if they are there; no link may lead there.
    pub readonly_paths: Vec<PathBuf>,
    /// Limits of the process, see `setrlimit(2)`.
    pub rlimits: Vec<Rlimit>,
    /// How soon the kernel ends it when the node is out of memory, -1000 to 1000; absent, as the launcher. Where it
    /// would have to be lowered, and that takes a privilege the launcher lacks, it stays.
    pub oom_score_adj: Option<i32>,
    /// Who the process is; absent, whoever the launcher is.
    pub credentials: Option<Credentials>,
    /// Capabilities; absent, they follow from the credentials as `execve(2)` says.
    pub capabilities: Option<Capabilities>,
    /// Never gain privileges through `execve(2)` again.
    pub no_new_privileges: bool,
    /// Files and folders, seen from inside, below which files can be changed; nothing else can be,
    /// whoever the process is. Absent, nothing is confined by Landlock.
    pub writable: Option<Vec<PathBuf>>,
    /// Compiled seccomp filters (`struct sock_filter[]`), installed in this order.
    pub seccomp: Vec<Filter>,
    /// Working directory. Inside a root of its own it is made if it is missing; on the node it has to
    /// exist, and no symbolic link may lead to it.
    pub directory: Option<PathBuf>,
    /// What becomes process 1 of the container.
    pub first: First,
    /// Arguments, the program first; looked up in the `PATH` of `environment` unless it holds a
    /// slash. None: a pause process that holds the namespaces and reaps.
    pub arguments: Vec<String>,
    /// Environment, nothing added.
    pub environment: Vec<Variable>,
    /// Standard input is a terminal and becomes the controlling one.
    pub terminal: bool,
}}

record! {
/// The namespaces a plan makes anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Process ids.
    pub pid: bool,
    /// Mounts; needed for whatever changes the file system.
    pub mount: bool,
    /// System V IPC and POSIX message queues.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// Network devices, addresses, ports; the loopback device of the new one is brought up.
    pub network: bool,
    /// User ids and capabilities.
    pub user: bool,
    /// What `/proc/self/cgroup` shows.
    pub cgroup: bool,
}}

choice! {
/// Kinds of namespaces that can be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceKind {
    /// Process ids.
    Pid = 1,
    /// Mounts.
    Mount = 2,
    /// System V IPC and POSIX message queues.
    Ipc = 3,
    /// Host name.
    Uts = 4,
    /// Network devices, addresses, ports.
    Network = 5,
    /// User ids and capabilities.
    User = 6,
    /// The cgroup tree.
    Cgroup = 7,
}}

record! {
/// A namespace to enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// What it is a namespace of.
    pub kind: NamespaceKind,
    /// Its file, such as `/proc/123/ns/net`.
    pub path: PathBuf,
}}

record! {
/// A range of ids in a user namespace, see `user_namespaces(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}}

record! {
/// A cgroup to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its folder, such as `/sys/fs/cgroup/memory/mesos/7f3`.
    pub path: PathBuf,
    /// Which hierarchy the folder is in.
    pub version: CgroupVersion,
}}

choice! {
/// The two cgroup interfaces; a hybrid host has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy a controller.
    V1 = 1,
    /// One hierarchy for all; the container is cloned right into it.
    V2 = 2,
}}

record! {
/// The new `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The folder that becomes `/`.
    pub path: PathBuf,
    /// Whether it can be written.
    pub readonly: bool,
}}

record! {
/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// Where it comes to lie, inside the root; made if it is missing, and not the root itself. On the way
    /// to a bind links are followed, inside the root only; what is no bind has none on its way, if there
    /// is a root of its own.
    pub target: PathBuf,
    /// What is mounted: a host path for a bind, otherwise what the file system takes.
    pub source: PathBuf,
    /// File system; empty for a bind.
    pub kind: String,
    /// `MS_*` flags of `mount(2)`, `MS_BIND` and `MS_REC` among them.
    pub flags: u64,
    /// Propagation flags (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, with `MS_REC`), or 0.
    pub propagation: u64,
    /// Options of the file system, separated by commas.
    pub data: String,
    /// A bind between places that others can write to: no symbolic link may be on the way to the
    /// source, nor to the target, which has to exist, unless a root of its own confines it.
    pub no_links: bool,
    /// A bind whose files have, inside, the ids that this user namespace gives them: 0 on the disk
    /// is 0 inside. The file system has to know id-mapped mounts. Needs a new user namespace.
    pub ids: Option<PathBuf>,
}}

record! {
/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is made, inside the root.
    pub path: PathBuf,
    /// A block device instead of a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner inside the container.
    pub uid: u32,
    /// Group inside the container.
    pub gid: u32,
}}

record! {
/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it is made, inside the root.
    pub path: PathBuf,
    /// What it points to.
    pub target: PathBuf,
}}

record! {
/// A limit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_*` number.
    pub resource: u32,
    /// What is enforced; `u64::MAX` is unlimited.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}}

record! {
/// User and groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User id, inside the user namespace.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups; all others are dropped.
    pub groups: Vec<u32>,
}}

record! {
/// The five capability sets, bit *n* being capability *n* of `capabilities(7)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Upper bound of all that can ever be gained.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// Kept over `execve(2)` where the file agrees.
    pub inheritable: u64,
    /// Kept over `execve(2)` without root.
    pub ambient: u64,
}}

record! {
/// One compiled seccomp program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Instructions of 8 bytes each: code (16 bits), jump if true, jump if false, value (32 bits).
    pub instructions: Vec<u64>,
}}

record! {
/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}}

choice! {
/// What the first process of a container is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum First {
    /// The command itself. Without a pid namespace and without cgroups a [`First::Init`] is put
    /// before it all the same: nothing else could end what the command leaves behind.
    #[default]
    Command = 0,
    /// A small init: starts the command, forwards signals to it, reaps orphans, and when the
    /// command ends, ends whatever is left and passes on its status.
    Init = 1,
}}

impl Plan {
    /// The plan as bytes.
    pub fn encode(&self) -> Vec<u8> {
        [vec![VERSION], self.to_bytes()].concat()
    }

    /// Reads a plan back and checks it.
    ///
    /// # Errors
    /// Whatever is not the encoding of a plan that [`check`](Self::check) accepts.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_PLAN {
            return Err(DecodeError::Rule("a plan has 4 MiB at most"));
        }
        let (version, plan) = bytes.split_first().ok_or(DecodeError::Short)?;
        if *version != VERSION {
            return Err(DecodeError::Version(*version));
        }
        let plan = Self::from_bytes(plan)?;
        plan.check()?;
        Ok(plan)
    }

    pub(crate) fn joins(&self, kind: NamespaceKind) -> bool {
        self.join.iter().any(|join| join.kind == kind)
    }

    /// Refuses plans that cannot be carried out.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), DecodeError> {
        let changes_files = self.root.is_some()
            || !self.mounts.is_empty()
            || !self.devices.is_empty()
            || !self.links.is_empty()
            || !self.masked_paths.is_empty()
            || !self.readonly_paths.is_empty();
        let is_v2 = |cgroup: &&Cgroup| cgroup.version == CgroupVersion::V2;
        let is_mapped = |mount: &Mount| mount.ids.is_some();
        let mut inside = (self.mounts.iter().map(|mount| &mount.target))
            .chain(self.devices.iter().map(|device| &device.path))
            .chain(self.links.iter().map(|link| &link.path))
            .chain(&self.masked_paths)
            .chain(&self.readonly_paths);
        let is_name = |v: &Variable| !v.name.is_empty() && !v.name.contains('=');
        let mut ids =
            (self.credentials.iter()).flat_map(|who| who.groups.iter().chain([&who.uid, &who.gid]));
        // The kernel takes it for "as it is", which is root.
        let somebody = ids.all(|id| *id != u32::MAX);
        let is_filter = |filter: &Filter| (1..=4096).contains(&filter.instructions.len());
        let (pid, user) = (NamespaceKind::Pid, NamespaceKind::User);
        let twice = self.new.pid && self.joins(pid) || self.new.user && self.joins(user);
        let maps = !self.uid_maps.is_empty() || !self.gid_maps.is_empty();
        let unmapped = !maps && !self.mounts.iter().any(is_mapped);
        let user = self.new.user || unmapped;
        let must = |holds: bool, rule| holds.then_some(()).ok_or(DecodeError::Rule(rule));
        let files = "changing files needs a new mount namespace";
        let host = "a host name needs a new UTS namespace";
        let filters = self.seccomp.iter().all(is_filter);
        let id = (1..=1024).contains(&self.id.len());
        must(id, "an id has 1 to 1024 bytes")?;
        must(!changes_files || self.new.mount, files)?;
        must(self.hostname.is_none() || self.new.uts, host)?;
        must(user, "id maps need a new user namespace")?;
        must(!twice, "a namespace is made or joined, not both")?;
        let v2 = self.cgroups.iter().filter(is_v2).count();
        must(v2 <= 1, "there is one cgroup v2 hierarchy")?;
        let absolute = inside.all(|path| path.is_absolute());
        must(absolute, "paths inside the root are absolute")?;
        let names = self.environment.iter().all(is_name);
        must(somebody, "nobody has the id 4294967295")?;
        must(names, "a variable has a name without `=`")?;
        must(filters, "a filter has 1 to 4096 instructions")
    }
}
