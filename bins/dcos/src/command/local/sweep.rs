//! Leaves nothing behind: what a crashed program could not clean up itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::network::{self, Leases};
use super::plan::Notes;

/// Ends every process that belongs to the cluster in `dir`, removes its control groups and mounts, what its containers had of
/// the network, and then the directory. Tells what stays, and why.
pub(super) fn sweep(dir: &Path, notes: &Notes) -> anyhow::Result<Vec<String>> {
    let leases = Leases::read(dir);
    for _ in 0..50 {
        let mut left = processes(dir);
        left.extend(
            cgroups(&notes.cgroups_root)
                .iter()
                .flat_map(|cgroup| members(cgroup)),
        );
        if left.is_empty() {
            break;
        }
        for pid in left {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for cgroup in cgroups(&notes.cgroups_root) {
        // One that is busy still belongs to a process that is ending.
        let _ = std::fs::remove_dir(&cgroup);
    }
    for mount in mounts(dir).into_iter().rev() {
        rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH)
            .with_context(|| format!("unmounting {}", mount.display()))?;
    }
    let stays = network::sweep(&leases, notes.bridge_was_there);
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => stays,
    }
}

/// Processes started by the cluster's programs: they name its directory or work in it.
fn processes(dir: &Path) -> Vec<Pid> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let below = |link: &str| {
            std::fs::read_link(entry.path().join(link)).is_ok_and(|path| path.starts_with(dir))
        };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        let names = || command.contains("dcos-") && command.contains(&*dir.to_string_lossy());
        if number != own
            && !command.contains("local\0")
            && (below("cwd") || below("root") || names())
        {
            found.extend(i32::try_from(number).ok().and_then(Pid::from_raw));
        }
    }
    found
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
