//! When something about an instance is due, without looking at all of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::Timestamp;
use crate::instance::InstanceId;

/// At most one moment for each instance, in the order of moments.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    moments: BTreeMap<InstanceId, Timestamp>,
    order: BTreeSet<(Timestamp, InstanceId)>,
}

impl Deadlines {
    /// Sets or clears the moment of an instance.
    pub(super) fn set(&mut self, id: &InstanceId, at: Option<Timestamp>) {
        if self.moments.get(id).copied() == at {
            return;
        }
        if let Some(before) = self.moments.remove(id) {
            self.order.remove(&(before, id.clone()));
        }
        if let Some(at) = at {
            self.moments.insert(id.clone(), at);
            self.order.insert((at, id.clone()));
        }
    }

    /// The earliest moment.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out an instance whose moment has come.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<InstanceId> {
        let (_, id) = self.order.first().filter(|(at, _)| *at <= now)?.clone();
        self.set(&id, None);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PathId;

    #[test]
    fn the_earliest_comes_first_and_once() {
        let at = Timestamp::from_millis;
        let id = |name: &str| InstanceId::new(&PathId::from("/a"), name);
        let mut deadlines = Deadlines::default();
        deadlines.set(&id("x"), Some(at(5)));
        deadlines.set(&id("y"), Some(at(3)));
        deadlines.set(&id("x"), Some(at(2)));
        deadlines.set(&id("z"), Some(at(9)));
        deadlines.set(&id("z"), None);
        assert_eq!(deadlines.next(), Some(at(2)));
        assert_eq!(deadlines.pop(at(1)), None);
        assert_eq!(deadlines.pop(at(4)), Some(id("x")));
        assert_eq!(deadlines.pop(at(4)), Some(id("y")));
        assert_eq!((deadlines.pop(at(99)), deadlines.next()), (None, None));
    }
}
