//! The least there is to do: for each agent take the framework with the least share.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;

use super::cluster::timed;

/// How many milliseconds deciding takes, and nothing else; the best of a few tries.
#[expect(clippy::cast_precision_loss, reason = "shares need no more")]
pub(crate) fn decide(agents: usize, frameworks: usize) -> f64 {
    let once = || {
        let mut shares: BinaryHeap<Reverse<(u64, usize)>> =
            (0..frameworks).map(|at| Reverse((0, at))).collect();
        let part = 1.0 / agents as f64;
        let mut sum = 0;
        for _ in 0..agents {
            if let Some(Reverse((share, at))) = shares.pop() {
                sum += at;
                shares.push(Reverse(((f64::from_bits(share) + part).to_bits(), at)));
            }
        }
        black_box(sum)
    };
    (0..5).map(|_| timed(once).1).fold(f64::INFINITY, f64::min)
}
