//! `/containers` and `/monitor/statistics`: what runs, and what it uses.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use dcos_proto::agent::response::get_containers::Container;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::ContainerId;
use dcos_wire::{Refusal, reply};
use futures::future::join_all;
use serde_json::{Value, json};

use super::Context;
use crate::agent::view::View;

/// One container of an executor (or nested in one), with its executor's source.
pub(super) struct Found {
    pub(super) container: Container,
    source: String,
}

pub(super) async fn containers(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let found = found(&context, false).await?;
    let wanted = |found: &&Found| matches(found, query.as_deref());
    let all: Vec<_> = found.iter().filter(wanted).map(full).collect();
    reply::jsonp(query.as_deref(), Value::from(all).to_string())
}

pub(super) async fn statistics(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let all: Vec<_> = found(&context, false).await?.iter().map(short).collect();
    reply::jsonp(query.as_deref(), Value::from(all).to_string())
}

/// What runs now, with its status and usage; `nested` containers too.
pub(super) async fn found(context: &Context, nested: bool) -> Result<Vec<Found>, Refusal> {
    let view = context.view().await?;
    let mut ids = executors(&view);
    if nested {
        for id in context.containerizer.containers().await {
            let root = ids
                .iter()
                .find(|(other, ..)| other == id.root_id())
                .cloned();
            if id.parent.is_some()
                && let Some((_, container, source)) = root
            {
                let container = Container {
                    container_id: id.clone(),
                    ..container
                };
                ids.push((id, container, source));
            }
        }
    }
    let measured = ids
        .into_iter()
        .map(|(id, mut container, source)| async move {
            container.container_status = context.containerizer.status(&id).await.ok();
            container.resource_statistics = context.containerizer.usage(&id).await.ok();
            Found { container, source }
        });
    Ok(join_all(measured).await)
}

fn executors(view: &View) -> Vec<(ContainerId, Container, String)> {
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
            all.push((executor.container.clone(), container, source));
        }
    }
    all
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
