//! Taking over the state of an original Metronome 0.6.
//!
//! [`import`] makes rows of our store from the nodes of its `ZooKeeper`, as [`dcos_marathon::migrate`] does for a
//! Marathon: jobs with their schedules, histories, runs that wait and, unless a new framework is asked for, runs that go
//! on with their tasks.
//!
//! Layout of the nodes, below the path of `METRONOME_ZK_URL`; beside them lie framework id and instances as Marathon
//! keeps them:
//!
//! | node | a `ZKStoreEntry` of |
//! |---|---|
//! | `state/job-specs/<job>` | `JobSpec` |
//! | `state/job-histories/<job>` | `JobHistory` |
//! | `state/job-runs/<job>/<run>` | `JobRun` |
//!
//! Source: Metronome 0.6 `repository/impl/kv/ZkRepositories.scala`, `utils/state/ZKStore.scala`.

mod document;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::core::Row;
use dcos_marathon::migrate::{
    Fate, Import, MigrateError, Nodes, Options, Report, entry, framework_id, instances, somewhere,
};
use dcos_marathon::{PathId, Timestamp, Violation};
use prost::Message;

use crate::core::{JobScheduler, rows};
use crate::model::{
    JobId, JobSpec, Newest, Progress, RestartPolicy, Run, RunId, RunInfo, RunStatus, RunTask,
    TaskState,
};
use crate::{Config, Error, read, spec};

/// Makes rows of what an original Metronome left.
///
/// # Errors
/// [`MigrateError`]: then nothing can be taken over. A row that cannot be read is none, but a note.
pub fn import(nodes: &Nodes, options: Options, now: Time) -> Result<Import, MigrateError> {
    const SPECS: &str = "state/job-specs";
    if !nodes.contains_key(SPECS) {
        return Err(MigrateError::NotThere(SPECS));
    }
    let mut report = Report::default();
    let jobs = jobs(nodes, &mut report);
    let mut progress: BTreeMap<JobId, Progress> = BTreeMap::new();
    let mut made = histories(nodes, &jobs, &mut progress, &mut report);
    let runs = runs(nodes, &jobs, &mut report);
    let keep = framework_id(nodes, options, &mut report)?;
    let engine = Config::default().engine;
    let of_runs: BTreeMap<PathId, &Run> = runs.iter().map(|run| (run.key().path(), run)).collect();
    let found = instances(nodes, keep.is_some(), &mut report, |id, _| {
        let run = of_runs.get(&id.app()).ok_or("its run is not there")?;
        Ok(Arc::new(spec::app(run, &engine)))
    });
    let mut running: BTreeMap<PathId, _> = found
        .into_iter()
        .map(|one| (one.app.clone(), one))
        .collect();
    if let Some(id) = &keep {
        made.push(rows::framework(id));
        report.take("framework id", 1);
    }
    let alive: BTreeSet<PathId> = somewhere(nodes).map(|id| id.app()).collect();
    for mut run in runs {
        let path = run.key().path();
        run.instance = running.remove(&path);
        if run.instance.is_none()
            && let Some(why) = not_launched(&run, alive.contains(&path), keep.is_some())
        {
            let what = format!("run {} of job {}", run.id, run.job.id);
            report.note(Fate::Left, what, why);
            continue;
        }
        let progress = progress.entry(run.job.id.clone()).or_default();
        began(progress, &run.id, run.created_at, None);
        report.take("runs under way", 1);
        made.push(rows::run(&run));
    }
    for job in jobs.values() {
        made.push(rows::job(job));
        if let Err(why) = rows::check_job(job) {
            let why = format!("{why}: it never runs until it is made smaller");
            report.note(Fate::Changed, format!("job {}", job.id), why);
        }
        if let Some(progress) = progress.get(&job.id) {
            made.push(rows::progress(&job.id, progress));
        }
        for dependency in &job.dependencies {
            if !jobs.contains_key(&dependency.id) {
                let why = format!(
                    "job {} it depends on is not taken over: it never runs by itself",
                    dependency.id
                );
                report.note(Fate::Changed, format!("job {}", job.id), why);
            }
        }
    }
    report.take("jobs", jobs.len());
    let rows = made
        .into_iter()
        .filter_map(|row| Some((row.key, row.value?)));
    let rows: BTreeMap<String, Vec<u8>> = rows.collect();
    let all = rows
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_slice()));
    JobScheduler::recover(Arc::new(Config::default()), Seed::new(0), now, all)?;
    Ok(Import { rows, report })
}

/// Why a run without an instance is not launched; `None` if that is what it waits for. Of it a task may be `alive`, whether
/// it is noted in the run (before the agent first speaks it is not) or not.
fn not_launched(run: &Run, alive: bool, kept: bool) -> Option<&'static str> {
    if alive && kept {
        return Some("its task cannot be taken over, and a run is not repeated");
    }
    if alive {
        return Some("its task stays with the old framework, and a run is not repeated");
    }
    let begun = run.status == RunStatus::Active || !run.tasks.is_empty();
    let mut tasks = run.tasks.values();
    // Between a task that failed and the next one, such a run has no instance on any agent.
    let repeats = run.job.run.restart.policy == RestartPolicy::OnFailure
        && tasks.all(|task| task.status != TaskState::Finished);
    (begun && !repeats).then_some("its task is not there any more")
}

/// The nodes in a folder, at a depth below it, that hold an entry of `T`.
fn entries<'a, T: Message + Default>(
    nodes: &'a Nodes,
    folder: &'a str,
    depth: usize,
) -> impl Iterator<Item = (&'a str, Result<T, String>)> {
    let inside = nodes.range(format!("state/{folder}/")..);
    let names = inside.map_while(move |(path, data)| {
        let name = path
            .strip_prefix("state/")?
            .strip_prefix(folder)?
            .strip_prefix('/')?;
        Some((name, data))
    });
    let there = names.filter(move |(name, _)| name.split('/').count() == depth);
    there.map(|(name, data)| {
        let plain = entry(data)
            .and_then(|plain| T::decode(plain.as_slice()).map_err(|error| error.to_string()));
        (name, plain)
    })
}

fn jobs(nodes: &Nodes, report: &mut Report) -> BTreeMap<JobId, Arc<JobSpec>> {
    let mut jobs = BTreeMap::new();
    for (name, found) in entries::<words::JobSpec>(nodes, "job-specs", 1) {
        match found.and_then(|found| job(&found)) {
            Ok(job) => {
                jobs.insert(job.id.clone(), Arc::new(job));
            }
            Err(why) => report.note(Fate::Left, format!("job {name}"), why),
        }
    }
    jobs
}

fn job(found: &words::JobSpec) -> Result<JobSpec, String> {
    let document = document::job(found)?;
    read::job(document, None).map_err(|error| match error {
        Error::Invalid(violations) => Violation::join(&violations),
        other => other.to_string(),
    })
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Notes that a run began, and how it ended if it ended well; the newest stands for its job.
fn began(progress: &mut Progress, run: &RunId, at: Timestamp, succeeded_at: Option<Timestamp>) {
    if progress.last_started_at.is_none_or(|last| last <= at) {
        progress.last_started_at = Some(at);
        progress.newest = Some(Newest {
            id: run.clone(),
            succeeded_at,
        });
    }
}

fn histories(
    nodes: &Nodes,
    jobs: &BTreeMap<JobId, Arc<JobSpec>>,
    progress: &mut BTreeMap<JobId, Progress>,
    report: &mut Report,
) -> Vec<Row> {
    let mut made = Vec::new();
    for (name, found) in entries::<words::History>(nodes, "job-histories", 1) {
        let id = JobId::from(name);
        let what = || format!("history of job {name}");
        let history = match found {
            Ok(history) if jobs.contains_key(&id) => history,
            Ok(_) => {
                report.note(
                    Fate::Left,
                    what(),
                    "there is no such job, or it is not taken over",
                );
                continue;
            }
            Err(why) => {
                report.note(Fate::Left, what(), why);
                continue;
            }
        };
        let progress = progress.entry(id.clone()).or_default();
        progress.success_count = count(history.success_count);
        progress.failure_count = count(history.failure_count);
        progress.last_success_at = history.last_success_at.map(at);
        progress.last_failure_at = history.last_failure_at.map(at);
        let ended = [(&history.successful, true), (&history.failed, false)];
        for (run, well) in ended
            .into_iter()
            .flat_map(|(all, well)| all.iter().map(move |run| (run, well)))
        {
            let Some(named) = &run.id else { continue };
            let info = RunInfo {
                id: RunId::from(named.run.as_str()),
                created_at: at(run.created_at),
                finished_at: at(run.finished_at),
                tasks: run.tasks.clone(),
                place: None,
            };
            began(
                progress,
                &info.id,
                info.created_at,
                well.then_some(info.finished_at),
            );
            made.push(rows::ended(&id, &info, well));
        }
    }
    report.take("ended runs", made.len());
    made
}

fn runs(nodes: &Nodes, jobs: &BTreeMap<JobId, Arc<JobSpec>>, report: &mut Report) -> Vec<Run> {
    let mut runs = Vec::new();
    for (name, found) in entries::<words::JobRun>(nodes, "job-runs", 2) {
        match found.and_then(|found| run(&found, jobs)) {
            Ok(run) => runs.extend(run),
            Err(why) => report.note(Fate::Left, format!("run {name}"), why),
        }
    }
    runs
}

/// A run that is not over.
fn run(found: &words::JobRun, jobs: &BTreeMap<JobId, Arc<JobSpec>>) -> Result<Option<Run>, String> {
    // `JobRun.Status`: what waits, what runs, what is over.
    let status = match found.status {
        3 => RunStatus::Active,
        4 | 5 => return Ok(None),
        _ => RunStatus::Starting,
    };
    let id = found.id.clone().unwrap_or_default();
    if !jobs.contains_key(&JobId::from(id.job.as_str())) {
        return Err("its job is not taken over".to_owned());
    }
    let created_at = at(found.created_at);
    let deadline = found.starting_deadline_seconds;
    let deadline = deadline.map(|seconds| {
        at(found
            .created_at
            .saturating_add(seconds.saturating_mul(1_000)))
    });
    let tasks = found.tasks.iter().map(|task| {
        let shown = RunTask {
            started_at: at(task.started_at),
            completed_at: task.completed_at.map(at),
            status: task_state(task.status),
        };
        (task.id.clone(), shown)
    });
    Ok(Some(Run {
        id: RunId::from(id.run.as_str()),
        job: Arc::new(job(&found.job.clone().unwrap_or_default())?),
        status,
        created_at,
        completed_at: None,
        starts_until: deadline,
        tasks: tasks.collect(),
        instance: None,
    }))
}

/// `JobRunTask.Status`
fn task_state(number: i32) -> TaskState {
    match number {
        2 => TaskState::Created,
        3 => TaskState::Staging,
        4 => TaskState::Starting,
        5 => TaskState::Running,
        6 => TaskState::Finished,
        8 => TaskState::Killed,
        _ => TaskState::Failed,
    }
}

#[cfg(test)]
mod tests;
