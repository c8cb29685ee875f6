//! What a container cannot mount when the agent itself is in a user namespace.
//!
//! There somebody else owns the node's processes, network and message queues, and the kernel lets only their owner
//! mount the file systems that show them. What is the node's is bound instead, as far as it may be looked at.

use std::fs;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Mount};

use super::Draft;
use super::filesystem::bind;
use crate::rootless::Own;

/// The group of terminals, which `devpts` is told.
const TERMINALS: u32 = 5;

impl Draft {
    /// Replaces mounts by what can be mounted in the user namespace `own`, after all isolators have had their say.
    pub(crate) fn mount_within(&mut self, own: &Own) {
        let linux = self.spec.linux_mut().get_or_insert_default();
        let namespaces = linux.namespaces_mut().get_or_insert_default();
        // Into what somebody else owns nobody here may go, even if it is where one is.
        namespaces.retain(|one| !one.path().as_ref().is_some_and(|path| is_ours(path)));
        let owns = |kind| namespaces.iter().any(|one| one.typ() == kind);
        let pids = owns(LinuxNamespaceType::Pid);
        let queues = owns(LinuxNamespaceType::Ipc);
        let network = owns(LinuxNamespaceType::Network);
        let mounts = self.spec.mounts_mut().get_or_insert_default();
        let is = |mount: &Mount, kind: &str| mount.typ().as_deref() == Some(kind);
        mounts.retain(|mount| queues || !is(mount, "mqueue"));
        for mount in mounts {
            if is(mount, "proc") && !pids {
                *mount = bound("/proc", mount, false);
            } else if is(mount, "sysfs") && !network {
                *mount = bound("/sys", mount, true);
            } else if is(mount, "devpts") && !own.has_group(TERMINALS) {
                let group = format!("gid={TERMINALS}");
                let mut options = mount.options().clone().unwrap_or_default();
                options.retain(|option| *option != group);
                mount.set_options(Some(options));
            }
        }
    }
}

/// Whether a namespace that is to be joined is one that this process has.
fn is_ours(path: &Path) -> bool {
    let Some(name) = path.file_name() else {
        return false;
    };
    let own = fs::read_link(Path::new("/proc/self/ns").join(name));
    own.is_ok_and(|own| fs::read_link(path).is_ok_and(|theirs| theirs == own))
}

/// What the node has at `source`, in the place of `mount`.
fn bound(source: &str, mount: &Mount, readonly: bool) -> Mount {
    let mut bound = bind(Path::new(source), mount.destination(), readonly);
    let options = bound.options().iter().flatten().cloned();
    let safe = ["nosuid", "nodev", "noexec"].map(str::to_owned);
    bound.set_options(Some(options.chain(safe).collect()));
    bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolator::{ContainerConfig, filesystem};

    /// Kinds, destinations and options of what a container with an image mounts, after `change`.
    fn mounts(own: &Own, change: impl FnOnce(&mut Draft)) -> String {
        let config = ContainerConfig {
            holder: true,
            ..ContainerConfig::default()
        };
        let mut draft = Draft::new(&config).unwrap();
        draft.spec.set_mounts(Some(filesystem::system_mounts()));
        change(&mut draft);
        draft.mount_within(own);
        let mounts = draft.spec.mounts().iter().flatten();
        let line = |mount: &Mount| {
            let options = mount.options().clone().unwrap_or_default().join(",");
            let kind = mount.typ().clone().unwrap_or_default();
            format!("{} {kind} {options}\n", mount.destination().display())
        };
        mounts.map(line).collect()
    }

    #[test]
    fn what_shows_the_node_is_bound() {
        let all = Own::for_tests(65_536);
        let shared = mounts(&all, |_| {});
        assert!(
            shared.contains("/proc bind rbind,rw,nosuid,nodev,noexec\n"),
            "{shared}"
        );
        assert!(
            shared.contains("/sys bind rbind,ro,nosuid,nodev,noexec\n"),
            "{shared}"
        );
        assert!(
            !shared.contains("mqueue") && shared.contains("gid=5"),
            "{shared}"
        );
        // As it is where a container shares what its parent shares with the node.
        let joined = mounts(&all, |draft| {
            let own = |name: &str| Some(Path::new("/proc/self/ns").join(name));
            draft.namespace(LinuxNamespaceType::Pid, own("pid"));
            draft.namespace(LinuxNamespaceType::Ipc, own("ipc"));
        });
        assert_eq!(joined, shared);
    }

    #[test]
    fn what_shows_the_container_is_mounted() {
        let made = mounts(&Own::for_tests(1), |draft| {
            for kind in [
                LinuxNamespaceType::Pid,
                LinuxNamespaceType::Ipc,
                LinuxNamespaceType::Network,
            ] {
                draft.namespace(kind, None);
            }
        });
        for kind in ["/proc proc ", "/sys sysfs ", "/dev/mqueue mqueue "] {
            assert!(made.contains(kind), "{made}");
        }
        assert!(!made.contains("gid=5"), "{made}");
    }
}
