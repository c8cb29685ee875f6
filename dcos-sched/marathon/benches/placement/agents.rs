//! Agents that say of each task that it runs, and run none.

use std::net::SocketAddr;

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_proto::internal as messages;
use dcos_proto::mesos::{AgentId, AgentInfo, TaskState, TaskStatus, Uuid, agent_info};
use dcos_proto::{Message, decode};
use dcos_wire::Listener;
use dcos_wire::libprocess::{Actor, Event, Messenger, Upid};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Processes that agents live in.
const HOSTS: usize = 10;

/// Enough for 200 tasks of an app.
const RESOURCES: &str = "cpus:20;mem:16384;disk:65536;ports:[31000-32000]";

/// Returns when all are admitted. Dropping what is returned ends them.
pub(crate) async fn start(
    master: SocketAddr,
    agents: usize,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut running = JoinSet::new();
    let mut hosts = Vec::new();
    for _ in 0..HOSTS {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let messenger = Messenger::new(listener.address().unwrap());
        let serving = messenger
            .server(axum::Router::new())
            .serve(listener, stop.clone());
        running.spawn(async move {
            let _stopped = serving.await;
        });
        hosts.push(messenger);
    }
    let master = Upid::new("master", master);
    let mut admitted = JoinSet::new();
    for number in 0..agents {
        let name = format!("slave({number})");
        let actor = hosts[number % HOSTS].actor(&name).unwrap();
        let master = master.clone();
        admitted.spawn(async move { Agent::register(actor, master, number).await });
    }
    while let Some(agent) = admitted.join_next().await {
        running.spawn(agent.unwrap().run());
    }
    running
}

struct Agent {
    actor: Actor,
    master: Upid,
    id: AgentId,
    uuids: Seed,
}

impl Agent {
    async fn register(mut actor: Actor, master: Upid, number: usize) -> Self {
        use agent_info::capability::Type;
        let capability = |kind: Type| agent_info::Capability {
            r#type: Some(kind.into()),
        };
        let mut uuids = Seed::new(number as u64);
        let register = messages::RegisterSlaveMessage {
            agent: AgentInfo {
                hostname: format!("agent-{number}.example.org"),
                port: Some(5051),
                resources: Resources::parse(RESOURCES).unwrap().to_messages(),
                checkpoint: Some(true),
                ..AgentInfo::default()
            },
            version: Some("1.11.0".to_owned()),
            agent_capabilities: [
                Type::MultiRole,
                Type::HierarchicalRole,
                Type::ReservationRefinement,
            ]
            .map(capability)
            .into(),
            resource_version_uuid: Some(Uuid {
                value: uuids.uuid_bytes().to_vec(),
            }),
            ..messages::RegisterSlaveMessage::default()
        };
        actor.send_message(&master, &register);
        loop {
            if let Event::Message(message) = actor.recv().await.unwrap()
                && message.name == messages::SlaveRegisteredMessage::V0_NAME
            {
                let told: messages::SlaveRegisteredMessage = decode(&message.body).unwrap();
                let id = told.agent_id;
                return Self {
                    actor,
                    master,
                    id,
                    uuids,
                };
            }
        }
    }

    async fn run(mut self) {
        while let Some(heard) = self.actor.recv().await {
            let Event::Message(message) = heard else {
                continue;
            };
            if message.name == messages::RunTaskMessage::V0_NAME {
                self.start(&decode(&message.body).unwrap());
            } else if message.name == messages::PingSlaveMessage::V0_NAME {
                let pong = messages::PongSlaveMessage {};
                self.actor.send_message(&self.master, &pong);
            }
        }
    }

    fn start(&mut self, run: &messages::RunTaskMessage) {
        let uuid = self.uuids.uuid_bytes().to_vec();
        let status = TaskStatus {
            task_id: run.task.task_id.clone(),
            state: TaskState::TaskRunning.into(),
            agent_id: Some(self.id.clone()),
            timestamp: Some(1_700_000_000.125),
            uuid: Some(uuid.clone()),
            ..TaskStatus::default()
        };
        let update = messages::StatusUpdate {
            framework_id: run.framework.id.clone().unwrap(),
            executor_id: None,
            agent_id: Some(self.id.clone()),
            status,
            timestamp: 1_700_000_000.125,
            uuid: Some(uuid),
            latest_state: Some(TaskState::TaskRunning.into()),
        };
        let message = messages::StatusUpdateMessage {
            update,
            pid: Some(self.actor.upid().to_string()),
        };
        self.actor.send_message(&self.master, &message);
    }
}
