//! Time as cores know it: a number that the shell hands in.
//!
//! A core never reads a clock. Its shell calls [`steady`] once per input; a simulation makes up
//! its own times. Nanoseconds since the Unix epoch fit a `u64` until the year 2554.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time: nanoseconds since the Unix epoch.
///
/// Arithmetic saturates at both ends, so that a far deadline is simply [`Time::MAX`].
///
/// ```
/// use dcos_core::time::Time;
/// use std::time::Duration;
///
/// let start = Time::from_secs(100);
/// let deadline = start + Duration::from_millis(1500);
/// assert_eq!(deadline.as_secs_f64(), 101.5);
/// assert_eq!(deadline - start, Duration::from_millis(1500));
/// assert!(!deadline.is_due(start));
/// ```
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Time(u64);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The last representable time; a deadline that never comes.
    pub const MAX: Self = Self(u64::MAX);

    /// The time `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The time `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// The time `secs` seconds after the epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// The time `secs` seconds after the epoch, as Mesos writes timestamps.
    ///
    /// Negative values and NaN become the epoch.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self(nanos_from_secs(secs))
    }

    /// What the wall clock says. For shells; cores are given their time.
    pub fn from_system(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Seconds since the epoch, as Mesos writes timestamps.
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_nanos(self.0).as_secs_f64()
    }

    /// The same time for standard library calls.
    pub fn to_system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0)
    }

    /// How long it is since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long it is until `later`; zero if that has passed.
    pub const fn until(self, later: Self) -> Duration {
        later.since(self)
    }

    /// Whether a deadline at this time has come at `now`.
    pub fn is_due(self, now: Self) -> bool {
        self <= now
    }
}

/// What time it is by a clock that never jumps, for shells: the system's time when it was first asked,
/// and as much more as has passed since.
///
/// When an operator or NTP sets the system's clock, deadlines do not come early, nor late: no agent
/// is given up, no framework's tasks end, because of it. A restarted process reads the new time.
pub fn steady() -> Time {
    static BEGIN: OnceLock<(Instant, Time)> = OnceLock::new();
    let begin = || (Instant::now(), Time::from_system(SystemTime::now()));
    let (instant, time) = *BEGIN.get_or_init(begin);
    time + instant.elapsed()
}

/// The earlier of two deadlines, where `None` means "never".
pub fn earliest(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (deadline, None) | (None, deadline) => deadline,
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(duration)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_nanos(duration)))
    }
}

impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.as_secs(), self.0 % 1_000_000_000)
    }
}

fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn nanos_from_secs(secs: f64) -> u64 {
    Duration::try_from_secs_f64(secs.max(0.0))
        .map_or_else(|_| if secs > 0.0 { u64::MAX } else { 0 }, saturating_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Time::MAX + Duration::from_secs(1), Time::MAX);
        assert_eq!(Time::EPOCH - Duration::from_secs(1), Time::EPOCH);
        assert_eq!(Time::EPOCH - Time::MAX, Duration::ZERO);
        assert_eq!(Time::EPOCH + Duration::MAX, Time::MAX);
    }

    #[test]
    fn the_steady_clock_goes_on_from_the_systems() {
        let (first, second) = (steady(), steady());
        assert!(first <= second);
        assert!(Time::from_system(SystemTime::now()) - first < Duration::from_secs(60));
    }

    #[test]
    fn odd_timestamps_are_tamed() {
        assert_eq!(Time::from_secs_f64(f64::NAN), Time::EPOCH);
        assert_eq!(Time::from_secs_f64(-3.0), Time::EPOCH);
        assert_eq!(Time::from_secs_f64(f64::INFINITY), Time::MAX);
        assert_eq!(Time::from_secs_f64(1.25), Time::from_millis(1250));
    }

    #[test]
    fn the_earliest_deadline_wins() {
        let (soon, late) = (Some(Time::from_secs(1)), Some(Time::from_secs(2)));
        assert_eq!(earliest(late, soon), soon);
        assert_eq!(earliest(None, late), late);
        assert_eq!(earliest(None, None), None);
    }
}
