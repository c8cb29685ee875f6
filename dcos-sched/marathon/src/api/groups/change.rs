//! What a group's document does to the tree.

use std::sync::Arc;

use crate::core::Change;
use crate::model::{GroupUpdate, RootGroup};
use crate::{Error, PathId, normalize};

/// The tree with the group at `group` as `update` says.
///
/// `version` takes the subtree back, `scaleBy` multiplies instance numbers; otherwise lists that are
/// given replace what is there, and lists that are not given leave it.
pub(super) fn apply(
    change: &Change<'_>,
    group: &PathId,
    update: GroupUpdate,
) -> Result<RootGroup, Error> {
    let mut root = change.copy();
    if let Some(version) = update.version {
        let earlier = change
            .history
            .root_at(change.root, version)
            .ok_or_else(|| {
                Error::NotFound(format!(
                    "Group '{group}' does not exist in version {version}"
                ))
            })?;
        restore(&mut root, &earlier, group);
    } else if let Some(factor) = update.scale_by {
        scale(&mut root, group, factor);
    } else {
        put(change, &mut root, group, update)?;
    }
    Ok(root)
}

/// Puts the subtree of an earlier tree in the place of the present one; its apps are new versions.
fn restore(root: &mut RootGroup, earlier: &RootGroup, group: &PathId) {
    root.remove_group(group);
    let inside = |id: &PathId| id == group || id.is_below(group);
    for (id, known) in earlier.groups.iter().filter(|(id, _)| inside(id)) {
        root.groups.insert(id.clone(), known.clone());
    }
    for app in earlier.apps_below(group) {
        let mut app = (**app).clone();
        (app.version, app.version_info) = (root.version, None);
        root.put_app(app, root.version, false);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates and the factor is not negative"
)]
fn scale(root: &mut RootGroup, group: &PathId, factor: f64) {
    let ids: Vec<PathId> = root.apps_below(group).map(|app| app.id.clone()).collect();
    for id in ids {
        if let Some(app) = root.apps.get_mut(&id).map(Arc::make_mut) {
            app.instances = (f64::from(app.instances) * factor).ceil() as u32;
            (app.version, app.version_info) = (root.version, None);
        }
    }
}

fn put(
    change: &Change<'_>,
    root: &mut RootGroup,
    group: &PathId,
    update: GroupUpdate,
) -> Result<(), Error> {
    let enforce = change.config.new_group_enforce_role;
    root.ensure_group(group, root.version, enforce);
    if let Some(known) = root.groups.get_mut(group) {
        if let Some(dependencies) = update.dependencies {
            known.dependencies = dependencies.iter().map(|id| group.resolve(id)).collect();
        }
        if group.is_top_level() && update.enforce_role.is_some() {
            known.enforce_role = update.enforce_role;
        }
    }
    if let Some(apps) = update.apps {
        // Pods are no part of such a document, so they stay.
        let before: Vec<PathId> = root
            .apps_in(group)
            .filter(|app| !app.is_pod())
            .map(|app| app.id.clone())
            .collect();
        let mut kept = Vec::new();
        for app in apps {
            let id = group.resolve(app.id.as_deref().unwrap_or_default());
            crate::api::pods::taken(root, &id, false)?;
            let rules = change.rules(&id);
            let app = normalize::create(app, group, &rules, change.version)?;
            root.put_app(app, root.version, enforce);
            kept.push(id);
        }
        for gone in before.iter().filter(|id| !kept.contains(id)) {
            root.apps.remove(gone);
        }
    }
    if let Some(groups) = update.groups {
        let before: Vec<PathId> = root.groups_in(group).cloned().collect();
        let mut kept = Vec::new();
        for child in groups {
            let id = group.resolve(child.id.as_deref().unwrap_or_default());
            put(change, root, &id, child)?;
            kept.push(id);
        }
        for gone in before.iter().filter(|id| !kept.contains(id)) {
            root.remove_group(gone);
        }
    }
    Ok(())
}
