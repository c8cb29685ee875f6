//! The tree of groups, now and before, and what is on the way from one to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::{Fate, Report};
use super::specs::Specs;
use super::{MigrateError, Nodes, category, decode, moment, words};
use crate::core::{Row, Running, TreeChange, rows};
use crate::deployment::Plan;
use crate::model::{Group, RootGroup};
use crate::{PathId, Timestamp};

/// What is to be known of services with secrets.
const SECRETS: &str = "its secrets are references, which are left to the agents' secret resolver: what runs goes on, and new \
                       tasks fail on agents without one";

/// The tree in all its versions.
pub(super) struct Trees {
    roots: BTreeMap<Timestamp, Arc<RootGroup>>,
    present: Arc<RootGroup>,
    /// Apps and pods that are wanted but cannot be taken over, and why.
    pub(super) left: BTreeMap<PathId, String>,
}

impl Trees {
    pub(super) fn read(
        nodes: &Nodes,
        specs: &Specs,
        report: &mut Report,
    ) -> Result<Self, MigrateError> {
        let mut present = None;
        let mut earlier = Vec::new();
        for found in category(nodes, "group") {
            let is_present = found.path.split('/').count() == 4;
            let read = decode::<words::GroupDefinition>(found.data);
            let dated = read.and_then(|group| Ok((moment(&group.version)?, group)));
            match dated {
                Ok(dated) if is_present => present = Some(dated),
                Ok(dated) => earlier.push(dated),
                Err(why) if is_present => {
                    let node = found.path.to_owned();
                    return Err(MigrateError::Unreadable { node, why });
                }
                Err(why) => report.note(Fate::Left, format!("node {}", found.path), why),
            }
        }
        // A Marathon that never had an app has no tree.
        let mut left = BTreeMap::new();
        let (version, group) = present.unwrap_or_default();
        let present = Arc::new(root(version, &group, specs, &mut left));
        let mut roots = BTreeMap::new();
        for (version, group) in &earlier {
            let root = root(*version, group, specs, &mut BTreeMap::new());
            roots.insert(*version, Arc::new(root));
        }
        // What holds now is the last version, whatever was written beside it.
        roots.retain(|known, _| *known < version);
        roots.insert(version, Arc::clone(&present));
        Ok(Self {
            roots,
            present,
            left,
        })
    }

    /// The rows of groups, apps and their versions.
    pub(super) fn write(&self, specs: &Specs, rows: &mut Vec<Row>, report: &mut Report) {
        let root = &self.present;
        rows.push(rows::root(root.version));
        rows.extend(
            root.groups
                .iter()
                .map(|(id, group)| rows::group(id, Some(group))),
        );
        report.take(
            "groups",
            root.groups.keys().filter(|id| !id.is_root()).count(),
        );
        for (id, app) in &root.apps {
            rows.push(rows::wanted(id, Some(app.version)));
            report.take(if app.is_pod() { "pods" } else { "apps" }, 1);
            let secrets = app.pod.as_ref().map_or(&app.secrets, |pod| &pod.secrets);
            if !secrets.is_empty() {
                report.note(Fate::Changed, named(app.is_pod(), id), SECRETS);
            }
            if let Some(fields) = specs.changed.get(&(id.clone(), app.version)) {
                let why = format!("not as it stood: {}", fields.join(", "));
                report.note(Fate::Changed, named(app.is_pod(), id), why);
            }
        }
        for (id, why) in &self.left {
            report.note(Fate::Left, format!("service {id}"), why);
        }
        for (id, refused) in &specs.refused {
            let versions: Vec<_> = refused.keys().map(ToString::to_string).collect();
            // Where only the node is known, it is noted already.
            let last = refused
                .last_key_value()
                .filter(|(version, _)| **version != Timestamp::default());
            if let Some((_, why)) = last.filter(|_| !self.left.contains_key(id)) {
                let what = format!("earlier versions of {id}: {}", versions.join(", "));
                report.note(Fate::Left, what, why);
            }
        }
        let all = specs.known.values().flat_map(BTreeMap::values);
        rows.extend(all.map(|app| rows::spec(app)));
        for (before, after) in self.roots.values().zip(self.roots.values().skip(1)) {
            let change = TreeChange::between(before, after);
            rows.push(rows::change(after.version, &change));
            report.take("versions of the tree", 1);
        }
    }

    /// The rows of deployments under way.
    pub(super) fn write_deployments(
        &self,
        nodes: &Nodes,
        rows: &mut Vec<Row>,
        report: &mut Report,
    ) {
        for found in category(nodes, "deployment") {
            let plan = decode::<words::DeploymentPlan>(found.data);
            let ends = plan.and_then(|plan| {
                let version = moment(&plan.target)?;
                let target = self.roots.get(&version);
                // From the tree before it, as our rows of deployments mean it.
                let original = self.roots.range(..version).next_back();
                let (Some(target), Some((_, original))) = (target, original) else {
                    return Err(format!(
                        "the tree of version {version}, or that before it, is not kept any more"
                    ));
                };
                Ok((plan.id, original, target))
            });
            match ends {
                Ok((id, original, target)) => {
                    let (original, target) = (Arc::clone(original), Arc::clone(target));
                    let (kill, found) = (BTreeMap::new(), BTreeMap::new());
                    let plan = Plan::new(id, original, target, &kill, &found);
                    rows.push(rows::deployment(&Running::begun(
                        Arc::new(plan),
                        (kill, BTreeMap::new()),
                        found,
                    )));
                }
                Err(why) => left(found.id, &why, report),
            }
        }
    }
}

/// Notes that a deployment is not taken over, and what that means.
pub(super) fn left(deployment: &str, why: &str, report: &mut Report) {
    let why = format!(
        "{why}; what it wants is taken over, and as many instances as it wants will run, but those of an earlier \
         configuration stay until their app is changed or scaled, which replaces them"
    );
    report.note(Fate::Left, format!("deployment {deployment}"), why);
}

fn named(pod: bool, id: &PathId) -> String {
    let kind = if pod { "pod" } else { "app" };
    format!("{kind} {id}")
}

/// The tree a group's definition means; what is missing goes to `left`.
fn root(
    version: Timestamp,
    group: &words::GroupDefinition,
    specs: &Specs,
    left: &mut BTreeMap<PathId, String>,
) -> RootGroup {
    let mut root = RootGroup {
        version,
        ..RootGroup::default()
    };
    add(group, &mut root, specs, left);
    root
}

fn add(
    definition: &words::GroupDefinition,
    root: &mut RootGroup,
    specs: &Specs,
    left: &mut BTreeMap<PathId, String>,
) {
    let id = PathId::from_safe(&definition.id);
    let dependencies = definition.dependencies.iter();
    let group = Group {
        dependencies: dependencies.map(|id| PathId::from_safe(id)).collect(),
        enforce_role: definition.enforce_role.filter(|_| id.is_top_level()),
        version: moment(&definition.version).unwrap_or(root.version),
    };
    root.groups.insert(id, group);
    for reference in definition.apps.iter().chain(&definition.pods) {
        let id = PathId::from_safe(&reference.id);
        let version = moment(&reference.version);
        let found = version.and_then(|version| {
            let spec = specs.spec(&id, version);
            spec.ok_or_else(|| specs.reason(&id, version))
        });
        match found {
            Ok(app) => {
                root.apps.insert(id, Arc::clone(app));
            }
            Err(why) => {
                left.insert(id, why);
            }
        }
    }
    for group in &definition.groups {
        add(group, root, specs, left);
    }
}
