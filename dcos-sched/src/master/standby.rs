//! Waiting for the office: what a master does while another one leads.
//!
//! Its server answers from the beginning (see `http/standby.rs`), and messages are dropped, as in the original:
//! who sends them finds the leader by itself. Source: Mesos 1.11 `Master::contended`, `Master::detected`.
//! Departure: a master whose leadership may be over ends with [`RunError::Deposed`] where the original aborts.

use std::sync::Arc;

use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::MasterInfo;
use dcos_store::{Election, Leader, Leadership};
use dcos_wire::libprocess::Actor;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Input, RunError};

/// What a master may do.
#[derive(Debug, Clone, PartialEq)]
pub enum Stance {
    /// Another one leads, if any is known.
    Standby(Option<Arc<MasterInfo>>),
    /// It was elected, and reads what the last leader left.
    Recovering,
    /// It leads.
    Leading,
}

/// Waits until this master is elected; `None` if it is stopped before.
pub(super) async fn campaign(
    election: &dyn Election,
    info: &MasterInfo,
    actor: &mut Actor<Input>,
    stance: &watch::Sender<Stance>,
    stop: &CancellationToken,
) -> Result<Option<Leadership>, RunError> {
    let mut leaders = election.observe();
    let mut campaign = election.campaign(json::to_vec(info, Dialect::V0).into());
    loop {
        let leader = leaders.borrow_and_update().as_ref().and_then(announced);
        if let Some(leader) = &leader {
            tracing::info!(pid = leader.pid, "another master leads");
            let (theirs, own) = (region(leader), region(info));
            if let (Some(theirs), Some(own)) = (theirs, own)
                && theirs != own
            {
                let (theirs, own) = (theirs.to_owned(), own.to_owned());
                return Err(RunError::Region { theirs, own });
            }
        }
        stance.send_replace(Stance::Standby(leader));
        let mut observed = true;
        while observed {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(None),
                leadership = &mut campaign => {
                    let leadership = leadership?;
                    tracing::info!(term = %leadership.term(), id = info.id, "elected as the leading master");
                    return Ok(Some(leadership));
                }
                changed = leaders.changed() => observed = changed.is_err(),
                _ = actor.recv() => {}
            }
        }
    }
}

/// The region of a master's fault domain, if it names one.
fn region(info: &MasterInfo) -> Option<&str> {
    let domain = info.domain.as_ref()?.fault_domain.as_ref()?;
    Some(&domain.region.name)
}

/// The master a leader said it is.
fn announced(leader: &Leader) -> Option<Arc<MasterInfo>> {
    match json::from_slice::<MasterInfo>(&leader.candidate, Dialect::V0) {
        Ok(info) => Some(Arc::new(info)),
        Err(error) => {
            tracing::warn!(term = %leader.term, %error, "the leader is no Mesos master");
            None
        }
    }
}
