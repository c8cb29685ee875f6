//! Kills under way: sent once the master listens, and again until they are confirmed.

use std::collections::{BTreeSet, HashMap};

use super::Deadlines;
use crate::Timestamp;
use crate::config::Config;
use crate::instance::InstanceId;

/// Instances that are being killed, and when each is to be asked to go again.
#[derive(Debug, Default)]
pub struct Kills {
    unsent: BTreeSet<InstanceId>,
    again: Deadlines<InstanceId>,
    /// How often each was asked to go.
    attempts: HashMap<InstanceId, u32>,
    /// Their sum.
    attempted: u64,
}

impl Kills {
    /// Wants an instance killed.
    pub fn add(&mut self, id: &InstanceId) {
        if self.again.of(id).is_none() {
            self.unsent.insert(id.clone());
        }
    }

    /// The instance is gone.
    pub fn remove(&mut self, id: &InstanceId) {
        self.unsent.remove(id);
        self.again.set(id, None);
        self.attempted -= u64::from(self.attempts.remove(id).unwrap_or_default());
    }

    /// Whether an instance is being killed.
    pub fn contains(&self, id: &InstanceId) -> bool {
        self.unsent.contains(id) || self.again.of(id).is_some()
    }

    /// What was sent may be lost with the old connection.
    pub fn forget_sent(&mut self) {
        self.unsent
            .extend(std::mem::take(&mut self.again).into_things());
    }

    /// The instances to send kills for now: those not confirmed in time, and those not yet sent, as many as may be under
    /// way. Costs grow with what is due, not with how many are being killed.
    pub fn take_due(&mut self, now: Timestamp, config: &Config) -> Vec<InstanceId> {
        let mut due: Vec<_> = std::iter::from_fn(|| self.again.pop(now)).collect();
        while self.again.len() + due.len() < config.kill_chunk_size
            && let Some(id) = self.unsent.pop_first()
        {
            due.push(id);
        }
        for id in &due {
            self.again.set(id, Some(now + config.kill_retry_timeout));
            *self.attempts.entry(id.clone()).or_default() += 1;
            self.attempted += 1;
        }
        due
    }

    /// How many instances were asked to go and have not gone yet, and how often they were asked, in all.
    pub fn sent(&self) -> (usize, u64) {
        (self.attempts.len(), self.attempted)
    }

    /// When a kill has to be sent again.
    pub fn next(&self) -> Option<Timestamp> {
        self.again.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PathId;

    #[test]
    fn so_many_at_once_and_again_until_confirmed() {
        let config = Config {
            kill_chunk_size: 2,
            ..Config::default()
        };
        let id = |name: &str| InstanceId::new(&PathId::from("/a"), name);
        let at = Timestamp::from_millis;
        let mut kills = Kills::default();
        for name in ["x", "y", "z", "x"] {
            kills.add(&id(name));
        }
        assert_eq!(kills.take_due(at(0), &config), [id("x"), id("y")]);
        assert_eq!(kills.take_due(at(1), &config), []);
        kills.remove(&id("x"));
        assert_eq!(kills.take_due(at(2), &config), [id("z")]);
        assert_eq!(kills.next(), Some(at(30_000)));
        assert_eq!(kills.take_due(at(30_000), &config), [id("y")]);
        kills.forget_sent();
        assert_eq!(kills.take_due(at(30_001), &config), [id("y"), id("z")]);
        assert_eq!(kills.sent(), (2, 5));
        kills.remove(&id("y"));
        kills.add(&id("v"));
        assert_eq!(kills.sent(), (1, 2));
    }

    /// Looking at all kills for each one confirmed would take hours.
    #[test]
    fn a_great_many_end_in_time() {
        let config = Config::default();
        let app = PathId::from("/a");
        let mut kills = Kills::default();
        for number in 0..100_000 {
            kills.add(&InstanceId::new(&app, &format!("{number:06}")));
        }
        let mut killed = 0;
        let at = Timestamp::default();
        let mut due = kills.take_due(at, &config);
        while let Some(id) = due.pop() {
            killed += 1;
            kills.remove(&id);
            due.extend(kills.take_due(at, &config));
        }
        assert_eq!(killed, 100_000);
    }
}
