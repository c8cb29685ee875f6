//! [`Pace`]: how often names are made anew.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest pause: a new task of a small cluster has its name at once.
const LEAST: Duration = Duration::from_millis(10);
/// The longest: whatever held the work up, such as a disk, a busy processor or a virtual machine that stood still, names
/// that changed meanwhile wait no longer than this for the next turn.
const MOST: Duration = Duration::from_secs(1);
/// Between the two it is so many times what the work took: in a storm of changes each of the two turns that make names
/// takes a twentieth of the time, as long as it takes 50 ms at most.
const SHARE: u32 = 20;

/// A turn of work that is done again and again, with pauses between.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    begin: Instant,
}

impl Pace {
    /// The work begins now.
    pub fn begin() -> Self {
        Self {
            begin: Instant::now(),
        }
    }

    /// The work is done: when the next turn may begin, which is 10 ms to 1 s from now.
    pub fn next(self) -> Instant {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.begin);
        now + took.saturating_mul(SHARE).clamp(LEAST, MOST)
    }

    /// The work is done: waits until the next turn may begin.
    pub async fn rest(self) {
        tokio::time::sleep_until(self.next()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_took_long_is_followed_by_the_next_within_a_second() {
        let millis = Duration::from_millis;
        for (took, pause) in [(0, 10), (2, 40), (30, 600), (50, 1000), (10_000, 1000)] {
            let pace = Pace::begin();
            tokio::time::sleep(millis(took)).await;
            let done = Instant::now();
            pace.rest().await;
            assert_eq!(done.elapsed(), millis(pause), "after {took} ms");
        }
    }
}
