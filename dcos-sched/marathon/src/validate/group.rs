//! Rules for groups and for the tree as a whole.

use super::{Violations, fail, id};
use crate::error::Error;
use crate::model::{GroupUpdate, RootGroup, differences};
use crate::{PathId, deployment};

/// Rules for a change to a group at `base`; `modifies` says whether services change with it.
pub(crate) fn update(
    update: &GroupUpdate,
    base: &PathId,
    root: &RootGroup,
    modifies: bool,
) -> Result<(), Error> {
    let mut out = Vec::new();
    visit(update, base, root, modifies, "", &mut out);
    if out.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(out))
    }
}

fn visit(
    update: &GroupUpdate,
    base: &PathId,
    root: &RootGroup,
    modifies: bool,
    path: &str,
    out: &mut Violations,
) {
    let group = update
        .id
        .as_deref()
        .map_or_else(|| base.clone(), |id| base.resolve(id));
    let given = [
        update.id.is_some(),
        update.apps.is_some(),
        update.groups.is_some(),
        update.dependencies.is_some(),
        update.scale_by.is_some(),
        update.version.is_some(),
        update.enforce_role.is_some(),
    ];
    let given = given.iter().filter(|given| **given).count();
    for (used, field) in [
        (update.version.is_some(), "version"),
        (update.scale_by.is_some(), "scaleBy"),
    ] {
        if used && given > 1 {
            let text = "not allowed in conjunction with other properties.";
            fail(out, format!("{path}/{field}"), text);
        }
    }
    if update.id.is_some() && !group.is_root() {
        id(&group, &format!("{path}/id"), out);
    }
    if update.enforce_role == Some(true) && !group.is_top_level() {
        let text = format!(
            "enforceRole can only be set for top-level groups, and {group} is not top-level"
        );
        fail(out, format!("{path}/enforceRole"), text);
    }
    if modifies
        && update.enforce_role.is_some()
        && let Some(known) = root.groups.get(&group)
        && update.enforce_role != known.enforce_role
    {
        fail(
            out,
            format!("{path}/enforceRole"),
            "enforceRole cannot be modified in a request that adds, removes or modifies services; \
             please make these changes in separate requests.",
        );
    }
    for (index, app) in update.apps.iter().flatten().enumerate() {
        let app = group.resolve(app.id.as_deref().unwrap_or_default());
        if app.parent() != group {
            let text = format!("Identifier is not child of '{group}'");
            fail(out, format!("{path}/apps({index})/id"), text);
        }
    }
    for (index, child) in update.groups.iter().flatten().enumerate() {
        let path = format!("{path}/groups({index})");
        if child.id.is_none() {
            fail(out, format!("{path}/id"), "not defined");
        } else {
            visit(child, &group, root, modifies, &path, out);
        }
    }
}

/// Whether a change adds, removes or modifies services.
pub(crate) fn modifies_services(update: &GroupUpdate) -> bool {
    update.version.is_some()
        || update.scale_by.is_some()
        || update.apps.is_some()
        || update.groups.iter().flatten().any(modifies_services)
}

/// Rules for the tree as a whole, which was `before`.
pub(crate) fn root(before: &RootGroup, root: &RootGroup) -> Result<(), Error> {
    let mut out = Vec::new();
    if deployment::makes_cycle(before, root) {
        fail(&mut out, "/", "Dependency graph has cyclic dependencies.");
    }
    // An app below an app is found too: there is a group around it, of the upper one's name.
    let mut apps = before.differences(root).filter(|(_, _, new)| new.is_some());
    let mut groups = differences(&before.groups, &root.groups).filter(|(_, _, new)| new.is_some());
    if apps.any(|(id, ..)| root.groups.contains_key(id))
        || groups.any(|(id, ..)| root.apps.contains_key(id))
    {
        let text = "Groups and Applications may not have the same identifier.";
        fail(&mut out, "/", text);
    }
    super::external::root(before, root, &mut out);
    if out.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(out))
    }
}
