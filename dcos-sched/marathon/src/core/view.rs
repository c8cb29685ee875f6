//! What readers see: a picture of one moment that shares everything with the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_core::time::Time;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::{Core, Counters, History, Instances, Limit, Running};
use crate::deployment::Plan;
use crate::engine::Registration;
use crate::instance::Instance;
use crate::model::{App, RootGroup};
use crate::queue::Summary;
use crate::{PathId, Timestamp};

/// Everything readers can ask for.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The tree users want.
    pub root: Arc<RootGroup>,
    /// Earlier versions.
    pub history: Arc<History>,
    /// All instances, by app.
    pub instances: OrdMap<PathId, Arc<BTreeMap<crate::instance::InstanceId, Arc<Instance>>>>,
    /// Deployments under way, oldest first.
    pub deployments: Vec<DeploymentView>,
    /// What waits to be launched.
    pub queue: Vec<QueueItem>,
    /// The last failure of each app.
    pub failures: OrdMap<PathId, Arc<TaskFailure>>,
    /// The framework's id.
    pub framework_id: Option<String>,
    /// All roles there are apps or instances of, and the default one.
    pub roles: BTreeSet<String>,
    /// How often things happened.
    pub counters: Counters,
    /// Since when a master is connected, if one is.
    pub connected_since: Option<Timestamp>,
    /// How many instances were asked to go and have not gone yet, and how often they were asked, in all.
    pub kills: (usize, u64),
    /// That master's address.
    pub master: Option<String>,
}

/// A deployment under way.
#[derive(Clone, Debug)]
pub struct DeploymentView {
    /// Its plan.
    pub plan: Arc<Plan>,
    /// The step it is at, from 0.
    pub step: usize,
    /// When it must have ended.
    pub limit: Option<Limit>,
}

impl From<&Running> for DeploymentView {
    fn from(running: &Running) -> Self {
        Self {
            plan: Arc::clone(&running.plan),
            step: running.step,
            limit: running.limit,
        }
    }
}

/// An app that waits to be launched.
#[derive(Clone, Debug)]
pub struct QueueItem {
    /// What is to be launched.
    pub spec: Arc<App>,
    /// How many.
    pub count: u32,
    /// Since when.
    pub since: Timestamp,
    /// Until when launches are held back.
    pub held_until: Option<Timestamp>,
    /// What became of offers.
    pub summary: Arc<Summary>,
}

/// How an app failed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskFailure {
    /// The app.
    pub app_id: PathId,
    /// Where.
    pub host: String,
    /// Why, in the agent's or executor's words.
    pub message: String,
    /// The state the task ended in.
    pub state: String,
    /// The task.
    pub task_id: String,
    /// When.
    pub timestamp: Timestamp,
    /// When the instance began to run; not shown of apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The version of the app.
    pub version: Timestamp,
    /// The agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slave_id: Option<String>,
}

impl Registration for View {
    fn framework_id(&self) -> Option<&str> {
        self.framework_id.as_deref()
    }

    fn roles(&self) -> &BTreeSet<String> {
        &self.roles
    }
}

impl View {
    /// The instances of an app.
    pub fn instances_of(&self, app: &PathId) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances
            .get(app)
            .into_iter()
            .flat_map(|instances| instances.values())
    }

    /// All instances.
    pub fn all_instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances
            .values()
            .flat_map(|instances: &Arc<Instances>| instances.values())
    }

    /// The definition an instance was launched with.
    pub fn spec_of(&self, instance: &Instance) -> Option<&Arc<App>> {
        self.history.spec(&instance.app, instance.version)
    }
}

impl Core {
    /// The picture of this moment.
    pub fn view(&self, now: Time) -> View {
        let now = Timestamp::from(now);
        let mut deployments: Vec<_> = self
            .deployments
            .values()
            .map(DeploymentView::from)
            .collect();
        deployments.sort_by_key(|deployment| deployment.plan.version);
        let queue = self.queue.entries().map(|entry| QueueItem {
            spec: Arc::clone(&entry.spec),
            count: entry.count,
            since: entry.since,
            held_until: self.queue.held_until(&entry.spec, now),
            summary: Arc::clone(&entry.summary),
        });
        View {
            root: Arc::clone(&self.root),
            history: Arc::clone(&self.history),
            instances: self.instances.clone(),
            deployments,
            queue: queue.collect(),
            failures: self.failures.clone(),
            framework_id: self.framework_id.as_ref().map(|id| id.value.clone()),
            roles: self.roles(),
            counters: self.counters,
            connected_since: self.subscription.connected_since(),
            kills: self.kills.sent(),
            master: self.subscription.master().cloned(),
        }
    }

    /// Launches of an app need not wait any longer; false if none waits.
    pub fn reset_delay(&mut self, app: &PathId) -> bool {
        let waits = self.queue.entry(app).is_some();
        if waits {
            self.queue.backoff().reset(app);
        }
        waits
    }
}
