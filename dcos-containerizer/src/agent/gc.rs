//! When directories of ended executors are deleted: after a delay that shrinks as the disk fills.
//!
//! Source: Mesos 1.11 `GarbageCollectorProcess` and `Slave::age` (`src/slave/gc.cpp`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dcos_core::time::Time;

use crate::checkpoint::Run;

/// What an executor leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Its sandbox.
    pub sandbox: PathBuf,
    /// What is written down of it; nothing, if its framework wanted none of that.
    pub run: Option<Run>,
}

/// How old a directory may become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Age {
    /// On an empty disk.
    pub delay: Duration,
    /// The share of the disk at the end of which nothing may stay.
    pub headroom: f64,
}

impl Age {
    /// On a disk of which the share `usage` is taken.
    pub fn at(self, usage: f64) -> Duration {
        self.delay
            .mul_f64((1.0 - self.headroom - usage).clamp(0.0, 1.0))
    }
}

#[derive(Debug)]
pub(crate) struct Gc {
    age: Age,
    allowed: Duration,
    /// By when they ended.
    ended: BTreeMap<Time, Vec<Remains>>,
}

impl Gc {
    pub(crate) fn new(age: Age) -> Self {
        let allowed = age.delay;
        let ended = BTreeMap::new();
        Self {
            age,
            allowed,
            ended,
        }
    }

    pub(crate) fn schedule(&mut self, ended: Time, remains: Remains) {
        self.ended.entry(ended).or_default().push(remains);
    }

    pub(crate) fn disk_usage(&mut self, usage: f64) {
        self.allowed = self.age.at(usage);
    }

    /// How old a directory may become now.
    pub(crate) fn allowed(&self) -> Duration {
        self.allowed
    }

    /// How many directories wait for their time.
    pub(crate) fn pending(&self) -> usize {
        self.ended.values().map(Vec::len).sum()
    }

    pub(crate) fn poll(&mut self, now: Time) -> Option<Vec<Remains>> {
        let due = self.next_deadline()?.is_due(now);
        if !due {
            return None;
        }
        let later = self
            .ended
            .split_off(&(now - self.allowed + Duration::from_nanos(1)));
        let due = std::mem::replace(&mut self.ended, later);
        Some(due.into_values().flatten().collect())
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let (ended, _) = self.ended.first_key_value()?;
        Some(*ended + self.allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_hours(7 * 24);

    #[test]
    fn directories_go_earlier_as_the_disk_fills() {
        let age = Age {
            delay: WEEK,
            headroom: 0.1,
        };
        assert_eq!(age.at(0.9), Duration::ZERO);
        assert_eq!(age.at(1.0), Duration::ZERO);
        assert_eq!(age.at(0.4), WEEK / 2);

        let start = Time::from_secs(1_000_000_000);
        let mut gc = Gc::new(age);
        let remains = |sandbox: &str| Remains {
            sandbox: sandbox.into(),
            run: None,
        };
        gc.schedule(start, remains("/a"));
        gc.schedule(start + Duration::from_mins(1), remains("/b"));
        assert_eq!(gc.next_deadline(), Some(start + WEEK));
        assert_eq!(gc.poll(start + WEEK), Some(vec![remains("/a")]));
        assert_eq!(gc.poll(start + WEEK), None);
        gc.disk_usage(0.95);
        assert_eq!(gc.poll(start + WEEK), Some(vec![remains("/b")]));
        assert_eq!(gc.next_deadline(), None);
    }
}
