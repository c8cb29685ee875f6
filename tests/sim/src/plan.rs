//! What a world is made of, and what goes wrong in it.

use std::time::Duration;

use dcos_core::seed::Seed;

use crate::fault::{self, Fault};
use crate::sabotage::Sabotage;

/// What a world is made of.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is there or not")]
pub struct Plan {
    /// How many machines are candidates to lead.
    pub masters: usize,
    /// How many nodes there are.
    pub nodes: usize,
    /// What each has.
    pub resources: &'static str,
    /// How many scripted frameworks there are.
    pub frameworks: usize,
    /// How many tasks each wants done.
    pub tasks: usize,
    /// Whether there is a Marathon with a restless user.
    pub marathon: bool,
    /// Whether its apps have checks, which pass and fail as they like.
    pub flaps: bool,
    /// Whether one of its apps has volumes. An instance waits for the agent of its volumes, so that there must be no
    /// operator who has agents gone or wiped.
    pub volumes: bool,
    /// Whether some of its deployments have deadlines.
    pub deadlines: bool,
    /// Whether there is a Metronome with a restless user.
    pub metronome: bool,
    /// For how long frameworks may refuse what they are offered, in seconds.
    pub refusals: [f64; 3],
    /// How long a lost agent may take to come back before it is unreachable.
    pub reregister: Duration,
    /// Which part is broken, to see whether that is noticed.
    pub sabotage: Option<Sabotage>,
    /// For how long faults happen.
    pub trouble: Duration,
    /// The pause between two faults is up to twice this long.
    pub pause: Duration,
    /// The pause between two orders of an operator is up to twice this long, if there is one.
    pub orders: Option<Duration>,
    /// The pause between two writes at which a service is killed is up to twice this long, if any is.
    pub fuses: Option<Duration>,
    /// Whether agents authenticate, and rules and limits say who may do what.
    pub guarded: bool,
    /// Whether roles have priorities, and tasks of one make room for those of another.
    pub preempts: bool,
    /// Whether some of the scripts speak the messages of v0 drivers (libmesos).
    pub drivers: bool,
    /// How much frameworks keep for themselves: the chance at each offer.
    pub keep: f64,
    /// These faults at these times, instead of those the seed decides.
    pub faults: Option<Vec<(Duration, Fault)>>,
    /// How long after the trouble everything has to be at rest.
    pub patience: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            masters: 3,
            nodes: 3,
            resources: "cpus:4;mem:1024;disk:1024;ports:[31000-31099]",
            frameworks: 2,
            tasks: 15,
            marathon: true,
            flaps: false,
            volumes: false,
            deadlines: false,
            metronome: false,
            refusals: [0.0, 1.0, 5.0],
            reregister: Duration::from_mins(10),
            sabotage: None,
            trouble: Duration::from_mins(2),
            pause: Duration::from_secs(6),
            orders: None,
            fuses: None,
            guarded: false,
            preempts: false,
            drivers: false,
            keep: 0.0,
            faults: None,
            patience: Duration::from_hours(3),
        }
    }
}

impl Plan {
    /// The size of issue 3: 5,000 agents and 100 frameworks.
    pub fn full() -> Self {
        Self {
            nodes: 5000,
            frameworks: 100,
            tasks: 60,
            refusals: [10.0, 30.0, 60.0],
            reregister: Duration::from_secs(90),
            trouble: Duration::from_mins(3),
            pause: Duration::from_millis(900),
            orders: Some(Duration::from_secs(1)),
            ..Self::default()
        }
    }

    /// A hundred agents and ten frameworks.
    pub fn medium() -> Self {
        Self {
            nodes: 100,
            frameworks: 10,
            tasks: 60,
            refusals: [1.0, 5.0, 20.0],
            reregister: Duration::from_mins(2),
            pause: Duration::from_secs(2),
            orders: Some(Duration::from_secs(2)),
            ..Self::default()
        }
    }

    /// The world that belongs to a seed: one in a thousand is full, one in fifty medium, the
    /// others are small, where rare coincidences are common.
    pub fn of(number: u64) -> Self {
        match number {
            _ if number % 1000 == 999 => Self::full().varied(number),
            _ if number % 50 == 49 => Self::medium().varied(number),
            _ => Self::small(number),
        }
    }

    /// One of the small worlds.
    pub fn small(number: u64) -> Self {
        let mut seed = Seed::new(number).stream("size");
        let plan = Self {
            nodes: 1 + seed.index(6),
            frameworks: 1 + seed.index(4),
            tasks: 5 + seed.index(15),
            marathon: seed.chance(0.5),
            orders: Some(Duration::from_secs(6)),
            ..Self::default()
        };
        plan.varied(number)
    }

    /// A small world with something in it that is not in the mixture: guards, priorities, drivers.
    pub fn wide(number: u64) -> Self {
        let mut seed = Seed::new(number).stream("wide");
        let small = Self::small(number);
        let (guarded, preempts) = (seed.chance(0.5), seed.chance(0.5));
        Self {
            guarded,
            preempts,
            drivers: seed.chance(0.5) || !(guarded || preempts),
            frameworks: small.frameworks.max(2),
            // More than fits at once, so that somebody has to give way.
            tasks: if preempts {
                small.tasks * 2
            } else {
                small.tasks
            },
            ..small
        }
    }

    /// A small world with a Metronome in it, and a Marathon whose apps have checks and volumes, and its deployments
    /// deadlines; both are killed at their writes.
    pub fn services(number: u64) -> Self {
        let mut seed = Seed::new(number).stream("services");
        let plan = Self {
            nodes: 1 + seed.index(4),
            frameworks: 1,
            tasks: 2 + seed.index(5),
            marathon: seed.chance(0.5),
            flaps: true,
            volumes: seed.chance(0.8),
            deadlines: true,
            metronome: true,
            trouble: Duration::from_mins(4),
            pause: Duration::from_secs(8),
            fuses: Some(Duration::from_secs(6)),
            ..Self::default()
        };
        plan.varied(number)
    }

    /// What else differs from seed to seed.
    #[must_use]
    pub fn varied(self, number: u64) -> Self {
        let mut seed = Seed::new(number).stream("plan");
        let whole = self;
        Self {
            masters: if seed.chance(0.3) { 1 } else { 3 },
            // Half of the small worlds have no operator, so that their faults meet calmer books.
            orders: whole
                .orders
                .filter(|_| whole.nodes > 50 || seed.chance(0.6)),
            keep: [0.0, 0.2, 0.5][seed.index(3)],
            reregister: Duration::from_secs([80, 200, 600][seed.index(3)]).min(whole.reregister),
            ..whole
        }
    }

    /// The faults of the world that belongs to a seed.
    pub fn faults(&self, number: u64) -> Vec<(Duration, Fault)> {
        if let Some(faults) = &self.faults {
            return faults.clone();
        }
        let mut seed = Seed::new(number).stream("faults");
        let mut faults = fault::draw(&mut seed, self.trouble, self.pause);
        if let Some(pause) = self.orders {
            let mut seed = Seed::new(number).stream("orders");
            faults.extend(fault::draw_orders(&mut seed, self.trouble, pause));
            faults.sort_by_key(|(time, _)| *time);
        }
        if let Some(pause) = self.fuses {
            let mut seed = Seed::new(number).stream("fuses");
            faults.extend(fault::draw_fuses(&mut seed, self.trouble, pause));
            faults.sort_by_key(|(time, _)| *time);
        }
        faults
    }
}
