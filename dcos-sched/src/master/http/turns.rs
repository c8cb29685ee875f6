//! Whoever asks over HTTP too often waits: `--rate_limits` for reads and operators' calls.
//!
//! Counted are requests of those who authenticated: a principal that anybody may claim is nobody's.
//! Calls of schedulers are counted apart, in their order, together with those of drivers
//! (`master::throttle`), so that whoever looks at a framework takes nothing of what it may say.
//! Mesos limits none of these.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dcos_security::{Caller, TooMany, Turns};
use dcos_wire::Refusal;

/// Lets requests through when it is their turn.
pub(super) async fn take(
    State(turns): State<Turns>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    match come(&turns, &caller, request.uri().path()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn come(turns: &Turns, caller: &Caller, path: &str) -> Result<(), Refusal> {
    match caller.name() {
        Some(name) if !path.ends_with("/api/v1/scheduler") => {
            turns.come(Some(name)).await.map_err(too_many)
        }
        _ => Ok(()),
    }
}

/// As one that does not get a turn is answered.
pub(super) fn too_many(error: TooMany) -> Refusal {
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        format!("Request dropped: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use dcos_security::Principal;
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_did_not_authenticate_or_schedules_is_not_counted_here() {
        // The second turn comes after a quarter of an hour.
        let limits = r#"{"limits": [{"principal": "p", "qps": 0.001, "capacity": 0}],
            "aggregate_default_qps": 0.001}"#;
        let turns = Turns::new(&limits.parse().unwrap());
        let known = || Caller(Some(Principal::new("p")));
        assert!(come(&turns, &known(), "/state").await.is_ok());
        let second = come(&turns, &known(), "/api/v1").await.unwrap_err();
        assert_eq!(second.status, StatusCode::TOO_MANY_REQUESTS);
        for (who, path) in [
            (Caller(None), "/state"),
            (Caller(None), "/state"),
            (known(), "/api/v1/scheduler"),
            (known(), "/master/api/v1/scheduler"),
        ] {
            let come = come(&turns, &who, path).now_or_never();
            assert!(matches!(come, Some(Ok(()))), "{who:?} {path}");
        }
    }
}
