//! How many tasks a second one framework launches and sees finished, with agents whose tasks cost
//! nothing.
//!
//! `cargo bench -p dcos-sched --bench scheduler`; `-- --json` for machines.
//!
//! | contestant | what is between framework and master |
//! |---|---|
//! | limit | nothing: the core alone is fed with the same calls and messages |
//! | process | channels: a framework in the master's process |
//! | protobuf | API v1 over HTTP on loopback, protobuf |
//! | json | the same in JSON |
//!
//! In the last three, ten agents speak libprocess over TCP. Each task has one update, which ends it
//! and is acknowledged. An original master with its own agent and an unmodified pymesos scheduler
//! took some 70 s for 1,000 tasks on the machine this was written on, most of it in the agent.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::Table;
use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::internal as messages;
use dcos_proto::mesos::{
    AgentInfo, CommandInfo, FrameworkId, FrameworkInfo, MasterInfo, Offer, TaskInfo, TaskState,
    TaskStatus, offer,
};
use dcos_proto::scheduler::{Call, Event, call};
use dcos_proto::{Message as _, decode};
use dcos_sched::allocator::{self, HierarchicalDrf};
use dcos_sched::master::{Action, Config, Input, Master, Node, Packet, Settings};
use dcos_sched::sdk::{HttpTransport, SchedulerTransport};
use dcos_store::{Fence, MemoryStore, Revision, Snapshot, Term};
use dcos_wire::libprocess::{Event as Heard, Messenger, Upid};
use dcos_wire::{Listener, MediaType};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const TASKS: usize = 5_000;
const SAMPLES: usize = 5;
const AGENTS: usize = 10;
const AGENT: &str = "cpus:64;mem:65536";
const TASK: &str = "cpus:0.1;mem:32";
/// Acknowledgements that are under way at once.
const ACKNOWLEDGING: usize = 64;

fn main() {
    let mut table = Table::new(format!("{TASKS} tasks of one framework"), "tasks/s");
    let rates = |name: &str| (0..SAMPLES).map(|_| measure(name)).collect();
    table.limit("limit: the core alone", rates("limit"));
    for name in ["process", "protobuf", "json"] {
        table.row(name, rates(name));
    }
    table.print();
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more")]
fn measure(name: &str) -> f64 {
    let elapsed = if name == "limit" {
        alone()
    } else {
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(together(name))
    };
    TASKS as f64 / elapsed.as_secs_f64()
}

fn framework() -> FrameworkInfo {
    FrameworkInfo {
        user: "nobody".to_owned(),
        name: "bench".to_owned(),
        ..FrameworkInfo::default()
    }
}

fn subscribe() -> Call {
    Call {
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe {
            framework_info: framework(),
            ..call::Subscribe::default()
        }),
        ..Call::default()
    }
}

/// Makes calls out of events, and counts.
struct Scheduler {
    id: FrameworkId,
    launched: usize,
    finished: usize,
}

impl Scheduler {
    fn hear(&mut self, event: Event) -> Vec<Call> {
        if let Some(subscribed) = event.subscribed {
            self.id = subscribed.framework_id;
        }
        let mut calls: Vec<Call> = event
            .offers
            .into_iter()
            .flat_map(|offers| offers.offers)
            .map(|offer| self.answer(&offer))
            .collect();
        if let Some(update) = event.update {
            self.finished += 1;
            let status = update.status;
            calls.push(Call {
                framework_id: Some(self.id.clone()),
                r#type: Some(call::Type::Acknowledge.into()),
                acknowledge: Some(call::Acknowledge {
                    agent_id: status.agent_id.unwrap(),
                    task_id: status.task_id,
                    uuid: status.uuid.unwrap(),
                }),
                ..Call::default()
            });
        }
        calls
    }

    /// As many tasks as fit the offer, and what is left again at once.
    fn answer(&mut self, offer: &Offer) -> Call {
        let have = Resources::from(&offer.resources);
        let cpus = have.cpus().unwrap_or(0.0);
        let mut tasks = Vec::new();
        let mut used = 0.1;
        while used <= cpus && self.launched < TASKS {
            tasks.push(TaskInfo {
                name: "t".to_owned(),
                task_id: format!("t{}", self.launched).into(),
                agent_id: offer.agent_id.clone(),
                resources: Resources::parse(TASK).unwrap().to_messages(),
                command: Some(CommandInfo::default()),
                ..TaskInfo::default()
            });
            self.launched += 1;
            used += 0.1;
        }
        let launch = offer::Operation {
            r#type: Some(offer::operation::Type::Launch.into()),
            launch: Some(offer::operation::Launch { task_infos: tasks }),
            ..offer::Operation::default()
        };
        Call {
            framework_id: Some(self.id.clone()),
            r#type: Some(call::Type::Accept.into()),
            accept: Some(call::Accept {
                offer_ids: vec![offer.id.clone()],
                operations: vec![launch],
                filters: Some(dcos_proto::mesos::Filters {
                    refuse_seconds: Some(0.0),
                }),
            }),
            ..Call::default()
        }
    }
}

fn scheduler() -> Scheduler {
    Scheduler {
        id: FrameworkId::default(),
        launched: 0,
        finished: 0,
    }
}

fn register() -> messages::RegisterSlaveMessage {
    messages::RegisterSlaveMessage {
        agent: AgentInfo {
            hostname: "bench".to_owned(),
            resources: Resources::parse(AGENT).unwrap().to_messages(),
            ..AgentInfo::default()
        },
        version: Some("1.11.0".to_owned()),
        ..messages::RegisterSlaveMessage::default()
    }
}

/// The one update of a task that an agent was told to run.
fn finished(
    run: messages::RunTaskMessage,
    uuid: [u8; 16],
    pid: &str,
) -> messages::StatusUpdateMessage {
    let agent_id = Some(run.task.agent_id);
    messages::StatusUpdateMessage {
        update: messages::StatusUpdate {
            framework_id: run.framework.id.unwrap(),
            agent_id: agent_id.clone(),
            status: TaskStatus {
                task_id: run.task.task_id,
                state: TaskState::TaskFinished.into(),
                agent_id,
                ..TaskStatus::default()
            },
            uuid: Some(uuid.to_vec()),
            ..messages::StatusUpdate::default()
        },
        pid: Some(pid.to_owned()),
    }
}

/// The core alone, on a clock of its own.
fn alone() -> Duration {
    let seed = Seed::new(1);
    let allocator = HierarchicalDrf::new(allocator::Config::default(), &seed);
    let mut now = Time::from_secs(1);
    let info = MasterInfo {
        id: "m".to_owned(),
        ..MasterInfo::default()
    };
    let mut master = Master::new(Settings::new(info), Box::new(allocator), &seed, now);
    let mut uuids = seed.stream("uuids");
    let mut scheduler = scheduler();
    let mut stream = None;
    let mut inputs = vec![
        Input::Recovered(Snapshot::default()),
        input(None, subscribe()),
    ];
    inputs.extend((0..AGENTS).map(|agent| Input::Message {
        from: pid(agent),
        message: Packet::of(&register()),
    }));
    let start = Instant::now();
    while scheduler.finished < TASKS {
        if inputs.is_empty() {
            now = now.max(master.next_deadline().unwrap());
            inputs.push(Input::Tick);
        }
        for input in std::mem::take(&mut inputs) {
            master.handle(now, input);
        }
        while let Some(action) = master.poll() {
            match action {
                Action::Persist { id, .. } => {
                    let revision = Revision(1);
                    master.handle(now, Input::Stored { id, revision });
                }
                Action::Event { stream_id, event } => {
                    let calls = scheduler.hear((*event).clone());
                    inputs.extend(
                        calls
                            .into_iter()
                            .map(|call| input(Some(stream_id.clone()), call)),
                    );
                    stream = Some(stream_id);
                }
                Action::Send { to, message }
                    if message.name == messages::RunTaskMessage::V0_NAME =>
                {
                    let update = finished(decode(&message.body).unwrap(), uuids.uuid_bytes(), &to);
                    inputs.push(Input::Message {
                        from: to,
                        message: Packet::of(&update),
                    });
                }
                _ => {}
            }
        }
    }
    assert!(stream.is_some());
    start.elapsed()
}

fn input(stream_id: Option<String>, call: Call) -> Input {
    Input::Call {
        request: 1,
        stream_id,
        principal: None,
        call: Box::new(call),
    }
}

fn pid(agent: usize) -> String {
    format!("slave({agent})@127.0.0.1:1")
}

/// A whole master, agents over TCP, and a framework over `name`.
async fn together(name: &str) -> Duration {
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    let node = Node::new(Config::default());
    let handle = node.handle();
    let fence = Fence::new("bench", Term(1));
    tokio::spawn(node.run(Arc::new(MemoryStore::new()), fence, listener, stop.clone()));
    let master = Upid::new("master", address);
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let messenger = Messenger::new(listener.address().unwrap());
    let server = messenger.server(axum::Router::new());
    tokio::spawn(server.serve(listener, stop.clone()));
    let mut agents = JoinSet::new();
    for agent in 0..AGENTS {
        agents.spawn(serve_agent(messenger.clone(), agent, master.clone()));
    }
    let transport: Arc<dyn SchedulerTransport> = match name {
        "process" => Arc::new(handle),
        "protobuf" => Arc::new(HttpTransport::new(
            [address.to_string()],
            MediaType::Protobuf,
        )),
        _ => Arc::new(HttpTransport::new([address.to_string()], MediaType::Json)),
    };
    let mut subscription = transport.subscribe(subscribe()).await.unwrap();
    let stream: Arc<str> = subscription.stream_id.as_str().into();
    let slots = Arc::new(Semaphore::new(ACKNOWLEDGING));
    let mut scheduler = scheduler();
    let start = Instant::now();
    let mut calls = JoinSet::new();
    while scheduler.finished < TASKS {
        let event = subscription.events.recv().await.unwrap();
        for call in scheduler.hear(event) {
            let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
            let (transport, stream) = (Arc::clone(&transport), Arc::clone(&stream));
            calls.spawn(async move {
                transport.call(&stream, call).await.unwrap();
                drop(slot);
            });
        }
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
    start.elapsed()
}

/// An agent whose tasks end as soon as they are launched.
async fn serve_agent(messenger: Messenger, number: usize, master: Upid) {
    let mut actor = messenger.actor(&format!("slave({number})")).unwrap();
    let mut uuids = Seed::new(number as u64);
    let own = actor.upid().to_string();
    actor.send_message(&master, &register());
    while let Some(heard) = actor.recv().await {
        let Heard::Message(message) = heard else {
            return;
        };
        if message.name == messages::RunTaskMessage::V0_NAME {
            let update = finished(decode(&message.body).unwrap(), uuids.uuid_bytes(), &own);
            actor.send_message(&master, &update);
        } else if message.name == messages::PingSlaveMessage::V0_NAME {
            actor.send_message(&master, &messages::PongSlaveMessage {});
        }
    }
}
