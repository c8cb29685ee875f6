//! A request taken apart: pieces of the path, parameters, body.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request as HttpRequest;
use axum::response::Response;
use bytes::Bytes;
use dcos_wire::Peer;
use http::header::{CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;

use super::json_with;
use crate::Error;
use crate::core::Overdue;

/// Larger bodies are refused.
const LARGEST_BODY: usize = 10 * 1024 * 1024;

/// A request, read to its end.
#[derive(Debug)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// The path cut at slashes, without empty pieces.
    pub path: Vec<String>,
    /// The path as it was sent.
    pub uri: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Who sent it.
    pub client: String,
    query: Vec<(String, String)>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// The answer to one that cannot be read.
    pub async fn read(request: HttpRequest) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let client = parts.extensions.get::<Peer>().and_then(Peer::ip);
        let client = client.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
        let body = to_bytes(body, LARGEST_BODY).await.map_err(|_| {
            let text = format!("The body is not readable or longer than {LARGEST_BODY} bytes");
            json_with(StatusCode::PAYLOAD_TOO_LARGE, &json!({"message": text}))
        })?;
        let pieces = parts
            .uri
            .path()
            .split('/')
            .filter(|piece| !piece.is_empty());
        let path = pieces
            .flat_map(|piece| {
                // An id sent as one piece has its slashes escaped.
                let piece = decode(piece, false);
                piece
                    .split('/')
                    .filter(|p| !p.is_empty())
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect();
        let query = parts.uri.query().unwrap_or_default();
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name, true), decode(value, true))
            });
        Ok(Self {
            method: parts.method,
            path,
            uri: parts.uri.path().to_owned(),
            query: query.collect(),
            headers: parts.headers,
            body,
            client,
        })
    }

    /// Whether the body may be a JSON document by what is said of it: `application/json` or `text/json`, or nothing.
    ///
    /// A page of another site can have a browser send other types, or none, without that asking first whether it may
    /// (WHATWG Fetch, "CORS-safelisted request-header"); a browser says where the page is from.
    pub fn is_json(&self) -> bool {
        let Some(kind) = self.headers.get(CONTENT_TYPE) else {
            return !self.headers.contains_key(ORIGIN);
        };
        let kind = kind.to_str().unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        ["application/json", "text/json"]
            .iter()
            .any(|json| kind.eq_ignore_ascii_case(json))
    }

    /// A parameter that may be there once.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A parameter that may be there several times.
    pub fn params<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// A yes-or-no parameter; clients write `True`, too.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.param(name)
            .map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }

    /// The parameters of killing tasks: `scale` and `wipe`, not both.
    pub(super) fn scale(&self) -> Result<bool, Error> {
        let scale = self.flag("scale", false);
        if scale && self.flag("wipe", false) {
            let text = "You cannot use scale and wipe at the same time.";
            return Err(Error::BadRequest(text.to_owned()));
        }
        Ok(scale)
    }

    /// How long the deployment this starts may take, and what becomes of it then: `deadline` in seconds, and `onDeadline`.
    pub(super) fn time_for_deployment(&self) -> Result<Option<(Duration, Overdue)>, Error> {
        let bad = |text: &str| Err(Error::BadRequest(text.to_owned()));
        let then = match self.param("onDeadline") {
            None | Some("stop") => Overdue::Stop,
            Some("rollback") => Overdue::Rollback,
            Some(_) => return bad("onDeadline is stop or rollback"),
        };
        let Some(deadline) = self.param("deadline") else {
            return match self.param("onDeadline") {
                Some(_) => bad("onDeadline needs a deadline"),
                None => Ok(None),
            };
        };
        match deadline.parse::<u32>() {
            Ok(seconds) if seconds > 0 => Ok(Some((Duration::from_secs(seconds.into()), then))),
            _ => bad("deadline is a number of seconds, at least 1"),
        }
    }

    /// Whether the client asks for this type first or at all.
    pub fn accepts(&self, kind: &str) -> bool {
        let accept = self.headers.get_all(http::header::ACCEPT);
        accept
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains(kind))
    }
}

/// Undoes percent-encoding; what is no valid escape stays as it is.
fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escaped {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            let space = *first == b'+' && plus_is_space;
            bytes.push(if space { b' ' } else { *first });
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slashes_and_escapes() {
        let request = http::Request::get("//v2/apps//prod%2Fdb/?embed=a&embed=b+c&force=True&x")
            .body(axum::body::Body::empty())
            .unwrap();
        let request = Request::read(request).await.unwrap();
        assert_eq!(request.path, ["v2", "apps", "prod", "db"]);
        assert_eq!(request.params("embed").collect::<Vec<_>>(), ["a", "b c"]);
        assert!(request.flag("force", false) && !request.flag("x", true));
        assert_eq!(decode("100%", false), "100%");
    }

    #[tokio::test]
    async fn documents_that_no_foreign_page_sends() {
        let is_json = async |headers: &[(&str, &str)]| {
            let request = http::Request::post("/v2/apps");
            let request = headers.iter().fold(request, |request, (name, value)| {
                request.header(*name, *value)
            });
            let request = request.body(axum::body::Body::from("{}")).unwrap();
            Request::read(request).await.unwrap().is_json()
        };
        let origin = ("origin", "http://elsewhere.example");
        for kind in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "text/json",
        ] {
            assert!(is_json(&[("content-type", kind), origin]).await, "{kind}");
        }
        let form = "application/x-www-form-urlencoded";
        for kind in ["text/plain", form, "application/jsonp", ""] {
            assert!(!is_json(&[("content-type", kind)]).await, "{kind}");
        }
        assert!(is_json(&[]).await);
        assert!(!is_json(&[origin]).await);
    }
}
