//! The scheduler with a store that is a map and a Mesos that is a list of tasks.

use std::collections::{BTreeMap, BTreeSet};

use dcos_marathon::core::Input;
use dcos_proto::mesos::{
    AgentId, Attribute, FrameworkId, Offer, OfferId, Resource, TaskId, TaskState, TaskStatus,
    resource, value,
};
use serde_json::{Value, json};

use super::*;
use crate::model::{Run, RunId, RunStatus};
use crate::read;

/// A core, its rows, and what runs.
struct Harness {
    core: JobScheduler,
    config: Arc<Config>,
    rows: BTreeMap<String, Vec<u8>>,
    now: Time,
    /// Tasks that were launched and have not ended.
    tasks: BTreeSet<String>,
    launched: usize,
    killed: Vec<String>,
    lives: u64,
    /// Rows tell moments that lie ahead, and each life reads them as its clock has it.
    is_clock_behind: bool,
}

impl Harness {
    fn new() -> Self {
        Self::with(Config {
            history_count: 3,
            ..Config::default()
        })
    }

    fn with(config: Config) -> Self {
        let (config, now) = (Arc::new(config), Time::from_secs(1_000_000_000));
        let core = JobScheduler::recover(Arc::clone(&config), Seed::new(7), now, []).unwrap();
        let mut harness = Self {
            core,
            config,
            rows: BTreeMap::new(),
            now,
            tasks: BTreeSet::new(),
            launched: 0,
            killed: Vec::new(),
            lives: 0,
            is_clock_behind: false,
        };
        harness.subscribe();
        harness
    }

    fn subscribe(&mut self) {
        let subscribed = event::Subscribed {
            framework_id: FrameworkId::from("f"),
            ..event::Subscribed::default()
        };
        self.tell(event::Type::Subscribed, |event| {
            event.subscribed = Some(subscribed);
        });
    }

    /// Everything but the rows is lost.
    fn crash(&mut self, away: u64) {
        self.now = Time::from_secs(self.now.as_secs() + away);
        let rows = self
            .rows
            .iter()
            .map(|(key, row)| (key.as_str(), row.as_slice()));
        // Another life draws other names, be it in the same second.
        self.lives += 1;
        let seed = Seed::new(100 + self.lives);
        self.core = JobScheduler::recover(Arc::clone(&self.config), seed, self.now, rows).unwrap();
        self.subscribe();
    }

    /// The same, and the next one's clock is so much behind.
    fn crash_back(&mut self, time: u64) {
        self.now = Time::from_secs(self.now.as_secs() - time);
        self.is_clock_behind = true;
        self.crash(0);
    }

    fn tell(&mut self, kind: event::Type, fill: impl FnOnce(&mut Event)) {
        let mut event = Event {
            r#type: Some(kind as i32),
            ..Event::default()
        };
        fill(&mut event);
        self.core.handle(self.now, Input::Event(Box::new(event)));
        self.settle();
    }

    fn settle(&mut self) {
        let batch = self.core.take(self.now);
        for row in batch.rows {
            match row.value {
                Some(value) => self.rows.insert(row.key, value),
                None => self.rows.remove(&row.key),
            };
        }
        for call in batch.calls {
            for operation in call.accept.iter().flat_map(|accept| &accept.operations) {
                for task in operation
                    .launch
                    .iter()
                    .flat_map(|launch| &launch.task_infos)
                {
                    self.tasks.insert(task.task_id.value.clone());
                    self.launched += 1;
                }
            }
            self.killed.extend(call.kill.map(|kill| kill.task_id.value));
        }
        self.consistent();
    }

    /// What the rows tell is what is known.
    fn consistent(&self) {
        let rows = self
            .rows
            .iter()
            .map(|(key, row)| (key.as_str(), row.as_slice()));
        let other =
            JobScheduler::recover(Arc::clone(&self.config), Seed::new(8), self.now, rows).unwrap();
        assert_eq!(self.core.job_count(), other.job_count());
        assert_eq!(self.core.active, other.active);
        for (mine, its) in self.core.jobs.values().zip(other.jobs.values()) {
            assert_eq!(mine.spec, its.spec);
            assert!(self.is_clock_behind || mine.runs == its.runs);
            assert_eq!(mine.progress, its.progress);
            assert_eq!(mine.history, its.history);
        }
        assert!(self.core.waiting.iter().eq(other.waiting.iter()));
        // Launches are given up in a connection, which the other one does not have.
        let mut due = Vec::new();
        for core in [&self.core, &other] {
            let runs = core.jobs.values().flat_map(|job| job.runs.values());
            let waiting = runs.filter(|run| run.instance.is_none());
            due.push(
                waiting
                    .map(|run| core.deadlines.of(&run.key()))
                    .collect::<Vec<_>>(),
            );
        }
        assert!(self.is_clock_behind || due[0] == due[1]);
    }

    fn pass(&mut self, seconds: u64) {
        let end = Time::from_secs(self.now.as_secs() + seconds);
        while let Some(next) = self
            .core
            .next_deadline(self.now)
            .filter(|next| *next <= end)
        {
            self.now = next.max(Time::from_nanos(self.now.as_nanos() + 1_000_000));
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    fn offer(&mut self) {
        self.offer_of("host", Vec::new());
    }

    fn offer_of(&mut self, host: &str, attributes: Vec<Attribute>) {
        let scalar = |name: &str, value| Resource {
            name: name.into(),
            r#type: value::Type::Scalar as i32,
            scalar: Some(value::Scalar { value }),
            allocation_info: Some(resource::AllocationInfo {
                role: Some("*".into()),
            }),
            ..Resource::default()
        };
        let offer = Offer {
            id: OfferId::from("o"),
            framework_id: FrameworkId::from("f"),
            agent_id: AgentId::from("a"),
            hostname: host.into(),
            attributes,
            resources: vec![scalar("cpus", 100.0), scalar("mem", 100_000.0)],
            ..Offer::default()
        };
        self.tell(event::Type::Offers, |event| {
            event.offers = Some(event::Offers {
                offers: vec![offer],
            });
        });
    }

    fn status(&mut self, task: &str, state: TaskState) {
        let status = TaskStatus {
            task_id: TaskId::from(task),
            agent_id: Some(AgentId::from("a")),
            state: state as i32,
            uuid: Some(vec![1]),
            ..TaskStatus::default()
        };
        if !matches!(
            state,
            TaskState::TaskRunning | TaskState::TaskStarting | TaskState::TaskUnreachable
        ) {
            self.tasks.remove(task);
        }
        self.tell(event::Type::Update, |event| {
            event.update = Some(event::Update { status });
        });
    }

    /// The next task ends like that.
    fn end(&mut self, state: TaskState) {
        let task = self.tasks.first().unwrap().clone();
        self.status(&task, TaskState::TaskRunning);
        self.status(&task, state);
    }

    fn job(&mut self, id: &str, fields: &Value) {
        let mut document =
            json!({"id": id, "run": {"cmd": "true", "cpus": 0.1, "mem": 32, "disk": 0}});
        for (key, value) in fields.as_object().unwrap() {
            match key.strip_prefix("run.") {
                Some(key) => document["run"][key] = value.clone(),
                None => document[key] = value.clone(),
            }
        }
        self.core
            .create(self.now, read::job(document, None).unwrap())
            .unwrap();
        self.settle();
    }

    fn start(&mut self, id: &str) -> Arc<Run> {
        let run = self.core.start(self.now, &id.into()).unwrap();
        self.settle();
        run
    }

    fn runs(&self, id: &str) -> Vec<RunStatus> {
        self.core
            .job(&id.into())
            .unwrap()
            .runs
            .values()
            .map(|run| run.status)
            .collect()
    }

    /// Runs that ended well, and those that did not.
    fn ended(&self, id: &str) -> (u64, u64) {
        let progress = &self.core.job(&id.into()).unwrap().progress;
        (progress.success_count, progress.failure_count)
    }
}

fn every_minute(more: &Value) -> Value {
    let mut schedule = json!({"id": "s", "cron": "* * * * *"});
    schedule
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"schedules": [schedule]})
}

#[test]
fn a_run_from_beginning_to_end() {
    let mut h = Harness::new();
    h.job("a.b", &json!({}));
    let run = h.start("a.b");
    assert_eq!(run.status, RunStatus::Initial, "as it was made");
    assert_eq!(h.runs("a.b"), [RunStatus::Starting]);
    h.offer();
    let task = h.tasks.first().unwrap().clone();
    assert!(
        task.starts_with(&format!("a_b_{}.instance-", run.id)),
        "{task}"
    );
    h.status(&task, TaskState::TaskRunning);
    assert_eq!(h.runs("a.b"), [RunStatus::Active]);
    h.status(&task, TaskState::TaskFinished);
    assert_eq!((h.runs("a.b"), h.ended("a.b")), (vec![], (1, 0)));
    let job = h.core.job(&"a.b".into()).unwrap();
    assert_eq!(job.history.successful[0].tasks, [task]);
}

#[test]
fn restarts() {
    let mut h = Harness::new();
    h.job("never", &json!({}));
    h.start("never");
    h.offer();
    h.end(TaskState::TaskFailed);
    assert_eq!(h.ended("never"), (0, 1));

    h.job(
        "again",
        &json!({"run.restart": {"policy": "ON_FAILURE", "activeDeadlineSeconds": 100}}),
    );
    h.start("again");
    for state in [
        TaskState::TaskFailed,
        TaskState::TaskKilled,
        TaskState::TaskGone,
    ] {
        h.offer();
        h.end(state);
        assert_eq!(h.runs("again"), [RunStatus::Active], "{state:?}");
    }
    h.offer();
    h.pass(100);
    h.end(TaskState::TaskFailed);
    assert_eq!(
        (h.runs("again"), h.ended("again")),
        (vec![], (0, 1)),
        "the time is over"
    );
    let job = h.core.job(&"again".into()).unwrap();
    assert_eq!(job.history.failed[0].tasks.len(), 4);
}

#[test]
fn of_a_run_that_fails_for_ever_the_newest_tasks_are_remembered() {
    let mut h = Harness::new();
    h.job("again", &json!({"run.restart": {"policy": "ON_FAILURE"}}));
    h.start("again");
    let mut last = String::new();
    for _ in 0..150 {
        h.offer();
        h.pass(1);
        last.clone_from(h.tasks.first().unwrap());
        h.end(TaskState::TaskFailed);
    }
    let job = h.core.job(&"again".into()).unwrap();
    let run = job.runs.values().next().unwrap();
    assert_eq!(run.tasks.len(), 100);
    assert!(run.tasks.contains_key(&last));
}

#[test]
fn what_never_reached_an_agent_is_launched_again() {
    let mut h = Harness::new();
    h.job("j", &json!({}));
    h.start("j");
    h.offer();
    let task = h.tasks.first().unwrap().clone();
    h.status(&task, TaskState::TaskUnknown);
    assert_eq!(h.runs("j"), [RunStatus::Starting], "asked too early");
    h.status(&task, TaskState::TaskDropped);
    h.offer();
    assert_eq!((h.launched, h.core.counters.launched), (2, 2));
    h.end(TaskState::TaskFinished);
    assert_eq!(h.ended("j"), (1, 0));
}

#[test]
fn a_launch_is_not_given_up_for_time_that_nobody_was_there() {
    for state in [None, Some(TaskState::TaskStarting)] {
        let mut h = Harness::new();
        h.job("j", &json!({}));
        h.start("j");
        h.offer();
        let task = h.tasks.first().unwrap().clone();
        if let Some(state) = state {
            h.status(&task, state);
        }
        h.crash(3600);
        h.offer();
        assert_eq!((h.launched, h.killed.len()), (1, 0), "it may run by now");
        h.pass(299);
        h.status(&task, TaskState::TaskFinished);
        assert_eq!(h.ended("j"), (1, 0), "{state:?}");
    }
}

#[test]
fn a_launch_nobody_confirms_is_no_second_run_unless_the_policy_has_it() {
    for (policy, runs) in [("NEVER", 0), ("ON_FAILURE", 1)] {
        let mut h = Harness::new();
        h.job("j", &json!({"run.restart": {"policy": policy}}));
        h.start("j");
        h.offer();
        let task = h.tasks.first().unwrap().clone();
        h.pass(301);
        h.offer();
        assert!(h.killed.contains(&task));
        assert_eq!(
            (h.launched, h.runs("j").len()),
            (1 + runs, runs),
            "{policy}"
        );
    }
}

#[test]
fn agents_out_of_reach_end_their_tasks() {
    let mut h = Harness::new();
    h.job("j", &json!({}));
    h.start("j");
    h.offer();
    let task = h.tasks.first().unwrap().clone();
    h.status(&task, TaskState::TaskRunning);
    h.status(&task, TaskState::TaskUnreachable);
    assert_eq!(h.ended("j"), (0, 1));
    h.status(&task, TaskState::TaskRunning);
    assert_eq!(h.killed, [task], "it came back, and nobody waits for it");
}

#[test]
fn triggers_come_once_and_on_time() {
    let mut h = Harness::new();
    h.job("j", &every_minute(&json!({})));
    h.pass(179);
    // 1,000,000,000 s lie 40 s after a full minute.
    assert_eq!(h.runs("j").len(), 3);
    let ids = |h: &Harness| -> Vec<i64> {
        let runs = h.core.job(&"j".into()).unwrap().runs.values();
        runs.map(|run| run.created_at.millis() - 1_000_000_000_000)
            .collect()
    };
    assert_eq!(ids(&h), [20_000, 80_000, 140_000]);
    h.crash(0);
    assert_eq!(h.runs("j").len(), 3, "none is repeated");
    h.crash(600);
    h.pass(30);
    assert_eq!(h.runs("j").len(), 4, "what was missed is missed");
}

#[test]
fn missed_triggers_are_made_up_where_asked_for() {
    for (missed, count) in [("LATEST", 1), ("ALL", 10)] {
        let mut h = Harness::new();
        h.job("j", &every_minute(&json!({"missedTriggers": missed})));
        h.crash(600);
        assert_eq!(h.runs("j").len(), count, "{missed}");
        h.crash(0);
        assert_eq!(h.runs("j").len(), count, "made up once");
    }
}

#[test]
fn forbidden_runs_do_not_overlap() {
    let mut h = Harness::new();
    h.job("j", &every_minute(&json!({"concurrencyPolicy": "FORBID"})));
    h.pass(300);
    assert_eq!(h.runs("j").len(), 1);
    h.start("j");
    assert_eq!(h.runs("j").len(), 2, "users may");
    assert_eq!(h.core.counters.skipped, 4);
}

#[test]
fn a_disabled_schedule_does_nothing() {
    let mut h = Harness::new();
    h.job("j", &every_minute(&json!({"enabled": false})));
    h.pass(300);
    assert!(h.runs("j").is_empty());
    h.start("j");
    assert_eq!(h.runs("j").len(), 1);
}

#[test]
fn who_does_not_start_in_time_has_failed() {
    let mut h = Harness::new();
    h.job(
        "j",
        &every_minute(&json!({"startingDeadlineSeconds": 90, "concurrencyPolicy": "FORBID"})),
    );
    h.pass(100);
    assert_eq!(h.runs("j").len(), 1);
    h.pass(15);
    assert_eq!(h.ended("j"), (0, 1));
    // One that a user started has all the time there is.
    h.job("k", &json!({}));
    h.start("k");
    h.pass(100_000);
    assert_eq!(h.runs("k"), [RunStatus::Starting]);
}

/// Nobody was there to see that it started in time, which is no reason to end what runs.
#[test]
fn who_was_launched_in_time_is_not_late() {
    for state in [None, Some(TaskState::TaskStarting)] {
        let mut h = Harness::new();
        let fields = json!({"startingDeadlineSeconds": 90, "concurrencyPolicy": "FORBID"});
        h.job("j", &every_minute(&fields));
        h.pass(61);
        h.offer();
        let task = h.tasks.first().unwrap().clone();
        if let Some(state) = state {
            h.status(&task, state);
        }
        h.crash(3600);
        h.pass(1);
        assert_eq!((h.ended("j"), h.killed.len()), ((0, 0), 0), "{state:?}");
        h.status(&task, TaskState::TaskFinished);
        assert_eq!(h.ended("j"), (1, 0), "{state:?}");
    }
}

/// Its launch was in time and came to nothing: another one would be late.
#[test]
fn who_would_have_to_be_launched_again_is_late() {
    for restart in ["NEVER", "ON_FAILURE"] {
        for seen in [None, Some(TaskState::TaskStarting)] {
            let mut h = Harness::new();
            let mut job = every_minute(
                &json!({"startingDeadlineSeconds": 90, "concurrencyPolicy": "FORBID"}),
            );
            job["run.restart"] = json!({"policy": restart});
            h.job("j", &job);
            h.pass(61);
            h.offer();
            let task = h.tasks.first().unwrap().clone();
            if let Some(state) = seen {
                h.status(&task, state);
            }
            // Created at 20 seconds, it had time until 110.
            h.pass(139);
            assert_eq!(h.ended("j"), (0, 0), "{restart} {seen:?}");
            h.status(&task, TaskState::TaskDropped);
            let goes_on = seen.is_some() && restart == "ON_FAILURE";
            assert_eq!(h.ended("j"), (0, u64::from(!goes_on)), "{restart} {seen:?}");
        }
    }
}

#[test]
fn stopping_kills_until_it_is_gone() {
    let mut h = Harness::new();
    h.job("j", &json!({}));
    let run = h.start("j");
    h.offer();
    let task = h.tasks.first().unwrap().clone();
    h.status(&task, TaskState::TaskRunning);
    let stopped = h.core.stop(h.now, &"j".into(), &run.id).unwrap();
    h.settle();
    assert_eq!((stopped.status, h.ended("j")), (RunStatus::Failed, (0, 1)));
    h.pass(31);
    assert_eq!(h.killed.len(), 2, "asked again");
    h.status(&task, TaskState::TaskKilled);
    h.pass(100);
    assert_eq!(h.killed.len(), 2);
    assert!(h.core.stop(h.now, &"j".into(), &run.id).is_err());
    // Over a crash what is left is killed when the master tells of it.
    let run = h.start("j");
    h.offer();
    let task = h.tasks.first().unwrap().clone();
    h.core.stop(h.now, &"j".into(), &run.id).unwrap();
    h.settle();
    h.killed.clear();
    h.crash(1);
    h.status(&task, TaskState::TaskRunning);
    assert_eq!(h.killed, [task]);
}

#[test]
fn history_is_bounded_and_goes_with_the_job() {
    let mut h = Harness::new();
    h.job("j", &json!({}));
    for _ in 0..5 {
        h.start("j");
        h.offer();
        h.end(TaskState::TaskFinished);
        h.pass(1);
    }
    assert_eq!(h.ended("j"), (5, 0));
    assert_eq!(h.core.job(&"j".into()).unwrap().history.successful.len(), 3);
    assert_eq!(
        h.rows
            .keys()
            .filter(|key| key.contains("/success/"))
            .count(),
        3
    );
    h.start("j");
    let refused = h.core.delete(h.now, &"j".into(), false);
    assert!(matches!(refused, Err(crate::Error::Conflict(_))));
    h.core.delete(h.now, &"j".into(), true).unwrap();
    h.settle();
    assert_eq!(h.rows.keys().collect::<Vec<_>>(), ["metronome/framework"]);
}

#[test]
fn a_write_costs_its_own_rows() {
    let mut h = Harness::new();
    for at in 0..50 {
        h.job(&format!("j{at}"), &every_minute(&json!({})));
    }
    h.core.start(h.now, &"j7".into()).unwrap();
    let keys: Vec<String> = h
        .core
        .take(h.now)
        .rows
        .into_iter()
        .map(|row| row.key)
        .collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys.iter().all(|key| key.contains("/j7")), "{keys:?}");
}

#[test]
fn children_follow_their_parents() {
    let mut h = Harness::new();
    h.job("a", &json!({}));
    h.job("b", &json!({}));
    h.job("c", &json!({"dependencies": [{"id": "a"}, {"id": "b"}]}));
    let run = |h: &mut Harness, id: &str, state| {
        h.pass(1);
        h.start(id);
        h.offer();
        h.pass(1);
        let task = h
            .tasks
            .iter()
            .find(|task| task.starts_with(id))
            .unwrap()
            .clone();
        h.status(&task, state);
        h.offer();
    };
    run(&mut h, "a", TaskState::TaskFinished);
    assert_eq!(h.runs("c").len(), 0);
    h.crash(1);
    run(&mut h, "b", TaskState::TaskFailed);
    assert_eq!(h.runs("c").len(), 0);
    run(&mut h, "b", TaskState::TaskFinished);
    assert_eq!(h.runs("c").len(), 1, "all succeeded, whatever was between");
    // Not twice at once, and only when all of them went on.
    run(&mut h, "a", TaskState::TaskFinished);
    run(&mut h, "b", TaskState::TaskFinished);
    assert_eq!(h.runs("c").len(), 1);
    let task = h
        .tasks
        .iter()
        .find(|task| task.starts_with('c'))
        .unwrap()
        .clone();
    h.pass(1);
    h.status(&task, TaskState::TaskFinished);
    assert_eq!(
        (h.runs("c").len(), h.ended("c")),
        (0, (1, 0)),
        "they succeeded before it did"
    );
    run(&mut h, "a", TaskState::TaskFinished);
    assert_eq!(h.runs("c").len(), 0);
    run(&mut h, "b", TaskState::TaskFinished);
    assert_eq!(h.runs("c").len(), 1);
    // A failed child gets another chance with the next round.
    let task = h
        .tasks
        .iter()
        .find(|task| task.starts_with('c'))
        .unwrap()
        .clone();
    h.status(&task, TaskState::TaskFailed);
    assert_eq!(h.runs("c").len(), 0);
    run(&mut h, "a", TaskState::TaskFinished);
    run(&mut h, "b", TaskState::TaskFinished);
    assert_eq!(h.runs("c").len(), 1);
}

#[test]
fn children_follow_their_parents_whatever_the_clock_says() {
    let mut h = Harness::new();
    h.job("a", &json!({}));
    h.job("c", &json!({"dependencies": [{"id": "a"}]}));
    let round = |h: &mut Harness, parent: u64, child: u64| {
        h.start("a");
        h.offer();
        h.end(TaskState::TaskFinished);
        assert_eq!((h.ended("a"), h.runs("c").len()), ((parent, 0), 1));
        h.offer();
        h.end(TaskState::TaskFinished);
        assert_eq!((h.ended("c"), h.runs("c").len()), ((child, 0), 0));
    };
    // All in one moment, too.
    round(&mut h, 1, 1);
    h.crash_back(3600);
    round(&mut h, 2, 2);
    h.crash(60);
    round(&mut h, 3, 3);
}

#[test]
fn the_newest_runs_are_remembered_whatever_the_clock_says() {
    let mut h = Harness::new();
    h.job("j", &json!({}));
    let mut ran = Vec::new();
    for round in 0..6 {
        ran.insert(0, h.start("j").id.clone());
        h.offer();
        h.end(TaskState::TaskFinished);
        h.pass(1);
        if round == 3 {
            h.crash_back(3600);
        }
        h.crash(1);
        let kept = &h.core.job(&"j".into()).unwrap().history.successful;
        let kept: Vec<_> = kept.iter().map(|run| run.id.clone()).collect();
        assert_eq!(kept, ran[..ran.len().min(3)], "round {round}");
    }
    let newest = h.core.job(&"j".into()).unwrap();
    let newest = &newest.history.successful[0];
    assert!(
        newest.finished_at < newest.place(),
        "it is told when it was"
    );
}

#[test]
fn who_waits_to_start_waits_no_longer_for_a_clock_that_was_fast() {
    let mut h = Harness::new();
    h.job(
        "j",
        &every_minute(&json!({"startingDeadlineSeconds": 90, "concurrencyPolicy": "FORBID"})),
    );
    h.pass(30);
    assert_eq!(h.runs("j").len(), 1);
    h.crash_back(3600);
    h.pass(89);
    assert_eq!(h.ended("j"), (0, 0));
    h.pass(2);
    assert_eq!(h.ended("j"), (0, 1));
}

#[test]
fn moments_come_once_unless_a_wrong_clock_was_set_right() {
    let mut h = Harness::new();
    h.job(
        "j",
        &every_minute(&json!({"startingDeadlineSeconds": 100 * 86_400})),
    );
    h.pass(120);
    assert_eq!(h.runs("j").len(), 2);
    h.crash_back(3600);
    h.pass(3599);
    assert_eq!(h.runs("j").len(), 2, "they had their turn");
    h.pass(120);
    assert_eq!(h.runs("j").len(), 4);
    h.crash_back(30 * 86_400);
    h.pass(10);
    let same = |spec: &crate::model::JobSpec| Ok(spec.clone());
    h.core.update(h.now, &"j".into(), same).unwrap();
    h.pass(120);
    assert_eq!(h.runs("j").len(), 6);
}

#[test]
fn nothing_follows_from_a_job_that_goes() {
    let mut h = Harness::new();
    h.job("a", &json!({}));
    h.job("c", &json!({"dependencies": [{"id": "a"}]}));
    h.start("c");
    h.pass(1);
    h.start("a");
    h.offer();
    h.pass(1);
    let task = h.tasks.iter().find(|task| task.starts_with('a'));
    let task = task.unwrap().clone();
    h.status(&task, TaskState::TaskFinished);
    // Were its run to end by itself, the next one would begin, since what it depends on went on meanwhile.
    h.core.delete(h.now, &"c".into(), true).unwrap();
    h.settle();
    h.crash(1);
    assert!(h.core.job(&"c".into()).is_none());
}

#[test]
fn dependencies_make_no_circle() {
    let mut h = Harness::new();
    h.job("a", &json!({}));
    h.job("b", &json!({"dependencies": [{"id": "a"}]}));
    h.job("c", &json!({"dependencies": [{"id": "b"}]}));
    let update = |h: &mut Harness, id: &str, parents: &[&str]| {
        let parents = parents
            .iter()
            .map(|id| crate::model::Dependency { id: (*id).into() });
        let parents: Vec<_> = parents.collect();
        let done = h.core.update(h.now, &id.into(), |spec| {
            Ok(crate::model::JobSpec {
                dependencies: parents,
                ..spec.clone()
            })
        });
        h.settle();
        done.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(
        update(&mut h, "a", &["c"]),
        Err("Dependencies have a cycle.".into())
    );
    assert_eq!(
        update(&mut h, "a", &["a"]),
        Err("Dependencies have a cycle.".into())
    );
    let unknown = "Dependencies contain unknown jobs. unknown=[x, y]";
    assert_eq!(update(&mut h, "a", &["x", "b", "y"]), Err(unknown.into()));
    let held = h
        .core
        .delete(h.now, &"b".into(), true)
        .unwrap_err()
        .to_string();
    assert_eq!(held, "There are jobs with a dependency on b. children=[c]");
    assert_eq!(update(&mut h, "c", &["a"]), Ok(()));
    h.core.delete(h.now, &"b".into(), true).unwrap();
    assert_eq!(
        update(&mut h, "a", &["c"]),
        Err("Dependencies have a cycle.".into())
    );
}

mod chaos {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Start(usize),
        Stop(usize),
        Offer,
        End(usize, TaskState),
        Pass(u64),
        Crash(u64),
        Delete(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let states = vec![
            TaskState::TaskRunning,
            TaskState::TaskFinished,
            TaskState::TaskFailed,
            TaskState::TaskKilled,
            TaskState::TaskDropped,
            TaskState::TaskUnreachable,
        ];
        prop_oneof![
            3 => (0usize..4).prop_map(Step::Start),
            1 => (0usize..4).prop_map(Step::Stop),
            4 => Just(Step::Offer),
            6 => (any::<usize>(), prop::sample::select(states)).prop_map(|(at, state)| Step::End(at, state)),
            3 => (0u64..200).prop_map(Step::Pass),
            1 => (0u64..200).prop_map(Step::Crash),
            1 => (0usize..4).prop_map(Step::Delete),
        ]
    }

    const JOBS: [&str; 4] = ["plain", "often", "again", "child"];

    fn create(h: &mut Harness, id: &str) {
        if h.core.job(&id.into()).is_some() {
            return;
        }
        let fields = match id {
            "often" => {
                every_minute(&json!({"concurrencyPolicy": "FORBID", "missedTriggers": "LATEST"}))
            }
            "again" => {
                json!({"run.restart": {"policy": "ON_FAILURE", "activeDeadlineSeconds": 300}})
            }
            "child" => json!({"dependencies": [{"id": "plain"}]}),
            _ => json!({}),
        };
        h.job(id, &fields);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn rows_always_tell_the_truth_and_nothing_runs_twice(steps in prop::collection::vec(step(), 1..60)) {
            // `Harness::settle` compares what is known with what the rows tell after each step.
            let mut h = Harness::new();
            for id in JOBS {
                create(&mut h, id);
            }
            for step in steps {
                match step {
                    Step::Start(at) => {
                        h.start(JOBS[at]);
                    }
                    Step::Stop(at) => {
                        let job = JobId::from(JOBS[at]);
                        if let Some(run) = h.core.job(&job).and_then(|job| job.runs.keys().next().cloned()) {
                            h.core.stop(h.now, &job, &run).unwrap();
                            h.settle();
                        }
                    }
                    Step::Offer => h.offer(),
                    Step::End(at, state) => {
                        if let Some(task) = h.tasks.iter().nth(at % h.tasks.len().max(1)).cloned() {
                            h.status(&task, state);
                        }
                    }
                    Step::Pass(seconds) => h.pass(seconds),
                    Step::Crash(seconds) => h.crash(seconds),
                    Step::Delete(at) => {
                        let _ = h.core.delete(h.now, &JOBS[at].into(), true);
                        h.settle();
                        create(&mut h, JOBS[at]);
                    }
                }
                // A run has at most one task that goes on.
                for job in h.core.jobs.values() {
                    for run in job.runs.values() {
                        let prefix = format!("{}_{}.", job.id().as_str().replace('.', "_"), run.id);
                        let own = run.instance.as_ref().map(|instance| instance.task_id.clone());
                        let others = h.tasks.iter().filter(|task| task.starts_with(&prefix) && Some(*task) != own.as_ref());
                        for other in others {
                            let left = h.core.leftovers.values().any(|left| left.task_id == *other);
                            prop_assert!(left || h.killed.contains(other) || unreachable(&h, other), "{other}");
                        }
                    }
                }
            }
        }
    }

    /// Whether a task is one of an agent nobody could reach: its run went on without it.
    fn unreachable(h: &Harness, task: &str) -> bool {
        h.core.jobs.values().any(|job| {
            job.runs.values().any(|run| {
                run.tasks
                    .get(task)
                    .is_some_and(|task| task.status == crate::model::TaskState::Failed)
            })
        })
    }
}

/// A job that takes `bytes` in the store.
fn sized(bytes: usize) -> crate::model::JobSpec {
    let spec = |fill: usize| {
        let run = json!({"cmd": "x".repeat(fill), "cpus": 0.1, "mem": 32, "disk": 0,
            "restart": {"policy": "ON_FAILURE"}});
        let mut document = every_minute(&json!({"missedTriggers": "LATEST"}));
        document["id"] = json!("big");
        document["run"] = run;
        read::job(document, None).unwrap()
    };
    let around = rows::job(&spec(1)).value.unwrap().len() - 1;
    let spec = spec(bytes - around);
    assert_eq!(rows::job(&spec).value.unwrap().len(), bytes);
    spec
}

#[test]
fn the_store_takes_whatever_becomes_of_a_jobs_runs() {
    let mut h = Harness::new();
    let most = dcos_store::MAX_VALUE_BYTES - 64 * 1024 - 128 * "big".len();
    let refused = h.core.create(h.now, sized(most + 1)).unwrap_err();
    assert!(
        matches!(refused, crate::Error::Unprocessable(_)),
        "{refused}"
    );
    rows::check_job(&sized(most)).unwrap();
    let id = ["long-name-of-a-part-of-a-jobs-id-that-is-long"; 11].join(".");
    let attribute = Attribute {
        name: "rack".to_owned(),
        r#type: value::Type::Text as i32,
        text: Some(value::Text {
            value: "r".repeat(100_000),
        }),
        ..Attribute::default()
    };
    h.job(&id, &json!({"run.restart": {"policy": "ON_FAILURE"}}));
    h.start(&id);
    for _ in 0..105 {
        h.offer();
        h.pass(1);
        h.end(TaskState::TaskFailed);
    }
    h.offer_of("host", vec![attribute]);
    let job = h.core.job(&id.as_str().into()).unwrap();
    let run = job.runs.values().next().unwrap();
    assert_eq!((run.tasks.len(), run.instance.is_some()), (100, true));
    let bytes = |row: dcos_marathon::core::Row| row.value.unwrap().len();
    let besides = bytes(rows::run(run)) - bytes(rows::job(&job.spec));
    let room = 64 * 1024 + 128 * id.len();
    assert!(besides + 4096 < room, "{besides} bytes of {room}");
}

#[test]
fn a_run_whose_row_the_store_would_refuse_fails() {
    let mut h = Harness::new();
    let most = dcos_store::MAX_VALUE_BYTES - 64 * 1024 - 128 * "big".len();
    let spec = sized(most);
    h.core.create(h.now, spec).unwrap();
    h.start("big");
    h.offer_of(&"h".repeat(80_000), Vec::new());
    assert_eq!(
        (h.launched, h.runs("big"), h.ended("big")),
        (0, vec![], (0, 1))
    );
    let largest = h.rows.values().map(Vec::len).max().unwrap();
    assert!(largest <= dcos_store::MAX_VALUE_BYTES, "{largest}");
    // It is that run only.
    h.start("big");
    h.offer();
    assert_eq!((h.launched, h.core.active), (1, 1));
}

#[test]
fn a_job_an_earlier_metronome_took_in_ends_nobody() {
    let mut h = Harness::new();
    // One of its runs waits, as far as its row was taken.
    let spec = sized(dcos_store::MAX_VALUE_BYTES - 400);
    let row = rows::job(&spec);
    h.rows.insert(row.key, row.value.unwrap());
    h.crash(0);
    let waits = Run {
        id: RunId::from("r"),
        job: Arc::new(spec.clone()),
        status: RunStatus::Starting,
        created_at: Timestamp::from(h.now),
        completed_at: None,
        starts_until: None,
        tasks: BTreeMap::new(),
        instance: None,
    };
    let row = rows::run(&waits);
    h.rows.insert(row.key, row.value.unwrap());
    h.crash(3600);
    h.pass(3600);
    h.offer();
    assert_eq!((h.launched, h.core.active), (0, 0));
    assert_eq!(h.ended("big"), (0, 1));
    assert!(
        h.rows
            .values()
            .all(|row| row.len() <= dcos_store::MAX_VALUE_BYTES)
    );
    let refused = h.core.start(h.now, &"big".into()).unwrap_err();
    assert!(
        matches!(refused, crate::Error::Unprocessable(_)),
        "{refused}"
    );
    let why = h.core.job(&"big".into()).unwrap().too_large.clone();
    assert_eq!(why.as_deref(), Some(&*refused.to_string()));
    let smaller = sized(1000);
    h.core
        .update(h.now, &"big".into(), |_| Ok(smaller))
        .unwrap();
    h.settle();
    assert_eq!(h.core.job(&"big".into()).unwrap().too_large, None);
    h.pass(60);
    assert_eq!(h.runs("big"), [RunStatus::Starting], "it runs again");
    h.core.delete(h.now, &"big".into(), true).unwrap();
    h.settle();
    assert!(!h.rows.keys().any(|key| key.contains("big")));
}

#[test]
fn what_is_due_at_one_moment_leaves_requests_their_turn() {
    let mut h = Harness::new();
    let jobs = MOST_AT_ONCE * 2 + 10;
    for at in 0..jobs {
        let yearly = json!({"id": "s", "cron": "0 0 1 1 *", "startingDeadlineSeconds": 60});
        let mut document = json!({"id": format!("job{at}"), "schedules": [yearly]});
        document["run"] = json!({"cmd": "true", "cpus": 0.1, "mem": 32, "disk": 0});
        h.core
            .create(h.now, read::job(document, None).unwrap())
            .unwrap();
    }
    h.settle();
    let due = h.core.triggers.next().unwrap();
    h.now = Time::from(due);
    h.settle();
    assert_eq!(h.core.active, MOST_AT_ONCE);
    assert!(
        h.core.next_deadline(h.now).unwrap() <= h.now,
        "the rest at once"
    );
    h.job("asked", &json!({}));
    h.start("asked");
    assert_eq!(h.core.active, jobs + 1, "two more takes, one more run");
    // All of them are too late in one moment, too.
    h.now = Time::from_secs(h.now.as_secs() + 61);
    h.settle();
    assert_eq!(h.core.active, jobs + 1 - MOST_AT_ONCE);
    assert!(h.core.next_deadline(h.now).unwrap() <= h.now);
    h.settle();
    h.settle();
    assert_eq!(h.core.active, 1);
}
