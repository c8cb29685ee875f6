//! Answering offers: launching what suits, declining the rest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_proto::mesos::Offer;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::scheduler::Call;

use super::{Subscription, calls};
use crate::config::Config;
use crate::instance::{Instance, InstanceId};
use crate::matching::{Match, Site, Supply};
use crate::model::App;
use crate::queue::LaunchQueue;
use crate::task::Surroundings;
use crate::{PathId, Timestamp};

/// Who has something to launch.
pub trait Launcher {
    /// What waits to be launched.
    fn queue(&self) -> &LaunchQueue;

    /// The connection to the master.
    fn subscription(&self) -> &Subscription;

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
    let mut waiting = Waiting::new(launcher.queue(), now, config);
    for offer in offers {
        let offer = Arc::new(offer);
        let mut operations = launcher.release(now, &offer);
        let launched = waiting.fill(launcher, now, &offer, &mut operations);
        if operations.is_empty() {
            answered.declined += 1;
            declined.push(offer.id.clone());
            continue;
        }
        answered.used += 1;
        answered.launched += launched as u64;
        // What is left comes back at once while there is still something to launch.
        let refuse = if waiting.specs.is_empty() {
            refuse
        } else {
            0.0
        };
        let call = calls::accept(offer.id.clone(), operations, refuse);
        answered.calls.push(call);
    }
    if !declined.is_empty() {
        answered.calls.push(calls::decline(declined, refuse));
    }
    answered
}

/// What may be launched with the offers at hand.
struct Waiting<'a> {
    config: &'a Config,
    /// By turn, longest waiting first.
    specs: BTreeMap<usize, PathId>,
    /// The fewest cores and the least memory any of them needs.
    least: (f64, f64),
}

impl<'a> Waiting<'a> {
    fn new(queue: &LaunchQueue, now: Timestamp, config: &'a Config) -> Self {
        Self {
            config,
            specs: queue.due(now).into_iter().enumerate().collect(),
            least: queue.least(),
        }
    }

    /// Adds to `operations` what launches as many instances as the offer holds; returns their number.
    fn fill(
        &mut self,
        launcher: &mut impl Launcher,
        now: Timestamp,
        offer: &Arc<Offer>,
        operations: &mut Vec<Operation>,
    ) -> usize {
        let nanos = now.millis().saturating_mul(1_000_000);
        let home = launcher.subscription().home_region().cloned();
        let site = Site::of(offer, home, nanos, self.config);
        let mut supply = Supply::new(&offer.resources);
        let mut count = 0;
        let (mut again, mut over) = (VecDeque::new(), Vec::new());
        let mut fresh = self.specs.iter().map(|(turn, spec)| (*turn, spec.clone()));
        // All look at a fresh offer, so that each learns why it is of no use; at what others left of it, only while
        // somebody could use that.
        let (cpus, mem) = self.least;
        while count < self.config.max_instances_per_offer && (count == 0 || supply.holds(cpus, mem))
        {
            let Some((turn, spec)) = fresh.next().or_else(|| again.pop_front()) else {
                break;
            };
            let Some(launch) = launcher.launch(now, &spec, &site, &mut supply, offer) else {
                continue;
            };
            operations.extend(launch);
            count += 1;
            if launcher.queue().may_launch(now, &spec) {
                again.push_back((turn, spec));
            } else {
                over.push(turn);
            }
        }
        for turn in over {
            self.specs.remove(&turn);
        }
        count
    }
}
