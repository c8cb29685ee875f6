//! An executor on the libmesos protocol whose tasks do nothing but tell how they are.

use std::collections::BTreeMap;

use dcos_core::seed::Seed;
use dcos_proto::internal as messages;
use dcos_proto::mesos::{AgentId, FrameworkId, TaskState, TaskStatus, task_status};
use dcos_proto::{Message, decode};
use dcos_wire::Listener;
use dcos_wire::libprocess::{Actor, Event, Messenger, Upid};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Runs until it is dropped. Each task tells at once that it runs, and `updates` more when they may
/// `begin`.
pub(crate) async fn run(
    environment: BTreeMap<String, String>,
    updates: usize,
    mut begin: watch::Receiver<bool>,
) {
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let messenger = Messenger::new(listener.address().unwrap());
    let server = messenger.server(axum::Router::new());
    tokio::spawn(server.serve(listener, stop));
    let agent: Upid = environment["MESOS_SLAVE_PID"].parse().unwrap();
    let register = messages::RegisterExecutorMessage {
        framework_id: environment["MESOS_FRAMEWORK_ID"].as_str().into(),
        executor_id: environment["MESOS_EXECUTOR_ID"].as_str().into(),
    };
    let mut executor = Executor {
        actor: messenger.actor("executor(1)").unwrap(),
        framework: register.framework_id.clone(),
        id: environment["MESOS_SLAVE_ID"].as_str().into(),
        agent,
        uuids: Seed::from_os(),
        left: BTreeMap::new(),
    };
    executor.actor.send_message(&executor.agent, &register);
    loop {
        tokio::select! {
            event = executor.actor.recv() => {
                let may_go_on = *begin.borrow();
                if let Some(Event::Message(message)) = event {
                    executor.hear(&message.name, &message.body, updates, may_go_on);
                }
            }
            Ok(()) = begin.changed() => executor.begin(),
        }
    }
}

struct Executor {
    actor: Actor,
    framework: FrameworkId,
    /// Of the agent.
    id: AgentId,
    agent: Upid,
    uuids: Seed,
    /// How many updates each task has to tell.
    left: BTreeMap<String, usize>,
}

impl Executor {
    fn hear(&mut self, name: &str, body: &[u8], updates: usize, may_go_on: bool) {
        if name == messages::RunTaskMessage::V0_NAME {
            let run: messages::RunTaskMessage = decode(body).unwrap();
            let task = run.task.task_id.value;
            self.left.insert(task.clone(), updates);
            self.tell(task);
        } else if name == messages::StatusUpdateAcknowledgementMessage::V0_NAME && may_go_on {
            let done: messages::StatusUpdateAcknowledgementMessage = decode(body).unwrap();
            self.next(done.task_id.value);
        }
    }

    /// The agent has the first update of each task.
    fn begin(&mut self) {
        let tasks: Vec<String> = self.left.keys().cloned().collect();
        for task in tasks {
            self.next(task);
        }
    }

    fn next(&mut self, task: String) {
        if let Some(left) = self.left.get_mut(&task)
            && *left > 0
        {
            *left -= 1;
            self.tell(task);
        }
    }

    fn tell(&mut self, task: String) {
        let uuid = self.uuids.uuid_bytes().to_vec();
        let status = TaskStatus {
            task_id: task.into(),
            state: TaskState::TaskRunning.into(),
            source: Some(task_status::Source::Executor.into()),
            message: Some("still running, and well".to_owned()),
            healthy: Some(true),
            timestamp: Some(1_700_000_000.125),
            uuid: Some(uuid.clone()),
            agent_id: Some(self.id.clone()),
            ..TaskStatus::default()
        };
        let update = messages::StatusUpdate {
            framework_id: self.framework.clone(),
            executor_id: Some("executor".into()),
            status,
            timestamp: 1_700_000_000.125,
            uuid: Some(uuid),
            agent_id: Some(self.id.clone()),
            ..messages::StatusUpdate::default()
        };
        let message = messages::StatusUpdateMessage { update, pid: None };
        self.actor.send_message(&self.agent, &message);
    }
}
