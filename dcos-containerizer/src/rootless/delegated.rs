//! The part of the node's control groups that was given to this process' user.
//!
//! By root, with a folder of version 2 whose owner is the user. It is the cgroup that the agent is begun in, or the one
//! above, if that is called [`AGENT`]. Containers are below it; what is in it itself goes to [`AGENT`], for the kernel has
//! a cgroup that hands controllers on hold no processes. A unit of systemd's is none: systemd begins the next agent in
//! that very cgroup, which the kernel forbids (`EBUSY`) while there are containers below it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Access, access};

use super::is_entered;
use crate::isolator::cgroup::Cgroups;

/// The cgroup of the agent, its launcher, and what else is no container. Who begins there may begin again while there are
/// containers.
const AGENT: &str = "agent";

/// What systemd has in the environment of what it begins.
const OF_SYSTEMD: [&str; 2] = ["INVOCATION_ID", "SYSTEMD_EXEC_PID"];

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

/// Looks for that cgroup by where `process`, a folder of `/proc`, is, and moves this one out of its way.
pub(super) fn take(process: &Path) {
    let _ = TAKEN.set(find(process));
}

fn find(process: &Path) -> Result<PathBuf, String> {
    let top = Cgroups::discover(Path::new("")).map_err(|error| error.to_string())?;
    let top = top.second().ok_or("there are none of version 2")?;
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))
    };
    let groups = read(&process.join("cgroup"))?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.ok_or("there are none of version 2")?;
    let told = OF_SYSTEMD
        .into_iter()
        .find(|name| std::env::var_os(name).is_some());
    if let Some(sign) = service(own).or(told) {
        return Err(format!(
            "systemd began this agent (`{sign}`), and could begin no other in a cgroup that has those of tasks below it"
        ));
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
    if read(&part.join("cgroup.controllers"))?.trim().is_empty() {
        return Err(format!("{whose} has no controllers"));
    }
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

/// The service of systemd's that a cgroup belongs to; that of a user's systemd is the login's, and none.
fn service(cgroup: &str) -> Option<&str> {
    cgroup.split('/').find(|name| {
        let name = name.strip_suffix(".service");
        name.is_some_and(|name| !name.starts_with("user@"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_systemd_are_known() {
        let session = "user.slice/user-5.slice/user@5.service/app.slice";
        for (cgroup, expected) in [
            (session, None),
            ("dcos/agent", None),
            ("user.slice/user-5.slice/session-2.scope", None),
            ("system.slice/a.service/agent", Some("a.service")),
            (&format!("{session}/b.service"), Some("b.service")),
        ] {
            assert_eq!(service(cgroup), expected, "{cgroup}");
        }
    }
}
