//! Endpoints of Mesos that are not here: 501 and why, where an unknown path has a bare 404.
//!
//! Source: the routes of libprocess 1.11 (`process.cpp`, `help.cpp`, `profiler.cpp`, `memory_profiler.cpp`).

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use crate::{Refusal, reply};

/// A path, with all below it, and what to use instead.
pub type Absent = (&'static str, &'static str);

/// What every libprocess process has.
const COMMON: [Absent; 4] = [
    (
        "/help",
        "endpoints are described in the documentation of this program, not by itself",
    ),
    (
        "/__processes__",
        "there are no libprocess actors; what waits for the deciding loop is in /metrics/snapshot",
    ),
    (
        "/profiler",
        "profile the process from outside, such as by perf",
    ),
    (
        "/memory-profiler",
        "profile the process from outside, such as by heaptrack",
    ),
];

/// The answer to a request for `path`, which no route has. `own` are the absent ones of the program itself.
pub fn answer(path: &str, own: &[Absent]) -> Response {
    let below = |root: &str| {
        let rest = path.strip_prefix(root);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut absent = COMMON.iter().chain(own);
    match absent.find(|(root, _)| below(root)) {
        Some((root, why)) => {
            Refusal::not_implemented(format!("There is no {root} here: {why}.")).into_response()
        }
        None => reply::text(StatusCode::NOT_FOUND, "404 Not Found."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_says_why_and_what_is_unknown_does_not() {
        let own = [("/registrar(1)", "it is elsewhere")];
        for (path, status) in [
            ("/help", 501),
            ("/help/master/state", 501),
            ("/helpful", 404),
            ("/profiler/start", 501),
            ("/registrar(1)/registry", 501),
            ("/registrar", 404),
            ("/", 404),
        ] {
            assert_eq!(answer(path, &own).status(), status, "{path}");
        }
    }
}
