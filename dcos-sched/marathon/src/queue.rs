//! The launch queue: what shall be launched, when it may be, and why it was not yet.

mod backoff;
mod summary;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dcos_proto::mesos::Offer;

use crate::matching::{Needs, Reasons};
use crate::model::App;
use crate::{PathId, Timestamp};

pub use backoff::Backoff;
pub(crate) use summary::Tried;
pub use summary::{Refusal, Summary};

/// All apps with instances to launch.
#[derive(Clone, Debug, Default)]
pub struct LaunchQueue {
    /// Each is asked for at every offer.
    entries: HashMap<PathId, Entry>,
    /// Their order.
    apps: BTreeSet<PathId>,
    backoff: Backoff,
}

/// An app with instances to launch.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What to launch.
    pub spec: Arc<App>,
    /// How many.
    pub count: u32,
    /// Since when there have been some to launch.
    pub since: Timestamp,
    /// What became of the offers so far.
    pub summary: Arc<Summary>,
    /// What the spec needs of an offer.
    needs: Needs,
}

impl Entry {
    /// Notes why an offer was of no use.
    pub(crate) fn refused(&mut self, now: Timestamp, offer: &Arc<Offer>, reasons: Reasons) {
        Arc::make_mut(&mut self.summary).refused(now, offer, reasons);
    }

    /// What the spec needs of an offer.
    pub(crate) fn needs(&self) -> &Needs {
        &self.needs
    }
}

impl LaunchQueue {
    /// Sets how many instances of `spec` are to be launched; true if offers refused so far may suit.
    pub fn want(&mut self, now: Timestamp, spec: &Arc<App>, count: u32) -> bool {
        if count == 0 {
            self.drop_app(&spec.id);
            return false;
        }
        let apps = &mut self.apps;
        let entry = self.entries.entry(spec.id.clone()).or_insert_with(|| {
            apps.insert(spec.id.clone());
            Entry {
                spec: Arc::clone(spec),
                count: 0,
                since: now,
                summary: Arc::default(),
                needs: Needs::of(spec),
            }
        });
        let mut more = count > entry.count;
        if entry.spec.config_version() != spec.config_version() {
            (entry.since, entry.summary) = (now, Arc::default());
            more = true;
        }
        if !Arc::ptr_eq(&entry.spec, spec) {
            entry.needs = Needs::of(spec);
            entry.spec = Arc::clone(spec);
        }
        entry.count = count;
        more
    }

    /// Nothing of `app` is to be launched.
    pub fn drop_app(&mut self, app: &PathId) {
        if self.entries.remove(app).is_some() {
            self.apps.remove(app);
        }
    }

    /// The entry of `app`.
    pub fn entry(&self, app: &PathId) -> Option<&Entry> {
        self.entries.get(app)
    }

    /// How many apps there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is to be launched.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, in the order of their apps.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.apps.iter().filter_map(|app| self.entries.get(app))
    }

    /// The apps that may launch now, longest waiting first.
    pub fn due(&self, now: Timestamp) -> Vec<&Entry> {
        let mut due: Vec<&Entry> = self.entries().filter(|e| self.is_due(e, now)).collect();
        due.sort_by_key(|entry| entry.since);
        due
    }

    /// The apps that wait for their delay to pass.
    pub fn held(&self, now: Timestamp) -> impl Iterator<Item = &PathId> {
        let delayed = self.backoff.apps();
        let delayed = delayed.filter_map(|app| self.entries.get(app));
        let held = delayed.filter(move |entry| !self.is_due(entry, now));
        held.map(|entry| &entry.spec.id)
    }

    /// Whether `app` may launch now.
    pub fn may_launch(&self, now: Timestamp, app: &PathId) -> bool {
        self.entries
            .get(app)
            .is_some_and(|entry| self.is_due(entry, now))
    }

    /// The fewest cores, and the least memory in MB, any app asks for an instance; there may be none that asks for both.
    pub fn least(&self) -> (f64, f64) {
        let least = |of: fn(&App) -> f64| {
            let all = self.entries.values().map(|entry| of(&entry.spec));
            all.fold(f64::INFINITY, f64::min)
        };
        (least(|spec| spec.cpus), least(|spec| spec.mem))
    }

    /// When the next entry that is held back may launch.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let delayed = self.backoff.apps();
        delayed
            .filter_map(|app| self.entries.get(app))
            .filter_map(|entry| self.backoff.until(&entry.spec, now))
            .min()
    }

    fn is_due(&self, entry: &Entry, now: Timestamp) -> bool {
        self.backoff.until(&entry.spec, now).is_none()
    }

    /// Until when launches of `app` are held back, if they are.
    pub fn held_until(&self, app: &App, now: Timestamp) -> Option<Timestamp> {
        self.backoff.until(app, now)
    }

    /// Notes that an instance was launched.
    pub fn launched(&mut self, now: Timestamp, app: &PathId) {
        if let Some(entry) = self.entries.get_mut(app) {
            Arc::make_mut(&mut entry.summary).used(now);
            entry.count = entry.count.saturating_sub(1);
            if entry.count == 0 {
                self.drop_app(app);
            }
        }
    }

    /// Notes why an offer was of no use.
    pub fn refused(&mut self, now: Timestamp, app: &PathId, offer: &Arc<Offer>, reasons: Reasons) {
        if let Some(entry) = self.entries.get_mut(app) {
            entry.refused(now, offer, reasons);
        }
    }

    /// Notes what came of `offers` that were looked at together.
    pub(crate) fn tried(
        &mut self,
        now: Timestamp,
        app: &PathId,
        tried: &Tried,
        offers: &[Arc<Offer>],
    ) {
        if let Some(entry) = self.entries.get_mut(app)
            && !tried.is_empty()
        {
            Arc::make_mut(&mut entry.summary).tried(now, tried, offers);
        }
    }

    /// The entry of `app`, to note in it what becomes of an offer.
    pub(crate) fn entry_mut(&mut self, app: &PathId) -> Option<&mut Entry> {
        self.entries.get_mut(app)
    }

    /// The delays.
    pub fn backoff(&mut self) -> &mut Backoff {
        &mut self.backoff
    }
}

#[cfg(test)]
mod tests;
