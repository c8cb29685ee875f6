//! Frameworks that were torn down or gave up: what is kept of them so that nothing of theirs runs on.
//!
//! An agent that is away while a framework ends comes back with its tasks. This master knows the framework among the
//! completed ones; the next master would not, and would take the agent's word for a framework it has yet to hear of.
//! So an ending is in the registry before anybody is told of it. Departure: Mesos 1.11 keeps no frameworks in its
//! registry; there such tasks run on under a framework that is "recovered" and never comes back.

use dcos_proto::decode;
use dcos_proto::internal::registry::GoneSlave;
use dcos_proto::mesos::{AgentId, FrameworkId, TimeInfo};
use dcos_store::{Entry, Write};
use prost::Message as _;

use super::core::time_info;
use super::{Master, registry};

const ENDED: &str = "mesos/ended/";

/// How many are kept: the last. Schedulers that run one job each may come and go by the second, and an agent that
/// has been away for so many endings is given up to its owner.
pub(super) const MAX_ENDED: usize = 10_000;

/// The entry of a framework. An id and a time is what the registry's message of a gone agent holds, too.
fn put_ended(id: &FrameworkId, timestamp: TimeInfo) -> Write {
    let entry = GoneSlave {
        id: AgentId::from(id.value.as_str()),
        timestamp,
    };
    Write::Put(format!("{ENDED}{id}"), entry.encode_to_vec().into())
}

fn delete_ended(id: &FrameworkId) -> Write {
    Write::Delete(format!("{ENDED}{id}"))
}

impl Master {
    /// Whether the framework has ended, under this master or a former one. Its id is never used again.
    pub(crate) fn is_ended(&self, id: &FrameworkId) -> bool {
        self.ended.contains_key(id) || self.completed.iter().any(|gone| gone.id() == *id)
    }

    /// Keeps in the registry that a framework has ended, instead of what it was.
    pub(crate) fn bury(&mut self, id: &FrameworkId) {
        let timestamp = time_info(self.now);
        let mut writes = vec![registry::delete_framework(id), put_ended(id, timestamp)];
        self.ended.insert(id.clone(), timestamp);
        if self.ended.len() > MAX_ENDED + MAX_ENDED / 10 {
            // The oldest tenth at once: looking for them costs as much as there are.
            writes.extend(self.forget_ended());
        }
        self.persist(writes);
    }

    /// Forgets those that ended long ago, and the oldest of too many.
    pub(crate) fn forget_ended(&mut self) -> Vec<Write> {
        let stale = registry::stale(&self.ended, self.now, MAX_ENDED, registry::MAX_AGE);
        for id in &stale {
            self.ended.remove(id);
        }
        stale.iter().map(delete_ended).collect()
    }

    /// What a former master wrote down, if the entry speaks of that.
    pub(super) fn recover_ended(&mut self, entry: &Entry) -> bool {
        let Some(id) = entry.key.strip_prefix(ENDED) else {
            return false;
        };
        let decoded = decode::<GoneSlave>(&entry.value);
        let since = decoded.map_or_else(|_| time_info(self.now), |entry| entry.timestamp);
        self.ended.insert(FrameworkId::from(id), since);
        true
    }
}
