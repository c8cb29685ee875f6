//! [`Recent`]: the last tasks of many.

use dcos_core::tree::{Pages, Tree, Values};
use dcos_proto::mesos::TaskId;

use super::TaskRecord;

/// Tasks that came last, up to a number, each id once; a copy costs some pointers.
#[derive(Debug, Clone)]
pub struct Recent {
    kept: Tree<u64, TaskRecord>,
    /// Where each is: every task that is launched or comes back is looked for.
    places: Tree<TaskId, u64>,
    /// Numbers never repeat, so that what a page holds never changes its place.
    next: u64,
    most: usize,
}

impl Recent {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Self {
        Self {
            kept: Tree::new(),
            places: Tree::new(),
            next: 0,
            most,
        }
    }

    /// Adds one, in place of one with the same id; the oldest makes room.
    pub fn push(&mut self, task: TaskRecord) {
        if let Some(before) = self.places.insert(task.read().task_id.clone(), self.next) {
            self.kept.remove(&before);
        }
        self.kept.insert(self.next, task);
        self.next += 1;
        while self.kept.len() > self.most {
            let Some((&number, oldest)) = self.kept.first() else {
                break;
            };
            let id = oldest.read().task_id.clone();
            self.kept.remove(&number);
            self.places.remove(&id);
        }
    }

    /// The one with this id.
    pub fn get(&self, id: &TaskId) -> Option<&TaskRecord> {
        self.kept.get(self.places.get(id)?)
    }

    /// Forgets the one with this id; returns it.
    pub fn remove(&mut self, id: &TaskId) -> Option<TaskRecord> {
        let number = self.places.remove(id)?;
        self.kept.remove(&number)
    }

    /// Oldest first.
    pub fn iter(&self) -> Values<'_, u64, TaskRecord> {
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

    /// Forgets all.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.places.clear();
    }

    /// Them in pieces that copies share.
    pub fn pages(&self) -> Pages<'_, u64, TaskRecord> {
        self.kept.pages()
    }
}

impl<'a> IntoIterator for &'a Recent {
    type Item = &'a TaskRecord;
    type IntoIter = Values<'a, u64, TaskRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.values()
    }
}

#[cfg(test)]
mod tests {
    use dcos_proto::mesos::Task;

    use super::*;

    fn task(id: u32) -> TaskRecord {
        TaskRecord::from(Task {
            task_id: id.to_string().into(),
            ..Task::default()
        })
    }

    fn ids(recent: &Recent) -> Vec<&str> {
        let ids = recent.iter().map(|task| &*task.task_id.value);
        ids.collect()
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut recent = Recent::new(3);
        (0..10).for_each(|id| recent.push(task(id)));
        assert_eq!(ids(&recent), ["7", "8", "9"]);
        assert!(recent.get(&"6".into()).is_none() && recent.get(&"7".into()).is_some());
        assert_eq!(recent.remove(&"8".into()), Some(task(8)));
        assert_eq!(recent.remove(&"8".into()), None);
        recent.push(task(10));
        assert_eq!(ids(&recent), ["7", "9", "10"]);
    }

    #[test]
    fn an_id_is_there_once() {
        let mut recent = Recent::new(3);
        for id in [1, 2, 1] {
            recent.push(task(id));
        }
        assert_eq!((ids(&recent), recent.len()), (vec!["2", "1"], 2));
        recent.clear();
        assert!(recent.is_empty() && recent.get(&"1".into()).is_none());
    }
}
