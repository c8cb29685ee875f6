//! Objects of the v0 endpoints, key for key as in Mesos 1.11 (`src/master/readonly_handler.cpp`,
//! `src/common/http.cpp`).

use dcos_core::resources::{Resources, convert};
use dcos_core::time::Time;
use dcos_proto::json::{Dialect, JsonEnum as _, to_value};
use dcos_proto::mesos::framework_info::capability::Type as FrameworkCapability;
use dcos_proto::mesos::{AgentInfo, ExecutorInfo, Offer, Resource, Task, TaskStatus};
use serde_json::{Map, Value, json};

use crate::master::{Agent, Framework, Link, Snapshot};

pub(super) type Object = Map<String, Value>;

/// A message in the dialect of API v0.
fn v0<M: dcos_proto::json::Json>(message: &M) -> Value {
    to_value(message, Dialect::V0)
}

pub(super) fn resources(resources: &Resources) -> Value {
    Value::Object(resources.to_endpoint_json())
}

/// Resources as whole messages, with both forms of reservations.
fn full(resources: &Resources) -> Value {
    let mut messages: Vec<Resource> = resources.to_messages();
    messages.iter_mut().for_each(convert::to_endpoint);
    messages.iter().map(v0).collect()
}

fn put(object: &mut Object, key: &str, value: impl Into<Value>) {
    object.insert(key.to_owned(), value.into());
}

/// An agent; `whole` adds the resources as messages, as `/slaves` shows them.
pub(super) fn agent(snapshot: &Snapshot, agent: &Agent, whole: bool) -> Object {
    let mut object = agent_info(&agent.info);
    let offered = snapshot.offered(&agent.offers);
    let used = agent.used_total();
    let unreserved = agent.total.unreserved();
    put(&mut object, "pid", agent.pid.clone());
    put(
        &mut object,
        "registered_time",
        agent.registered.as_secs_f64(),
    );
    if let Some(time) = agent.reregistered {
        put(&mut object, "reregistered_time", time.as_secs_f64());
    }
    put(&mut object, "resources", resources(&agent.total));
    put(&mut object, "used_resources", resources(&used));
    put(&mut object, "offered_resources", resources(&offered));
    put(
        &mut object,
        "reserved_resources",
        agent.total.reservations_to_endpoint_json(),
    );
    put(&mut object, "unreserved_resources", resources(&unreserved));
    put(&mut object, "active", agent.active);
    put(&mut object, "deactivated", false);
    put(&mut object, "version", agent.version.clone());
    let capabilities: Vec<Value> = agent
        .capabilities
        .iter()
        .map(|capability| capability.r#type().name().into())
        .collect();
    put(&mut object, "capabilities", capabilities);
    if whole {
        let reserved: Object = agent
            .total
            .reservations()
            .into_iter()
            .map(|(role, resources)| (role, full(&resources)))
            .collect();
        put(&mut object, "reserved_resources_full", reserved);
        put(&mut object, "unreserved_resources_full", full(&unreserved));
        put(&mut object, "used_resources_full", full(&used));
        put(&mut object, "offered_resources_full", full(&offered));
    }
    object
}

/// What an agent said about itself.
pub(super) fn agent_info(info: &AgentInfo) -> Object {
    let mut object = Object::new();
    put(&mut object, "id", info.id.clone().unwrap_or_default().value);
    put(&mut object, "hostname", info.hostname.clone());
    put(&mut object, "port", info.port.unwrap_or(5051));
    put(
        &mut object,
        "attributes",
        dcos_core::attributes::to_endpoint_json(&info.attributes),
    );
    if let Some(domain) = &info.domain {
        put(&mut object, "domain", v0(domain));
    }
    object
}

/// A framework's description, without what it runs.
pub(super) fn framework_head(snapshot: &Snapshot, framework: &Framework) -> Object {
    let info = &framework.info;
    let mut object = Object::new();
    put(&mut object, "id", framework.id().value);
    put(&mut object, "name", info.name.clone());
    if let Some(pid) = &framework.pid {
        put(&mut object, "pid", pid.clone());
    }
    put(
        &mut object,
        "used_resources",
        resources(&framework.used_total()),
    );
    put(
        &mut object,
        "offered_resources",
        resources(&snapshot.offered(&framework.offers)),
    );
    let capabilities: Vec<Value> = info
        .capabilities
        .iter()
        .map(|capability| capability.r#type().name().into())
        .collect();
    put(&mut object, "capabilities", capabilities);
    put(
        &mut object,
        "hostname",
        info.hostname.clone().unwrap_or_default(),
    );
    put(
        &mut object,
        "webui_url",
        info.webui_url.clone().unwrap_or_default(),
    );
    put(&mut object, "active", framework.active);
    put(&mut object, "connected", framework.link.is_connected());
    put(&mut object, "recovered", framework.link == Link::Recovered);
    object
}

/// A framework with all that it runs and ran.
pub(super) fn framework(snapshot: &Snapshot, framework: &Framework) -> Object {
    let info = &framework.info;
    let mut object = framework_head(snapshot, framework);
    put(&mut object, "user", info.user.clone());
    put(
        &mut object,
        "failover_timeout",
        info.failover_timeout.unwrap_or(0.0),
    );
    put(&mut object, "checkpoint", info.checkpoint.unwrap_or(false));
    put(
        &mut object,
        "registered_time",
        framework.registered.as_secs_f64(),
    );
    let unregistered = framework.unregistered.map_or(0.0, Time::as_secs_f64);
    put(&mut object, "unregistered_time", unregistered);
    if framework.reregistered > framework.registered {
        put(
            &mut object,
            "reregistered_time",
            framework.reregistered.as_secs_f64(),
        );
    }
    if let Some(principal) = &info.principal {
        put(&mut object, "principal", principal.clone());
    }
    let held = &framework.used_total() + &snapshot.offered(&framework.offers);
    put(&mut object, "resources", resources(&held));
    if framework.has(FrameworkCapability::MultiRole) {
        put(&mut object, "roles", info.roles.clone());
    } else {
        put(
            &mut object,
            "role",
            info.role.clone().unwrap_or_else(|| "*".to_owned()),
        );
    }
    put(
        &mut object,
        "tasks",
        tasks(framework.tasks.values().map(|task| &**task)),
    );
    put(
        &mut object,
        "unreachable_tasks",
        tasks(framework.unreachable_tasks.iter().map(|task| &**task)),
    );
    put(
        &mut object,
        "completed_tasks",
        tasks(framework.completed_tasks.iter().map(|task| &**task)),
    );
    let offers: Vec<Value> = framework
        .offers
        .iter()
        .filter_map(|id| snapshot.offers.get(id))
        .map(|held| offer(held))
        .collect();
    put(&mut object, "offers", offers);
    let executors: Vec<Value> = framework
        .executors
        .iter()
        .flat_map(|(agent, executors)| executors.values().map(|info| executor(info, &agent.value)))
        .collect();
    put(&mut object, "executors", executors);
    if let Some(labels) = &info.labels {
        put(
            &mut object,
            "labels",
            labels.labels.iter().map(v0).collect::<Value>(),
        );
    }
    let constraints = framework
        .offer_constraints
        .as_ref()
        .map_or_else(|| json!({}), v0);
    put(&mut object, "offer_constraints", constraints);
    object
}

fn offer(offer: &Offer) -> Value {
    let mut object = Object::new();
    put(&mut object, "id", offer.id.value.clone());
    put(
        &mut object,
        "framework_id",
        offer.framework_id.value.clone(),
    );
    if let Some(allocation) = &offer.allocation_info {
        put(&mut object, "allocation_info", v0(allocation));
    }
    put(&mut object, "slave_id", offer.agent_id.value.clone());
    put(
        &mut object,
        "resources",
        resources(&Resources::from(&offer.resources)),
    );
    object.into()
}

fn executor(info: &ExecutorInfo, agent: &str) -> Value {
    let mut object = Object::new();
    put(&mut object, "executor_id", info.executor_id.value.clone());
    put(&mut object, "name", info.name.clone().unwrap_or_default());
    put(
        &mut object,
        "framework_id",
        info.framework_id.clone().unwrap_or_default().value,
    );
    put(
        &mut object,
        "command",
        info.command.as_ref().map_or_else(|| json!({}), command),
    );
    put(
        &mut object,
        "resources",
        resources(&Resources::from(&info.resources)),
    );
    let role = info
        .resources
        .first()
        .and_then(|resource| resource.allocation_info.as_ref()?.role.clone());
    if let Some(role) = role {
        put(&mut object, "role", role);
    }
    if let Some(labels) = &info.labels {
        put(
            &mut object,
            "labels",
            labels.labels.iter().map(v0).collect::<Value>(),
        );
    }
    put(&mut object, "type", info.r#type().name());
    put(&mut object, "slave_id", agent);
    object.into()
}

/// A command: what stands in protobuf as `arguments` is called `argv`.
fn command(command: &dcos_proto::mesos::CommandInfo) -> Value {
    let mut object = Object::new();
    put(&mut object, "shell", command.shell.unwrap_or(true));
    if let Some(value) = &command.value {
        put(&mut object, "value", value.clone());
    }
    put(&mut object, "argv", command.arguments.clone());
    if let Some(environment) = &command.environment {
        put(&mut object, "environment", v0(environment));
    }
    let uris: Vec<Value> = command
        .uris
        .iter()
        .map(|uri| json!({"value": uri.value, "executable": uri.executable.unwrap_or(false)}))
        .collect();
    put(&mut object, "uris", uris);
    object.into()
}

pub(super) fn tasks<'a>(tasks: impl Iterator<Item = &'a Task>) -> Value {
    tasks.map(task).collect()
}

pub(super) fn task(task: &Task) -> Value {
    let mut object = Object::new();
    put(&mut object, "id", task.task_id.value.clone());
    put(&mut object, "name", task.name.clone());
    put(&mut object, "framework_id", task.framework_id.value.clone());
    put(
        &mut object,
        "executor_id",
        task.executor_id.clone().unwrap_or_default().value,
    );
    put(&mut object, "slave_id", task.agent_id.value.clone());
    put(&mut object, "state", task.state().name());
    put(
        &mut object,
        "resources",
        resources(&Resources::from(&task.resources)),
    );
    if !task.limits.is_empty() {
        let limits: Object = task
            .limits
            .iter()
            .map(|(name, limit)| {
                let limit = if limit.value.is_infinite() {
                    "Infinity".into()
                } else {
                    limit.value.into()
                };
                (name.clone(), limit)
            })
            .collect();
        put(&mut object, "limits", limits);
    }
    let role = task
        .resources
        .first()
        .and_then(|resource| resource.allocation_info.as_ref()?.role.clone());
    put(&mut object, "role", role.unwrap_or_else(|| "*".to_owned()));
    put(
        &mut object,
        "statuses",
        task.statuses.iter().map(status).collect::<Value>(),
    );
    if let Some(user) = &task.user {
        put(&mut object, "user", user.clone());
    }
    if let Some(labels) = &task.labels {
        put(
            &mut object,
            "labels",
            labels.labels.iter().map(v0).collect::<Value>(),
        );
    }
    if let Some(discovery) = &task.discovery {
        put(&mut object, "discovery", v0(discovery));
    }
    if let Some(container) = &task.container {
        put(&mut object, "container", v0(container));
    }
    if let Some(check) = &task.health_check {
        put(&mut object, "health_check", v0(check));
    }
    object.into()
}

fn status(status: &TaskStatus) -> Value {
    let mut object = Object::new();
    put(&mut object, "state", status.state().name());
    put(
        &mut object,
        "timestamp",
        status.timestamp.unwrap_or_default(),
    );
    if let Some(labels) = &status.labels {
        put(
            &mut object,
            "labels",
            labels.labels.iter().map(v0).collect::<Value>(),
        );
    }
    if let Some(container) = &status.container_status {
        put(&mut object, "container_status", v0(container));
    }
    if let Some(healthy) = status.healthy {
        put(&mut object, "healthy", healthy);
    }
    if let Some(check) = &status.check_status {
        put(&mut object, "check_status", v0(check));
    }
    object.into()
}
