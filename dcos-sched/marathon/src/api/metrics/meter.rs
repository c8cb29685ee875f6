//! Rates and durations as Dropwizard's metrics has them, but that durations are those of the last calls, not a sample of more.

use std::collections::VecDeque;
use std::time::Duration;

use dcos_core::time::Time;
use serde_json::{Value, json};

/// How often rates move.
const TICK: Duration = Duration::from_secs(5);
/// Over how many minutes rates are smoothed.
const MINUTES: [f64; 3] = [1.0, 5.0, 15.0];
/// How many durations are remembered.
const MOST: usize = 1024;

/// How often something happens.
#[derive(Clone, Debug)]
pub struct Meter {
    begun: Time,
    ticked: Time,
    count: u64,
    /// Since the last tick.
    fresh: u32,
    /// A second, smoothed; `None` before the first tick.
    smooth: Option<[f64; 3]>,
}

/// How often something happened, a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// In all.
    pub count: u64,
    /// Since it is measured.
    pub mean: f64,
    /// Over one, five and fifteen minutes.
    pub smooth: [f64; 3],
}

impl Meter {
    /// One that begins now.
    pub fn new(now: Time) -> Self {
        Self {
            begun: now,
            ticked: now,
            count: 0,
            fresh: 0,
            smooth: None,
        }
    }

    /// It happens once more.
    pub fn mark(&mut self, now: Time) {
        self.tick(now);
        self.count += 1;
        self.fresh = self.fresh.saturating_add(1);
    }

    /// How often it happens.
    pub fn rates(&mut self, now: Time) -> Rates {
        self.tick(now);
        let seconds = now.since(self.begun).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "it is a rate")]
        let count = self.count as f64;
        Rates {
            count: self.count,
            mean: if seconds > 0.0 { count / seconds } else { 0.0 },
            smooth: self.smooth.unwrap_or_default(),
        }
    }

    /// Lets rates move to what happened since the last tick, and then towards nothing.
    fn tick(&mut self, now: Time) {
        let ticks = now.since(self.ticked).as_secs() / TICK.as_secs();
        if ticks == 0 {
            return;
        }
        self.ticked += TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        let latest = f64::from(std::mem::take(&mut self.fresh)) / TICK.as_secs_f64();
        let before = self.smooth.unwrap_or([latest; 3]);
        let silent = i32::try_from(ticks - 1).unwrap_or(i32::MAX);
        self.smooth = Some(std::array::from_fn(|at| {
            let stays = (-TICK.as_secs_f64() / 60.0 / MINUTES[at]).exp();
            let moved = latest + (before[at] - latest) * stays;
            moved * stays.powi(silent)
        }));
    }
}

impl Rates {
    pub(super) fn named(&self) -> [(&'static str, f64); 4] {
        let [m1, m5, m15] = self.smooth;
        [
            ("mean_rate", self.mean),
            ("m1_rate", m1),
            ("m5_rate", m5),
            ("m15_rate", m15),
        ]
    }

    /// The form in documents; `field` is what the unit's is called.
    pub(super) fn to_json(self, field: &str, unit: &str) -> Value {
        let mut document = json!({"count": self.count, field: unit});
        for (name, rate) in self.named() {
            document[name] = json!(rate);
        }
        document
    }
}

/// How long something takes, and how often it happens.
#[derive(Clone, Debug)]
pub struct Timer {
    meter: Meter,
    last: VecDeque<Duration>,
}

/// How long the last calls took, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How often, in all.
    pub rates: Rates,
    /// The shortest, the mean, the longest, and the deviation from the mean.
    pub spread: [f64; 4],
    /// By [`QUANTILES`].
    pub quantiles: [f64; 6],
}

/// Which part of all is as short.
const QUANTILES: [(f64, &str, &str); 6] = [
    (0.5, "0.5", "p50"),
    (0.75, "0.75", "p75"),
    (0.95, "0.95", "p95"),
    (0.98, "0.98", "p98"),
    (0.99, "0.99", "p99"),
    (0.999, "0.999", "p999"),
];

impl Timer {
    /// One that begins now.
    pub fn new(now: Time) -> Self {
        Self {
            meter: Meter::new(now),
            last: VecDeque::new(),
        }
    }

    /// It happened once more, and took so long.
    pub fn add(&mut self, now: Time, took: Duration) {
        self.meter.mark(now);
        if self.last.len() == MOST {
            self.last.pop_front();
        }
        self.last.push_back(took);
    }

    /// How long it takes.
    pub fn summary(&mut self, now: Time) -> Summary {
        let rates = self.meter.rates(now);
        let mut sorted: Vec<f64> = self.last.iter().map(Duration::as_secs_f64).collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (sorted.first().copied(), sorted.last().copied()) else {
            return Summary {
                rates,
                spread: [0.0; 4],
                quantiles: [0.0; 6],
            };
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "there are some thousand at most"
        )]
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let squares: f64 = sorted.iter().map(|each| (each - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
        Summary {
            rates,
            spread: [least, mean, most, deviation],
            quantiles: QUANTILES.map(|(part, ..)| quantile(&sorted, part * (count + 1.0))),
        }
    }
}

/// What stands at a place, counted from one, between those there are.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a place in a list"
)]
fn quantile(sorted: &[f64], place: f64) -> f64 {
    let below = (place.max(1.0) as usize).min(sorted.len());
    let (low, high) = (sorted[below - 1], sorted[below.min(sorted.len() - 1)]);
    low + (place - place.floor()) * (high - low)
}

impl Summary {
    pub(super) fn quantiles(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let names = QUANTILES.into_iter().map(|(_, name, _)| name);
        names.zip(self.quantiles)
    }

    pub(super) fn named(&self) -> [(&'static str, f64); 4] {
        let [least, mean, most, deviation] = self.spread;
        [
            ("min", least),
            ("mean", mean),
            ("max", most),
            ("stddev", deviation),
        ]
    }

    /// The form in documents.
    pub(super) fn to_json(self) -> Value {
        let mut document = self.rates.to_json("rate_units", "calls/second");
        document["duration_units"] = json!("seconds");
        let quantiles = QUANTILES.into_iter().map(|(.., name)| name);
        let all = quantiles.zip(self.quantiles).chain(self.named());
        for (name, value) in all {
            document[name] = json!(value);
        }
        document
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Time = Time::from_secs(1_000);

    #[test]
    fn rates_follow_what_happens_and_fade() {
        let mut meter = Meter::new(BEGUN);
        for second in 0..600 {
            meter.mark(BEGUN + Duration::from_secs(second));
        }
        let steady = meter.rates(BEGUN + Duration::from_secs(600));
        assert_eq!((steady.count, steady.mean), (600, 1.0));
        assert!(
            steady.smooth.iter().all(|rate| (rate - 1.0).abs() < 0.01),
            "{steady:?}"
        );
        let [m1, m5, m15] = meter.rates(BEGUN + Duration::from_secs(660)).smooth;
        assert!(
            m1 < m5 && m5 < m15 && (m1 - (-1_f64).exp()).abs() < 0.01,
            "{m1} {m5} {m15}"
        );
        let later = meter.rates(BEGUN + Duration::from_secs(1_000_000));
        assert!(later.smooth[2] < 1e-9 && later.count == 600);
    }

    #[test]
    fn quantiles_are_those_of_the_last_ones() {
        let mut timer = Timer::new(BEGUN);
        let all = |summary: Summary, value: f64| {
            let mut quantiles = summary.quantiles.iter();
            quantiles.all(|each| (each - value).abs() < 1e-9)
        };
        assert!(all(timer.summary(BEGUN), 0.0));
        timer.add(BEGUN, Duration::from_secs(9_999));
        for seconds in 1..=MOST as u64 {
            timer.add(BEGUN, Duration::from_secs(seconds));
        }
        let summary = timer.summary(BEGUN);
        let [least, mean, most, _] = summary.spread;
        assert_eq!((least, mean, most), (1.0, 512.5, 1024.0));
        assert_eq!((summary.rates.count, summary.quantiles[0]), (1025, 512.5));
        assert!((summary.quantiles[1] - 768.75).abs() < 1e-9);
        assert!((summary.quantiles[5] - 1023.975).abs() < 1e-9);
        let mut one = Timer::new(BEGUN);
        one.add(BEGUN, Duration::from_secs(3));
        assert!(all(one.summary(BEGUN), 3.0));
    }
}
