//! `/state-summary`: what dashboards poll.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use dcos_proto::json::JsonEnum as _;
use dcos_proto::mesos::{AgentId, FrameworkId, Task, TaskState};
use serde_json::{Value, json};

use super::json::{self, Object};
use super::{Api, reads};
use crate::master::Snapshot;

/// The states that are counted; the finer ones a partition-aware framework sees are not.
const COUNTED: [TaskState; 10] = [
    TaskState::TaskStaging,
    TaskState::TaskStarting,
    TaskState::TaskRunning,
    TaskState::TaskKilling,
    TaskState::TaskFinished,
    TaskState::TaskKilled,
    TaskState::TaskFailed,
    TaskState::TaskLost,
    TaskState::TaskError,
    TaskState::TaskUnreachable,
];

/// Tasks by state.
#[derive(Default)]
struct Counts(BTreeMap<TaskState, u64>);

impl Counts {
    fn add(&mut self, task: &Task) {
        *self.0.entry(task.state()).or_default() += 1;
    }

    fn write(&self, object: &mut Object) {
        for state in COUNTED {
            let count = self.0.get(&state).copied().unwrap_or(0);
            object.insert(state.name().to_owned(), count.into());
        }
    }
}

pub(super) async fn state_summary(State(api): State<Api>, uri: Uri) -> Response {
    reads::read(&api, &uri, |snapshot, config, _| {
        let mut summary = summary(snapshot);
        if let (Some(cluster), Value::Object(object)) = (&config.cluster, &mut summary) {
            object.insert("cluster".to_owned(), cluster.clone().into());
        }
        summary
    })
    .await
}

fn summary(snapshot: &Snapshot) -> Value {
    let mut by_agent: BTreeMap<&AgentId, (Counts, BTreeSet<&FrameworkId>)> = BTreeMap::new();
    let mut by_framework: BTreeMap<&FrameworkId, (Counts, BTreeSet<&AgentId>)> = BTreeMap::new();
    for (id, framework) in &snapshot.frameworks {
        let ended = framework
            .completed_tasks
            .iter()
            .chain(&framework.unreachable_tasks);
        for task in framework.tasks.values().chain(ended) {
            let (counts, frameworks) = by_agent.entry(&task.agent_id).or_default();
            counts.add(task);
            frameworks.insert(id);
            let (counts, agents) = by_framework.entry(id).or_default();
            counts.add(task);
            agents.insert(&task.agent_id);
        }
    }
    let agents: Vec<Value> = snapshot
        .agents
        .iter()
        .map(|(id, agent)| {
            let mut object = json::agent(snapshot, agent, false);
            let (counts, frameworks) = by_agent.remove(id).unwrap_or_default();
            counts.write(&mut object);
            let frameworks: Vec<&str> = frameworks.into_iter().map(FrameworkId::as_str).collect();
            object.insert("framework_ids".to_owned(), frameworks.into());
            object.into()
        })
        .collect();
    let frameworks: Vec<Value> = snapshot
        .frameworks
        .iter()
        .map(|(id, framework)| {
            let mut object = json::framework_head(snapshot, framework);
            let (counts, agents) = by_framework.remove(id).unwrap_or_default();
            counts.write(&mut object);
            let agents: Vec<&str> = agents.into_iter().map(AgentId::as_str).collect();
            object.insert("slave_ids".to_owned(), agents.into());
            object.into()
        })
        .collect();
    json!({
        "hostname": snapshot.settings.info.hostname,
        "slaves": agents,
        "frameworks": frameworks,
    })
}
