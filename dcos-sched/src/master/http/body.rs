//! Reading a call from a request, refused in the order and words of Mesos 1.11 (`http.cpp`).

use bytes::Bytes;
use dcos_proto::json::{self, Dialect, JsonError};
use dcos_proto::{Message, decode};
use dcos_wire::{MediaType, Refusal};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

/// The form and the message of a request's body.
pub(super) fn read<M: Message>(headers: &HeaderMap, body: &Bytes) -> Result<M, Refusal> {
    let media = match headers.get(CONTENT_TYPE) {
        None => {
            return Err(Refusal::bad_request(
                "Expecting 'Content-Type' to be present",
            ));
        }
        Some(value) if value == MediaType::Json.as_str() => MediaType::Json,
        Some(value) if value == MediaType::Protobuf.as_str() => MediaType::Protobuf,
        Some(_) => {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Expecting 'Content-Type' of application/json or application/x-protobuf",
            ));
        }
    };
    match media {
        MediaType::Protobuf => decode(body).map_err(|error| {
            Refusal::bad_request(format!("Failed to parse body into Call protobuf: {error}"))
        }),
        MediaType::Json => json::from_slice(body, Dialect::V1).map_err(|error| {
            Refusal::bad_request(match error {
                JsonError::Syntax { .. } => format!("Failed to parse body into JSON: {error}"),
                _ => format!("Failed to convert JSON into Call protobuf: {error}"),
            })
        }),
    }
}

/// The form in which a client wants its answer.
pub(super) fn wanted(headers: &HeaderMap) -> Result<MediaType, Refusal> {
    MediaType::of_answer(headers).map_err(|refusal| {
        Refusal::new(
            refusal.status,
            "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
        )
    })
}
