//! [`Tree`]: an ordered map whose copies share what they have in common.
//!
//! A core publishes its state to readers as a copy. With `BTreeMap` a copy costs as much as the
//! map; here it costs a pointer, and a change after it copies the way from the root to the changed
//! entry: some pages of up to 64 entries, whatever the size of the map.
//!
//! ```
//! use dcos_core::tree::Tree;
//!
//! let mut tree: Tree<u32, &str> = (0..1000).map(|key| (key, "old")).collect();
//! let before = tree.clone();
//! tree.insert(7, "new");
//! assert_eq!((before.get(&7), tree.get(&7)), (Some(&"old"), Some(&"new")));
//! assert!(tree.keys().is_sorted());
//! ```

mod iter;
mod node;

use std::borrow::Borrow;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

pub use iter::{Iter, Keys, Pages, Values};

use node::Node;

/// Neighbouring entries in one piece of memory, never empty within a tree of several. The same
/// page in two copies of a tree holds the same entries: a reader may keep what it made of a page
/// for as long as it holds a `Weak` to it.
pub type Page<K, V> = Arc<Vec<(K, V)>>;

/// An ordered map; a clone shares its pages. See the [module](self).
pub struct Tree<K, V> {
    root: Node<K, V>,
    length: usize,
}

impl<K, V> Tree<K, V> {
    /// An empty map.
    pub fn new() -> Self {
        Self {
            root: Node::Page(Arc::default()),
            length: 0,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Entries in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(self.pages(), self.length)
    }

    /// The entry with the least key.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// Keys in order.
    pub fn keys(&self) -> Keys<'_, K, V> {
        self.iter().map(|(key, _)| key)
    }

    /// Values in the order of their keys.
    pub fn values(&self) -> Values<'_, K, V> {
        self.iter().map(|(_, value)| value)
    }

    /// The pages in order.
    pub fn pages(&self) -> Pages<'_, K, V> {
        Pages::new(&self.root)
    }
}

impl<K: Ord, V> Tree<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.root.get(key)
    }

    /// Whether a key is there.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }
}

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// The value of a key, to be changed; its page is copied if another tree shares it.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // Nothing is copied for a key that is not there.
        self.contains_key(key).then_some(())?;
        self.root.get_mut(key)
    }

    /// Puts a value in the place of a key; returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (before, split) = self.root.insert(key, value);
        if let Some(right) = split {
            self.root.grow(right);
        }
        self.length += usize::from(before.is_none());
        before
    }

    /// Takes a key away; returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.contains_key(key).then_some(())?;
        let removed = self.root.remove(key);
        self.root.shrink();
        self.length -= usize::from(removed.is_some());
        removed
    }

    /// The value of a key, made by `value` if there is none.
    pub fn get_or_insert_with(&mut self, key: &K, value: impl FnOnce() -> V) -> &mut V {
        if !self.contains_key(key) {
            self.insert(key.clone(), value());
        }
        self.root
            .get_mut(key)
            .expect("it was inserted if it was missing")
    }

    /// Keeps the entries that fulfil a condition.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let entries = self.iter().filter(|(key, value)| !keep(key, value));
        let gone: Vec<K> = entries.map(|(key, _)| key.clone()).collect();
        for key in &gone {
            self.remove(key);
        }
    }

    /// Takes everything away.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

impl<K, V> Clone for Tree<K, V> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            length: self.length,
        }
    }
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Tree<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for Tree<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("the key is in the tree")
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for Tree<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut tree = Self::new();
        tree.extend(entries);
        tree
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for Tree<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<'a, K, V> IntoIterator for &'a Tree<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

#[cfg(test)]
mod tests;
