//! Reading a call from a request, refused in the order and words of Mesos 1.11 (`http.cpp`).

use bytes::Bytes;
use dcos_core::units::parse_duration;
use dcos_proto::json::{self, Dialect, JsonError};
use dcos_proto::{Message, decode};
use dcos_wire::{MediaType, Refusal};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

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
        MediaType::Json => {
            let timed = with_grace_in_seconds(body);
            let body = timed.as_deref().unwrap_or(body);
            json::from_slice(body, Dialect::V1).map_err(|error| {
                Refusal::bad_request(match error {
                    JsonError::Syntax { .. } => format!("Failed to parse body into JSON: {error}"),
                    _ => format!("Failed to convert JSON into Call protobuf: {error}"),
                })
            })
        }
    }
}

/// The grace period of `DRAIN_AGENT` may be written as flags are (`"10mins"`), as Mesos's own documentation shows it;
/// `None` if it is not.
fn with_grace_in_seconds(body: &[u8]) -> Option<Vec<u8>> {
    const FIELD: &str = "max_grace_period";
    body.windows(FIELD.len())
        .position(|at| at == FIELD.as_bytes())?;
    let mut call: Value = serde_json::from_slice(body).ok()?;
    let grace = call.get_mut("drain_agent")?.get_mut(FIELD)?;
    let period = parse_duration(grace.as_str()?).ok()?;
    *grace = json!({"seconds": period.as_secs(), "nanos": period.subsec_nanos()});
    Some(call.to_string().into_bytes())
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

#[cfg(test)]
mod tests {
    use dcos_proto::master::Call;

    use super::*;

    #[test]
    fn a_grace_period_may_be_written_as_flags_are() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, MediaType::Json.as_str().parse().unwrap());
        let seconds = |grace: &str| {
            let body = format!(
                r#"{{"type": "DRAIN_AGENT", "drain_agent": {{
                    "agent_id": {{"value": "a"}}, "max_grace_period": {grace}}}}}"#
            );
            let call: Result<Call, _> = read(&headers, &body.into());
            let grace = call.ok()?.drain_agent?.max_grace_period?;
            Some((grace.seconds.unwrap_or(0), grace.nanos.unwrap_or(0)))
        };
        assert_eq!(seconds(r#""10mins""#), Some((600, 0)));
        assert_eq!(seconds(r#""1500ms""#), Some((1, 500_000_000)));
        assert_eq!(seconds(r#"{"seconds": 600}"#), Some((600, 0)));
        assert_eq!(seconds(r#""soon""#), None);
    }
}
