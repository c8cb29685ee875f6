//! The way from one tree to another: plans of steps, and what each step asks of an app's instances.
//!
//! [`Plan`] is what Marathon shows in `/v2/deployments`. It is not a script that has been carried out up
//! to some line: `drive::decide` compares the instances there are with the current step each time
//! something changes, so that a plan taken up after a crash goes on where the instances are.

pub mod drive;
mod graph;
mod revert;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::instance::InstanceId;
use crate::model::{App, RootGroup};
use crate::{PathId, Timestamp};

pub use graph::layers;
use graph::layers_of;
pub(crate) use graph::makes_cycle;
pub use revert::revert;

/// What one step does to one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The app.
    pub app: PathId,
    /// What happens to it.
    pub kind: ActionKind,
    /// Whether it is a pod.
    pub pod: bool,
}

impl Action {
    /// The name in documents.
    pub fn name(&self) -> &'static str {
        match (&self.kind, self.pod) {
            (ActionKind::Start, false) => "StartApplication",
            (ActionKind::Stop, false) => "StopApplication",
            (ActionKind::Scale { .. }, false) => "ScaleApplication",
            (ActionKind::Restart, false) => "RestartApplication",
            (ActionKind::Start, true) => "StartPod",
            (ActionKind::Stop, true) => "StopPod",
            (ActionKind::Scale { .. }, true) => "ScalePod",
            (ActionKind::Restart, true) => "RestartPod",
        }
    }

    /// The form in documents.
    pub fn to_json(&self) -> Value {
        let what = if self.pod { "pod" } else { "app" };
        json!({"action": self.name(), what: self.app})
    }
}

/// What happens to an app in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// It begins to exist; its instances come with a later [`ActionKind::Scale`].
    Start,
    /// All instances are killed.
    Stop,
    /// Instances are launched or killed until there are `to`.
    Scale {
        /// How many there shall be.
        to: u32,
        /// These are killed in any case.
        kill: BTreeSet<InstanceId>,
        /// As many new ones must be ready for it to end. How those are that were there before is no matter of its.
        fresh: u32,
    },
    /// Instances of other configurations are replaced, within the app's upgrade strategy.
    Restart,
}

/// Actions that happen side by side.
pub type Step = Vec<Action>;

/// What a plan finds of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How many instances there are that are not meant to go.
    pub staying: u32,
    /// Some of them are of another configuration than the target's: an upgrade was ended half-way.
    pub outdated: bool,
}

/// What a plan finds, of the apps that do not simply have as many instances as its original wants.
pub type Findings = BTreeMap<PathId, Found>;

/// A deployment: two trees and the steps between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its name.
    pub id: String,
    /// The version of the target.
    pub version: Timestamp,
    /// Where it starts.
    pub original: Arc<RootGroup>,
    /// Where it leads.
    pub target: Arc<RootGroup>,
    /// The way.
    pub steps: Vec<Step>,
    affected: BTreeSet<PathId>,
}

impl Plan {
    /// Plans the way from `original` to `target`; `kill` names instances that go in any case, `found` says what there is.
    pub fn new(
        id: String,
        original: Arc<RootGroup>,
        target: Arc<RootGroup>,
        kill: &BTreeMap<PathId, BTreeSet<InstanceId>>,
        found: &Findings,
    ) -> Self {
        let steps = steps(&original, &target, kill, found);
        let affected = steps.iter().flatten().map(|action| action.app.clone());
        Self {
            id,
            version: target.version,
            original,
            target,
            affected: affected.collect(),
            steps,
        }
    }

    /// What `step` does to `app`. The actions of a step stand in the order of their apps, one each.
    pub(crate) fn action(&self, step: usize, app: &PathId) -> Option<&Action> {
        let step = self.steps.get(step)?;
        let at = step.binary_search_by(|action| action.app.cmp(app)).ok()?;
        Some(&step[at])
    }

    /// The apps it changes.
    pub fn affected(&self) -> &BTreeSet<PathId> {
        &self.affected
    }

    /// The apps it changes and the pods it changes, apart.
    pub fn affected_by_kind(&self) -> (BTreeSet<&PathId>, BTreeSet<&PathId>) {
        let of = |pod| {
            let actions = self.steps.iter().flatten();
            actions
                .filter(move |action| action.pod == pod)
                .map(|action| &action.app)
                .collect()
        };
        (of(false), of(true))
    }

    /// The definition an action is about: the target's, or the original's if the app goes.
    pub fn spec(&self, app: &PathId) -> Option<&Arc<App>> {
        self.target.app(app).or_else(|| self.original.app(app))
    }

    /// The form in events.
    pub fn to_json(&self) -> Value {
        let steps: Vec<_> = self.steps.iter().map(|step| step_to_json(step)).collect();
        json!({"id": self.id, "version": self.version, "steps": steps})
    }
}

/// The form of a step in documents.
pub fn step_to_json(step: &[Action]) -> Value {
    let actions: Vec<_> = step.iter().map(Action::to_json).collect();
    json!({"actions": actions})
}

/// First everything that goes, then the names of what comes, then layer by layer what changes.
fn steps(
    original: &RootGroup,
    target: &RootGroup,
    kill: &BTreeMap<PathId, BTreeSet<InstanceId>>,
    found: &Findings,
) -> Vec<Step> {
    let differences: Vec<_> = original.differences(target).collect();
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for (_, before, after) in &differences {
        match (before, after) {
            (Some(app), None) => gone.push(*app),
            (None, Some(app)) => new.push(*app),
            _ => {}
        }
    }
    let action = |app: &Arc<App>, kind| Action {
        app: app.id.clone(),
        kind,
        pod: app.is_pod(),
    };
    let mut steps = vec![
        gone.into_iter()
            .map(|app| action(app, ActionKind::Stop))
            .collect(),
        new.into_iter()
            .map(|app| action(app, ActionKind::Start))
            .collect::<Step>(),
    ];
    let touched = differences.iter().map(|(id, ..)| *id).chain(kill.keys());
    let changed: BTreeMap<&PathId, ActionKind> = touched
        .filter_map(|id| {
            let new = target.app(id)?;
            let old = original.app(id);
            Some((id, change(old, new, kill.get(id), found.get(id))?))
        })
        .collect();
    let layers = layers_of(target, changed.keys().copied()).unwrap_or_default();
    let mut by_layer: BTreeMap<usize, Step> = BTreeMap::new();
    for (id, kind) in changed {
        let layer = layers.get(id).copied().unwrap_or_default();
        by_layer.entry(layer).or_default().push(Action {
            app: id.clone(),
            kind,
            pod: target.app(id).is_some_and(|app| app.is_pod()),
        });
    }
    steps.extend(by_layer.into_values());
    steps.retain(|step| !step.is_empty());
    steps
}

fn change(
    old: Option<&Arc<App>>,
    new: &Arc<App>,
    kill: Option<&BTreeSet<InstanceId>>,
    found: Option<&Found>,
) -> Option<ActionKind> {
    let staying = found.map_or(old.map_or(0, |old| old.instances), |found| found.staying);
    let scale = |kill: Option<&BTreeSet<InstanceId>>| ActionKind::Scale {
        to: new.instances,
        kill: kill.cloned().unwrap_or_default(),
        fresh: new.instances.saturating_sub(staying),
    };
    let outdated = found.is_some_and(|found| found.outdated) && new.instances > 0;
    let Some(old) = old else {
        return Some(if outdated {
            ActionKind::Restart
        } else {
            scale(None)
        });
    };
    if Arc::ptr_eq(old, new) && kill.is_none_or(BTreeSet::is_empty) {
        return None;
    }
    let same_config = old.config_version() == new.config_version();
    if same_config && old.instances == new.instances && kill.is_none_or(BTreeSet::is_empty) {
        None
    } else if (same_config && !outdated) || new.instances == 0 {
        Some(scale(kill))
    } else {
        Some(ActionKind::Restart)
    }
}

#[cfg(test)]
mod tests;
