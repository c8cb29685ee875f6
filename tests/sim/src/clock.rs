//! The clock of one process: it began somewhere else, runs a little fast or slow, and jumps.

use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;

/// Parts in a million by which a clock may run fast or slow.
const DRIFT: u64 = 200;
/// By how much a clock may be wrong when its process starts, in seconds.
const SKEW: u64 = 3600;

/// What a process reads as the time, against the time of the world.
///
/// The programs read a clock that does not jump while they run, so that a jump in mid-life is
/// more than they meet; a restarted process does meet another time. Cores are held to both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// At this time of the world ...
    since: Time,
    /// ... this clock showed that.
    shown: Time,
    /// How much longer a million of its ticks are than the world's.
    drift: i64,
}

impl Clock {
    /// A clock that is right.
    pub(crate) fn right(now: Time) -> Self {
        Self {
            since: now,
            shown: now,
            drift: 0,
        }
    }

    /// Some clock: up to an hour off, up to 200 ppm fast or slow.
    pub(crate) fn some(now: Time, seed: &mut Seed) -> Self {
        let skew = Duration::from_secs(seed.range(0..SKEW));
        let drift = i64::try_from(seed.range(0..2 * DRIFT)).unwrap_or(0);
        Self {
            since: now,
            shown: if seed.chance(0.5) {
                now + skew
            } else {
                now - skew
            },
            drift: drift - DRIFT.cast_signed(),
        }
    }

    /// What it shows at a time of the world.
    pub(crate) fn show(&self, now: Time) -> Time {
        let passed = passed(now.since(self.since));
        let passed = passed + passed * i128::from(self.drift) / 1_000_000;
        self.shown + nanos(passed)
    }

    /// When, in the world, it will show at least `shown`.
    pub(crate) fn when(&self, shown: Time) -> Time {
        if shown == Time::MAX {
            return Time::MAX;
        }
        let wanted = passed(shown.since(self.shown));
        let passed = wanted * 1_000_000 / (1_000_000 + i128::from(self.drift));
        let mut when = self.since + nanos(passed);
        while self.show(when) < shown {
            when += Duration::from_nanos(1);
        }
        when
    }

    /// From now on it shows something else.
    pub(crate) fn jump(&mut self, now: Time, by: Duration, forward: bool) {
        let shown = self.show(now);
        self.since = now;
        self.shown = if forward { shown + by } else { shown - by };
    }
}

fn nanos(number: i128) -> Duration {
    Duration::from_nanos(u64::try_from(number).unwrap_or(0))
}

/// Nanoseconds that can be counted backwards too.
fn passed(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_found_to_the_nanosecond() {
        let mut seed = Seed::new(1);
        for _ in 0..200 {
            let start = Time::from_secs(1_000_000);
            let mut clock = Clock::some(start, &mut seed);
            clock.jump(
                start + Duration::from_secs(3),
                Duration::from_secs(40),
                seed.chance(0.5),
            );
            let deadline = clock.show(start) + Duration::from_millis(seed.range(50_000..900_000));
            let when = clock.when(deadline);
            assert!(clock.show(when) >= deadline);
            assert!(clock.show(when - Duration::from_nanos(2)) < deadline);
        }
    }
}
