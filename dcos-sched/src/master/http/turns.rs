//! Whoever asks over HTTP too often waits: `--rate_limits` for reads and operators' calls.
//!
//! Counted are requests of those who authenticated: a principal that anybody may claim is nobody's.
//! Calls of schedulers are counted apart, in their order, together with those of drivers
//! (`master::throttle`), so that whoever looks at a framework takes nothing of what it may say.
//! Mesos limits none of these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dcos_core::time::steady;
use dcos_security::{Admission, Caller, RateLimits, Throttle};
use dcos_wire::Refusal;
use tokio::sync::oneshot;

/// Requests that wait for their turn. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Turns(Option<Arc<Mutex<Queue>>>);

type Queue = Throttle<oneshot::Sender<()>>;

impl Turns {
    pub(super) fn new(limits: &RateLimits) -> Self {
        let limited = *limits != RateLimits::default();
        Self(limited.then(|| Arc::new(Mutex::new(Throttle::new(limits.clone())))))
    }

    /// Returns when it is the turn of a request.
    async fn come(&self, caller: &Caller, path: &str) -> Result<(), Refusal> {
        let (Some(queue), Some(name)) = (&self.0, caller.name()) else {
            return Ok(());
        };
        if path.ends_with("/api/v1/scheduler") {
            return Ok(());
        }
        let (turn, mut called) = oneshot::channel();
        match locked(queue).admit(steady(), Some(name), turn) {
            Admission::Now(_) => return Ok(()),
            Admission::Exceeded { capacity, .. } => {
                let text = format!("Request dropped: capacity({capacity}) exceeded");
                return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, text));
            }
            Admission::Later => {}
        }
        loop {
            // Whoever waits calls up all whose turn has come.
            let next = locked(queue).next_deadline();
            let wait = next.map_or(Duration::ZERO, |next| next.since(steady()));
            tokio::select! {
                biased;
                _ = &mut called => return Ok(()),
                () = tokio::time::sleep(wait) => {
                    let mut queue = locked(queue);
                    while let Some(turn) = queue.poll(steady()) {
                        // One that left meanwhile has had its turn.
                        let _ = turn.send(());
                    }
                }
            }
        }
    }
}

fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets requests through when it is their turn.
pub(super) async fn take(
    State(turns): State<Turns>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    match turns.come(&caller, request.uri().path()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use dcos_security::Principal;
    use futures::FutureExt as _;

    use super::*;

    fn caller(name: &str) -> Caller {
        Caller(Some(Principal::new(name)))
    }

    #[tokio::test]
    async fn who_asks_too_often_waits_and_is_refused_at_last() {
        // The second turn comes after a quarter of an hour.
        let limits = r#"{"limits": [{"principal": "p", "qps": 0.001, "capacity": 1}]}"#;
        let turns = Turns::new(&limits.parse().unwrap());
        let own = caller("p");
        assert!(turns.come(&own, "/state").await.is_ok());
        let second = turns.come(&own, "/api/v1");
        let mut second = std::pin::pin!(second);
        assert!((&mut second).now_or_never().is_none(), "it waits");
        let third = turns.come(&own, "/state").await.unwrap_err();
        assert_eq!(third.status, StatusCode::TOO_MANY_REQUESTS);
        for (who, path) in [
            (caller("other"), "/state"),
            (Caller(None), "/state"),
            (caller("p"), "/api/v1/scheduler"),
            (caller("p"), "/master/api/v1/scheduler"),
        ] {
            assert!(turns.come(&who, path).await.is_ok(), "{who:?} {path}");
        }
    }

    #[tokio::test]
    async fn every_turn_comes_even_if_others_leave() {
        let limits = r#"{"limits": [{"principal": "p", "qps": 100}]}"#;
        let turns = Turns::new(&limits.parse().unwrap());
        let own = caller("p");
        for _ in 0..3 {
            let left = turns.come(&own, "/state");
            let _ = std::pin::pin!(left).now_or_never();
        }
        let all = (0..5).map(|_| turns.come(&own, "/state"));
        let all = futures::future::join_all(all).await;
        assert!(all.iter().all(Result::is_ok));
        let unlimited = Turns::new(&RateLimits::default());
        assert!(unlimited.come(&own, "/state").await.is_ok());
    }
}
