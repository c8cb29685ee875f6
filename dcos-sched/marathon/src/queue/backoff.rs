//! Holding back apps whose instances end too soon.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::App;
use crate::{PathId, Timestamp};

/// The delay of each configuration that has one.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    delays: BTreeMap<(PathId, Timestamp), Delay>,
}

#[derive(Clone, Copy, Debug)]
struct Delay {
    length: Duration,
    reference: Timestamp,
}

impl Backoff {
    /// Notes an end that must not repeat too fast: the first sets the delay, each further one grows it.
    pub fn grow(&mut self, now: Timestamp, app: &App) {
        let most = Duration::from_secs(u64::from(app.max_launch_delay_seconds));
        let first = Duration::from_secs(u64::from(app.backoff_seconds)).min(most);
        self.expire(now, app);
        self.delays
            .entry(key(app))
            .and_modify(|delay| {
                let grown = delay.length.as_secs_f64() * app.backoff_factor;
                delay.length = Duration::try_from_secs_f64(grown).unwrap_or(most).min(most);
                delay.reference = now;
            })
            .or_insert(Delay {
                length: first,
                reference: now,
            });
    }

    /// Notes that an instance got on: the delay keeps its length and counts from now.
    pub fn advance(&mut self, now: Timestamp, app: &App) {
        if let Some(delay) = self.delays.get_mut(&key(app)) {
            delay.reference = now;
        }
    }

    /// Forgets the delays of an app.
    pub fn reset(&mut self, app: &PathId) {
        self.delays.retain(|(id, _), _| id != app);
    }

    /// Whether nothing is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.delays.is_empty()
    }

    /// The moment until which launches are held back; `None` if they are not.
    pub fn until(&self, app: &App, now: Timestamp) -> Option<Timestamp> {
        if self.is_empty() {
            return None;
        }
        let delay = self.delays.get(&key(app))?;
        Some(delay.reference + delay.length).filter(|until| *until > now)
    }

    /// A delay that was not needed for the longest delay possible is forgotten.
    fn expire(&mut self, now: Timestamp, app: &App) {
        let most = Duration::from_secs(u64::from(app.max_launch_delay_seconds));
        if let Some(delay) = self.delays.get(&key(app))
            && now.since(delay.reference) > most
        {
            self.delays.remove(&key(app));
        }
    }
}

fn key(app: &App) -> (PathId, Timestamp) {
    (app.id.clone(), app.config_version())
}
