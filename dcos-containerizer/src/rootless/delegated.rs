//! The part of the node's control groups that was given to this process' user.
//!
//! By systemd, with `Delegate=yes`, or by root, with a folder of version 2 whose owner is the user. It is the cgroup that
//! the agent is begun in, or the one above, if that is called [`AGENT`]. Containers are below it; what is in it itself
//! goes to [`AGENT`], for the kernel has a cgroup that hands controllers on hold no processes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Access, access};

use super::is_entered;
use crate::isolator::cgroup::Cgroups;

/// The cgroup of the agent, its launcher, and what else is no container. `DelegateSubgroup=agent` of systemd has an agent
/// begin there, and so begin again while there are containers.
const AGENT: &str = "agent";

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
    let own = top.join(own.ok_or("there are none of version 2")?);
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
