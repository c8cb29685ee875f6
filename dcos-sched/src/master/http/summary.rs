//! `/state-summary`: what dashboards poll.

use std::collections::{BTreeSet, HashMap};

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use dcos_proto::json::JsonEnum as _;
use dcos_proto::mesos::{AgentId, FrameworkId, TaskState};
use dcos_security::Caller;

use super::desk::Takes;
use super::documents::{Document, Writer};
use super::pieces::{Composer, Form};
use super::text::{self, Object, value};
use super::{Api, json, reads};
use crate::master::{StateCounts, TaskRecord};

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

fn write_counts(o: &mut Object<'_>, counts: &StateCounts) {
    for state in COUNTED {
        o.put(state.name(), counts.of(state));
    }
}

pub(super) async fn state_summary(
    State(api): State<Api>,
    caller: Caller,
    takes: Takes,
    uri: Uri,
) -> Response {
    reads::whole(&api, &caller, takes, &uri, Document::Summary).await
}

/// What runs on an agent: tasks by state, and whose.
#[derive(Default)]
struct OnAgent<'a> {
    counts: StateCounts,
    frameworks: BTreeSet<&'a FrameworkId>,
}

/// What a framework runs: tasks by state, and where.
#[derive(Default)]
struct OfFramework<'a> {
    counts: StateCounts,
    agents: BTreeSet<&'a AgentId>,
}

/// Writes the document.
pub(super) fn summary(from: &Writer<'_>, to: &mut Composer<'_>) {
    let snapshot = from.snapshot;
    let mut by_agent: HashMap<&AgentId, OnAgent<'_>> = HashMap::new();
    let mut by_framework = Vec::new();
    for (id, framework) in from.visible() {
        let mut own = OfFramework::default();
        let ended = framework.completed_tasks.iter();
        let ended = ended.chain(&framework.unreachable_tasks);
        let mut count = |task: &TaskRecord, place: &mut OnAgent<'_>| {
            place.counts.count(task.state());
            own.counts.count(task.state());
        };
        let mut agents = BTreeSet::new();
        for task in framework.tasks.values().chain(ended) {
            if !from.sight.task(task, &framework.info) {
                continue;
            }
            let place = by_agent.entry(task.agent_id()).or_default();
            count(task, place);
            if place.frameworks.insert(id) {
                agents.insert(task.agent_id());
            }
        }
        own.agents = agents;
        by_framework.push((framework, own));
    }
    to.text("{");
    to.fields(|o| {
        o.put("hostname", &snapshot.settings.info.hostname);
        o.put_some("cluster", from.config.cluster.as_ref());
    });
    to.open(",\"slaves\":[");
    to.each(&snapshot.agents, Form::V0, |out, (id, agent)| {
        let place = by_agent.remove(id).unwrap_or_default();
        text::object(out, |o| {
            json::agent(o, snapshot, from.sight, agent, false);
            write_counts(o, &place.counts);
            o.list("framework_ids", place.frameworks, |out, id| {
                value(out, &id.value);
            });
        });
    });
    to.open("],\"frameworks\":[");
    to.each(by_framework, Form::V0, |out, (framework, own)| {
        text::object(out, |o| {
            json::framework_head(o, snapshot, framework);
            write_counts(o, &own.counts);
            o.list("slave_ids", own.agents, |out, id| value(out, &id.value));
        });
    });
    to.text("]}");
}
