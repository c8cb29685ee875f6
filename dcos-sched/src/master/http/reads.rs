//! The v0 endpoints that read.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dcos_core::resources::Quantities;
use dcos_proto::json::{Dialect, to_value};
use dcos_proto::mesos::{AgentId, FrameworkId};
use dcos_security::{Action, Caller, Object};
use dcos_wire::{MediaType, Refusal, reply};
use serde_json::{Map, Value, json};

use super::desk::{Order, Takes};
use super::documents::{Document, Writer};
use super::pieces::Pieces;
use super::{Api, json, only, text, views};
use crate::master::breakdown::Held;
use crate::master::shell::Command;
use crate::master::{Config, Reader, Snapshot, TaskRecord};
use crate::why::Wish;

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

/// A small document as its handler makes it: a tree, or text that was written directly.
pub(super) trait Written {
    /// Its text.
    fn into_text(self) -> Bytes;
}

impl Written for Value {
    fn into_text(self) -> Bytes {
        self.to_string().into()
    }
}

impl Written for Vec<u8> {
    fn into_text(self) -> Bytes {
        self.into()
    }
}

/// Answers with what `build` makes of the state, written outside the core's loop. As in Mesos, any
/// method reads.
pub(super) async fn read<F, T>(api: &Api, uri: &Uri, build: F) -> Response
where
    F: FnOnce(&Snapshot, &Config, Option<&str>) -> T + Send + 'static,
    T: Written,
{
    let result = async {
        let _place = api.desk.place().await;
        let snapshot = api.snapshot().await?;
        let (config, query) = (Arc::clone(&api.config), uri.query().map(ToOwned::to_owned));
        let asked = query.clone();
        let written = tokio::task::spawn_blocking(move || {
            build(&snapshot, &config, asked.as_deref()).into_text()
        });
        let written = written
            .await
            .map_err(|_| Refusal::unavailable("The answer could not be written"))?;
        reply::jsonp(query.as_deref(), written)
    };
    result.await.unwrap_or_else(IntoResponse::into_response)
}

/// Answers with a large document.
pub(super) async fn whole(
    api: &Api,
    caller: &Caller,
    takes: Takes,
    uri: &Uri,
    document: Document,
) -> Response {
    let wrapped = parameter(uri.query(), "jsonp").is_some();
    let gzip = !wrapped && takes.gzip;
    let result = async {
        let sight = api.sight(caller);
        let order = Order {
            document,
            takes: Takes { gzip, ..takes },
            config: &api.config,
            sight: &sight,
        };
        let written = api.desk.document(order, &api.master).await?;
        if wrapped {
            return reply::jsonp(uri.query(), written.into_bytes().await?);
        }
        Ok(written.into_response(MediaType::Json, gzip))
    };
    result.await.unwrap_or_else(IntoResponse::into_response)
}

pub(super) async fn state(
    State(api): State<Api>,
    caller: Caller,
    takes: Takes,
    uri: Uri,
) -> Response {
    whole(&api, &caller, takes, &uri, Document::State).await
}

pub(super) fn version_object() -> Map<String, Value> {
    match to_value(&views::version(), Dialect::V0) {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

pub(super) async fn slaves(
    State(api): State<Api>,
    caller: Caller,
    takes: Takes,
    uri: Uri,
) -> Response {
    let Some(id) = parameter(uri.query(), "slave_id").map(AgentId::from) else {
        return whole(&api, &caller, takes, &uri, Document::Agents).await;
    };
    let sight = api.sight(&caller);
    read(&api, &uri, move |snapshot, _, _| {
        let mut out = Vec::new();
        text::object(&mut out, |o| {
            let known = snapshot.agents.get(&id);
            o.list("slaves", known, |out, agent| {
                text::object(out, |o| json::agent(o, snapshot, &sight, agent, true));
            });
            let recovered = snapshot.recovered_agents.get(&id);
            o.list("recovered_slaves", recovered, |out, info| {
                text::object(out, |o| json::agent_info(o, info));
            });
        });
        out
    })
    .await
}

pub(super) async fn frameworks(
    State(api): State<Api>,
    caller: Caller,
    takes: Takes,
    uri: Uri,
) -> Response {
    let Some(id) = parameter(uri.query(), "framework_id").map(FrameworkId::from) else {
        return whole(&api, &caller, takes, &uri, Document::Frameworks).await;
    };
    let sight = api.sight(&caller);
    read(&api, &uri, move |snapshot, config, _| {
        let mut only = snapshot.clone();
        only.frameworks.retain(|known, _| *known == id);
        only.completed.retain(|known| known.id() == id);
        let from = Writer {
            snapshot: &only,
            config,
            sight: &sight,
        };
        let rope = Document::Frameworks.write(&from, &mut Pieces::default());
        rope.to_bytes().to_vec()
    })
    .await
}

/// How many tasks `/tasks` shows unless asked for more.
const TASKS_PAGE: usize = 100;

pub(super) async fn tasks(State(api): State<Api>, caller: Caller, uri: Uri) -> Response {
    let sight = api.sight(&caller);
    for name in ["limit", "offset"] {
        if let Some(text) = parameter(uri.query(), name)
            && text.parse::<usize>().is_err()
        {
            let text =
                format!("Failed to parse query '{name}': Failed to convert '{text}' to number");
            return Refusal::bad_request(text).into_response();
        }
    }
    read(&api, &uri, move |snapshot, _, query| {
        let number =
            |name: &str| parameter(query, name).and_then(|text| text.parse::<usize>().ok());
        let framework = parameter(query, "framework_id");
        let task = parameter(query, "task_id");
        let mut listed: Vec<(f64, &TaskRecord)> = snapshot
            .frameworks
            .values()
            .chain(&snapshot.completed)
            .filter(|known| framework.as_ref().is_none_or(|id| *id == known.id().value))
            .filter(|known| sight.framework(&known.info))
            .flat_map(|known| {
                let ended = known.completed_tasks.iter().chain(&known.unreachable_tasks);
                let tasks = known.tasks.values().chain(ended);
                tasks.filter(|task| sight.task(task, &known.info))
            })
            .filter(|known| {
                task.as_ref()
                    .is_none_or(|id| *id == known.read().task_id.value)
            })
            // By when they were first heard of; those nobody has heard of yet stand last.
            .map(|known| (known.since().unwrap_or(f64::MAX), known))
            .collect();
        let ascending = parameter(query, "order").as_deref() == Some("asc");
        let (skip, most) = (
            number("offset").unwrap_or(0),
            number("limit").unwrap_or(TASKS_PAGE),
        );
        let page = page_of(&mut listed, ascending, skip, most);
        let mut out = Vec::new();
        text::object(&mut out, |o| {
            o.list("tasks", page, |out, (_, task)| {
                json::task(out, &task.read())
            });
        });
        out
    })
    .await
}

/// The page in the order of time, without putting in order what is not on it.
fn page_of<'a, 'b>(
    listed: &'b mut [(f64, &'a TaskRecord)],
    ascending: bool,
    skip: usize,
    most: usize,
) -> &'b [(f64, &'a TaskRecord)] {
    let order = |one: &(f64, &TaskRecord), other: &(f64, &TaskRecord)| {
        let by_time = one.0.total_cmp(&other.0);
        if ascending {
            by_time
        } else {
            by_time.reverse()
        }
    };
    let end = skip.saturating_add(most).min(listed.len());
    let begin = skip.min(end);
    if end < listed.len() && end > 0 {
        listed.select_nth_unstable_by(end - 1, order);
    }
    let front = &mut listed[..end];
    front.sort_by(order);
    &front[begin..]
}

pub(super) async fn roles(State(api): State<Api>, caller: Caller, uri: Uri) -> Response {
    let sight = api.sight(&caller);
    read(&api, &uri, move |snapshot, _, _| {
        let breakdown = views::breakdown(snapshot);
        let roles: Vec<Value> = views::known_roles(snapshot)
            .iter()
            .filter(|(name, _)| sight.role(name))
            .map(|(name, frameworks)| role(snapshot, name, frameworks, &breakdown.role(name)))
            .collect();
        json!({ "roles": roles })
    })
    .await
}

fn role(snapshot: &Snapshot, name: &str, frameworks: &BTreeSet<FrameworkId>, held: &Held) -> Value {
    let shown = |amounts: &Quantities| -> Map<String, Value> {
        let amounts = amounts.iter();
        amounts
            .map(|(name, amount)| (name.to_owned(), amount.as_f64().into()))
            .collect()
    };
    let quota = snapshot
        .standing
        .quotas
        .get(name)
        .cloned()
        .unwrap_or_default();
    let limits = quota.limits.iter();
    let limits: Map<String, Value> = limits
        .map(|(name, limit)| (name.clone(), limit.as_f64().into()))
        .collect();
    let mut resources = held.allocated.clone();
    resources.add_all(&held.offered);
    let frameworks: Vec<&str> = frameworks.iter().map(|id| &*id.value).collect();
    let mut role = json!({
        "name": name,
        "weight": views::weight(snapshot, name),
        "quota": {
            "role": name,
            "guarantee": shown(&quota.guarantees),
            "limit": limits,
            "consumed": shown(&held.consumed()),
        },
        "resources": shown(&resources),
        "allocated": shown(&held.allocated),
        "offered": shown(&held.offered),
        "reserved": shown(&held.reserved),
        "frameworks": frameworks,
    });
    // Mesos has none, so that they are shown only where there are any.
    if let Some(priority) = snapshot.standing.priorities.get(name) {
        role["priority"] = (*priority).into();
    }
    role
}

pub(super) async fn flags(State(api): State<Api>, caller: Caller, uri: Uri) -> Response {
    if let Err(refusal) = api.allow(&caller, Action::ViewFlags, &Object::ANY) {
        return refusal.into_response();
    }
    known(&uri, &json!({ "flags": api.config.flags }))
}

pub(super) async fn version(uri: Uri) -> Response {
    known(&uri, &Value::from(version_object()))
}

/// What does not depend on the state, so that a master that does not lead can say it, too.
fn known(uri: &Uri, document: &Value) -> Response {
    let written = reply::jsonp(uri.query(), document.to_string());
    written.unwrap_or_else(IntoResponse::into_response)
}

/// Why frameworks are not offered what agents have, or not enough for a wish; ours, not Mesos's.
/// `docs/why.md` has the parameters and the answer.
pub(super) async fn explain(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    uri: Uri,
) -> Response {
    if let Err(refused) = only(&Method::GET, &method) {
        return *refused;
    }
    let framework = parameter(uri.query(), "framework_id").map(FrameworkId::from);
    let role = parameter(uri.query(), "role");
    let resources = parameter(uri.query(), "resources");
    let conditions = parameter(uri.query(), "conditions");
    let wish = (resources.is_some() || conditions.is_some()).then(|| {
        Wish::parse(
            &resources.unwrap_or_default(),
            &conditions.unwrap_or_default(),
        )
    });
    let wish = match wish.transpose() {
        Ok(wish) => wish,
        Err(error) => {
            let text = dcos_core::error::chain(&error).to_string();
            return Refusal::bad_request(text).into_response();
        }
    };
    let reader = Reader::Caller(caller.principal().cloned());
    match api
        .master
        .ask(|answer| Command::Explain(framework, role, wish, reader, answer))
        .await
    {
        Ok(document) => reply::json(document.to_string()),
        Err(stopped) => Refusal::from(stopped).into_response(),
    }
}
