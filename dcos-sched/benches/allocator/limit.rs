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

/// How many milliseconds it takes to choose for each task the fullest of eight agents that were drawn, and nothing
/// else.
pub(crate) fn draw(agents: usize, tasks: usize) -> f64 {
    const DRAWN: u64 = 8;
    let once = || {
        let room = tasks.div_ceil(agents) * 2;
        let mut free = vec![room; agents];
        let mut state = 1_u64;
        for _ in 0..tasks {
            let mut best = 0;
            for _ in 0..DRAWN {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state % agents as u64).expect("as many as agents");
                if free[at] > 0 && (free[best] == 0 || free[at] < free[best]) {
                    best = at;
                }
            }
            free[best] = free[best].saturating_sub(1);
        }
        black_box(free)
    };
    (0..3).map(|_| timed(once).1).fold(f64::INFINITY, f64::min)
}
