//! Why a request is refused, and the status code and body that say so.
//!
//! Texts and shapes are Metronome 0.6's: clients match on them.

use dcos_marathon::Violation;
use dcos_marathon::shell::Gone;
use http::StatusCode;
use serde_json::{Value, json};

use crate::model::{JobId, RunId};

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such job.
    #[error("Job not found")]
    UnknownJob(JobId),
    /// The job has no such schedule.
    #[error("Schedule not found")]
    UnknownSchedule(String),
    /// The job has no such run that goes on.
    #[error("Job Run not found")]
    UnknownRun(JobId, RunId),
    /// Something in the way.
    #[error("{0}")]
    Conflict(String),
    /// A rule about other jobs.
    #[error("{0}")]
    Unprocessable(String),
    /// The document breaks rules.
    #[error("Object is not valid")]
    Invalid(Vec<Violation>),
    /// The request itself makes no sense; the answer repeats its path.
    #[error("{1}")]
    Client(StatusCode, String),
    /// The service is stopping or not yet ready.
    #[error("Metronome is shutting down")]
    Unavailable,
}

impl Error {
    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownJob(_) | Self::UnknownSchedule(_) | Self::UnknownRun(..) => {
                StatusCode::NOT_FOUND
            }
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Unprocessable(_) | Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Client(status, _) => *status,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The body of the answer to a request for `path`.
    pub fn body(&self, path: &str) -> Value {
        let message = self.to_string();
        match self {
            Self::UnknownJob(id) => json!({"message": message, "id": id}),
            Self::UnknownSchedule(id) => json!({"message": message, "id": id}),
            Self::UnknownRun(job, run) => json!({"message": message, "jobSpec": job, "id": run}),
            Self::Invalid(violations) => dcos_marathon::Error::Invalid(violations.clone()).body(),
            Self::Client(..) => json!({"message": escape(&message), "requestPath": escape(path)}),
            Self::Conflict(_) | Self::Unprocessable(_) | Self::Unavailable => {
                json!({"message": message})
            }
        }
    }
}

impl From<Gone> for Error {
    fn from(_: Gone) -> Self {
        Self::Unavailable
    }
}

/// What came from outside must not be read as HTML, whatever a browser takes the answer for.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#x27;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_those_of_the_original() {
        let body = |error: Error| error.body("/a<b>");
        assert_eq!(
            body(Error::UnknownJob("x".into())),
            json!({"message": "Job not found", "id": "x"})
        );
        assert_eq!(
            body(Error::UnknownRun("x".into(), "1".into())),
            json!({"message": "Job Run not found", "jobSpec": "x", "id": "1"})
        );
        assert_eq!(
            body(Error::Client(
                StatusCode::NOT_FOUND,
                "Unknown route.".into()
            )),
            json!({"message": "Unknown route.", "requestPath": "/a&lt;b&gt;"})
        );
    }
}
