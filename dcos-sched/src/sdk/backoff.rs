//! How long to wait between tries.

use std::time::Duration;

use dcos_core::seed::Seed;

/// Waits that double from `min` to `max`, each shortened by up to half at random, so that many
/// frameworks that lost the same master do not return at the same instant.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    seed: Seed,
}

impl Backoff {
    /// Starts at `min`.
    pub fn new(min: Duration, max: Duration, seed: Seed) -> Self {
        Self {
            min,
            max,
            next: min,
            seed,
        }
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.max);
        whole.mul_f64(0.5 + self.seed.unit() / 2.0)
    }

    /// After a success: starts at `min` again.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_limit_and_start_anew_after_a_success() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 5 * second, Seed::new(7));
        for whole in [1, 2, 4, 5, 5] {
            let wait = backoff.wait();
            assert!(
                wait >= second * whole / 2 && wait <= second * whole,
                "{wait:?} of {whole} s"
            );
        }
        backoff.reset();
        assert!(backoff.wait() <= second);
    }
}
