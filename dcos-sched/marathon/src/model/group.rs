//! Groups: the tree apps live in, held flat.
//!
//! Two ordered maps keyed by absolute path answer what a tree would, with range scans. Their copies share all that was
//! not changed: neither a copy nor [`RootGroup::differences`] costs more for it.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};

use super::{App, AppUpdate};
use crate::{PathId, Timestamp};

/// What is known of a group beside the apps and groups in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Apps and groups everything in it depends on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub dependencies: BTreeSet<PathId>,
    /// Whether new services take the group's name as role; top-level groups only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce_role: Option<bool>,
    /// When it last changed.
    #[serde(default)]
    pub version: Timestamp,
}

/// The whole tree.
#[derive(Clone, Debug, PartialEq)]
pub struct RootGroup {
    /// When it last changed.
    pub version: Timestamp,
    /// All groups, the root included.
    pub groups: OrdMap<PathId, Group>,
    /// All apps and pods.
    pub apps: OrdMap<PathId, Arc<App>>,
}

impl Default for RootGroup {
    fn default() -> Self {
        Self {
            version: Timestamp::default(),
            groups: OrdMap::unit(PathId::root(), Group::default()),
            apps: OrdMap::new(),
        }
    }
}

impl RootGroup {
    /// The app or pod with this id.
    pub fn app(&self, id: &PathId) -> Option<&Arc<App>> {
        self.apps.get(id)
    }

    /// The apps and pods that are not the same in `after`, in order, with what each is here and there. What the two trees
    /// share is not looked at.
    pub fn differences<'a>(
        &'a self,
        after: &'a Self,
    ) -> impl Iterator<Item = (&'a PathId, Option<&'a Arc<App>>, Option<&'a Arc<App>>)> {
        differences(&self.apps, &after.apps)
    }

    /// The app with this id, if it is not a pod.
    pub fn plain_app(&self, id: &PathId) -> Option<&Arc<App>> {
        self.app(id).filter(|app| !app.is_pod())
    }

    /// All apps that are not pods.
    pub fn plain_apps(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.values().filter(|app| !app.is_pod())
    }

    /// All apps and pods in `group` and the groups below it.
    pub fn apps_below<'a>(&'a self, group: &'a PathId) -> impl Iterator<Item = &'a Arc<App>> {
        below(&self.apps, group).map(|(_, app)| app)
    }

    /// The apps and pods directly in `group`.
    pub fn apps_in<'a>(&'a self, group: &'a PathId) -> impl Iterator<Item = &'a Arc<App>> {
        self.apps_below(group)
            .filter(move |app| app.id.parent() == *group)
    }

    /// The groups directly in `group`.
    pub fn groups_in<'a>(&'a self, group: &'a PathId) -> impl Iterator<Item = &'a PathId> {
        below(&self.groups, group)
            .map(|(id, _)| id)
            .filter(move |id| id.parent() == *group)
    }

    /// Makes sure `group` and all groups above it exist.
    pub fn ensure_group(&mut self, group: &PathId, version: Timestamp, enforce_role: bool) {
        for id in group.ancestors() {
            let top = id.is_top_level();
            self.groups.entry(id).or_insert_with(|| Group {
                enforce_role: top.then_some(enforce_role),
                version,
                ..Group::default()
            });
        }
    }

    /// Adds or replaces an app; groups above it are made, an empty group of its name goes.
    pub fn put_app(&mut self, app: App, version: Timestamp, enforce_role: bool) {
        if self.apps_below(&app.id).next().is_none() && self.groups_in(&app.id).next().is_none() {
            self.groups.remove(&app.id);
        }
        self.ensure_group(&app.id.parent(), version, enforce_role);
        self.apps.insert(app.id.clone(), Arc::new(app));
    }

    /// Removes a group and everything in it; the root stays, empty.
    pub fn remove_group(&mut self, group: &PathId) {
        let apps = self.apps_below(group).map(|app| app.id.clone());
        for id in apps.chain([group.clone()]).collect::<Vec<_>>() {
            self.apps.remove(&id);
        }
        let groups = below(&self.groups, group).map(|(id, _)| id.clone());
        for id in groups.chain([group.clone()]).collect::<Vec<_>>() {
            if !id.is_root() {
                self.groups.remove(&id);
            }
        }
    }
}

/// What two maps do not have alike, in order of the keys, with what each has there.
pub(crate) fn differences<'a, V: PartialEq>(
    before: &'a OrdMap<PathId, V>,
    after: &'a OrdMap<PathId, V>,
) -> impl Iterator<Item = (&'a PathId, Option<&'a V>, Option<&'a V>)> {
    before.diff(after).map(|item| match item {
        DiffItem::Add(id, new) => (id, None, Some(new)),
        DiffItem::Remove(id, old) => (id, Some(old), None),
        DiffItem::Update {
            old: (id, old),
            new: (_, new),
        } => (id, Some(old), Some(new)),
    })
}

/// The entries strictly below `group`.
fn below<'a, V>(
    map: &'a OrdMap<PathId, V>,
    group: &'a PathId,
) -> impl Iterator<Item = (&'a PathId, &'a V)> {
    map.range::<_, PathId>((Bound::Excluded(group), Bound::Unbounded))
        .take_while(move |(id, _)| id.as_str().starts_with(group.as_str()))
        .filter(move |(id, _)| id.is_below(group))
}

/// A group as users send it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupUpdate {
    /// Its path, absolute or relative to where it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// All apps directly in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<AppUpdate>>,
    /// All groups directly in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupUpdate>>,
    /// Apps and groups everything in it depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Vec<String>>,
    /// Multiply all instance numbers by this, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_by: Option<f64>,
    /// Go back to this version, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Timestamp>,
    /// Whether new services take the group's name as role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce_role: Option<bool>,
}
