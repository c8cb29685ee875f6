//! 100,000 instances with constraints on 10,000 agents: the core alone, from offers to launches and back.

use std::sync::Arc;

use bench::{Table, worked};
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::core::{Core, Input, Kill};
use dcos_marathon::{Config, PathId, normalize};
use dcos_proto::scheduler::Event;

use crate::cluster::{Cluster, subscribed};

const AGENTS: usize = 10_000;
const INSTANCES: usize = 100_000;
/// How many offers come at once.
const OFFERS: usize = 500;
/// Instances placed in a second that are to be reached.
const GOAL: f64 = 20_000.0;
const SAMPLES: usize = 3;

/// Constraints in turn: an own host each, evenly over the racks, at most two on a host.
const CONSTRAINTS: [&str; 3] = [
    r#"[["hostname", "UNIQUE"]]"#,
    r#"[["rack", "GROUP_BY", "100"]]"#,
    r#"[["hostname", "MAX_PER", "2"]]"#,
];

pub(crate) fn measure() {
    let topic = format!("placing {INSTANCES} instances on {AGENTS} agents");
    let mut table = Table::new(topic, "instances a second of one processor");
    table.published("the goal", GOAL);
    for apps in [12, 100, 10_000] {
        let samples = (0..SAMPLES).map(|_| rate(apps)).collect();
        table.row(
            format!("{apps} apps, each with one of three constraints"),
            samples,
        );
    }
    let samples = (0..SAMPLES).map(|_| free_rate(100)).collect();
    table.row("100 apps without constraints", samples);
    table.print();
}

fn rate(apps: usize) -> f64 {
    place(apps, |app| CONSTRAINTS[app % CONSTRAINTS.len()])
}

fn free_rate(apps: usize) -> f64 {
    place(apps, |_| "[]")
}

fn place(apps: usize, constraints: impl Fn(usize) -> &'static str) -> f64 {
    let mut marathon = Driven::new();
    marathon.create(apps, INSTANCES / apps, constraints);
    let mut cluster = Cluster::new(AGENTS);
    let wanted = INSTANCES / apps * apps;
    let mut spent = 0.0;
    while cluster.launched < wanted {
        let before = cluster.launched;
        for first in (0..cluster.agents()).step_by(OFFERS) {
            let offers = cluster.offer(first..first + OFFERS);
            let (calls, millis) = worked(|| marathon.feed([offers]));
            spent += millis;
            let updates: Vec<Event> = calls
                .into_iter()
                .flat_map(|call| cluster.obey(call))
                .collect();
            spent += worked(|| marathon.feed(updates)).1;
            if cluster.launched == wanted {
                break;
            }
        }
        assert!(
            cluster.launched > before,
            "{} of {wanted} placed, and no more",
            cluster.launched
        );
    }
    eprintln!("{apps} apps: {wanted} instances in {spent:.0} ms");
    f64::from(u32::try_from(wanted).unwrap()) / spent * 1_000.0
}

/// A core and its clock.
struct Driven {
    core: Core,
    now: Time,
}

impl Driven {
    fn new() -> Self {
        let now = Time::from_secs(1_000_000);
        let core = Core::recover(Arc::new(Config::default()), Seed::new(1), now, []).unwrap();
        let mut driven = Self { core, now };
        driven.feed([subscribed()]);
        driven
    }

    fn create(
        &mut self,
        apps: usize,
        instances: usize,
        constraints: impl Fn(usize) -> &'static str,
    ) {
        let plan = self.core.change(self.now, false, &Kill::new(), |change| {
            let mut root = change.copy();
            for app in 0..apps {
                let id = PathId::absolute(&format!("group-{}/app-{app}", app / 100));
                let document = format!(
                    r#"{{"id": "{id}", "cmd": "serve", "cpus": 0.05, "mem": 64,
                        "instances": {instances}, "constraints": {}}}"#,
                    constraints(app)
                );
                let update = normalize::read_app(document.as_bytes())?;
                let rules = change.rules(&id);
                let app = normalize::create(update, &PathId::root(), &rules, change.version)?;
                root.put_app(app, change.version, false);
            }
            Ok(root)
        });
        plan.unwrap();
        self.feed([]);
    }

    /// Takes events in, as the shell does: then what follows is asked for, and a picture is taken for readers.
    fn feed(
        &mut self,
        events: impl IntoIterator<Item = Event>,
    ) -> Vec<dcos_proto::scheduler::Call> {
        for event in events {
            self.core.handle(self.now, Input::Event(Box::new(event)));
        }
        let calls = self.core.take(self.now).calls;
        std::hint::black_box(self.core.view(self.now));
        calls
    }
}
