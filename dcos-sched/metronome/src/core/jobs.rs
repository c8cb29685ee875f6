//! What users change about jobs.

use std::sync::Arc;

use dcos_core::time::Time;
use dcos_marathon::Timestamp;
use dcos_marathon::core::Row;

use super::{JobScheduler, rows};
use crate::Error;
use crate::model::{Job, JobId, JobSpec, ScheduleSpec};

impl JobScheduler {
    pub(super) fn known(&self, id: &JobId) -> Result<Arc<Job>, Error> {
        let job = self.jobs.get(id).cloned();
        job.ok_or_else(|| Error::UnknownJob(id.clone()))
    }

    /// Makes a job.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one of that name, [`Error::Unprocessable`] if its dependencies make no sense.
    pub fn create(&mut self, now: Time, spec: JobSpec) -> Result<Arc<JobSpec>, Error> {
        if self.jobs.get(&spec.id).is_some() {
            let text = "Job with this id already exists";
            return Err(Error::Conflict(text.to_owned()));
        }
        self.check_dependencies(&spec)?;
        self.accept(Timestamp::from(now), Job::new(spec.clone()), spec)
    }

    /// Changes a job to what `change` makes of it; runs that go on stay as they are.
    ///
    /// # Errors
    /// [`Error::UnknownJob`], what `change` says, [`Error::Unprocessable`] if its dependencies make no sense.
    pub fn update(
        &mut self,
        now: Time,
        id: &JobId,
        change: impl FnOnce(&JobSpec) -> Result<JobSpec, Error>,
    ) -> Result<Arc<JobSpec>, Error> {
        let job = self.known(id)?;
        let spec = change(&job.spec)?;
        self.check_dependencies(&spec)?;
        self.accept(Timestamp::from(now), (*job).clone(), spec)
    }

    fn accept(
        &mut self,
        now: Timestamp,
        mut job: Job,
        spec: JobSpec,
    ) -> Result<Arc<JobSpec>, Error> {
        rows::check_job(&spec)?;
        let id = spec.id.clone();
        let before = self.jobs.get(&id).map(|job| Arc::clone(&job.spec));
        self.set_parents(before.as_deref(), Some(&spec));
        self.batch.rows.push(rows::job(&spec));
        let other_schedule = before.is_none_or(|before| before.schedules != spec.schedules);
        if other_schedule && !spec.schedules.is_empty() {
            // What was missed before this schedule was there is not made up.
            let progress = Arc::make_mut(&mut job.progress);
            progress.triggered = Some(now);
            self.batch.rows.push(rows::progress(&id, progress));
        }
        (job.spec, job.too_large) = (Arc::new(spec), None);
        let spec = Arc::clone(&job.spec);
        let last = job.progress.triggered.unwrap_or(now);
        self.put_job(job);
        self.schedule(now, &id, last);
        Ok(spec)
    }

    /// Removes a job and what is remembered of it; `stop` ends the runs that go on.
    ///
    /// # Errors
    /// [`Error::UnknownJob`]; [`Error::Conflict`] if it runs and `stop` is not set, or if others depend on it. Nothing has
    /// changed then.
    pub fn delete(&mut self, now: Time, id: &JobId, stop: bool) -> Result<Arc<JobSpec>, Error> {
        let job = self.known(id)?;
        if !job.runs.is_empty() && !stop {
            let text = "There are active job runs. Override with stopCurrentJobRuns=true";
            return Err(Error::Conflict(text.to_owned()));
        }
        if let Some(children) = self.children.get(id) {
            let children: Vec<&str> = children.iter().map(JobId::as_str).collect();
            let text = format!(
                "There are jobs with a dependency on {id}. children=[{}]",
                children.join(", ")
            );
            return Err(Error::Conflict(text));
        }
        for run in job.runs.values() {
            self.abandon(Timestamp::from(now), run);
        }
        // They are remembered by now.
        let job = self.jobs.remove(id).unwrap_or(job);
        self.set_parents(Some(&job.spec), None);
        self.triggers.set(id, None);
        let runs = job.history.successful.iter().map(|run| (run, true));
        let runs = runs.chain(job.history.failed.iter().map(|run| (run, false)));
        let gone = runs.map(|(run, well)| rows::ended_key(id, &run.id, well));
        let gone = gone.chain([rows::job_key(id), rows::progress_key(id)]);
        self.batch.rows.extend(gone.map(Row::delete));
        Ok(Arc::clone(&job.spec))
    }

    /// Gives a job a schedule.
    ///
    /// # Errors
    /// [`Error::UnknownJob`]; [`Error::Conflict`] if it has one; [`Error::Conflict`] if it depends on others.
    pub fn add_schedule(
        &mut self,
        now: Time,
        id: &JobId,
        schedule: ScheduleSpec,
    ) -> Result<ScheduleSpec, Error> {
        let added = schedule.clone();
        self.update(now, id, |spec| {
            let conflict =
                |text: String| Err(Error::Conflict(format!("requirement failed: {text}")));
            if spec.schedules.iter().any(|known| known.id == schedule.id) {
                return conflict(format!("A schedule with id {} already exists", schedule.id));
            }
            if !spec.schedules.is_empty() {
                return conflict("Only one schedule supported at the moment".to_owned());
            }
            if !spec.dependencies.is_empty() {
                let text = "Jobs may not have both dependencies and schedules specified";
                return conflict(text.to_owned());
            }
            Ok(JobSpec {
                schedules: vec![schedule],
                ..spec.clone()
            })
        })?;
        Ok(added)
    }

    /// Changes the schedule of that name.
    ///
    /// # Errors
    /// [`Error::UnknownJob`], [`Error::UnknownSchedule`]
    pub fn update_schedule(
        &mut self,
        now: Time,
        id: &JobId,
        schedule: ScheduleSpec,
    ) -> Result<ScheduleSpec, Error> {
        let changed = schedule.clone();
        self.update(now, id, |spec| {
            let mut spec = spec.clone();
            let known = spec
                .schedules
                .iter_mut()
                .find(|known| known.id == schedule.id);
            let Some(known) = known else {
                return Err(Error::UnknownSchedule(schedule.id.clone()));
            };
            *known = schedule;
            Ok(spec)
        })?;
        Ok(changed)
    }

    /// Takes the schedule of that name away.
    ///
    /// # Errors
    /// [`Error::UnknownJob`], [`Error::UnknownSchedule`]
    pub fn remove_schedule(&mut self, now: Time, id: &JobId, schedule: &str) -> Result<(), Error> {
        self.update(now, id, |spec| {
            let mut spec = spec.clone();
            let before = spec.schedules.len();
            spec.schedules.retain(|known| known.id != schedule);
            if spec.schedules.len() == before {
                return Err(Error::UnknownSchedule(schedule.to_owned()));
            }
            Ok(spec)
        })?;
        Ok(())
    }
}
