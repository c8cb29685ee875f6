//! The v0 endpoints that read, and `/teardown`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dcos_proto::json::{Dialect, JsonEnum as _, to_value};
use dcos_proto::mesos::FrameworkId;
use dcos_wire::{Refusal, reply};
use serde_json::{Map, Value, json};

use super::json::{self, Object};
use super::{Api, answer, only, views};
use crate::master::shell::Command;
use crate::master::{Config, Snapshot};

/// The parameters of a query or a form.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| decoded(value))
    })
}

/// Undoes percent-encoding; what isn't such stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                result.push(byte);
                at += 2;
            }
            (b'+', _) => result.push(b' '),
            (byte, _) => result.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&result).into_owned()
}

/// Answers with what `build` makes of the state, written outside the core's loop. As in Mesos, any
/// method reads.
pub(super) async fn read<F>(api: &Api, uri: &Uri, build: F) -> Response
where
    F: FnOnce(&Snapshot, &Config, Option<&str>) -> Value + Send + 'static,
{
    let result = async {
        let snapshot = api.snapshot().await?;
        let (config, query) = (Arc::clone(&api.config), uri.query().map(ToOwned::to_owned));
        let asked = query.clone();
        let written = tokio::task::spawn_blocking(move || {
            build(&snapshot, &config, asked.as_deref()).to_string()
        });
        let written = written
            .await
            .map_err(|_| Refusal::unavailable("The answer could not be written"))?;
        reply::jsonp(query.as_deref(), written)
    };
    result.await.unwrap_or_else(IntoResponse::into_response)
}

pub(super) async fn state(State(api): State<Api>, uri: Uri) -> Response {
    read(&api, &uri, |snapshot, config, _| whole(snapshot, config)).await
}

fn whole(snapshot: &Snapshot, config: &Config) -> Value {
    let info = &snapshot.settings.info;
    let mut object = version_object();
    let leader = json!({
        "id": info.id,
        "pid": info.pid,
        "port": info.port,
        "hostname": info.hostname,
    });
    let capabilities: Vec<&str> = info
        .capabilities
        .iter()
        .map(|capability| capability.r#type().name())
        .collect();
    let active = snapshot
        .agents
        .values()
        .filter(|agent| agent.active)
        .count();
    let values = json!({
        "start_time": snapshot.started.as_secs_f64(),
        "elected_time": snapshot.started.as_secs_f64(),
        "id": info.id,
        "pid": info.pid,
        "hostname": info.hostname,
        "capabilities": capabilities,
        "activated_slaves": active,
        "deactivated_slaves": snapshot.agents.len() - active,
        "unreachable_slaves": snapshot.unreachable.len(),
        "leader": info.pid,
        "leader_info": leader,
        "flags": config.flags,
        "slaves": agents(snapshot, None, false),
        "recovered_slaves": recovered_agents(snapshot, None),
        "frameworks": frameworks_of(snapshot, None),
        "completed_frameworks": completed(snapshot, None),
        "orphan_tasks": [],
        "unregistered_frameworks": [],
    });
    if let Value::Object(values) = values {
        object.extend(values);
    }
    if let Some(domain) = &info.domain {
        object.insert("domain".to_owned(), to_value(domain, Dialect::V0));
    }
    if let Some(cluster) = &config.cluster {
        object.insert("cluster".to_owned(), cluster.clone().into());
    }
    if let Some(log) = &config.log_file {
        object.insert(
            "external_log_file".to_owned(),
            log.display().to_string().into(),
        );
    }
    object.into()
}

fn version_object() -> Object {
    match to_value(&views::version(), Dialect::V0) {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn agents(snapshot: &Snapshot, id: Option<&str>, whole: bool) -> Value {
    let wanted = snapshot
        .agents
        .iter()
        .filter(|(agent, _)| id.is_none_or(|id| id == agent.value));
    wanted
        .map(|(_, agent)| Value::from(json::agent(snapshot, agent, whole)))
        .collect()
}

fn recovered_agents(snapshot: &Snapshot, id: Option<&str>) -> Value {
    let wanted = snapshot
        .recovered_agents
        .iter()
        .filter(|(agent, _)| id.is_none_or(|id| id == agent.value));
    wanted
        .map(|(_, info)| Value::from(json::agent_info(info)))
        .collect()
}

fn frameworks_of(snapshot: &Snapshot, id: Option<&str>) -> Value {
    let wanted = snapshot
        .frameworks
        .iter()
        .filter(|(framework, _)| id.is_none_or(|id| id == framework.value));
    wanted
        .map(|(_, framework)| Value::from(json::framework(snapshot, framework)))
        .collect()
}

fn completed(snapshot: &Snapshot, id: Option<&str>) -> Value {
    let wanted = snapshot
        .completed
        .iter()
        .filter(|framework| id.is_none_or(|id| id == framework.id().value));
    wanted
        .map(|framework| Value::from(json::framework(snapshot, framework)))
        .collect()
}

pub(super) async fn slaves(State(api): State<Api>, uri: Uri) -> Response {
    read(&api, &uri, |snapshot, _, query| {
        let id = parameter(query, "slave_id");
        json!({
            "slaves": agents(snapshot, id.as_deref(), true),
            "recovered_slaves": recovered_agents(snapshot, id.as_deref()),
        })
    })
    .await
}

pub(super) async fn frameworks(State(api): State<Api>, uri: Uri) -> Response {
    read(&api, &uri, |snapshot, _, query| {
        let id = parameter(query, "framework_id");
        json!({
            "frameworks": frameworks_of(snapshot, id.as_deref()),
            "completed_frameworks": completed(snapshot, id.as_deref()),
            "unregistered_frameworks": [],
        })
    })
    .await
}

/// How many tasks `/tasks` shows unless asked for more.
const TASKS_PAGE: usize = 100;

pub(super) async fn tasks(State(api): State<Api>, uri: Uri) -> Response {
    for name in ["limit", "offset"] {
        if let Some(text) = parameter(uri.query(), name)
            && text.parse::<usize>().is_err()
        {
            let text =
                format!("Failed to parse query '{name}': Failed to convert '{text}' to number");
            return Refusal::bad_request(text).into_response();
        }
    }
    read(&api, &uri, |snapshot, _, query| {
        let number =
            |name: &str| parameter(query, name).and_then(|text| text.parse::<usize>().ok());
        let framework = parameter(query, "framework_id");
        let task = parameter(query, "task_id");
        let mut listed: Vec<_> = snapshot
            .frameworks
            .values()
            .chain(&snapshot.completed)
            .filter(|known| framework.as_ref().is_none_or(|id| *id == known.id().value))
            .flat_map(|known| {
                let ended = known.completed_tasks.iter().chain(&known.unreachable_tasks);
                known.tasks.values().chain(ended)
            })
            .filter(|known| task.as_ref().is_none_or(|id| *id == known.task_id.value))
            .collect();
        // By when they were first heard of; those nobody has heard of yet stand last.
        listed.sort_by(|one, other| {
            let since = |task: &dcos_proto::mesos::Task| {
                task.statuses
                    .first()
                    .and_then(|status| status.timestamp)
                    .unwrap_or(f64::MAX)
            };
            since(one).total_cmp(&since(other))
        });
        if parameter(query, "order").as_deref() != Some("asc") {
            listed.reverse();
        }
        let page = listed.into_iter().skip(number("offset").unwrap_or(0));
        let page = page.take(number("limit").unwrap_or(TASKS_PAGE));
        json!({ "tasks": json::tasks(page.map(|task| &**task)) })
    })
    .await
}

pub(super) async fn roles(State(api): State<Api>, uri: Uri) -> Response {
    read(&api, &uri, |snapshot, _, _| {
        let roles: Vec<Value> = views::used_roles(snapshot)
            .into_iter()
            .map(|(name, frameworks)| {
                role(
                    snapshot,
                    &name,
                    &frameworks
                        .into_iter()
                        .map(|id| id.value)
                        .collect::<Vec<_>>(),
                )
            })
            .collect();
        json!({ "roles": roles })
    })
    .await
}

fn role(snapshot: &Snapshot, name: &str, frameworks: &[String]) -> Value {
    let (used, offered) = views::role_resources(snapshot, name);
    let mut reserved = dcos_core::resources::Resources::default();
    for agent in snapshot.agents.values() {
        reserved += &agent.total.reserved(name);
    }
    let quantities = |resources: &dcos_core::resources::Resources| -> Object {
        resources
            .names()
            .into_iter()
            .map(|name| {
                let ports = resources.ranges(name).len();
                let amount = resources.scalar_quantities().get(name).as_f64();
                let amount = if ports > 0 {
                    ports.into()
                } else {
                    amount.into()
                };
                (name.to_owned(), amount)
            })
            .collect()
    };
    json!({
        "name": name,
        "weight": views::weight(snapshot, name),
        "quota": {
            "role": name,
            "guarantee": {},
            "limit": {},
            "consumed": quantities(&(&used + &reserved)),
        },
        "resources": json::resources(&(&used + &offered)),
        "allocated": quantities(&used),
        "offered": quantities(&offered),
        "reserved": quantities(&reserved),
        "frameworks": frameworks,
    })
}

pub(super) async fn weights(State(api): State<Api>, uri: Uri) -> Response {
    read(&api, &uri, |snapshot, _, _| {
        let weights = views::weights(snapshot).weight_infos;
        weights
            .iter()
            .map(|weight| to_value(weight, Dialect::V0))
            .collect()
    })
    .await
}

pub(super) async fn flags(State(api): State<Api>, uri: Uri) -> Response {
    read(&api, &uri, |_, config, _| json!({ "flags": config.flags })).await
}

pub(super) async fn version(State(api): State<Api>, uri: Uri) -> Response {
    read(&api, &uri, |_, _, _| version_object().into()).await
}

pub(super) async fn teardown(State(api): State<Api>, method: Method, content: Bytes) -> Response {
    if let Err(refused) = only(&Method::POST, &method) {
        return *refused;
    }
    let form = String::from_utf8_lossy(&content);
    let Some(id) = parameter(Some(&form), "frameworkId") else {
        return Refusal::bad_request("Missing 'frameworkId' query parameter in the request body")
            .into_response();
    };
    let id = FrameworkId::from(id);
    match api.master.ask(|answer| Command::Teardown(id, answer)).await {
        Ok(done) => answer(done),
        Err(stopped) => Refusal::from(stopped).into_response(),
    }
}

/// Why frameworks are not offered what agents have; ours, not Mesos's.
pub(super) async fn explain(State(api): State<Api>, method: Method, uri: Uri) -> Response {
    if let Err(refused) = only(&Method::GET, &method) {
        return *refused;
    }
    let framework = parameter(uri.query(), "framework_id").map(FrameworkId::from);
    let role = parameter(uri.query(), "role");
    match api
        .master
        .ask(|answer| Command::Explain(framework, role, answer))
        .await
    {
        Ok(document) => reply::json(document.to_string()),
        Err(stopped) => Refusal::from(stopped).into_response(),
    }
}
