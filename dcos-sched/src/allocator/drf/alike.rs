//! What many agents have alike.
//!
//! The machines of a rack have the same, and what is free on them mostly is the same too. What was seen lately is
//! kept, so that equal ones share their memory, and so do the grants that are made of them.

use std::collections::VecDeque;
use std::sync::Arc;

use dcos_core::resources::{ResourceExt, Resources};

/// How many are kept. Those that differ mostly do so in their first amount, so that looking costs
/// some nanoseconds each.
const KEPT: usize = 16;

/// What was free on agents lately, and what was granted of it.
#[derive(Debug, Default)]
pub(super) struct Alike {
    free: VecDeque<Resources>,
    granted: VecDeque<Granted>,
}

/// All that was free, and as what it was granted to a role.
#[derive(Debug)]
struct Granted {
    free: Resources,
    role: Arc<str>,
    allocated: Resources,
}

impl Alike {
    /// The same resources, in memory that equal ones share.
    pub(super) fn shared(&mut self, free: Resources) -> Resources {
        // Shared volumes are counted beside their messages.
        if free.is_empty() || free.iter().any(ResourceExt::is_shared) {
            return free;
        }
        let same = |known: &&Resources| known.is_clone_of(&free) || known.iter().eq(free.iter());
        if let Some(known) = self.free.iter().find(same) {
            return known.clone();
        }
        self.free.truncate(KEPT - 1);
        self.free.push_front(free.clone());
        free
    }

    /// The resources as they are granted to `role`.
    pub(super) fn allocated(&mut self, free: &Resources, role: &Arc<str>) -> Resources {
        let same = |known: &&Granted| known.free.is_clone_of(free) && known.role == *role;
        if let Some(known) = self.granted.iter().find(same) {
            return known.allocated.clone();
        }
        let allocated = free.allocated_to(role);
        self.granted.truncate(KEPT - 1);
        self.granted.push_front(Granted {
            free: free.clone(),
            role: Arc::clone(role),
            allocated: allocated.clone(),
        });
        allocated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ones_share_memory_and_so_do_their_grants() {
        let mut alike = Alike::default();
        let free = |cpus: usize| Resources::parse(&format!("cpus:{cpus};ports:[1-9]")).unwrap();
        let (one, two) = (alike.shared(free(1)), alike.shared(free(2)));
        assert!(alike.shared(free(1)).is_clone_of(&one) && one == free(1) && two == free(2));
        let (a, b) = (Arc::from("a"), Arc::from("b"));
        let granted = alike.allocated(&one, &a);
        assert_eq!(granted, free(1).allocated_to("a"));
        assert!(alike.allocated(&one, &a).is_clone_of(&granted));
        assert_eq!(alike.allocated(&one, &b), free(1).allocated_to("b"));
        assert_eq!(alike.allocated(&two, &a), free(2).allocated_to("a"));
        for cpus in 3..3 + KEPT {
            let more = alike.shared(free(cpus));
            assert_eq!(alike.allocated(&more, &a), free(cpus).allocated_to("a"));
        }
        assert_eq!((alike.free.len(), alike.granted.len()), (KEPT, KEPT));
        assert!(!alike.shared(free(1)).is_clone_of(&one));
    }
}
