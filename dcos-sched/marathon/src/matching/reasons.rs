//! Why an offer does not suit.

/// Why an offer does not suit an app, in the order in which it is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The resources are for another role.
    UnfulfilledRole,
    /// A constraint does not hold.
    UnfulfilledConstraint,
    /// A reservation is needed that is not here.
    NoCorrespondingReservationFound,
    /// The agent is, or soon will be, under maintenance.
    AgentMaintenance,
    /// Too few cores.
    InsufficientCpus,
    /// Too little memory.
    InsufficientMemory,
    /// Too little disk.
    InsufficientDisk,
    /// Too few GPUs.
    InsufficientGpus,
    /// The ports are not there.
    InsufficientPorts,
    /// The agent's GPUs are kept for those who need them.
    DeclinedScarceResources,
}

impl Reason {
    /// All reasons, in the order in which they are found out.
    pub const ALL: [Self; 10] = [
        Self::UnfulfilledRole,
        Self::UnfulfilledConstraint,
        Self::NoCorrespondingReservationFound,
        Self::AgentMaintenance,
        Self::InsufficientCpus,
        Self::InsufficientMemory,
        Self::InsufficientDisk,
        Self::InsufficientGpus,
        Self::InsufficientPorts,
        Self::DeclinedScarceResources,
    ];

    /// The name in documents.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// A set of reasons, in the order in which they are found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasons(u16);

impl Reasons {
    /// Adds a reason.
    pub fn insert(&mut self, reason: Reason) {
        self.0 |= reason.bit();
    }

    /// Whether a reason is among them.
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one found out first.
    pub fn first(self) -> Option<Reason> {
        self.iter().next()
    }

    /// All, in order.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        let all = Reason::ALL.into_iter();
        all.filter(move |reason| self.0 & reason.bit() != 0)
    }
}

impl Reason {
    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl From<Reason> for Reasons {
    fn from(reason: Reason) -> Self {
        Self(reason.bit())
    }
}

impl FromIterator<Reason> for Reasons {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        let mut all = Self::default();
        reasons.into_iter().for_each(|reason| all.insert(reason));
        all
    }
}
