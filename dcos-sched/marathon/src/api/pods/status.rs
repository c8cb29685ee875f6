//! How a pod and its instances are. Source: Marathon 1.11 `PodStatusConversion`, `AppInfoBaseData.podStatus`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::Timestamp;
use crate::core::View;
use crate::instance::{Condition, Instance, PodTask};
use crate::model::{App, Pod, PodContainer, PodResources};

/// `None` if `app` is not a pod.
pub(in crate::api) fn pod(view: &View, app: &App, now: Timestamp) -> Option<Value> {
    let spec = app.pod_document()?;
    let all: Vec<(Value, State)> = view
        .instances_of(&app.id)
        .filter_map(|one| instance(view, one))
        .collect();
    let stable = all.iter().filter(|(_, state)| *state == State::Stable);
    let terminating = view.deployments.iter().any(|deployment| {
        let plan = &deployment.plan;
        plan.target.app(&app.id).is_none() && plan.affected().contains(&app.id)
    });
    let status = if terminating {
        State::Terminal
    } else if stable.count() >= app.instances as usize {
        State::Stable
    } else {
        State::Degraded
    };
    let since = view
        .instances_of(&app.id)
        .map(|instance| instance.since)
        .max();
    let since = since.unwrap_or(now);
    let instances: Vec<Value> = all.into_iter().map(|(document, _)| document).collect();
    Some(json!({
        "id": app.id,
        "spec": spec,
        "status": status.name(),
        "statusSince": since,
        "lastUpdated": now,
        "lastChanged": since,
        "instances": instances,
        "terminationHistory": history(view, app),
    }))
}

/// The last failure, which is all that is remembered of instances that are gone.
fn history(view: &View, app: &App) -> Vec<Value> {
    let failure = view.failures.get(&app.id).into_iter();
    failure
        .map(|failure| {
            let instance = crate::instance::task_instance(&failure.task_id);
            json!({
                "instanceID": instance.map(|id| id.to_string()).unwrap_or_default(),
                "startedAt": failure.started_at.unwrap_or(failure.timestamp),
                "terminatedAt": failure.timestamp,
                "message": failure.message,
                "containers": [{"containerId": failure.task_id, "lastKnownState": failure.state}],
            })
        })
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Staging,
    Stable,
    Degraded,
    Terminal,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Staging => "STAGING",
            Self::Stable => "STABLE",
            Self::Degraded => "DEGRADED",
            Self::Terminal => "TERMINAL",
        }
    }

    fn of(instance: &Instance, unhealthy: bool) -> (Self, Option<&'static str>) {
        match instance.condition {
            Condition::Provisioned => (Self::Pending, None),
            Condition::Staging | Condition::Starting => (Self::Staging, None),
            Condition::Unreachable | Condition::UnreachableInactive => {
                (Self::Degraded, Some("pod instance has become unreachable"))
            }
            Condition::Running if unhealthy => (
                Self::Degraded,
                Some("at least one container is not healthy"),
            ),
            Condition::Running => (Self::Stable, None),
            _ => (Self::Terminal, None),
        }
    }
}

fn instance(view: &View, instance: &Instance) -> Option<(Value, State)> {
    let spec = view.spec_of(instance)?;
    let pod = spec.pod.as_deref()?;
    let containers = instance.tasks.iter();
    let containers: Vec<Value> = containers
        .map(|task| container(pod, instance, task))
        .collect();
    let unhealthy = pod_is_unhealthy(pod, instance);
    let (state, message) = State::of(instance, unhealthy);
    let mut document = json!({
        "id": instance.id,
        "status": state.name(),
        "statusSince": instance.since,
        "conditions": [],
        "agentId": instance.agent.id,
        "agentHostname": instance.agent.host,
        "resources": resources(pod, instance),
        "networks": networks(instance),
        "containers": containers,
        "specReference": format!("/v2/pods{}::versions/{}", instance.app, instance.version),
        "localVolumes": crate::api::render::local_volumes(instance),
        "lastUpdated": instance.since,
        "lastChanged": instance.since,
        "role": instance.role,
    });
    let place = [
        ("agentRegion", instance.agent.region.as_deref()),
        ("agentZone", instance.agent.zone.as_deref()),
        ("message", message),
    ];
    for (name, value) in place {
        if let Some(value) = value {
            document[name] = json!(value);
        }
    }
    Some((document, state))
}

/// A check that nothing was heard of yet counts as failing here.
fn pod_is_unhealthy(pod: &Pod, instance: &Instance) -> bool {
    let conditions = instance.tasks.iter().filter_map(|task| {
        let container = pod.container(&task.name)?;
        healthy(container, task)
    });
    conditions.into_iter().any(|(healthy, _)| !healthy)
}

fn has_agent(condition: Condition) -> bool {
    use Condition::{Killing, Running, Staging, Starting, Unreachable, UnreachableInactive};
    matches!(
        condition,
        Staging | Starting | Running | Unreachable | UnreachableInactive | Killing
    )
}

/// What the executor and the containers that run need together.
fn resources(pod: &Pod, instance: &Instance) -> PodResources {
    let running = instance
        .tasks
        .iter()
        .filter(|task| has_agent(task.condition));
    let names: BTreeSet<&str> = running.map(|task| task.name.as_str()).collect();
    let running = Pod {
        containers: pod
            .containers
            .iter()
            .filter(|container| names.contains(container.name.as_str()))
            .cloned()
            .collect(),
        ..pod.clone()
    };
    running.total()
}

/// The networks of all containers, which are the same.
fn networks(instance: &Instance) -> Vec<Value> {
    let mut all: BTreeMap<Option<&String>, BTreeSet<&String>> = BTreeMap::new();
    for joined in instance.tasks.iter().flat_map(|task| &task.networks) {
        let addresses = all.entry(joined.name.as_ref()).or_default();
        addresses.extend(&joined.addresses);
    }
    all.into_iter()
        .map(|(name, addresses)| {
            let mut document = json!({"addresses": addresses});
            if let Some(name) = name {
                document["name"] = json!(name);
            }
            document
        })
        .collect()
}

/// Whether a container's check passes, and whether anybody said so; `None` without a check or before it runs.
fn healthy(container: &PodContainer, task: &PodTask) -> Option<(bool, &'static str)> {
    let early = task.condition.is_launching();
    container.health_check.as_ref().filter(|_| !early)?;
    Some(match task.healthy {
        Some(healthy) => (healthy, "health-reported-by-mesos"),
        None => (false, "health-unreported-by-mesos"),
    })
}

fn container(pod: &Pod, instance: &Instance, task: &PodTask) -> Value {
    let mut document = json!({
        "name": task.name,
        "status": task.condition.state(),
        "statusSince": task.since,
        "conditions": [],
        "containerId": task.id,
        "endpoints": [],
        "lastUpdated": task.since,
        "lastChanged": task.since,
    });
    if let Some(message) = task
        .message
        .as_ref()
        .filter(|_| task.condition.is_terminal())
    {
        document["termination"] = json!({"message": message});
    }
    let Some(spec) = pod.container(&task.name) else {
        return document;
    };
    if has_agent(task.condition) {
        document["resources"] = json!(spec.resources);
    }
    if let Some((healthy, reason)) = healthy(spec, task) {
        document["conditions"] = json!([{
            "name": "healthy",
            "value": healthy.to_string(),
            "reason": reason,
            "lastChanged": task.since,
            "lastUpdated": task.since,
        }]);
    }
    if !task.condition.is_terminal() {
        document["endpoints"] = endpoints(pod, spec, instance, task).into();
    }
    document
}

fn endpoints(
    pod: &Pod,
    container: &PodContainer,
    instance: &Instance,
    task: &PodTask,
) -> Vec<Value> {
    let checked = container.health_check.as_ref().and_then(|health| {
        let check = &health.check;
        let target = check.http.as_ref().or(check.tcp.as_ref())?;
        Some(target.endpoint.as_str())
    });
    let all = pod.endpoints().zip(&instance.ports);
    let own =
        all.filter(|(endpoint, _)| container.endpoints.iter().any(|e| e.name == endpoint.name));
    own.map(|(endpoint, port)| {
        let mut document = Map::new();
        document.insert("name".to_owned(), json!(endpoint.name));
        if let Some(port) = port {
            document.insert("allocatedHostPort".to_owned(), json!(port));
        }
        if let Some(healthy) = task.healthy.filter(|_| checked == Some(&endpoint.name)) {
            document.insert("healthy".to_owned(), json!(healthy));
        }
        Value::Object(document)
    })
    .collect()
}
