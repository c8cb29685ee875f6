//! An agent that an ordinary user begins: whether it becomes root of a user namespace, and what it refuses then.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use dcos_containerizer::containerizer::launcher_socket;
use dcos_containerizer::rootless::{self, Found, RootlessError, Scope};
use dcos_core::config::Values;
use tracing::{info, warn};

use crate::containers;

/// What was found out, and done, while there was one thread.
#[derive(Debug)]
pub(crate) struct Begun {
    linux: bool,
    launcher: Option<PathBuf>,
}

impl Begun {
    /// Whether containers have namespaces.
    pub(crate) fn is_linux(&self) -> bool {
        self.linux
    }

    /// The small launcher beside this program. Inside it could not be told any more whose it is.
    pub(crate) fn launcher(&self) -> Option<&Path> {
        self.launcher.as_deref()
    }
}

/// Whether this process is the node's root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root() && !rootless::is_entered()
}

/// Makes of an ordinary user's process root of a user namespace, if it is to have namespaces.
pub(crate) fn begin(values: &Values) -> anyhow::Result<Begun> {
    let is_wanted = |launcher: &str| values.opt_text("launcher").as_deref() == Some(launcher);
    let program = std::env::current_exe().context("finding this program")?;
    let mut begun = Begun {
        linux: is_root() && !is_wanted("posix"),
        launcher: None,
    };
    if values.switch("dns_resolv_conf_leave") || values.switch("check_takeover") {
        return Ok(begun);
    }
    begun.launcher = dcos_launcher::beside(&program);
    if is_root() {
        return Ok(begun);
    }
    let socket = launcher_socket(&containers::runtime_dir(values));
    if is_wanted("posix") || (!is_wanted("linux") && says_otherwise(values)) {
        plain(&socket)?;
        return Ok(begun);
    }
    let must = is_wanted("linux") || needs_namespaces(values);
    refuse(values)?;
    let scope = Scope::from_values(values, &socket);
    let entered =
        has_no_links(values).and_then(|()| Ok(rootless::enter(&program, &socket, scope.as_ref())?));
    if let Err(error) = entered {
        let is_half_way = matches!(error.downcast_ref(), Some(RootlessError::Enter { .. }));
        if must || is_half_way {
            return Err(error.context("an agent without root"));
        }
        // Whoever finds a launcher in a user namespace is told.
        plain(&socket)?;
        let error = format!("{error:#}");
        warn!(%error, "tasks are plain processes, with no namespaces and no images (`--launcher=posix` says so, too)");
        return Ok(begun);
    }
    keep_ids(&values.path("work_dir"))?;
    let ids = rootless::own().map_or(0, rootless::Own::users);
    info!(
        ids,
        "root of a user namespace, and on the node the user that began this agent"
    );
    match rootless::delegated() {
        Ok(cgroup) => {
            info!(?cgroup, "containers have control groups there");
            for missing in rootless::missing() {
                warn!(
                    controller = missing,
                    "not delegated to this agent: tasks have no limits of it; systemd hands on what `Delegate=` of user@.service names"
                );
            }
        }
        Err(why) => warn!(
            why,
            "no control groups were delegated to this agent: nothing limits what tasks take; docs/rootless.md tells how they are"
        ),
    }
    begun.linux = true;
    Ok(begun)
}

/// Where the ids are noted whose files there are, below the work directory.
const IDS: &str = "user-namespace";

/// Notes the ids that there are; those that were there before have to be the same.
fn keep_ids(work_dir: &Path) -> anyhow::Result<()> {
    let (Some(own), file) = (rootless::own(), work_dir.join(IDS)) else {
        return Ok(());
    };
    let noted = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        noted => noted.with_context(|| file.display().to_string())?,
    };
    if let Some(lost) = own.lost(&noted) {
        bail!(
            "files in {} belong to ids that this user has no more ({lost}: inside, outside, how many): put them back \
             into /etc/subuid and /etc/subgid, or give the agent another --work_dir",
            work_dir.display()
        );
    }
    let lines = own.lines();
    if lines != noted {
        let new = work_dir.join(format!("{IDS}.new"));
        std::fs::create_dir_all(work_dir)
            .and_then(|()| std::fs::write(&new, lines))
            .and_then(|()| std::fs::rename(&new, &file))
            .with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// Whether other options ask for what there was before an ordinary user's agent had namespaces.
fn says_otherwise(values: &Values) -> bool {
    let has = |list: &str, name: &str| list.split(',').any(|one| one.trim() == name);
    let isolation = values.opt_text("isolation");
    // Docker's socket is open to a group that is nobody's inside.
    has(&values.text("containerizers"), "docker")
        || isolation.is_some_and(|names| !has(&names, "filesystem/linux"))
}

fn needs_namespaces(values: &Values) -> bool {
    values.opt_text("isolation").is_some() || values.opt_text("image_providers").is_some()
}

/// That no launcher makes something else of plain processes.
fn plain(socket: &Path) -> anyhow::Result<()> {
    let found = rootless::find(socket)?;
    ensure!(
        !matches!(found, Found::Apart(_)),
        "the launcher at {} runs containers in a user namespace, of an agent before this one: drain that first, or go \
         on without --launcher=posix",
        socket.display()
    );
    Ok(())
}

/// What takes root of the node, and what would be right.
const ROOTED: [(&str, &str); 9] = [
    ("overlay", "containers have the node's network"),
    (
        "l4lb",
        "virtual addresses are made by an agent or master that is root",
    ),
    (
        "dns",
        "names of the cluster are answered by an agent or master that is root",
    ),
    ("accept_forwarded", "nothing is forwarded for containers"),
    (
        "user_namespaces",
        "root in any container is this agent's user already",
    ),
    (
        "network_cni_config_dir",
        "containers have the node's network",
    ),
    ("loop_volumes_dir", "bind folders with `volume/host_path`"),
    (
        "csi_plugin_config_dir",
        "bind folders with `volume/host_path`",
    ),
    ("oci_runtimes", "containers are made by the launcher"),
];

/// That nothing is asked for that cannot be.
fn refuse(values: &Values) -> anyhow::Result<()> {
    let containerizers = values.text("containerizers");
    ensure!(
        !containerizers
            .split(',')
            .any(|name| name.trim() == "docker"),
        "--containerizers=docker takes root, or --launcher=posix and leave to use Docker's socket"
    );
    for (name, why) in ROOTED {
        let is_set = match name {
            "overlay" | "l4lb" | "dns" | "accept_forwarded" | "user_namespaces" => {
                values.switch(name)
            }
            "oci_runtimes" => values.opt_text(name).is_some(),
            _ => values.opt_path(name).is_some(),
        };
        ensure!(!is_set, "--{name} takes root: {why}");
    }
    Ok(())
}

/// That no link leads to the agent's folders: whose those are that root made cannot be told inside.
fn has_no_links(values: &Values) -> anyhow::Result<()> {
    for folder in [values.path("work_dir"), containers::runtime_dir(values)] {
        let folder = std::path::absolute(folder)?;
        if let Some(real) = beyond_a_link(&folder) {
            bail!(
                "{} leads over a link; without root say where it is: {}",
                folder.display(),
                real.display()
            );
        }
    }
    Ok(())
}

/// Where what is there of an absolute path really is, if a link leads there.
fn beyond_a_link(path: &Path) -> Option<PathBuf> {
    // The first that is there.
    let mut above = path.ancestors();
    let (above, real) = above.find_map(|above| Some((above, above.canonicalize().ok()?)))?;
    let mut without_dots = PathBuf::new();
    for component in above.components() {
        if component == Component::ParentDir {
            without_dots.pop();
        } else {
            without_dots.push(component);
        }
    }
    (without_dots != real).then_some(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_no_links() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(folder.join("a/b")).unwrap();
        std::os::unix::fs::symlink(folder.join("a/b"), folder.join("link")).unwrap();
        for straight in ["a/b", "a/b/../new", "a/../a/b/../../new/newer", "new"] {
            assert_eq!(beyond_a_link(&folder.join(straight)), None, "{straight}");
        }
        for (over, real) in [("link", "a/b"), ("link/new", "a/b"), ("link/../b", "a/b")] {
            let found = beyond_a_link(&folder.join(over));
            assert_eq!(found, Some(folder.join(real)), "{over}");
        }
    }
}
