//! Kills under way: sent once the master listens, and again until they are confirmed.

use std::collections::BTreeMap;

use crate::Timestamp;
use crate::config::Config;
use crate::instance::InstanceId;

/// Instances that are being killed, and when each was last asked to go.
#[derive(Debug, Default)]
pub struct Kills {
    sent: BTreeMap<InstanceId, Option<Timestamp>>,
}

impl Kills {
    /// Wants an instance killed.
    pub fn add(&mut self, id: &InstanceId) {
        self.sent.entry(id.clone()).or_insert(None);
    }

    /// The instance is gone.
    pub fn remove(&mut self, id: &InstanceId) {
        self.sent.remove(id);
    }

    /// Whether an instance is being killed.
    pub fn contains(&self, id: &InstanceId) -> bool {
        self.sent.contains_key(id)
    }

    /// What was sent may be lost with the old connection.
    pub fn forget_sent(&mut self) {
        for sent in self.sent.values_mut() {
            *sent = None;
        }
    }

    /// The instances to send kills for now: those not yet sent, as many as may be under way, and those not confirmed.
    pub fn take_due(&mut self, now: Timestamp, config: &Config) -> Vec<InstanceId> {
        let retry = config.kill_retry_timeout;
        let mut under_way = self.sent.values().flatten().count();
        let mut due = Vec::new();
        for (id, sent) in &mut self.sent {
            match sent {
                Some(sent) if *sent + retry > now => continue,
                Some(_) => {}
                None if under_way >= config.kill_chunk_size => continue,
                None => under_way += 1,
            }
            *sent = Some(now);
            due.push(id.clone());
        }
        due
    }

    /// When a kill has to be sent again.
    pub fn next(&self, config: &Config) -> Option<Timestamp> {
        let sent = self.sent.values().flatten().min()?;
        Some(*sent + config.kill_retry_timeout)
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
        assert_eq!(kills.next(&config), Some(at(30_000)));
        assert_eq!(kills.take_due(at(30_000), &config), [id("y")]);
        kills.forget_sent();
        assert_eq!(kills.take_due(at(30_001), &config), [id("y"), id("z")]);
    }
}
