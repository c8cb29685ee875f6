//! What goes wrong, as data: a list that can be shortened until only the guilty are left.

use std::fmt;
use std::time::Duration;

use dcos_core::seed::Seed;

use crate::order::Order;
use crate::registry::Ailment;

/// Something that goes wrong. Whom it strikes is drawn as a number, and counted off when it
/// happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A master's process is killed and started again after a while.
    MasterCrash {
        /// Who.
        who: u64,
        /// How long it is away.
        pause: Duration,
    },
    /// The leader's session ends, and it learns of that only later.
    SessionLoss {
        /// How much later.
        late: Duration,
    },
    /// An agent's process is killed; its containers go on.
    AgentCrash {
        /// Who.
        who: u64,
        /// How long it is away.
        pause: Duration,
    },
    /// An agent's process is killed in the middle of what it does.
    AgentFuse {
        /// Who.
        who: u64,
        /// After how many actions.
        actions: u32,
    },
    /// A node's machine goes down, and its containers with it.
    PowerLoss {
        /// Who.
        who: u64,
        /// How long it is away.
        pause: Duration,
    },
    /// A framework's process is killed and comes back with what it wrote down.
    PartyCrash {
        /// Who.
        who: u64,
        /// How much later the master learns of it.
        late: Duration,
    },
    /// The process of a service is killed at a write to its store.
    PartyFuse {
        /// Whose.
        who: u64,
        /// After how many others.
        writes: u32,
        /// Whether this one is durable.
        is_written: bool,
    },
    /// An event stream breaks.
    StreamBreak {
        /// Whose.
        who: u64,
        /// How much later the master learns of it.
        late: Duration,
    },
    /// Nothing passes between some nodes and the masters.
    Partition {
        /// The first of the nodes.
        who: u64,
        /// How many.
        count: u64,
        /// Which directions.
        way: Way,
        /// For how long.
        time: Duration,
    },
    /// Everything between a node and the masters waits, and is not lost.
    Stall {
        /// Who.
        who: u64,
        /// For how long.
        time: Duration,
    },
    /// A process does nothing for a while, as one that is swapped out.
    Freeze {
        /// Whose.
        whose: Kind,
        /// Who.
        who: u64,
        /// For how long.
        time: Duration,
    },
    /// A process's clock jumps.
    ClockJump {
        /// Whose.
        whose: Kind,
        /// Who.
        who: u64,
        /// By how much.
        by: Duration,
        /// Whether forward.
        forward: bool,
    },
    /// An operator gives an order. That is no fault, but comes in the middle of them.
    Order(Order),
    /// The masters' store is slow, or fails.
    Store {
        /// What is wrong.
        ailment: Ailment,
        /// For how long.
        time: Duration,
    },
}

/// Which directions a partition closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing reaches the masters.
    Up,
    /// Nothing reaches the nodes.
    Down,
    /// Neither.
    Both,
}

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A master.
    Master,
    /// An agent.
    Agent,
    /// A framework.
    Framework,
}

/// Draws faults for a while.
pub(crate) fn draw(seed: &mut Seed, trouble: Duration, pause: Duration) -> Vec<(Duration, Fault)> {
    drawn(seed, Duration::from_secs(3), trouble, pause, one)
}

/// Draws orders for a while.
pub(crate) fn draw_orders(
    seed: &mut Seed,
    trouble: Duration,
    pause: Duration,
) -> Vec<(Duration, Fault)> {
    let order = |seed: &mut Seed| Fault::Order(Order::draw(seed));
    drawn(seed, Duration::from_secs(2), trouble, pause, order)
}

/// Draws at which writes services are killed, for a while.
pub(crate) fn draw_fuses(
    seed: &mut Seed,
    trouble: Duration,
    pause: Duration,
) -> Vec<(Duration, Fault)> {
    let fuse = |seed: &mut Seed| Fault::PartyFuse {
        who: seed.next_u64(),
        writes: u32::try_from(seed.range(0..6)).unwrap_or(0),
        is_written: seed.chance(0.5),
    };
    drawn(seed, Duration::from_secs(1), trouble, pause, fuse)
}

/// One after the other, with up to twice `pause` between two.
fn drawn(
    seed: &mut Seed,
    first: Duration,
    trouble: Duration,
    pause: Duration,
    one: impl Fn(&mut Seed) -> Fault,
) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    let mut time = first;
    while time < trouble {
        faults.push((time, one(seed)));
        time += pause.mul_f64(2.0 * seed.unit()) + Duration::from_millis(50);
    }
    faults
}

fn one(seed: &mut Seed) -> Fault {
    let who = seed.next_u64();
    let mut up_to = |most: u64| Duration::from_millis(seed.range(200..most));
    // Now and then somebody stays away until he is given up.
    let (short, long) = (up_to(15_000), up_to(300_000));
    let late = up_to(30_000);
    let pause = if seed.chance(0.1) { long } else { short };
    match seed.range(0..40) {
        0..4 => Fault::MasterCrash { who, pause: short },
        4..8 => Fault::SessionLoss { late },
        8..13 => Fault::AgentCrash { who, pause },
        13..17 => Fault::AgentFuse {
            who,
            actions: u32::try_from(seed.range(0..40)).unwrap_or(0),
        },
        17..19 => Fault::PowerLoss { who, pause },
        19..22 => Fault::PartyCrash { who, late: short },
        22..25 => Fault::StreamBreak { who, late: short },
        25..31 => Fault::Partition {
            who,
            count: 1 + seed.range(0..40) * seed.range(0..2),
            way: [Way::Up, Way::Down, Way::Both, Way::Both][seed.index(4)],
            time: pause,
        },
        31..33 => Fault::Stall { who, time: short },
        33..35 => Fault::Freeze {
            whose: kind(seed),
            who,
            time: late,
        },
        35..37 => Fault::ClockJump {
            whose: kind(seed),
            who,
            by: long,
            forward: seed.chance(0.6),
        },
        _ => Fault::Store {
            ailment: if seed.chance(0.6) {
                Ailment::Slow
            } else {
                Ailment::Failing
            },
            time: short,
        },
    }
}

fn kind(seed: &mut Seed) -> Kind {
    [Kind::Master, Kind::Agent, Kind::Framework][seed.index(3)]
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
