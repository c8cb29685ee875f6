//! `POST /api/v1/scheduler`.

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dcos_proto::scheduler::call::Type;
use dcos_proto::scheduler::{Call, Event, event};
use dcos_security::Caller;
use dcos_wire::records::{self, Limits};
use dcos_wire::reply::MESOS_STREAM_ID;
use dcos_wire::{Refusal, reply};

use super::{Api, answer, body, name_of, only};
use crate::master::Reply;
use crate::master::shell::{Command, Sink, encode};
use crate::master::validation;
use crate::sdk::TOO_SLOW;

/// The longest stream id that is compared; ours have 36 characters.
const MAX_STREAM_ID: usize = 128;

pub(super) async fn call(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    content: Bytes,
) -> Response {
    let principal = match name_of(&caller) {
        Ok(principal) => principal,
        Err(refusal) => return refusal.into_response(),
    };
    if let Err(refused) = only(&Method::POST, &method) {
        return *refused;
    }
    match perform(&api, principal, &headers, &content).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn perform(
    api: &Api,
    principal: Option<&str>,
    headers: &HeaderMap,
    content: &Bytes,
) -> Result<Response, Refusal> {
    let call: Call = body::read(headers, content)?;
    let stream_id = headers
        .get(MESOS_STREAM_ID)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if stream_id
        .as_ref()
        .is_some_and(|id| id.len() > MAX_STREAM_ID)
    {
        return Err(Refusal::bad_request(
            "The 'Mesos-Stream-Id' header is too long",
        ));
    }
    // What is wrong with the call itself comes before what is wrong with `Accept`.
    let kind = validation::call::call(&call, principal).map_err(|error| {
        Refusal::bad_request(format!("Failed to validate scheduler::Call: {error}"))
    })?;
    if kind == Type::ReconcileOperations {
        body::wanted(headers)?;
    }
    if kind != Type::Subscribe {
        return Ok(answer(send(api, principal, stream_id, call, None).await?));
    }
    let media = body::wanted(headers)?;
    let farewell = encode(&too_slow(), media);
    let (sender, stream) = records::stream_with_farewell(Limits::default(), Some(farewell));
    let sink = Some(Sink::Http(sender, media));
    match send(api, principal, stream_id, call, sink).await? {
        Reply::Subscribed { stream_id } => {
            let mut response = reply::message(media, stream);
            if let Ok(id) = stream_id.parse() {
                response.headers_mut().insert(MESOS_STREAM_ID, id);
            }
            Ok(response)
        }
        other => Ok(answer(other)),
    }
}

/// The last event of a scheduler that does not keep up.
fn too_slow() -> Event {
    Event {
        r#type: Some(event::Type::Error.into()),
        error: Some(event::Error {
            message: TOO_SLOW.to_owned(),
        }),
        ..Event::default()
    }
}

async fn send(
    api: &Api,
    principal: Option<&str>,
    stream_id: Option<String>,
    call: Call,
    sink: Option<Sink>,
) -> Result<Reply, Refusal> {
    let reply = api.master.ask(|answer| Command::Call {
        stream_id,
        principal: principal.map(ToOwned::to_owned),
        call: Box::new(call),
        sink,
        answer,
    });
    Ok(reply.await?)
}
