//! Which media type a request is in, and which one its answer should be in.
//!
//! Source: Mesos 1.11 `src/master/http.cpp`, `3rdparty/libprocess/src/http.cpp`
//! (`Request::acceptsMediaType`, `acceptsEncoding`), RFC 9110 section 12.5.
//! Departure: a parameter such as `; charset=utf-8` behind the content type is ignored, where
//! Mesos answers 415.

use bytes::Bytes;
use dcos_proto::json::{self, Dialect, JsonError};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::Refusal;

/// The two forms of every message of API v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaType {
    /// `application/json`
    Json,
    /// `application/x-protobuf`
    Protobuf,
}

impl MediaType {
    /// Both, in the order in which an answer prefers them.
    pub const ALL: [Self; 2] = [Self::Json, Self::Protobuf];

    /// As written in a header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// As a header's value.
    pub const fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }

    /// A message of API v1 in this form.
    pub fn encode<M: dcos_proto::Message>(self, message: &M) -> Bytes {
        match self {
            Self::Json => json::to_vec(message, Dialect::V1).into(),
            Self::Protobuf => message.encode_to_vec().into(),
        }
    }

    /// Reads a message of API v1 that is in this form.
    ///
    /// # Errors
    /// 400: it is not of this form, or lacks what is required.
    pub fn decode<M: dcos_proto::Message>(self, body: &[u8]) -> Result<M, Refusal> {
        match self {
            Self::Json => json::from_slice(body, Dialect::V1).map_err(|error| {
                Refusal::bad_request(match error {
                    JsonError::Syntax { reason } => {
                        format!("Failed to parse body into JSON: {reason}")
                    }
                    error => format!(
                        "Failed to convert JSON into {} protobuf: {error}",
                        name::<M>()
                    ),
                })
            }),
            Self::Protobuf => dcos_proto::decode(body).map_err(|error| {
                let text = format!(
                    "Failed to parse body into {} protobuf: {error}",
                    name::<M>()
                );
                Refusal::bad_request(text)
            }),
        }
    }

    /// The form a request's body is in, by its `Content-Type`.
    ///
    /// # Errors
    /// 400 if the header is missing, 415 if it names anything else.
    pub fn of_content(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(CONTENT_TYPE) else {
            return Err(Refusal::bad_request(
                "Expecting 'Content-Type' to be present",
            ));
        };
        let named = value.to_str().ok().map(essence);
        Self::ALL
            .into_iter()
            .find(|media| named.is_some_and(|named| named.eq_ignore_ascii_case(media.as_str())))
            .ok_or_else(|| {
                Refusal::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "Expecting 'Content-Type' of application/json or application/x-protobuf",
                )
            })
    }

    /// The form an answer should be in, by the request's `Accept`: JSON if it is allowed.
    ///
    /// # Errors
    /// 406 if the client takes neither.
    pub fn of_answer(headers: &HeaderMap) -> Result<Self, Refusal> {
        Self::ALL
            .into_iter()
            .find(|media| accepts(headers, &ACCEPT, media.as_str()))
            .ok_or_else(|| {
                Refusal::new(
                    StatusCode::NOT_ACCEPTABLE,
                    "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
                )
            })
    }
}

/// The name of a message without its package, as Mesos says it in refusals.
fn name<M: dcos_proto::Message>() -> &'static str {
    M::NAME.rsplit('.').next().unwrap_or(M::NAME)
}

/// Whether the client takes a gzip'd answer.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    best(headers, &ACCEPT_ENCODING, |offered| match offered {
        "gzip" | "x-gzip" => Some(1),
        "*" => Some(0),
        _ => None,
    })
    .is_some_and(|quality| quality > 0.0)
}

/// Whether a header such as `Accept` allows `media`; one that is not there allows anything.
pub fn accepts(headers: &HeaderMap, header: &HeaderName, media: &str) -> bool {
    if !headers.contains_key(header) {
        return true;
    }
    let kind = media.split('/').next().unwrap_or(media);
    best(headers, header, |offered| {
        if offered.eq_ignore_ascii_case(media) {
            Some(2)
        } else if offered.strip_suffix("/*") == Some(kind) {
            Some(1)
        } else {
            (offered == "*/*").then_some(0)
        }
    })
    .is_some_and(|quality| quality > 0.0)
}

/// The quality of the most specific entry that `matches`; what it returns ranks entries.
fn best(
    headers: &HeaderMap,
    name: &HeaderName,
    matches: impl Fn(&str) -> Option<u8>,
) -> Option<f32> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|entry| Some((matches(essence(entry))?, quality(entry))))
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, quality)| quality)
}

/// An entry without its parameters.
fn essence(entry: &str) -> &str {
    entry.split(';').next().unwrap_or(entry).trim()
}

/// The `q` parameter of an entry; 1 if there is none or it can't be read.
fn quality(entry: &str) -> f32 {
    entry
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.trim().strip_prefix("q="))
        .find_map(|value| value.trim().parse().ok())
        .unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn content_type_decides_how_a_body_is_read() {
        let check = |value: &str, expected: Result<MediaType, u16>| {
            let found = MediaType::of_content(&headers(CONTENT_TYPE, value));
            assert_eq!(found.map_err(|refusal| refusal.status.as_u16()), expected);
        };
        check("application/json", Ok(MediaType::Json));
        check("application/json; charset=utf-8", Ok(MediaType::Json));
        check("application/x-protobuf", Ok(MediaType::Protobuf));
        check("application/recordio", Err(415));
        check("", Err(415));
        let missing = MediaType::of_content(&HeaderMap::new()).unwrap_err();
        assert_eq!(missing.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn accept_decides_how_an_answer_is_written() {
        let check = |value: &str, expected: Option<MediaType>| {
            let found = MediaType::of_answer(&headers(ACCEPT, value)).ok();
            assert_eq!(found, expected, "{value}");
        };
        check("*/*", Some(MediaType::Json));
        check("application/*", Some(MediaType::Json));
        check("application/json", Some(MediaType::Json));
        check("application/x-protobuf", Some(MediaType::Protobuf));
        check(
            "text/html, application/x-protobuf",
            Some(MediaType::Protobuf),
        );
        check(
            "application/x-protobuf, application/json",
            Some(MediaType::Json),
        );
        check("application/json;q=0, */*", Some(MediaType::Protobuf));
        check("*/*;q=0", None);
        check("text/html", None);
        let absent = MediaType::of_answer(&HeaderMap::new());
        assert_eq!(absent, Ok(MediaType::Json));
    }

    #[test]
    fn messages_pass_through_either_form() {
        use dcos_proto::mesos::TaskId;
        for media in MediaType::ALL {
            let encoded = media.encode(&TaskId::from("t1"));
            assert_eq!(media.decode(&encoded), Ok(TaskId::from("t1")));
            let broken = media.decode::<TaskId>(b"x").unwrap_err();
            assert_eq!(broken.status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn gzip_is_taken_only_where_asked_for() {
        let check = |value: &str, expected: bool| {
            assert_eq!(accepts_gzip(&headers(ACCEPT_ENCODING, value)), expected);
        };
        check("gzip", true);
        check("deflate, gzip;q=0.5", true);
        check("*", true);
        check("gzip;q=0", false);
        check("identity", false);
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
