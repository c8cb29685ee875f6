//! How jobs, runs and moments look to clients.

use dcos_marathon::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::{Job, JobSpec, Run, RunInfo, ScheduleSpec};

/// What a client wants to see beside a job itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Embeds {
    pub(super) active_runs: bool,
    pub(super) history: bool,
    pub(super) summary: bool,
}

/// A moment: `2016-07-15T13:02:59.735+0000`, without the colon others write.
pub(super) fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    text.strip_suffix('Z')
        .map_or(text.clone(), |text| format!("{text}+0000"))
}

fn moment_or_null(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| moment(at).into())
}

fn plain(value: &impl serde::Serialize) -> Value {
    // Specs have string keys and finite numbers only, so that writing them cannot fail.
    serde_json::to_value(value).unwrap_or_default()
}

/// A schedule, and when it comes next.
pub(super) fn schedule(schedule: &ScheduleSpec, now: Timestamp) -> Value {
    let mut shown = plain(schedule);
    shown["nextRunAt"] = moment_or_null(schedule.next_after(now));
    shown
}

pub(super) fn schedules(spec: &JobSpec, now: Timestamp) -> Value {
    let all = spec.schedules.iter();
    all.map(|one| schedule(one, now)).collect()
}

/// A job as it was given.
pub(super) fn spec(spec: &JobSpec, now: Timestamp) -> Value {
    let mut shown = plain(spec);
    shown["schedules"] = schedules(spec, now);
    shown
}

/// A job and what is wanted beside it.
pub(super) fn job(job: &Job, embeds: Embeds, now: Timestamp) -> Value {
    let mut shown = spec(&job.spec, now);
    if let Some(why) = &job.too_large {
        shown["tooLarge"] = Value::from(&**why);
    }
    if embeds.active_runs {
        shown["activeRuns"] = runs(job);
    }
    if embeds.history {
        let mut history = summary(job);
        let list = |runs: &mut dyn Iterator<Item = &RunInfo>| runs.map(ended).collect::<Value>();
        let (well, badly) = (&job.history.successful, &job.history.failed);
        history.insert(
            "successfulFinishedRuns".to_owned(),
            list(&mut well.iter().map(AsRef::as_ref)),
        );
        history.insert(
            "failedFinishedRuns".to_owned(),
            list(&mut badly.iter().map(AsRef::as_ref)),
        );
        shown["history"] = Value::Object(history);
    }
    if embeds.summary {
        shown["historySummary"] = Value::Object(summary(job));
    }
    shown
}

fn summary(job: &Job) -> Map<String, Value> {
    let progress = &job.progress;
    [
        ("successCount", progress.success_count.into()),
        ("failureCount", progress.failure_count.into()),
        ("lastSuccessAt", moment_or_null(progress.last_success_at)),
        ("lastFailureAt", moment_or_null(progress.last_failure_at)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn ended(run: &RunInfo) -> Value {
    json!({
        "id": run.id,
        "createdAt": moment(run.created_at),
        "finishedAt": moment(run.finished_at),
        "tasks": run.tasks,
    })
}

/// The runs of a job that go on.
pub(super) fn runs(job: &Job) -> Value {
    job.runs.values().map(|one| run(one)).collect()
}

pub(super) fn run(run: &Run) -> Value {
    let tasks = run.tasks.iter().map(|(id, task)| {
        let mut shown = json!({
            "id": id,
            "startedAt": moment(task.started_at),
            "status": task.status,
        });
        if let Some(at) = task.completed_at {
            shown["completedAt"] = moment(at).into();
        }
        shown
    });
    json!({
        "id": run.id,
        "jobId": run.job.id,
        "status": run.status,
        "createdAt": moment(run.created_at),
        "completedAt": moment_or_null(run.completed_at),
        "tasks": tasks.collect::<Value>(),
    })
}
