//! [`Lease`]: until when a leadership certainly lasts, by a clock that runs while the process does not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;

/// A moment of the machine's clock since it was booted, suspended times included. A process that was
/// stopped for a while finds that it went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let rest = u64::try_from(time.tv_nsec).unwrap_or_default();
        Self(seconds * 1_000_000_000 + rest)
    }

    pub(crate) fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// Whether a leadership still holds. A clone is the same lease.
///
/// [`holds`](Self::holds) is to be asked right before acting: it says no as soon as another *could* lead, also to
/// a process that was frozen and does not yet know what happened meanwhile.
#[derive(Clone, Debug)]
pub struct Lease {
    until: Arc<AtomicU64>,
    lost: CancellationToken,
}

#[cfg_attr(
    not(feature = "ensemble"),
    expect(
        dead_code,
        reason = "only the elections of an ensemble end by the clock"
    )
)]
impl Lease {
    /// Holds until `lost`: the leader would learn of its end before another could begin.
    pub fn endless(lost: CancellationToken) -> Self {
        Self {
            until: Arc::new(AtomicU64::new(u64::MAX)),
            lost,
        }
    }

    /// Holds until `lost`, and for `duration` after `begin` at most, unless it is extended.
    pub(crate) fn new(lost: CancellationToken, begin: Moment, duration: Duration) -> Self {
        Self {
            until: Arc::new(AtomicU64::new(begin.after(duration).0)),
            lost,
        }
    }

    /// The engine confirmed at a moment after `begin`: it holds for `duration` from there.
    pub(crate) fn extend(&self, begin: Moment, duration: Duration) {
        self.until
            .fetch_max(begin.after(duration).0, Ordering::AcqRel);
    }

    /// Whether nobody else can lead at this moment.
    pub fn holds(&self) -> bool {
        !self.lost.is_cancelled() && Moment::now().0 < self.until.load(Ordering::Acquire)
    }

    /// Waits until the leadership is over.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// How long it holds if nothing extends it.
    pub(crate) fn left(&self) -> Duration {
        let until = self.until.load(Ordering::Acquire);
        Duration::from_nanos(until.saturating_sub(Moment::now().0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_by_itself_and_by_word() {
        let lost = CancellationToken::new();
        let second = Duration::from_secs(1);
        let lease = Lease::new(lost.clone(), Moment::now(), 100 * second);
        assert!(lease.holds() && lease.left() > 99 * second);
        lost.cancel();
        assert!(!lease.holds());

        let spent = Lease::new(CancellationToken::new(), Moment(0), second);
        assert!(!spent.holds());
        spent.extend(Moment::now(), second);
        assert!(spent.holds());
        // What was confirmed later is not taken back by an answer that was slower.
        spent.extend(Moment(0), second);
        assert!(spent.holds());
    }
}
