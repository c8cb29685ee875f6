//! The part of the node's control groups that was given to this process' user.
//!
//! By root or systemd, with a folder of version 2 whose owner is the user. It is the cgroup that the agent is begun in, or
//! the one above, if that is called [`AGENT`]; else a [`Scope`] of the user's systemd. Containers are below it; what is in
//! it itself goes to [`AGENT`], for the kernel has a cgroup that hands controllers on hold no processes. A service of
//! systemd's is none: systemd begins the next agent in that very cgroup, which the kernel forbids (`EBUSY`) while there are
//! containers below it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Access, access};

use super::{Scope, is_entered};
use crate::isolator::cgroup::Cgroups;

/// The cgroup of the agent, its launcher, and what else is no container. Who begins there may begin again while there are
/// containers.
pub(super) const AGENT: &str = "agent";

/// What systemd has in the environment of what it begins.
const OF_SYSTEMD: [&str; 2] = ["INVOCATION_ID", "SYSTEMD_EXEC_PID"];

const SERVICE: &str = "service";
const OWN: &str = "/proc/self";
const ABSENT: &str = "there are none of version 2";

static TAKEN: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The cgroup of version 2 in which this process, which [entered](is_entered) namespaces, may confine containers.
///
/// # Errors
/// Why there is none.
pub fn delegated() -> Result<&'static Path, &'static str> {
    match TAKEN.get().filter(|_| is_entered()) {
        Some(Ok(part)) => Ok(part),
        Some(Err(why)) => Err(why),
        None => Err("this process entered no namespaces"),
    }
}

/// Of the controllers that limit CPU time, memory and numbers of processes those that were not delegated with it.
pub fn missing() -> impl Iterator<Item = &'static str> {
    let there = delegated()
        .ok()
        .and_then(|part| read(&part.join("cgroup.controllers")).ok());
    let there = there.unwrap_or_default();
    let has = move |name: &&str| there.split_whitespace().any(|one| one == *name);
    ["cpu", "memory", "pids"]
        .into_iter()
        .filter(move |name| !has(name))
}

/// Looks for that cgroup where this process is, which goes out of its way; else asks for `scope`, and goes there.
pub(super) fn take(scope: Option<&Scope>) {
    let own = Path::new(OWN);
    let found = top().and_then(|top| {
        let here = of_environment(own).and_then(|()| find(&top, own));
        match (here, scope) {
            (Err(why), Some(scope)) => match scope.enter() {
                Ok(()) => find(&top, own),
                Err(asked) => Err(format!("{why}; {asked}")),
            },
            (here, _) => here,
        }
    });
    let _ = TAKEN.set(found);
}

/// Looks for that cgroup by where a launcher is, by its folder of `/proc`; if that is `scope` this process joins it there.
pub(super) fn follow(launcher: &Path, scope: Option<&Scope>) {
    let found = top().and_then(|top| find(&top, launcher));
    let scope = scope.filter(|scope| found.as_ref().is_ok_and(|part| scope.is_at(part)));
    if let Some(Err(error)) = scope.map(Scope::enter) {
        tracing::warn!(%error, "this agent is not in the cgroup of its launcher, and may fail to begin another");
    }
    let _ = TAKEN.set(found);
}

/// Where version 2 begins, with controllers.
fn top() -> Result<PathBuf, String> {
    let found = Cgroups::discover(Path::new("")).map_err(|error| error.to_string())?;
    let top = found.second().ok_or(ABSENT)?;
    has_controllers(top).map(|()| top.to_owned())
}

fn has_controllers(cgroup: &Path) -> Result<(), String> {
    if read(&cgroup.join("cgroup.controllers"))?.trim().is_empty() {
        return Err(format!("{} has no controllers", cgroup.display()));
    }
    Ok(())
}

/// Which cgroup of version 2 the process of that folder of `/proc` is in, from where that begins.
pub(super) fn own_cgroup(process: &Path) -> Result<PathBuf, String> {
    let groups = read(&process.join("cgroup"))?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    own.map(PathBuf::from).ok_or_else(|| ABSENT.to_owned())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))
}

/// That no sign in the environment is of systemd, where the cgroup tells no unit; whatever a unit begins inherits them.
fn of_environment(process: &Path) -> Result<(), String> {
    if unit(&own_cgroup(process)?).is_some() {
        return Ok(());
    }
    let signs = &mut OF_SYSTEMD.into_iter();
    match signs.find(|name| std::env::var_os(name).is_some()) {
        Some(sign) => Err(begun_by_systemd(sign)),
        None => Ok(()),
    }
}

fn begun_by_systemd(sign: &str) -> String {
    format!(
        "systemd began this agent (`{sign}`), and could begin no other in a cgroup that has those of tasks below it"
    )
}

fn find(top: &Path, process: &Path) -> Result<PathBuf, String> {
    let own = own_cgroup(process)?;
    let is_service = |unit: &&str| Path::new(unit).extension() == Some(SERVICE.as_ref());
    if let Some(service) = unit(&own).filter(is_service) {
        return Err(begun_by_systemd(service));
    }
    let own = top.join(own);
    let part = match own.parent() {
        Some(above) if own.ends_with(AGENT) => above,
        _ => &own,
    };
    let whose = part.display();
    for name in ["", "cgroup.procs", "cgroup.subtree_control"] {
        access(part.join(name), Access::WRITE_OK)
            .map_err(|error| format!("{whose} is not this user's to divide: {error}"))?;
    }
    has_controllers(part)?;
    let members = read(&part.join("cgroup.procs"))?;
    let me = std::process::id().to_string();
    let others: Vec<_> = members.lines().filter(|pid| *pid != me).collect();
    if !others.is_empty() {
        let others = others.join(", ");
        return Err(format!("{whose} holds other processes as well: {others}"));
    }
    if !members.is_empty() {
        let room = part.join(AGENT);
        let made = match fs::create_dir(&room) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        made.and_then(|()| fs::write(room.join("cgroup.procs"), me))
            .map_err(|error| format!("moving to {}: {error}", room.display()))?;
    }
    Ok(part.to_owned())
}

/// The unit of systemd's that a cgroup belongs to, the innermost; a user's systemd is the login's, and none.
fn unit(cgroup: &Path) -> Option<&str> {
    let mut units = cgroup.iter().rev().filter(|name| {
        let kind = Path::new(name).extension();
        kind.is_some_and(|kind| kind == SERVICE || kind == "scope")
    });
    let unit = units.next().and_then(OsStr::to_str);
    unit.filter(|name| !name.starts_with("user@"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_systemd_are_known() {
        let session = "user.slice/user-5.slice/user@5.service/app.slice";
        for (cgroup, expected) in [
            (session, None),
            ("dcos/agent", None),
            (
                "user.slice/user-5.slice/session-2.scope",
                Some("session-2.scope"),
            ),
            ("system.slice/a.service/agent", Some("a.service")),
            (&format!("{session}/b.service"), Some("b.service")),
            (
                &format!("{session}/b.service/c.scope/agent"),
                Some("c.scope"),
            ),
        ] {
            assert_eq!(unit(Path::new(cgroup)), expected, "{cgroup}");
        }
    }
}
