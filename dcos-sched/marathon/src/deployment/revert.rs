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
    revert_groups(plan, &mut root, version);
    let groups: Vec<_> = root.apps.keys().map(crate::PathId::parent).collect();
    for group in groups {
        root.ensure_group(&group, version, false);
    }
    root
}

/// Deployments do not lock groups, so others may have changed them meanwhile: only what the plan changed is taken back.
/// Versions follow by themselves.
fn revert_groups(plan: &Plan, root: &mut RootGroup, version: Timestamp) {
    for (id, original) in &plan.original.groups {
        match (plan.target.groups.get(id), root.groups.get_mut(id)) {
            (Some(target), Some(group)) => {
                let came = target.dependencies.difference(&original.dependencies);
                for dependency in came {
                    group.dependencies.remove(dependency);
                }
                let went = original.dependencies.difference(&target.dependencies);
                group.dependencies.extend(went.cloned());
                if group.enforce_role == target.enforce_role {
                    group.enforce_role = original.enforce_role;
                }
            }
            (None, Some(group)) => group.dependencies.extend(original.dependencies.clone()),
            (None, None) => {
                root.groups.insert(id.clone(), original.clone());
                root.ensure_group(id, version, false);
            }
            // Somebody else removed it.
            (Some(_), None) => {}
        }
    }
    let targets = plan.target.groups.iter();
    let added = targets.filter(|(id, _)| !plan.original.groups.contains_key(*id));
    for (id, target) in added.rev() {
        let empty = root.apps_below(id).next().is_none() && root.groups_in(id).next().is_none();
        let Some(group) = root.groups.get_mut(id) else {
            continue;
        };
        let untouched =
            group.dependencies == target.dependencies && group.enforce_role == target.enforce_role;
        if empty && untouched {
            root.groups.remove(id);
        } else {
            for dependency in &target.dependencies {
                group.dependencies.remove(dependency);
            }
        }
    }
}
