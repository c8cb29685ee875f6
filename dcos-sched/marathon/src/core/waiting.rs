//! What a deployment waits for.
//!
//! Nothing is kept for it: it follows from the picture readers have. An action that is not done lacks instances, which
//! wait to be launched, or has some that are not yet as it wants them. Deployments do not wait for each other: what is in
//! the way of one is refused, or ended by force, when it begins.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::{DeploymentView, History, View};
use crate::health::verdict;
use crate::instance::{Condition, Instance};
use crate::matching::Reason;
use crate::model::App;
use crate::{PathId, Timestamp};

/// How many instances are named of those that are waited for.
const NAMED: usize = 10;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Obstacle {
    /// A master: none is connected.
    Master,
    /// The end of the delay after failures.
    Backoff,
    /// Offers that suit.
    Offers,
    /// Agents that are out of reach.
    Agents,
    /// The end of instances that have to go.
    Kills,
    /// Tasks that were launched and do not run yet.
    Start,
    /// Health checks.
    Health,
    /// The readiness check.
    Readiness,
}

/// Instances of one app that wait for the same.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingFor {
    /// For what.
    pub what: Obstacle,
    /// How many there are.
    pub count: usize,
    /// The first of them, but for those that are yet to be launched.
    pub instances: Vec<Arc<Instance>>,
    /// Of [`Obstacle::Offers`]: by how many agents' last offers each reason came up, as far as those are remembered.
    pub refused: Vec<(Reason, u64)>,
    /// The constraints an offer must suit.
    pub constraints: Value,
    /// Since when launches wait.
    pub since: Option<Timestamp>,
    /// Of [`Obstacle::Backoff`]: its end.
    pub until: Option<Timestamp>,
}

impl WaitingFor {
    fn new(what: Obstacle, count: usize) -> Self {
        Self {
            what,
            count,
            instances: Vec::new(),
            refused: Vec::new(),
            constraints: Value::Null,
            since: None,
            until: None,
        }
    }

    /// The form in documents.
    pub fn to_json(&self, now: Timestamp) -> Value {
        let mut document = json!({"what": self.what, "count": self.count});
        if !self.instances.is_empty() {
            let ids: Vec<_> = self.instances.iter().map(|one| &one.id).collect();
            document["instances"] = json!(ids);
        }
        match self.what {
            Obstacle::Agents => {
                let hosts: std::collections::BTreeSet<_> =
                    self.instances.iter().map(|one| &one.agent.host).collect();
                document["hosts"] = json!(hosts);
            }
            Obstacle::Offers => {
                let refused = self
                    .refused
                    .iter()
                    .map(|(reason, agents)| json!({"reason": reason.name(), "agents": agents}));
                document["refused"] = refused.collect();
                document["constraints"] = self.constraints.clone();
            }
            _ => {}
        }
        if let Some(since) = self.since {
            document["since"] = json!(since);
        }
        if let Some(until) = self.until {
            document["timeLeftSeconds"] = json!(until.since(now).as_secs());
        }
        document
    }
}

impl View {
    /// What `app` waits for at `now`; nothing if it is as its deployment wants it.
    pub fn waiting_for(&self, app: &PathId, now: Timestamp) -> Vec<WaitingFor> {
        let mut all: Vec<WaitingFor> = self.launches(app, now).into_iter().collect();
        let mut known: std::collections::BTreeMap<Obstacle, WaitingFor> =
            std::collections::BTreeMap::new();
        for instance in self.instances_of(app) {
            let Some(what) = obstacle(&self.history, instance) else {
                continue;
            };
            let waiting = known
                .entry(what)
                .or_insert_with(|| WaitingFor::new(what, 0));
            waiting.count += 1;
            if waiting.instances.len() < NAMED {
                waiting.instances.push(Arc::clone(instance));
            }
        }
        all.extend(known.into_values());
        all
    }

    /// What keeps instances from being launched.
    fn launches(&self, app: &PathId, now: Timestamp) -> Option<WaitingFor> {
        let at = self.queue.binary_search_by(|item| item.spec.id.cmp(app));
        let item = self.queue.get(at.ok()?)?;
        let until = item.held_until.filter(|until| *until > now);
        let what = match until {
            Some(_) => Obstacle::Backoff,
            None if self.connected_since.is_none() => Obstacle::Master,
            None => Obstacle::Offers,
        };
        let stops = item.summary.last_offers().into_iter();
        let refused = stops.filter(|(_, stopped, _)| *stopped > 0);
        Some(WaitingFor {
            refused: refused
                .map(|(reason, agents, _)| (reason, agents))
                .collect(),
            constraints: json!(item.spec.constraints),
            since: Some(item.since),
            until,
            ..WaitingFor::new(what, item.count as usize)
        })
    }

    /// The same for the step a deployment is at, in words.
    pub(super) fn waits_in_words(&self, deployment: &DeploymentView, now: Timestamp) -> String {
        let mut words = String::new();
        let current = deployment.plan.steps.get(deployment.step);
        for action in current.into_iter().flatten() {
            for waiting in self.waiting_for(&action.app, now) {
                let separator = if words.is_empty() { "" } else { ", " };
                let (app, count) = (&action.app, waiting.count);
                let what = format!("{:?}", waiting.what).to_lowercase();
                let _ = write!(words, "{separator}{count} of {app} for {what}");
                if words.len() > 500 {
                    return words + ", ...";
                }
            }
        }
        words
    }
}

/// What an instance waits for, if it is none an action can do with.
fn obstacle(history: &History, instance: &Instance) -> Option<Obstacle> {
    if !instance.is_active() {
        return None;
    }
    if instance.condition.is_unreachable() {
        return Some(Obstacle::Agents);
    }
    if instance.is_leaving() || instance.kill || instance.condition == Condition::Killing {
        return Some(Obstacle::Kills);
    }
    lack(
        instance,
        history
            .spec(&instance.app, instance.version)
            .map(AsRef::as_ref),
    )
}

/// What an instance, launched as `spec` says, lacks to be ready: it runs, passes all checks, and is admitted by the readiness
/// check if there is one.
pub fn lack(instance: &Instance, spec: Option<&App>) -> Option<Obstacle> {
    if instance.condition != Condition::Running {
        return Some(Obstacle::Start);
    }
    let spec = spec?;
    let healthy = match spec.pod.as_deref() {
        Some(pod) => instance.pod_health(pod) == Some(true),
        None => spec.health_checks.is_empty() || verdict(spec, &instance.health) == Some(true),
    };
    if !healthy {
        return Some(Obstacle::Health);
    }
    let admitted = spec.pod.is_some()
        || spec.readiness_checks.is_empty()
        || instance.ready.as_ref().is_some_and(|ready| ready.ready);
    (!admitted).then_some(Obstacle::Readiness)
}
