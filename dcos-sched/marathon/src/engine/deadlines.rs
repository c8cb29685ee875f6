//! When something about a thing is due, without looking at all of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::Timestamp;

/// At most one moment for each thing, in the order of moments; costs grow with the logarithm of their number.
#[derive(Debug)]
pub struct Deadlines<K> {
    moments: BTreeMap<K, Timestamp>,
    order: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self {
            moments: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Clone + Ord> Deadlines<K> {
    /// Sets or clears the moment of a thing.
    pub fn set(&mut self, id: &K, at: Option<Timestamp>) {
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
    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The moment of a thing.
    pub fn of(&self, id: &K) -> Option<Timestamp> {
        self.moments.get(id).copied()
    }

    /// How many things have a moment.
    pub fn len(&self) -> usize {
        self.moments.len()
    }

    /// Whether no thing has a moment.
    pub fn is_empty(&self) -> bool {
        self.moments.is_empty()
    }

    /// The things that have a moment, in their own order.
    pub fn into_things(self) -> impl Iterator<Item = K> {
        self.moments.into_keys()
    }

    /// Takes out a thing whose moment has come.
    pub fn pop(&mut self, now: Timestamp) -> Option<K> {
        let (_, id) = self.order.first().filter(|(at, _)| *at <= now)?.clone();
        self.set(&id, None);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PathId;
    use crate::instance::InstanceId;

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
