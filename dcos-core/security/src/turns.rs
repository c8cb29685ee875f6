//! Waiting for one's turn: the shell around [`Throttle`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dcos_core::time::steady;
use tokio::sync::oneshot;

use crate::{Admission, RateLimits, Throttle};

/// Lets requests through no faster than [`RateLimits`] say. Clones are the same.
///
/// ```
/// use dcos_security::{Rate, RateLimits, Turns};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let turns = Turns::new(&RateLimits::for_all(Rate { qps: 0.001, capacity: Some(0) }));
/// assert!(turns.come(None).await.is_ok());
/// assert_eq!(turns.come(None).await.unwrap_err().capacity, 0);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Turns(Option<Arc<Mutex<Queue>>>);

type Queue = Throttle<oneshot::Sender<()>>;

/// As many wait already as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("capacity({capacity}) exceeded")]
pub struct TooMany {
    /// How many may wait.
    pub capacity: u64,
}

impl Turns {
    /// Nobody waits yet.
    pub fn new(limits: &RateLimits) -> Self {
        let limited = *limits != RateLimits::default();
        Self(limited.then(|| Arc::new(Mutex::new(Throttle::new(limits.clone())))))
    }

    /// Returns when it is the turn of one that asks as `principal`. Who stops waiting gives its turn away.
    ///
    /// # Errors
    /// [`TooMany`]
    pub async fn come(&self, principal: Option<&str>) -> Result<(), TooMany> {
        let Some(queue) = &self.0 else {
            return Ok(());
        };
        let (turn, mut called) = oneshot::channel();
        match locked(queue).admit(steady(), principal, turn) {
            Admission::Now(_) => return Ok(()),
            Admission::Exceeded { capacity, .. } => return Err(TooMany { capacity }),
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_asks_too_often_waits_and_is_refused_at_last() {
        // The second turn comes after a quarter of an hour.
        let limits = r#"{"limits": [{"principal": "p", "qps": 0.001, "capacity": 1}]}"#;
        let turns = Turns::new(&limits.parse().unwrap());
        assert!(turns.come(Some("p")).await.is_ok());
        let mut second = std::pin::pin!(turns.come(Some("p")));
        assert!((&mut second).now_or_never().is_none(), "it waits");
        let third = turns.come(Some("p")).await;
        assert_eq!(third, Err(TooMany { capacity: 1 }));
        for other in [Some("other"), None] {
            assert!(turns.come(other).await.is_ok(), "{other:?}");
        }
    }

    #[tokio::test]
    async fn every_turn_comes_even_if_others_leave() {
        let limits = r#"{"limits": [{"principal": "p", "qps": 100}]}"#;
        let turns = Turns::new(&limits.parse().unwrap());
        for _ in 0..3 {
            let left = turns.come(Some("p"));
            let _ = std::pin::pin!(left).now_or_never();
        }
        let all = (0..5).map(|_| turns.come(Some("p")));
        let all = futures::future::join_all(all).await;
        assert!(all.iter().all(Result::is_ok));
        let unlimited = Turns::new(&RateLimits::default());
        assert!(unlimited.come(Some("p")).await.is_ok());
    }
}
