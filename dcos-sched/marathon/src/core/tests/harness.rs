//! A store that is a map, and a Mesos that is a list of tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::{
    AgentId, FrameworkId, Offer, OfferId, Resource, TaskId, TaskState, TaskStatus, resource, value,
};
use dcos_proto::scheduler::{Call, Event, call, event};
use serde_json::{Value, json};

use super::super::*;
use super::disks::Disks;
use crate::instance::Condition;
use crate::model::App;
use crate::{Error, normalize};

/// An app with small wishes.
pub(crate) fn app(id: &str, fields: &Value) -> App {
    let mut document = json!({"id": id, "cmd": "run", "cpus": 0.1, "mem": 1});
    document
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let update = serde_json::from_value(document).unwrap();
    normalize::create(update, &PathId::root(), &rules(), Timestamp::default()).unwrap()
}

/// A pod of two containers with small wishes.
pub(crate) fn pod(id: &str, fields: &Value) -> App {
    let mut document = json!({"id": id, "executorResources": {"cpus": 0.1, "mem": 32, "disk": 10},
        "containers": [{"name": "one", "resources": {"cpus": 0.05, "mem": 1}},
            {"name": "two", "resources": {"cpus": 0.05, "mem": 1}}]});
    document
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let pod = normalize::read_pod(document.to_string().as_bytes()).unwrap();
    normalize::pod(pod, &rules(), Timestamp::default()).unwrap()
}

fn rules() -> normalize::Rules {
    normalize::Rules {
        features: BTreeSet::new(),
        default_network_name: None,
        mesos_bridge_name: String::new(),
        default_role: "*".into(),
        valid_roles: BTreeSet::from(["*".into(), "dev".into()]),
    }
}

/// The id a master gives to the framework in its `life`.
pub(crate) fn framework_id(life: usize) -> String {
    format!("framework-{life}")
}

pub(crate) struct Harness {
    pub(crate) core: Core,
    pub(crate) rows: BTreeMap<String, Vec<u8>>,
    pub(crate) now: Time,
    events: Vec<&'static str>,
    /// Tasks Mesos runs, with the state each has.
    tasks: BTreeMap<String, TaskState>,
    launched: BTreeMap<String, usize>,
    /// Statuses on their way.
    statuses: VecDeque<(String, TaskState)>,
    wants_offers: bool,
    /// Agents do not hear of kills.
    pub(crate) deaf: bool,
    /// The master does not hear what becomes of its offers.
    pub(crate) is_cut_off: bool,
    /// The role offers are made to.
    pub(crate) role: String,
    /// What agents keep reserved.
    pub(crate) disks: Disks,
    /// How often the framework was ended.
    life: usize,
}

impl Harness {
    pub(crate) fn new() -> Self {
        let now = Time::from_secs(1_000_000);
        let mut harness = Self {
            core: Self::recover(&BTreeMap::new(), now),
            rows: BTreeMap::new(),
            now,
            events: Vec::new(),
            tasks: BTreeMap::new(),
            launched: BTreeMap::new(),
            statuses: VecDeque::new(),
            wants_offers: true,
            deaf: false,
            is_cut_off: false,
            role: "*".into(),
            disks: Disks::default(),
            life: 0,
        };
        harness.subscribe();
        harness
    }

    fn recover(rows: &BTreeMap<String, Vec<u8>>, now: Time) -> Core {
        let rows = rows
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        Core::recover(
            Arc::new(Config::default()),
            Seed::new(now.as_secs()),
            now,
            rows,
        )
        .unwrap()
    }

    /// Kills the core; what it did not hand out is gone, the store and Mesos go on.
    pub(crate) fn crash(&mut self) {
        self.now += Duration::from_secs(3);
        self.core = Self::recover(&self.rows, self.now);
        self.statuses.clear();
        self.subscribe();
    }

    /// The same, and the next one's clock is so much behind.
    pub(crate) fn crash_back(&mut self, time: Duration) {
        self.now = self.now - time;
        self.crash();
    }

    /// Somebody ends the framework: its tasks go, what is reserved stays, and the next one has another id.
    pub(crate) fn tear_down(&mut self) {
        self.tasks.clear();
        self.statuses.clear();
        self.life += 1;
        self.core = Self::recover(&self.rows, self.now);
        self.core.handle(self.now, Input::FrameworkEnded);
        self.flush();
        assert_eq!(self.core.framework_id(), None);
        self.crash();
        assert_eq!(
            self.core.framework_id().map(|id| id.value.clone()),
            Some(framework_id(self.life))
        );
    }

    pub(crate) fn subscribe(&mut self) {
        let subscribed = event::Subscribed {
            framework_id: FrameworkId::from(framework_id(self.life)),
            ..event::Subscribed::default()
        };
        self.wants_offers = true;
        self.feed(Event {
            r#type: Some(event::Type::Subscribed as i32),
            subscribed: Some(subscribed),
            ..Event::default()
        });
    }

    pub(crate) fn feed(&mut self, event: Event) {
        self.core.handle(self.now, Input::Event(Box::new(event)));
        self.flush();
    }

    /// What the shell does: rows first, then calls.
    pub(crate) fn flush(&mut self) {
        let batch = self.core.take(self.now);
        assert_eq!(batch.fatal, None);
        for row in batch.rows {
            match row.value {
                Some(value) => self.rows.insert(row.key, value),
                None => self.rows.remove(&row.key),
            };
        }
        self.events
            .extend(batch.events.iter().map(|event| event.kind));
        for call in batch.calls {
            self.obey(call);
        }
    }

    fn obey(&mut self, call: Call) {
        match call.r#type() {
            call::Type::Accept if self.is_cut_off => {}
            call::Type::Accept => {
                let operations = call.accept.unwrap().operations;
                let mut tasks = Vec::new();
                for operation in operations {
                    self.disks.apply(&operation);
                    for task in operation.launch.into_iter().flat_map(|l| l.task_infos) {
                        let user = [task.task_id.clone()];
                        self.disks.use_for(&user, &task.resources, &self.tasks);
                        tasks.push(task);
                    }
                    if let Some(group) = operation.launch_group {
                        let of_tasks = group.task_group.tasks.iter();
                        let users: Vec<_> = of_tasks.clone().map(|t| t.task_id.clone()).collect();
                        let resources = of_tasks.flat_map(|task| &task.resources);
                        let all = group.executor.resources.iter().chain(resources);
                        self.disks.use_for(&users, all, &self.tasks);
                        tasks.extend(group.task_group.tasks);
                    }
                }
                for task in tasks {
                    *self.launched.entry(task.name.clone()).or_default() += 1;
                    let id = task.task_id.value;
                    assert!(!self.tasks.contains_key(&id), "launched twice: {id}");
                    self.tasks.insert(id.clone(), TaskState::TaskStaging);
                    self.statuses.push_back((id, TaskState::TaskRunning));
                }
            }
            call::Type::Kill if self.deaf => {}
            call::Type::Kill => {
                let id = call.kill.unwrap().task_id.value;
                let state = if self.tasks.remove(&id).is_some() {
                    TaskState::TaskKilled
                } else {
                    TaskState::TaskUnknown
                };
                self.statuses.push_back((id, state));
            }
            call::Type::Reconcile => {
                let asked = call.reconcile.unwrap().tasks;
                let asked: Vec<String> = if asked.is_empty() {
                    self.tasks.keys().cloned().collect()
                } else {
                    asked.into_iter().map(|task| task.task_id.value).collect()
                };
                for id in asked {
                    // A task that was staging when its status got lost has since come up.
                    let state =
                        self.tasks
                            .get(&id)
                            .map_or(TaskState::TaskGone, |state| match state {
                                TaskState::TaskStaging => TaskState::TaskRunning,
                                other => *other,
                            });
                    self.statuses.push_back((id, state));
                }
            }
            call::Type::Revive => self.wants_offers = true,
            call::Type::Suppress => self.wants_offers = false,
            _ => {}
        }
    }

    /// One offer of an agent with room for four.
    pub(crate) fn offer(&mut self) {
        let scalar = |name: &str, value: f64| Resource {
            name: name.into(),
            scalar: Some(value::Scalar { value }),
            ..Resource::default()
        };
        let ports = Resource {
            name: "ports".into(),
            r#type: value::Type::Ranges as i32,
            ranges: Some(value::Ranges {
                range: vec![value::Range {
                    begin: 31_000,
                    end: 31_999,
                }],
            }),
            ..Resource::default()
        };
        let offer = Offer {
            id: OfferId::from("offer"),
            agent_id: AgentId::from("agent"),
            hostname: "host".into(),
            resources: [
                scalar("cpus", 0.4),
                scalar("mem", 100.0),
                scalar("disk", 500.0),
                ports,
            ]
            .into_iter()
            .chain(self.disks.free(&self.role, &self.tasks))
            .collect(),
            allocation_info: Some(resource::AllocationInfo {
                role: Some(self.role.clone()),
            }),
            ..Offer::default()
        };
        self.feed(Event {
            r#type: Some(event::Type::Offers as i32),
            offers: Some(event::Offers {
                offers: vec![offer],
            }),
            ..Event::default()
        });
    }

    fn status(&mut self, id: &str, state: TaskState) {
        if state == TaskState::TaskRunning {
            match self.tasks.get_mut(id) {
                Some(known) => *known = state,
                None => return,
            }
        }
        let status = TaskStatus {
            task_id: TaskId::from(id),
            state: state as i32,
            agent_id: Some(AgentId::from("agent")),
            uuid: Some(vec![1]),
            ..TaskStatus::default()
        };
        self.update(status);
    }

    pub(crate) fn update(&mut self, status: TaskStatus) {
        self.feed(Event {
            r#type: Some(event::Type::Update as i32),
            update: Some(event::Update { status }),
            ..Event::default()
        });
    }

    /// The next thing that happens in the world; false if nothing does any more.
    fn step(&mut self) -> bool {
        self.now += Duration::from_millis(100);
        if let Some((id, state)) = self.statuses.pop_front() {
            self.status(&id, state);
            return true;
        }
        if !self.core.waiting().is_empty() {
            self.core.handle(self.now, Input::Tick);
            self.flush();
        }
        let due = !self.core.queue.due(Timestamp::from(self.now)).is_empty();
        if self.wants_offers && (due || !self.core.releasing.is_empty()) {
            self.offer();
            return true;
        }
        let soon = self.now + Duration::from_secs(5);
        if let Some(deadline) = self.core.next_deadline(self.now).filter(|at| *at <= soon) {
            self.now = deadline.max(self.now);
            self.core.handle(self.now, Input::Tick);
            self.flush();
            return true;
        }
        false
    }

    /// Until nothing happens any more; true if that was within `moves`.
    pub(crate) fn run_for(&mut self, moves: usize) -> bool {
        (0..moves).any(|_| !self.step())
    }

    pub(crate) fn run(&mut self) {
        assert!(self.run_for(500_000), "no end: {:?}", self.core.waiting());
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.core.handle(self.now, Input::Tick);
        self.flush();
    }

    pub(crate) fn try_change(
        &mut self,
        force: bool,
        change: impl FnOnce(&mut RootGroup),
    ) -> Result<Arc<Plan>, Error> {
        self.now += Duration::from_millis(10);
        let plan = self.core.change(self.now, force, &Kill::new(), |scope| {
            let mut root = scope.copy();
            change(&mut root);
            Ok(root)
        });
        self.flush();
        plan
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut RootGroup)) {
        self.try_change(false, change).unwrap();
    }

    pub(crate) fn put(&mut self, app: App) {
        self.change(|root| root.put_app(app, root.version, false));
    }

    pub(crate) fn scale(&mut self, id: &str, instances: u32) {
        self.change(|root| {
            let app = root
                .apps
                .get_mut(&PathId::from(id))
                .map(Arc::make_mut)
                .unwrap();
            (app.instances, app.version_info) = (instances, None);
        });
    }

    pub(crate) fn delete(&mut self, id: &str) {
        self.change(|root| {
            root.apps.remove(&PathId::from(id));
        });
    }

    pub(crate) fn fail_all(&mut self) {
        self.statuses.clear();
        for id in std::mem::take(&mut self.tasks).into_keys() {
            self.status(&id, TaskState::TaskFailed);
        }
    }

    pub(crate) fn lose_all(&mut self) {
        for id in self.tasks.keys().cloned().collect::<Vec<_>>() {
            self.status(&id, TaskState::TaskUnreachable);
        }
    }

    /// One of the agents is out of reach: the one the first task runs on.
    pub(crate) fn lose_one(&mut self) {
        if let Some(id) = self.tasks.keys().next().cloned() {
            self.status(&id, TaskState::TaskUnreachable);
        }
    }

    /// The agents of these tasks are out of reach.
    pub(crate) fn lose(&mut self, tasks: &BTreeSet<String>) {
        for id in tasks {
            self.status(id, TaskState::TaskUnreachable);
        }
    }

    /// What was said of tasks does not arrive.
    pub(crate) fn lose_statuses(&mut self) {
        self.statuses.clear();
    }

    pub(crate) fn find_all(&mut self) {
        for id in self.tasks.keys().cloned().collect::<Vec<_>>() {
            self.status(&id, TaskState::TaskRunning);
        }
    }

    /// What executors say of the checks they perform.
    pub(crate) fn report_health(&mut self, healthy: bool) {
        for id in self.tasks.keys().cloned().collect::<Vec<_>>() {
            let status = TaskStatus {
                task_id: TaskId::from(id.as_str()),
                state: TaskState::TaskRunning as i32,
                agent_id: Some(AgentId::from("agent")),
                healthy: Some(healthy),
                uuid: Some(vec![2]),
                ..TaskStatus::default()
            };
            self.feed(Event {
                r#type: Some(event::Type::Update as i32),
                update: Some(event::Update { status }),
                ..Event::default()
            });
        }
    }

    pub(crate) fn probe_all(&mut self, outcome: &Result<(), String>) {
        let ids: Vec<_> = self.core.all_instances().map(|i| i.id.clone()).collect();
        for instance in ids {
            self.probe(&instance, outcome);
        }
    }

    /// The first check of an instance comes to an end.
    pub(crate) fn probe(&mut self, instance: &InstanceId, outcome: &Result<(), String>) {
        self.now += Duration::from_millis(1);
        let probe = Probe::Health {
            instance: instance.clone(),
            check: 0,
            outcome: outcome.clone(),
        };
        self.core.handle(self.now, Input::Probed(probe));
        self.flush();
    }

    /// The readiness check of each instance passes.
    pub(crate) fn admit_all(&mut self) {
        let ids: Vec<_> = self.core.all_instances().map(|i| i.id.clone()).collect();
        for instance in ids {
            let result = crate::instance::ReadinessResult {
                name: "ready".into(),
                ready: true,
                last_response: None,
            };
            let probe = Probe::Readiness { instance, result };
            self.core.handle(self.now, Input::Probed(probe));
            self.flush();
        }
    }

    pub(crate) fn delete_by_force(&mut self, id: &str) {
        self.try_change(true, |root| {
            root.apps.remove(&PathId::from(id));
        })
        .unwrap();
    }

    pub(crate) fn idle(&self) -> bool {
        self.core.deployments.is_empty()
            && !self.rows.keys().any(|key| key.contains("/deployment/"))
    }

    pub(crate) fn deployments(&self) -> Vec<String> {
        self.core.deployments.keys().cloned().collect()
    }

    pub(crate) fn running(&self, id: &str) -> usize {
        let running = |instance: &&Arc<Instance>| instance.condition == Condition::Running;
        self.core.instances_of(&id.into()).filter(running).count()
    }

    pub(crate) fn condition(&self, id: &str) -> Option<Condition> {
        self.core
            .instances_of(&id.into())
            .next()
            .map(|instance| instance.condition)
    }

    pub(crate) fn tasks(&self, id: &str) -> BTreeSet<String> {
        self.core
            .instances_of(&id.into())
            .map(|instance| instance.task_id.clone())
            .collect()
    }

    pub(crate) fn specs(&self, id: &str) -> Vec<Arc<App>> {
        self.core
            .instances_of(&id.into())
            .map(|i| Arc::clone(self.core.history.spec(&i.app, i.version).unwrap()))
            .collect()
    }

    pub(crate) fn launched(&self, id: &str) -> usize {
        self.launched
            .get(&PathId::from(id).host_name())
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn mesos_tasks(&self) -> usize {
        self.tasks.len()
    }

    pub(crate) fn heard(&self, kind: &str) -> bool {
        self.times_heard(kind) > 0
    }

    pub(crate) fn times_heard(&self, kind: &str) -> usize {
        self.events.iter().filter(|each| **each == kind).count()
    }

    /// Whether all instances were launched with the configuration that is wanted.
    pub(crate) fn is_up_to_date(&self, id: &str) -> bool {
        let id = PathId::from(id);
        let wanted = self.core.root.app(&id).map(|app| app.config_version());
        let mut all = self.core.instances_of(&id);
        all.all(|instance| Some(instance.config_version) == wanted)
    }
}
