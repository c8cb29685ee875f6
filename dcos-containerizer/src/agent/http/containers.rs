//! `/containers` and `/monitor/statistics`: what runs, and what it uses.

use std::collections::BTreeSet;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use dcos_core::resources::Resources;
use dcos_proto::agent::response::get_containers::Container;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{ContainerId, ResourceStatistics};
use dcos_security::{Action, Caller, Object};
use dcos_wire::{Refusal, reply};
use futures::future::join_all;
use serde_json::{Value, json};

use super::Context;
use crate::agent::view::View;

/// A container with what is known without asking: its executor, source, resources.
type Known = (ContainerId, Container, String, Resources);

/// One container of an executor (or nested in one), with its executor's source.
pub(super) struct Found {
    pub(super) container: Container,
    source: String,
}

pub(super) async fn containers(
    State(context): State<Context>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    context.allow_path(&caller, "/containers")?;
    let found = found(&context, &caller, false, false).await?;
    let wanted = |found: &&Found| matches(found, query.as_deref());
    let all: Vec<_> = found.iter().filter(wanted).map(full).collect();
    reply::jsonp(query.as_deref(), Value::from(all).to_string())
}

pub(super) async fn statistics(
    State(context): State<Context>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    context.allow_path(&caller, "/monitor/statistics")?;
    let all: Vec<_> = found(&context, &caller, false, false)
        .await?
        .iter()
        .map(short)
        .collect();
    reply::jsonp(query.as_deref(), Value::from(all).to_string())
}

/// What runs now, with its status and usage; `nested` containers too.
pub(super) async fn found(
    context: &Context,
    caller: &Caller,
    nested: bool,
    standalone: bool,
) -> Result<Vec<Found>, Refusal> {
    let mut view = context.view().await?;
    for framework in &mut view.frameworks {
        let info = &framework.info;
        framework.executors.retain(|executor| {
            let object = Object::executor(&executor.info, info);
            context.may(
                caller,
                Action::ViewContainer,
                &object.in_container(&executor.container),
            )
        });
    }
    let all = context.containerizer.containers().await;
    let mut ids = executors(&view);
    if standalone {
        ids.extend(alone(context, caller, &all).await?);
    }
    if nested {
        for id in all {
            let root = ids
                .iter()
                .find(|(other, ..)| other == id.root_id())
                .cloned();
            if id.parent.is_some()
                && let Some((_, container, source, resources)) = root
            {
                let container = Container {
                    container_id: id.clone(),
                    ..container
                };
                ids.push((id, container, source, resources));
            }
        }
    }
    let measured = ids
        .into_iter()
        .map(|(id, mut container, source, resources)| async move {
            container.container_status = context.containerizer.status(&id).await.ok();
            let usage = context.containerizer.usage(&id).await.ok();
            container.resource_statistics = usage.map(|usage| with_soft_limits(usage, &resources));
            Found { container, source }
        });
    Ok(join_all(measured).await)
}

/// The containers among `all` that belong to no executor.
async fn alone(
    context: &Context,
    caller: &Caller,
    all: &BTreeSet<ContainerId>,
) -> Result<Vec<Known>, Refusal> {
    let roots: Vec<_> = all
        .iter()
        .filter(|id| id.parent.is_none())
        .cloned()
        .collect();
    let asked = context.handle.ask(move |agent| {
        let mut roots = roots;
        roots.retain(|id| !agent.has_container(id));
        roots
    });
    let mut roots = asked
        .await
        .ok_or_else(|| Refusal::unavailable("The agent is stopping"))?;
    roots.retain(|id| {
        let object = Object::ANY.in_container(id);
        context.may(caller, Action::ViewStandaloneContainer, &object)
    });
    let known = |id: ContainerId| {
        let container = Container {
            container_id: id.clone(),
            ..Container::default()
        };
        (id, container, String::new(), Resources::default())
    };
    Ok(roots.into_iter().map(known).collect())
}

fn executors(view: &View) -> Vec<Known> {
    let mut all = Vec::new();
    for framework in &view.frameworks {
        for executor in framework.executors.iter().filter(|executor| !executor.over) {
            let container = Container {
                framework_id: framework.info.id.clone(),
                executor_id: Some(executor.info.executor_id.clone()),
                executor_name: Some(executor.info.name().to_owned()),
                container_id: executor.container.clone(),
                container_status: None,
                resource_statistics: None,
            };
            let source = executor.info.source().to_owned();
            let resources = Resources::from(&executor.resources);
            all.push((executor.container.clone(), container, source, resources));
        }
    }
    all
}

/// Beside what isolators measure, what the container was given.
fn with_soft_limits(mut usage: ResourceStatistics, resources: &Resources) -> ResourceStatistics {
    usage.cpus_soft_limit = usage.cpus_soft_limit.or(resources.cpus());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "megabytes that an agent has"
    )]
    let bytes = resources
        .mem()
        .map(|megabytes| megabytes as u64 * (1 << 20));
    usage.mem_soft_limit_bytes = usage.mem_soft_limit_bytes.or(bytes);
    usage
}

fn matches(found: &Found, query: Option<&str>) -> bool {
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    let framework = found.container.framework_id.clone().unwrap_or_default();
    let executor = found.container.executor_id.clone().unwrap_or_default();
    parameters
        .filter_map(|parameter| parameter.split_once('='))
        .all(|(name, value)| match name {
            "container_id" => found.container.container_id.value == value,
            "framework_id" => framework.value == value,
            "executor_id" => executor.value == value,
            _ => true,
        })
}

fn short(found: &Found) -> Value {
    let container = &found.container;
    let mut object = json!({
        "framework_id": container.framework_id.clone().unwrap_or_default().value,
        "executor_id": container.executor_id.clone().unwrap_or_default().value,
        "executor_name": container.executor_name(),
        "source": found.source,
    });
    if let Some(statistics) = &container.resource_statistics {
        object["statistics"] = json::to_value(statistics, Dialect::V0);
    }
    object
}

fn full(found: &Found) -> Value {
    let mut object = short(found);
    object["container_id"] = found.container.container_id.value.as_str().into();
    if let Some(status) = &found.container.container_status {
        object["status"] = json::to_value(status, Dialect::V0);
    }
    object
}
