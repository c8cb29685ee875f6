//! A master with one agent, as far as a framework can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use dcos_proto::mesos::{
    AgentId, FrameworkId, Offer, OfferId, Resource, TaskId, TaskState, TaskStatus, resource, value,
};
use dcos_proto::scheduler::{Call, Event, call, event};
use dcos_sched::sdk::{SchedulerTransport, Subscription, TransportError};
use tokio::sync::mpsc;

#[derive(Debug, Default)]
struct State {
    events: Option<mpsc::UnboundedSender<Event>>,
    tasks: BTreeMap<String, TaskState>,
    launches: usize,
    offers: usize,
    paused: bool,
    wanted: bool,
    roles: Vec<String>,
    subscriptions: usize,
    /// How many frameworks were ended; the one there is has this number.
    ended: usize,
}

/// The master; it outlives the frameworks' connections.
#[derive(Debug, Default)]
pub(crate) struct Mesos {
    state: Mutex<State>,
}

impl Mesos {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The tasks that run.
    pub(crate) fn tasks(&self) -> BTreeSet<String> {
        self.state.lock().unwrap().tasks.keys().cloned().collect()
    }

    /// How many tasks were ever launched.
    pub(crate) fn launches(&self) -> usize {
        self.state.lock().unwrap().launches
    }

    /// Waits until a framework has subscribed so often.
    pub(crate) fn subscriptions(&self) -> usize {
        self.state.lock().unwrap().subscriptions
    }

    pub(crate) async fn until_subscriptions(&self, count: usize) {
        while self.subscriptions() < count {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// While paused there are no offers.
    pub(crate) fn pause(&self, paused: bool) {
        self.state.lock().unwrap().paused = paused;
    }

    /// What an operator's TEARDOWN does: the framework ends with its tasks, and may not come back.
    pub(crate) fn tear_down(&self) {
        let mut state = self.state.lock().unwrap();
        state.ended += 1;
        state.tasks.clear();
        state.events = None;
    }

    /// Ends every task with this state.
    pub(crate) fn end_all(&self, end: TaskState) {
        let mut state = self.state.lock().unwrap();
        for id in std::mem::take(&mut state.tasks).into_keys() {
            state.status(&id, end);
        }
    }

    fn take(&self, call: Call) {
        let mut state = self.state.lock().unwrap();
        match call.r#type() {
            call::Type::Accept => {
                let launches = call.accept.unwrap().operations.into_iter();
                for task in launches.flat_map(|operation| operation.launch.unwrap().task_infos) {
                    let id = task.task_id.value;
                    assert!(!state.tasks.contains_key(&id), "launched twice");
                    state.tasks.insert(id.clone(), TaskState::TaskRunning);
                    state.launches += 1;
                    state.status(&id, TaskState::TaskRunning);
                }
                state.offer();
            }
            call::Type::Decline | call::Type::Suppress => state.wanted = false,
            call::Type::Revive => {
                state.wanted = true;
                state.offer();
            }
            call::Type::Kill => {
                let id = call.kill.unwrap().task_id.value;
                let known = state.tasks.remove(&id).is_some();
                state.status(
                    &id,
                    if known {
                        TaskState::TaskKilled
                    } else {
                        TaskState::TaskGone
                    },
                );
            }
            call::Type::Reconcile => {
                let asked = call.reconcile.unwrap().tasks;
                let asked: Vec<String> = if asked.is_empty() {
                    state.tasks.keys().cloned().collect()
                } else {
                    asked.into_iter().map(|task| task.task_id.value).collect()
                };
                for id in asked {
                    let known = state.tasks.get(&id).copied();
                    state.status(&id, known.unwrap_or(TaskState::TaskGone));
                }
            }
            _ => {}
        }
    }
}

impl State {
    fn send(&self, kind: event::Type, fill: impl FnOnce(&mut Event)) {
        let mut event = Event {
            r#type: Some(kind as i32),
            ..Event::default()
        };
        fill(&mut event);
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }

    fn status(&self, id: &str, state: TaskState) {
        let status = TaskStatus {
            task_id: TaskId::from(id),
            state: state as i32,
            agent_id: Some(AgentId::from("agent")),
            uuid: Some(vec![7]),
            message: Some("as told".into()),
            ..TaskStatus::default()
        };
        self.send(event::Type::Update, |event| {
            event.update = Some(event::Update { status })
        });
    }

    fn offer(&mut self) {
        if self.paused || !self.wanted {
            return;
        }
        for role in self.roles.clone() {
            self.offer_to(role);
        }
    }

    fn offer_to(&mut self, role: String) {
        self.offers += 1;
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
            id: OfferId::from(format!("offer-{}", self.offers)),
            agent_id: AgentId::from("agent"),
            hostname: "127.0.0.1".into(),
            resources: vec![scalar("cpus", 4.0), scalar("mem", 4096.0), ports],
            allocation_info: Some(resource::AllocationInfo { role: Some(role) }),
            ..Offer::default()
        };
        self.send(event::Type::Offers, |event| {
            event.offers = Some(event::Offers {
                offers: vec![offer],
            });
        });
    }
}

/// The way to the master.
#[derive(Debug)]
pub(crate) struct Transport(pub(crate) Arc<Mesos>);

#[async_trait]
impl SchedulerTransport for Transport {
    async fn subscribe(&self, call: Call) -> Result<Subscription, TransportError> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let (events, stream) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
        let mut state = self.0.state.lock().unwrap();
        state.events = Some(sender);
        state.subscriptions += 1;
        state.wanted = true;
        let info = call.subscribe.unwrap().framework_info;
        state.roles = info.roles;
        let own = FrameworkId::from(format!("framework-{:04}", state.ended + 1));
        if info.id.is_some_and(|id| id != own) {
            let message = "Framework has been removed".to_owned();
            state.send(event::Type::Error, |event| {
                event.error = Some(event::Error { message });
            });
            return Ok(Subscription {
                stream_id: "stream".into(),
                events: stream,
            });
        }
        let subscribed = event::Subscribed {
            framework_id: own,
            heartbeat_interval_seconds: Some(15.0),
            ..event::Subscribed::default()
        };
        state.send(event::Type::Subscribed, |event| {
            event.subscribed = Some(subscribed)
        });
        state.offer();
        Ok(Subscription {
            stream_id: "stream".into(),
            events: stream,
        })
    }

    async fn call(&self, _: &str, call: Call) -> Result<(), TransportError> {
        self.0.take(call);
        Ok(())
    }
}
