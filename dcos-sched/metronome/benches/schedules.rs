//! What a schedule costs among many: the core alone, with a thousand jobs and with a million.
//!
//! `cargo bench -p dcos-metronome --bench schedules`; `-- --json` for machines, `-- --jobs 100000` for fewer.
//!
//! All jobs run once a day, spread over its minutes, but for 500 that run each minute. A round is one minute: what is
//! due begins, gets an agent, runs and ends, each with its rows. There is no published figure of Metronome to compare
//! with; the limit is the same with a thousand jobs.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![expect(
    clippy::print_stderr,
    reason = "progress is for whoever waits for the table"
)]

use std::sync::Arc;
use std::time::Duration;

use bench::{Table, timed};
use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::core::Input;
use dcos_marathon::engine::Machine as _;
use dcos_metronome::core::JobScheduler;
use dcos_metronome::{Config, read};
use dcos_proto::mesos::{Offer, TaskState, TaskStatus, resource};
use dcos_proto::scheduler::{Call, Event, event};
use serde_json::json;

/// How many jobs run each minute.
const BUSY: usize = 500;
const MINUTES: usize = 5;

fn main() {
    let jobs = bench::argument("--jobs").unwrap_or(1_000_000);
    let mut cost = Table::new(
        format!("a run among {jobs} jobs, from trigger to end"),
        "us",
    );
    let mut idle = Table::new("asking what is due when nothing is", "us");
    let few = Measured::of(1_000);
    cost.limit("1,000 jobs", few.run);
    idle.limit("1,000 jobs", few.idle);
    let many = Measured::of(jobs);
    cost.row(format!("{jobs} jobs"), many.run);
    cost.note(format!(
        "{} bytes a job; changing one: {:.1} us",
        many.bytes, many.change
    ));
    idle.row(format!("{jobs} jobs"), many.idle);
    cost.print();
    idle.print();
}

struct Measured {
    /// Each round, divided by its runs.
    run: Vec<f64>,
    idle: Vec<f64>,
    change: f64,
    bytes: usize,
}

impl Measured {
    fn of(jobs: usize) -> Self {
        let before = resident();
        let mut driven = Driven::new();
        for job in 0..jobs {
            driven.create(job);
        }
        eprintln!("{jobs} jobs are known");
        let bytes = (resident().saturating_sub(before)) / jobs;
        let idle = (0..1_000).map(|_| timed(|| driven.step(Vec::new())).1 * 1_000.0);
        let idle = idle.collect();
        let change = timed(|| driven.update(jobs - 1)).1 * 1_000.0;
        let run = (0..MINUTES).map(|_| driven.minute()).collect();
        Self {
            run,
            idle,
            change,
            bytes,
        }
    }
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// A core, its clock, and an agent that runs whatever it is given.
struct Driven {
    core: JobScheduler,
    now: Time,
    offers: u64,
}

impl Driven {
    fn new() -> Self {
        let now = Time::from_secs(1_000_000_020);
        let core =
            JobScheduler::recover(Arc::new(Config::default()), Seed::new(1), now, []).unwrap();
        let mut driven = Self {
            core,
            now,
            offers: 0,
        };
        let subscribed = event::Subscribed {
            framework_id: "framework".into(),
            ..event::Subscribed::default()
        };
        driven.step(vec![Event {
            r#type: Some(event::Type::Subscribed as i32),
            subscribed: Some(subscribed),
            ..Event::default()
        }]);
        driven
    }

    fn create(&mut self, number: usize) {
        let cron = if number < BUSY {
            "* * * * *".to_owned()
        } else {
            format!("{} {} * * *", number % 60, number / 60 % 24)
        };
        let document = json!({"id": format!("job-{number}"), "schedules": [{"id": "s", "cron": cron}],
            "run": {"cmd": "run", "cpus": 0.01, "mem": 32, "disk": 0}});
        self.core
            .create(self.now, read::job(document, None).unwrap())
            .unwrap();
        if number.is_multiple_of(1_000) {
            self.step(Vec::new());
        }
    }

    fn update(&mut self, number: usize) {
        let id = format!("job-{number}").as_str().into();
        self.core
            .update(self.now, &id, |spec| Ok(spec.clone()))
            .unwrap();
        self.step(Vec::new());
    }

    /// What the shell does but for the store: events in, calls out, a picture for readers.
    fn step(&mut self, events: Vec<Event>) -> Vec<Call> {
        for event in events {
            self.core.handle(self.now, Input::Event(Box::new(event)));
        }
        let batch = self.core.take(self.now);
        std::hint::black_box(self.core.view(self.now));
        std::hint::black_box(batch.rows.len());
        batch.calls
    }

    /// A minute, from what its beginning triggers to the last end; microseconds of each run.
    fn minute(&mut self) -> f64 {
        self.now = Time::from_secs(self.now.as_secs() / 60 * 60 + 60);
        let (runs, millis) = timed(|| {
            let (mut runs, mut before) = (0, usize::MAX);
            while runs != before {
                before = runs;
                let offer = self.offer();
                let calls = self.step(vec![offer]);
                let operations = calls.into_iter().filter_map(|call| call.accept);
                let operations = operations.flat_map(|accept| accept.operations);
                let tasks = operations.flat_map(|operation| operation.launch.unwrap().task_infos);
                let tasks: Vec<_> = tasks.map(|task| task.task_id.value).collect();
                runs += tasks.len();
                for state in [TaskState::TaskRunning, TaskState::TaskFinished] {
                    self.now += Duration::from_millis(1);
                    self.step(tasks.iter().map(|task| update(task, state)).collect());
                }
            }
            runs
        });
        assert!(runs >= BUSY, "{runs}");
        millis * 1_000.0 / f64::from(u32::try_from(runs).unwrap())
    }

    fn offer(&mut self) -> Event {
        self.offers += 1;
        let offer = Offer {
            id: format!("offer-{}", self.offers).into(),
            agent_id: "agent".into(),
            hostname: "agent".to_owned(),
            resources: Resources::parse("cpus:1000;mem:1000000")
                .unwrap()
                .to_messages(),
            allocation_info: Some(resource::AllocationInfo {
                role: Some("*".to_owned()),
            }),
            ..Offer::default()
        };
        Event {
            r#type: Some(event::Type::Offers as i32),
            offers: Some(event::Offers {
                offers: vec![offer],
            }),
            ..Event::default()
        }
    }
}

fn update(task: &str, state: TaskState) -> Event {
    let status = TaskStatus {
        task_id: task.into(),
        state: state as i32,
        agent_id: Some("agent".into()),
        uuid: Some(vec![7; 16]),
        ..TaskStatus::default()
    };
    Event {
        r#type: Some(event::Type::Update as i32),
        update: Some(event::Update { status }),
        ..Event::default()
    }
}
