//! What is kept on nodes' disks: reservations, volumes and operations, which go only if somebody
//! asked for that.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::{ResourceExt, Resources, Scalar};
use dcos_proto::mesos::{FrameworkId, Operation, Resource, offer};

use crate::kept;

/// The label that names a reservation.
pub(crate) const LABEL: &str = "reservation";

/// An operation on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noted {
    /// Whose it is and how it called it, if anybody is to acknowledge it.
    owner: Option<(FrameworkId, String)>,
    /// The uuid of its last status.
    status: Option<Vec<u8>>,
}

/// What one disk holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// How much of each reservation and volume.
    kept: BTreeMap<String, Scalar>,
    operations: BTreeMap<Vec<u8>, Noted>,
}

impl Content {
    pub(crate) fn of(resources: &[Resource], operations: &[Operation]) -> Self {
        let mut kept: BTreeMap<String, Scalar> = BTreeMap::new();
        for resource in resources {
            for name in names_of(resource) {
                let amount = resource.scalar_value().unwrap_or_default();
                *kept.entry(name).or_default() += amount;
            }
        }
        let operations = operations.iter().map(|operation| {
            let status = operation.latest_status.uuid.clone();
            let noted = Noted {
                owner: operation
                    .framework_id
                    .clone()
                    .zip(operation.info.id.clone().map(|id| id.value)),
                status: status.map(|uuid| uuid.value),
            };
            (operation.uuid.value.clone(), noted)
        });
        Self {
            kept,
            operations: operations.collect(),
        }
    }
}

/// A reservation and, if it is one, a volume.
fn names_of(resource: &Resource) -> Vec<String> {
    let mut names = Vec::new();
    let instance = kept::owner(resource);
    names.extend(instance.map(|id| format!("{} of instance {id}", resource.name)));
    let labels = resource
        .reservations
        .iter()
        .filter_map(|it| it.labels.as_ref());
    for label in labels.flat_map(|labels| &labels.labels) {
        if label.key == LABEL {
            names.push(format!(
                "{} of reservation {}",
                resource.name,
                label.value()
            ));
        }
    }
    names.extend(volume_id(resource).map(volume_name));
    names
}

/// The id of a persistent volume.
pub(crate) fn volume_id(resource: &Resource) -> Option<&str> {
    let persistence = resource.disk.as_ref()?.persistence.as_ref()?;
    Some(&persistence.id)
}

fn volume_name(id: &str) -> String {
    format!("volume {id}")
}

/// What is on all disks, and what somebody asked to undo.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    disks: BTreeMap<usize, Content>,
    undone: BTreeSet<String>,
    /// What went with a node that forgot everything.
    lost: BTreeSet<String>,
    /// What the operations of frameworks make.
    wanted: BTreeMap<String, Vec<String>>,
}

impl Holdings {
    /// Somebody asks for an operation.
    pub(crate) fn asked(&mut self, operation: &offer::Operation) {
        let gone = operation.unreserve.iter().flat_map(|it| &it.resources);
        let gone = gone.chain(operation.destroy.iter().flat_map(|it| &it.volumes));
        for resource in gone {
            let names = names_of(resource);
            // A volume that goes leaves what it was made of.
            let volume = volume_id(resource).is_some();
            let names = names
                .into_iter()
                .filter(|name| !volume || name.starts_with("volume"));
            self.undone.extend(names);
        }
        let made = operation.reserve.iter().flat_map(|it| &it.resources);
        let made = made.chain(operation.create.iter().flat_map(|it| &it.volumes));
        if let Some(id) = &operation.id {
            let names = made.flat_map(names_of).collect();
            self.wanted.insert(id.value.clone(), names);
        }
    }

    /// A disk holds this now.
    pub(crate) fn wrote(
        &mut self,
        node: usize,
        content: Content,
        is_acknowledged: impl Fn(&FrameworkId, &[u8]) -> bool,
    ) -> Result<(), String> {
        let before = self.disks.remove(&node).unwrap_or_default();
        for (name, amount) in &before.kept {
            let left = content.kept.get(name).copied().unwrap_or_default();
            if left < *amount && !self.undone.contains(name) {
                return Err(format!("the {name} on node {node} is lost"));
            }
        }
        for (uuid, noted) in &before.operations {
            if content.operations.contains_key(uuid) {
                continue;
            }
            let Some((framework, id)) = &noted.owner else {
                continue;
            };
            let Some(status) = &noted.status else {
                return Err(format!("operation {id} is forgotten before it ended"));
            };
            if !is_acknowledged(framework, status) {
                return Err(format!(
                    "operation {id} is forgotten before its framework acknowledged it"
                ));
            }
        }
        self.disks.insert(node, content);
        Ok(())
    }

    /// A framework hears that its operation is done: what it made must be on a disk.
    pub(crate) fn finished(&self, operation: &str) -> Result<(), String> {
        for name in self.wanted.get(operation).into_iter().flatten() {
            let is_there = self.disks.values().any(|disk| disk.kept.contains_key(name));
            if !is_there && !self.undone.contains(name) && !self.lost.contains(name) {
                return Err(format!(
                    "operation {operation} is done, and there is no {name}"
                ));
            }
        }
        Ok(())
    }

    /// A volume could not be made: it may go from the books.
    pub(crate) fn failed(&mut self, volume: &str) {
        self.undone.insert(volume_name(volume));
    }

    /// A volume's content is deleted: somebody must have asked for it.
    pub(crate) fn deleted(&self, volume: &str) -> Result<(), String> {
        if self.undone.contains(&volume_name(volume)) {
            return Ok(());
        }
        Err(format!(
            "the content of volume {volume} is deleted, which nobody asked for"
        ))
    }

    /// A node forgot everything.
    pub(crate) fn forgot(&mut self, node: usize) {
        if let Some(content) = self.disks.remove(&node) {
            self.lost.extend(content.kept.into_keys());
        }
    }
}

/// What `resources` are without anything that was done to them.
pub(crate) fn plain(resources: &Resources) -> Resources {
    let mut plain = Resources::new();
    for resource in resources.unallocated().to_unreserved().to_messages() {
        plain.add_message(&Resource {
            disk: None,
            shared: None,
            ..resource
        });
    }
    plain
}
