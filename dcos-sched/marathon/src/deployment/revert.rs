//! Taking back what a deployment changed, without touching what others changed since.

use std::sync::Arc;

use super::Plan;
use crate::Timestamp;
use crate::model::RootGroup;

/// `current` with the changes of `plan` undone.
///
/// Apps get back the very definition they had, version included. Instances that still run it are
/// therefore kept, where Marathon 1.11 gives the old content a new version and replaces them all.
pub fn revert(plan: &Plan, current: &RootGroup, version: Timestamp) -> RootGroup {
    let mut root = RootGroup {
        version,
        ..current.clone()
    };
    for (id, target) in &plan.target.apps {
        match plan.original.app(id) {
            None => {
                root.apps.remove(id);
            }
            Some(original) if !Arc::ptr_eq(original, target) && original != target => {
                root.apps.insert(id.clone(), Arc::clone(original));
            }
            Some(_) => {}
        }
    }
    for (id, original) in &plan.original.apps {
        if plan.target.app(id).is_none() {
            root.apps.insert(id.clone(), Arc::clone(original));
        }
    }
    for (id, group) in &plan.original.groups {
        if plan.target.groups.get(id) != Some(group) {
            root.groups.insert(id.clone(), group.clone());
        }
    }
    let added = plan
        .target
        .groups
        .keys()
        .filter(|id| !plan.original.groups.contains_key(*id));
    for id in added.rev() {
        if root.apps_below(id).next().is_none() && root.groups_in(id).next().is_none() {
            root.groups.remove(id);
        }
    }
    let groups: Vec<_> = root.apps.keys().map(crate::PathId::parent).collect();
    for group in groups {
        root.ensure_group(&group, version, false);
    }
    root
}
