//! `/logging/toggle`: more log for a while, as every libprocess process offers it.
//!
//! Source: Mesos 1.11 `3rdparty/libprocess/src/logging.cpp`.

use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::RawQuery;
use axum::response::Response;
use axum::routing::any;
use dcos_core::units::parse_duration;
use dcos_core::verbosity;
use http::StatusCode;
use tokio::task::JoinHandle;

use crate::{Refusal, reply};

/// Ends the level that was asked for last.
static REVERT: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// Logs at `level` for `duration`, then as configured. A later call takes the place of this one.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn raise(level: u32, duration: Duration) {
    let mut revert = REVERT.lock().expect("no panic happens under this lock");
    if let Some(earlier) = revert.take() {
        earlier.abort();
    }
    verbosity::set(level);
    tracing::info!(level, ?duration, "logging level changed");
    if level > 0 {
        *revert = Some(tokio::spawn(async move {
            tokio::time::sleep(duration).await;
            verbosity::set(0);
            tracing::info!("logging level as configured again");
        }));
    }
}

/// The route, for any server.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/logging/toggle", any(toggle))
}

async fn toggle(RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let parameter = |wanted: &str| {
        let pairs = query.iter().flat_map(|query| query.split('&'));
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(name, value)| (name == wanted).then(|| value.to_owned()))
    };
    let (level, duration) = match (parameter("level"), parameter("duration")) {
        (None, None) => {
            let level = format!("{}\n", verbosity::level());
            return Ok(reply::text(StatusCode::OK, level));
        }
        (Some(_), None) => return Err(expecting("duration")),
        (None, Some(_)) => return Err(expecting("level")),
        (Some(level), Some(duration)) => (level, duration),
    };
    let number: i64 = level
        .parse()
        .map_err(|_| Refusal::bad_request(format!("Failed to convert '{level}' to number.\n")))?;
    let number = u32::try_from(number)
        .map_err(|_| Refusal::bad_request(format!("Invalid level '{number}'.\n")))?;
    let duration =
        parse_duration(&duration).map_err(|error| Refusal::bad_request(format!("{error}.\n")))?;
    raise(number, duration);
    Ok(reply::empty(StatusCode::OK))
}

fn expecting(name: &str) -> Refusal {
    Refusal::bad_request(format!("Expecting '{name}=value' in query.\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt as _;

    async fn ask(path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await;
        (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_level_holds_for_a_while() {
        let bad = StatusCode::BAD_REQUEST;
        for (query, text) in [
            ("level=1", "Expecting 'duration=value' in query.\n"),
            ("duration=1secs", "Expecting 'level=value' in query.\n"),
            ("level=-1&duration=1secs", "Invalid level '-1'.\n"),
        ] {
            let answer = ask(&format!("/logging/toggle?{query}")).await;
            assert_eq!(answer, (bad, text.to_owned()));
        }
        assert_eq!(ask("/logging/toggle?level=1&duration=x").await.0, bad);
        assert_eq!(ask("/logging/toggle").await.1, "0\n");
        assert_eq!(
            ask("/logging/toggle?level=2&duration=1hrs").await.0,
            StatusCode::OK
        );
        assert_eq!(ask("/logging/toggle").await.1, "2\n");
        // A later one takes its place, and ends.
        assert_eq!(
            ask("/logging/toggle?level=1&duration=1ms").await.0,
            StatusCode::OK
        );
        while verbosity::level() != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
