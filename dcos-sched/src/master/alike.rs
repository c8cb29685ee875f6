//! Resources that many tasks and agents have alike.
//!
//! The tasks of a service ask for the same, and the machines of a rack have the same. What was read
//! lately is kept, so that equal ones are read once and share their memory.

use std::collections::VecDeque;

use dcos_core::resources::{ResourceExt, Resources};
use dcos_proto::mesos::Resource;

/// How many are kept. Those that differ do so in their first amount, so that looking costs some
/// nanoseconds each.
const KEPT: usize = 16;

/// What was read lately, and what was summed up.
#[derive(Debug, Default)]
pub(crate) struct Alike {
    read: VecDeque<(Vec<Resource>, Resources)>,
    sums: VecDeque<Resources>,
    /// What was added to what, and what came of it.
    added: VecDeque<[Resources; 3]>,
}

impl Alike {
    /// The resources in some messages.
    pub(crate) fn resources(&mut self, messages: &[Resource]) -> Resources {
        let mut known = self.read.iter();
        if let Some((_, resources)) = known.find(|(read, _)| read == messages) {
            return resources.clone();
        }
        let resources = Resources::from(messages);
        self.read.truncate(KEPT - 1);
        self.read.push_front((messages.to_vec(), resources.clone()));
        resources
    }

    /// Both together. Resources that came from here are not even looked at if they were added lately.
    pub(crate) fn sum(&mut self, some: &Resources, more: &Resources) -> Resources {
        if some.is_empty() {
            return more.clone();
        }
        let same =
            |[one, other, _]: &&[Resources; 3]| one.is_clone_of(some) && other.is_clone_of(more);
        if let Some([_, _, sum]) = self.added.iter().find(same) {
            return sum.clone();
        }
        let sum = self.shared(some + more);
        self.added.truncate(KEPT - 1);
        self.added
            .push_front([some.clone(), more.clone(), sum.clone()]);
        sum
    }

    /// The same resources, in memory that equal ones share.
    pub(crate) fn shared(&mut self, resources: Resources) -> Resources {
        // Shared volumes are counted beside their messages.
        if resources.iter().any(ResourceExt::is_shared) {
            return resources;
        }
        let alike = |known: &&Resources| known.iter().eq(resources.iter());
        if let Some(known) = self.sums.iter().find(alike) {
            return known.clone();
        }
        self.sums.truncate(KEPT - 1);
        self.sums.push_front(resources.clone());
        resources
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ones_share_memory_and_others_do_not() {
        let mut alike = Alike::default();
        let messages = |cpus: usize| {
            let resources = Resources::parse(&format!("cpus:{cpus};mem:64"));
            resources.map(|resources| resources.to_messages()).unwrap()
        };
        let one = alike.resources(&messages(1));
        assert_eq!(one, Resources::from(&messages(1)));
        assert!(alike.resources(&messages(1)).is_clone_of(&one));
        for cpus in 2..2 + KEPT {
            let more = alike.resources(&messages(cpus));
            assert_eq!(more, Resources::from(&messages(cpus)));
        }
        assert_eq!(alike.read.len(), KEPT);
        assert!(!alike.resources(&messages(1)).is_clone_of(&one));
        let sum = alike.sum(&one, &one);
        assert_eq!(sum, &one + &one);
        assert!(alike.sum(&one, &one).is_clone_of(&sum));
        assert!(alike.sum(&Resources::new(), &one).is_clone_of(&one));
        assert!(alike.shared(&one + &one).is_clone_of(&sum));
        assert!(!alike.shared(one.clone()).is_clone_of(&sum));
    }
}
