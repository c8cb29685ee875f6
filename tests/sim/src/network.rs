//! What is under way between processes, and when it arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;

/// Things that will happen, in the order in which they will.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    due: BTreeMap<(Time, u64), T>,
    next: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            due: BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn at(&mut self, time: Time, happening: T) {
        self.due.insert((time, self.next), happening);
        self.next += 1;
    }

    pub(crate) fn next_time(&self) -> Option<Time> {
        self.due.keys().next().map(|(time, _)| *time)
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, T)> {
        self.due
            .pop_first()
            .map(|((time, _), happening)| (time, happening))
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.due.retain(|_, happening| keep(happening));
    }
}

/// A process, by the address others know it by.
pub(crate) type Address = String;

/// The connections between processes. Bytes on one arrive in order; when it breaks, what is under
/// way is lost, and both ends learn of it later.
#[derive(Debug)]
pub(crate) struct Network {
    seed: Seed,
    /// When the last message from one to the other arrives.
    last: BTreeMap<(Address, Address), Time>,
    /// Connections that swallow everything until their ends notice.
    dead: BTreeSet<(Address, Address)>,
    /// How slow it is at most.
    slowest: Duration,
}

impl Network {
    pub(crate) fn new(seed: &Seed) -> Self {
        Self {
            seed: seed.stream("network"),
            last: BTreeMap::new(),
            dead: BTreeSet::new(),
            slowest: Duration::from_millis(50),
        }
    }

    /// When a message sent now arrives; `None` if it never does.
    pub(crate) fn arrival(&mut self, now: Time, from: &str, to: &str) -> Option<Time> {
        let pair = (from.to_owned(), to.to_owned());
        if self.dead.contains(&pair) {
            return None;
        }
        let arrival = now + self.delay();
        let last = self.last.entry(pair).or_insert(arrival);
        *last = (*last).max(arrival);
        Some(*last)
    }

    /// A random delay: mostly short, sometimes long.
    pub(crate) fn delay(&mut self) -> Duration {
        let unit = self.seed.unit();
        let share = if self.seed.chance(0.05) {
            unit
        } else {
            unit * 0.1
        };
        self.slowest.mul_f64(share)
    }

    /// From now on nothing passes between two processes; returns when their ends notice.
    pub(crate) fn sever(&mut self, now: Time, one: &str, other: &str) -> Time {
        self.dead.insert((one.to_owned(), other.to_owned()));
        self.dead.insert((other.to_owned(), one.to_owned()));
        now + Duration::from_secs(5).mul_f64(self.seed.unit())
    }

    /// The ends have noticed; new connections can be made.
    pub(crate) fn mend(&mut self, one: &str, other: &str) {
        self.dead.remove(&(one.to_owned(), other.to_owned()));
        self.dead.remove(&(other.to_owned(), one.to_owned()));
    }
}
