//! What an operator decides.

use std::sync::Arc;
use std::time::Duration;

/// How long after offers were asked for they are asked for again, at most: so long a run may wait for its launch where others
/// begin all the time. Each time all that was declined is offered anew.
pub const REVIVE_INTERVAL: Duration = Duration::from_millis(100);

/// The same where few offers come: so that a master makes no more than 2,000 of them in a second.
pub const REVIVE_INTERVAL_PER_OFFER: Duration = Duration::from_micros(500);

/// The settings of a Metronome.
#[derive(Clone, Debug)]
pub struct Config {
    /// The settings of the engine: who the framework is, where it listens, how it treats offers and launches.
    pub engine: Arc<dcos_marathon::Config>,
    /// How many successful and how many failed runs of each job are remembered.
    pub history_count: usize,
}

impl Default for Config {
    fn default() -> Self {
        let engine = dcos_marathon::Config {
            framework_name: "metronome".to_owned(),
            http_port: 9000,
            min_revive_offers_interval: REVIVE_INTERVAL,
            revive_interval_per_offer: Some(REVIVE_INTERVAL_PER_OFFER),
            ..dcos_marathon::Config::default()
        };
        Self {
            engine: Arc::new(engine),
            history_count: 1000,
        }
    }
}
