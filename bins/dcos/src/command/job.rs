//! `dcos job`: what runs at times, after other jobs, or when it is told to.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::marathon::definition;
use super::{Context, items, text};
use crate::cli::{Job, Schedule};
use crate::http::{Server, escape};
use crate::output;

pub(crate) async fn run(context: &Context, command: Job) -> anyhow::Result<()> {
    let metronome = context.metronome().await?;
    match command {
        Job::Add { file } => {
            let definition = definition(file.as_deref()).await?;
            metronome
                .send("POST", "/v1/jobs", Some(&definition))
                .await?;
            Ok(())
        }
        Job::Update { file } => {
            let definition = definition(file.as_deref()).await?;
            let url = job_url(&text(&definition, "id"));
            metronome.send("PUT", &url, Some(&definition)).await?;
            Ok(())
        }
        Job::Remove {
            id,
            stop_current_job_runs: stop,
        } => {
            let url = format!("{}?stopCurrentJobRuns={stop}", job_url(&id));
            metronome.send("DELETE", &url, None).await?;
            Ok(())
        }
        Job::List => list(context, &metronome).await,
        Job::Show { what, id, run_id } => match (what.as_str(), id) {
            ("runs", Some(id)) => runs(context, &metronome, &id, run_id.as_deref()).await,
            (_, Some(_)) => bail!("either `show JOB` or `show runs JOB`"),
            (id, None) => {
                output::json(&metronome.get(&job_url(id)).await?);
                Ok(())
            }
        },
        Job::Run { id } => {
            let url = format!("{}/runs", job_url(&id));
            let run = metronome.send("POST", &url, None).await?;
            if context.json {
                output::json(&run);
            } else {
                output::line(format!("Run ID: {}", text(&run, "id")));
            }
            Ok(())
        }
        Job::Kill { id, run, all } => kill(&metronome, &id, run, all).await,
        Job::History { id, last, failures } => {
            history(context, &metronome, &id, last, failures).await
        }
        Job::Queue { id } => queue(context, &metronome, id.as_deref()).await,
        Job::Schedule(command) => schedule(context, &metronome, command).await,
    }
}

fn job_url(id: &str) -> String {
    format!("/v1/jobs/{}", escape(id))
}

async fn list(context: &Context, metronome: &Server) -> anyhow::Result<()> {
    let jobs = metronome
        .get("/v1/jobs?embed=activeRuns&embed=historySummary")
        .await?;
    if context.json {
        output::json(&jobs);
        return Ok(());
    }
    let jobs = jobs.as_array().map(Vec::as_slice).unwrap_or_default();
    if context.quiet {
        output::lines(jobs.iter().map(|job| text(job, "id")));
        return Ok(());
    }
    let row = |job: &Value| {
        let history = &job["historySummary"];
        let running = items(job, "activeRuns").len();
        let (well, badly) = (
            text(history, "lastSuccessAt"),
            text(history, "lastFailureAt"),
        );
        let last = match (well.is_empty(), badly.is_empty()) {
            (true, true) => "N/A",
            // Moments of one form sort as they follow each other.
            _ if well > badly => "Success",
            _ => "Failure",
        };
        vec![
            text(job, "id"),
            if running > 0 {
                "Running"
            } else if items(job, "schedules").is_empty() {
                "Unscheduled"
            } else {
                "Scheduled"
            }
            .to_owned(),
            last.to_owned(),
            running.to_string(),
            items(job, "schedules")
                .first()
                .map(|one| text(one, "nextRunAt"))
                .unwrap_or_default(),
        ]
    };
    output::table(
        &["ID", "STATUS", "LAST RUN", "ACTIVE", "NEXT RUN"],
        jobs.iter().map(row),
    );
    Ok(())
}

async fn runs(
    context: &Context,
    metronome: &Server,
    id: &str,
    run: Option<&str>,
) -> anyhow::Result<()> {
    let runs = match run {
        Some(run) => {
            let url = format!("{}/runs/{}", job_url(id), escape(run));
            json!([metronome.get(&url).await?])
        }
        None => metronome.get(&format!("{}/runs", job_url(id))).await?,
    };
    if context.json {
        output::json(&runs);
        return Ok(());
    }
    let runs = runs.as_array().map(Vec::as_slice).unwrap_or_default();
    if context.quiet {
        output::lines(runs.iter().map(|run| text(run, "id")));
        return Ok(());
    }
    let row = |run: &Value| {
        ["id", "jobId", "status", "createdAt"]
            .map(|key| text(run, key))
            .to_vec()
    };
    output::table(
        &["ID", "JOB ID", "STATUS", "STARTED AT"],
        runs.iter().map(row),
    );
    Ok(())
}

async fn kill(metronome: &Server, id: &str, run: Option<String>, all: bool) -> anyhow::Result<()> {
    let runs = if all {
        let runs = metronome.get(&format!("{}/runs", job_url(id))).await?;
        let runs = runs.as_array().into_iter().flatten();
        runs.map(|run| text(run, "id")).collect()
    } else {
        vec![run.context("which run?")?]
    };
    for run in runs {
        let url = format!("{}/runs/{}/actions/stop", job_url(id), escape(&run));
        metronome.send("POST", &url, None).await?;
        output::line(format!("Killed {run}"));
    }
    Ok(())
}

async fn history(
    context: &Context,
    metronome: &Server,
    id: &str,
    last: bool,
    failures: bool,
) -> anyhow::Result<()> {
    let job = metronome
        .get(&format!("{}?embed=history", job_url(id)))
        .await?;
    let history = &job["history"];
    if context.json {
        output::json(history);
        return Ok(());
    }
    let mut runs: Vec<(&str, &Value)> = items(history, "successfulFinishedRuns")
        .iter()
        .map(|run| ("Success", run))
        .collect();
    if failures {
        runs.extend(
            items(history, "failedFinishedRuns")
                .iter()
                .map(|run| ("Failed", run)),
        );
    }
    runs.sort_by_key(|(_, run)| std::cmp::Reverse(text(run, "finishedAt")));
    runs.truncate(if last { 1 } else { usize::MAX });
    if context.quiet {
        output::lines(runs.iter().map(|(_, run)| text(run, "id")));
        return Ok(());
    }
    output::line(format!(
        "{id}  Successful runs: {}  Failed runs: {}",
        text(history, "successCount"),
        text(history, "failureCount")
    ));
    let row = |(how, run): (&str, &Value)| {
        let [run_id, began, ended] = ["id", "createdAt", "finishedAt"].map(|key| text(run, key));
        vec![run_id, how.to_owned(), began, ended]
    };
    output::table(
        &["ID", "STATUS", "STARTED AT", "ENDED AT"],
        runs.into_iter().map(row),
    );
    Ok(())
}

async fn queue(context: &Context, metronome: &Server, id: Option<&str>) -> anyhow::Result<()> {
    let mut queue = metronome.get("/v1/queue").await?;
    if let (Some(id), Some(jobs)) = (id, queue.as_array_mut()) {
        jobs.retain(|job| text(job, "jobId") == id);
    }
    if context.json {
        output::json(&queue);
        return Ok(());
    }
    let jobs = queue.as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = jobs.iter().flat_map(|job| {
        let runs = items(job, "runs").iter();
        runs.map(|run| vec![text(job, "jobId"), text(run, "runId")])
    });
    if context.quiet {
        output::lines(rows.filter_map(|row| row.into_iter().nth(1)));
    } else {
        output::table(&["JOB ID", "RUN ID"], rows);
    }
    Ok(())
}

async fn schedule(context: &Context, metronome: &Server, command: Schedule) -> anyhow::Result<()> {
    match command {
        Schedule::Add { id, file } => {
            let schedule = definition(file.as_deref()).await?;
            let url = format!("{}/schedules", job_url(&id));
            metronome.send("POST", &url, Some(&schedule)).await?;
        }
        Schedule::Update { id, file } => {
            let schedule = definition(file.as_deref()).await?;
            let name = text(&schedule, "id");
            let url = format!("{}/schedules/{}", job_url(&id), escape(&name));
            metronome.send("PUT", &url, Some(&schedule)).await?;
        }
        Schedule::Show { id } => {
            let schedules = metronome
                .get(&format!("{}/schedules", job_url(&id)))
                .await?;
            if context.json {
                output::json(&schedules);
                return Ok(());
            }
            let row = |one: &Value| {
                [
                    "id",
                    "cron",
                    "enabled",
                    "nextRunAt",
                    "concurrencyPolicy",
                    "timezone",
                ]
                .map(|key| text(one, key))
                .to_vec()
            };
            let schedules = schedules.as_array().map(Vec::as_slice).unwrap_or_default();
            if context.quiet {
                output::lines(schedules.iter().map(|one| text(one, "id")));
                return Ok(());
            }
            output::table(
                &[
                    "ID",
                    "CRON",
                    "ENABLED",
                    "NEXT RUN",
                    "CONCURRENCY POLICY",
                    "TIME ZONE",
                ],
                schedules.iter().map(row),
            );
        }
        Schedule::Remove { id, schedule } => {
            let url = format!("{}/schedules/{}", job_url(&id), escape(&schedule));
            metronome.text("DELETE", &url).await?;
        }
    }
    Ok(())
}
