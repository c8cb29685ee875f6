//! Things that will happen, in the order in which they will.

use std::collections::BTreeMap;

use dcos_core::time::Time;

/// A queue by time; what is due at one time comes out as it went in.
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

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.due.pop_first().map(|(_, happening)| happening)
    }
}
