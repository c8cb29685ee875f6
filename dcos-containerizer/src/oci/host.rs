//! What a runtime must not see of this host.

use std::fs;
use std::path::Path;

/// Words before a call of `program`, for runtimes that refuse hosts such as this one.
///
/// `crun` refuses one that has cgroup v2 with a controller beside v1 ("hybrid"). It is called in
/// a mount namespace without v2; our own place there is taken by the agent.
pub(super) fn before(program: &Path) -> Vec<String> {
    let is_crun = program.file_name().is_some_and(|name| name == "crun");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match unified(&mounts) {
        Some(place) if is_crun => {
            let script = r#"umount -l "$0"; exec "$@""#;
            ["unshare", "--mount", "--", "sh", "-c", script, place]
                .map(str::to_owned)
                .into()
        }
        _ => Vec::new(),
    }
}

/// Where version 2 is mounted beside version 1.
fn unified(mountinfo: &str) -> Option<&str> {
    let mounted = |kind: &str| {
        let of_kind = move |line: &&str| line.contains(&format!(" - {kind} "));
        mountinfo.lines().find(of_kind)
    };
    mounted("cgroup")?;
    mounted("cgroup2")?.split(' ').nth(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const V2: &str = "31 30 0:27 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_host_with_both_versions_is_hybrid() {
        assert_eq!(
            unified(&format!("{V1}{V2}")),
            Some("/sys/fs/cgroup/unified")
        );
        assert_eq!(unified(V1), None);
        assert_eq!(unified(V2), None);
    }

    #[test]
    fn only_who_minds_is_spared_the_sight() {
        assert!(before(Path::new("/usr/sbin/runc")).is_empty());
    }
}
