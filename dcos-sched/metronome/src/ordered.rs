//! A sorted map whose copies share all but what changed since.
//!
//! Readers get a copy after each change. A copy of a plain map would cost as much as there are jobs; here it costs a
//! pointer, and the change after it a few hundred entries and one pointer for every few hundred jobs.

use std::sync::Arc;

/// Parts longer than this are cut in two.
const LONGEST: usize = 256;

type Part<K, V> = Arc<Vec<(K, V)>>;

/// A sorted map, cheap to copy.
#[derive(Clone, Debug)]
pub struct Ordered<K, V> {
    /// None is empty.
    parts: Arc<Vec<Part<K, V>>>,
    len: usize,
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self {
            parts: Arc::default(),
            len: 0,
        }
    }
}

impl<K: Ord + Clone, V: Clone> Ordered<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part `key` is in, if it is in any.
    fn part_of(&self, key: &K) -> usize {
        let after = self.parts.partition_point(|part| part[0].0 <= *key);
        after.saturating_sub(1)
    }

    /// The value at `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        let part = self.parts.get(self.part_of(key))?;
        let at = part.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        Some(&part[at].1)
    }

    /// Sets the value at `key`.
    pub fn insert(&mut self, key: K, value: V) {
        let at = self.part_of(&key);
        let parts = Arc::make_mut(&mut self.parts);
        let Some(part) = parts.get_mut(at) else {
            parts.push(Arc::new(vec![(key, value)]));
            self.len += 1;
            return;
        };
        let entries = Arc::make_mut(part);
        match entries.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(found) => entries[found].1 = value,
            Err(place) => {
                entries.insert(place, (key, value));
                self.len += 1;
            }
        }
        if entries.len() > LONGEST {
            // What comes in order fills parts to the brim; what comes in any order halves them.
            let last = at + 1 == parts.len();
            let entries = Arc::make_mut(&mut parts[at]);
            let cut = if last { LONGEST } else { LONGEST / 2 };
            let rest = entries.split_off(cut);
            parts.insert(at + 1, Arc::new(rest));
        }
    }

    /// Takes out the value at `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let part = self.part_of(key);
        let entries = self.parts.get(part)?;
        let at = entries.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
        let parts = Arc::make_mut(&mut self.parts);
        let entries = Arc::make_mut(&mut parts[part]);
        let (_, value) = entries.remove(at);
        if entries.is_empty() {
            parts.remove(part);
        }
        self.len -= 1;
        Some(value)
    }

    /// All entries, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let entries = self.parts.iter().flat_map(|part| part.iter());
        entries.map(|(key, value)| (key, value))
    }

    /// All values, in the order of keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_map_and_copies_stay(steps in prop::collection::vec((0u16..2000, prop::option::of(any::<u8>())), 0..1500)) {
            let (mut map, mut model) = (Ordered::default(), BTreeMap::new());
            let mut copy = None;
            for (at, (key, value)) in steps.iter().enumerate() {
                if let Some(value) = value {
                    map.insert(*key, *value);
                    model.insert(*key, *value);
                } else {
                    prop_assert_eq!(map.remove(key), model.remove(key));
                }
                if at == steps.len() / 2 {
                    copy = Some((map.clone(), model.clone()));
                }
                prop_assert_eq!(map.get(key), model.get(key));
                prop_assert_eq!(map.len(), model.len());
            }
            for (map, model) in copy.into_iter().chain([(map, model)]) {
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert_eq!(map.is_empty(), model.is_empty());
            }
        }
    }
}
