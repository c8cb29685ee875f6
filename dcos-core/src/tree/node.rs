//! The nodes of a [`Tree`](super::Tree): pages of entries, and branches above them.

use std::borrow::Borrow;
use std::sync::Arc;

use super::Page;

/// Entries of a page, and children of a branch. Copying a page of ids and pointers takes a
/// microsecond or two; half as many would deepen the tree for nothing.
const MOST: usize = 64;

/// A node with fewer looks for a neighbour to join.
const FEW: usize = MOST / 4;

pub(super) enum Node<K, V> {
    Page(Page<K, V>),
    /// Children with a key that is not above any of theirs, and above all of those before.
    Branch(Arc<Vec<(K, Self)>>),
}

impl<K, V> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Page(page) => Self::Page(Arc::clone(page)),
            Self::Branch(children) => Self::Branch(Arc::clone(children)),
        }
    }
}

/// The child under which a key is, if it is anywhere.
fn child<K: Ord + Borrow<Q>, Q: Ord + ?Sized, N>(children: &[(K, N)], key: &Q) -> usize {
    let after = children.partition_point(|(first, _)| first.borrow() <= key);
    after.saturating_sub(1)
}

fn find<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V>(page: &[(K, V)], key: &Q) -> Result<usize, usize> {
    page.binary_search_by(|(known, _)| known.borrow().cmp(key))
}

impl<K: Ord, V> Node<K, V> {
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = self;
        loop {
            match node {
                Self::Branch(children) => node = &children.get(child(children, key))?.1,
                Self::Page(page) => return find(page, key).ok().map(|at| &page[at].1),
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                let at = child(children, key);
                children.get_mut(at)?.1.get_mut(key)
            }
            Self::Page(page) => {
                let at = find(page, key).ok()?;
                Some(&mut Arc::make_mut(page)[at].1)
            }
        }
    }

    /// Returns the value that was there, and the right half if the node became too large.
    pub(super) fn insert(&mut self, key: K, value: V) -> (Option<V>, Option<(K, Self)>) {
        match self {
            Self::Page(page) => {
                let page = Arc::make_mut(page);
                match find(page, &key) {
                    Ok(at) => (Some(std::mem::replace(&mut page[at].1, value)), None),
                    Err(at) => {
                        page.insert(at, (key, value));
                        (None, halve(page).map(|right| right.into_node(Self::Page)))
                    }
                }
            }
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                let at = child(children, &key);
                let (before, split) = children[at].1.insert(key, value);
                let Some(right) = split else {
                    return (before, None);
                };
                children.insert(at + 1, right);
                let right = halve(children);
                (before, right.map(|right| right.into_node(Self::Branch)))
            }
        }
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Page(page) => {
                let at = find(page, key).ok()?;
                Some(Arc::make_mut(page).remove(at).1)
            }
            Self::Branch(children) => {
                let children = Arc::make_mut(children);
                let at = child(children, key);
                let removed = children.get_mut(at)?.1.remove(key);
                if children[at].1.size() < FEW {
                    join(children, at);
                }
                removed
            }
        }
    }

    /// Becomes the root above what it was and `right`.
    pub(super) fn grow(&mut self, right: (K, Self)) {
        let left = self.clone();
        // Any key not above `right` will do for the leftmost child.
        let first = right.0.clone();
        *self = Self::Branch(Arc::new(vec![(first, left), right]));
        if let Self::Branch(children) = self
            && let Some(children) = Arc::get_mut(children)
            && let Some(first) = children[0].1.first()
        {
            children[0].0 = first;
        }
    }

    /// A root with one child is that child; with none, an empty page.
    pub(super) fn shrink(&mut self) {
        while let Self::Branch(children) = self
            && children.len() < 2
        {
            let only = children.first().map(|(_, child)| child.clone());
            *self = only.unwrap_or_else(|| Self::Page(Arc::default()));
        }
    }

    fn first(&self) -> Option<K> {
        match self {
            Self::Page(page) => page.first().map(|(key, _)| key.clone()),
            Self::Branch(children) => children.first().map(|(key, _)| key.clone()),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Page(page) => page.len(),
            Self::Branch(children) => children.len(),
        }
    }

    /// Takes over all that a neighbour on the right holds.
    fn absorb(&mut self, right: Self) {
        match (self, right) {
            (Self::Page(page), Self::Page(right)) => {
                Arc::make_mut(page).extend(Arc::unwrap_or_clone(right));
            }
            (Self::Branch(children), Self::Branch(right)) => {
                Arc::make_mut(children).extend(Arc::unwrap_or_clone(right));
            }
            _ => unreachable!("all pages are equally deep"),
        }
    }
}

/// What was split off, with its first key.
struct Half<K, T> {
    first: K,
    items: Vec<(K, T)>,
}

impl<K, T> Half<K, T> {
    fn into_node<V>(self, node: impl Fn(Arc<Vec<(K, T)>>) -> Node<K, V>) -> (K, Node<K, V>) {
        (self.first, node(Arc::new(self.items)))
    }
}

fn halve<K: Clone, T>(items: &mut Vec<(K, T)>) -> Option<Half<K, T>> {
    if items.len() <= MOST {
        return None;
    }
    let items = items.split_off(items.len() / 2);
    let first = items[0].0.clone();
    Some(Half { first, items })
}

/// Drops the empty child at `at`, or joins it with a neighbour if both fit well into one.
fn join<K: Ord + Clone, V: Clone>(children: &mut Vec<(K, Node<K, V>)>, at: usize) {
    if children[at].1.size() == 0 {
        children.remove(at);
        return;
    }
    let fits = |left: usize| {
        let right = children.get(left + 1)?;
        (children[left].1.size() + right.1.size() <= MOST * 3 / 4).then_some(left)
    };
    let left = at.checked_sub(1).and_then(fits).or_else(|| fits(at));
    if let Some(left) = left {
        let (_, right) = children.remove(left + 1);
        children[left].1.absorb(right);
    }
}
