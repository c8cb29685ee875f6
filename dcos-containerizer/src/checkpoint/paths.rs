//! Where things are below the agent's work directory.
//!
//! Ids are used as names of directories: whoever takes an id in checks it before
//! ([`dcos_core::ids::validate`]).

use std::path::{Path, PathBuf};

use dcos_core::resources::ResourceExt;
use dcos_proto::mesos::resource::disk_info::source::Type as Disk;
use dcos_proto::mesos::{AgentId, ContainerId, Resource};

use crate::agent::ExecutorKey;

/// The name of the link to the newest of its kind.
pub const LATEST: &str = "latest";

/// The checkpoints of all agents that ever lived here.
pub fn agents(work_dir: &Path) -> PathBuf {
    work_dir.join("meta/slaves")
}

/// What is kept of an agent.
pub fn agent(work_dir: &Path, agent: &AgentId) -> PathBuf {
    agents(work_dir).join(agent.as_str())
}

/// The sandboxes of an executor's launches.
pub fn sandboxes(work_dir: &Path, agent: &AgentId, key: &ExecutorKey) -> PathBuf {
    let executors = work_dir
        .join("slaves")
        .join(agent.as_str())
        .join("frameworks");
    let executors = executors.join(key.framework.as_str()).join("executors");
    executors.join(key.executor.as_str()).join("runs")
}

/// The sandbox of one launch of an executor.
pub fn sandbox(
    work_dir: &Path,
    agent: &AgentId,
    key: &ExecutorKey,
    container: &ContainerId,
) -> PathBuf {
    sandboxes(work_dir, agent, key).join(&container.value)
}

/// The sandbox of a container nested (however deep) in the one whose sandbox is `root`.
pub fn nested_sandbox(root: &Path, container: &ContainerId) -> PathBuf {
    match &container.parent {
        None => root.to_owned(),
        Some(parent) => nested_sandbox(root, parent)
            .join("containers")
            .join(&container.value),
    }
}

/// The sandbox of a container that belongs to no executor.
pub fn standalone(work_dir: &Path, container: &ContainerId) -> PathBuf {
    work_dir.join("containers").join(&container.value)
}

/// The root of a disk that has one, as the operator wrote it: relative ones are below the work
/// directory.
pub fn disk_root(disk: &Resource) -> Option<&str> {
    let source = disk.disk.as_ref()?.source.as_ref()?;
    match source.r#type() {
        Disk::Path => source.path.as_ref()?.root.as_deref(),
        Disk::Mount => source.mount.as_ref()?.root.as_deref(),
        Disk::Block | Disk::Raw | Disk::Unknown => None,
    }
}

/// Where the data of a persistent volume is; `None` if it is none, or a resource provider's.
///
/// The `/` in a role is written as a space, which no role can contain.
pub fn volume(work_dir: &Path, volume: &Resource) -> Option<PathBuf> {
    let disk = volume.disk.as_ref()?;
    let id = &disk.persistence.as_ref()?.id;
    if volume.provider_id.is_some() {
        return None;
    }
    let root = match &disk.source {
        None => work_dir.to_owned(),
        Some(source) => {
            let root = work_dir.join(disk_root(volume)?);
            if source.r#type() == Disk::Mount {
                return Some(root);
            }
            root
        }
    };
    let role = volume.reservation_role()?.replace('/', " ");
    Some(root.join("volumes/roles").join(role).join(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_proto::json::{Dialect, from_slice};

    #[test]
    fn volumes_lie_where_mesos_puts_them() {
        let check = |source: &str, expected: Option<&str>| {
            let text = format!(
                r#"{{"name": "disk", "type": "SCALAR", "scalar": {{"value": 1}},
                "reservations": [{{"type": "DYNAMIC", "role": "a/b"}}],
                "disk": {{"persistence": {{"id": "v"}} {source}}}}}"#
            );
            let resource: Resource = from_slice(text.as_bytes(), Dialect::V1).unwrap();
            let path = volume(Path::new("/w"), &resource);
            assert_eq!(path.as_deref(), expected.map(Path::new), "{source}");
        };
        check("", Some("/w/volumes/roles/a b/v"));
        let path = r#", "source": {"type": "PATH", "path": {"root": "/mnt/p"}}"#;
        check(path, Some("/mnt/p/volumes/roles/a b/v"));
        let relative = r#", "source": {"type": "PATH", "path": {"root": "p"}}"#;
        check(relative, Some("/w/p/volumes/roles/a b/v"));
        let mount = r#", "source": {"type": "MOUNT", "mount": {"root": "/mnt/m"}}"#;
        check(mount, Some("/mnt/m"));
        check(r#", "source": {"type": "RAW"}"#, None);
    }
}
