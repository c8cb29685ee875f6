//! [`Shelf`]: connections to those behind the router that nobody uses, kept for the next request.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use tokio::time::Instant;

use crate::world::Scheme;

/// Connections kept for one host: as many as are asked at a time by a busy page or two.
const MAX_IDLE: usize = 256;

/// Whom a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
}

impl Ord for Host {
    fn cmp(&self, other: &Self) -> Ordering {
        // As it is written: that a host written in two ways has connections of its own for each costs nothing.
        let authority = || self.authority.as_str().cmp(other.authority.as_str());
        self.scheme.cmp(&other.scheme).then_with(authority)
    }
}

impl PartialOrd for Host {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What can be kept.
pub(crate) trait Reusable {
    /// Whether it would take a request now.
    fn is_ready(&mut self) -> bool;
}

/// Connections nobody uses, by where they lead.
pub(crate) struct Shelf<T> {
    idle: Mutex<BTreeMap<Host, Vec<Idle<T>>>>,
    /// For how long one is kept.
    good: Duration,
}

struct Idle<T> {
    one: T,
    since: Instant,
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

impl<T: Reusable> Shelf<T> {
    /// Connections are kept without use for as long as they are `good`: shorter than those behind keep them, so that a
    /// request seldom meets one that is being closed.
    pub(crate) fn new(good: Duration) -> Self {
        let idle = Mutex::default();
        Self { idle, good }
    }

    /// One that takes a request `now`, and is there: the one that was used last.
    pub(crate) fn take(&self, host: &Host, now: Instant) -> Option<T> {
        loop {
            // Looked at, and closed, while others take theirs.
            let mut kept = self.idle().get_mut(host)?.pop()?;
            if self.is_good(&mut kept, now) {
                return Some(kept.one);
            }
        }
    }

    /// Keeps one that takes requests since so long, if there is room.
    pub(crate) fn put(&self, host: Host, one: T, since: Instant) {
        let mut idle = self.idle();
        let kept = idle.entry(host).or_default();
        if kept.len() < MAX_IDLE {
            kept.push(Idle { one, since });
        }
    }

    /// Closes those that nobody used for long, or that the other side has closed.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let hosts: Vec<Host> = self.idle().keys().cloned().collect();
        for host in hosts {
            // Looked at, and closed, while others take theirs.
            let taken = self.idle().get_mut(&host).map(std::mem::take);
            let mut taken = taken.unwrap_or_default();
            taken.retain_mut(|kept| self.is_good(kept, now));
            let mut idle = self.idle();
            if let Entry::Occupied(mut kept) = idle.entry(host) {
                // What came meanwhile was used last.
                let later = std::mem::take(kept.get_mut());
                taken.extend(later);
                if taken.is_empty() {
                    kept.remove();
                } else {
                    *kept.get_mut() = taken;
                }
            }
        }
    }

    fn is_good(&self, kept: &mut Idle<T>, now: Instant) -> bool {
        now.duration_since(kept.since) < self.good && kept.one.is_ready()
    }

    /// Each change is whole.
    fn idle(&self) -> MutexGuard<'_, BTreeMap<Host, Vec<Idle<T>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
