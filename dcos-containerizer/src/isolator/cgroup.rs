//! The host's cgroups, versions 1 and 2 and both at once, by plain file writes.
//!
//! A container has a cgroup in each hierarchy that an isolator uses. Where version 2 is mounted
//! beside version 1 without controllers (a hybrid host) it has one there, too: the launcher
//! clones right into it and kills with one write, which version 1 cannot.
//!
//! | | folder of container `c`, of `n` nested in it |
//! |---|---|
//! | v1 | `<hierarchy>/mesos/c`, `<hierarchy>/mesos/c/mesos/n` |
//! | v2 | `<hierarchy>/mesos/c`, `<hierarchy>/mesos/c/n`; processes in `leaf` below that |
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
mod stall;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dcos_launcher::{Cgroup, CgroupVersion};
use dcos_proto::mesos::ContainerId;
use oci_spec::runtime::LinuxNamespaceType;

use super::{Draft, IsolatorError};

pub use blkio::{BlkioIsolator, IoLimit};
pub use cpu::CpuIsolator;
pub use devices::{DeviceRule, DevicesIsolator};
pub use membership::MembershipIsolator;
pub use memory::MemoryIsolator;
pub use net_cls::{NetClsHandles, NetClsIsolator};
pub use pids::PidsIsolator;
pub use stall::{PressureIsolator, StallLimit, StallLimits, Stalled};

/// Where the cgroup hierarchies of this host are mounted, and our place in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Version 1: a hierarchy for each controller.
    v1: BTreeMap<String, PathBuf>,
    /// Version 2, if it is mounted.
    v2: Option<PathBuf>,
    /// Controllers that version 2 has.
    v2_controllers: BTreeSet<String>,
    /// The folder in each hierarchy that is ours, `mesos` in Mesos.
    root: PathBuf,
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
        if let Some(v2) = &found.v2 {
            let path = v2.join("cgroup.controllers");
            let text = fs::read_to_string(&path).map_err(IsolatorError::file("reading", path))?;
            found.v2_controllers = text.split_whitespace().map(str::to_owned).collect();
            // No controllers there: devices are confined by a program, and events are counted for
            // any cgroup.
            found.v2_controllers.extend(ALWAYS.map(str::to_owned));
        }
        Ok(found)
    }

    fn parse(mountinfo: &str, root: &Path) -> Self {
        let mut found = Self {
            root: root.to_owned(),
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
        let reason = format!("cgroup controller `{controller}` is not mounted");
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
        let v2 = self
            .v2
            .as_ref()
            .filter(|_| self.v2_controllers.contains(controller))?;
        let path = v2.join(&self.root).join(self.place(id, CgroupVersion::V2));
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
            make(&folder.path)?;
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
            make(&place)?;
            make(&leaf)?;
            add(draft, &leaf, CgroupVersion::V2);
        }
        Ok(())
    }

    /// Where the container is in version 2, whatever that has controllers for.
    pub(crate) fn tracked(&self, id: &ContainerId) -> Option<PathBuf> {
        let v2 = self.v2.as_ref()?;
        Some(v2.join(&self.root).join(self.place(id, CgroupVersion::V2)))
    }

    /// Removes the container's cgroup for `controller`, and the one that tracks it.
    ///
    /// # Errors
    /// [`IsolatorError::File`] if processes stay in it.
    pub(crate) async fn remove(
        &self,
        controller: &str,
        id: &ContainerId,
    ) -> Result<(), IsolatorError> {
        if let Some(folder) = self.folder(controller, id)
            && folder.version == CgroupVersion::V1
        {
            remove_tree(&folder.path).await?;
        }
        match self.tracked(id) {
            Some(place) => {
                // Mostly that is all there is below; what is not removed here is found by the next line.
                fs::remove_dir(place.join("leaf")).ok();
                remove_tree(&place).await
            }
            None => Ok(()),
        }
    }

    /// Removes the cgroups of root containers that are not `known`, and whatever is in them.
    ///
    /// What does not go soon, as a process that waits for a disk that died, is told in the log and tried again
    /// until it goes: a node is good for others meanwhile.
    pub(crate) async fn remove_unknown(
        &self,
        controller: &str,
        known: &[ContainerId],
    ) -> Result<(), IsolatorError> {
        let hierarchies = self.v1.get(controller).into_iter().chain(&self.v2);
        for hierarchy in hierarchies {
            let Ok(entries) = fs::read_dir(hierarchy.join(&self.root)) else {
                continue;
            };
            for entry in entries.flatten() {
                let is_known = known
                    .iter()
                    .any(|id| *entry.file_name() == *id.root_id().value);
                if !is_known && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let path = entry.path();
                    if let Err(error) = remove_tree(&path).await {
                        let error = dcos_core::error::chain(&error).to_string();
                        tracing::error!(?path, error, "an orphan's cgroup cannot be removed yet");
                        tokio::spawn(remove_later(path));
                    }
                }
            }
        }
        Ok(())
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

/// What each cgroup of version 2 has without being asked.
const ALWAYS: [&str; 2] = ["devices", "perf_event"];

fn make(path: &Path) -> Result<(), IsolatorError> {
    // Mostly all is there that it lies in.
    let made = match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    made.map_err(IsolatorError::file("making cgroup", path))
}

fn add(draft: &mut Draft, path: &Path, version: CgroupVersion) {
    let cgroup = Cgroup {
        path: path.to_owned(),
        version,
    };
    if !draft.cgroups.contains(&cgroup) {
        draft.cgroups.push(cgroup);
    }
}

/// Kills what is in a cgroup and below it, and removes it.
async fn remove_tree(path: &Path) -> Result<(), IsolatorError> {
    let mut attempt = 0;
    loop {
        match remove_folders(path) {
            Ok(()) => return Ok(()),
            // The last processes are gone a moment after their kill.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < 200 => {
                attempt += 1;
                kill_members(path);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => return Err(IsolatorError::file("removing cgroup", path)(error)),
        }
    }
}

/// Tries again, less and less often, until an orphan's cgroup is gone.
async fn remove_later(path: PathBuf) {
    let mut pause = Duration::from_secs(1);
    loop {
        tokio::time::sleep(pause).await;
        if remove_tree(&path).await.is_ok() {
            tracing::info!(?path, "an orphan's cgroup is removed");
            return;
        }
        pause = (pause * 2).min(Duration::from_mins(1));
    }
}

fn remove_folders(path: &Path) -> io::Result<()> {
    let absent_is_fine = |outcome: io::Result<()>| match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    // Mostly there is nothing below.
    if absent_is_fine(fs::remove_dir(path)).is_ok() {
        return Ok(());
    }
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folders(&entry.path())?;
        }
    }
    absent_is_fine(fs::remove_dir(path))
}

fn kill_members(path: &Path) {
    if fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in text
        .lines()
        .filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?))
    {
        // It may have ended just now.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_members(&entry.path());
        }
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
mod tests {
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
    }

    #[test]
    fn keys_are_matched_whole() {
        let text = "oom 3\noom_kill 5\n";
        assert_eq!(number_in(text, "oom_kill"), Some(5));
        assert_eq!(number_in(text, "oom"), Some(3));
        assert_eq!(number_in(text, "oom_k"), None);
    }
}
