//! What a Metronome promises, read off what it writes and nothing else.
//!
//! Each moment of a schedule has one run at most, in its order and not before its time; none is left
//! out while a Metronome lives, and afterwards as `missedTriggers` says; `FORBID`, and nothing else,
//! keeps a run from beginning. What a user started is written down, what began ends once, is counted
//! and remembered, a history has its limit and loses its oldest first. A run is of its job as that was
//! when it began, has one task at a time, and is given up only for a reason. Who depends on others waits
//! for them, once for each of their successes, and then runs.

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
/// So many missed moments are made up at most.
const MADE_UP: u64 = 100;

/// The rows, and what cannot be read off them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    history: usize,
    rows: BTreeMap<String, Value>,
    /// Runs that ever were, as they were last written.
    written: BTreeMap<String, Value>,
    /// The same as this life knows them.
    runs: BTreeMap<String, Value>,
    /// Those of them that ended, in their order.
    ended: BTreeMap<String, u64>,
    /// How much happened: clocks tell no order.
    moves: u64,
    /// When a run of each job last began or ended well.
    moved: BTreeMap<String, u64>,
    /// The newest run of each job, and when it ended well.
    newest: BTreeMap<String, (String, Option<u64>)>,
    /// How many of each job ended well and badly.
    counts: BTreeMap<String, [u64; 2]>,
    /// Runs a user started, such that are not written down yet, and such he stopped.
    started: BTreeSet<String>,
    promised: BTreeSet<String>,
    stopped: BTreeSet<String>,
    /// The newest moment of each job's schedule that has a run.
    triggers: BTreeMap<String, u64>,
    /// When this life of the Metronome began, by the earliest its clock showed.
    born: Option<Time>,
    /// When the Metronome last wrote, in this life.
    last: Option<Time>,
    /// Children none of whose parents succeeded since they are there.
    fresh: BTreeSet<String>,
}

/// What one transaction did.
#[derive(Default)]
struct Seen {
    /// The run of a schedule whose moment was not told yet, for each job.
    unclaimed: BTreeMap<String, String>,
    /// Jobs that got another schedule, from which on moments count anew.
    rescheduled: BTreeSet<String>,
    /// What was deleted: kind, job and run.
    gone: Vec<(String, String, String)>,
}

impl Ledger {
    pub(super) fn new(history: usize) -> Self {
        Self {
            history,
            ..Self::default()
        }
    }

    /// A user starts a run.
    pub(super) fn started(&mut self, run: &RunId) {
        self.started.insert(run.to_string());
        self.promised.insert(run.to_string());
    }

    /// A user stops a run, or deletes its job.
    pub(super) fn stopped(&mut self, run: &RunId) {
        self.stopped.insert(run.to_string());
    }

    /// Another life begins: what was not written down is forgotten.
    pub(super) fn begin(&mut self, now: Time) {
        self.promised.clear();
        // A stop that was written has ended its run.
        self.stopped.clear();
        self.last = None;
        self.born = Some(now);
        let runs = self.written.iter();
        let runs = runs.map(|(id, run)| (id.clone(), read_at(now, run)));
        self.runs = runs.collect();
    }

    /// Takes in one transaction.
    pub(super) fn judge(&mut self, now: Time, rows: &[Row]) -> Result<(), String> {
        self.born = Some(self.born.map_or(now, |born| born.min(now)));
        let due = self.due(now);
        let mut seen = Seen::default();
        for row in rows {
            let (kind, job, run) = parts(&row.key)?;
            if let Some(value) = &row.value {
                let value = serde_json::from_slice(value)
                    .map_err(|error| format!("{}: {error}", row.key))?;
                self.put(now, &mut seen, (kind, job, run), &value)?;
                self.rows.insert(row.key.clone(), value);
            } else {
                self.rows.remove(&row.key);
                let name = |it: &str| it.to_owned();
                seen.gone.push((name(kind), name(job), name(run)));
                if kind == "job" {
                    self.triggers.remove(job);
                    self.fresh.remove(job);
                    self.counts.remove(job);
                    self.moved.remove(job);
                    self.newest.remove(job);
                }
            }
        }
        self.judge_whole(now, &seen)?;
        // Its clock may have been put back: the moments before have had their turn.
        self.last = Some(self.last.map_or(now, |last| last.max(now)));
        for (job, schedules, moment) in due {
            let spec = self.rows.get(&format!("metronome/job/{job}"));
            let is_same = spec.is_some_and(|spec| spec["schedules"] == schedules);
            if is_same && self.triggered(&job) < moment {
                return Err(format!("the moment {moment} of {job} was left out"));
            }
        }
        Ok(())
    }

    /// The moments that have come since it last wrote, and those that came while it was away and are to be
    /// made up, of schedules that were there then.
    fn due(&self, now: Time) -> Vec<(String, Value, u64)> {
        let awake = self.last.filter(|last| now.since(*last) < AWAKE);
        let jobs = self.rows.iter().filter_map(|(key, job)| {
            let name = key.strip_prefix("metronome/job/")?;
            let schedule = &job["schedules"][0];
            let pause = step(schedule)?;
            let moment = now.as_millis() / pause * pause;
            let triggered = self.triggered(name);
            let is_made_up = made_up(schedule) && triggered != 0;
            let is_new = awake.is_some_and(|last| moment > last.as_millis());
            let is_due = schedule["enabled"] == true && (is_new || is_made_up);
            let schedules = job["schedules"].clone();
            (is_due && moment > triggered).then(|| (name.to_owned(), schedules, moment))
        });
        jobs.collect()
    }

    /// The moment of its schedule a job last dealt with.
    fn triggered(&self, job: &str) -> u64 {
        moment(&self.progress(job)["triggered"])
    }

    fn progress(&self, job: &str) -> &Value {
        let progress = self.rows.get(&format!("metronome/progress/{job}"));
        progress.unwrap_or(&Value::Null)
    }

    fn put(
        &mut self,
        now: Time,
        seen: &mut Seen,
        (kind, job, run): (&str, &str, &str),
        value: &Value,
    ) -> Result<(), String> {
        match kind {
            "framework" => {}
            "job" => {
                let nothing = Value::Null;
                let key = format!("metronome/job/{job}");
                let before = self.rows.get(&key).unwrap_or(&nothing);
                if before["dependencies"] != value["dependencies"] {
                    self.fresh.insert(job.to_owned());
                }
                if before["schedules"] != value["schedules"] {
                    self.triggers.remove(job);
                    seen.rescheduled.insert(job.to_owned());
                }
            }
            "run" => {
                if self.ended.contains_key(run) {
                    return Err(format!("run {run} of {job} goes on after its end"));
                }
                self.written.insert(run.to_owned(), value.clone());
                match self.runs.insert(run.to_owned(), value.clone()) {
                    None => {
                        self.begins(seen, job, run, value)?;
                        self.moves += 1;
                        self.moved.insert(job.to_owned(), self.moves);
                        self.newest.insert(job.to_owned(), (run.to_owned(), None));
                    }
                    Some(before) => goes_on(job, run, &before, value)?,
                }
                self.promised.remove(run);
            }
            "progress" => {
                let triggered = moment(&value["triggered"]);
                self.triggers(now, seen, job, triggered)?;
            }
            "success" | "failure" => {
                self.moves += 1;
                if self.ended.insert(run.to_owned(), self.moves).is_some() {
                    return Err(format!("run {run} of {job} ends twice"));
                }
                let is_success = kind == "success";
                let counts = self.counts.entry(job.to_owned()).or_default();
                counts[usize::from(!is_success)] += 1;
                self.ends(job, run, value, is_success)?;
                if is_success {
                    self.succeeded(job, run);
                }
            }
            _ => return Err(format!("{kind}/{job} is no row of a Metronome")),
        }
        Ok(())
    }

    /// A job says which moment of its schedule it dealt with last: with a run, or because it may not run.
    fn triggers(
        &mut self,
        now: Time,
        seen: &mut Seen,
        job: &str,
        moment: u64,
    ) -> Result<(), String> {
        let before = self.triggered(job);
        let run = seen.unclaimed.remove(job);
        if run.is_none() && (moment == before || seen.rescheduled.remove(job)) {
            return Ok(());
        }
        let spec = self.rows.get(&format!("metronome/job/{job}"));
        let schedule = spec.map_or(&Value::Null, |spec| &spec["schedules"][0]);
        let newest = match &run {
            Some(_) => self.triggers.insert(job.to_owned(), moment),
            None => None,
        };
        let what = run.as_deref().unwrap_or("nothing");
        if moment == before || newest.is_some_and(|newest| moment <= newest) {
            return Err(format!("{what} is another run of {job} at {moment}"));
        }
        let Some(pause) = step(schedule).filter(|pause| moment.is_multiple_of(*pause)) else {
            return Err(format!("{what} is not planned for {moment}: {schedule}"));
        };
        if schedule["enabled"] != true {
            return Err(format!("{what} is of a schedule of {job} that is off"));
        }
        if moment > now.as_millis() {
            return Err(format!("{what} of {job} begins before {moment}"));
        }
        if moment < before {
            return Err(format!("{job} goes back from {before} to {moment}"));
        }
        let is_forbidden = schedule["concurrencyPolicy"] == "FORBID";
        if run.is_none() && !(is_forbidden && self.active(job).next().is_some()) {
            return Err(format!("{job} does not run at {moment}, though it may"));
        }
        let born = self.born.map_or(0, Time::as_millis);
        if !made_up(schedule) && moment <= born {
            return Err(format!("{what} of {job} makes up for {moment}, unasked"));
        }
        let newer = (now.as_millis() / pause * pause - moment) / pause;
        let is_next = before == 0 || moment == before / pause * pause + pause;
        if schedule["missedTriggers"] == "ALL" && !is_next && newer + 1 < MADE_UP {
            return Err(format!("{job} skips from {before} to {moment}"));
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
        let spec = &value["job"];
        if self.rows.get(&format!("metronome/job/{job}")) != Some(spec) {
            return Err(format!("{run} is not of {job} as that is"));
        }
        if !value["startsUntil"].is_null() {
            let schedule = &spec["schedules"][0];
            let is_forbidden = schedule["concurrencyPolicy"] == "FORBID";
            if is_forbidden && self.active(job).next().is_some() {
                return Err(format!("{run} begins while {job} runs, which is forbidden"));
            }
            let within = schedule["startingDeadlineSeconds"].as_u64().unwrap_or(0);
            if moment(&value["startsUntil"]) != moment(&value["createdAt"]) + within * 1000 {
                return Err(format!("{run} of {job} may not start within its deadline"));
            }
            if let Some(other) = seen.unclaimed.insert(job.to_owned(), run.to_owned()) {
                return Err(format!("{run} and {other} are runs of one moment of {job}"));
            }
            return Ok(());
        }
        let follows = self.may_follow(job) && self.active(job).next().is_none();
        if follows || self.started.contains(run) {
            return Ok(());
        }
        Err(format!("{run} of {job} begins, which nobody asked for"))
    }

    /// Whether all a job depends on has succeeded since it last ran.
    fn may_follow(&self, job: &str) -> bool {
        let spec = self.rows.get(&format!("metronome/job/{job}"));
        let parents = spec.and_then(|spec| spec["dependencies"].as_array());
        let parents = parents.map_or(&[][..], Vec::as_slice);
        let since = self.moved.get(job).copied();
        let mut succeeded = parents.iter().map(|parent| {
            let newest = self.newest.get(parent["id"].as_str().unwrap_or_default());
            newest.and_then(|(_, succeeded)| *succeeded)
        });
        !parents.is_empty() && succeeded.all(|at| at.is_some() && at > since)
    }

    fn succeeded(&mut self, job: &str, run: &str) {
        self.moved.insert(job.to_owned(), self.moves);
        if let Some((_, succeeded)) = self.newest.get_mut(job).filter(|it| it.0 == run) {
            *succeeded = Some(self.moves);
        }
        let rows = &self.rows;
        self.fresh.retain(|child| {
            let spec = rows.get(&format!("metronome/job/{child}"));
            let parents = spec.and_then(|spec| spec["dependencies"].as_array());
            !parents.is_some_and(|all| all.iter().any(|parent| parent["id"] == job))
        });
    }

    /// A run ends: well with a task; badly with a task that is not to be repeated, for want of time, or at
    /// somebody's wish.
    fn ends(&self, job: &str, run: &str, info: &Value, is_success: bool) -> Result<(), String> {
        let Some(row) = self.runs.get(run) else {
            return Err(format!("run {run} of {job} ended, which never began"));
        };
        let has_task = !row["instance"].is_null();
        if is_success {
            let wrong = || Err(format!("run {run} of {job} succeeded without a task"));
            return if has_task { Ok(()) } else { wrong() };
        }
        let restart = &row["job"]["run"]["restart"];
        let finished = moment(&info["finishedAt"]);
        let is_past = |until: u64| until != 0 && finished >= until;
        let within = restart["activeDeadlineSeconds"].as_u64();
        let until = within.map_or(0, |within| moment(&row["createdAt"]) + within * 1000);
        let repeats = restart["policy"] == "ON_FAILURE";
        let is_over = has_task && (!repeats || is_past(until));
        if is_over || is_past(moment(&row["startsUntil"])) || self.stopped.contains(run) {
            return Ok(());
        }
        let why = if has_task {
            "though it is to be repeated"
        } else {
            "before it ran"
        };
        Err(format!("{run} of {job} is given up, {why}"))
    }

    fn active(&self, job: &str) -> impl Iterator<Item = &Value> {
        let first = format!("metronome/run/{job}/");
        let from = self.rows.range(first.clone()..);
        from.take_while(move |(key, _)| key.starts_with(&first))
            .map(|(_, row)| row)
    }

    fn judge_whole(&self, now: Time, seen: &Seen) -> Result<(), String> {
        if let Some((job, run)) = seen.unclaimed.first_key_value() {
            return Err(format!(
                "the moment of {run} of {job} is not written down with it"
            ));
        }
        if let Some(run) = self.promised.first() {
            return Err(format!("run {run} was started, and is not written down"));
        }
        for (kind, job, run) in &seen.gone {
            let is_there = self.rows.contains_key(&format!("metronome/job/{job}"));
            if kind == "run" && !self.ended.contains_key(run) {
                return Err(format!("run {run} is gone, and nothing tells how it ended"));
            }
            if kind == "progress" && is_there {
                return Err(format!("{job} forgets when it ran"));
            }
            if matches!(&**kind, "success" | "failure") && is_there {
                let first = format!("metronome/{kind}/{job}/");
                let kept = self.rows.range(first.clone()..).map_while(|(key, _)| {
                    let run = key.strip_prefix(&first)?;
                    Some(self.ended.get(run))
                });
                let kept: Vec<_> = kept.collect();
                let ended = self.ended.get(run);
                if kept.len() < self.history || kept.iter().any(|other| *other < ended) {
                    return Err(format!("{job} forgets {run} before its time"));
                }
            }
        }
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for key in self.rows.keys() {
            let (kind, job, run) = parts(key)?;
            let is_there = self.rows.contains_key(&format!("metronome/job/{job}"));
            if !matches!(kind, "job" | "framework") && !is_there {
                return Err(format!("{key} is left of a job that is gone"));
            }
            let count = counts.entry((kind, job)).or_default();
            *count += 1;
            match kind {
                "job" => self.judge_job(job)?,
                "run" => self.judge_run(now, run)?,
                "success" | "failure" if *count > self.history => {
                    return Err(format!("{job} has {count} rows of {kind}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Its counts are those of the runs that ended, and it runs when those it depends on succeeded.
    fn judge_job(&self, job: &str) -> Result<(), String> {
        let told = self.progress(job);
        let told =
            [&told["successCount"], &told["failureCount"]].map(|it| it.as_u64().unwrap_or(0));
        let counted = self.counts.get(job).copied().unwrap_or_default();
        if told != counted {
            return Err(format!("{job} counts {told:?} runs, and {counted:?} ended"));
        }
        let is_idle = self.active(job).next().is_none() && !self.fresh.contains(job);
        if is_idle && self.may_follow(job) {
            return Err(format!(
                "{job} does not run, though what it depends on succeeded"
            ));
        }
        Ok(())
    }

    fn judge_run(&self, now: Time, run: &str) -> Result<(), String> {
        if self.ended.contains_key(run) {
            return Err(format!("run {run} ended, and is still there"));
        }
        let nothing = Value::Null;
        let value = self.runs.get(run).unwrap_or(&nothing);
        let until = moment(&value["startsUntil"]);
        let is_waiting = value["status"] == "STARTING" && value["instance"].is_null();
        if is_waiting && until != 0 && until <= now.as_millis() {
            return Err(format!("run {run} waits, though it should have started"));
        }
        Ok(())
    }
}

/// A run as a life reads it whose clock shows `now`: it was not made later, and if it waits, has all its time.
fn read_at(now: Time, run: &Value) -> Value {
    let mut run = run.clone();
    let [made, until] = ["createdAt", "startsUntil"].map(|it| moment(&run[it]));
    let now = now.as_millis();
    if now < made {
        let text = |millis| Timestamp::from(Time::from_millis(millis)).to_string();
        run["createdAt"] = text(now).into();
        if until != 0 {
            run["startsUntil"] = text(now + until - made).into();
        }
    }
    run
}

/// What a run was made as, it stays; and no task of it begins before the one before is gone.
fn goes_on(job: &str, run: &str, before: &Value, after: &Value) -> Result<(), String> {
    for field in ["job", "createdAt", "startsUntil"] {
        if before[field] != after[field] {
            return Err(format!(
                "run {run} of {job} has another {field} than before"
            ));
        }
    }
    let tasks = [before, after].map(|it| &it["instance"]["taskId"]);
    if tasks.iter().all(|task| !task.is_null()) && tasks[0] != tasks[1] {
        return Err(format!("run {run} of {job} has two tasks at once"));
    }
    Ok(())
}

/// What a key is of: kind, job and run.
fn parts(key: &str) -> Result<(&str, &str, &str), String> {
    let rest = key.strip_prefix("metronome/");
    let rest = rest.ok_or_else(|| format!("{key} is no row of a Metronome"))?;
    let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (job, run) = name.split_once('/').unwrap_or((name, ""));
    Ok((kind, job, run))
}

/// Whether moments that passed while no Metronome was there are made up.
fn made_up(schedule: &Value) -> bool {
    !matches!(schedule["missedTriggers"].as_str(), None | Some("SKIP"))
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
pub(super) fn moment(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_default();
    let moment = text.parse::<Timestamp>().ok();
    moment.map_or(0, |moment| {
        u64::try_from(moment.millis()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests;
