//! A master and agents that do nothing but be there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_proto::internal as messages;
use dcos_proto::internal::archive;
use dcos_proto::internal::registry::Slave;
use dcos_proto::mesos::{
    AgentId, AgentInfo, ContainerStatus, FrameworkId, FrameworkInfo, Label, Labels, Task, TaskId,
    TaskState, TaskStatus, Uuid, agent_info, framework_info,
};
use dcos_proto::{Message, decode};
use dcos_sched::master::{Config, MasterHandle, Node};
use dcos_store::{Fence, MemoryStore, Snapshot, StateStore, Term, Transaction};
use dcos_wire::Listener;
use dcos_wire::libprocess::{ActorHandle, Event, Messenger, Upid};
use prost::Message as _;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Size;

const FRAMEWORKS: usize = 5;
const LABELS: usize = 10;
/// Processes that agents live in: each has one connection to the master, and one from it.
const HOSTS: usize = 20;

pub(crate) fn agent_id(agent: usize) -> AgentId {
    format!("6a3c1f0e-0000-4000-8000-000000000000-S{agent}").into()
}

pub(crate) fn framework_id(framework: usize) -> FrameworkId {
    format!("6a3c1f0e-0000-4000-8000-000000000000-{framework:04}").into()
}

pub(crate) fn task_id(agent: usize, task: usize) -> TaskId {
    format!("task-{agent}-{task}.5f2b7c60-0d6f-11e9-a0b1-0242ac110002").into()
}

fn framework(framework: usize) -> FrameworkInfo {
    FrameworkInfo {
        user: "root".to_owned(),
        name: format!("framework-{framework}"),
        id: Some(framework_id(framework)),
        failover_timeout: Some(604_800.0),
        checkpoint: Some(true),
        roles: vec!["*".to_owned()],
        capabilities: vec![framework_info::Capability {
            r#type: Some(framework_info::capability::Type::MultiRole.into()),
        }],
        ..FrameworkInfo::default()
    }
}

fn agent_info(agent: usize, total: &Resources) -> AgentInfo {
    AgentInfo {
        hostname: format!("agent-{agent}.example.org"),
        port: Some(5051),
        resources: total.to_messages(),
        id: Some(agent_id(agent)),
        checkpoint: Some(true),
        ..AgentInfo::default()
    }
}

fn task(agent: usize, number: usize, resources: &Resources, state: TaskState) -> Task {
    let label = |at: usize| Label {
        key: format!("key-{at}"),
        value: Some(format!("value-{at}-of-{number}")),
    };
    Task {
        name: format!("task-{number}"),
        task_id: task_id(agent, number),
        framework_id: framework_id(number % FRAMEWORKS),
        agent_id: agent_id(agent),
        state: state.into(),
        resources: resources.to_messages(),
        statuses: vec![TaskStatus {
            task_id: task_id(agent, number),
            state: state.into(),
            agent_id: Some(agent_id(agent)),
            timestamp: Some(1_700_000_000.125),
            container_status: Some(ContainerStatus::default()),
            ..TaskStatus::default()
        }],
        labels: Some(Labels {
            labels: (0..LABELS).map(label).collect(),
        }),
        user: Some("root".to_owned()),
        ..Task::default()
    }
}

/// What an agent says when it comes back; `ended` tasks are its memory of earlier ones.
pub(crate) fn returning(agent: usize, tasks: usize, ended: usize) -> Bytes {
    use agent_info::capability::Type;
    let capability = |kind: Type| agent_info::Capability {
        r#type: Some(kind.into()),
    };
    let total = Resources::parse("cpus:24;mem:65536;disk:262144;ports:[31000-32000]").unwrap();
    let mut used = Resources::parse("cpus:0.1;mem:64;disk:16").unwrap();
    used.allocate("*");
    let archived = |number: usize| archive::Framework {
        framework_info: framework(number),
        pid: None,
        tasks: (0..ended / FRAMEWORKS)
            .map(|at| {
                let number = tasks + number + at * FRAMEWORKS;
                task(agent, number, &used, TaskState::TaskFinished)
            })
            .collect(),
    };
    let message = messages::ReregisterSlaveMessage {
        agent: agent_info(agent, &total),
        tasks: (0..tasks)
            .map(|number| task(agent, number, &used, TaskState::TaskRunning))
            .collect(),
        completed_frameworks: (0..if ended > 0 { FRAMEWORKS } else { 0 })
            .map(archived)
            .collect(),
        version: Some("1.11.0".to_owned()),
        frameworks: (0..FRAMEWORKS.min(tasks)).map(framework).collect(),
        agent_capabilities: [
            Type::MultiRole,
            Type::HierarchicalRole,
            Type::ReservationRefinement,
        ]
        .map(capability)
        .into(),
        resource_version_uuid: Some(Uuid {
            value: Seed::new(agent as u64).uuid_bytes().to_vec(),
        }),
        ..messages::ReregisterSlaveMessage::default()
    };
    message.encode_to_vec().into()
}

/// The registry of a master that knew these agents.
pub(crate) async fn registry(agents: usize) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let total = Resources::parse("cpus:24;mem:65536;disk:262144;ports:[31000-32000]").unwrap();
    let mut transaction = Transaction::new(fence());
    for agent in 0..agents {
        let known = Slave {
            info: agent_info(agent, &total),
            drain_info: None,
            deactivated: None,
        };
        let key = format!("mesos/agents/{}", agent_id(agent));
        transaction = transaction.put(key, Bytes::from(known.encode_to_vec()));
    }
    for number in 0..FRAMEWORKS {
        let key = format!("mesos/frameworks/{}", framework_id(number));
        transaction = transaction.put(key, Bytes::from(framework(number).encode_to_vec()));
    }
    store.transact(transaction).await.unwrap();
    store
}

pub(crate) async fn recovered(agents: usize) -> Snapshot {
    let store = registry(agents).await;
    store.scan(dcos_sched::master::PREFIX).await.unwrap()
}

fn fence() -> Fence {
    Fence::new("bench", Term(1))
}

/// A whole master, and all its agents in a few processes that share ours.
pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    pub(crate) handle: MasterHandle,
    agents: Vec<ActorHandle>,
    master: Upid,
    back: Arc<(AtomicUsize, Notify)>,
    _tasks: JoinSet<()>,
    _stop: DropGuard,
}

impl Cluster {
    /// A master that has just been elected; no agent has come back yet.
    pub(crate) async fn start(agents: usize) -> Self {
        let stop = CancellationToken::new();
        let store = registry(agents).await;
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address().unwrap();
        let node = Node::new(Config::default());
        let handle = node.handle();
        let mut tasks = JoinSet::new();
        let running = node.run(store, fence(), listener, stop.clone());
        tasks.spawn(async move { running.await.unwrap() });
        let mut hosts = Vec::new();
        for _ in 0..HOSTS {
            let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
            let messenger = Messenger::new(listener.address().unwrap());
            let server = messenger.server(axum::Router::new());
            let serving = server.serve(listener, stop.clone());
            tasks.spawn(async move {
                let _stopped = serving.await;
            });
            hosts.push(messenger);
        }
        let master = Upid::new("master", address);
        let back = Arc::new((AtomicUsize::new(0), Notify::new()));
        let mut actors = Vec::new();
        for agent in 0..agents {
            let name = format!("slave({agent})");
            let mut actor = hosts[agent % HOSTS].actor(&name).unwrap();
            actors.push(actor.handle());
            let (back, master) = (Arc::clone(&back), master.clone());
            tasks.spawn(async move {
                while let Some(heard) = actor.recv().await {
                    let Event::Message(message) = heard else {
                        continue;
                    };
                    if message.name == messages::SlaveReregisteredMessage::V0_NAME {
                        decode::<messages::SlaveReregisteredMessage>(&message.body).unwrap();
                        back.0.fetch_add(1, Ordering::AcqRel);
                        back.1.notify_one();
                    } else if message.name == messages::PingSlaveMessage::V0_NAME {
                        actor.send_message(&master, &messages::PongSlaveMessage {});
                    }
                }
            });
        }
        // Elected means: the registry is read.
        handle.snapshot().await.unwrap();
        Self {
            address,
            handle,
            agents: actors,
            master,
            back,
            _tasks: tasks,
            _stop: stop.drop_guard(),
        }
    }

    /// All agents come back with these messages; returns when the last has been told that it is
    /// welcome.
    pub(crate) async fn come_back(&self, messages: Vec<Bytes>) {
        let expected = messages.len();
        for (agent, body) in self.agents.iter().zip(messages) {
            agent.send(
                &self.master,
                messages::ReregisterSlaveMessage::V0_NAME,
                body,
            );
        }
        while self.back.0.load(Ordering::Acquire) < expected {
            self.back.1.notified().await;
        }
    }

    /// A cluster of this size that runs.
    pub(crate) async fn running(size: Size) -> Self {
        Self::with_ended(size, 0).await
    }

    /// The same; agents remember that many tasks that ended.
    pub(crate) async fn with_ended(size: Size, ended: usize) -> Self {
        let cluster = Self::start(size.agents).await;
        let messages = (0..size.agents).map(|agent| returning(agent, size.tasks, ended));
        cluster.come_back(messages.collect()).await;
        cluster
    }

    /// An agent tells of a change of one of its tasks.
    pub(crate) fn update(&self, agent: usize, task: usize, state: TaskState, uuid: [u8; 16]) {
        let status = TaskStatus {
            task_id: task_id(agent, task),
            state: state.into(),
            agent_id: Some(agent_id(agent)),
            timestamp: Some(1_700_000_001.5),
            uuid: Some(uuid.to_vec()),
            ..TaskStatus::default()
        };
        let from = &self.agents[agent];
        let message = messages::StatusUpdateMessage {
            update: messages::StatusUpdate {
                framework_id: framework_id(task % FRAMEWORKS),
                executor_id: None,
                agent_id: Some(agent_id(agent)),
                status,
                timestamp: 1_700_000_001.5,
                uuid: Some(uuid.to_vec()),
                latest_state: Some(state.into()),
            },
            pid: Some(from.upid().to_string()),
        };
        from.send_message(&self.master, &message);
    }
}
