//! A Metronome's user: jobs are created, changed, started, stopped and deleted; they have schedules,
//! or depend on others, and end well, badly or not by themselves.

use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::core::{Batch, RecoverError, Row};
use dcos_marathon::engine::Machine;
use dcos_metronome::core::JobScheduler;
use dcos_metronome::model::{ConcurrencyPolicy, JobId, JobSpec, RunId};
use dcos_metronome::{Config, read};
use serde_json::json;

use super::User;
use super::ledger::Ledger;
use crate::node::{FLAKY, FOREVER};
use crate::sabotage::Sabotage;

/// Jobs whose names begin so run no task twice, whatever becomes of it.
pub(crate) const ONCE: &str = "once";
const JOBS: [&str; 5] = ["once.a", "once.b", "again.a", "again.b", "child"];
const PARENTS: [&str; 2] = ["once.a", "again.a"];

/// Who wants jobs.
#[derive(Debug)]
pub(crate) struct Jobs {
    config: Arc<Config>,
    ledger: Ledger,
    sabotage: Option<Sabotage>,
}

impl Jobs {
    pub(crate) fn new(sabotage: Option<Sabotage>) -> Self {
        // Few, so that there are soon more.
        let history_count = 3;
        Self {
            config: Arc::new(Config {
                history_count,
                ..Config::default()
            }),
            ledger: Ledger::new(history_count),
            sabotage,
        }
    }

    /// A job of that name.
    fn document(&self, name: &str, seed: &mut Seed) -> JobSpec {
        let mut job = document(name, seed);
        if self.sabotage == Some(Sabotage::Strict) {
            for schedule in &mut job.schedules {
                schedule.concurrency_policy = ConcurrencyPolicy::Forbid;
            }
        }
        job
    }

    fn stop(&mut self, core: &mut JobScheduler, now: Time, job: &JobId, run: &RunId) {
        self.ledger.stopped(run);
        core.stop(now, job, run).expect("the run goes on");
    }
}

/// A job of that name.
fn document(name: &str, seed: &mut Seed) -> JobSpec {
    let command = match seed.range(0..10) {
        0 => FOREVER,
        1..5 => FLAKY,
        _ => "work",
    };
    let again = !name.starts_with(ONCE);
    let mut run = json!({"cmd": command, "cpus": 0.2, "mem": 32, "disk": 0});
    run["restart"] = json!({"policy": if again { "ON_FAILURE" } else { "NEVER" }});
    if again && seed.chance(0.3) {
        run["restart"]["activeDeadlineSeconds"] = json!(seed.range(1..60));
    }
    let mut job = json!({"id": name, "run": run});
    if name == "child" {
        job["dependencies"] = PARENTS.map(|id| json!({"id": id})).into();
    } else if seed.chance(0.8) {
        let minutes = [1, 2, 5][seed.index(3)];
        let zone = ["UTC", "Europe/Rome", "America/New_York"][seed.index(3)];
        let policy = ["ALLOW", "FORBID"][seed.index(2)];
        let missed = ["SKIP", "LATEST", "ALL"][seed.index(3)];
        job["schedules"] = json!([{
            "id": "s",
            "cron": format!("*/{minutes} * * * *"),
            "timezone": zone,
            "concurrencyPolicy": policy,
            "startingDeadlineSeconds": seed.range(60..300),
            "missedTriggers": missed,
            "enabled": seed.chance(0.9),
        }]);
    }
    read::job(job, None).expect("the document keeps every rule")
}

impl User for Jobs {
    type Machine = JobScheduler;

    const NAME: &'static str = "metronome";

    fn config(&self) -> &dcos_marathon::Config {
        &self.config.engine
    }

    fn recover<'a>(
        &self,
        seed: Seed,
        now: Time,
        rows: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<JobScheduler, RecoverError> {
        JobScheduler::recover(Arc::clone(&self.config), seed, now, rows)
    }

    fn change_of_mind(&mut self, core: &mut JobScheduler, now: Time, seed: &mut Seed) {
        let name = JOBS[seed.index(JOBS.len())];
        let id = JobId::new(name);
        let Some(job) = core.job(&id).cloned() else {
            // The parents of a child may be missing.
            _ = core.create(now, self.document(name, seed));
            return;
        };
        let some_run = |seed: &mut Seed| {
            let runs: Vec<&RunId> = job.runs.keys().collect();
            (!runs.is_empty()).then(|| runs[seed.index(runs.len())].clone())
        };
        match seed.range(0..10) {
            0..3 => {
                let spec = self.document(name, seed);
                core.update(now, &id, |_| Ok(spec))
                    .expect("dependencies stay as they are");
            }
            3..7 => {
                let run = core.start(now, &id).expect("the job is there");
                self.ledger.started(&run.id);
            }
            7..9 => {
                if let Some(run) = some_run(seed) {
                    self.stop(core, now, &id, &run);
                }
            }
            _ => {
                // One that runs or has children may stay.
                let stops = seed.chance(0.5);
                if core.delete(now, &id, stops).is_ok() {
                    job.runs.keys().for_each(|run| self.ledger.stopped(run));
                }
            }
        }
    }

    fn wait(&mut self, core: &mut JobScheduler, now: Time, _: Duration) -> bool {
        let view = core.view(now);
        for (id, job) in view.jobs.iter() {
            if !job.spec.schedules.is_empty() {
                core.update(now, id, |spec| {
                    Ok(JobSpec {
                        schedules: Vec::new(),
                        ..spec.clone()
                    })
                })
                .expect("a job may have no schedule");
            }
            let endless = job.runs.values();
            let endless = endless.filter(|run| run.job.run.cmd.as_deref() == Some(FOREVER));
            for run in endless {
                self.stop(core, now, id, &run.id);
            }
        }
        view.active == 0 && core.view(now).active == 0
    }

    fn leave(&mut self, core: &mut JobScheduler, now: Time) -> Result<(), String> {
        // Children first.
        for name in JOBS.iter().rev() {
            let id = JobId::new(name);
            if let Some(job) = core.job(&id).cloned() {
                job.runs.keys().for_each(|run| self.ledger.stopped(run));
                core.delete(now, &id, true)
                    .map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn has_left(&self, core: &JobScheduler, now: Time) -> bool {
        let view = core.view(now);
        view.jobs.is_empty() && view.active == 0 && view.waiting.is_empty()
    }

    fn begin(&mut self, _: &JobScheduler, now: Time) -> Result<(), String> {
        self.ledger.begin(now);
        Ok(())
    }

    fn judge(&mut self, now: Time, batch: &Batch) -> Result<(), String> {
        if self.sabotage != Some(Sabotage::Strict) {
            return self.ledger.judge(now, &batch.rows);
        }
        // As its user wanted it, who knows nothing of the sabotage.
        let asked: Vec<Row> = batch.rows.iter().map(allowed).collect();
        self.ledger.judge(now, &asked)
    }

    fn open(&self, core: &JobScheduler, now: Time) -> String {
        let view = core.view(now);
        let runs: Vec<String> = view
            .jobs
            .values()
            .flat_map(|job| job.runs.values())
            .map(|run| {
                let task = run.instance.as_ref().map(|it| (&it.id, it.condition));
                format!("{} {:?} {task:?}", run.key().path(), run.status)
            })
            .collect();
        format!("{} jobs, runs {runs:?}", view.jobs.len())
    }
}

/// A row, but that all schedules in it allow runs side by side.
fn allowed(row: &Row) -> Row {
    let allowed = |value: &Vec<u8>| {
        let text = String::from_utf8_lossy(value);
        text.replace(r#""FORBID""#, r#""ALLOW""#).into_bytes()
    };
    Row {
        key: row.key.clone(),
        value: row.value.as_ref().map(allowed),
    }
}
