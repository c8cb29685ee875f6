//! Connections between processes.
//!
//! They are TCP's: bytes on one connection arrive once and in order, or the connection breaks. What
//! was under way then is lost or, as it may wait in the receiver's kernel, arrives late, even
//! behind what a newer connection brought: the one way in which messages change places. Who sent
//! something that got lost learns that the connection broke; the other end may not.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;

/// A process that is reached over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// The machine of a master.
    Master(usize),
    /// A node.
    Node(usize),
    /// A framework.
    Party(usize),
}

/// When a message arrives, and over which connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) time: Time,
    pub(crate) connection: u32,
}

/// One direction between two processes.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    /// When the last message arrives.
    last: Time,
    /// Counts connections: what was sent on an earlier one is lost or late.
    connection: u32,
    /// Until then nothing gets through.
    cut: Time,
    /// Until then everything waits.
    stalled: Time,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Network {
    seed: Seed,
    lines: BTreeMap<(End, End), Line>,
    /// How slow it is at most.
    slowest: Duration,
}

impl Network {
    pub(crate) fn new(seed: &Seed) -> Self {
        Self {
            seed: seed.stream("network"),
            lines: BTreeMap::new(),
            slowest: Duration::from_millis(50),
        }
    }

    /// When a message sent now arrives; `None` if it never does.
    pub(crate) fn send(&mut self, now: Time, from: End, to: End) -> Option<Arrival> {
        let delay = self.delay();
        let line = self.lines.entry((from, to)).or_default();
        if now < line.cut {
            return None;
        }
        line.last = line.last.max(now + delay).max(line.stalled);
        Some(Arrival {
            time: line.last,
            connection: line.connection,
        })
    }

    /// The same for a message on a connection of its own, which may overtake others.
    pub(crate) fn send_alone(&mut self, now: Time, from: End, to: End) -> Option<Arrival> {
        let delay = self.delay();
        let line = self.lines.entry((from, to)).or_default();
        (now >= line.cut).then(|| Arrival {
            time: (now + delay).max(line.stalled),
            connection: line.connection,
        })
    }

    /// Whether the connection a message was sent on still stands.
    pub(crate) fn stands(&self, from: End, to: End, connection: u32) -> bool {
        let line = self.lines.get(&(from, to));
        line.map_or(0, |line| line.connection) == connection
    }

    /// A random delay: mostly short, sometimes long.
    pub(crate) fn delay(&mut self) -> Duration {
        let unit = self.seed.unit();
        let share = if self.seed.chance(0.05) {
            unit
        } else {
            unit * 0.1
        };
        self.slowest.mul_f64(share)
    }

    /// The connection in one direction breaks, and nothing gets through until `until`.
    pub(crate) fn cut(&mut self, from: End, to: End, until: Time) {
        let line = self.lines.entry((from, to)).or_default();
        line.connection += 1;
        line.last = Time::EPOCH;
        line.cut = line.cut.max(until);
    }

    /// Everything in one direction waits until `until`, and is not lost.
    pub(crate) fn stall(&mut self, from: End, to: End, until: Time) {
        let line = self.lines.entry((from, to)).or_default();
        line.stalled = line.stalled.max(until);
    }
}
