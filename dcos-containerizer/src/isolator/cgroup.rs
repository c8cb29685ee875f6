//! The host's cgroups, versions 1 and 2 and both at once, by plain file writes.
//!
//! A container has a cgroup in each hierarchy that an isolator uses. Where version 2 is mounted
//! beside version 1 without controllers (a hybrid host) it has one there, too: the launcher
//! clones right into it and kills with one write, which version 1 cannot.
//!
//! | | folder of container `c`, of `n` nested in it |
//! |---|---|
//! | v1 | `<hierarchy>/mesos/c`, `<hierarchy>/mesos/c/mesos/n` |
//! | v2 | `<hierarchy>/mesos/c`, `<hierarchy>/mesos/c/n`; processes in `leaf` below that; with systemd in its slice |
//!
//! The layouts are Mesos's. A library was tried (`cgroups-rs`) and left: its calls cost more than
//! the kernel's, and its `kill` fails on version 1.

mod blkio;
mod cpu;
mod devices;
mod membership;
mod memory;
mod net_cls;
mod pids;
mod removals;
mod stall;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dcos_launcher::{Cgroup, CgroupVersion, is_served};
use dcos_proto::mesos::ContainerId;
use dcos_wire::files::rotated::attribute;
use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{XattrFlags, getxattr, setxattr};

use super::{Draft, IsolatorError};
use crate::containerizer::launcher_socket;
use crate::rootless;

pub use blkio::{BlkioIsolator, IoLimit};
pub use cpu::CpuIsolator;
pub use devices::{DeviceRule, DevicesIsolator};
pub use membership::MembershipIsolator;
pub use memory::MemoryIsolator;
pub use net_cls::{NetClsHandles, NetClsIsolator};
pub use pids::PidsIsolator;
pub use removals::Removals;
pub use stall::{PressureIsolator, StallLimit, StallLimits, Stalled};

/// Where the cgroup hierarchies of this host are mounted, and our place in them.
#[derive(Debug, Clone, Default)]
pub struct Cgroups {
    /// Version 1: a hierarchy for each controller.
    v1: BTreeMap<String, PathBuf>,
    /// Version 2, if it is mounted.
    v2: Option<PathBuf>,
    /// Controllers that version 2 has.
    v2_controllers: BTreeSet<String>,
    /// The folder in each hierarchy that is ours, `mesos` in Mesos.
    root: PathBuf,
    /// That of version 2, which may lie below a slice of systemd's.
    v2_root: PathBuf,
    /// Where containers of version 2 are, too, that were launched when it was elsewhere; none is added.
    v2_former: Option<PathBuf>,
    /// Where systemd keeps its units in version 1.
    systemd: Option<PathBuf>,
    removals: Removals,
    /// Whose containers are ours; absent if nobody asks.
    owner: Option<Owner>,
}

/// An agent of this host: where it keeps what it knows of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    runtime_dir: PathBuf,
    work_dir: PathBuf,
}

impl Owner {
    /// As [`Owner::parse`] reads it.
    fn note(&self) -> Vec<u8> {
        let (runtime, work) = (self.runtime_dir.as_os_str(), self.work_dir.as_os_str());
        [runtime.as_bytes(), work.as_bytes()].join(&0)
    }

    fn parse(note: &[u8]) -> Self {
        let mut folders = note.split(|byte| *byte == 0).map(OsStr::from_bytes);
        let mut next = || folders.next().unwrap_or_default().into();
        Self {
            runtime_dir: next(),
            work_dir: next(),
        }
    }

    /// One that was told another `--runtime_dir` than before is the same: no two have one work directory.
    fn is(&self, other: &Self) -> bool {
        self.runtime_dir == other.runtime_dir || self.work_dir == other.work_dir
    }
}

/// A container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where its limits and figures are.
    pub path: PathBuf,
    /// Which interface it has.
    pub version: CgroupVersion,
}

impl Folder {
    /// Where its own processes are; those nested in it have folders of theirs.
    pub(crate) fn members(&self) -> PathBuf {
        match self.version {
            CgroupVersion::V1 => self.path.clone(),
            CgroupVersion::V2 => self.path.join("leaf"),
        }
    }
}

impl Cgroups {
    /// Looks at what is mounted; our folder in each hierarchy is `root`.
    ///
    /// # Errors
    /// [`IsolatorError::File`] if the kernel does not tell.
    pub fn discover(root: &Path) -> Result<Self, IsolatorError> {
        let path = "/proc/self/mountinfo";
        let mounts = fs::read_to_string(path).map_err(IsolatorError::file("reading", path))?;
        let mut found = Self::parse(&mounts, root);
        if let Ok(part) = rootless::delegated() {
            // Whatever else there is belongs to others; there.
            (found.v1, found.v2) = (BTreeMap::new(), Some(part.to_owned()));
        }
        if let Some(v2) = &found.v2 {
            let path = v2.join("cgroup.controllers");
            let text = fs::read_to_string(&path).map_err(IsolatorError::file("reading", path))?;
            found.v2_controllers = text.split_whitespace().map(str::to_owned).collect();
            if !rootless::is_entered() {
                // No controllers there: devices are confined by a program, and events are counted for
                // any cgroup. Both take root.
                found.v2_controllers.extend(ALWAYS.map(str::to_owned));
            }
        }
        Ok(found)
    }

    fn parse(mountinfo: &str, root: &Path) -> Self {
        let mut found = Self {
            root: root.to_owned(),
            v2_root: root.to_owned(),
            ..Self::default()
        };
        for line in mountinfo.lines() {
            // Fields, any number of optional ones, a dash, then type, source, options.
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let Some(place) = before.split(' ').nth(4).map(PathBuf::from) else {
                continue;
            };
            let after: Vec<_> = after.split(' ').collect();
            match after[..] {
                ["cgroup2", ..] => drop(found.v2.get_or_insert(place)),
                ["cgroup", _, options] if options.split(',').any(|option| option == SYSTEMD) => {
                    found.systemd.get_or_insert(place);
                }
                ["cgroup", _, options] => {
                    for option in options.split(',').filter(|option| KNOWN.contains(option)) {
                        found
                            .v1
                            .entry(option.to_owned())
                            .or_insert_with(|| place.clone());
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// With containers of version 2 below `slice`, a unit of systemd's: the rest of that hierarchy is systemd's own.
    ///
    /// Those that were launched outside of it stay where they are.
    #[must_use]
    pub fn below(mut self, slice: &Path) -> Self {
        self.v2_root = slice.join(&self.root);
        let former = self.root.clone();
        self.with_former(former)
    }

    /// With those containers of version 2 that were launched below `slice`, while it was in use.
    #[must_use]
    pub(crate) fn formerly_below(self, slice: &Path) -> Self {
        let former = slice.join(&self.root);
        self.with_former(former)
    }

    fn with_former(mut self, root: PathBuf) -> Self {
        let folder = self.v2.as_ref().map(|v2| v2.join(&root));
        let entries = folder.and_then(|folder| fs::read_dir(folder).ok());
        let mut kinds = entries.into_iter().flatten().flatten();
        let occupied = kinds.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        self.v2_former = occupied.then_some(root);
        self
    }

    /// With what takes its time to be removed told to `removals`.
    #[must_use]
    pub fn removing(mut self, removals: Removals) -> Self {
        self.removals = removals;
        self
    }

    /// With containers that are those of the agent with these folders: it removes none of another's.
    #[must_use]
    pub(crate) fn of_agent(mut self, runtime_dir: &Path, work_dir: &Path) -> Self {
        // Elsewhere a relative one is another.
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.owner = Some(Owner {
            runtime_dir: whole(runtime_dir),
            work_dir: whole(work_dir),
        });
        self
    }

    /// The folders in which a process belongs to `slice`, a unit of systemd's, and to nothing else.
    pub(crate) fn of_unit(&self, slice: &Path) -> Vec<PathBuf> {
        let first = self.systemd.as_ref().map(|place| place.join(slice));
        // A cgroup of version 2 that has controllers holds none itself.
        let second = self.v2.as_ref();
        let second = second.map(|place| place.join(slice).join("launcher"));
        first.into_iter().chain(second).collect()
    }

    /// Where version 2 begins, if it is there.
    pub(crate) fn second(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// Whether a controller can be used, in either version.
    pub fn has(&self, controller: &str) -> bool {
        self.v1.contains_key(controller) || self.v2_controllers.contains(controller)
    }

    /// Whether what the isolator `name`, such as `cgroups/mem`, needs can be used.
    pub(crate) fn can(&self, name: &str) -> bool {
        match name.strip_prefix("cgroups/") {
            Some("mem") => self.has("memory"),
            Some("blkio") => self.has("blkio") || self.has("io"),
            Some(controller) => self.has(controller),
            None => false,
        }
    }

    /// Says why not, if a controller cannot be used.
    pub(crate) fn require(
        &self,
        controller: &str,
        isolator: &'static str,
    ) -> Result<(), IsolatorError> {
        if self.has(controller) {
            return Ok(());
        }
        let reason = match rootless::delegated() {
            Ok(part) => format!(
                "cgroup controller `{controller}` is not delegated to {}: under systemd `Delegate=` of user@.service \
                 names those that are",
                part.display()
            ),
            Err(_) => format!("cgroup controller `{controller}` is not mounted"),
        };
        Err(IsolatorError::Unsupported { isolator, reason })
    }

    /// The folder of a container where `controller` has its files.
    pub fn folder(&self, controller: &str, id: &ContainerId) -> Option<Folder> {
        if let Some(hierarchy) = self.v1.get(controller) {
            let path = hierarchy
                .join(&self.root)
                .join(self.place(id, CgroupVersion::V1));
            return Some(Folder {
                path,
                version: CgroupVersion::V1,
            });
        }
        let controlled = self.v2_controllers.contains(controller);
        let path = self.tracked(id).filter(|_| controlled)?;
        Some(Folder {
            path,
            version: CgroupVersion::V2,
        })
    }

    /// Makes the container's cgroup for `controller` and lets it join that; its folder.
    ///
    /// # Errors
    /// [`IsolatorError::File`].
    pub(crate) fn join(
        &self,
        controller: &str,
        id: &ContainerId,
        draft: &mut Draft,
    ) -> Result<Folder, IsolatorError> {
        // It sees its own cgroups as the top, and learns nothing of where they are.
        draft.namespace(LinuxNamespaceType::Cgroup, None);
        let isolator_needs = "the controller was required when the isolator was made";
        let folder = self.folder(controller, id).expect(isolator_needs);
        if folder.version == CgroupVersion::V1 {
            self.make(&folder.path)?;
            add(draft, &folder.path, CgroupVersion::V1);
        }
        self.track(id, draft)?;
        if let (Some(v2), CgroupVersion::V2) = (&self.v2, folder.version) {
            self.delegate(v2, &folder.path, controller)?;
        }
        Ok(folder)
    }

    /// Makes the container's cgroup of version 2, if that is mounted, and lets it join.
    ///
    /// # Errors
    /// [`IsolatorError::File`].
    pub(crate) fn track(&self, id: &ContainerId, draft: &mut Draft) -> Result<(), IsolatorError> {
        let Some(place) = self.tracked(id) else {
            return Ok(());
        };
        draft.namespace(LinuxNamespaceType::Cgroup, None);
        let leaf = place.join("leaf");
        // Each controller's isolator asks for it.
        if draft.cgroups.iter().all(|cgroup| cgroup.path != leaf) {
            self.make(&place)?;
            self.make(&leaf)?;
            // Whoever removes empty ones may have come between, and `leaf` brought it back.
            self.stamp(&place);
            add(draft, &leaf, CgroupVersion::V2);
        }
        Ok(())
    }

    /// Where the container is in version 2, whatever that has controllers for.
    pub(crate) fn tracked(&self, id: &ContainerId) -> Option<PathBuf> {
        let v2 = self.v2.as_ref()?;
        let former = self.v2_former.as_ref().map(|root| v2.join(root));
        let former = former.filter(|former| former.join(&id.root_id().value).exists());
        let root = former.unwrap_or_else(|| v2.join(&self.v2_root));
        Some(root.join(self.place(id, CgroupVersion::V2)))
    }

    /// Removes the container's cgroup for `controller`, and the one that tracks it.
    ///
    /// # Errors
    /// [`IsolatorError::File`]; processes that stay in it for a while are none.
    pub(crate) async fn remove(
        &self,
        controller: &str,
        id: &ContainerId,
    ) -> Result<(), IsolatorError> {
        if let Some(folder) = self.folder(controller, id)
            && folder.version == CgroupVersion::V1
        {
            self.removals.remove(&folder.path).await?;
        }
        match self.tracked(id) {
            Some(place) => {
                // Mostly that is all there is below; what is not removed here is found by the next line.
                fs::remove_dir(place.join("leaf")).ok();
                self.removals.remove(&place).await
            }
            None => Ok(()),
        }
    }

    /// Removes the cgroups of root containers that are not `known`, and whatever is in them; but none of another agent
    /// of this host, and none of where ours were formerly.
    ///
    /// What does not go soon, as a process that waits for a disk that died, is told in the log and tried again
    /// until it goes: a node is good for others meanwhile.
    pub(crate) async fn remove_unknown(
        &self,
        controller: &str,
        known: &[ContainerId],
    ) -> Result<(), IsolatorError> {
        let first = self.v1.get(controller).map(|place| place.join(&self.root));
        let second = self.v2.as_ref().map(|v2| v2.join(&self.v2_root));
        for ours in first.into_iter().chain(second) {
            let Ok(entries) = fs::read_dir(ours) else {
                continue;
            };
            for entry in entries.flatten() {
                let is_known = known
                    .iter()
                    .any(|id| *entry.file_name() == *id.root_id().value);
                let path = entry.path();
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if is_known {
                    // It may be of a release that noted nothing.
                    self.stamp(&path);
                } else if !self.is_of_another(&path) && self.removals.remove(&path).await.is_err() {
                    self.removals.remove_later(&path);
                }
            }
        }
        Ok(())
    }

    fn make(&self, path: &Path) -> Result<(), IsolatorError> {
        self.removals.keep(path);
        // Mostly all is there that it lies in.
        let made = match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        made.map_err(IsolatorError::file("making cgroup", path))?;
        self.stamp(path);
        Ok(())
    }

    /// Notes whose a container is.
    fn stamp(&self, path: &Path) {
        if let Some(owner) = &self.owner {
            // Where that cannot be noted it is everybody's, as those of earlier releases are.
            let _ = setxattr(path, attribute(OWNER), &owner.note(), XattrFlags::empty());
        }
    }

    /// Whether a container is that of another agent, whose launcher is there still.
    fn is_of_another(&self, path: &Path) -> bool {
        // Two paths, and what is between them.
        let mut note = [0; 2 * 4096];
        let (Some(own), Ok(length)) = (&self.owner, getxattr(path, attribute(OWNER), &mut note))
        else {
            return false;
        };
        let owner = Owner::parse(&note[..length]);
        let others = !owner.is(own) && is_served(&launcher_socket(&owner.runtime_dir));
        if others {
            tracing::warn!(
                ?path, runtime_dir = ?owner.runtime_dir, work_dir = ?owner.work_dir,
                "left alone: another agent's, whose launcher runs"
            );
        }
        others
    }

    /// Where a container is below our folder.
    fn place(&self, id: &ContainerId, version: CgroupVersion) -> PathBuf {
        match (&id.parent, version) {
            (None, _) => PathBuf::from(&id.value),
            (Some(parent), CgroupVersion::V1) => {
                self.place(parent, version).join(&self.root).join(&id.value)
            }
            (Some(parent), CgroupVersion::V2) => self.place(parent, version).join(&id.value),
        }
    }

    /// Lets the controllers act in each folder from the hierarchy's top down to `place`.
    fn delegate(&self, v2: &Path, place: &Path, controller: &str) -> Result<(), IsolatorError> {
        let others = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|name| *name != controller && self.v2_controllers.contains(*name));
        let wanted: Vec<_> = others
            .chain(Some(controller).filter(|name| !ALWAYS.contains(name)))
            .map(|name| format!("+{name}"))
            .collect();
        let mut folders: Vec<_> = place.ancestors().take_while(|path| *path != v2).collect();
        folders.push(v2);
        for folder in folders.into_iter().rev() {
            write(&folder.join("cgroup.subtree_control"), &wanted.join(" "))?;
        }
        Ok(())
    }
}

/// Controllers of version 1 that are looked for among mount options.
const KNOWN: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// The name of the attribute in which is noted whose a container is.
const OWNER: &str = "owner";

/// The hierarchy of version 1 by which systemd follows processes.
const SYSTEMD: &str = "name=systemd";

/// What each cgroup of version 2 has without being asked.
const ALWAYS: [&str; 2] = ["devices", "perf_event"];

fn add(draft: &mut Draft, path: &Path, version: CgroupVersion) {
    let cgroup = Cgroup {
        path: path.to_owned(),
        version,
    };
    if !draft.cgroups.contains(&cgroup) {
        draft.cgroups.push(cgroup);
    }
}

pub(crate) fn write(path: &Path, value: &str) -> Result<(), IsolatorError> {
    fs::write(path, value).map_err(IsolatorError::file("writing", path))
}

pub(crate) fn read(path: &Path) -> Result<String, IsolatorError> {
    fs::read_to_string(path).map_err(IsolatorError::file("reading", path))
}

/// The number in a file; `max` is the largest.
pub(crate) fn read_number(path: &Path) -> Result<u64, IsolatorError> {
    Ok(read(path)?.trim().parse().unwrap_or(u64::MAX))
}

/// The number behind a key, in a file of lines of key and number.
pub(crate) fn number_in(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
impl Cgroups {
    /// Those of a node with one hierarchy, mounted at `place`: its type, source and options.
    fn at(place: &Path, mount: &str) -> Self {
        let line = format!("31 30 0:27 / {} rw - {mount}", place.display());
        Self::parse(&line, "m".as_ref())
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, flock};

    use super::*;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
";

    fn path(folder: Option<Folder>) -> String {
        folder.map_or("none".to_owned(), |folder| {
            folder.path.display().to_string()
        })
    }

    #[test]
    fn hybrid_hosts_use_version_1_for_limits() {
        let cgroups = Cgroups::parse(HYBRID, "mesos".as_ref());
        let root = ContainerId::root("c");
        let nested = root.child("n");
        assert_eq!(
            path(cgroups.folder("memory", &root)),
            "/sys/fs/cgroup/memory/mesos/c"
        );
        assert_eq!(
            path(cgroups.folder("cpuacct", &nested)),
            "/sys/fs/cgroup/cpu,cpuacct/mesos/c/mesos/n"
        );
        assert_eq!(path(cgroups.folder("pids", &root)), "none");
        assert_eq!(cgroups.v2, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            cgroups.of_unit("x.slice".as_ref()),
            [
                "/sys/fs/cgroup/systemd/x.slice",
                "/sys/fs/cgroup/unified/x.slice/launcher"
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn unified_hosts_use_version_2() {
        let mut cgroups = Cgroups::parse(
            "31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "m".as_ref(),
        );
        cgroups.v2_controllers = ["memory", "cpu"].map(String::from).into();
        let nested = ContainerId::root("c").child("n");
        assert_eq!(path(cgroups.folder("cpu", &nested)), "/sys/fs/cgroup/m/c/n");
        assert_eq!(path(cgroups.folder("pids", &nested)), "none");
        let sliced = cgroups.below("x.slice".as_ref());
        assert_eq!(
            path(sliced.folder("cpu", &nested)),
            "/sys/fs/cgroup/x.slice/m/c/n"
        );
        assert_eq!(
            sliced.of_unit("x.slice".as_ref()),
            [PathBuf::from("/sys/fs/cgroup/x.slice/launcher")]
        );
    }

    #[tokio::test]
    async fn containers_of_before_stay_where_they_are() {
        let v2 = tempfile::tempdir().unwrap();
        let slice = Path::new("x.slice");
        let make = || Cgroups::at(v2.path(), "cgroup2 cgroup2 rw");
        let folder = |place: &str| v2.path().join(place);
        for place in ["m/outside/leaf", "m/other", "x.slice/m/inside/leaf"] {
            fs::create_dir_all(folder(place)).unwrap();
        }
        let ids = ["outside", "inside", "new"].map(ContainerId::root);
        for (cgroups, new) in [
            (make().below(slice), "x.slice/m/new"),
            (make().formerly_below(slice), "m/new"),
        ] {
            let places = ids.each_ref().map(|id| cgroups.tracked(id).unwrap());
            assert_eq!(places, ["m/outside", "x.slice/m/inside", new].map(folder));
        }
        // Only what is known is ours there.
        let cgroups = make().below(slice);
        cgroups.remove_unknown("cpu", &ids).await.unwrap();
        assert!(folder("x.slice/m/inside").exists());
        cgroups.remove_unknown("cpu", &[]).await.unwrap();
        assert!(!folder("x.slice/m/inside").exists() && folder("m/other").exists());
        assert!(folder("m/outside").exists());
        cgroups.remove("cpu", &ids[0]).await.unwrap();
        assert!(!folder("m/outside").exists());
    }

    #[tokio::test]
    async fn another_agents_containers_are_left_alone_while_it_is_there() {
        let v2 = tempfile::tempdir().unwrap();
        let agents = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let of = |runtime: &Path, work: &Path| {
            Cgroups::at(v2.path(), "cgroup2 cgroup2 rw").of_agent(runtime, work)
        };
        let [first, second] = agents
            .each_ref()
            .map(|agent| of(&agent.path().join("run"), agent.path()));
        let folder = |name: &str| v2.path().join("m").join(name);
        first.make(&folder("first")).unwrap();
        if getxattr(folder("first"), attribute(OWNER), &mut [0; 9000]).is_err() {
            eprintln!("skipped: the file system of temporary folders takes no attributes");
            return;
        }
        // As a launcher holds it.
        let run = agents[0].path().join("run");
        fs::create_dir(&run).unwrap();
        let lock = fs::File::create(run.join("launcher.sock.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        second.make(&folder("second")).unwrap();
        // As releases before made them: of the first's, and of nobody's.
        fs::create_dir(folder("older")).unwrap();
        fs::create_dir(folder("former")).unwrap();
        let known = ["first", "older"].map(ContainerId::root);
        first.remove_unknown("cpu", &known[..]).await.unwrap();
        second.make(&folder("second")).unwrap();
        fs::create_dir(folder("former")).unwrap();
        second.remove_unknown("cpu", &[]).await.unwrap();
        let left = || ["first", "older", "second", "former"].map(|name| folder(name).exists());
        assert_eq!(left(), [true, true, false, false]);
        // The same agent with its state elsewhere has its own there, whatever launcher they have.
        let moved = of(&agents[0].path().join("moved"), agents[0].path());
        moved.remove_unknown("cpu", &known[..1]).await.unwrap();
        assert_eq!(left(), [true, false, false, false]);
        // A folder alone is nobody.
        first.make(&folder("first")).unwrap();
        drop(lock);
        second.remove_unknown("cpu", &[]).await.unwrap();
        assert!(!folder("first").exists());
    }

    /// A file in its folder stands for a process that nothing ends.
    #[tokio::test]
    async fn what_cannot_be_removed_keeps_nobody_from_going_on() {
        let v2 = tempfile::tempdir().unwrap();
        let orphan = v2.path().join("m/orphan");
        fs::create_dir_all(&orphan).unwrap();
        fs::write(orphan.join("held"), "").unwrap();
        let removals = Removals::new(std::time::Duration::ZERO);
        let cgroups = Cgroups::at(v2.path(), "cgroup2 cgroup2 rw").removing(removals.clone());
        cgroups.remove_unknown("cpu", &[]).await.unwrap();
        while removals.failed() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(orphan.join("held").exists());
    }

    #[test]
    fn keys_are_matched_whole() {
        let text = "oom 3\noom_kill 5\n";
        assert_eq!(number_in(text, "oom_kill"), Some(5));
        assert_eq!(number_in(text, "oom"), Some(3));
        assert_eq!(number_in(text, "oom_k"), None);
    }
}
