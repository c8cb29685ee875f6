//! [`electorate`]: the masters as their clients know them, the leading one and all that stand.

use std::sync::Arc;

use bytes::Bytes;

use dcos_proto::{
    json::{self, Dialect},
    mesos::MasterInfo,
};
use tokio::sync::watch;

use crate::{Ensemble, election::tell};

/// The leading master, now and from now on; `None` while nobody leads.
pub type LeadingMaster = watch::Receiver<Option<Arc<MasterInfo>>>;

/// All masters that stand for election, the leading one first, now and from now on.
pub type StandingMasters = watch::Receiver<Arc<Vec<MasterInfo>>>;

/// The leading master of the cluster whose masters elect their leader in `ensemble`, now and from now on.
///
/// It ends with the receivers. While the ensemble is out of reach the last known master stays: it is the leader's own
/// duty to stop in time. Must be called within a tokio runtime.
pub fn masters(ensemble: &Ensemble) -> LeadingMaster {
    electorate(ensemble).0
}

/// The same, and all that stand, who are known as long. One session with the ensemble serves both.
pub fn electorate(ensemble: &Ensemble) -> (LeadingMaster, StandingMasters) {
    let election = ensemble.election("master");
    let (mut leaders, mut candidates) = (election.observe(), election.candidates());
    let (master, masters) = watch::channel(None);
    let (standing, all) = watch::channel(Arc::default());
    let name = ensemble.to_string();
    tokio::spawn(async move {
        // The observer ends with the election.
        let _election = election;
        loop {
            let leader = leaders.borrow_and_update().clone();
            let found = leader.and_then(|leader| info(&name, &leader.candidate));
            tell(&master, found.map(Arc::new));
            let found = candidates.borrow_and_update().clone();
            let found = found.iter().filter_map(|candidate| info(&name, candidate));
            tell(&standing, Arc::new(found.collect()));
            let unheard = async { tokio::join!(master.closed(), standing.closed()) };
            tokio::select! {
                changed = leaders.changed() => if changed.is_err() { return },
                changed = candidates.changed() => if changed.is_err() { return },
                _ = unheard => return,
            }
        }
    });
    (masters, all)
}

/// What a candidate said of itself.
fn info(ensemble: &str, candidate: &Bytes) -> Option<MasterInfo> {
    match json::from_slice(candidate, Dialect::V0) {
        Ok(info) => Some(info),
        Err(error) => {
            tracing::warn!(ensemble, %error, "a candidate is no Mesos master");
            None
        }
    }
}
