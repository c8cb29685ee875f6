//! A framework in one of its roles: what is remembered of it beside its place in the tree.

use std::ops::{Index, IndexMut};
use std::time::Duration;

use dcos_core::resources::Quantities;
use dcos_core::time::Time;

use super::super::words::Hoarding;
use super::amounts::Amounts;

/// The seats, by leaf.
#[derive(Debug, Default)]
pub(super) struct Seats(Vec<Option<Seat>>);

impl Seats {
    pub(super) fn set(&mut self, leaf: usize, seat: Option<Seat>) {
        if self.0.len() <= leaf {
            self.0.resize_with(leaf + 1, || None);
        }
        self.0[leaf] = seat;
    }

    pub(super) fn get_mut(&mut self, leaf: usize) -> Option<&mut Seat> {
        self.0.get_mut(leaf)?.as_mut()
    }

    /// Leaves and their seats, by leaf.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Seat)> {
        let seats = self.0.iter_mut().enumerate();
        seats.filter_map(|(leaf, seat)| Some((leaf, seat.as_mut()?)))
    }
}

impl Index<usize> for Seats {
    type Output = Seat;

    fn index(&self, leaf: usize) -> &Seat {
        self.0[leaf].as_ref().expect("each leaf has a seat")
    }
}

impl IndexMut<usize> for Seats {
    fn index_mut(&mut self, leaf: usize) -> &mut Seat {
        self.get_mut(leaf).expect("each leaf has a seat")
    }
}

/// What is remembered of one leaf of the tree.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) framework: usize,
    /// The account of the top-level role.
    pub(super) account: usize,
    /// Changes when refusals are to be forgotten.
    pub(super) epoch: u64,
    /// On how many agents it holds something.
    pub(super) holdings: usize,
    /// The framework's own minimum worth an offer.
    pub(super) minimum: Option<Vec<Quantities>>,
    /// Whether the framework wants nothing of some agents.
    pub(super) is_choosy: bool,
    /// How much it holds in offers it has not answered.
    pub(super) unanswered: Amounts,
    /// Whether it was passed over because of them.
    pub(super) is_held_up: bool,
    use_of_late: Recent,
    closed_at: Option<Time>,
    pub(super) wish: Option<Wish>,
}

/// What a framework said it still wants to use.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) pieces: Vec<Amounts>,
    total: Amounts,
    /// What it used when it said so.
    used: Amounts,
    /// When others will have to make room for it.
    pub(super) due: Option<Time>,
}

/// The most of each resource in use in this span of time and in the one before it.
#[derive(Debug, Default)]
struct Recent {
    span: u64,
    now: Amounts,
    before: Amounts,
}

impl Recent {
    fn note(&mut self, now: Time, memory: Duration, used: &Amounts) {
        let span = span(now, memory);
        if span > self.span {
            let before = std::mem::take(&mut self.now);
            self.before = if span == self.span + 1 {
                before
            } else {
                Amounts::default()
            };
            self.span = span;
        }
        self.now.raise_to(used);
    }

    fn most(&self, now: Time, memory: Duration) -> Amounts {
        match span(now, memory).saturating_sub(self.span) {
            0 => {
                let mut most = self.now.clone();
                most.raise_to(&self.before);
                most
            }
            1 => self.now.clone(),
            _ => Amounts::default(),
        }
    }
}

/// The number of the span of time `now` is in; two of them make up the memory.
fn span(now: Time, memory: Duration) -> u64 {
    let half = u64::try_from(memory.as_nanos() / 2).unwrap_or(u64::MAX);
    now.as_nanos() / half.max(1)
}

impl Wish {
    pub(super) fn new(pieces: Vec<Amounts>, used: Amounts, due: Option<Time>) -> Self {
        let mut total = Amounts::default();
        for piece in &pieces {
            total.add(piece);
        }
        Self {
            pieces,
            total,
            used,
            due,
        }
    }

    /// What is still to come when `used` is in use.
    fn rest(&self, used: &Amounts) -> Amounts {
        self.total.beyond(&used.beyond(&self.used))
    }

    /// The first piece that is still to come.
    pub(super) fn next_piece(&self, used: &Amounts) -> Option<&Amounts> {
        let mut come = used.beyond(&self.used);
        self.pieces.iter().find(|piece| {
            let has_come = come.covers(piece);
            if has_come {
                come.remove(piece);
            }
            !has_come
        })
    }
}

impl Seat {
    pub(super) fn new(framework: usize, account: usize, epoch: u64) -> Self {
        Self {
            framework,
            account,
            epoch,
            holdings: 0,
            minimum: None,
            is_choosy: false,
            unanswered: Amounts::default(),
            is_held_up: false,
            use_of_late: Recent::default(),
            closed_at: None,
            wish: None,
        }
    }

    /// What is in use of what is `allocated`.
    pub(super) fn used(&self, allocated: &Amounts) -> Amounts {
        allocated.beyond(&self.unanswered)
    }

    /// Takes an offer off what is unanswered.
    pub(super) fn close(&mut self, now: Time, closed: &Amounts) {
        self.unanswered = self.unanswered.beyond(closed);
        self.closed_at = Some(now);
    }

    /// Remembers how much is in use. In the moment an offer is answered that is not known: what
    /// was declined of it is about to come back.
    pub(super) fn note_use(&mut self, now: Time, hoarding: Option<Hoarding>, allocated: &Amounts) {
        if let Some(hoarding) = hoarding.filter(|_| self.closed_at != Some(now)) {
            let used = self.used(allocated);
            self.use_of_late.note(now, hoarding.memory, &used);
        }
    }

    /// Whether it holds so much in unanswered offers that others come first.
    pub(super) fn is_hoarding(
        &self,
        now: Time,
        hoarding: Hoarding,
        allocated: &Amounts,
        totals: &Amounts,
    ) -> bool {
        if !self.unanswered.has_positive() {
            return false;
        }
        // Most hold less than everybody may, and need no closer look.
        let is_beyond_floor = |(number, amount): (usize, i64)| {
            amount > 0 && amount >= part(totals.get(number), hoarding.floor)
        };
        self.unanswered.iter().any(is_beyond_floor) && {
            let allowed = self.allowed(now, hoarding, allocated, totals);
            let is_beyond =
                |(number, amount): (usize, i64)| amount > 0 && amount >= allowed.get(number);
            self.unanswered.iter().any(is_beyond)
        }
    }

    /// How much it may hold in unanswered offers: what it used lately, what it wishes, and a part
    /// of the cluster.
    pub(super) fn allowed(
        &self,
        now: Time,
        hoarding: Hoarding,
        allocated: &Amounts,
        totals: &Amounts,
    ) -> Amounts {
        let used = self.used(allocated);
        let mut allowed = self.use_of_late.most(now, hoarding.memory);
        allowed.raise_to(&used);
        if let Some(wish) = &self.wish {
            allowed.add(&wish.rest(&used));
        }
        for (number, total) in totals.iter() {
            *allowed.slot(number) += part(total, hoarding.floor);
        }
        allowed
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a limit need not be exact, and casts saturate"
)]
fn part(total: i64, part: f64) -> i64 {
    (total as f64 * part) as i64
}
