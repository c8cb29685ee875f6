//! [`masters`]: the leading master as its clients know it.

use std::sync::Arc;

use dcos_proto::{
    json::{self, Dialect},
    mesos::MasterInfo,
};
use tokio::sync::watch;

use crate::{Ensemble, Leader};

/// The leading master, now and from now on; `None` while nobody leads.
pub type LeadingMaster = watch::Receiver<Option<Arc<MasterInfo>>>;

/// The leading master of the cluster whose masters elect their leader in `ensemble`, now and from now on.
///
/// It ends with the receivers. While the ensemble is out of reach the last known master stays: it is the leader's own
/// duty to stop in time. Must be called within a tokio runtime.
pub fn masters(ensemble: &Ensemble) -> LeadingMaster {
    let election = ensemble.election("master");
    let mut leaders = election.observe();
    let (master, masters) = watch::channel(None);
    let name = ensemble.to_string();
    tokio::spawn(async move {
        // The observer ends with the election.
        let _election = election;
        loop {
            let leader = leaders.borrow_and_update().clone();
            let found = leader.as_ref().and_then(|leader| info(&name, leader));
            let found = found.map(Arc::new);
            master.send_if_modified(|known| {
                let news = *known != found;
                *known = found;
                news
            });
            tokio::select! {
                changed = leaders.changed() => if changed.is_err() { return },
                () = master.closed() => return,
            }
        }
    });
    masters
}

/// What the leader said of itself.
fn info(ensemble: &str, leader: &Leader) -> Option<MasterInfo> {
    match json::from_slice(&leader.candidate, Dialect::V0) {
        Ok(info) => Some(info),
        Err(error) => {
            tracing::warn!(ensemble, term = %leader.term, %error, "the leader is no Mesos master");
            None
        }
    }
}
