//! Operations whose last status was acknowledged lately.
//!
//! An agent lists the operations that nobody acknowledged, and a copy of such a list may wait in a connection of
//! before. What is acknowledged in between is not taken into the books again: the agent has forgotten it, and nobody
//! would ever take it out. If it was the acknowledgement that got lost, the agent is sent it once more.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::mesos::Uuid;

/// Nothing waits longer in a connection of before.
const KEPT: Duration = Duration::from_mins(10);
/// More are not remembered.
const MOST: usize = 100_000;

/// Uuids of operations with those of their last statuses.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    statuses: BTreeMap<Vec<u8>, Uuid>,
    /// In the order they came, and when.
    order: VecDeque<(Time, Vec<u8>)>,
}

impl Acknowledged {
    /// The last status of an operation was acknowledged.
    pub(crate) fn note(&mut self, now: Time, operation: &[u8], status: &Uuid) {
        if self
            .statuses
            .insert(operation.to_vec(), status.clone())
            .is_none()
        {
            self.order.push_back((now, operation.to_vec()));
        }
        while let Some((since, oldest)) = self.order.front()
            && (now.since(*since) > KEPT || self.order.len() > MOST)
        {
            self.statuses.remove(oldest);
            self.order.pop_front();
        }
    }

    /// Whether this status of an operation was acknowledged, and is its last.
    pub(crate) fn has(&self, operation: &[u8], status: Option<&Uuid>) -> bool {
        status.is_some() && self.statuses.get(operation) == status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_forgotten() {
        let mut acknowledged = Acknowledged::default();
        let status = Uuid { value: vec![9] };
        let other = Uuid { value: vec![8] };
        let begin = Time::from_secs(1000);
        acknowledged.note(begin, &[1], &status);
        acknowledged.note(begin + KEPT, &[2], &status);
        assert!(acknowledged.has(&[1], Some(&status)) && acknowledged.has(&[2], Some(&status)));
        assert!(!acknowledged.has(&[1], Some(&other)) && !acknowledged.has(&[1], None));
        acknowledged.note(begin + KEPT + Duration::from_secs(1), &[3], &status);
        assert!(!acknowledged.has(&[1], Some(&status)) && acknowledged.has(&[2], Some(&status)));
    }
}
