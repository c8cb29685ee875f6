//! What the shell measures: queues, and how long things take.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dcos_wire::Load;

use super::http::Figures;

/// What of the shell is shown by `/metrics/snapshot`. Written by the core's loop, read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// libprocess messages that wait for the core.
    pub(crate) messages: Gauge,
    /// Calls and reads that wait for the core.
    pub(crate) commands: Gauge,
    /// Readers of the operator API's event stream.
    pub(crate) subscribers: Gauge,
    /// Writes that wait for the one that is under way.
    pub(crate) queued_writes: Gauge,
    /// Connections to the master's port.
    pub(crate) connections: Load,
    /// Bytes of the registry as it was last read or written.
    pub(crate) registry_bytes: Gauge,
    /// Documents that were shared with others who had asked for the same.
    pub(crate) shared_documents: Gauge,
    /// Reading the registry.
    pub(crate) fetch: Timings,
    /// Writing it.
    pub(crate) store: Timings,
    /// Turns of the core in which resources were offered.
    pub(crate) allocation: Timings,
    /// What the allocator counts.
    pub(crate) figures: Figures,
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    pub(crate) fn set(&self, number: usize) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, number: usize) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many durations the statistics are about, as in libprocess.
const WINDOW: usize = 1000;

/// How long something took, lately.
#[derive(Debug, Default)]
pub(crate) struct Timings(Mutex<VecDeque<f64>>);

impl Timings {
    fn window(&self) -> MutexGuard<'_, VecDeque<f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, spent: Duration) {
        let mut window = self.window();
        if window.len() == WINDOW {
            window.pop_front();
        }
        window.push_back(spent.as_secs_f64() * 1000.0);
    }

    /// The last in milliseconds under `name`, and the statistics of libprocess below it: nothing
    /// before the first, and no statistics of a single one.
    pub(crate) fn metrics(&self, name: &str) -> Vec<(String, f64)> {
        let mut sorted: Vec<f64> = self.window().iter().copied().collect();
        let Some(last) = sorted.last().copied() else {
            return Vec::new();
        };
        sorted.sort_by(f64::total_cmp);
        let mut metrics = vec![(name.to_owned(), last)];
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "there are at most a thousand"
        )]
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, part) = (place.floor() as usize, place.fract());
            let above = sorted.get(below + 1).unwrap_or(&sorted[below]);
            sorted[below] + part * (above - sorted[below])
        };
        let mut put = |what: &str, number: f64| metrics.push((format!("{name}/{what}"), number));
        #[expect(clippy::cast_precision_loss, reason = "there are at most a thousand")]
        put("count", sorted.len() as f64);
        put("min", at(0.0));
        put("max", at(1.0));
        for (what, share) in [
            ("p50", 0.5),
            ("p90", 0.9),
            ("p95", 0.95),
            ("p99", 0.99),
            ("p999", 0.999),
            ("p9999", 0.9999),
        ] {
            put(what, at(share));
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_of_the_last_thousand() {
        let timings = Timings::default();
        assert!(timings.metrics("x_ms").is_empty());
        for milliseconds in 0..2001 {
            timings.record(Duration::from_millis(milliseconds));
        }
        let metrics = timings.metrics("x_ms");
        let of = |name: &str| {
            let found = metrics.iter().find(|(known, _)| known == name);
            found.expect("it is there").1.round()
        };
        assert_eq!((of("x_ms"), of("x_ms/count")), (2000.0, 1000.0));
        assert_eq!((of("x_ms/min"), of("x_ms/max")), (1001.0, 2000.0));
        assert!((1899.0..=1901.0).contains(&of("x_ms/p90")));
    }
}
