//! The v1 operator API: `POST /api/v1`.
//!
//! Source: Mesos 1.11 `Http::api` (`src/slave/http.cpp`), `src/slave/validation.cpp`.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use dcos_core::verbosity;
use dcos_proto::agent::response::{self, get_executors, get_frameworks};
use dcos_proto::agent::{Call, Response as Answer, call};
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{ContainerId, Flag, Metric, Resource};
use dcos_security::{Caller, sees_operation, sees_resource};
use dcos_wire::files::Piece;
use dcos_wire::{MediaType, Peer, Refusal, Unhurried, logging, reply};
use http::StatusCode;
use serde_json::Value;

use super::media::{Accepted, Content};
use super::{Context, access, containers, metrics, nested, sessions, validation, version};
use crate::agent::view::{ExecutorView, FrameworkView, View};

pub(super) async fn api(
    State(context): State<Context>,
    caller: Caller,
    request: Request,
) -> Response {
    Box::pin(serve(&context, &caller, request))
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn serve(context: &Context, caller: &Caller, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let (content, accepted) = (Content::of(&head.headers)?, Accepted::of(&head.headers)?);
    let media = match content {
        Content::Whole(media) => media,
        Content::Records(media) => {
            let unhurried = head.extensions.get::<Unhurried>();
            let from = (caller, head.extensions.get::<Peer>());
            return sessions::attach_input(context, from, unhurried, media, body).await;
        }
    };
    let body = axum::body::to_bytes(body, usize::MAX).await;
    let body = body.map_err(|error| Refusal::bad_request(error.to_string()))?;
    let call: Call = media.decode(&body)?;
    validation::check(&call)?;
    accepted.suits(&call)?;
    access::allow_call(context, caller, head.extensions.get(), &call).await?;
    if matches!(
        call.r#type(),
        call::Type::AttachContainerOutput | call::Type::LaunchNestedContainerSession
    ) && let Some(unhurried) = head.extensions.get::<Unhurried>()
    {
        unhurried.allow();
    }
    Box::pin(answer(context, caller, call, accepted)).await
}

async fn answer(
    context: &Context,
    caller: &Caller,
    call: Call,
    accepted: Accepted,
) -> Result<Response, Refusal> {
    let media = accepted.media();
    let mut answer = Answer::default();
    match call.r#type() {
        call::Type::Unknown => {
            return Err(Refusal::not_implemented("501 Not Implemented."));
        }
        call::Type::GetHealth => {
            answer.set_type(response::Type::GetHealth);
            answer.get_health = Some(response::GetHealth { healthy: true });
        }
        call::Type::GetFlags => {
            answer.set_type(response::Type::GetFlags);
            let flag = |(name, value): (&String, &String)| Flag {
                name: name.clone(),
                value: Some(value.clone()),
            };
            let flags = context.flags.iter().map(flag).collect();
            answer.get_flags = Some(response::GetFlags { flags });
        }
        call::Type::GetVersion => {
            answer.set_type(response::Type::GetVersion);
            let version_info = version();
            answer.get_version = Some(response::GetVersion { version_info });
        }
        call::Type::GetMetrics => {
            answer.set_type(response::Type::GetMetrics);
            let all = metrics::all(context).await?.into_iter();
            let metrics = all
                .map(|(name, value)| Metric {
                    name,
                    value: Some(value),
                })
                .collect();
            answer.get_metrics = Some(response::GetMetrics { metrics });
        }
        call::Type::GetLoggingLevel => {
            answer.set_type(response::Type::GetLoggingLevel);
            let level = verbosity::level();
            answer.get_logging_level = Some(response::GetLoggingLevel { level });
        }
        call::Type::SetLoggingLevel => {
            let wanted = call.set_logging_level;
            let wanted = wanted.ok_or_else(|| missing("set_logging_level"))?;
            let nanoseconds = wanted.duration.nanoseconds;
            let duration = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
            logging::raise(wanted.level, duration);
            return Ok(reply::empty(StatusCode::OK));
        }
        call::Type::GetState => {
            answer.set_type(response::Type::GetState);
            let view = context.seen_by(caller).await?;
            answer.get_state = Some(response::GetState {
                get_tasks: Some(tasks(&view)),
                get_executors: Some(executors(&view)),
                get_frameworks: Some(frameworks(&view)),
            });
        }
        call::Type::GetTasks => {
            answer.set_type(response::Type::GetTasks);
            answer.get_tasks = Some(tasks(&context.seen_by(caller).await?));
        }
        call::Type::GetExecutors => {
            answer.set_type(response::Type::GetExecutors);
            answer.get_executors = Some(executors(&context.seen_by(caller).await?));
        }
        call::Type::GetFrameworks => {
            answer.set_type(response::Type::GetFrameworks);
            answer.get_frameworks = Some(frameworks(&context.seen_by(caller).await?));
        }
        call::Type::GetAgent => {
            answer.set_type(response::Type::GetAgent);
            let mut view = context.view().await?;
            let roles = context.roles(caller);
            let seen = |resource: &Resource| sees_resource(&*roles, resource);
            view.info.resources.retain(seen);
            answer.get_agent = Some(response::GetAgent {
                agent_info: Some(view.info),
                drain_config: view.drain.map(|(config, _)| config),
                estimated_drain_start_time: view.drain.map(|(_, since)| since),
            });
        }
        call::Type::GetContainers => {
            answer.set_type(response::Type::GetContainers);
            let wanted = call.get_containers.unwrap_or_default();
            let (nested, standalone) = (wanted.show_nested(), wanted.show_standalone());
            let found = containers::found(context, caller, nested, standalone).await?;
            let containers: Vec<_> = found.into_iter().map(|found| found.container).collect();
            if !containers.is_empty() {
                answer.get_containers = Some(response::GetContainers { containers });
            }
        }
        call::Type::ListFiles => {
            answer.set_type(response::Type::ListFiles);
            let list = call.list_files.ok_or_else(|| missing("list_files"))?;
            let file_infos = context.files.listed(list.path).await?;
            answer.list_files = Some(response::ListFiles { file_infos });
        }
        call::Type::ReadFile => {
            answer.set_type(response::Type::ReadFile);
            let read = call.read_file.ok_or_else(|| missing("read_file"))?;
            let piece = context.files.piece(read.path, read.offset, read.length);
            let Piece { size, data } = piece.await?;
            answer.read_file = Some(response::ReadFile { size, data });
        }
        call::Type::GetOperations => {
            answer.set_type(response::Type::GetOperations);
            let mut operations = context.view().await?.operations;
            let roles = context.roles(caller);
            operations.retain(|operation| sees_operation(&*roles, &operation.info));
            answer.get_operations = Some(response::GetOperations { operations });
        }
        call::Type::GetResourceProviders => {
            answer.set_type(response::Type::GetResourceProviders);
            answer.get_resource_providers = Some(response::GetResourceProviders::default());
        }
        call::Type::LaunchNestedContainerSession => {
            let launch = call.launch_nested_container_session;
            let launch = launch.ok_or_else(|| missing("launch_nested_container_session"))?;
            return sessions::launch(context, launch, accepted).await;
        }
        call::Type::AttachContainerOutput => {
            let attach = call.attach_container_output;
            let attach = attach.ok_or_else(|| missing("attach_container_output"))?;
            return sessions::attach_output(context, &attach.container_id, accepted).await;
        }
        call::Type::PruneImages => {
            let kept = call.prune_images.unwrap_or_default().excluded_images;
            if let Some(images) = &context.images {
                let pruned = images.prune(&kept).await;
                pruned.map_err(|error| {
                    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
                })?;
            }
            return Ok(reply::empty(StatusCode::OK));
        }
        _ => return nested::answer(context, call, media).await,
    }
    Ok(respond(media, &answer))
}

pub(super) fn respond(media: MediaType, answer: &Answer) -> Response {
    match media {
        MediaType::Protobuf => reply::message(media, media.encode(answer)),
        MediaType::Json => {
            let mut value = json::to_value(answer, Dialect::V1);
            show_empty_lists(&mut value);
            reply::message(media, value.to_string())
        }
    }
}

/// Where the original writes empty lists instead of leaving them out.
const LISTS: [(&str, &[&str]); 3] = [
    ("get_executors", &["executors", "completed_executors"]),
    ("get_frameworks", &["frameworks", "completed_frameworks"]),
    (
        "get_tasks",
        &[
            "pending_tasks",
            "queued_tasks",
            "launched_tasks",
            "terminated_tasks",
            "completed_tasks",
        ],
    ),
];

fn show_empty_lists(answer: &mut Value) {
    if answer.get("get_state").is_some() {
        show_empty_lists(&mut answer["get_state"]);
    }
    for (name, lists) in LISTS {
        if let Some(Value::Object(object)) = answer.get_mut(name) {
            for list in lists {
                object
                    .entry(*list)
                    .or_insert_with(|| Value::Array(Vec::new()));
            }
        }
    }
}

/// A call without what it is about.
pub(super) fn missing(field: &str) -> Refusal {
    invalid(&format!("Expecting '{field}' to be present"))
}

pub(super) fn invalid(text: &str) -> Refusal {
    Refusal::bad_request(format!("Failed to validate agent::Call: {text}"))
}

/// How an operator writes a container's id.
pub(super) fn shown(id: &ContainerId) -> String {
    id.to_string()
}

fn tasks(view: &View) -> response::GetTasks {
    let mut all = response::GetTasks::default();
    for executor in every_executor(view) {
        all.queued_tasks.extend(executor.queued.clone());
        all.launched_tasks.extend(executor.launched.clone());
        all.terminated_tasks.extend(executor.terminated.clone());
        all.completed_tasks.extend(executor.completed.clone());
    }
    all
}

fn executors(view: &View) -> response::GetExecutors {
    let shown = |executor: &ExecutorView| get_executors::Executor {
        executor_info: executor.info.clone(),
    };
    let live = view
        .frameworks
        .iter()
        .flat_map(|framework| &framework.executors);
    let ended = every_framework(view).flat_map(|framework| &framework.completed_executors);
    response::GetExecutors {
        executors: live.map(shown).collect(),
        completed_executors: ended.map(shown).collect(),
    }
}

fn frameworks(view: &View) -> response::GetFrameworks {
    let shown = |framework: &FrameworkView| get_frameworks::Framework {
        framework_info: framework.info.clone(),
    };
    response::GetFrameworks {
        frameworks: view.frameworks.iter().map(shown).collect(),
        completed_frameworks: view.completed_frameworks.iter().map(shown).collect(),
    }
}

fn every_framework(view: &View) -> impl Iterator<Item = &FrameworkView> {
    view.frameworks.iter().chain(&view.completed_frameworks)
}

fn every_executor(view: &View) -> impl Iterator<Item = &ExecutorView> {
    every_framework(view).flat_map(|framework| {
        framework
            .executors
            .iter()
            .chain(&framework.completed_executors)
    })
}
