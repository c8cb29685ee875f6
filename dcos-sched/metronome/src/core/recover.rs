//! Taking up where an earlier life left off.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::Timestamp;
use dcos_marathon::core::RecoverError;
use dcos_proto::mesos::FrameworkId;

use super::rows::RunRow;
use super::{JobScheduler, PREFIX};
use crate::config::Config;
use crate::model::{History, Job, JobId, JobSpec, Progress, Run, RunInfo};

/// Rows, sorted by kind.
#[derive(Default)]
struct Rows {
    framework: Option<String>,
    jobs: BTreeMap<JobId, Job>,
    progress: Vec<(JobId, Progress)>,
    runs: Vec<Run>,
    ended: BTreeMap<JobId, History>,
}

impl JobScheduler {
    /// A scheduler that knows what `rows` (all with [`PREFIX`]) tell; none is a first start.
    ///
    /// # Errors
    /// [`RecoverError`]: nothing is guessed and nothing dropped.
    pub fn recover<'a>(
        config: Arc<Config>,
        seed: Seed,
        now: Time,
        rows: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, RecoverError> {
        let mut sorted = Rows::default();
        for (key, value) in rows {
            sorted.add(key, value)?;
        }
        let now = Timestamp::from(now);
        let framework_id = sorted.framework.take();
        let jobs = sorted.jobs(now, framework_id.is_some())?;
        let roles = Arc::new([config.engine.mesos_role.clone()].into());
        let mut core = Self {
            config,
            seed,
            framework_id: framework_id
                .filter(|id| !id.is_empty())
                .map(FrameworkId::from),
            jobs: crate::ordered::Ordered::default(),
            children: BTreeMap::new(),
            triggers: super::Deadlines::default(),
            deadlines: super::Deadlines::default(),
            queue: super::LaunchQueue::default(),
            waiting: crate::ordered::Ordered::default(),
            places: dcos_marathon::matching::Places::default(),
            latest: Timestamp::default(),
            active: 0,
            kills: super::Kills::default(),
            leftovers: BTreeMap::new(),
            subscription: super::Subscription::default(),
            roles,
            batch: super::Batch::default(),
            counters: super::Counters::default(),
        };
        let mut too_large = Vec::new();
        for (id, mut job) in jobs {
            let refused = super::rows::check_job(&job.spec).err();
            job.too_large = refused.map(|why| why.to_string().into());
            core.set_parents(None, Some(&job.spec));
            let runs = Arc::clone(&job.runs);
            core.latest = core.latest.max(latest(&job));
            let last = job.progress.triggered.unwrap_or(now);
            core.active += runs.len();
            core.put_job(job);
            core.schedule(now, &id, last);
            for run in runs.values() {
                if run.waits() && super::rows::check_job(&run.job).is_err() {
                    too_large.push(Arc::clone(run));
                } else if run.waits() {
                    core.enqueue(now, run);
                } else {
                    let due = core.run_due(run);
                    core.deadlines.set(&run.key(), due);
                }
            }
        }
        // The store would refuse what comes of them.
        for run in too_large {
            core.abort(now, &run);
        }
        Ok(core)
    }
}

/// The latest moment of a job by which something is put in order.
fn latest(job: &Job) -> Timestamp {
    let (progress, history) = (&job.progress, &job.history);
    let succeeded = progress.newest.as_ref().and_then(|it| it.succeeded_at);
    let ended = [history.successful.front(), history.failed.front()];
    let ended = ended.into_iter().flatten().map(|run| run.place());
    let all = ended.chain(progress.last_started_at).chain(succeeded);
    all.max().unwrap_or_default()
}

impl Rows {
    fn add(&mut self, key: &str, value: &[u8]) -> Result<(), RecoverError> {
        let unknown = || RecoverError::Unknown(key.to_owned());
        let rest = key.strip_prefix(PREFIX).ok_or_else(unknown)?;
        let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
        let job = || JobId::from(name.split('/').next().unwrap_or_default());
        match kind {
            "framework" => self.framework = Some(RecoverError::read(key, value)?),
            "job" => {
                let spec: JobSpec = RecoverError::read(key, value)?;
                self.jobs.insert(spec.id.clone(), Job::new(spec));
            }
            "progress" => self.progress.push((job(), RecoverError::read(key, value)?)),
            "run" => {
                let row: RunRow<JobSpec> = RecoverError::read(key, value)?;
                self.runs.push(row.into());
            }
            "success" | "failure" => {
                let info: Arc<RunInfo> = Arc::new(RecoverError::read(key, value)?);
                let history = self.ended.entry(job()).or_default();
                if kind == "success" {
                    history.successful.push_back(info);
                } else {
                    history.failed.push_back(info);
                }
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn jobs(
        mut self,
        now: Timestamp,
        registered: bool,
    ) -> Result<BTreeMap<JobId, Job>, RecoverError> {
        let dangling =
            |kind: &str, id: &JobId| RecoverError::Dangling(format!("{PREFIX}{kind}/{id}"));
        for (id, progress) in self.progress {
            let job = self
                .jobs
                .get_mut(&id)
                .ok_or_else(|| dangling("progress", &id))?;
            // Earlier releases noted successes apart.
            let began = progress.last_started_at.max(progress.last_success_at);
            job.progress = Arc::new(Progress {
                last_started_at: began,
                ..progress
            });
        }
        for (id, mut history) in self.ended {
            let job = self
                .jobs
                .get_mut(&id)
                .ok_or_else(|| dangling("history", &id))?;
            for ended in [&mut history.successful, &mut history.failed] {
                let newest_first =
                    |run: &Arc<RunInfo>| std::cmp::Reverse((run.place(), run.id.clone()));
                ended.make_contiguous().sort_by_key(newest_first);
            }
            job.history = Arc::new(history);
        }
        for mut run in self.runs {
            if run.instance.is_some() && !registered {
                return Err(RecoverError::NoFramework);
            }
            let job = self.jobs.get_mut(&run.job.id);
            let job = job.ok_or_else(|| dangling("run", &run.job.id))?;
            run.told_at(now);
            if run.job == job.spec {
                // One copy serves both.
                run.job = Arc::clone(&job.spec);
            }
            Arc::make_mut(&mut job.runs).insert(run.id.clone(), Arc::new(run));
        }
        Ok(self.jobs)
    }
}
