//! Answering offers: launching what suits, declining the rest.

mod blocked;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_proto::mesos::Offer;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::scheduler::Call;

use super::{Subscription, calls};
use crate::config::Config;
use crate::instance::{Instance, InstanceId};
use crate::matching::{Match, Needs, Placed, Reason, Site, Supply, refusal};
use crate::model::App;
use crate::queue::{Entry, LaunchQueue, Tried};
use crate::task::Surroundings;
use crate::{PathId, Timestamp};
use blocked::{Bits, Blocked};

/// Who has something to launch.
pub trait Launcher {
    /// What waits to be launched.
    fn queue(&self) -> &LaunchQueue;

    /// The same, to note in it what became of offers.
    fn queue_mut(&mut self) -> &mut LaunchQueue;

    /// The connection to the master.
    fn subscription(&self) -> &Subscription;

    /// Where the instances of `spec` are that its constraints count, if [`Launcher::launch`] does what
    /// [`matches`](crate::matching::matches) says of it with these: most offers are then turned down without asking.
    fn placed(&mut self, _spec: &Arc<App>) -> Option<&Placed> {
        None
    }

    /// Launches one instance of `spec` with what is left of an offer, and takes that out of `supply`;
    /// `None` if the offer does not suit.
    fn launch(
        &mut self,
        now: Timestamp,
        spec: &PathId,
        site: &Site,
        supply: &mut Supply,
        offer: &Arc<Offer>,
    ) -> Option<Vec<Operation>>;

    /// What is to be done with an offer beside launching: giving back what is not needed any more.
    fn release(&mut self, _now: Timestamp, _offer: &Offer) -> Vec<Operation> {
        Vec::new()
    }
}

/// A new instance of `spec` that runs with what was `found` for it, and what launches it.
pub fn begin(
    now: Timestamp,
    spec: &App,
    site: &Site,
    found: Match,
    surroundings: &Surroundings,
    seed: &mut Seed,
) -> (Instance, Operation) {
    let id = InstanceId::new(&spec.id, &seed.uuid());
    let instance = Instance::launched(id, spec, site.agent.clone(), found.ports, now);
    let launch = calls::launch_instance(spec, &instance, found.resources, surroundings);
    (instance, launch)
}

/// The answer to some offers.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// For the master.
    pub calls: Vec<Call>,
    /// Offers something was launched with.
    pub used: u64,
    /// Offers nothing was launched with.
    pub declined: u64,
    /// Tasks launched.
    pub launched: u64,
}

/// Answers each offer: as many instances as it holds, in turn one of each spec that waits.
pub fn answer(
    launcher: &mut impl Launcher,
    now: Timestamp,
    offers: Vec<Offer>,
    config: &Config,
) -> Answered {
    let mut answered = Answered::default();
    let mut declined = Vec::new();
    let refuse = config.decline_offer_duration.as_secs_f64();
    let offers = offers.into_iter().map(Arc::new).collect();
    let home = launcher.subscription().home_region();
    let mut waiting = Waiting::new(launcher.queue(), home, now, config, offers);
    for at in 0..waiting.offers.len() {
        let offer = Arc::clone(&waiting.offers[at]);
        let mut operations = launcher.release(now, &offer);
        let launched = waiting.fill(launcher, now, at, &mut operations);
        if operations.is_empty() {
            answered.declined += 1;
            declined.push(offer.id.clone());
            continue;
        }
        answered.used += 1;
        answered.launched += launched as u64;
        // What is left comes back at once while there is still something to launch.
        let refuse = if waiting.open.is_empty() { refuse } else { 0.0 };
        let call = calls::accept(offer.id.clone(), operations, refuse);
        answered.calls.push(call);
    }
    waiting.tell(launcher.queue_mut(), now);
    if !declined.is_empty() {
        answered.calls.push(calls::decline(declined, refuse));
    }
    answered
}

/// What may be launched with the offers at hand.
struct Waiting<'a> {
    config: &'a Config,
    offers: Vec<Arc<Offer>>,
    /// Of each offer.
    sites: Vec<Site>,
    /// The first offer of the same agent as each.
    agents: Vec<usize>,
    /// Longest waiting first.
    turns: Vec<Turn>,
    /// Those of `turns` that may launch.
    open: Bits,
    blocked: Blocked,
    /// The fewest cores and the least memory any of them needs.
    least: (f64, f64),
}

/// A spec that waits.
struct Turn {
    spec: Arc<App>,
    needs: Needs,
    tried: Tried,
}

impl<'a> Waiting<'a> {
    fn new(
        queue: &LaunchQueue,
        home: Option<&String>,
        now: Timestamp,
        config: &'a Config,
        offers: Vec<Arc<Offer>>,
    ) -> Self {
        let nanos = now.millis().saturating_mul(1_000_000);
        let site = |offer: &Arc<Offer>| Site::of(offer, home.cloned(), nanos, config);
        let sites: Vec<Site> = offers.iter().map(site).collect();
        let mut first = HashMap::new();
        let agent = |(at, offer): (usize, &Arc<Offer>)| {
            *first.entry(offer.agent_id.value.clone()).or_insert(at)
        };
        let agents = offers.iter().enumerate().map(agent).collect();
        let turn = |entry: &Entry| Turn {
            spec: Arc::clone(&entry.spec),
            needs: *entry.needs(),
            tried: Tried::default(),
        };
        let turns: Vec<Turn> = queue.due(now).into_iter().map(turn).collect();
        Self {
            config,
            offers,
            agents,
            open: Bits::below(turns.len()),
            blocked: Blocked::new(&turns, &sites),
            sites,
            turns,
            least: queue.least(),
        }
    }

    /// Adds to `operations` what launches as many instances as the offer at a place holds; returns their number.
    fn fill(
        &mut self,
        launcher: &mut impl Launcher,
        now: Timestamp,
        at: usize,
        operations: &mut Vec<Operation>,
    ) -> usize {
        let Self {
            offers,
            agents,
            sites,
            blocked,
            ..
        } = self;
        let (offer, site) = (&offers[at], &sites[at]);
        let same = |other: usize| agents[other] == agents[at];
        let mut supply = Supply::new(&offer.resources);
        let mut stock = supply.stock(&site.role);
        let mut count = 0;
        let (mut again, mut over) = (VecDeque::new(), BTreeSet::new());
        let mut skipped = blocked.by(at, &self.open, stock);
        let open = self.open.without(skipped.turns());
        let mut fresh = open.iter();
        loop {
            let first = fresh.next();
            let Some(next) = first.or_else(|| again.pop_front()) else {
                break;
            };
            let turn = &mut self.turns[next];
            if let Some(placed) = launcher.placed(&turn.spec) {
                let reasons = refusal(&turn.spec, &turn.needs, site, &supply, &stock, placed);
                if !reasons.is_empty() {
                    turn.tried.refused(at, reasons, same);
                    if reasons.contains(Reason::UnfulfilledConstraint) {
                        blocked.refused(next, turn, at, site, placed);
                    }
                    continue;
                }
            }
            let id = &turn.spec.id;
            let Some(launch) = launcher.launch(now, id, site, &mut supply, offer) else {
                continue;
            };
            operations.extend(launch);
            count += 1;
            blocked.forget(next);
            if launcher.queue().may_launch(now, id) {
                again.push_back(next);
            } else {
                over.insert(next);
            }
            // All look at a fresh offer, so that each learns why it is of no use; at what others left of it, only while
            // somebody could use that.
            let (cpus, mem) = self.least;
            if count == self.config.max_instances_per_offer || !supply.holds(cpus, mem) {
                if first.is_some() {
                    skipped.end(next);
                }
                break;
            }
            stock = supply.stock(&site.role);
            if first.is_some() {
                skipped.left(next, stock);
            }
        }
        blocked.note(skipped);
        for turn in over {
            self.open.remove(turn);
        }
        count
    }

    /// Notes in the queue what came of the offers.
    fn tell(mut self, queue: &mut LaunchQueue, now: Timestamp) {
        for (at, count) in self.blocked.counts().into_iter().enumerate() {
            let mut tried = std::mem::take(&mut self.turns[at].tried);
            let turn = &self.turns[at];
            if count > 0 {
                let latest = self.blocked.latest(at, turn, &self.sites);
                tried.blocked(count, latest, |offer| self.agents[offer]);
            }
            queue.tried(now, &turn.spec.id, &tried, &self.offers);
        }
    }
}

#[cfg(test)]
mod tests;
