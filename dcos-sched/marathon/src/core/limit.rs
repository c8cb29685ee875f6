//! Deadlines users set for deployments: what has not ended by then is given up, or taken back.

use std::sync::Arc;
use std::time::Duration;

use dcos_core::time::Time;
use serde::{Deserialize, Serialize};

use super::{Core, DeploymentView, Kill};
use crate::Timestamp;
use crate::deployment::revert;

/// When a deployment must have ended, and what becomes of it if it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The moment.
    pub at: Timestamp,
    /// What becomes of it.
    pub then: Overdue,
    /// When that was said; rows of earlier releases do not tell.
    #[serde(default)]
    pub since: Timestamp,
}

impl Limit {
    /// So much time from `now` on.
    pub fn within(now: Timestamp, time: Duration, then: Overdue) -> Self {
        Self {
            at: now + time,
            then,
            since: now,
        }
    }

    /// The same by a clock that shows `now`. If that is before it was said, the clock is another one: all its time is left.
    #[must_use]
    pub fn told_at(self, now: Timestamp) -> Self {
        if now < self.since {
            Self::within(now, self.at.since(self.since), self.then)
        } else {
            self
        }
    }
}

/// What becomes of a deployment that has not ended in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overdue {
    /// It ends where it is, as one that is canceled by force: what is wanted stays wanted.
    #[default]
    Stop,
    /// Its change is taken back by a deployment that has no deadline.
    Rollback,
}

impl Core {
    /// Gives a deployment until `limit`, however often this Marathon restarts; false if there is no such deployment, as
    /// when it had nothing to do.
    pub fn limit(&mut self, id: &str, limit: Limit) -> bool {
        let Some(running) = self.deployments.get_mut(id) else {
            return false;
        };
        running.limit = Some(limit);
        self.batch.rows.push(super::rows::deployment(running));
        self.limits.set(&id.to_owned(), Some(limit.at));
        true
    }

    /// In a new life: deadlines are as an earlier one wrote them, maybe by another clock.
    pub(super) fn renew_limits(&mut self, now: Timestamp) {
        for (id, running) in &mut self.deployments {
            let told = running.limit.map(|limit| limit.told_at(now));
            self.limits.set(id, told.map(|limit| limit.at));
            running.limit = told;
        }
    }

    /// Ends deployments whose time is up; true if there were any.
    pub(super) fn end_overdue(&mut self, now: Timestamp) -> bool {
        let mut some = false;
        while let Some(id) = self.limits.pop(now) {
            let Some(running) = self.deployments.get(&id) else {
                continue;
            };
            some = true;
            let then = running.limit.map(|limit| limit.then).unwrap_or_default();
            let plan = Arc::clone(&running.plan);
            let deployment = DeploymentView::from(running);
            let time = Time::from_millis(u64::try_from(now.millis()).unwrap_or_default());
            let waits = self.view(time).waits_in_words(&deployment, now);
            self.end(now, &id, &format!("its deadline passed; waiting: {waits}"));
            if then == Overdue::Rollback {
                // If that cannot be, an event says why, and it has ended where it was.
                let _ = self.change(time, true, &Kill::new(), |change| {
                    Ok(revert(&plan, change.root, change.version))
                });
            }
        }
        some
    }
}
