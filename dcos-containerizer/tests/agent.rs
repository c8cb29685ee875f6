//! A whole agent, shell included, with plain child processes; a master and an executor's driver
//! played by the test over libprocess.

#![expect(clippy::unwrap_used, reason = "tests may")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dcos_containerizer::agent::{self, Config};
use dcos_containerizer::containerizer::Processes;
use dcos_proto::internal::{
    ExecutorRegisteredMessage, KillTaskMessage, RegisterExecutorMessage, RegisterSlaveMessage,
    ReregisterSlaveMessage, RunTaskMessage, ShutdownExecutorMessage, SlaveRegisteredMessage,
    SlaveReregisteredMessage, StatusUpdate, StatusUpdateAcknowledgementMessage,
    StatusUpdateMessage,
};
use dcos_proto::mesos::task_status::Source;
use dcos_proto::mesos::{
    CommandInfo, ExecutorInfo, FrameworkInfo, TaskInfo, TaskState, TaskStatus,
};
use dcos_proto::{Message, decode};
use dcos_wire::libprocess::{Actor, Event, Messenger, Upid};
use dcos_wire::{Client, Listener};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Somebody who talks libprocess: the master, a driver.
struct Peer {
    actor: Actor,
    _stop: DropGuard,
}

impl Peer {
    async fn start(name: &str) -> Self {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let messenger = Messenger::new(listener.address().unwrap());
        let actor = messenger.actor(name).unwrap();
        let stop = CancellationToken::new();
        let server = messenger.server(axum::Router::new());
        tokio::spawn(server.serve(listener, stop.clone()));
        Self {
            actor,
            _stop: stop.drop_guard(),
        }
    }

    /// The next message of this kind; others are passed over.
    async fn expect<M: Message>(&mut self) -> M {
        let found = async {
            loop {
                match self.actor.recv().await {
                    Some(Event::Message(message)) if message.name == M::V0_NAME => {
                        return decode(&message.body).unwrap();
                    }
                    Some(_) => {}
                    None => panic!("the actor is gone"),
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), found).await;
        found.unwrap_or_else(|_| panic!("no {} came", M::V0_NAME))
    }
}

struct Node {
    work_dir: TempDir,
    master: Peer,
    agent: Upid,
    stop: CancellationToken,
    running: JoinHandle<Result<(), agent::AgentError>>,
}

impl Node {
    async fn start() -> Self {
        let work_dir = tempfile::tempdir().unwrap();
        let master = Peer::start("master").await;
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let (agent, stop, running) = run(&work_dir, &master, listener);
        let mut node = Self {
            work_dir,
            master,
            agent,
            stop,
            running,
        };
        let asked: RegisterSlaveMessage = node.master.expect().await;
        assert_eq!(asked.agent.hostname, "node");
        node.tell(&SlaveRegisteredMessage {
            agent_id: "a1".into(),
            connection: None,
        });
        node
    }

    fn tell<M: Message>(&self, message: &M) {
        self.master.actor.send_message(&self.agent, message);
    }

    fn run_task(&self, task: TaskInfo) {
        let framework = FrameworkInfo {
            id: Some("f".into()),
            checkpoint: Some(true),
            ..FrameworkInfo::default()
        };
        self.tell(&RunTaskMessage {
            framework,
            task,
            ..RunTaskMessage::default()
        });
    }

    /// The next update, acknowledged.
    async fn update(&mut self) -> TaskStatus {
        let update = self.master.expect::<StatusUpdateMessage>().await.update;
        self.tell(&StatusUpdateAcknowledgementMessage {
            agent_id: "a1".into(),
            framework_id: update.framework_id,
            task_id: update.status.task_id.clone(),
            uuid: update.uuid.unwrap(),
        });
        update.status
    }

    async fn states(&mut self, count: usize) -> Vec<TaskState> {
        let mut states = Vec::new();
        for _ in 0..count {
            states.push(self.update().await.state());
        }
        states
    }

    async fn get(&self, path: &str) -> serde_json::Value {
        let url = format!("http://{}{path}", self.agent.address());
        let text = Client::new().get(&url).await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        (&mut self.running).await.unwrap().unwrap();
    }

    async fn restart(&mut self) {
        let address = self.agent.address();
        self.stop().await;
        let listener = Listener::tcp(address).await.unwrap();
        (self.agent, self.stop, self.running) = run(&self.work_dir, &self.master, listener);
    }
}

fn run(
    work_dir: &TempDir,
    master: &Peer,
    listener: Listener,
) -> (
    Upid,
    CancellationToken,
    JoinHandle<Result<(), agent::AgentError>>,
) {
    let address: SocketAddr = listener.address().unwrap();
    let config = Config {
        hostname: Some("node".to_owned()),
        resources: "cpus:1;mem:64;disk:64".to_owned(),
        registration_backoff_factor: Duration::from_millis(20),
        switch_user: false,
        ..Config::new(master.actor.upid().to_string(), work_dir.path())
    };
    let stop = CancellationToken::new();
    let containerizer = Arc::new(Processes::new());
    let running = tokio::spawn(agent::run(config, containerizer, listener, stop.clone()));
    (Upid::new("slave(1)", address), stop, running)
}

fn task(command: &str) -> TaskInfo {
    TaskInfo {
        name: "t".to_owned(),
        task_id: "t".into(),
        agent_id: "a1".into(),
        command: Some(CommandInfo {
            value: Some(command.to_owned()),
            ..CommandInfo::default()
        }),
        ..TaskInfo::default()
    }
}

#[tokio::test]
async fn a_command_runs_and_its_output_can_be_read() {
    let mut node = Node::start().await;
    node.run_task(task("echo $MESOS_SLAVE_ID; exit 3"));
    let states = node.states(2).await;
    assert_eq!(states, [TaskState::TaskStarting, TaskState::TaskRunning]);
    let end = node.update().await;
    assert_eq!(
        (end.state(), end.message()),
        (TaskState::TaskFailed, "Command exited with status 3")
    );
    let path = "/frameworks/f/executors/t/runs/latest/stdout";
    let read = node.get(&format!("/files/read?path={path}&offset=0")).await;
    assert_eq!(read["data"], "a1\n");
    let state = node.get("/slave(1)/state").await;
    assert_eq!(state["id"], "a1");
    let snapshot = node.get("/metrics/snapshot").await;
    assert_eq!(snapshot["slave/tasks_failed"], 1.0);
    let url = format!("http://{}/metrics", node.agent.address());
    let scraped = Client::new().get(&url).await.unwrap();
    assert_eq!(
        scraped.headers()["content-type"],
        "text/plain; version=0.0.4"
    );
    let text = scraped.text().await.unwrap();
    assert!(text.contains("\nmesos_slave_tasks_failed 1\n"), "{text}");
    assert_eq!(text.lines().count(), snapshot.as_object().unwrap().len());
    node.stop().await;
}

#[tokio::test]
async fn a_restarted_agent_tells_what_became_of_its_tasks() {
    let mut node = Node::start().await;
    node.run_task(task("sleep 1000"));
    assert_eq!(node.states(2).await.last(), Some(&TaskState::TaskRunning));
    node.restart().await;
    let back: ReregisterSlaveMessage = node.master.expect().await;
    assert_eq!(back.agent.id, Some("a1".into()));
    let tasks: Vec<_> = back
        .tasks
        .iter()
        .map(|task| task.task_id.as_str())
        .collect();
    assert_eq!(tasks, ["t"]);
    node.tell(&SlaveReregisteredMessage {
        agent_id: "a1".into(),
        ..SlaveReregisteredMessage::default()
    });
    // Plain child processes do not outlive their agent, and the scheduler is told; before that,
    // what it may not have acknowledged in time.
    while node.update().await.state() != TaskState::TaskFailed {}
    node.stop().await;
}

#[tokio::test]
async fn an_executor_on_the_old_driver_runs_tasks() {
    let mut node = Node::start().await;
    let executor = ExecutorInfo {
        executor_id: "e".into(),
        command: task("sleep 1000").command,
        ..ExecutorInfo::default()
    };
    node.run_task(TaskInfo {
        executor: Some(executor),
        command: None,
        ..task("")
    });
    let mut driver = Peer::start("executor(1)").await;
    // The agent may not know of the executor yet: then it says SHUTDOWN, and we ask again.
    let registered: ExecutorRegisteredMessage = loop {
        driver.actor.send_message(
            &node.agent,
            &RegisterExecutorMessage {
                framework_id: "f".into(),
                executor_id: "e".into(),
            },
        );
        let Some(Event::Message(message)) = driver.actor.recv().await else {
            continue;
        };
        if message.name == ExecutorRegisteredMessage::V0_NAME {
            break decode(&message.body).unwrap();
        }
    };
    assert_eq!(registered.agent_id, "a1".into());
    let launched: RunTaskMessage = driver.expect().await;
    assert_eq!(launched.task.task_id, "t".into());

    let running = StatusUpdate {
        framework_id: "f".into(),
        executor_id: Some("e".into()),
        agent_id: Some("a1".into()),
        status: TaskStatus {
            task_id: "t".into(),
            state: TaskState::TaskRunning.into(),
            agent_id: Some("a1".into()),
            ..TaskStatus::default()
        },
        uuid: Some(vec![1; 16]),
        ..StatusUpdate::default()
    };
    driver.actor.send_message(
        &node.agent,
        &StatusUpdateMessage {
            update: running,
            pid: None,
        },
    );
    let acknowledged: StatusUpdateAcknowledgementMessage = driver.expect().await;
    assert_eq!(acknowledged.uuid, [1; 16]);
    let update = node.update().await;
    assert_eq!(
        (update.state(), update.source()),
        (TaskState::TaskRunning, Source::Executor)
    );

    node.tell(&KillTaskMessage {
        framework_id: "f".into(),
        task_id: "t".into(),
        kill_policy: None,
    });
    let _: KillTaskMessage = driver.expect().await;
    node.tell(&ShutdownExecutorMessage {
        executor_id: Some("e".into()),
        framework_id: Some("f".into()),
    });
    let _: ShutdownExecutorMessage = driver.expect().await;
    node.stop().await;
}

/// What a process in a container hears that asks the agent, as anybody could from the node's network.
fn asking(node: &Node, call: &str) -> TaskInfo {
    let (host, port) = (node.agent.address().ip(), node.agent.address().port());
    let body = call
        .replace('"', "\\\"")
        .replace("OWN", "${MESOS_SANDBOX##*/}");
    let head = "POST /api/v1 HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\
        Content-Type: application/json\\r\\nContent-Length: ${#body}\\r\\n\\r\\n";
    let script = format!(
        "body=\"{body}\"; exec 3<>/dev/tcp/{host}/{port}; printf \"{head}%s\" \"$body\" >&3; cat <&3"
    );
    task(&format!("exec bash -c '{script}'"))
}

async fn hears(node: &mut Node, call: &str) -> String {
    node.run_task(asking(node, call));
    while node.update().await.state() != TaskState::TaskFinished {}
    let path = "/frameworks/f/executors/t/runs/latest/stdout";
    let read = node.get(&format!("/files/read?path={path}&offset=0")).await;
    read["data"].as_str().unwrap().to_owned()
}

const LAUNCH: &str = r#"{"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "alone"}, "command": {"value": "true"}}}"#;
const NEST: &str = r#"{"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": {"container_id": {"value": "n", "parent": {"value": "OWN"}}, "command": {"value": "true"}}}"#;

#[tokio::test]
async fn no_container_orders_another_of_the_agent() {
    let mut node = Node::start().await;
    // Nor what is nested in its own: that need not be as confined as it is.
    for call in [LAUNCH, NEST] {
        let answer = hears(&mut node, call).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(answer.contains("a process in container"), "{answer}");
        assert!(answer.contains("--allow_calls_of_containers"), "{answer}");
    }
    // Who is in no container may.
    let url = format!("http://{}/api/v1", node.agent.address());
    let request = http::Request::post(url).header("content-type", "application/json");
    let request = request.body(LAUNCH.into()).unwrap();
    let said = Client::new().send(request).await.unwrap();
    assert_eq!(said.status(), 200);
    node.stop().await;
}
