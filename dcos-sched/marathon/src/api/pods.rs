//! `/v2/pods`: definitions, their versions, how their instances are.
//!
//! What is asked about a pod follows its id after two colons: `/v2/pods/prod/web::status`.

pub(super) mod status;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::request::Request;
use super::{Reply, apps, created, json_of, method_not_allowed, set, with_deployment};
use crate::core::{RESTART, View};
use crate::deployment::Plan;
use crate::event::Event;
use crate::instance::{Instance, InstanceId, task_instance};
use crate::model::{App, Pod, RootGroup, pod_shape};
use crate::normalize;
use crate::shell::Mailbox;
use crate::{Error, PathId, Timestamp};

pub(super) async fn dispatch(mailbox: &Mailbox, request: &Request, rest: &[&str]) -> Reply {
    let path = rest.join("/");
    let (id, about) = match path.split_once("::") {
        Some((id, about)) => (PathId::absolute(id), Some(about)),
        None => (PathId::absolute(&path), None),
    };
    let about: Option<Vec<&str>> = about.map(|about| about.split('/').collect());
    match (request.method.as_str(), about.as_deref()) {
        ("HEAD", None) if id.is_root() => Ok(json_of(&json!({}))),
        ("GET", None) if id.is_root() => Ok(list(mailbox)),
        ("POST", None) if id.is_root() => create(mailbox, request).await,
        ("GET" | "HEAD", None) => show(mailbox, &id),
        ("PUT", None) => update(mailbox, request, id).await,
        ("DELETE", None) => delete(mailbox, request, id).await,
        ("GET" | "HEAD", Some(["status"])) if id.is_root() => Ok(all_status(mailbox)),
        ("GET" | "HEAD", Some(["status"])) => status_of(mailbox, &id),
        ("GET" | "HEAD", Some(["versions"])) => versions(mailbox, &id),
        ("GET" | "HEAD", Some(["versions", version])) => version_of(mailbox, &id, version),
        ("DELETE", Some(["instances"])) => kill_some(mailbox, request, id).await,
        ("DELETE", Some(["instances", instance])) => kill_one(mailbox, request, id, instance).await,
        _ => Ok(method_not_allowed()),
    }
}

/// The pods there are, in the order of their ids.
pub(super) fn pods(root: &RootGroup) -> impl Iterator<Item = &Arc<App>> {
    root.apps.values().filter(|app| app.is_pod())
}

fn pod<'a>(view: &'a View, id: &PathId) -> Option<&'a Arc<App>> {
    view.root.app(id).filter(|app| app.is_pod())
}

fn unknown(id: &PathId) -> Error {
    Error::NotFound(format!("Pod '{id}' does not exist"))
}

fn list(mailbox: &Mailbox) -> Response {
    let view = mailbox.view();
    let all: Vec<Pod> = pods(&view.root)
        .filter_map(|app| app.pod_document())
        .collect();
    json_of(&all)
}

fn show(mailbox: &Mailbox, id: &PathId) -> Reply {
    let view = mailbox.view();
    let document = pod(&view, id).and_then(|app| app.pod_document());
    // Worded differently here only, as in the original.
    let unknown = || Error::NotFound(format!("pod with {id} does not exist"));
    Ok(json_of(&document.ok_or_else(unknown)?))
}

fn all_status(mailbox: &Mailbox) -> Response {
    let view = mailbox.view();
    let now = Timestamp::from(crate::shell::now());
    let all: Vec<Value> = pods(&view.root)
        .filter_map(|app| status::pod(&view, app, now))
        .collect();
    json_of(&all)
}

fn status_of(mailbox: &Mailbox, id: &PathId) -> Reply {
    let view = mailbox.view();
    let now = Timestamp::from(crate::shell::now());
    let status = pod(&view, id).and_then(|app| status::pod(&view, app, now));
    Ok(json_of(&status.ok_or_else(|| unknown(id))?))
}

fn versions(mailbox: &Mailbox, id: &PathId) -> Reply {
    let view = mailbox.view();
    pod(&view, id).ok_or_else(|| unknown(id))?;
    Ok(json_of(&view.history.versions(id)))
}

fn version_of(mailbox: &Mailbox, id: &PathId, version: &str) -> Reply {
    let version: Timestamp = version
        .parse()
        .map_err(|error: crate::TimestampError| Error::Unprocessable(error.to_string()))?;
    let view = mailbox.view();
    let document = view
        .history
        .spec(id, version)
        .and_then(|app| app.pod_document());
    Ok(json_of(&document.ok_or_else(|| unknown(id))?))
}

async fn create(mailbox: &Mailbox, request: &Request) -> Reply {
    let pod = normalize::read_pod(&request.body)?;
    let id = PathId::absolute(pod.id.as_str());
    let pod_id = id.clone();
    let plan = apps::apply(mailbox, request, move |change| {
        // What is wrong with the document is said first, as in the original.
        let spec = normalize::pod(pod, &change.rules(&pod_id), change.version)?;
        if change.root.app(&pod_id).is_some_and(|known| known.is_pod()) {
            let text = format!("A pod with id [{pod_id}] already exists.");
            return Err(Error::Conflict(text));
        }
        taken(change.root, &pod_id, true)?;
        let mut root = change.copy();
        root.put_app(spec, change.version, change.config.new_group_enforce_role);
        Ok(root)
    })
    .await?;
    tell(mailbox, request, "pod_created_event").await;
    Ok(created(document(&plan, &id)?, &id))
}

/// An app and a pod cannot have the same id.
pub(super) fn taken(root: &RootGroup, id: &PathId, pod: bool) -> Result<(), Error> {
    match root.app(id) {
        Some(known) if known.is_pod() != pod => Err(Error::invalid(
            "/",
            "Applications and Pods may not have the same identifier.",
        )),
        _ => Ok(()),
    }
}

async fn update(mailbox: &Mailbox, request: &Request, id: PathId) -> Reply {
    let pod = normalize::read_pod(&request.body)?;
    let given = PathId::absolute(pod.id.as_str());
    if given != id {
        let text = format!("'{id}' does not match definition's id ('{given}')");
        return Err(Error::BadRequest(text));
    }
    let pod_id = id.clone();
    let plan = apps::apply(mailbox, request, move |change| {
        let known = change.root.app(&pod_id).filter(|known| known.is_pod());
        let known = Arc::clone(known.ok_or_else(|| unknown(&pod_id))?);
        let mut spec = normalize::pod(pod, &change.rules(&pod_id), change.version)?;
        // The same pod once more is a wish to restart it.
        if known.instances == spec.instances && known.same_config(&spec) {
            spec.version = RESTART;
        }
        let mut root = change.copy();
        root.put_app(spec, change.version, change.config.new_group_enforce_role);
        Ok(root)
    })
    .await?;
    tell(mailbox, request, "pod_updated_event").await;
    document(&plan, &id)
}

/// The pod a deployment leads to.
fn document(plan: &Plan, id: &PathId) -> Reply {
    let pod = plan.target.app(id).and_then(|app| app.pod_document());
    let pod = pod.ok_or_else(|| unknown(id))?;
    Ok(with_deployment(json_of(&pod), plan))
}

async fn delete(mailbox: &Mailbox, request: &Request, id: PathId) -> Reply {
    let plan = apps::apply(mailbox, request, move |change| {
        let mut root = change.copy();
        root.app(&id)
            .filter(|known| known.is_pod())
            .ok_or_else(|| unknown(&id))?;
        root.apps.remove(&id);
        Ok(root)
    })
    .await?;
    tell(mailbox, request, "pod_deleted_event").await;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    set(&mut response, "location", &plan.id);
    Ok(with_deployment(response, &plan))
}

async fn kill_some(mailbox: &Mailbox, request: &Request, id: PathId) -> Reply {
    let ids: BTreeSet<String> = apps::typed(apps::parse(&request.body, pod_shape::INSTANCES)?)?;
    let ids = ids.iter().map(|id| instance_id(id));
    let ids = ids.collect::<Result<BTreeSet<InstanceId>, Error>>()?;
    let found = end(mailbox, request, &id, ids).await?;
    let found: Vec<Value> = found.iter().map(|instance| short(instance)).collect();
    Ok(json_of(&found))
}

async fn kill_one(mailbox: &Mailbox, request: &Request, id: PathId, instance: &str) -> Reply {
    let ids = BTreeSet::from([instance_id(instance)?]);
    let found = end(mailbox, request, &id, ids).await?;
    let killed = found.first().ok_or_else(|| Error::unknown_task(instance))?;
    Ok(json_of(&short(killed)))
}

fn instance_id(text: &str) -> Result<InstanceId, Error> {
    let id = task_instance(text).filter(|id| id.as_str() == text);
    id.ok_or_else(|| {
        let text = r"must fully match regular expression '^(.+)\.(instance-|marathon-)([^\.]+)$'";
        Error::invalid("/", text)
    })
}

async fn end(
    mailbox: &Mailbox,
    request: &Request,
    id: &PathId,
    ids: BTreeSet<InstanceId>,
) -> Result<Vec<Arc<Instance>>, Error> {
    let view = mailbox.view();
    pod(&view, id).ok_or_else(|| unknown(id))?;
    let known = view.instances.get(id);
    let ids = ids
        .into_iter()
        .filter(|id| known.is_some_and(|known| known.contains_key(id)));
    apps::end(mailbox, request, ids.collect()).await
}

/// An instance as it is shown once it was told to go.
fn short(instance: &Instance) -> Value {
    let agent = &instance.agent;
    let mut document = json!({
        "instanceId": instance.id,
        "state": {
            "condition": instance.condition,
            "since": instance.since,
            "goal": instance.goal,
        },
        "agentInfo": {"host": agent.host, "agentId": agent.id, "attributes": []},
        "runSpecVersion": instance.version,
        "unreachableStrategy": instance.unreachable_strategy,
    });
    if let Some(since) = instance.started_at {
        document["state"]["activeSince"] = json!(since);
    }
    for (name, value) in [("region", &agent.region), ("zone", &agent.zone)] {
        if let Some(value) = value {
            document["agentInfo"][name] = json!(value);
        }
    }
    document
}

async fn tell(mailbox: &Mailbox, request: &Request, kind: &'static str) {
    mailbox
        .publish(|now| Event::pod(kind, now, &request.client, &request.uri))
        .await;
}
