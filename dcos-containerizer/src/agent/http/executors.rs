//! The v1 executor API: `POST /api/v1/executor`.
//!
//! Source: Mesos 1.11 `Slave::Http::executor` (`src/slave/http.cpp`), `src/slave/validation.cpp`.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use dcos_proto::executor::{Call, call};
use dcos_proto::mesos::task_status::Source;
use dcos_proto::mesos::{ContainerId, TaskState, TaskStatus};
use dcos_security::Caller;
use dcos_wire::records::{self, Limits};
use dcos_wire::{MediaType, Refusal, reply};
use http::{HeaderMap, StatusCode};

use super::Context;
use super::access::check_claims;
use crate::agent::ExecutorState;
use crate::agent::handle::Work;
use crate::agent::records::ExecutorKey;
use crate::agent::streams::{self, EventStream};
use crate::agent::words::Input;

/// Tells a stream from the one that replaces it.
static NEXT_STREAM: AtomicU64 = AtomicU64::new(0);

pub(super) async fn executor(
    State(context): State<Context>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&context, &caller, &headers, &body)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn answer(
    context: &Context,
    caller: &Caller,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Refusal> {
    let call: Call = MediaType::of_content(headers)?.decode(body)?;
    let checked = check(&call)?;
    let key = ExecutorKey {
        framework: call.framework_id,
        executor: call.executor_id,
    };
    let standing = standing(context, &key).await?;
    check_claims(caller, &key, standing.container.as_ref())?;
    match checked {
        Checked::Subscribe(subscribe) => {
            let media = MediaType::of_answer(headers)?;
            Ok(subscribed(context, key, subscribe, media).await)
        }
        _ if !standing.connected => Err(Refusal::forbidden("Executor is not subscribed")),
        Checked::Update(status) => {
            if status
                .executor_id
                .as_ref()
                .is_some_and(|id| *id != key.executor)
            {
                return Err(Refusal::bad_request(
                    "ExecutorID in Call doesn't match ExecutorID in TaskStatus",
                ));
            }
            context.handle.input(Input::Update(key, *status)).await;
            Ok(reply::accepted())
        }
        Checked::Message(data) => {
            context
                .handle
                .input(Input::ExecutorMessage(key, data))
                .await;
            Ok(reply::accepted())
        }
        Checked::Heartbeat => Ok(reply::accepted()),
    }
}

enum Checked {
    Subscribe(call::Subscribe),
    Update(Box<TaskStatus>),
    Message(Vec<u8>),
    Heartbeat,
}

/// What a call says, if it makes sense by itself.
fn check(call: &Call) -> Result<Checked, Refusal> {
    let invalid =
        |text: &str| Refusal::bad_request(format!("Failed to validate executor::Call: {text}"));
    match call.r#type() {
        call::Type::Subscribe => {
            let subscribe = call.subscribe.clone();
            let subscribe =
                subscribe.ok_or_else(|| invalid("Expecting 'subscribe' to be present"))?;
            Ok(Checked::Subscribe(subscribe))
        }
        call::Type::Update => {
            let update = call.update.clone();
            let update = update.ok_or_else(|| invalid("Expecting 'update' to be present"))?;
            check_status(&update.status).map_err(invalid)?;
            Ok(Checked::Update(Box::new(update.status)))
        }
        call::Type::Message => {
            let message = call.message.clone();
            let message = message.ok_or_else(|| invalid("Expecting 'message' to be present"))?;
            Ok(Checked::Message(message.data))
        }
        call::Type::Heartbeat => Ok(Checked::Heartbeat),
        call::Type::Unknown => Err(Refusal::not_implemented("Received 'UNKNOWN' call")),
    }
}

fn check_status(status: &TaskStatus) -> Result<(), &'static str> {
    match &status.uuid {
        None => return Err("Expecting 'uuid' to be present"),
        Some(uuid) if uuid.len() != 16 => return Err("Not a valid UUID"),
        Some(_) => {}
    }
    if status.source.is_none() || status.source() != Source::Executor {
        return Err("Received Call from executor with invalid source, expecting 'SOURCE_EXECUTOR'");
    }
    if status.state() == TaskState::TaskStaging {
        return Err("Received TASK_STAGING from executor which is not allowed");
    }
    Ok(())
}

struct Standing {
    connected: bool,
    container: Option<ContainerId>,
}

async fn standing(context: &Context, key: &ExecutorKey) -> Result<Standing, Refusal> {
    let asked = key.clone();
    let found = context.handle.ask(move |agent| {
        if !agent.has_framework(&asked.framework) {
            return Err("Framework cannot be found");
        }
        let standing = agent.executor_standing(&asked);
        let standing = standing.ok_or("Executor cannot be found")?;
        Ok((standing, agent.container_of(&asked)))
    });
    let found = found
        .await
        .ok_or_else(|| Refusal::unavailable("The agent is stopping"))?;
    let ((state, connected, hosted), container) = found.map_err(Refusal::bad_request)?;
    if hosted || state == ExecutorState::Terminated {
        return Err(Refusal::bad_request("Executor cannot be found"));
    }
    Ok(Standing {
        connected,
        container,
    })
}

async fn subscribed(
    context: &Context,
    key: ExecutorKey,
    subscribe: call::Subscribe,
    media: MediaType,
) -> Response {
    let (sender, body) = records::stream(Limits::default());
    let id = NEXT_STREAM.fetch_add(1, Ordering::Relaxed);
    let watch = streams::watch(
        key.clone(),
        id,
        sender.clone(),
        media,
        context.handle.clone(),
    );
    context.streams.spawn(watch);
    let stream = EventStream { id, sender, media };
    context
        .handle
        .send(Work::Subscribe {
            key,
            subscribe,
            stream,
        })
        .await;
    let mut response = reply::message(media, body);
    *response.status_mut() = StatusCode::OK;
    response
}
