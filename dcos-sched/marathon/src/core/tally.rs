//! How many instances an app has, kept up to date: most decisions need no more.

use std::collections::BTreeSet;

use super::Core;
use crate::PathId;
use crate::instance::{Instance, InstanceId};

/// The active instances of an app.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Those not meant to go.
    pub(super) staying: usize,
    /// Those meant to go.
    pub(super) leaving: usize,
    /// Those of the staying ones that are not ready.
    pub(super) unready: BTreeSet<InstanceId>,
}

impl Core {
    /// What there is of an app.
    pub(super) fn tally(&self, id: &PathId) -> &Tally {
        static NONE: Tally = Tally {
            staying: 0,
            leaving: 0,
            unready: BTreeSet::new(),
        };
        self.tallies.get(id).unwrap_or(&NONE)
    }

    /// Notes that an instance appears, goes or changes.
    pub(super) fn count(&mut self, before: Option<&Instance>, after: Option<&Instance>) {
        let Some(one) = after.or(before) else {
            return;
        };
        let unready =
            after.is_some_and(|one| one.is_active() && !one.is_leaving() && !self.is_ready(one));
        let tally = self.tallies.entry(one.app.clone()).or_default();
        if unready {
            tally.unready.insert(one.id.clone());
        } else {
            tally.unready.remove(&one.id);
        }
        if let Some(before) = before.filter(|one| one.is_active()) {
            *tally.of(before) -= 1;
        }
        if let Some(after) = after.filter(|one| one.is_active()) {
            *tally.of(after) += 1;
        }
        if tally.staying + tally.leaving == 0 {
            self.tallies.remove(&one.app);
        }
    }
}

impl Tally {
    fn of(&mut self, one: &Instance) -> &mut usize {
        if one.is_leaving() {
            &mut self.leaving
        } else {
            &mut self.staying
        }
    }
}
