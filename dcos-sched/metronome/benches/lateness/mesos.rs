//! A master whose agents have room, and say of each task at once that it runs and has ended.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use dcos_core::resources::Resources;
use dcos_proto::mesos::{AgentId, Offer, TaskState, TaskStatus, resource};
use dcos_proto::scheduler::{Call, Event, call, event};
use dcos_sched::sdk::{SchedulerTransport, Subscription, TransportError};
use tokio::sync::mpsc;

#[derive(Debug)]
pub(crate) struct Mesos {
    /// How many agents are offered at once.
    agents: usize,
    events: Mutex<Option<mpsc::UnboundedSender<Event>>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    offers: u64,
    /// When launches of triggered runs arrived, in microseconds.
    launched: Vec<u64>,
    /// How many others did.
    beside: u64,
}

impl Mesos {
    pub(crate) fn new(agents: usize) -> Self {
        Self {
            agents,
            events: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn launched(&self) -> Vec<u64> {
        self.seen.lock().unwrap().launched.clone()
    }

    pub(crate) fn beside(&self) -> u64 {
        self.seen.lock().unwrap().beside
    }

    fn send(&self, events: impl IntoIterator<Item = Event>) {
        if let Some(sender) = self.events.lock().unwrap().as_ref() {
            for event in events {
                let _ = sender.send(event);
            }
        }
    }

    fn take(&self, call: Call) {
        let now = crate::now();
        let mut seen = self.seen.lock().unwrap();
        match call.r#type() {
            call::Type::Revive => self.send([offers(&mut seen, self.agents)]),
            call::Type::Accept => {
                let accept = call.accept.unwrap();
                let tasks = accept.operations.into_iter();
                let tasks = tasks.flat_map(|operation| operation.launch.unwrap().task_infos);
                for task in tasks {
                    if task.task_id.value.starts_with("due-") {
                        seen.launched.push(now);
                    } else {
                        seen.beside += 1;
                    }
                    for state in [TaskState::TaskRunning, TaskState::TaskFinished] {
                        self.send([update(&task.task_id.value, &task.agent_id, state)]);
                    }
                }
                // What is left is offered again, unless that was refused.
                let filters = accept.filters.unwrap_or_default();
                if filters.refuse_seconds == Some(0.0) {
                    self.send([offers(&mut seen, 1)]);
                }
            }
            _ => {}
        }
    }
}

fn offers(seen: &mut Seen, agents: usize) -> Event {
    let offer = |agent: usize| {
        seen.offers += 1;
        Offer {
            id: format!("offer-{}", seen.offers).into(),
            agent_id: format!("agent-{agent}").into(),
            hostname: format!("host-{agent}"),
            resources: Resources::parse("cpus:1000;mem:1000000")
                .unwrap()
                .to_messages(),
            allocation_info: Some(resource::AllocationInfo {
                role: Some("*".to_owned()),
            }),
            ..Offer::default()
        }
    };
    let offers = (0..agents).map(offer).collect();
    Event {
        r#type: Some(event::Type::Offers as i32),
        offers: Some(event::Offers { offers }),
        ..Event::default()
    }
}

fn update(task: &str, agent: &AgentId, state: TaskState) -> Event {
    let status = TaskStatus {
        task_id: task.into(),
        state: state as i32,
        agent_id: Some(agent.clone()),
        uuid: Some(vec![7; 16]),
        ..TaskStatus::default()
    };
    Event {
        r#type: Some(event::Type::Update as i32),
        update: Some(event::Update { status }),
        ..Event::default()
    }
}

#[derive(Debug)]
pub(crate) struct Transport(pub(crate) Arc<Mesos>);

#[async_trait]
impl SchedulerTransport for Transport {
    async fn subscribe(&self, _: Call) -> Result<Subscription, TransportError> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let (events, stream) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
        let subscribed = event::Subscribed {
            framework_id: "framework".into(),
            heartbeat_interval_seconds: Some(15.0),
            ..event::Subscribed::default()
        };
        let _ = sender.send(Event {
            r#type: Some(event::Type::Subscribed as i32),
            subscribed: Some(subscribed),
            ..Event::default()
        });
        *self.0.events.lock().unwrap() = Some(sender);
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
