//! Where the instances of services with constraints are, as long as somebody looks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Placed;
use crate::instance::{Agent, Instance};
use crate::model::App;
use crate::{PathId, Timestamp};

/// The [`Placed`] of each service that was looked at, kept up to date from then on.
///
/// Active instances count that have the configuration looked for, or a later one.
#[derive(Debug, Default)]
pub struct Places {
    of_app: HashMap<PathId, (Timestamp, Placed)>,
    nowhere: Placed,
}

impl Places {
    /// Where instances of `spec` are. Those there are, `all`, are asked for at the first look, and at the first after
    /// the configuration changed.
    pub fn of<'a, I: Iterator<Item = &'a Instance>>(
        &mut self,
        spec: &App,
        all: impl FnOnce() -> I,
    ) -> &Placed {
        if spec.constraints.is_empty() {
            return &self.nowhere;
        }
        let version = spec.config_version();
        let anew = || (version, Placed::of(spec, places(spec, all())));
        let known = match self.of_app.entry(spec.id.clone()) {
            Entry::Occupied(known) if known.get().0 == version => known.into_mut(),
            known => known.insert_entry(anew()).into_mut(),
        };
        &known.1
    }

    /// Notes that an instance appears, goes or changes.
    pub fn note(&mut self, before: Option<&Instance>, after: Option<&Instance>) {
        let Some(app) = after.or(before).map(|instance| &instance.app) else {
            return;
        };
        let Some((version, placed)) = self.of_app.get_mut(app) else {
            return;
        };
        let version = *version;
        let before = before.filter(|one| counts(one, version));
        let after = after.filter(|one| counts(one, version));
        if before.map(|one| &one.agent) == after.map(|one| &one.agent) {
            return;
        }
        if let Some(before) = before {
            placed.remove(&before.agent);
        }
        if let Some(after) = after {
            placed.add(&after.agent);
        }
    }

    /// Nobody looks at the service for now.
    pub fn forget(&mut self, app: &PathId) {
        self.of_app.remove(app);
    }
}

/// Where those of `all` are that count for `spec`.
pub fn places<'a>(
    spec: &App,
    all: impl Iterator<Item = &'a Instance>,
) -> impl Iterator<Item = &'a Agent> {
    let version = spec.config_version();
    let counting = all.filter(move |instance| counts(instance, version));
    counting.map(|instance| &instance.agent)
}

fn counts(instance: &Instance, version: Timestamp) -> bool {
    instance.is_active() && instance.config_version >= version
}
