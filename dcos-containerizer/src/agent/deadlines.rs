//! Which executor is due next: found at once, however many run.
//!
//! What an executor waits for changes in many places. So whoever takes one to change it leaves its key here,
//! and after each step the agent asks those, and no others, when they are due.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::time::Time;

use super::core::Agent;
use super::records::{Executor, ExecutorKey};

/// When executors are due.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Soonest first.
    due: BTreeSet<(Time, ExecutorKey)>,
    /// The same by executor.
    noted: BTreeMap<ExecutorKey, Time>,
    /// Those that may have changed since they were noted.
    touched: Vec<ExecutorKey>,
}

impl Deadlines {
    /// An executor may be due at another time from now on, or be forgotten.
    pub(super) fn touch(&mut self, key: &ExecutorKey) {
        // Mostly it is the same again.
        if self.touched.last() != Some(key) {
            self.touched.push(key.clone());
        }
    }

    fn note(&mut self, key: ExecutorKey, due: Option<Time>) {
        let before = match due {
            Some(at) => self.noted.insert(key.clone(), at),
            None => self.noted.remove(&key),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, key.clone()));
        }
        if let Some(at) = due {
            self.due.insert((at, key));
        }
    }

    fn due(&self, now: Time) -> Vec<ExecutorKey> {
        let due = self.due.iter().take_while(|(at, _)| at.is_due(now));
        due.map(|(_, key)| key.clone()).collect()
    }

    fn next(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }
}

impl Agent {
    /// Takes in when the executors that were touched are due now.
    pub(super) fn note_deadlines(&mut self) {
        for key in std::mem::take(&mut self.deadlines.touched) {
            let due = self.executor(&key).and_then(Executor::next_deadline);
            self.deadlines.note(key, due);
        }
        debug_assert_eq!(
            self.deadlines.next(),
            self.executors().filter_map(Executor::next_deadline).min(),
            "what was noted and what is there"
        );
    }

    /// The executors that are due at `now`.
    pub(super) fn due_executors(&self, now: Time) -> Vec<ExecutorKey> {
        self.deadlines.due(now)
    }

    /// When the next executor is due.
    pub(super) fn next_executor_deadline(&self) -> Option<Time> {
        self.deadlines.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However deadlines are moved, what is due and what is next are those of a look at all.
        #[test]
        fn the_index_and_a_look_at_all_agree(
            steps in proptest::collection::vec((0..6_u8, proptest::option::of(0..20_u64)), 0..60),
            now in 0..20_u64,
        ) {
            let key = |number: u8| ExecutorKey {
                framework: "f".into(),
                executor: number.to_string().into(),
            };
            let (mut deadlines, mut all) = (Deadlines::default(), BTreeMap::new());
            for (number, due) in steps {
                let due = due.map(Time::from_secs);
                deadlines.note(key(number), due);
                all.insert(key(number), due);
            }
            let now = Time::from_secs(now);
            let is_due = |due: &Option<Time>| due.is_some_and(|at| at.is_due(now));
            let expected: BTreeSet<_> = all.iter().filter(|(_, due)| is_due(due)).map(|(key, _)| key.clone()).collect();
            prop_assert_eq!(deadlines.due(now).into_iter().collect::<BTreeSet<_>>(), expected);
            prop_assert_eq!(deadlines.next(), all.values().flatten().min().copied());
        }
    }
}
