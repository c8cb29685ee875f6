//! The connection to the master: whether there is one, whether we want offers, when to compare notes.

use std::collections::BTreeSet;
use std::time::Duration;

use dcos_proto::scheduler::{Call, event};

use super::calls;
use crate::config::Config;
use crate::instance::{Condition, Instance};
use crate::model::UnreachableStrategy;
use crate::queue::LaunchQueue;
use crate::{PathId, Timestamp};

/// How soon the master is asked again about launches in doubt; each time twice as late.
const FIRST_DOUBT: Duration = Duration::from_secs(1);

/// Offers are never asked for sooner after they were.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// How the connection to the master stands.
#[derive(Debug, Default)]
pub struct Subscription {
    connected: bool,
    home_region: Option<String>,
    master: Option<String>,
    /// There is more to launch than when offers were last asked for.
    wanted: bool,
    /// Offers do not come any more at our own wish.
    suppressed: bool,
    last_revive: Option<Timestamp>,
    /// How many offers came since, and how many between the two times before.
    offered: (usize, usize),
    last_reconciliation: Option<Timestamp>,
    /// Since when there is this connection.
    since: Timestamp,
    /// How soon to ask again, while launches of earlier connections are in doubt.
    doubt: Option<Duration>,
    /// Specs that wait for their delay to pass before they may launch.
    held: BTreeSet<PathId>,
}

impl Subscription {
    /// A new connection; `wanted` says whether there is something to launch.
    pub fn begin(&mut self, now: Timestamp, subscribed: &event::Subscribed, wanted: bool) {
        let master = subscribed.master_info.as_ref();
        let address = master.map(|master| {
            let address = master.address.as_ref();
            let host = address
                .and_then(|address| address.hostname.clone().or_else(|| address.ip.clone()))
                .or_else(|| master.hostname.clone())
                .unwrap_or_default();
            let port = address.map_or(5050, |address| address.port);
            format!("{host}:{port}")
        });
        let region = master
            .and_then(|master| master.domain.as_ref())
            .and_then(|domain| domain.fault_domain.as_ref())
            .map(|domain| domain.region.name.clone());
        *self = Self {
            connected: true,
            home_region: region,
            master: Some(address.unwrap_or_default()),
            wanted,
            since: now,
            held: std::mem::take(&mut self.held),
            ..Self::default()
        };
    }

    /// The connection is gone; false if it was before.
    pub fn end(&mut self) -> bool {
        std::mem::take(&mut self.connected)
    }

    /// Whether a master is connected.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// When a launch that stands as it has since `since` is given up: after `most`, and not before this connection has
    /// lasted as long, for what happened without one is not known yet.
    pub fn overdue(&self, since: Timestamp, most: Duration) -> Option<Timestamp> {
        self.connected.then(|| since.max(self.since) + most)
    }

    /// When an instance that stays as it is will be given up.
    pub fn expiry(&self, instance: &Instance, config: &Config) -> Option<Timestamp> {
        let after = |seconds| instance.since + Duration::from_secs(seconds);
        match (instance.condition, instance.unreachable_strategy) {
            (Condition::Unreachable, UnreachableStrategy::Enabled(unreachable)) => {
                Some(after(unreachable.inactive_after_seconds))
            }
            (Condition::UnreachableInactive, UnreachableStrategy::Enabled(unreachable)) => {
                Some(after(unreachable.expunge_after_seconds))
            }
            (Condition::Provisioned, _) => {
                self.overdue(instance.since, config.task_launch_confirm_timeout)
            }
            (Condition::Staging | Condition::Starting, _) => {
                self.overdue(instance.since, config.task_launch_timeout)
            }
            _ => None,
        }
    }

    /// Since when there is a connection, if there is one.
    pub fn connected_since(&self) -> Option<Timestamp> {
        self.connected.then_some(self.since)
    }

    /// The region the master is in.
    pub fn home_region(&self) -> Option<&String> {
        self.home_region.as_ref()
    }

    /// The master's address.
    pub fn master(&self) -> Option<&String> {
        self.master.as_ref()
    }

    /// Offers came.
    pub fn offered(&mut self, count: usize) {
        self.offered.0 += count;
    }

    /// How long after offers were asked for they may be asked for again. All that was declined is then offered anew, so that the
    /// fewer offers that makes, the sooner it may be; while none has come, the answer is under way, or there is nothing to give.
    fn pause(&self, config: &Config) -> Duration {
        let most = config.min_revive_offers_interval;
        let (now, before) = self.offered;
        let count = u32::try_from(now.max(before)).unwrap_or(u32::MAX);
        match config.revive_interval_per_offer {
            Some(each) if now > 0 => each
                .saturating_mul(count)
                .clamp(SHORTEST_PAUSE.min(most), most),
            _ => most,
        }
    }

    /// There is more to launch than before.
    pub fn want_offers(&mut self) {
        self.wanted = true;
    }

    /// When something is due here.
    pub fn next_deadline(&self, config: &Config) -> Option<Timestamp> {
        if !self.connected {
            return None;
        }
        let reconcile = self
            .last_reconciliation
            .map(|at| at + self.interval(config));
        let revive = self
            .last_revive
            .filter(|_| self.wanted)
            .map(|at| at + self.pause(config));
        reconcile.into_iter().chain(revive).min()
    }

    fn interval(&self, config: &Config) -> Duration {
        let most = config.reconciliation_interval;
        self.doubt.map_or(most, |doubt| doubt.min(most))
    }

    /// Whether it is time to compare all tasks with the master again.
    pub fn reconciliation_is_due(&self, now: Timestamp, config: &Config) -> bool {
        let interval = self.interval(config);
        self.connected
            && self
                .last_reconciliation
                .is_some_and(|last| last + interval <= now)
    }

    /// Asks the master about each task we know, then about all it knows.
    pub fn reconcile<'a>(
        &mut self,
        now: Timestamp,
        instances: impl Iterator<Item = &'a Instance>,
    ) -> Vec<Call> {
        self.last_reconciliation = Some(now);
        // A master that has just begun to lead says nothing of agents that are not back yet. What was launched through an
        // earlier connection may be lost with it, so it is asked about until somebody knows.
        let mut doubt = false;
        let mut instances = instances
            .inspect(|known| {
                doubt |= known.condition == Condition::Provisioned && known.since <= self.since;
            })
            .peekable();
        let known = instances.peek().is_some();
        let known = known.then(|| calls::reconcile(instances));
        let longer = self.doubt.map_or(FIRST_DOUBT, |before| before * 2);
        self.doubt = doubt.then_some(longer);
        let all = calls::reconcile(std::iter::empty());
        known.into_iter().chain([all]).collect()
    }

    /// Asks for offers when there is something new to launch or, with `release`, to give back, and for none when there
    /// is nothing.
    pub fn ask(
        &mut self,
        now: Timestamp,
        queue: &LaunchQueue,
        config: &Config,
        release: bool,
    ) -> Option<Call> {
        if !self.connected {
            return None;
        }
        let held_back = self.held.iter().any(|spec| queue.may_launch(now, spec));
        self.held = queue.held(now).cloned().collect();
        self.wanted |= held_back;
        if self.held.len() == queue.len() && !release {
            self.wanted = false;
            let idle = queue.is_empty();
            let first = idle && !std::mem::replace(&mut self.suppressed, true);
            return first.then(calls::suppress);
        }
        let rested = self
            .last_revive
            .is_none_or(|last| last + self.pause(config) <= now);
        if !self.wanted || !rested {
            return None;
        }
        self.wanted = false;
        self.suppressed = false;
        self.last_revive = Some(now);
        self.offered = (0, self.offered.0);
        Some(calls::revive())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::App;

    /// When offers are asked for again, if so many came since they were, and so many more the time before.
    fn asked_again(config: &Config, before: usize, since: usize) -> i64 {
        let at = Timestamp::from_millis;
        let app = serde_json::json!({"id": "/a", "cmd": "run"});
        let app: Arc<App> = Arc::new(serde_json::from_value(app).unwrap());
        let mut queue = LaunchQueue::default();
        queue.want(at(0), &app, 1);
        let mut connection = Subscription::default();
        connection.begin(at(0), &event::Subscribed::default(), true);
        assert!(connection.ask(at(0), &queue, config, false).is_some());
        connection.offered(before);
        connection.want_offers();
        assert!(connection.ask(at(500), &queue, config, false).is_some());
        connection.offered(since);
        connection.want_offers();
        let mut asked = |after: &i64| {
            let call = connection.ask(at(500 + after), &queue, config, false);
            call.is_some()
        };
        (0..1_000).find(&mut asked).unwrap()
    }

    #[test]
    fn the_fewer_offers_come_the_sooner_more_are_asked_for() {
        let config = Config {
            min_revive_offers_interval: Duration::from_millis(100),
            revive_interval_per_offer: Some(Duration::from_micros(500)),
            ..Config::default()
        };
        for (before, since, expected) in [
            (50, 0, 100),
            (0, 1, 10),
            (0, 50, 25),
            // The rest of the answer may be on its way.
            (80, 1, 40),
            (0, 10_000, 100),
        ] {
            let asked = asked_again(&config, before, since);
            assert_eq!(asked, expected, "{before} {since}");
        }
        assert_eq!(asked_again(&Config::default(), 0, 1), 200);
    }
}
