//! Leaves nothing behind: what a crashed program could not clean up itself.
//!
//! The directory may lie where its user works: only what the cluster made there goes, and only what it began is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::network::{self, Leases};
use super::plan::Notes;
use crate::output;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// What stays, and why.
    stays: Vec<String>,
    /// What could not be done.
    failed: Vec<String>,
}

impl Swept {
    /// Tells what stays.
    ///
    /// # Errors
    /// What could not be done.
    pub(super) fn tell(self) -> anyhow::Result<()> {
        self.stays.into_iter().for_each(output::notice);
        anyhow::ensure!(self.failed.is_empty(), "{}", self.failed.join("; "));
        Ok(())
    }

    /// Whether it was done.
    fn note<T, E: Into<anyhow::Error>>(&mut self, what: &str, done: Result<T, E>) -> Option<T> {
        let error = match done {
            Ok(done) => return Some(done),
            Err(error) => error.into(),
        };
        let what = if what.is_empty() {
            format!("{error:#}")
        } else {
            format!("{what}: {error:#}")
        };
        self.failed.push(what);
        None
    }
}

/// Ends every process that belongs to the cluster in `dir`, removes its control groups and mounts, what its containers had of
/// the network, and then what it made in the directory. Goes on where something cannot be done.
pub(super) fn sweep(dir: &Path, notes: &Notes) -> Swept {
    let mut swept = Swept::default();
    let leases = Leases::read(dir);
    let killed = kill_all(|| {
        let cgroups = cgroups(&notes.cgroups_root);
        let members = cgroups.iter().flat_map(|cgroup| members(cgroup));
        processes(dir).into_iter().chain(members).collect()
    });
    if swept.note("", killed).is_none() {
        // What they have is theirs, and `down` finds them by it another time.
        return swept;
    }
    for cgroup in cgroups(&notes.cgroups_root) {
        // One that is busy still belongs to a process that is ending.
        let _ = std::fs::remove_dir(&cgroup);
    }
    let entries = dir.read_dir().into_iter().flatten().flatten();
    let made = entries.filter(|entry| is_made(&entry.file_name().to_string_lossy()));
    let mut made: Vec<PathBuf> = made.map(|entry| entry.path()).collect();
    // Networks of containers end with what is mounted of them.
    for path in &made {
        unmount(path, &mut swept);
    }
    if rustix::process::geteuid().is_root() {
        swept.note("", network::sweep_rules(&leases));
        let stays = swept.note("", network::sweep(&leases, notes.bridge_was_there));
        swept.stays.extend(stays.unwrap_or_default());
    }
    // The last that goes, since `down` finds the cluster by it.
    made.sort_by_key(|path| path.ends_with(NOTES));
    for path in made {
        if !path.ends_with(NOTES) || swept.failed.is_empty() {
            remove(&path, &mut swept);
        }
    }
    if swept.failed.is_empty()
        && let Err(error) = std::fs::remove_dir(dir)
    {
        let why = match error.kind() {
            ErrorKind::NotFound => return swept,
            ErrorKind::DirectoryNotEmpty => "it holds what is none of the cluster's".to_owned(),
            _ => error.to_string(),
        };
        swept.stays.push(format!("{} stays: {why}", dir.display()));
    }
    swept
}

/// Kills who is `left` until nobody is.
fn kill_all(left: impl Fn() -> Vec<Pid>) -> anyhow::Result<()> {
    let mut waited = 0;
    loop {
        let left = left();
        if left.is_empty() {
            return Ok(());
        }
        // A process whose disk does not answer takes as long as that.
        let numbers = || left.iter().map(|pid| pid.as_raw_pid().to_string());
        anyhow::ensure!(
            waited < 500,
            "these processes do not end, though they were killed: {}",
            numbers().collect::<Vec<_>>().join(", ")
        );
        for pid in left {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
        waited += 1;
    }
}

/// The file with what was started.
const NOTES: &str = "local.json";

/// Whether a cluster makes a file or a folder of that name in its directory, as [`super::plan::Plan`] tells its programs.
fn is_made(name: &str) -> bool {
    let (program, rest) = name.split_once('.').unwrap_or((name, ""));
    let number = program.strip_prefix("agent-");
    let is_agent = number.is_some_and(|number| number.parse::<u16>().is_ok());
    let is_log = rest == "log" || rest.starts_with("log.");
    match program {
        "master" => rest.is_empty() || is_log,
        "access" => is_log,
        _ if is_agent => rest.is_empty() || is_log,
        _ => name == NOTES,
    }
}

/// Takes away what is mounted there.
fn unmount(path: &Path, swept: &mut Swept) {
    for mount in mounts(path).into_iter().rev() {
        let unmounted = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH);
        swept.note(&format!("unmounting {}", mount.display()), unmounted);
    }
}

/// Removes a file, or a folder where nothing is mounted: what is may be anybody's.
fn remove(path: &Path, swept: &mut Swept) {
    if !mounts(path).is_empty() {
        return;
    }
    let removed = if path.is_dir() && !path.is_symlink() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    swept.note(&format!("removing {}", path.display()), removed);
}

/// Processes of the cluster's programs: themselves, what they began, and tasks that have lost whoever began them.
fn processes(dir: &Path) -> Vec<Pid> {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let all = Path::new("/proc")
        .read_dir()
        .into_iter()
        .flatten()
        .flatten();
    let all = all.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse::<i32>().ok()?;
        (number != own).then(|| (number, entry.path()))
    });
    let all: BTreeMap<i32, PathBuf> = all.collect();
    let is_root =
        |process: &(&i32, &PathBuf)| is_program(process.1, dir) || is_task(process.1, dir);
    let mut found: BTreeSet<i32> = all.iter().filter(is_root).map(|(pid, _)| *pid).collect();
    let parents: Vec<(i32, i32)> = all
        .iter()
        .filter_map(|(pid, process)| Some((*pid, parent(process)?)))
        .collect();
    loop {
        let known = found.len();
        let children = parents.iter().filter(|(_, parent)| found.contains(parent));
        let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
        found.extend(children);
        if found.len() == known {
            return found.into_iter().filter_map(Pid::from_raw).collect();
        }
    }
}

/// Whether it is a program of ours, which was told of a path below `dir`. Launchers are; `dcos` itself is not, nor is one in a
/// container: `dir` is another one there.
fn is_program(process: &Path, dir: &Path) -> bool {
    let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command);
    let mut words = command.split('\0');
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    let below = format!("{}/", dir.display());
    let is_made_below = |path: &str| {
        let told = path.strip_prefix(&below);
        told.and_then(|told| told.split('/').next())
            .is_some_and(is_made)
    };
    let is_told = |word: &str| {
        let value = word.split_once('=').map_or("", |(_, value)| value);
        is_made_below(word) || is_made_below(value)
    };
    let sees = |process: &Path| std::fs::read_link(process.join("ns/pid")).ok();
    program.starts_with("dcos-")
        && words.any(is_told)
        && sees(process) == sees(Path::new("/proc/self"))
}

/// Whether it lives in a folder of the cluster, where agents begin tasks: by its root, or since it has been told of its sandbox
/// there. A shell of somebody who looks around has not.
fn is_task(process: &Path, dir: &Path) -> bool {
    let is_below = |path: &Path| {
        let mut below = path
            .strip_prefix(dir)
            .into_iter()
            .flat_map(Path::components);
        let first = below.next();
        first.is_some_and(|first| is_made(&first.as_os_str().to_string_lossy()))
    };
    let leads = |link: &str| std::fs::read_link(process.join(link)).is_ok_and(|to| is_below(&to));
    if leads("root") {
        return true;
    }
    let environment = std::fs::read(process.join("environ")).unwrap_or_default();
    let environment = String::from_utf8_lossy(&environment);
    let values = ["MESOS_SANDBOX=", "MESOS_DIRECTORY="];
    environment.split('\0').any(|line| {
        let mut values = values.iter().filter_map(|name| line.strip_prefix(name));
        values.any(|value| is_below(Path::new(value))) && has_our_root(process)
    })
}

/// Whether paths lead it where they lead us: in a container, where another cluster may run, they do not.
fn has_our_root(process: &Path) -> bool {
    let root = |process: &Path| {
        let root = std::fs::metadata(process.join("root/.")).ok()?;
        Some((root.dev(), root.ino()))
    };
    root(process) == root(Path::new("/proc/self"))
}

/// Who began it, or took it over.
fn parent(process: &Path) -> Option<i32> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let mut lines = status.lines();
    let parent = lines.find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

/// The control groups called `name` in every hierarchy, and those below, the deepest first.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let roots = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let mut found = Vec::new();
    let hierarchies = roots.map(|entry| entry.path().join(name));
    for root in hierarchies.chain([Path::new("/sys/fs/cgroup").join(name)]) {
        collect(&root, &mut found);
    }
    found
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), into);
        }
    }
    into.push(folder.to_owned());
}

fn members(cgroup: &Path) -> Vec<Pid> {
    let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.parse().ok().and_then(Pid::from_raw))
        .collect()
}

/// What is mounted below `dir`, in the order it was mounted.
fn mounts(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(|point| PathBuf::from(point.replace("\\040", " ")));
    points.filter(|point| point.starts_with(dir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cluster_makes() {
        for (name, made) in [
            ("local.json", true),
            ("master", true),
            ("master.log", true),
            ("agent-0", true),
            ("agent-12.log.1", true),
            ("access.log", true),
            ("access", false),
            ("agent-0.txt", false),
            ("agent-", false),
            ("agent-x", false),
            ("master.rs", false),
            ("src", false),
            (".git", false),
        ] {
            assert_eq!(is_made(name), made, "{name}");
        }
    }
}
