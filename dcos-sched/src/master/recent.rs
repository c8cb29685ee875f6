//! [`Recent`]: the last of many.

use dcos_core::tree::{Pages, Tree, Values};

/// What came last, up to a number; a copy costs a pointer.
#[derive(Debug, Clone)]
pub struct Recent<T> {
    kept: Tree<u64, T>,
    /// Numbers never repeat, so that what a page holds never changes its place.
    next: u64,
    most: usize,
}

impl<T: Clone> Recent<T> {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Self {
        let kept = Tree::new();
        Self {
            kept,
            next: 0,
            most,
        }
    }

    /// Adds one; the oldest makes room.
    pub fn push(&mut self, item: T) {
        self.kept.insert(self.next, item);
        self.next += 1;
        while self.kept.len() > self.most {
            let oldest = self.kept.first().map(|(number, _)| *number);
            oldest.map(|number| self.kept.remove(&number));
        }
    }

    /// Oldest first.
    pub fn iter(&self) -> Values<'_, u64, T> {
        self.kept.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Keeps those that fulfil a condition.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.kept.retain(|_, item| keep(item));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// Them in pieces that copies share.
    pub fn pages(&self) -> Pages<'_, u64, T> {
        self.kept.pages()
    }
}

impl<'a, T> IntoIterator for &'a Recent<T> {
    type Item = &'a T;
    type IntoIter = Values<'a, u64, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut recent = Recent::new(3);
        (0..10).for_each(|item| recent.push(item));
        assert!(recent.iter().eq(&[7, 8, 9]));
        recent.retain(|item| *item != 8);
        recent.push(10);
        assert!(recent.iter().eq(&[7, 9, 10]));
    }
}
