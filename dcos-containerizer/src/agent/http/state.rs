//! `/state` as API v0 shows it.
//!
//! Source: Mesos 1.11 `src/slave/http.cpp` (`state`, `ExecutorWriter`, `FrameworkWriter`); the
//! keys are those of its answers, and clients parse them.

use std::path::Path;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use dcos_core::attributes;
use dcos_core::resources::Resources;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{Labels, Resource, Task, TaskStatus, executor_info};
use dcos_security::{Action, Caller, Object, ObjectApprover};
use dcos_wire::{Refusal, reply};
use serde_json::{Map, Value, json};

use super::{Context, version};
use crate::agent::view::{ExecutorView, FrameworkView, View};

pub(super) async fn state(
    State(context): State<Context>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let view = context.seen_by(&caller).await?;
    let roles = context.roles(&caller);
    let mut document = document(&context, &view, &*roles);
    if !context.may(&caller, Action::ViewFlags, &Object::ANY)
        && let Some(object) = document.as_object_mut()
    {
        object.remove("flags");
    }
    reply::jsonp(query.as_deref(), document.to_string())
}

fn document(context: &Context, view: &View, roles: &dyn ObjectApprover) -> Value {
    let total = &view.total;
    let used = view
        .frameworks
        .iter()
        .flat_map(|framework| &framework.executors);
    let used = used
        .filter(|executor| !executor.over)
        .flat_map(|executor| &executor.resources);
    let used: Resources = used.collect();
    let flat = |resources: &Resources| Value::Object(resources.to_endpoint_json());
    // By role, without those that are hidden.
    let seen = |mut by_role: Map<String, Value>| {
        by_role.retain(|role, _| roles.approved(&Object::value(role)));
        by_role
    };
    let mut document = json::to_value(&version(), Dialect::V0);
    let own = json!({
        "start_time": context.started.as_secs_f64(),
        "id": view.info.id.clone().unwrap_or_default().value,
        "pid": view.pid,
        "hostname": view.info.hostname,
        "capabilities": view.capabilities,
        "resources": flat(total),
        "reserved_resources": seen(total.reservations_to_endpoint_json()),
        "unreserved_resources": flat(&total.unreserved()),
        "reserved_resources_full": seen(full_reservations(total)),
        "unreserved_resources_full": full(&total.unreserved()),
        "reserved_resources_allocated": seen(used.reservations_to_endpoint_json()),
        "unreserved_resources_allocated": flat(&used.unreserved()),
        "resource_providers": [],
        "attributes": attributes::to_endpoint_json(&view.info.attributes),
        "flags": context.flags,
        "frameworks": frameworks(&view.frameworks),
        "completed_frameworks": frameworks(&view.completed_frameworks),
    });
    if let (Value::Object(all), Value::Object(own)) = (&mut document, own) {
        all.extend(own);
    }
    if let Some(master) = &view.master {
        let host = master
            .rsplit_once('@')
            .map_or(&**master, |(_, address)| address);
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        document["master_hostname"] = host.into();
    }
    if let Some(folder) = context.own_log.as_deref().and_then(Path::parent) {
        document["log_dir"] = folder.display().to_string().into();
    }
    if let Some(log) = &context.log_file {
        document["external_log_file"] = log.display().to_string().into();
    }
    if let Some(domain) = &view.info.domain {
        document["domain"] = json::to_value(domain, Dialect::V0);
    }
    if let Some((config, since)) = &view.drain {
        document["drain_config"] = json::to_value(config, Dialect::V0);
        document["estimated_drain_start_time_seconds"] = (since.nanoseconds / 1_000_000_000).into();
    }
    document
}

fn frameworks(frameworks: &[FrameworkView]) -> Vec<Value> {
    frameworks.iter().map(framework).collect()
}

fn framework(view: &FrameworkView) -> Value {
    let info = &view.info;
    let mut object = json!({
        "id": info.id.clone().unwrap_or_default().value,
        "name": info.name,
        "user": info.user,
        "failover_timeout": info.failover_timeout(),
        "checkpoint": info.checkpoint(),
        "hostname": info.hostname(),
        "executors": view.executors.iter().map(executor).collect::<Vec<_>>(),
        "completed_executors": view.completed_executors.iter().map(executor).collect::<Vec<_>>(),
    });
    if let Some(principal) = &info.principal {
        object["principal"] = principal.as_str().into();
    }
    if info.roles.is_empty() {
        object["role"] = info.role().into();
    } else {
        object["roles"] = info.roles.clone().into();
    }
    object
}

fn executor(view: &ExecutorView) -> Value {
    let info = &view.info;
    let all = |tasks: &[Task]| tasks.iter().map(task).collect::<Vec<_>>();
    let live: Vec<_> = view.launched.iter().map(task).collect();
    let ended: Vec<_> = view
        .terminated
        .iter()
        .chain(&view.completed)
        .map(task)
        .collect();
    let mut object = json!({
        "id": info.executor_id.value,
        "name": info.name(),
        "source": info.source(),
        "container": view.container.value,
        "directory": view.directory,
        "resources": flat(&view.resources),
        "tasks": live,
        "queued_tasks": all(&view.queued),
        "completed_tasks": ended,
    });
    if let Some(role) = role(&info.resources).or_else(|| role(&view.resources)) {
        object["role"] = role.into();
    }
    if let Some(found) = &info.labels {
        object["labels"] = labels(found);
    }
    if let Some(kind) = info.r#type {
        let kind = executor_info::Type::try_from(kind);
        object["type"] = kind.map_or("UNKNOWN", |kind| kind.as_str_name()).into();
    }
    object
}

fn task(task: &Task) -> Value {
    let mut object = json!({
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.clone().unwrap_or_default().value,
        "slave_id": task.agent_id.value,
        "state": task.state().as_str_name(),
        "resources": flat(&task.resources),
        "statuses": task.statuses.iter().map(status).collect::<Vec<_>>(),
    });
    if let Some(role) = role(&task.resources) {
        object["role"] = role.into();
    }
    if let Some(user) = &task.user {
        object["user"] = user.as_str().into();
    }
    if let Some(found) = &task.labels {
        object["labels"] = labels(found);
    }
    if let Some(discovery) = &task.discovery {
        object["discovery"] = json::to_value(discovery, Dialect::V0);
    }
    if let Some(container) = &task.container {
        object["container"] = json::to_value(container, Dialect::V0);
    }
    if let Some(check) = &task.health_check {
        object["health_check"] = json::to_value(check, Dialect::V0);
    }
    if !task.limits.is_empty() {
        let limits = task.limits.iter();
        let limits: Map<_, _> = limits
            .map(|(name, limit)| (name.clone(), limit.value.into()))
            .collect();
        object["limits"] = limits.into();
    }
    object
}

fn status(status: &TaskStatus) -> Value {
    let mut object = json!({
        "state": status.state().as_str_name(),
        "timestamp": status.timestamp.unwrap_or_default(),
    });
    if let Some(found) = &status.labels {
        object["labels"] = labels(found);
    }
    if let Some(container) = &status.container_status {
        object["container_status"] = json::to_value(container, Dialect::V0);
    }
    if let Some(healthy) = status.healthy {
        object["healthy"] = healthy.into();
    }
    object
}

fn labels(labels: &Labels) -> Value {
    let labels = labels.labels.iter();
    labels
        .map(|label| json::to_value(label, Dialect::V0))
        .collect()
}

fn role(resources: &[Resource]) -> Option<String> {
    let allocation = resources
        .iter()
        .find_map(|resource| resource.allocation_info.clone());
    allocation?.role
}

fn flat(resources: &[Resource]) -> Map<String, Value> {
    resources.iter().collect::<Resources>().to_endpoint_json()
}

fn full(resources: &Resources) -> Vec<Value> {
    let mut all = resources.to_messages();
    all.iter_mut()
        .for_each(dcos_core::resources::convert::to_endpoint);
    all.iter()
        .map(|resource| json::to_value(resource, Dialect::V0))
        .collect()
}

fn full_reservations(resources: &Resources) -> Map<String, Value> {
    let by_role = resources.reservations();
    by_role
        .iter()
        .map(|(role, resources)| (role.clone(), full(resources).into()))
        .collect()
}
