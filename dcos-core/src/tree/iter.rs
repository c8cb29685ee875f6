//! Walking through a [`Tree`](super::Tree).

use std::iter::Map;
use std::slice;

use super::Page;
use super::node::Node;

/// The pages of a tree in order.
pub struct Pages<'a, K, V> {
    page: Option<&'a Page<K, V>>,
    above: Vec<slice::Iter<'a, (K, Node<K, V>)>>,
}

impl<'a, K, V> Pages<'a, K, V> {
    pub(super) fn new(root: &'a Node<K, V>) -> Self {
        let (page, above) = match root {
            Node::Page(page) => (Some(page), Vec::new()),
            Node::Branch(children) => (None, vec![children.iter()]),
        };
        Self { page, above }
    }
}

impl<'a, K, V> Iterator for Pages<'a, K, V> {
    type Item = &'a Page<K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(page) = self.page.take() {
            return Some(page);
        }
        while let Some(children) = self.above.last_mut() {
            match children.next() {
                Some((_, Node::Page(page))) => return Some(page),
                Some((_, Node::Branch(children))) => self.above.push(children.iter()),
                None => _ = self.above.pop(),
            }
        }
        None
    }
}

/// The keys of a tree in order.
pub type Keys<'a, K, V> = Map<Iter<'a, K, V>, fn((&'a K, &'a V)) -> &'a K>;

/// The values of a tree in the order of their keys.
pub type Values<'a, K, V> = Map<Iter<'a, K, V>, fn((&'a K, &'a V)) -> &'a V>;

/// The entries of a tree in order.
pub struct Iter<'a, K, V> {
    pages: Pages<'a, K, V>,
    page: slice::Iter<'a, (K, V)>,
    left: usize,
}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new(pages: Pages<'a, K, V>, left: usize) -> Self {
        let page = [].iter();
        Self { pages, page, left }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.page.next() {
                self.left -= 1;
                return Some((key, value));
            }
            self.page = self.pages.next()?.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

impl<K, V> Clone for Pages<'_, K, V> {
    fn clone(&self) -> Self {
        Self {
            page: self.page,
            above: self.above.clone(),
        }
    }
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self {
            pages: self.pages.clone(),
            page: self.page.clone(),
            left: self.left,
        }
    }
}

impl<K, V> std::fmt::Debug for Pages<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl<K, V> std::fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
