//! What a Metronome promises, read off what it writes and nothing else: each moment of a schedule has
//! one run at most, none is left out while it lives, `FORBID` has no two at once, what began ends and
//! is remembered, a history has its limit, and who depends on others waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dcos_core::time::Time;
use dcos_marathon::Timestamp;
use dcos_marathon::core::Row;
use dcos_metronome::model::RunId;
use serde_json::Value;

/// A Metronome that slept for longer, or whose clock jumped, may leave moments out.
const AWAKE: Duration = Duration::from_secs(30);
const MINUTE: u64 = 60_000;

/// The rows, and what cannot be read off them.
#[derive(Debug)]
pub(super) struct Ledger {
    history: usize,
    rows: BTreeMap<String, Value>,
    /// Runs that ever were, as they were last.
    runs: BTreeMap<String, Value>,
    /// Those of them that ended.
    ended: BTreeSet<String>,
    /// Runs a user started, and such he stopped.
    started: BTreeSet<String>,
    stopped: BTreeSet<String>,
    /// The newest moment of each job's schedule that has a run.
    triggers: BTreeMap<String, u64>,
    /// When the Metronome last wrote, in this life.
    last: Option<Time>,
    /// Children none of whose parents succeeded since they are there.
    fresh: BTreeSet<String>,
    complaint: Option<String>,
}

/// What one transaction did.
#[derive(Default)]
struct Seen {
    /// The run of a schedule whose moment was not told yet, for each job.
    unclaimed: BTreeMap<String, String>,
    gone: BTreeSet<String>,
}

impl Ledger {
    pub(super) fn new(history: usize) -> Self {
        Self {
            history,
            rows: BTreeMap::new(),
            runs: BTreeMap::new(),
            ended: BTreeSet::new(),
            started: BTreeSet::new(),
            stopped: BTreeSet::new(),
            triggers: BTreeMap::new(),
            last: None,
            fresh: BTreeSet::new(),
            complaint: None,
        }
    }

    /// A user starts a run.
    pub(super) fn started(&mut self, run: &RunId) {
        self.started.insert(run.to_string());
    }

    /// A user stops a run, or deletes its job.
    pub(super) fn stopped(&mut self, run: &RunId) {
        self.stopped.insert(run.to_string());
    }

    /// Another life begins.
    pub(super) fn begin(&mut self) {
        self.last = None;
    }

    /// Nothing runs: whoever ought to have followed somebody was left out.
    pub(super) fn expect_followers(&mut self, ought: impl Fn(&str) -> bool) {
        let jobs = self
            .rows
            .keys()
            .filter_map(|key| key.strip_prefix("metronome/job/"));
        let left_out = jobs
            .filter(|job| !self.fresh.contains(*job))
            .find(|job| ought(job));
        if let Some(job) = left_out {
            let wrong = format!("{job} does not run, though what it depends on succeeded");
            self.complaint.get_or_insert(wrong);
        }
    }

    /// Takes in one transaction.
    pub(super) fn judge(&mut self, now: Time, rows: &[Row]) -> Result<(), String> {
        let due = self.due(now);
        let mut seen = Seen::default();
        for row in rows {
            let Some((kind, name)) = row
                .key
                .strip_prefix("metronome/")
                .and_then(|it| it.split_once('/'))
            else {
                continue;
            };
            let (job, run) = name.split_once('/').unwrap_or((name, ""));
            if let Some(value) = &row.value {
                let value = serde_json::from_slice(value)
                    .map_err(|error| format!("{}: {error}", row.key))?;
                self.put(&mut seen, (kind, job, run), &value)?;
                self.rows.insert(row.key.clone(), value);
                continue;
            }
            self.rows.remove(&row.key);
            match kind {
                "run" => _ = seen.gone.insert(run.to_owned()),
                "job" => {
                    self.triggers.remove(job);
                    self.fresh.remove(job);
                }
                _ => {}
            }
        }
        self.judge_whole(&seen)?;
        // Its clock may have been put back: the moments before have had their turn.
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
        for (job, schedules, moment) in due {
            let spec = self.rows.get(&format!("metronome/job/{job}"));
            let is_same = spec.is_some_and(|spec| spec["schedules"] == schedules);
            if is_same && self.triggered(&job) < moment {
                return Err(format!("the moment {moment} of {job} was left out"));
            }
        }
        self.complaint.take().map_or(Ok(()), Err)
    }

    /// The moments that have come since it last wrote, of schedules that were there then.
    fn due(&self, now: Time) -> Vec<(String, Value, u64)> {
        let Some(last) = self.last.filter(|last| now.since(*last) < AWAKE) else {
            return Vec::new();
        };
        let jobs = self.rows.iter().filter_map(|(key, job)| {
            let name = key.strip_prefix("metronome/job/")?;
            let schedule = job["schedules"].get(0)?;
            let pause = step(schedule)?;
            let moment = now.as_millis() / pause * pause;
            let is_new = moment > last.as_millis() && schedule["enabled"] == true;
            let schedules = job["schedules"].clone();
            (is_new && moment > self.triggered(name)).then(|| (name.to_owned(), schedules, moment))
        });
        jobs.collect()
    }

    /// The moment of its schedule a job last dealt with.
    fn triggered(&self, job: &str) -> u64 {
        let progress = self.rows.get(&format!("metronome/progress/{job}"));
        progress.map_or(0, |progress| moment(&progress["triggered"]))
    }

    fn put(
        &mut self,
        seen: &mut Seen,
        (kind, job, run): (&str, &str, &str),
        value: &Value,
    ) -> Result<(), String> {
        match kind {
            "job" => {
                let before = self.rows.get(&format!("metronome/job/{job}"));
                if before.is_none() {
                    self.fresh.insert(job.to_owned());
                }
                if before.is_none_or(|before| before["schedules"] != value["schedules"]) {
                    self.triggers.remove(job);
                }
            }
            "run" => {
                if self.ended.contains(run) {
                    return Err(format!("run {run} of {job} goes on after its end"));
                }
                if self.runs.insert(run.to_owned(), value.clone()).is_none() {
                    self.begins(seen, job, run, value)?;
                }
            }
            "progress" => {
                let before = self.triggered(job);
                let moment = moment(&value["triggered"]);
                if let Some(run) = seen.unclaimed.remove(job) {
                    let newest = self.triggers.insert(job.to_owned(), moment);
                    if newest.is_some_and(|newest| moment <= newest) || moment == before {
                        return Err(format!("{run} is another run of {job} at {moment}"));
                    }
                    let job = &self.runs[&run]["job"];
                    if step(&job["schedules"][0]).is_none_or(|pause| !moment.is_multiple_of(pause))
                    {
                        let schedules = &job["schedules"];
                        return Err(format!("{run} is not planned for {moment}: {schedules}"));
                    }
                }
            }
            "success" | "failure" => {
                if !self.ended.insert(run.to_owned()) {
                    return Err(format!("run {run} of {job} ends twice"));
                }
                if kind == "success" {
                    self.succeeded(job);
                } else {
                    self.failed(job, run, value)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn begins(
        &mut self,
        seen: &mut Seen,
        job: &str,
        run: &str,
        value: &Value,
    ) -> Result<(), String> {
        if !value["startsUntil"].is_null() {
            let is_forbidden = value["job"]["schedules"][0]["concurrencyPolicy"] == "FORBID";
            if is_forbidden && self.active(job).next().is_some() {
                return Err(format!("{run} begins while {job} runs, which is forbidden"));
            }
            if let Some(other) = seen.unclaimed.insert(job.to_owned(), run.to_owned()) {
                return Err(format!("{run} and {other} are runs of one moment of {job}"));
            }
            return Ok(());
        }
        if self.started.contains(run) {
            return Ok(());
        }
        let parents = value["job"]["dependencies"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let succeeded = |parent: &Value| {
            let parent = parent["id"].as_str().unwrap_or_default();
            let progress = self.rows.get(&format!("metronome/progress/{parent}"));
            progress.is_some_and(|progress| !progress["newest"]["succeededAt"].is_null())
        };
        if parents.is_empty() || !parents.iter().all(succeeded) || self.active(job).next().is_some()
        {
            return Err(format!("{run} of {job} begins, which nobody asked for"));
        }
        Ok(())
    }

    fn succeeded(&mut self, job: &str) {
        let rows = &self.rows;
        self.fresh.retain(|child| {
            let spec = rows.get(&format!("metronome/job/{child}"));
            let parents = spec.and_then(|spec| spec["dependencies"].as_array());
            !parents.is_some_and(|all| all.iter().any(|parent| parent["id"] == job))
        });
    }

    /// A run that is to be repeated until it succeeds ends badly only for want of time, or at somebody's wish.
    fn failed(&self, job: &str, run: &str, info: &Value) -> Result<(), String> {
        let Some(row) = self.runs.get(run) else {
            return Err(format!("run {run} of {job} ended, which never began"));
        };
        let restart = &row["job"]["run"]["restart"];
        let repeats =
            restart["policy"] == "ON_FAILURE" && restart["activeDeadlineSeconds"].is_null();
        let until = moment(&row["startsUntil"]);
        let is_late = until != 0 && moment(&info["finishedAt"]) >= until;
        if repeats && !is_late && !self.stopped.contains(run) {
            return Err(format!(
                "{run} of {job} is given up, though it is to be repeated"
            ));
        }
        Ok(())
    }

    fn active(&self, job: &str) -> impl Iterator<Item = &Value> {
        let first = format!("metronome/run/{job}/");
        let from = self.rows.range(first.clone()..);
        from.take_while(move |(key, _)| key.starts_with(&first))
            .map(|(_, row)| row)
    }

    fn judge_whole(&self, seen: &Seen) -> Result<(), String> {
        if let Some((job, run)) = seen.unclaimed.first_key_value() {
            return Err(format!(
                "the moment of {run} of {job} is not written down with it"
            ));
        }
        if let Some(run) = seen.gone.difference(&self.ended).next() {
            return Err(format!("run {run} is gone, and nothing tells how it ended"));
        }
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for key in self.rows.keys() {
            let mut parts = key.split('/').skip(1);
            let (Some(kind), Some(job)) = (parts.next(), parts.next()) else {
                continue;
            };
            if kind != "job" && !self.rows.contains_key(&format!("metronome/job/{job}")) {
                return Err(format!("{key} is left of a job that is gone"));
            }
            let count = counts.entry((kind, job)).or_default();
            *count += 1;
            if matches!(kind, "success" | "failure") && *count > self.history {
                return Err(format!("{job} has {count} rows of {kind}"));
            }
        }
        Ok(())
    }
}

/// How many milliseconds lie between the moments of a schedule of the simulation.
fn step(schedule: &Value) -> Option<u64> {
    let minutes = schedule["cron"].as_str()?.split(' ').next()?;
    match minutes.strip_prefix("*/") {
        Some(minutes) => Some(minutes.parse::<u64>().ok()? * MINUTE),
        None => (minutes == "*").then_some(MINUTE),
    }
}

/// A moment in milliseconds; 0 is none.
fn moment(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default();
    let moment = text.parse::<Timestamp>().ok();
    moment.map_or(0, |moment| {
        u64::try_from(moment.millis()).unwrap_or_default()
    })
}
