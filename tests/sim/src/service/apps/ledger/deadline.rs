//! Deadlines of deployments: one that has one ends by it, in the way its user chose; one that has none never ends for it.
//! And none ends in vain but for a reason.

use dcos_core::time::Time;
use dcos_marathon::core::{Batch, Limit, Overdue};
use dcos_marathon::{Timestamp, event};
use serde_json::Value;

use super::{Deployment, Ledger, Promise, Seen, Wanted, text};
use crate::service::ledger::moment;

/// How the reason of an end begins that came for a deadline.
const PASSED: &str = "its deadline passed";

/// Until when a deployment may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Deadline {
    /// In milliseconds.
    at: u64,
    /// When that was said.
    since: u64,
    /// Whether its change is taken back then.
    is_rollback: bool,
}

impl From<Limit> for Deadline {
    fn from(limit: Limit) -> Self {
        let millis = |it: Timestamp| u64::try_from(it.millis()).unwrap_or_default();
        Self {
            at: millis(limit.at),
            since: millis(limit.since),
            is_rollback: limit.then == Overdue::Rollback,
        }
    }
}

impl Deadline {
    /// As its row tells, if there is one.
    fn read(row: &Value) -> Option<Self> {
        (!row.is_null()).then(|| Self {
            at: moment(&row["at"]),
            since: moment(&row["since"]),
            is_rollback: row["then"] == "rollback",
        })
    }
}

impl Deployment {
    /// A life whose clock shows `now` reads it: if that is before its deadline was given, all its time is left.
    pub(super) fn read_at(&mut self, now: Time) {
        let now = now.as_millis();
        self.due = self.deadline.map(|it| {
            let is_ahead = now < it.since;
            it.at - if is_ahead { it.since - now } else { 0 }
        });
    }
}

/// Why a deployment ended that did not succeed, and which.
fn failure(event: &event::Event) -> Option<(String, String)> {
    let document = || serde_json::from_str::<Value>(&event.data).ok();
    let document = (event.kind == "deployment_failed").then(document)??;
    Some((text(&document["id"]), text(&document["reason"])))
}

impl Ledger {
    /// What is taken back for a deadline is as good as promised.
    pub(super) fn expect_rollbacks(&self, batch: &Batch, promise: &mut Promise) {
        let passed = batch.events.iter().filter_map(failure);
        let passed = passed.filter(|(_, reason)| reason.starts_with(PASSED));
        for deployment in passed.filter_map(|(id, _)| self.deployments.get(&id)) {
            if deployment.deadline.is_some_and(|it| it.is_rollback) {
                let before = deployment.before.clone().into_iter();
                let again = before.map(|(app, version)| (app, Wanted::Again(version)));
                promise.apps.extend(again);
            }
        }
    }

    /// A user's deployment began, which he gave a deadline.
    pub(super) fn begin_deadline(&mut self, promise: &Promise) {
        if let Some((id, deadline)) = &promise.deadline
            && let Some(deployment) = self.deployments.get_mut(id)
        {
            (deployment.deadline, deployment.due) = (Some(*deadline), Some(deadline.at));
        }
    }

    /// Each deployment has the deadline that its user gave it, and has not passed it.
    pub(super) fn judge_deadlines(&self, now: u64) -> Result<(), String> {
        for (id, deployment) in &self.deployments {
            let row = self.rows.get(&format!("marathon/deployment/{id}"));
            let kept = row.and_then(|row| Deadline::read(&row["limit"]));
            let own = deployment.deadline;
            if kept != own {
                return Err(format!("{id} has the deadline {kept:?}, not {own:?}"));
            }
            if deployment.due.is_some_and(|at| at <= now) {
                return Err(format!("{id} goes on beyond its deadline"));
            }
        }
        Ok(())
    }
}

/// A deployment ended without success.
pub(super) fn judge_failure(
    seen: &Seen,
    id: &str,
    deployment: &Deployment,
    reason: &str,
) -> Result<(), String> {
    let promise = &seen.promise;
    if reason.starts_with(PASSED) {
        return match deployment.due {
            None => Err(format!("{id} ends for a deadline, and has none")),
            Some(at) if at > seen.now => Err(format!("{id} ends before its deadline")),
            Some(_) => Ok(()),
        };
    }
    let is_in_the_way = || {
        promise
            .apps
            .keys()
            .any(|app| deployment.before.contains_key(app))
    };
    if promise.ended.iter().any(|it| it == id) || (promise.is_forced && is_in_the_way()) {
        return Ok(());
    }
    Err(format!("{id} ends, which nobody asked for: {reason}"))
}
