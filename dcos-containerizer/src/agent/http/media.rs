//! The media types of the operator API, where requests and answers may also be streams of
//! records.
//!
//! Source: Mesos 1.11 `Http::api`, `Http::_api` (`src/slave/http.cpp`).

use axum::body::Body;
use axum::response::Response;
use dcos_proto::agent::{Call, call};
use dcos_wire::{MediaType, Refusal, accepts};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A stream of records.
const RECORDS: &str = "application/recordio";
/// What the records of a request are in.
const MESSAGE_CONTENT_TYPE: HeaderName = HeaderName::from_static("message-content-type");
/// What the records of an answer may be in.
const MESSAGE_ACCEPT: HeaderName = HeaderName::from_static("message-accept");

/// What a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// One call.
    Whole(MediaType),
    /// Records, each a call.
    Records(MediaType),
}

impl Content {
    /// # Errors
    /// 400 if a header is missing, 415 if it names anything else.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let inner = headers.get(&MESSAGE_CONTENT_TYPE);
        if essence(headers.get(CONTENT_TYPE)) != Some(RECORDS) {
            let media = MediaType::of_content(headers).map_err(|refusal| match refusal.status {
                StatusCode::UNSUPPORTED_MEDIA_TYPE => unsupported(
                    "Expecting 'Content-Type' of application/json or application/x-protobuf \
                     or application/recordio",
                ),
                _ => refusal,
            })?;
            if inner.is_some() {
                return Err(unsupported(
                    "Expecting 'Message-Content-Type' to be not set for non-streaming requests",
                ));
            }
            return Ok(Self::Whole(media));
        }
        if inner.is_none() {
            return Err(Refusal::bad_request(
                "Expecting 'Message-Content-Type' to be set for streaming requests",
            ));
        }
        let mut all = MediaType::ALL.into_iter();
        let media = all.find(|media| essence(inner) == Some(media.as_str()));
        media.map(Self::Records).ok_or_else(|| {
            unsupported(
                "Expecting 'Message-Content-Type' of application/json or application/x-protobuf",
            )
        })
    }
}

/// What an answer is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// One message; a stream is framed all the same, and only calls itself by its records' type.
    Whole(MediaType),
    /// Records.
    Records(MediaType),
}

impl Accepted {
    /// # Errors
    /// 406 if the client takes nothing that is offered.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let named = |header: &HeaderName| {
            let mut all = MediaType::ALL.into_iter();
            all.find(|media| accepts(headers, header, media.as_str()))
        };
        if let Some(media) = named(&ACCEPT) {
            if headers.contains_key(&MESSAGE_ACCEPT) {
                return Err(not_acceptable(
                    "Expecting 'Message-Accept' to be not set for non-streaming responses",
                ));
            }
            return Ok(Self::Whole(media));
        }
        if !accepts(headers, &ACCEPT, RECORDS) {
            return Err(not_acceptable(
                "Expecting 'Accept' to allow application/json or application/x-protobuf or \
                 application/recordio",
            ));
        }
        named(&MESSAGE_ACCEPT).map(Self::Records).ok_or_else(|| {
            not_acceptable(
                "Expecting 'Message-Accept' to allow application/json or application/x-protobuf",
            )
        })
    }

    /// What messages are in.
    pub(super) fn media(self) -> MediaType {
        match self {
            Self::Whole(media) | Self::Records(media) => media,
        }
    }

    /// Refuses a call that is not answered so, or cannot come whole.
    ///
    /// # Errors
    /// 415 and 406.
    pub(super) fn suits(self, call: &Call) -> Result<(), Refusal> {
        let name = call.r#type().as_str_name();
        match (call.r#type(), self) {
            (call::Type::AttachContainerInput, _) => Err(unsupported(&format!(
                "Expecting 'Content-Type' to be {RECORDS} for {name} call"
            ))),
            (_, Self::Whole(_))
            | (
                call::Type::AttachContainerOutput | call::Type::LaunchNestedContainerSession,
                Self::Records(_),
            ) => Ok(()),
            (_, Self::Records(_)) => Err(not_acceptable(&format!(
                "Streaming response is not supported for {name} call"
            ))),
        }
    }

    /// A stream of records as the answer.
    pub(super) fn stream(self, body: Body) -> Response {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        match self {
            Self::Whole(media) => drop(headers.insert(CONTENT_TYPE, media.header())),
            Self::Records(media) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(RECORDS));
                headers.insert(MESSAGE_CONTENT_TYPE, media.header());
            }
        }
        response
    }
}

/// 415 for a stream of calls of any other kind.
pub(super) fn not_streamed(call: &Call) -> Refusal {
    let name = call.r#type().as_str_name();
    unsupported(&format!(
        "Streaming 'Content-Type' {RECORDS} is not supported for {name} call"
    ))
}

fn unsupported(text: &str) -> Refusal {
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
}

fn not_acceptable(text: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_ACCEPTABLE, text)
}

/// A media type without its parameters.
fn essence(header: Option<&HeaderValue>) -> Option<&str> {
    let value = header?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        let all = all.iter().cloned();
        all.map(|(name, value)| (name, value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn content_is_one_call_or_records_of_calls() {
        let check = |all: &[(HeaderName, &str)], expected: Result<Content, u16>| {
            let found = Content::of(&headers(all)).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(found, expected, "{all:?}");
        };
        let (json, protobuf) = ("application/json", "application/x-protobuf");
        check(&[], Err(400));
        check(&[(CONTENT_TYPE, "text/plain")], Err(415));
        check(&[(CONTENT_TYPE, json)], Ok(Content::Whole(MediaType::Json)));
        check(
            &[(CONTENT_TYPE, json), (MESSAGE_CONTENT_TYPE, json)],
            Err(415),
        );
        check(&[(CONTENT_TYPE, RECORDS)], Err(400));
        check(
            &[(CONTENT_TYPE, RECORDS), (MESSAGE_CONTENT_TYPE, RECORDS)],
            Err(415),
        );
        check(
            &[(CONTENT_TYPE, RECORDS), (MESSAGE_CONTENT_TYPE, protobuf)],
            Ok(Content::Records(MediaType::Protobuf)),
        );
    }

    #[test]
    fn an_answer_is_records_only_if_nothing_else_is_taken() {
        let check = |all: &[(HeaderName, &str)], expected: Result<Accepted, u16>| {
            let found = Accepted::of(&headers(all)).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(found, expected, "{all:?}");
        };
        check(&[], Ok(Accepted::Whole(MediaType::Json)));
        check(&[(ACCEPT, "text/plain")], Err(406));
        check(&[(ACCEPT, RECORDS)], Ok(Accepted::Records(MediaType::Json)));
        check(
            &[
                (ACCEPT, RECORDS),
                (MESSAGE_ACCEPT, "application/x-protobuf"),
            ],
            Ok(Accepted::Records(MediaType::Protobuf)),
        );
        check(
            &[(ACCEPT, RECORDS), (MESSAGE_ACCEPT, "text/plain")],
            Err(406),
        );
        check(
            &[(ACCEPT, "*/*"), (MESSAGE_ACCEPT, "application/json")],
            Err(406),
        );
    }
}
