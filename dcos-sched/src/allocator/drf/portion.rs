//! What one framework may have of one agent.

use std::borrow::Cow;

use dcos_core::resources::{ResourceExt, Resources, Scalar, shrink};
use dcos_core::time::Time;

use super::super::rules;
use super::super::words::{Config, FrameworkSpec};
use super::Framework;
use super::agent::Agent;
use super::amounts::{Amounts, Names, is_open};
use super::quotas::{Cut, Quotas, Room};
use super::seat::{Seat, Seats};
use super::slab::Slab;
use super::tree::Tree;

/// Which of the two passes over the agents it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Roles get what brings them closer to their guarantees.
    Promised,
    /// Everybody gets what is left, within limits and but for the headroom.
    Fair,
}

/// All that is looked at to judge.
pub(super) struct Judge<'a> {
    pub(super) config: &'a Config,
    pub(super) now: Time,
    pub(super) round: u64,
    pub(super) names: &'a Names,
    pub(super) tree: &'a Tree,
    pub(super) frameworks: &'a Slab<Framework>,
    pub(super) seats: &'a Seats,
    pub(super) quotas: &'a Quotas,
    /// Whether more than one framework wants offers.
    pub(super) is_contended: bool,
}

/// What may be granted.
#[derive(Debug)]
pub(super) enum Portion {
    /// All that is kept for nobody, and nothing else.
    AllOpen,
    Part(Part),
}

/// Some resources of an agent.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) resources: Resources,
    /// The scalars in it that quotas speak of.
    pub(super) open: Amounts,
}

/// Why nothing may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum No {
    /// Agent and framework do not fit.
    Barred,
    /// The framework does not want the agent.
    Constrained,
    /// The framework holds too much in unanswered offers.
    HeldUp,
    /// Nothing there is for this role, or the framework cannot deal with it.
    Nothing,
    /// What there is is not worth an offer.
    TooLittle,
    /// What quotas leave of it is not.
    Cut,
    /// The framework refused it until then.
    Refused(Time),
}

impl Judge<'_> {
    /// What an active leaf may have, or why it may have nothing; and what quotas took away.
    pub(super) fn portion(
        &self,
        agent: &Agent,
        leaf: usize,
        stage: Stage,
    ) -> (Cut, Result<Portion, No>) {
        let seat = &self.seats[leaf];
        let spec = &self.frameworks[seat.framework].spec;
        let role = &**self.tree.role(leaf);
        if let Some(no) = self.excluded(agent, seat, spec, role) {
            return (Cut::default(), Err(no));
        }
        // What is promised to a role is not held up by offers it has not answered.
        if stage == Stage::Fair && self.is_held_up(leaf) {
            return (Cut::default(), Err(No::HeldUp));
        }
        let open = agent.pool.scalars();
        let room = match stage {
            Stage::Promised => match self.quotas.promised(seat.account, open) {
                Some(room) => Some(room),
                None => return (Cut::default(), Err(No::Nothing)),
            },
            Stage::Fair if self.is_bounded(seat) => Some(self.quotas.room(seat.account, open)),
            Stage::Fair => None,
        };
        let cut = room.as_ref().map_or(Cut::default(), |room| room.cut);
        let room = room.filter(|room| room.cut != Cut::default());
        let portion = if agent.pool.is_plain_for(role) {
            self.plain(agent, leaf, seat, room.as_ref())
        } else {
            self.mixed(agent, leaf, seat, spec, role, room.as_ref())
        };
        (cut, portion)
    }

    fn is_bounded(&self, seat: &Seat) -> bool {
        self.quotas.are_bounded()
            && (self.quotas.keep_free() || self.quotas.get(seat.account).is_limited())
    }

    /// What rules out this agent, whatever is left there.
    fn excluded(&self, agent: &Agent, seat: &Seat, spec: &FrameworkSpec, role: &str) -> Option<No> {
        if rules::barred(self.config, agent.traits, spec.capabilities, role).is_some() {
            return Some(No::Barred);
        }
        if seat.is_choosy && spec.constraints.exclude(role, &agent.spec) {
            return Some(No::Constrained);
        }
        None
    }

    /// Whether a leaf has to answer offers before it gets more.
    pub(super) fn is_held_up(&self, leaf: usize) -> bool {
        let Some(hoarding) = self.config.hoarding.filter(|_| self.is_contended) else {
            return false;
        };
        let (allocated, totals) = (self.tree.allocated(leaf), self.tree.totals());
        self.seats[leaf].is_hoarding(self.now, hoarding, allocated, totals)
    }

    /// A portion of what is kept for nobody and not revocable: decided by numbers, as far as
    /// possible.
    fn plain(
        &self,
        agent: &Agent,
        leaf: usize,
        seat: &Seat,
        room: Option<&Room>,
    ) -> Result<Portion, No> {
        let pool = &agent.pool;
        if pool.open().is_empty() {
            return Err(No::Nothing);
        }
        if let Some(until) = agent.hidden_until(self.now, leaf, seat.epoch, pool.open()) {
            return Err(No::Refused(until));
        }
        if seat.minimum.is_none() {
            let mut counts = Cow::Borrowed(pool.counts());
            if let Some(room) = room {
                let counts = counts.to_mut();
                counts.remove(pool.scalars());
                counts.add(&room.amounts);
            }
            if !self.quotas.are_worth_it(&counts) {
                return Err(if room.is_some() {
                    No::Cut
                } else {
                    No::TooLittle
                });
            }
        }
        let is_worth_it = |resources: &Resources| {
            let minimum = seat.minimum.as_ref();
            minimum.is_none_or(|minimum| rules::is_worth_it(resources, minimum))
        };
        let Some(room) = room else {
            let is_enough = is_worth_it(pool.open());
            return is_enough.then_some(Portion::AllOpen).ok_or(No::TooLittle);
        };
        let part = self.cut(pool.open(), &room.amounts);
        if is_worth_it(&part.resources) {
            self.fresh(agent, leaf, part)
        } else {
            Err(No::Cut)
        }
    }

    /// A portion that holds reserved or revocable resources.
    fn mixed(
        &self,
        agent: &Agent,
        leaf: usize,
        seat: &Seat,
        spec: &FrameworkSpec,
        role: &str,
        room: Option<&Room>,
    ) -> Result<Portion, No> {
        let was_shared = agent.shared_in == self.round;
        let suitable = agent.pool.suitable(role).filter(|resource| {
            rules::is_understood(resource, spec.capabilities)
                && !(was_shared && resource.is_shared())
        });
        if suitable.is_empty() {
            return Err(No::Nothing);
        }
        let part = match room {
            None => Part {
                open: agent.pool.scalars().clone(),
                resources: suitable,
            },
            Some(room) => self.cut(&suitable, &room.amounts),
        };
        let minimum = seat.minimum.as_ref().unwrap_or(&self.config.minimum);
        if !rules::is_worth_it(&part.resources, minimum) {
            return Err(if room.is_some() {
                No::Cut
            } else {
                No::TooLittle
            });
        }
        self.fresh(agent, leaf, part)
    }

    /// The part, unless it was refused before.
    fn fresh(&self, agent: &Agent, leaf: usize, part: Part) -> Result<Portion, No> {
        let epoch = self.seats[leaf].epoch;
        match agent.hidden_until(self.now, leaf, epoch, &part.resources) {
            Some(until) => Err(No::Refused(until)),
            None => Ok(Portion::Part(part)),
        }
    }

    /// Cuts the unreserved, non-revocable scalars of `resources` down to `room`. Disks that cannot
    /// be divided are left out if they are too large.
    fn cut(&self, resources: &Resources, room: &Amounts) -> Part {
        let mut part =
            resources.filter(|resource| !is_open(resource) || resource.scalar_value().is_none());
        let mut left = room.clone();
        let mut open = Amounts::default();
        for resource in resources.iter().filter(|resource| is_open(resource)) {
            let (Some(amount), Some(number)) =
                (resource.scalar_value(), self.names.known(&resource.name))
            else {
                continue;
            };
            let target = amount.as_millis().min(left.get(number));
            let mut piece = resource.clone();
            if target <= 0 || !shrink(&mut piece, Scalar::from_millis(target)) {
                continue;
            }
            *left.slot(number) -= target;
            *open.slot(number) += target;
            part.add_message(&piece);
        }
        Part {
            resources: part,
            open,
        }
    }
}
