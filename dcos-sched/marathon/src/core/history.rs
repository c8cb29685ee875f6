//! Earlier versions: of each app, and of the tree.
//!
//! The tree is not kept whole for each version. A version is what it changed, and an earlier tree is the
//! present one with later changes undone; the cost of a change is that of what it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::Row;
use super::rows;
use crate::model::{App, Group, RootGroup, differences};
use crate::{PathId, Timestamp};

/// How many versions of the tree are kept.
const KEPT_CHANGES: usize = 100;

/// Earlier versions of apps and of the tree.
#[derive(Clone, Debug, Default)]
pub struct History {
    specs: OrdMap<PathId, Arc<BTreeMap<Timestamp, Arc<App>>>>,
    changes: OrdMap<Timestamp, Arc<TreeChange>>,
}

/// What one change of the tree changed: before and after of each app and group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TreeChange {
    pub(super) previous: Timestamp,
    pub(super) apps: BTreeMap<PathId, (Option<Timestamp>, Option<Timestamp>)>,
    pub(super) groups: BTreeMap<PathId, (Option<Group>, Option<Group>)>,
}

impl TreeChange {
    pub(crate) fn between(before: &RootGroup, after: &RootGroup) -> Self {
        let mut change = Self {
            previous: before.version,
            ..Self::default()
        };
        for (id, old, new) in before.differences(after) {
            let version = |app: Option<&Arc<App>>| app.map(|app| app.version);
            if version(old) != version(new) {
                change.apps.insert(id.clone(), (version(old), version(new)));
            }
        }
        for (id, old, new) in differences(&before.groups, &after.groups) {
            change
                .groups
                .insert(id.clone(), (old.cloned(), new.cloned()));
        }
        change
    }
}

impl History {
    /// One version of an app.
    pub fn spec(&self, id: &PathId, version: Timestamp) -> Option<&Arc<App>> {
        self.specs.get(id)?.get(&version)
    }

    /// The versions of an app, newest first.
    pub fn versions(&self, id: &PathId) -> Vec<Timestamp> {
        self.specs
            .get(id)
            .into_iter()
            .flat_map(|versions| versions.iter())
            .rev()
            .map(|(version, _)| *version)
            .collect()
    }

    /// The versions of the tree that changed something in `group`, newest first.
    pub fn group_versions(&self, group: &PathId) -> Vec<Timestamp> {
        let inside = |id: &PathId| group.is_root() || id == group || id.is_below(group);
        self.changes
            .iter()
            .rev()
            .filter(|(_, change)| change.apps.keys().chain(change.groups.keys()).any(inside))
            .map(|(version, _)| *version)
            .collect()
    }

    /// The tree as it was at `version`.
    pub fn root_at(&self, present: &RootGroup, version: Timestamp) -> Option<RootGroup> {
        if version == present.version {
            return Some(present.clone());
        }
        let mut root = present.clone();
        for (at, change) in self.changes.range(version..).rev() {
            if *at == version {
                return Some(root);
            }
            self.undo(&mut root, change)?;
            if root.version == version {
                return Some(root);
            }
        }
        None
    }

    /// The tree before the change that made `version`.
    pub(super) fn root_before(&self, present: &RootGroup, version: Timestamp) -> Option<RootGroup> {
        let mut root = self.root_at(present, version)?;
        self.undo(&mut root, self.changes.get(&version)?)?;
        Some(root)
    }

    fn undo(&self, root: &mut RootGroup, change: &TreeChange) -> Option<()> {
        root.version = change.previous;
        for (id, (old, _)) in &change.apps {
            match old {
                Some(version) => {
                    root.apps
                        .insert(id.clone(), Arc::clone(self.spec(id, *version)?));
                }
                None => {
                    root.apps.remove(id);
                }
            }
        }
        for (id, (old, _)) in &change.groups {
            match old {
                Some(group) => root.groups.insert(id.clone(), group.clone()),
                None => root.groups.remove(id),
            };
        }
        Some(())
    }

    pub(super) fn add_spec(&mut self, app: Arc<App>) {
        let versions = self.specs.entry(app.id.clone()).or_default();
        Arc::make_mut(versions).insert(app.version, app);
    }

    pub(super) fn add_change(&mut self, version: Timestamp, change: TreeChange) {
        self.changes.insert(version, Arc::new(change));
    }

    /// Forgets what is too old, but nothing that `used` names or a kept change needs.
    pub(super) fn collect(
        &mut self,
        max_versions: usize,
        oldest_deployment: Option<Timestamp>,
        used: impl Fn(&PathId, Timestamp) -> bool,
    ) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut touched = BTreeSet::new();
        while self.changes.len() > KEPT_CHANGES {
            let Some(first) = self.changes.keys().next().copied() else {
                break;
            };
            if oldest_deployment.is_some_and(|oldest| oldest <= first) {
                break;
            }
            if let Some(change) = self.changes.remove(&first) {
                touched.extend(change.apps.keys().cloned());
                rows.push(Row::delete(rows::change_key(first)));
            }
        }
        if let Some((_, newest)) = self.changes.get_max() {
            touched.extend(newest.apps.keys().cloned());
        }
        for id in touched {
            let needed = self.needed(&id);
            let Some(versions) = self.specs.get_mut(&id).map(Arc::make_mut) else {
                continue;
            };
            let newest: BTreeSet<_> = versions.keys().rev().take(max_versions).copied().collect();
            let present = versions.keys().any(|version| used(&id, *version));
            versions.retain(|version, _| {
                let keep = used(&id, *version)
                    || needed.contains(version)
                    || (present && newest.contains(version));
                if !keep {
                    rows.push(Row::delete(rows::spec_key(&id, *version)));
                }
                keep
            });
            if versions.is_empty() {
                self.specs.remove(&id);
            }
        }
        rows
    }

    fn needed(&self, id: &PathId) -> BTreeSet<Timestamp> {
        let pairs = self
            .changes
            .values()
            .filter_map(|change| change.apps.get(id));
        pairs
            .flat_map(|(old, new)| old.iter().chain(new))
            .copied()
            .collect()
    }
}
