//! Why a request is refused, and the status code and body that say so.
//!
//! Texts and shapes are Marathon 1.11's: clients match on them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::{PathId, Timestamp};

/// One broken rule and where it was broken, such as `/container/docker/image`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The place, as a path into the JSON document; `/` is the document itself.
    pub path: String,
    /// The rule, in words.
    pub error: String,
}

impl Violation {
    /// Every broken rule in one line, for reports.
    pub fn join(violations: &[Self]) -> String {
        let lines = violations
            .iter()
            .map(|one| format!("{}: {}", one.path, one.error));
        lines.collect::<Vec<_>>().join("; ")
    }
}

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body is not JSON; holds the parser's text.
    #[error("Invalid JSON")]
    NotJson(String),
    /// The body is JSON of the wrong shape.
    #[error("Invalid JSON")]
    Shape(Vec<Violation>),
    /// The body has the right shape and breaks rules.
    #[error("Object is not valid")]
    Invalid(Vec<Violation>),
    /// Parameters that make no sense, alone or together.
    #[error("{0}")]
    BadRequest(String),
    /// A value that cannot be used.
    #[error("{0}")]
    Unprocessable(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// Something else has the name already.
    #[error("{0}")]
    Conflict(String),
    /// Deployments hold what should be changed.
    #[error(
        "App is locked by one or more deployments. Override with the option '?force=true'. \
         View details at '/v2/deployments/<DEPLOYMENT_ID>'."
    )]
    Locked(Vec<String>),
    /// As many deployments as allowed are running.
    #[error(
        "Max number ({0}) of running deployments is achieved. Wait for existing deployments to \
         complete or cancel one using force=true parameter. You can increase max deployment number \
         by using --max_running_deployments parameter but be advised that this can have negative \
         effects on the performance."
    )]
    TooManyDeployments(usize),
    /// The service is stopping or not yet ready.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// No app has this id.
    pub fn unknown_app(id: &PathId) -> Self {
        Self::NotFound(format!("App '{id}' does not exist"))
    }

    /// The app never had this version.
    pub fn unknown_version(id: &PathId, version: Timestamp) -> Self {
        Self::NotFound(format!("App '{id}' does not exist in version {version}"))
    }

    /// No group has this id.
    pub fn unknown_group(id: &PathId) -> Self {
        Self::NotFound(format!("Group '{id}' does not exist"))
    }

    /// No task has this id.
    pub fn unknown_task(id: &str) -> Self {
        Self::NotFound(format!("Task '{id}' does not exist"))
    }

    /// No deployment has this id.
    pub fn unknown_deployment(id: &str) -> Self {
        Self::NotFound(format!("DeploymentPlan {id} does not exist"))
    }

    /// A single broken rule.
    pub fn invalid(path: impl Into<String>, error: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation {
            path: path.into(),
            error: error.into(),
        }])
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotJson(_) | Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Shape(_) | Self::Invalid(_) | Self::Unprocessable(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) | Self::Locked(_) => StatusCode::CONFLICT,
            Self::TooManyDeployments(_) => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        let message = self.to_string();
        match self {
            Self::NotJson(details) => json!({"message": message, "details": details}),
            Self::Shape(violations) | Self::Invalid(violations) => {
                json!({"message": message, "details": by_path(violations)})
            }
            Self::Locked(deployments) => {
                let ids: Vec<_> = deployments.iter().map(|id| json!({"id": id})).collect();
                json!({"message": message, "deployments": ids})
            }
            _ => json!({"message": message}),
        }
    }
}

/// Groups violations by place, keeping the order in which places were first met.
fn by_path(violations: &[Violation]) -> Vec<Value> {
    let mut places: Vec<(&str, Vec<&str>)> = Vec::new();
    for violation in violations {
        match places.iter_mut().find(|(path, _)| *path == violation.path) {
            Some((_, errors)) if errors.contains(&violation.error.as_str()) => {}
            Some((_, errors)) => errors.push(&violation.error),
            None => places.push((&violation.path, vec![&violation.error])),
        }
    }
    places
        .into_iter()
        .map(|(path, errors)| json!({"path": path, "errors": errors}))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_of_one_place_stand_together() {
        let error = Error::Invalid(
            [("/id", "a"), ("/cpus", "b"), ("/id", "c"), ("/id", "a")]
                .map(|(path, error)| Violation {
                    path: path.into(),
                    error: error.into(),
                })
                .to_vec(),
        );
        assert_eq!(error.status(), 422);
        assert_eq!(
            error.body(),
            json!({"message": "Object is not valid", "details": [
                {"path": "/id", "errors": ["a", "c"]}, {"path": "/cpus", "errors": ["b"]}]})
        );
    }
}
