//! Holding back apps whose instances end too soon.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::App;
use crate::{PathId, Timestamp};

/// How often delays that are over are looked for.
const SWEEP: Duration = Duration::from_mins(1);

/// The delay of each configuration that has one.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    delays: BTreeMap<PathId, BTreeMap<Timestamp, Delay>>,
    /// When delays that are over were last looked for.
    swept: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Delay {
    length: Duration,
    reference: Timestamp,
    /// The longest delay possible: one that was not needed for so long is forgotten.
    most: Duration,
}

impl Delay {
    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.reference) > self.most
    }
}

impl Backoff {
    /// Notes an end that must not repeat too fast: the first sets the delay, each further one grows it.
    pub fn grow(&mut self, now: Timestamp, app: &App) {
        let most = Duration::from_secs(u64::from(app.max_launch_delay_seconds));
        let first = Duration::from_secs(u64::from(app.backoff_seconds)).min(most);
        let version = app.config_version();
        let of_app = self.delays.entry(app.id.clone()).or_default();
        if of_app.get(&version).is_some_and(|delay| delay.is_over(now)) {
            of_app.remove(&version);
        }
        of_app
            .entry(version)
            .and_modify(|delay| {
                let grown = delay.length.as_secs_f64() * app.backoff_factor;
                delay.length = Duration::try_from_secs_f64(grown).unwrap_or(most).min(most);
                delay.reference = now;
            })
            .or_insert(Delay {
                length: first,
                reference: now,
                most,
            });
    }

    /// Notes an end of which the app may be the cause or not: it sets the first delay, and grows none.
    pub fn hold(&mut self, now: Timestamp, app: &App) {
        let of_app = self.delays.get(&app.id);
        if of_app.is_some_and(|of_app| of_app.contains_key(&app.config_version())) {
            self.advance(now, app);
        } else {
            self.grow(now, app);
        }
    }

    /// Notes that an instance got on: the delay keeps its length and counts from now.
    pub fn advance(&mut self, now: Timestamp, app: &App) {
        let of_app = self.delays.get_mut(&app.id);
        if let Some(delay) = of_app.and_then(|of_app| of_app.get_mut(&app.config_version())) {
            delay.reference = now;
        }
    }

    /// Forgets the delays of an app.
    pub fn reset(&mut self, app: &PathId) {
        self.delays.remove(app);
    }

    /// Forgets delays that are over: looked for once a minute, so that they cost nothing to speak of.
    pub fn sweep(&mut self, now: Timestamp) {
        if self.delays.is_empty() || now.since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.delays.retain(|_, of_app| {
            of_app.retain(|_, delay| !delay.is_over(now));
            !of_app.is_empty()
        });
    }

    /// The apps that have a delay, be it over by now.
    pub(super) fn apps(&self) -> impl Iterator<Item = &PathId> {
        self.delays.keys()
    }

    /// The moment until which launches are held back; `None` if they are not.
    pub fn until(&self, app: &App, now: Timestamp) -> Option<Timestamp> {
        let delay = self.delays.get(&app.id)?.get(&app.config_version())?;
        Some(delay.reference + delay.length).filter(|until| *until > now)
    }
}
