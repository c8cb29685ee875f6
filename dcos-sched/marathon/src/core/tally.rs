//! How many instances an app has, kept up to date: most decisions need no more.

use std::collections::BTreeSet;

use super::Core;
use crate::PathId;
use crate::deployment::drive::Fresh;
use crate::instance::{Condition, Instance, InstanceId};

/// The instances of an app: the active ones, and those out of reach.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Those not meant to go.
    pub(super) staying: usize,
    /// Those meant to go.
    pub(super) leaving: usize,
    /// Those of the staying ones that are not ready.
    pub(super) unready: BTreeSet<InstanceId>,
    /// Those that do not count while their agents are out of reach, and are not meant to go.
    pub(super) lost: usize,
    /// Which of them a scaling launched itself, if one waits for those.
    watched: Option<Fresh>,
    /// How many of the staying ones those are.
    pub(super) own: usize,
    /// How many of them are ready.
    pub(super) own_ready: usize,
}

impl Core {
    /// What there is of an app.
    pub(super) fn tally(&self, id: &PathId) -> &Tally {
        static NONE: Tally = Tally {
            staying: 0,
            leaving: 0,
            unready: BTreeSet::new(),
            lost: 0,
            watched: None,
            own: 0,
            own_ready: 0,
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
        if let Some(before) = before.filter(|before| tally.is_own(before)) {
            tally.own -= 1;
            tally.own_ready -= usize::from(!tally.unready.contains(&before.id));
        }
        if after.is_some_and(|after| tally.is_own(after)) {
            tally.own += 1;
            tally.own_ready += usize::from(!unready);
        }
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
        tally.lost -= usize::from(before.is_some_and(is_lost));
        tally.lost += usize::from(after.is_some_and(is_lost));
        if tally.staying + tally.leaving + tally.lost == 0 {
            self.tallies.remove(&one.app);
        }
    }
}

impl Core {
    /// Counts those a scaling launched itself from now on.
    pub(super) fn watch(&mut self, id: &PathId, fresh: Fresh) {
        let Some(tally) = self.tallies.get_mut(id) else {
            return;
        };
        if tally.watched == Some(fresh) {
            return;
        }
        tally.watched = Some(fresh);
        let all = self.instances.get(id).into_iter();
        let all = all.flat_map(|instances| instances.values());
        let own: Vec<_> = all.filter(|one| tally.is_own(one)).collect();
        let ready = own.iter().filter(|one| !tally.unready.contains(&one.id));
        (tally.own, tally.own_ready) = (own.len(), ready.count());
    }
}

/// Whether it would count again once its agent returns.
pub(super) fn is_lost(one: &Instance) -> bool {
    one.condition == Condition::UnreachableInactive && !one.is_leaving()
}

impl Tally {
    fn is_own(&self, one: &Instance) -> bool {
        let owned = |fresh: Fresh| fresh.owns(one.version, one.launched_under());
        one.is_active() && !one.is_leaving() && self.watched.is_some_and(owned)
    }

    fn of(&mut self, one: &Instance) -> &mut usize {
        if one.is_leaving() {
            &mut self.leaving
        } else {
            &mut self.staying
        }
    }
}
