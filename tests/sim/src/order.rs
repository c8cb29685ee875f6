//! What an operator wants of the cluster, as data: orders are drawn and left out like faults.

use std::time::Duration;

use dcos_core::seed::Seed;

/// An order. Whom it concerns is drawn as a number, and counted off when it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A role gets a guarantee and a limit, in hundredths of what all nodes have.
    Quota {
        /// Which.
        role: u64,
        /// What it is guaranteed.
        guarantee: u64,
        /// What it may have at most.
        limit: u64,
        /// Whether it holds though the role has more already.
        force: bool,
    },
    /// A role has neither guarantee nor limit.
    NoQuota {
        /// Which.
        role: u64,
    },
    /// A role is due more or less of the cluster.
    Weight {
        /// Which.
        role: u64,
        /// How much more than others.
        weight: u64,
    },
    /// Something of a node is kept for a role.
    Reserve {
        /// Whose.
        who: u64,
        /// For which.
        role: u64,
    },
    /// What is kept on a node is kept no more.
    Unreserve {
        /// Whose.
        who: u64,
    },
    /// A volume is made of what is kept on a node.
    Create {
        /// Whose.
        who: u64,
    },
    /// A node's volumes go.
    Destroy {
        /// Whose.
        who: u64,
    },
    /// An agent is emptied.
    Drain {
        /// Who.
        who: u64,
        /// Whether it is gone afterwards.
        gone: bool,
    },
    /// An agent is offered no more.
    Deactivate {
        /// Who.
        who: u64,
    },
    /// An agent is offered again.
    Reactivate {
        /// Who.
        who: u64,
    },
    /// An agent never comes back.
    Gone {
        /// Who.
        who: u64,
    },
    /// Machines are to be maintained.
    Schedule {
        /// The first of them.
        who: u64,
        /// How many.
        count: u64,
    },
    /// What is to be maintained is.
    Down,
    /// What is maintained is done.
    Up,
    /// A node gets more of everything, and its agent starts again.
    Grow {
        /// Which.
        who: u64,
        /// How long it is away.
        pause: Duration,
    },
    /// A node's agent starts again with nothing of what it knew.
    Wipe {
        /// Which.
        who: u64,
        /// How long it is away.
        pause: Duration,
    },
}

impl Order {
    pub(crate) fn draw(seed: &mut Seed) -> Self {
        let (who, role) = (seed.next_u64(), seed.next_u64());
        let pause = Duration::from_millis(seed.range(200..15_000));
        match seed.range(0..36) {
            0..6 => Self::Quota {
                role,
                guarantee: seed.range(0..40),
                limit: 10 + seed.range(0..80),
                force: seed.chance(0.5),
            },
            6..8 => Self::NoQuota { role },
            8..10 => Self::Weight {
                role,
                weight: 1 + seed.range(0..5),
            },
            10..14 => Self::Reserve { who, role },
            14..16 => Self::Unreserve { who },
            16..19 => Self::Create { who },
            19..20 => Self::Destroy { who },
            20..24 => Self::Drain {
                who,
                gone: seed.chance(0.2),
            },
            24..26 => Self::Deactivate { who },
            26..29 => Self::Reactivate { who },
            29..30 => Self::Gone { who },
            30..32 => Self::Schedule {
                who,
                count: 1 + seed.range(0..3),
            },
            32..33 => Self::Down,
            33..34 => Self::Up,
            34..35 => Self::Grow { who, pause },
            _ => Self::Wipe { who, pause },
        }
    }
}
