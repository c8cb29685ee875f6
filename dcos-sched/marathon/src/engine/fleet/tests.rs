//! A fleet in a slow and obvious world: calls are lost, tasks fail, agents come and go, the process dies before or after its
//! rows are written. Once all is quiet, what runs is what was wanted, and nobody runs whom the fleet does not know.

use std::collections::VecDeque;

use dcos_core::resources::Resources;
use dcos_proto::mesos::{TaskState, task_status};
use dcos_proto::scheduler::{self, call};
use proptest::prelude::*;

use super::*;
use crate::deployment::drive::{Drive, decide};

const AGENTS: usize = 4;

/// Keeps one app running, at most so many on a host.
#[derive(Clone)]
struct One(App);

impl Director for One {
    fn direct(&mut self, fleet: &mut Fleet, now: Timestamp) {
        let app = fleet.version_of(now, self.0.clone());
        let decision = decide(Drive::Restart { spec: &app }, &fleet.members(&app.id));
        fleet.apply(now, &app, &decision);
    }
}

fn app(command: &str, instances: u32) -> App {
    let document = format!(
        r#"{{"id": "/web", "cmd": "{command}", "instances": {instances}, "cpus": 1, "mem": 32,
            "constraints": [["hostname", "MAX_PER", "2"]], "backoffSeconds": 1, "maxLaunchDelaySeconds": 4,
            "healthChecks": [{{"protocol": "COMMAND", "command": {{"value": "true"}}}}],
            "unreachableStrategy": {{"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120}}}}"#
    );
    Fleet::read(&Config::default(), document.as_bytes()).unwrap()
}

/// Every task there is, with its agent and whether it runs; an agent out of reach says nothing.
struct World {
    machine: Directed<One>,
    rows: BTreeMap<String, Vec<u8>>,
    tasks: BTreeMap<String, (usize, bool)>,
    cut_off: [bool; AGENTS],
    connected: bool,
    now: Time,
    lives: u64,
}

fn recover(rows: &BTreeMap<String, Vec<u8>>, director: One, seed: u64) -> Directed<One> {
    let rows = rows
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_slice()));
    let config = Arc::new(Config::default());
    let fleet = Fleet::recover(config, "copies/", Seed::new(seed), rows).unwrap();
    Directed { fleet, director }
}

impl World {
    fn new(app: App) -> Self {
        let rows = BTreeMap::new();
        Self {
            machine: recover(&rows, One(app), 1),
            rows,
            tasks: BTreeMap::new(),
            cut_off: [false; AGENTS],
            connected: false,
            now: Time::from_secs(1_000),
            lives: 1,
        }
    }

    fn event(&mut self, kind: event::Type, fill: impl FnOnce(&mut scheduler::Event)) {
        let mut event = scheduler::Event {
            r#type: Some(kind as i32),
            ..scheduler::Event::default()
        };
        fill(&mut event);
        self.machine.handle(self.now, Input::Event(Box::new(event)));
    }

    fn subscribe(&mut self) {
        self.connected = true;
        let subscribed = event::Subscribed {
            framework_id: "copies".into(),
            ..event::Subscribed::default()
        };
        self.event(event::Type::Subscribed, |event| {
            event.subscribed = Some(subscribed)
        });
    }

    fn offer(&mut self, agent: usize) {
        if !self.connected || self.cut_off[agent] {
            return;
        }
        let offer = Offer {
            agent_id: format!("agent{agent}").as_str().into(),
            hostname: format!("host{agent}"),
            resources: Resources::parse("cpus:9;mem:9999;ports:[1-99]")
                .unwrap()
                .to_messages(),
            ..Offer::default()
        };
        let offers = vec![offer];
        self.event(event::Type::Offers, |event| {
            event.offers = Some(event::Offers { offers })
        });
    }

    /// Each agent offers what it has.
    fn offers(&mut self) {
        for agent in 0..AGENTS {
            self.offer(agent);
            self.settle(Luck::Good);
        }
    }

    fn tell(&mut self, task: &str, state: TaskState, healthy: Option<bool>, asked: bool) {
        let reconciled = asked.then_some(task_status::Reason::Reconciliation as i32);
        let status = TaskStatus {
            task_id: task.into(),
            state: state as i32,
            healthy,
            reason: reconciled,
            ..TaskStatus::default()
        };
        self.event(event::Type::Update, |event| {
            event.update = Some(event::Update { status })
        });
    }

    /// What the master knows of a task.
    fn look(&mut self, task: &str) {
        match self.tasks.get(task) {
            Some((agent, _)) if self.cut_off[*agent] => {
                self.tell(task, TaskState::TaskUnreachable, None, true);
            }
            Some((_, true)) => self.tell(task, TaskState::TaskRunning, Some(true), true),
            Some((_, false)) => self.tell(task, TaskState::TaskStaging, None, true),
            None => self.tell(task, TaskState::TaskUnknown, None, true),
        }
    }

    /// What follows: the process may die before its rows are written or after, and calls may be lost.
    fn settle(&mut self, luck: Luck) {
        let batch = self.machine.take(self.now);
        if luck != Luck::DiesBefore {
            for row in batch.rows {
                match row.value {
                    Some(value) => self.rows.insert(row.key, value),
                    None => self.rows.remove(&row.key),
                };
            }
        }
        if matches!(luck, Luck::DiesBefore | Luck::DiesAfter) {
            // Another life draws other names, be it in the same second.
            self.lives += 1;
            self.machine = recover(&self.rows, self.machine.director.clone(), self.lives);
            self.connected = false;
        }
        if luck != Luck::Good || !self.connected {
            return;
        }
        for call in batch.calls {
            self.obey(call);
        }
    }

    fn obey(&mut self, call: Call) {
        if call.r#type() == call::Type::Reconcile {
            let asked: Vec<String> = match call.reconcile.unwrap().tasks {
                none if none.is_empty() => self.tasks.keys().cloned().collect(),
                some => some.into_iter().map(|task| task.task_id.value).collect(),
            };
            for task in asked {
                self.look(&task);
            }
        } else if let Some(kill) = call.kill {
            let task = kill.task_id.value;
            match self.tasks.get(&task) {
                Some((agent, _)) if self.cut_off[*agent] => {}
                Some(_) => {
                    self.tasks.remove(&task);
                    self.tell(&task, TaskState::TaskKilled, None, false);
                }
                None => self.look(&task),
            }
        } else if let Some(accept) = call.accept {
            let launches = accept.operations.into_iter().filter_map(|each| each.launch);
            for task in launches.flat_map(|launch| launch.task_infos) {
                let agent = task
                    .agent_id
                    .value
                    .trim_start_matches("agent")
                    .parse()
                    .unwrap();
                self.tasks.insert(task.task_id.value, (agent, false));
            }
        }
    }

    fn nth(&self, n: usize) -> Option<String> {
        self.tasks.keys().nth(n % self.tasks.len().max(1)).cloned()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Offer(agent) => self.offer(agent),
            Step::Runs(n) | Step::Fails(n) | Step::Ails(n) => {
                let Some(task) = self.nth(n) else { return };
                if self.cut_off[self.tasks[&task].0] || !self.connected {
                    return;
                }
                if let Step::Fails(_) = step {
                    self.tasks.remove(&task);
                    self.tell(&task, TaskState::TaskFailed, None, false);
                    return;
                }
                let healthy = matches!(step, Step::Runs(_));
                self.tasks.get_mut(&task).unwrap().1 = true;
                self.tell(&task, TaskState::TaskRunning, Some(healthy), false);
            }
            Step::Cut(agent) => {
                self.cut_off[agent] ^= true;
                let tasks = self.tasks.iter().filter(|(_, (at, _))| *at == agent);
                for task in tasks.map(|(task, _)| task.clone()).collect::<Vec<_>>() {
                    if self.connected {
                        self.look(&task);
                    }
                }
            }
            Step::Wants(command, instances) => {
                self.machine.director = One(app(command, instances));
            }
            Step::Connects(true) => self.subscribe(),
            Step::Connects(false) => {
                self.connected = false;
                self.machine.handle(self.now, Input::Disconnected);
            }
            Step::Passes(seconds) => self.now += std::time::Duration::from_secs(seconds),
        }
    }

    /// Everything works from now on.
    fn calm_down(&mut self) {
        for agent in 0..AGENTS {
            if self.cut_off[agent] {
                self.step(Step::Cut(agent));
            }
        }
        self.subscribe();
        for _ in 0..40 {
            self.settle(Luck::Good);
            let new: VecDeque<_> = self.tasks.keys().cloned().collect();
            for task in new {
                self.tasks.get_mut(&task).unwrap().1 = true;
                self.tell(&task, TaskState::TaskRunning, Some(true), false);
            }
            self.settle(Luck::Good);
            (0..AGENTS).for_each(|agent| self.offer(agent));
            self.settle(Luck::Good);
            self.step(Step::Passes(20));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Luck {
    Good,
    CallsLost,
    DiesBefore,
    DiesAfter,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Offer(usize),
    Runs(usize),
    Fails(usize),
    Ails(usize),
    Cut(usize),
    Wants(&'static str, u32),
    Connects(bool),
    Passes(u64),
}

fn step() -> impl Strategy<Value = (Step, Luck)> {
    let step = prop_oneof![
        4 => (0..AGENTS).prop_map(Step::Offer),
        4 => (0..8_usize).prop_map(Step::Runs),
        1 => (0..8_usize).prop_map(Step::Fails),
        1 => (0..8_usize).prop_map(Step::Ails),
        1 => (0..AGENTS).prop_map(Step::Cut),
        1 => (prop::sample::select(vec!["old", "new"]), 0..6_u32)
            .prop_map(|(command, instances)| Step::Wants(command, instances)),
        1 => prop::bool::weighted(0.8).prop_map(Step::Connects),
        2 => (0..200_u64).prop_map(Step::Passes),
    ];
    let luck = prop_oneof![
        12 => Just(Luck::Good),
        1 => Just(Luck::CallsLost),
        1 => Just(Luck::DiesBefore),
        1 => Just(Luck::DiesAfter),
    ];
    (step, luck)
}

proptest! {
    #[test]
    fn what_is_wanted_runs_in_the_end(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new(app("old", 3));
        world.subscribe();
        for (step, luck) in steps {
            world.step(step);
            world.settle(luck);
        }
        world.calm_down();
        let wanted = world.machine.director.0.clone();
        let fleet = &world.machine.fleet;
        let known: Vec<_> = fleet.instances(&wanted.id).map(|one| one.task_id.clone()).collect();
        let there: Vec<_> = world.tasks.keys().cloned().collect();
        prop_assert_eq!(&known, &there, "nobody runs who is not known, nobody is known who does not run");
        prop_assert_eq!(there.len(), wanted.instances as usize);
        prop_assert!(there.is_empty() || fleet.runs(&wanted));
        prop_assert!(fleet.members(&wanted.id).iter().all(|member| member.ready));
        for agent in 0..AGENTS {
            prop_assert!(world.tasks.values().filter(|(at, _)| *at == agent).count() <= 2);
        }
        // What is on disk is what is known.
        let again = recover(&world.rows, One(wanted.clone()), 7).fleet;
        let durable = |fleet: &Fleet| -> Vec<Instance> {
            fleet.instances(&wanted.id).map(|one| Instance { health: Vec::new(), ..(**one).clone() }).collect()
        };
        prop_assert_eq!(durable(&again), durable(fleet));
        prop_assert_eq!(again.specs.len(), fleet.specs.len());
    }
}

#[test]
fn what_nobody_here_sees_to_is_refused() {
    for refused in [
        r#""container": {"type": "MESOS", "volumes": [
            {"containerPath": "d", "mode": "RW", "persistent": {"size": 10}}]}"#,
        r#""healthChecks": [{"protocol": "HTTP"}]"#,
    ] {
        let document = format!(r#"{{"id": "/a", "cmd": "run", {refused}}}"#);
        let config = Config {
            mesos_role: "prod".to_owned(),
            ..Config::default()
        };
        let read = Fleet::read(&config, document.as_bytes());
        assert!(matches!(read, Err(Error::Unprocessable(_))), "{read:?}");
    }
}

/// All of `app` run and are healthy.
fn settled(app: App) -> World {
    let mut world = World::new(app);
    world.subscribe();
    world.settle(Luck::Good);
    world.offers();
    for at in 0..world.tasks.len() {
        world.step(Step::Runs(at));
        world.settle(Luck::Good);
    }
    world
}

#[test]
fn the_only_instance_comes_back_once_its_delay_is_over() {
    let mut world = settled(app("run", 1));
    world.step(Step::Passes(1));
    world.step(Step::Fails(0));
    world.settle(Luck::Good);
    world.offers();
    assert_eq!(world.tasks.len(), 0, "its delay runs");
    world.step(Step::Passes(1));
    world.settle(Luck::Good);
    world.offers();
    assert_eq!(world.tasks.len(), 1);
}

#[test]
fn an_upgrade_that_fails_keeps_to_its_delay() {
    let hasty = |command| App {
        backoff_seconds: 10,
        backoff_factor: 2.0,
        max_launch_delay_seconds: 3_600,
        ..app(command, 3)
    };
    let mut world = settled(hasty("old"));
    let old: Vec<String> = world.tasks.keys().cloned().collect();
    world.machine.director = One(hasty("new"));
    let mut launched = 0;
    for _ in 0..60 {
        world.settle(Luck::Good);
        world.offers();
        while let Some(at) = world.tasks.keys().position(|task| !old.contains(task)) {
            launched += 1;
            world.step(Step::Fails(at));
            world.settle(Luck::Good);
        }
        world.step(Step::Passes(1));
    }
    // Three at once, whose ends make it 40 seconds; these count anew from the launch that follows.
    assert_eq!(launched, 4);
    assert!(world.tasks.keys().eq(&old), "{:?}", world.tasks);
}

#[test]
fn what_fits_nowhere_asks_once_and_keeps_its_place() {
    let mut world = World::new(App {
        cpus: 100.0,
        ..app("run", 1)
    });
    world.subscribe();
    let id = PathId::from("/web");
    let since = Timestamp::from(world.now);
    let mut asked = 0;
    for _ in 0..100 {
        let calls = world.machine.take(world.now).calls;
        if calls.iter().any(|call| call.r#type() == call::Type::Revive) {
            asked += 1;
            world.offer(0);
        }
        world.now += std::time::Duration::from_millis(100);
    }
    let entry = world.machine.fleet.queue().entry(&id).unwrap();
    assert_eq!((asked, entry.summary.processed), (1, 1));
    assert_eq!(entry.since, since);
}

#[test]
fn what_waits_for_its_first_instance_can_be_found_and_stopped() {
    let mut world = World::new(app("run", 1));
    world.subscribe();
    world.settle(Luck::Good);
    let fleet = &mut world.machine.fleet;
    let services: Vec<PathId> = fleet.services().cloned().collect();
    assert_eq!(services, [PathId::from("/web")]);
    for id in &services {
        fleet.stop(id);
    }
    assert!(fleet.queue().is_empty());
    assert_eq!(fleet.services().count(), 0);
}

#[test]
fn what_is_stopped_leaves_neither_the_unreachable_nor_delays() {
    let mut world = settled(app("run", 2));
    world.step(Step::Fails(0));
    world.settle(Luck::Good);
    world.step(Step::Cut(0));
    let now = Timestamp::from(world.now);
    let fleet = &mut world.machine.fleet;
    let app = fleet.version_of(now, app("run", 2));
    assert!(fleet.queue().held_until(&app, now).is_some());
    fleet.take(world.now + std::time::Duration::from_secs(61), |_, _| {});
    assert_eq!(fleet.instances(&app.id).count(), 1);
    assert!(fleet.members(&app.id).is_empty(), "it is given up");
    fleet.stop(&app.id);
    assert_eq!(fleet.instances(&app.id).count(), 0);
    assert_eq!(fleet.queue().held_until(&app, now), None);
}

#[test]
fn who_never_gets_on_is_killed_by_the_next_life_as_well() {
    let mut world = World::new(app("run", 1));
    world.subscribe();
    world.settle(Luck::Good);
    world.offers();
    let task = world.nth(0).unwrap();
    world.tell(&task, TaskState::TaskStaging, None, false);
    world.settle(Luck::Good);
    world.step(Step::Passes(301));
    world.settle(Luck::DiesAfter);
    world.subscribe();
    world.settle(Luck::Good);
    assert!(!world.tasks.contains_key(&task));
}
