//! Finding and signalling the processes of a container.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::plan::{Cgroup, CgroupVersion};

/// Sends a signal; whether there was a process to receive it.
pub(crate) fn signal(pid: i32, signal: i32) -> bool {
    let (Some(pid), Some(signal)) = (Pid::from_raw(pid), Signal::from_named_raw(signal)) else {
        return false;
    };
    kill_process(pid, signal).is_ok()
}

/// Sends a signal to each process in the cgroups; for `SIGKILL` until none is left.
pub(crate) fn signal_cgroups(cgroups: &[Cgroup], number: i32) {
    let is_v2 = |cgroup: &&Cgroup| cgroup.version == CgroupVersion::V2;
    let second = cgroups.iter().find(is_v2);
    let Some(cgroup) = second.or_else(|| cgroups.first()) else {
        return;
    };
    // One write kills all at once and lets none escape; Linux 5.14, cgroup v2 only.
    if number == libc::SIGKILL && fs::write(cgroup.path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // What forks while it is being read is met in a later round; a fork bomb is stopped by
    // its pids limit, so that rounds come to an end.
    for _ in 0..if number == libc::SIGKILL { 1000 } else { 1 } {
        let pids = members(&cgroup.path);
        // A process that is dead but not collected yet stays listed and cannot be signalled away.
        let alive = pids.iter().filter(|pid| is_alive(**pid)).count();
        for pid in &pids {
            signal(*pid, number);
        }
        if alive == 0 {
            return;
        }
    }
}

/// Processes in a cgroup and those below it.
pub(crate) fn members(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let below = fs::read_dir(cgroup).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        pids.extend(members(&entry.path()));
    }
    // Process 0 stands for those of other pid namespaces.
    pids.retain(|pid| *pid > 0);
    pids
}

/// Sends a signal to each descendant of `ancestor`, not to itself; how many there were.
pub(crate) fn signal_descendants(ancestor: i32, number: i32) -> usize {
    let pids = descendants(ancestor);
    if number == libc::SIGKILL {
        // Stopped first, they cannot fork away from the kill.
        for pid in &pids {
            signal(*pid, libc::SIGSTOP);
        }
    }
    for pid in &pids {
        signal(*pid, number);
    }
    pids.len()
}

/// All living processes below `ancestor`.
pub(crate) fn descendants(ancestor: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, stat) in processes() {
        children.entry(stat.parent).or_default().push(pid);
    }
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found.remove(0);
    found.retain(|pid| is_alive(*pid));
    found
}

/// The children of `parent`.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let below = processes().filter(|(_, stat)| stat.parent == parent);
    below.map(|(pid, _)| pid).collect()
}

/// Whether a process descends from this one, as all processes of containers do.
///
/// One that cannot be looked at does: it may have been one of them.
pub(crate) fn is_ours(pid: Pid) -> bool {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut pid = pid.as_raw_nonzero().get();
    while pid > 1 && pid != own {
        match Stat::read(pid) {
            Some(stat) => pid = stat.parent,
            None => return true,
        }
    }
    pid == own
}

fn is_alive(pid: i32) -> bool {
    Stat::read(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

fn processes() -> impl Iterator<Item = (i32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, Stat::read(pid)?))
    })
}

/// The two fields of `/proc/<pid>/stat` that are wanted.
struct Stat {
    state: char,
    parent: i32,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        // The name comes before, in parentheses, and may hold anything, even parentheses.
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        Some(Self {
            state,
            parent: fields.next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use super::*;

    #[test]
    fn children_and_grandchildren_are_descendants() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while descendants(pid).is_empty() {
            std::thread::yield_now();
        }
        assert!(children(i32::try_from(id()).unwrap()).contains(&pid));
        assert_eq!(signal_descendants(pid, libc::SIGKILL), 1);
        child.wait().unwrap();
        assert!(descendants(pid).is_empty());
    }
}
