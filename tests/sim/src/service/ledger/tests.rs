//! Histories, as a Metronome would write them: lawful ones pass, and each law has one that breaks it.
//!
//! A line is a transaction at that second; what is in it, and what a row holds that is not said, is as the
//! core writes it (see [`Scribe::write`]).

use serde_json::json;

use super::*;

/// Writes rows from words.
#[derive(Default)]
struct Scribe {
    specs: BTreeMap<String, Value>,
    progress: BTreeMap<String, Value>,
    runs: BTreeMap<String, Value>,
    rows: Vec<Row>,
    now: u64,
}

fn stamp(seconds: u64) -> Value {
    let millis = i64::try_from(seconds * 1000).unwrap();
    json!(Timestamp::from_millis(millis))
}

impl Scribe {
    /// What follows a name and `=`.
    fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
        let mut found = words.iter().filter_map(|word| word.strip_prefix(name));
        found.find_map(|rest| rest.strip_prefix('='))
    }

    fn number(words: &[&str], name: &str) -> Option<u64> {
        Self::value(words, name).map(|text| text.parse().unwrap())
    }

    fn put(&mut self, key: &str, value: &Value) {
        self.rows.push(Row::put(format!("metronome/{key}"), value));
    }

    fn note(&mut self, job: &str, change: impl FnOnce(&mut Value)) {
        let progress = self.progress.entry(job.to_owned());
        let progress = progress.or_insert_with(|| json!({"successCount": 0, "failureCount": 0}));
        change(progress);
        let progress = progress.clone();
        self.put(&format!("progress/{job}"), &progress);
    }

    fn write(&mut self, words: &[&str]) {
        let has = |word: &str| words.contains(&word);
        let job = words.get(1).copied().unwrap_or_default();
        let run = words.get(2).copied().unwrap_or_default();
        match words[0] {
            "job" => self.job(job, words),
            "run" => self.run(job, run, words),
            // A moment is dealt with, without a run.
            "skip" => {
                let moment = stamp(Self::number(words, "for").unwrap());
                self.note(job, |progress| progress["triggered"] = moment);
            }
            kind @ ("success" | "failure") => {
                let key = format!("metronome/run/{job}/{run}");
                if !has("stays") {
                    self.rows.push(Row::delete(key));
                }
                let info = json!({"id": run, "finishedAt": stamp(self.now)});
                self.put(&format!("{kind}/{job}/{run}"), &info);
                let now = stamp(self.now);
                if !has("uncounted") {
                    self.note(job, |progress| {
                        let count = &mut progress[format!("{kind}Count")];
                        *count = json!(count.as_u64().unwrap() + 1);
                        if kind == "success" {
                            progress["lastSuccessAt"] = now.clone();
                            if progress["newest"]["id"] == run {
                                progress["newest"]["succeededAt"] = now;
                            }
                        }
                    });
                }
            }
            "delete" => self.rows.push(Row::delete(format!("metronome/{job}"))),
            "put" => self.put(job, &json!({})),
            other => panic!("{other} is no word of a scribe"),
        }
    }

    fn job(&mut self, job: &str, words: &[&str]) {
        let has = |word: &str| words.contains(&word);
        let parents = Self::value(words, "after").map_or(Vec::new(), |it| it.split(',').collect());
        let parents: Vec<Value> = parents.iter().map(|id| json!({"id": id})).collect();
        let policy = if has("again") { "ON_FAILURE" } else { "NEVER" };
        let mut spec = json!({
            "id": job,
            "dependencies": parents,
            "schedules": [],
            "run": {"restart": {"policy": policy}},
        });
        if let Some(seconds) = Self::number(words, "active") {
            spec["run"]["restart"]["activeDeadlineSeconds"] = json!(seconds);
        }
        if let Some(minutes) = Self::number(words, "every") {
            spec["schedules"] = json!([{
                "id": "s",
                "cron": format!("*/{minutes} * * * *"),
                "concurrencyPolicy": if has("FORBID") { "FORBID" } else { "ALLOW" },
                "startingDeadlineSeconds": 120,
                "enabled": !has("off"),
                "missedTriggers": Self::value(words, "missed").unwrap_or("SKIP"),
            }]);
        }
        self.put(&format!("job/{job}"), &spec);
        let before = self.specs.insert(job.to_owned(), spec.clone());
        let is_other = before.is_none_or(|before| before["schedules"] != spec["schedules"]);
        if is_other && spec["schedules"] != json!([]) {
            let now = stamp(self.now);
            self.note(job, |progress| progress["triggered"] = now);
        }
    }

    fn run(&mut self, job: &str, run: &str, words: &[&str]) {
        let has = |word: &str| words.contains(&word);
        let now = stamp(self.now);
        let moment = Self::number(words, "for");
        let is_new = !self.runs.contains_key(run);
        let fresh = || {
            json!({
                "id": run,
                "job": self.specs[job].clone(),
                "status": "STARTING",
                "createdAt": now.clone(),
            })
        };
        let mut row = self.runs.get(run).cloned().unwrap_or_else(fresh);
        if moment.is_some() {
            let until = self.now + Self::number(words, "within").unwrap_or(120);
            row["startsUntil"] = stamp(until);
        }
        if let Some(task) = Self::value(words, "task") {
            row["instance"] = json!({"taskId": task});
            row["status"] = json!("ACTIVE");
        }
        if has("idle") {
            row["instance"] = Value::Null;
        }
        if has("other") {
            row["job"]["description"] = json!("another");
        }
        self.put(&format!("run/{job}/{run}"), &row);
        self.runs.insert(run.to_owned(), row);
        if is_new && !has("silent") {
            self.note(job, |progress| {
                progress["lastStartedAt"] = now;
                progress["newest"] = json!({"id": run});
                if let Some(moment) = moment {
                    progress["triggered"] = stamp(moment);
                }
            });
        }
    }
}

/// What the ledger says to a history.
fn judged(history: &str) -> Result<(), String> {
    let mut ledger = Ledger::new(2);
    let mut scribe = Scribe::default();
    for line in history.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let (now, words) = line.split_once(' ').unwrap_or((line, ""));
        scribe.now = now.parse().expect("a line begins with its second");
        let now = Time::from_secs(scribe.now);
        for words in words.split(';').filter(|it| !it.trim().is_empty()) {
            let words: Vec<&str> = words.split_whitespace().collect();
            let run = || RunId::from(words[1]);
            match words[0] {
                "started" => ledger.started(&run()),
                "stopped" => ledger.stopped(&run()),
                "reborn" => ledger.begin(now),
                _ => scribe.write(&words),
            }
        }
        let rows = std::mem::take(&mut scribe.rows);
        ledger
            .judge(now, &rows)
            .map_err(|it| format!("{now:?}: {it}"))?;
    }
    Ok(())
}

/// A lawful history, what is added to it to break a law, and what is said then.
fn check(lawful: &str, breach: &str, expected: &str) {
    assert_eq!(judged(lawful), Ok(()), "{lawful}");
    match judged(breach) {
        Ok(()) => panic!("nobody minds that {expected}:\n{breach}"),
        Err(wrong) => assert!(
            wrong.contains(expected),
            "{wrong}, not {expected}:\n{breach}"
        ),
    }
}

/// A job that runs each minute, and one that ran once.
const EACH: &str = "610 job a every=1\n";
const RAN: &str = "610 job a\n620 started r1; run a r1 task=t\n630 success a r1\n";

#[test]
fn each_moment_of_a_schedule_has_its_run() {
    let ran = format!("{EACH}650\n665 run a r1 for=660\n");
    check(
        &ran,
        &format!("{EACH}650\n665"),
        "the moment 660000 of a was left out",
    );
    for (more, expected) in [
        ("run a r2 for=660", "r2 is another run of a at 660000"),
        ("run a r2 for=700", "r2 is not planned for 700000"),
        ("run a r2 for=720", "r2 of a begins before 720000"),
        ("skip a for=720", "nothing of a begins before 720000"),
    ] {
        check(&ran, &format!("{ran}710 {more}"), expected);
    }
    for (run, expected) in [
        (
            "run a r1 for=660 silent",
            "the moment of r1 of a is not written",
        ),
        (
            "run a r1 for=660 silent; run a r2 for=660",
            "r2 and r1 are runs of one moment",
        ),
        (
            "run a r1 for=660 within=60",
            "r1 of a may not start within its deadline",
        ),
    ] {
        check(&ran, &format!("{EACH}665 {run}"), expected);
    }
    let off = "610 job a every=1 off\n665 run a r1 for=660";
    check(&ran, off, "r1 is of a schedule of a that is off");
}

#[test]
fn forbid_and_nothing_else_keeps_a_run_from_beginning() {
    let goes_on = |policy| format!("610 job a every=1 {policy}\n620 started r1; run a r1\n");
    let (forbid, allow) = (goes_on("FORBID"), goes_on("ALLOW"));
    let (skip, run) = ("665 skip a for=660\n", "665 run a r2 for=660\n");
    check(
        &(forbid.clone() + skip),
        &(allow.clone() + skip),
        "does not run at 660000, though it may",
    );
    check(
        &(allow + run),
        &(forbid.clone() + run),
        "r2 begins while a runs, which is forbidden",
    );
    let idle = "610 job a every=1 FORBID\n665 skip a for=660";
    check(
        &(forbid.clone() + skip),
        idle,
        "does not run at 660000, though it may",
    );
    let back = "725 skip a for=720\n";
    check(
        &(forbid.clone() + back),
        &(forbid + back + skip),
        "goes back from 720000 to 660000",
    );
}

#[test]
fn what_was_missed_is_made_up_as_was_asked_for() {
    let life =
        |missed: &str, then: &str| format!("610 job a every=1 missed={missed}\n725 reborn; {then}");
    let latest = "run a r2 for=720";
    let all = "run a r1 for=660; run a r2 for=720";
    check(
        &life("SKIP", ""),
        &life("SKIP", latest),
        "r2 of a makes up for 720000, unasked",
    );
    check(
        &life("LATEST", latest),
        &life("LATEST", ""),
        "the moment 720000 of a was left out",
    );
    check(
        &life("ALL", all),
        &life("ALL", latest),
        "a skips from 610000 to 720000",
    );
    check(
        &life("ALL", all),
        &life("ALL", "run a r1 for=660"),
        "720000 of a was left out",
    );
    // A hundred are as many as are made up.
    let from = |first: u64| {
        let runs = (first..=7200).step_by(60);
        let runs: Vec<String> = runs.map(|it| format!("run a r{it} for={it}")).collect();
        format!(
            "610 job a every=1 missed=ALL\n7205 reborn; {}",
            runs.join("; ")
        )
    };
    check(&from(1260), &from(1320), "a skips from 610000 to 1320000");
}

#[test]
fn what_began_ends_once_and_is_remembered() {
    for (more, expected) in [
        ("run a r1", "run r1 of a goes on after its end"),
        ("failure a r1", "run r1 of a ends twice"),
        ("failure a r2", "run r2 of a ended, which never began"),
        ("delete success/a/r1", "a forgets r1 before its time"),
        ("delete progress/a", "a forgets when it ran"),
        ("delete job/a", "is left of a job that is gone"),
        ("put other/a", "other/a is no row of a Metronome"),
    ] {
        check(RAN, &format!("{RAN}640 {more}"), expected);
    }
    let running = "610 job a\n620 started r1; run a r1 task=t\n";
    for (end, expected) in [
        (
            "delete run/a/r1",
            "run r1 is gone, and nothing tells how it ended",
        ),
        ("success a r1 stays", "run r1 ended, and is still there"),
        (
            "success a r1 uncounted",
            "a counts [0, 0] runs, and [1, 0] ended",
        ),
        ("run a r1 other", "run r1 of a has another job than before"),
        ("run a r1 task=u", "run r1 of a has two tasks at once"),
        (
            "run a r1 idle; success a r1",
            "run r1 of a succeeded without a task",
        ),
    ] {
        check(RAN, &format!("{running}630 {end}"), expected);
    }
    let again = format!("{running}630 run a r1 idle; run a r1 task=u\n640 success a r1");
    assert_eq!(judged(&again), Ok(()));
    let gone = "640 delete job/a; delete progress/a; delete success/a/r1\n650 job a";
    assert_eq!(judged(&format!("{RAN}{gone}")), Ok(()));
}

#[test]
fn a_history_loses_its_oldest_when_it_is_full() {
    let more =
        "640 started r2; run a r2 task=t\n650 success a r2\n660 started r3; run a r3 task=t\n";
    let third = |gone| format!("{RAN}{more}670 success a r3; {gone}");
    let lawful = third("delete success/a/r1");
    check(&lawful, &third(""), "a has 3 rows of success");
    check(
        &lawful,
        &third("delete success/a/r3"),
        "a forgets r3 before its time",
    );
    // What comes later is younger, whatever the clock says.
    let more =
        "30 reborn; started r2; run a r2 task=t\n31 success a r2\n32 started r3; run a r3 task=t\n";
    let third = |gone| format!("{RAN}{more}33 success a r3; {gone}");
    check(
        &third("delete success/a/r1"),
        &third("delete success/a/r2"),
        "a forgets r2 before its time",
    );
}

#[test]
fn a_run_begins_and_is_given_up_for_a_reason() {
    let started = "610 job a\n620 started r1; run a r1\n";
    check(
        started,
        "610 job a\n620 started r1",
        "run r1 was started, and is not written down",
    );
    check(
        started,
        "610 job a\n620 run a r1",
        "r1 of a begins, which nobody asked for",
    );
    check(
        started,
        "610 job a\n620 started r1; run a r1 other",
        "r1 is not of a as that is",
    );
    let lawful = format!("{started}630 stopped r1; failure a r1");
    check(
        &lawful,
        &format!("{started}630 failure a r1"),
        "r1 of a is given up, before it ran",
    );
    let fails =
        |job, at| format!("610 job a {job}\n620 started r1; run a r1 task=t\n{at} failure a r1");
    let repeated = "r1 of a is given up, though it is to be repeated";
    check(&fails("", 630), &fails("again", 630), repeated);
    check(
        &fails("again active=30", 650),
        &fails("again active=30", 649),
        repeated,
    );
    let late = "610 job a every=5\n905 run a r1 for=900\n";
    let given_up = format!("{late}1025 failure a r1");
    check(
        &given_up,
        &format!("{late}1024 failure a r1"),
        "is given up, before it ran",
    );
    check(
        &given_up,
        &format!("{late}1025"),
        "run r1 waits, though it should have started",
    );
    // By a clock that is behind it has all its time.
    let behind = format!("{late}305 reborn\n");
    let given_up = format!("{behind}425 failure a r1");
    check(
        &given_up,
        &format!("{behind}424 failure a r1"),
        "is given up, before it ran",
    );
    check(
        &given_up,
        &format!("{behind}425"),
        "run r1 waits, though it should have started",
    );
}

#[test]
fn children_follow_each_success_of_all_their_parents_once() {
    let family = "600 job p; job q; job c after=p,q\n610 started p1; run p p1 task=t\n\
                  611 started q1; run q q1 task=t\n620 success p p1\n";
    let follows = format!("{family}630 success q q1; run c c1 task=t\n");
    check(
        &follows,
        &format!("{family}630 success q q1"),
        "c does not run, though",
    );
    check(
        &follows,
        &format!("{family}625 run c c1"),
        "c1 of c begins, which nobody asked for",
    );
    let over = format!("{follows}640 success c c1");
    check(
        &over,
        &format!("{over}; run c c2"),
        "c2 of c begins, which nobody asked for",
    );
    let behind =
        "10 reborn; started p2; run p p2 task=t; started q2; run q q2 task=t\n11 success p p2\n";
    check(
        &format!("{over}\n{behind}12 success q q2; run c c2 task=t"),
        &format!("{over}\n{behind}12 success q q2"),
        "c does not run, though",
    );
    // Whoever comes later waits for the next success.
    assert_eq!(judged(&format!("{RAN}640 job c after=a")), Ok(()));
    assert_eq!(judged("600 put framework"), Ok(()));
}
