//! User namespaces: root in a container is nobody on the node.
//!
//! The ids of a container, from 0 on, are a range of the node's that nobody else has. What it owns on
//! the node (its sandbox, what it writes into the root of its image) belongs to that range; what it
//! only finds there (layers of images, persistent volumes, volumes of drivers) is mounted with its ids
//! mapped, so that 0 on the disk is 0 inside, whoever had it before. Volumes of the node (`host_path`)
//! are not mapped: they belong to whom they belong, and root inside is none of them.
//!
//! All containers share one range: they are kept apart by everything else that isolates them, and a
//! volume may go from one to the next.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMappingBuilder, LinuxNamespaceType, Mount};

use super::filesystem::bind;
use super::{ContainerConfig, Draft, IsolatorError};

/// The label by which a task or an executor asks for a user namespace: `true`.
pub const USER_NAMESPACE: &str = "user_namespace";

/// Ids of the node that containers with a user namespace have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdRange {
    /// What is 0 inside.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl Default for IdRange {
    /// Above what people, services and other container engines use.
    fn default() -> Self {
        Self {
            first: 1_000_000_000,
            count: 65_536,
        }
    }
}

impl IdRange {
    /// A range as an operator writes it: `100000-165535`.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] if it is none, holds 0, or is short of 65,536 ids.
    pub fn parse(text: &str) -> Result<Self, IsolatorError> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            let first: u32 = first.trim().parse().ok()?;
            let count = last
                .trim()
                .parse::<u32>()
                .ok()?
                .checked_sub(first)?
                .checked_add(1)?;
            (first > 0 && count >= 65_536).then_some(Self { first, count })
        });
        let why = "at least 65536 ids of the node that nobody has are wanted, as `100000-165535`";
        parsed.ok_or_else(|| IsolatorError::refused(format!("user_namespace_ids: {why}")))
    }

    /// Who user and group of the container are on the node.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] if they are beyond the range.
    pub fn outside(self, (user, group): (u32, u32)) -> Result<(u32, u32), IsolatorError> {
        let of = |id: u32| {
            let refused = || {
                let count = self.count;
                IsolatorError::refused(format!("id {id} is beyond the {count} of a user namespace"))
            };
            (id < self.count)
                .then(|| self.first + id)
                .ok_or_else(refused)
        };
        Ok((of(user)?, of(group)?))
    }

    /// Who a user and a group of the node are inside, if they are of the range.
    pub fn inside(self, (user, group): (u32, u32)) -> Option<(u32, u32)> {
        let of = |id: u32| id.checked_sub(self.first).filter(|id| *id < self.count);
        Some((of(user)?, of(group)?))
    }
}

/// Who has a user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserNamespaces {
    /// Every container; else those that ask for it ([`USER_NAMESPACE`]). `--user_namespaces`
    pub always: bool,
    /// Which ids of the node they have. `--user_namespace_ids`
    pub range: IdRange,
}

/// The ids of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// Which they are on the node.
    pub range: IdRange,
    /// The file of a user namespace that maps them, for mounts.
    pub namespace: PathBuf,
}

/// Who a user and a group of the container are on the node.
pub(super) fn outside(
    config: &ContainerConfig,
    owner: (u32, u32),
) -> Result<(u32, u32), IsolatorError> {
    match &config.ids {
        None => Ok(owner),
        Some(ids) => ids.range.outside(owner),
    }
}

impl Draft {
    /// Gives the container a user namespace, or the one of its parent, after all isolators have had their
    /// say: what they mount has to be what such a namespace may mount.
    pub(crate) fn map_ids(
        &mut self,
        ids: &Ids,
        config: &ContainerConfig,
    ) -> Result<(), IsolatorError> {
        if config.debug {
            let parent = config.parent_pid.unwrap_or_default();
            let parent = format!("/proc/{parent}/ns/user").into();
            self.namespace(LinuxNamespaceType::User, Some(parent));
            return Ok(());
        }
        let needs = |what: &str| {
            Err(IsolatorError::refused(format!(
                "a user namespace needs {what}"
            )))
        };
        if !self.has_namespace(LinuxNamespaceType::Mount) {
            return needs("the isolator `filesystem/linux`");
        }
        let own_pids = self.makes(LinuxNamespaceType::Pid);
        let own_ipc = self.makes(LinuxNamespaceType::Ipc);
        let mounts = self.spec.mounts_mut().get_or_insert_default();
        let mounted =
            |kind: &'static str| move |mount: &&Mount| mount.typ().as_deref() == Some(kind);
        if !own_pids && mounts.iter().any(|mount| mounted("proc")(&mount)) {
            return needs("processes of its own (the isolator `namespaces/pid`, and no sharing)");
        }
        let both_ways = |option: &String| option.ends_with("shared");
        if mounts
            .iter()
            .flat_map(Mount::options)
            .flatten()
            .any(both_ways)
        {
            return needs("volumes whose mounts are not seen on the node");
        }
        if !own_ipc {
            // Whose message queues it would show is not the namespace's.
            mounts.retain(|mount| !mounted("mqueue")(&mount));
        }
        for mount in &mut *mounts {
            if mounted("sysfs")(&&*mount) {
                // Who does not own the network may not mount what shows it, but may look at the node's.
                *mount = bind(Path::new("/sys"), mount.destination(), true);
                let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
                mount.set_options(Some(options.map(str::to_owned).to_vec()));
            }
        }
        let mapping = LinuxIdMappingBuilder::default()
            .container_id(0_u32)
            .host_id(ids.range.first)
            .size(ids.range.count)
            .build()
            .map_err(super::draft::refused)?;
        self.namespace(LinuxNamespaceType::User, None);
        let linux = self.spec.linux_mut().get_or_insert_default();
        linux.set_uid_mappings(Some(vec![mapping]));
        linux.set_gid_mappings(Some(vec![mapping]));
        self.ids = Some(ids.clone());
        Ok(())
    }

    /// Whether the container has a new namespace of `kind`.
    fn makes(&self, kind: LinuxNamespaceType) -> bool {
        let linux = self.spec.linux().as_ref();
        let all = linux.and_then(|linux| linux.namespaces().as_ref());
        let new = |all: &Vec<oci_spec::runtime::LinuxNamespace>| {
            all.iter()
                .any(|one| one.typ() == kind && one.path().is_none())
        };
        all.is_some_and(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_map_both_ways() {
        let range = IdRange::parse("100000-165535").unwrap();
        assert_eq!((range.first, range.count), (100_000, 65_536));
        assert_eq!(range.outside((0, 65_535)).unwrap(), (100_000, 165_535));
        assert_eq!(range.inside((100_000, 165_535)), Some((0, 65_535)));
        assert_eq!(range.inside((99_999, 100_000)), None);
        let beyond = range.outside((0, 65_536)).unwrap_err().to_string();
        assert!(beyond.contains("65536"), "{beyond}");
        for wrong in ["", "0-65535", "5", "100000-165534", "2-1", "1-9999999999"] {
            assert!(IdRange::parse(wrong).is_err(), "{wrong}");
        }
    }
}
