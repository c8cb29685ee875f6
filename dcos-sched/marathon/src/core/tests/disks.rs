//! What agents keep reserved: reservations and volumes, and which task uses them.

use std::collections::BTreeMap;

use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{Resource, TaskId, TaskState};

use super::harness::framework_id;
use crate::instance::InstanceId;
use crate::matching::resident::{is_volume, owner, without_volume};
use crate::matching::role_of;

/// Reserved resources by the instance they are for.
#[derive(Debug, Default)]
pub(crate) struct Disks {
    kept: BTreeMap<String, Vec<Resource>>,
    used: BTreeMap<String, String>,
    /// The master refuses to give back what is reserved.
    pub(crate) are_held: bool,
}

fn of(resource: &Resource) -> String {
    ours(resource).unwrap().to_string()
}

/// The instance it is reserved for, whatever life of the framework did.
fn ours(resource: &Resource) -> Option<InstanceId> {
    let lives = (0..50).map(framework_id);
    owner(resource, &lives.collect::<Vec<_>>())
}

impl Disks {
    pub(crate) fn apply(&mut self, operation: &Operation) {
        for resource in operation.reserve.iter().flat_map(|r| &r.resources) {
            self.kept
                .entry(of(resource))
                .or_default()
                .push(resource.clone());
        }
        for volume in operation.create.iter().flat_map(|c| &c.volumes) {
            self.exchange(&without_volume(volume), Some(volume.clone()));
        }
        if self.are_held {
            return;
        }
        for volume in operation.destroy.iter().flat_map(|d| &d.volumes) {
            self.exchange(volume, Some(without_volume(volume)));
        }
        for resource in operation.unreserve.iter().flat_map(|u| &u.resources) {
            self.exchange(resource, None);
        }
        self.kept.retain(|_, resources| !resources.is_empty());
    }

    fn exchange(&mut self, old: &Resource, new: Option<Resource>) {
        let kept = self.kept.get_mut(&of(old)).expect("it is reserved");
        let at = kept.iter().position(|each| each == old);
        kept.remove(at.unwrap_or_else(|| panic!("{old:?} is not among {kept:?}")));
        kept.extend(new);
    }

    /// Tasks that are launched together use what is reserved for their instance, and nobody else does.
    pub(crate) fn use_for<'a>(
        &mut self,
        users: &[TaskId],
        resources: impl IntoIterator<Item = &'a Resource>,
        tasks: &BTreeMap<String, TaskState>,
    ) {
        self.used.retain(|task, _| tasks.contains_key(task));
        for resource in resources {
            let Some(owner) = ours(resource) else {
                continue;
            };
            let kept = &self.kept[owner.as_str()];
            assert!(
                !is_volume(resource) || kept.contains(resource),
                "a volume that is not there"
            );
            let user = self.used.iter().find(|(_, used)| **used == *owner.as_str());
            let known = |user: &String| users.iter().any(|one| one.value == *user);
            assert!(
                user.is_none_or(|(user, _)| known(user)),
                "two tasks on one reservation: {user:?}"
            );
            for user in users {
                self.used.insert(user.value.clone(), owner.to_string());
            }
        }
    }

    /// What no task uses of what is reserved for a role.
    pub(crate) fn free(
        &mut self,
        role: &str,
        tasks: &BTreeMap<String, TaskState>,
    ) -> Vec<Resource> {
        self.used.retain(|task, _| tasks.contains_key(task));
        let unused = self
            .kept
            .iter()
            .filter(|(owner, _)| !self.used.values().any(|used| used == *owner));
        let unused = unused.flat_map(|(_, resources)| resources.clone());
        unused.filter(|each| role_of(each) == role).collect()
    }

    /// The names of all volumes.
    pub(crate) fn volumes(&self) -> Vec<String> {
        let all = self.kept.values().flatten().filter_map(|resource| {
            let persistence = resource.disk.as_ref()?.persistence.as_ref()?;
            Some(persistence.id.clone())
        });
        all.collect()
    }

    /// For how many instances something is kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}
