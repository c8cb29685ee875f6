//! What became of the offers an app looked at.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use dcos_proto::mesos::Offer;

use crate::Timestamp;
use crate::matching::{Reason, Reasons};

/// How many of the refused offers are kept to be shown.
const KEPT: usize = 20;

/// Counts over all offers, and the last refusal of each agent.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Offers looked at.
    pub processed: u64,
    /// Offers of no use.
    pub unused: u64,
    /// When an offer was last of no use.
    pub last_unused: Option<Timestamp>,
    /// When an offer was last used.
    pub last_used: Option<Timestamp>,
    attempt: BTreeMap<Reason, u64>,
    attempted: u64,
    /// Of an agent each, oldest first.
    last: VecDeque<Refusal>,
}

/// An offer of no use, and why.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The offer.
    pub offer: Arc<Offer>,
    /// Why.
    pub reasons: Reasons,
    /// When.
    pub at: Timestamp,
    /// Tells most agents apart without looking at the offer.
    agent: u64,
}

impl Summary {
    pub(super) fn used(&mut self, now: Timestamp) {
        self.processed += 1;
        self.last_used = Some(now);
    }

    pub(super) fn refused(&mut self, now: Timestamp, offer: &Arc<Offer>, reasons: Reasons) {
        self.processed += 1;
        self.unused += 1;
        self.last_unused = Some(now);
        self.attempted += 1;
        if let Some(reason) = reasons.first() {
            *self.attempt.entry(reason).or_default() += 1;
        }
        self.remember(now, offer, reasons);
    }

    /// The same for what came of `offers`.
    pub(super) fn tried(&mut self, now: Timestamp, tried: &Tried, offers: &[Arc<Offer>]) {
        for (reason, stopped) in Reason::ALL.into_iter().zip(tried.stopped) {
            if stopped > 0 {
                *self.attempt.entry(reason).or_default() += stopped;
            }
        }
        self.processed += tried.count;
        self.unused += tried.count;
        self.attempted += tried.count;
        self.last_unused = Some(now);
        for (offer, reasons) in &tried.last {
            self.remember(now, &offers[*offer], *reasons);
        }
    }

    fn remember(&mut self, now: Timestamp, offer: &Arc<Offer>, reasons: Reasons) {
        let mut agent = DefaultHasher::new();
        offer.agent_id.value.hash(&mut agent);
        let refusal = Refusal {
            offer: Arc::clone(offer),
            reasons,
            at: now,
            agent: agent.finish(),
        };
        let same = |known: &Refusal| {
            known.agent == refusal.agent && known.offer.agent_id == offer.agent_id
        };
        if let Some(before) = self.last.iter().position(same) {
            self.last.remove(before);
        }
        self.last.push_back(refusal);
        if self.last.len() > KEPT {
            self.last.pop_front();
        }
    }

    /// The last refusal of each agent, oldest first.
    pub fn last_refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.last.iter()
    }

    /// For each reason how many offers got that far and how many it stopped, over the whole attempt.
    pub fn attempt(&self) -> Vec<(Reason, u64, u64)> {
        funnel(self.attempted, |reason| {
            self.attempt.get(&reason).copied().unwrap_or_default()
        })
    }

    /// The same over the last offer of each agent.
    pub fn last_offers(&self) -> Vec<(Reason, u64, u64)> {
        let first = |reason| {
            let stopped = self
                .last
                .iter()
                .filter(|r| r.reasons.first() == Some(reason));
            stopped.count() as u64
        };
        funnel(self.last.len() as u64, first)
    }
}

/// What came of offers that were looked at together, to be noted in one go: thousands of services may look at each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried {
    count: u64,
    /// In the order of [`Reason::ALL`].
    stopped: [u64; Reason::ALL.len()],
    /// The last refusals, by the place of their offers.
    last: VecDeque<(usize, Reasons)>,
}

impl Tried {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Notes why the offer at a place was of no use. Of an agent the last one counts: `same` tells whether the offer at
    /// another place is of the same agent.
    pub(crate) fn refused(&mut self, offer: usize, reasons: Reasons, same: impl Fn(usize) -> bool) {
        self.count += 1;
        if let Some(reason) = reasons.first() {
            self.stopped[reason as usize] += 1;
        }
        self.last.retain(|(known, _)| !same(*known));
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((offer, reasons));
    }

    /// Notes that a constraint made `count` more offers of no use, `latest` of them first. `agent` tells the agent of an offer.
    pub(crate) fn blocked(
        &mut self,
        count: u64,
        latest: impl Iterator<Item = (usize, Reasons)>,
        agent: impl Fn(usize) -> usize,
    ) {
        self.count += count;
        self.stopped[Reason::UnfulfilledConstraint as usize] += count;
        let mut noted = std::mem::take(&mut self.last);
        let mut latest = latest.peekable();
        while self.last.len() < KEPT {
            let later = match (noted.back(), latest.peek()) {
                (Some(one), Some(other)) if one.0 > other.0 => noted.pop_back(),
                (Some(_), None) => noted.pop_back(),
                _ => latest.next(),
            };
            let Some((offer, reasons)) = later else {
                break;
            };
            let is_known = |(known, _): &(usize, Reasons)| agent(*known) == agent(offer);
            if !self.last.iter().any(is_known) {
                self.last.push_front((offer, reasons));
            }
        }
    }
}

/// Reason, stopped by it, got that far.
fn funnel(total: u64, stopped: impl Fn(Reason) -> u64) -> Vec<(Reason, u64, u64)> {
    let mut left = total;
    Reason::ALL
        .into_iter()
        .map(|reason| {
            let (got_here, stops) = (left, stopped(reason));
            left = left.saturating_sub(stops);
            (reason, stops, got_here)
        })
        .collect()
}
