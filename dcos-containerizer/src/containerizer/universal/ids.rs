//! The ids of containers in user namespaces.

use std::fs::File;
use std::os::fd::AsRawFd;

use dcos_launcher::{IdMap, Namespaces, Plan, Scope};

use super::lifecycle::text;
use super::store::Record;
use super::{Container, ContainerConfig, Inner};
use crate::isolator::{IdRange, Ids};

/// Whether a container has ids of its own, and which. What is nested in one that has, has the same.
pub(super) fn chosen(
    inner: &Inner,
    config: &ContainerConfig,
    parent: Option<&Record>,
) -> Option<IdRange> {
    let namespaces = inner.config.user_namespaces;
    let own = || (config.user_namespace || namespaces.always).then_some(namespaces.range);
    match parent {
        Some(parent) if config.is_debug() => parent.ids,
        Some(parent) => parent.ids.or_else(own),
        None => own(),
    }
}

/// The ids of a container, with a user namespace that maps them.
pub(super) async fn of(inner: &Inner, container: &Container) -> Result<Option<Ids>, String> {
    let Some(range) = container.record().ids else {
        return Ok(None);
    };
    let ours = inner.config.user_namespaces.range;
    if range != ours {
        // Its parent was launched with another range.
        return Err(
            "`--user_namespace_ids` is not what it was when the parent was launched".to_owned(),
        );
    }
    let namespace = inner
        .namespace
        .get_or_try_init(|| make(inner, range))
        .await?;
    // For the launcher as well, which opens it by this name.
    let (process, number) = (std::process::id(), namespace.as_raw_fd());
    let namespace = format!("/proc/{process}/fd/{number}").into();
    Ok(Some(Ids { range, namespace }))
}

/// A user namespace, which is there as long as its file is open: a container is made, and ended.
async fn make(inner: &Inner, range: IdRange) -> Result<File, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a user namespace needs an agent that runs as root".to_owned());
    }
    if crate::rootless::is_entered() {
        let why = "the agent runs without root, so that root in any container is the agent's user already: there are no \
                   user namespaces beside that";
        return Err(why.to_owned());
    }
    let map = IdMap {
        inside: 0,
        outside: range.first,
        count: range.count,
    };
    let plan = Plan {
        id: format!("user-namespace-{}", std::process::id()),
        new: Namespaces {
            pid: true,
            user: true,
            ..Namespaces::default()
        },
        uid_maps: vec![map],
        gid_maps: vec![map],
        ..Plan::default()
    };
    let pid = inner.launcher.launch(&plan, &[]).await;
    let pid = pid.map_err(|error| format!("making a user namespace: {}", text(&error)))?;
    let file = File::open(format!("/proc/{pid}/ns/user"));
    // Nobody waits for its end: the launcher is told to forget whatever has no container.
    let killed = inner
        .launcher
        .kill(&plan.id, libc::SIGKILL, Scope::All)
        .await;
    killed.map_err(|error| text(&error))?;
    file.map_err(|error| format!("opening a user namespace: {error}"))
}
