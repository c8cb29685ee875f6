//! Answers as Mesos words them: bodies with their content type, JSONP, redirects to the leader.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, VARY, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::{MediaType, Refusal, Rope};

/// The header in which a scheduler repeats the id of its event stream.
pub const MESOS_STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");

/// 202 without a body: the call will be carried out.
pub fn accepted() -> Response {
    empty(StatusCode::ACCEPTED)
}

/// A status without a body.
pub fn empty(status: StatusCode) -> Response {
    with_status(status, Body::empty())
}

/// A line of text for people.
pub fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = with_status(status, Body::from(text.into()));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// 200 with a message in the form it was encoded in.
pub fn message(media: MediaType, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, media.header());
    response
}

/// 200 with a JSON document.
pub fn json(document: impl Into<Bytes>) -> Response {
    message(MediaType::Json, document.into())
}

/// 200 with a message or document in pieces, in its form. `gzipped` says that the rope is
/// compressed already, by [`Rope::gzip`].
pub fn rope(media: MediaType, rope: Rope, gzipped: bool) -> Response {
    let mut response = message(media, rope.into_body());
    if gzipped {
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
    response
}

/// 200 with a JSON document, wrapped in a call if the query says `jsonp=<function>`.
///
/// The v0 endpoints of Mesos offer this to browsers (`3rdparty/libprocess/include/process/http.hpp`,
/// `OK(JSON::Value, jsonp)`). Departure: a function that isn't a (dotted) JavaScript name is
/// refused, since the original would run anything that stands there.
///
/// # Errors
/// 400 if the function's name is no name.
///
/// ```
/// use dcos_wire::reply;
///
/// let wrapped = reply::jsonp("jsonp=show&pretty=1".into(), r#"{"up":true}"#)?;
/// assert_eq!(wrapped.headers()["content-type"], "text/javascript");
/// assert!(reply::jsonp("jsonp=alert(1)".into(), "{}").is_err());
/// # Ok::<(), dcos_wire::Refusal>(())
/// ```
pub fn jsonp(query: Option<&str>, document: impl Into<Bytes>) -> Result<Response, Refusal> {
    let document = document.into();
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    let function = parameters
        .filter_map(|parameter| parameter.strip_prefix("jsonp="))
        .next_back();
    let Some(function) = function else {
        return Ok(json(document));
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.');
    if function.is_empty() || !function.bytes().all(named) {
        return Err(Refusal::bad_request(
            "Expecting 'jsonp' to be the name of a function",
        ));
    }
    let wrapped = [function.as_bytes(), b"(", &document, b")"].concat();
    let mut response = Response::new(Body::from(wrapped));
    let script = HeaderValue::from_static("text/javascript");
    response.headers_mut().insert(CONTENT_TYPE, script);
    Ok(response)
}

/// 307 to the same path and query at `leader` (`host:port`), without a scheme, as Mesos's masters
/// do; or 503 if no leader is known.
///
/// ```
/// let moved = dcos_wire::reply::leader(Some("10.0.0.2:5050"), &"/api/v1?x=1".parse().unwrap());
/// assert_eq!(moved.status(), 307);
/// assert_eq!(moved.headers()["location"], "//10.0.0.2:5050/api/v1?x=1");
/// ```
pub fn leader(leader: Option<&str>, uri: &Uri) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let location = leader.map(|leader| HeaderValue::try_from(format!("//{leader}{path}")));
    match location {
        Some(Ok(location)) => {
            let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
            response.headers_mut().insert(LOCATION, location);
            response
        }
        _ => text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected"),
    }
}

/// 404, worded as Mesos does; a fallback for routers.
pub fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "404 Not Found.")
}

/// 405, naming the methods that are allowed here.
pub fn method_not_allowed(allowed: &[Method], method: &Method) -> Response {
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "405 Method Not Allowed. Expecting one of {{ {} }}, but received '{method}'.",
            quoted.join(", ")
        ),
    );
    if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
        response.headers_mut().insert(ALLOW, names);
    }
    response
}

/// 401 with a challenge such as `Basic realm="mesos-master-scheduler"`.
pub fn unauthorized(challenge: &str) -> Response {
    let mut response = empty(StatusCode::UNAUTHORIZED);
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn with_status(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_to_redirect_to_is_unavailable() {
        let answer = leader(None, &Uri::from_static("/state"));
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn wrong_method_names_the_right_ones() {
        let answer = method_not_allowed(&[Method::POST], &Method::GET);
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()[ALLOW], "POST");
    }
}
