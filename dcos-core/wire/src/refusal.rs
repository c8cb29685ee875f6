//! Why a request is not carried out, as status and text.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::reply;

/// A request that is refused: the status a client sees and the sentence beside it.
///
/// Mesos answers refusals as plain text, and clients show that text to people.
///
/// ```
/// use dcos_wire::Refusal;
/// use http::StatusCode;
///
/// let refusal = Refusal::bad_request("Expecting 'type' to be present");
/// assert_eq!(refusal.status, StatusCode::BAD_REQUEST);
/// assert_eq!(refusal.to_string(), "400 Bad Request: Expecting 'type' to be present");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {text}")]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// The body of the answer.
    pub text: String,
}

impl Refusal {
    /// A refusal with any status.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    /// 400: the request is malformed or makes no sense.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 403: the request makes sense, but not from this client or not now.
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 404: what the request speaks of does not exist.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 409: somebody else changed what the request speaks of.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }

    /// 501: the request is understood, but not supported.
    pub fn not_implemented(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, text)
    }

    /// 503: not able to answer yet, or no longer.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        reply::text(self.status, self.text)
    }
}
