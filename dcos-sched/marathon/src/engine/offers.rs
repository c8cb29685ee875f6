//! Answering offers: launching what suits, declining the rest.

use std::sync::Arc;

use dcos_proto::mesos::Offer;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::scheduler::Call;

use super::calls;
use crate::config::Config;
use crate::matching::{Site, Supply};
use crate::{PathId, Timestamp};

/// Who has something to launch.
pub trait Launcher {
    /// What waits and may be launched now, longest first.
    fn due(&self, now: Timestamp) -> Vec<PathId>;

    /// Whether something of `spec` still waits.
    fn waits(&self, spec: &PathId) -> bool;

    /// The region the master is in.
    fn home_region(&self) -> Option<String>;

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
    fn release(&mut self, _offer: &Offer) -> Vec<Operation> {
        Vec::new()
    }
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
    for offer in offers {
        let offer = Arc::new(offer);
        let mut operations = launcher.release(&offer);
        let launched = fill(
            launcher,
            now,
            &offer,
            config.max_instances_per_offer,
            &mut operations,
        );
        if operations.is_empty() {
            answered.declined += 1;
            declined.push(offer.id.clone());
            continue;
        }
        answered.used += 1;
        answered.launched += launched as u64;
        // What is left comes back at once while there is still something to launch.
        let more = !launcher.due(now).is_empty();
        let refuse = if more { 0.0 } else { refuse };
        let call = calls::accept(offer.id.clone(), operations, refuse);
        answered.calls.push(call);
    }
    if !declined.is_empty() {
        answered.calls.push(calls::decline(declined, refuse));
    }
    answered
}

/// Adds to `operations` what launches as many instances as the offer holds; returns their number.
fn fill(
    launcher: &mut impl Launcher,
    now: Timestamp,
    offer: &Arc<Offer>,
    most: usize,
    operations: &mut Vec<Operation>,
) -> usize {
    let nanos = now.millis().saturating_mul(1_000_000);
    let site = Site::of(offer, launcher.home_region(), nanos);
    let mut supply = Supply::new(&offer.resources);
    let mut count = 0;
    let mut waiting = launcher.due(now);
    while !waiting.is_empty() && count < most {
        waiting.retain(|spec| {
            if count >= most {
                return false;
            }
            let Some(launch) = launcher.launch(now, spec, &site, &mut supply, offer) else {
                return false;
            };
            operations.extend(launch);
            count += 1;
            launcher.waits(spec)
        });
    }
    count
}
