//! Jobs that run by themselves because it is time.

use std::sync::Arc;
use std::time::Duration;

use dcos_marathon::Timestamp;

use super::{JobScheduler, MOST_AT_ONCE, rows};
use crate::model::{ConcurrencyPolicy, JobId, JobSpec, ScheduleSpec};

/// The schedule that is in force.
fn schedule(spec: &JobSpec) -> Option<&ScheduleSpec> {
    spec.schedules.first().filter(|schedule| schedule.enabled)
}

/// A clock that shows so much less than what was triggered by it was wrong, and set right. What a clock that is put back a little
/// shows again does not run again; but nothing stands still for years because a clock was once that fast. (Cron of Paul
/// Vixie has the same three hours.)
const CORRECTED: Duration = Duration::from_hours(3);

impl JobScheduler {
    /// Sets when a job runs next; `last` is the moment it was triggered at, or the schedule is from.
    pub(super) fn schedule(&mut self, now: Timestamp, id: &JobId, last: Timestamp) {
        let last = if last.since(now) > CORRECTED {
            now
        } else {
            last
        };
        let spec = self.jobs.get(id).map(|job| &job.spec);
        let schedule = spec.and_then(|spec| schedule(spec));
        let next = schedule.and_then(|schedule| schedule.next_trigger(last, now));
        self.triggers.set(id, next);
    }

    /// Starts what is due: the earliest of it, if that is much, and the rest at once after.
    pub(super) fn trigger_due(&mut self, now: Timestamp) {
        for _ in 0..MOST_AT_ONCE {
            let Some((planned, id)) = self.triggers.next().zip(self.triggers.pop(now)) else {
                return;
            };
            self.trigger(now, &id, planned);
            self.schedule(now, &id, planned);
        }
    }

    /// Deals with one moment of a schedule, once and for all.
    fn trigger(&mut self, now: Timestamp, id: &JobId, planned: Timestamp) {
        let Some(job) = self.jobs.get(id).cloned() else {
            return;
        };
        let Some(schedule) = schedule(&job.spec) else {
            return;
        };
        let mut next = (*job).clone();
        Arc::make_mut(&mut next.progress).triggered = Some(planned);
        let forbidden = schedule.concurrency_policy == ConcurrencyPolicy::Forbid;
        if (forbidden && !job.runs.is_empty()) || job.too_large.is_some() {
            self.counters.skipped += 1;
            self.batch.rows.push(rows::progress(id, &next.progress));
            self.put_job(next);
            return;
        }
        let within = Duration::from_secs(schedule.starting_deadline_seconds);
        self.begin(now, next, Some(now + within));
    }
}
