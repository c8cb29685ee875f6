//! Jobs that run by themselves because others did.
//!
//! A job with dependencies runs when the newest run of each of them ended well since the job itself last began or ended
//! well, and never twice at once. All that decides is in the store, so that a change of leaders changes nothing.

use std::collections::BTreeSet;

use dcos_marathon::Timestamp;

use super::JobScheduler;
use crate::Error;
use crate::model::{Job, JobId, JobSpec};

impl JobScheduler {
    /// Refuses dependencies on nothing, and on oneself over whatever way.
    pub(super) fn check_dependencies(&self, spec: &JobSpec) -> Result<(), Error> {
        let missing: Vec<&str> = spec
            .dependencies
            .iter()
            .map(|dependency| &dependency.id)
            .filter(|id| self.jobs.get(id).is_none())
            .map(JobId::as_str)
            .collect();
        if !missing.is_empty() {
            let text = format!(
                "Dependencies contain unknown jobs. unknown=[{}]",
                missing.join(", ")
            );
            return Err(Error::Unprocessable(text));
        }
        let mut seen = BTreeSet::new();
        let mut open: Vec<&JobId> = spec.dependencies.iter().map(|parent| &parent.id).collect();
        while let Some(id) = open.pop() {
            if *id == spec.id {
                return Err(Error::Unprocessable(
                    "Dependencies have a cycle.".to_owned(),
                ));
            }
            if seen.insert(id)
                && let Some(job) = self.jobs.get(id)
            {
                open.extend(job.spec.dependencies.iter().map(|parent| &parent.id));
            }
        }
        Ok(())
    }

    /// Notes on whom a job depends, in place of whom it depended on.
    pub(super) fn set_parents(&mut self, before: Option<&JobSpec>, after: Option<&JobSpec>) {
        if let Some(spec) = before {
            for parent in &spec.dependencies {
                if let Some(children) = self.children.get_mut(&parent.id) {
                    children.remove(&spec.id);
                    if children.is_empty() {
                        self.children.remove(&parent.id);
                    }
                }
            }
        }
        if let Some(spec) = after {
            for parent in &spec.dependencies {
                let children = self.children.entry(parent.id.clone()).or_default();
                children.insert(spec.id.clone());
            }
        }
    }

    /// Runs what a run that ended lets run: jobs that depend on its job, and that job itself, if its dependencies went
    /// on while it was running.
    pub(super) fn consider_children(&mut self, now: Timestamp, ended: &JobId) {
        let children = self.children.get(ended).cloned().unwrap_or_default();
        for id in children.iter().chain([ended]) {
            if let Some(job) = self.jobs.get(id).cloned()
                && self.may_follow(&job)
            {
                self.begin(now, (*job).clone(), None);
            }
        }
    }

    fn may_follow(&self, job: &Job) -> bool {
        if job.spec.dependencies.is_empty() || !job.runs.is_empty() || job.too_large.is_some() {
            return false;
        }
        let since = job.progress.last_started_at;
        job.spec.dependencies.iter().all(|parent| {
            let parent = self.jobs.get(&parent.id);
            let newest = parent.and_then(|parent| parent.progress.newest.as_ref());
            let succeeded = newest.and_then(|newest| newest.succeeded_at);
            succeeded.is_some_and(|at| since.is_none_or(|since| at > since))
        })
    }
}
