//! The life of a run, but for what agents say.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::time::Time;
use dcos_marathon::Timestamp;
use dcos_marathon::core::Row;
use dcos_marathon::instance::{Condition, Instance};

use super::{JobScheduler, MOST_AT_ONCE, rows};
use crate::Error;
use crate::model::{Job, JobId, Newest, Run, RunId, RunInfo, RunKey, RunStatus};
use crate::spec;

impl JobScheduler {
    /// Runs a job now, at a user's wish; its schedule has no say in that.
    ///
    /// # Errors
    /// [`Error::UnknownJob`]; [`Error::Unprocessable`] if the job, from an earlier Metronome, is too large for the store to
    /// take a run of it.
    pub fn start(&mut self, now: Time, id: &JobId) -> Result<Arc<Run>, Error> {
        let job = self.known(id)?;
        if let Some(why) = &job.too_large {
            return Err(Error::Unprocessable(why.to_string()));
        }
        let run = self.begin(Timestamp::from(now), (*job).clone(), None);
        // It is shown as it was made.
        Ok(Arc::new(Run {
            status: RunStatus::Initial,
            ..(*run).clone()
        }))
    }

    /// Ends a run at a user's wish: its task is killed, and it has failed.
    ///
    /// # Errors
    /// [`Error::UnknownJob`], [`Error::UnknownRun`]
    pub fn stop(&mut self, now: Time, id: &JobId, run: &RunId) -> Result<Arc<Run>, Error> {
        let job = self.known(id)?;
        let Some(found) = job.runs.get(run) else {
            return Err(Error::UnknownRun(id.clone(), run.clone()));
        };
        Ok(self.abort(Timestamp::from(now), found))
    }

    /// Begins a run of `job`, which is kept with it.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        mut job: Job,
        starts_until: Option<Timestamp>,
    ) -> Arc<Run> {
        let id = loop {
            let id = RunId::draw(now, &mut self.seed);
            if !job.runs.contains_key(&id) {
                break id;
            }
        };
        let run = Arc::new(Run {
            id: id.clone(),
            job: Arc::clone(&job.spec),
            status: RunStatus::Starting,
            created_at: now,
            completed_at: None,
            starts_until,
            tasks: BTreeMap::new(),
            instance: None,
        });
        let place = self.place(now);
        let progress = Arc::make_mut(&mut job.progress);
        progress.last_started_at = Some(place);
        progress.newest = Some(Newest {
            id: id.clone(),
            succeeded_at: None,
        });
        self.batch.rows.push(rows::run(&run));
        let row = rows::progress(&job.spec.id, progress);
        self.batch.rows.push(row);
        Arc::make_mut(&mut job.runs).insert(id, Arc::clone(&run));
        self.counters.started += 1;
        self.active += 1;
        self.put_job(job);
        self.enqueue(now, &run);
        run
    }

    /// Lets a run wait for an agent.
    pub(super) fn enqueue(&mut self, now: Timestamp, run: &Run) {
        let key = run.key();
        let spec = Arc::new(spec::app(run, &self.config.engine));
        if self.queue.want(now, &spec, 1) {
            self.subscription.want_offers();
        }
        self.deadlines.set(&key, self.run_due(run));
        self.waiting.insert(key, ());
    }

    /// Sets a run that goes on; it is kept durably.
    pub(super) fn put_run(&mut self, run: Run) {
        let row = rows::run(&run);
        // Nothing is launched that does not fit, so that all there is to say of an earlier run is how it goes on: agents
        // are asked for that in each life.
        if row.check().is_ok() {
            self.batch.rows.push(row);
        }
        self.deadlines.set(&run.key(), self.run_due(&run));
        if let Some(job) = self.jobs.get(&run.job.id) {
            let mut job = (**job).clone();
            Arc::make_mut(&mut job.runs).insert(run.id.clone(), Arc::new(run));
            self.put_job(job);
        }
    }

    /// Ends a run, and lets run what waited for that.
    pub(super) fn complete(&mut self, now: Timestamp, run: Run, well: bool) -> Arc<Run> {
        let run = self.close(now, run, well);
        self.consider_children(now, &run.job.id);
        run
    }

    /// Ends a run, and remembers it.
    fn close(&mut self, now: Timestamp, run: Run, well: bool) -> Arc<Run> {
        let key = run.key();
        let status = if well {
            RunStatus::Success
        } else {
            RunStatus::Failed
        };
        let run = Arc::new(Run {
            status,
            completed_at: Some(now),
            instance: None,
            ..run
        });
        self.queue.drop_app(&key.path());
        self.waiting.remove(&key);
        self.deadlines.set(&key, None);
        self.batch.rows.push(Row::delete(rows::run_key(&key)));
        self.active = self.active.saturating_sub(1);
        self.counters.failed += u64::from(!well);
        let Some(job) = self.jobs.get(&key.job) else {
            return run;
        };
        let mut job = (**job).clone();
        Arc::make_mut(&mut job.runs).remove(&run.id);
        self.remember(now, &mut job, &run, well);
        self.put_job(job);
        run
    }

    fn remember(&mut self, now: Timestamp, job: &mut Job, run: &Run, well: bool) {
        let id = job.id().clone();
        let place = self.place(now);
        let info = RunInfo {
            id: run.id.clone(),
            created_at: run.created_at,
            finished_at: now,
            tasks: run.tasks.keys().cloned().collect(),
            place: (place != now).then_some(place),
        };
        self.batch.rows.push(rows::ended(&id, &info, well));
        let history = Arc::make_mut(&mut job.history);
        let kept = if well {
            &mut history.successful
        } else {
            &mut history.failed
        };
        kept.push_front(Arc::new(info));
        while kept.len() > self.config.history_count {
            if let Some(oldest) = kept.pop_back() {
                let key = rows::ended_key(&id, &oldest.id, well);
                self.batch.rows.push(Row::delete(key));
            }
        }
        let progress = Arc::make_mut(&mut job.progress);
        if well {
            progress.success_count += 1;
            progress.last_success_at = Some(now);
            progress.last_started_at = Some(place);
            if let Some(newest) = progress
                .newest
                .as_mut()
                .filter(|newest| newest.id == run.id)
            {
                newest.succeeded_at = Some(place);
            }
        } else {
            progress.failure_count += 1;
            progress.last_failure_at = Some(now);
        }
        self.batch.rows.push(rows::progress(&id, progress));
    }

    /// Ends a run before its time.
    pub(super) fn abort(&mut self, now: Timestamp, run: &Run) -> Arc<Run> {
        let run = self.abandon(now, run);
        self.consider_children(now, &run.job.id);
        run
    }

    /// Ends a run before its time, because its job goes: nothing follows from that.
    pub(super) fn abandon(&mut self, now: Timestamp, run: &Run) -> Arc<Run> {
        if let Some(instance) = &run.instance {
            self.leave(instance.clone());
        }
        self.close(now, run.clone(), false)
    }

    /// Kills what belongs to no run any more, until it is gone.
    pub(super) fn leave(&mut self, instance: Instance) {
        self.kills.add(&instance.id);
        self.leftovers.insert(instance.id.clone(), instance);
    }

    /// When something about a run is due.
    pub(super) fn run_due(&self, run: &Run) -> Option<Timestamp> {
        match &run.instance {
            // What was launched may have started, whoever was there to see it.
            Some(instance) => self.subscription.expiry(instance, &self.config.engine),
            None => run
                .starts_until
                .filter(|_| run.status == RunStatus::Starting),
        }
    }

    /// The connection is another one, or gone: launches are given up at other times.
    pub(super) fn renew_deadlines(&mut self) {
        let runs = self.jobs.values().flat_map(|job| job.runs.values());
        let launching = |run: &&Arc<Run>| {
            let instance = run.instance.as_ref();
            instance.is_some_and(|instance| instance.condition.is_launching())
        };
        let due: Vec<_> = runs
            .filter(launching)
            .map(|run| (run.key(), self.run_due(run)))
            .collect();
        for (key, at) in due {
            self.deadlines.set(&key, at);
        }
    }

    /// Runs that did not start in time, and launches nobody confirms; as [`Self::trigger_due`], not all at once.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for _ in 0..MOST_AT_ONCE {
            let Some(key) = self.deadlines.pop(now) else {
                return;
            };
            let job = self.jobs.get(&key.job);
            let Some(run) = job.and_then(|job| job.runs.get(&key.run)).cloned() else {
                continue;
            };
            match &run.instance {
                // It may have run, or run still: the policy says whether another one may follow.
                Some(instance) => {
                    self.leave(instance.clone());
                    self.failed(now, &run, Condition::Killed);
                }
                None => {
                    self.abort(now, &run);
                }
            }
        }
    }

    /// Launches another task for a run, unless its job is too large for the store to take what comes of it.
    pub(super) fn again(&mut self, now: Timestamp, run: &Run) {
        let run = Run {
            instance: None,
            ..run.clone()
        };
        if !rows::fits(&run) || rows::check_job(&run.job).is_err() {
            self.complete(now, run, false);
            return;
        }
        self.put_run(run.clone());
        self.enqueue(now, &run);
    }

    pub(super) fn run(&self, key: &RunKey) -> Option<&Arc<Run>> {
        self.jobs.get(&key.job)?.runs.get(&key.run)
    }
}
