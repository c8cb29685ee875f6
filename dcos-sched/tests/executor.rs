//! The executor driver against a small agent that speaks the v1 API over HTTP.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use dcos_proto::executor::{Call, Event, call, event};
use dcos_proto::mesos::{KillPolicy, TaskId, TaskInfo, TaskState};
use dcos_sched::sdk::{
    AgentEndpoint, Executor, ExecutorConfig, ExecutorDriver, ExecutorEnd, ExecutorError,
    ExecutorHandle, HttpExecutorTransport,
};
use dcos_wire::records::{self, RecordSender};
use dcos_wire::{Listener, MediaType, Refusal, Server, reply};
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An agent that accepts everything, and leaves the rest to the test.
struct Agent {
    address: String,
    calls: mpsc::Receiver<Call>,
    stream: Arc<Mutex<Option<RecordSender>>>,
    media: MediaType,
    _running: DropGuard,
}

impl Agent {
    async fn start(media: MediaType) -> Self {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address().unwrap().to_string();
        let (sender, calls) = mpsc::channel(100);
        let stream: Arc<Mutex<Option<RecordSender>>> = Arc::default();
        let current = Arc::clone(&stream);
        let answer = async move |headers: HeaderMap, body: Bytes| -> Result<Response, Refusal> {
            let media = MediaType::of_content(&headers)?;
            let call: Call = media.decode(&body)?;
            if call.executor_id.value == "unknown" {
                return Err(Refusal::bad_request("Executor cannot be found"));
            }
            let is_subscribe = call.r#type() == call::Type::Subscribe;
            sender.send(call).await.unwrap();
            if !is_subscribe {
                return Ok(reply::accepted());
            }
            let (records, body) = records::stream(records::Limits::default());
            *current.lock().unwrap() = Some(records);
            Ok(reply::message(media, body))
        };
        let router = Router::new().route("/api/v1/executor", post(answer));
        let stop = CancellationToken::new();
        tokio::spawn(Server::new(router).serve(listener, stop.clone()));
        Self {
            address,
            calls,
            stream,
            media,
            _running: stop.drop_guard(),
        }
    }

    fn config(&self) -> ExecutorConfig {
        ExecutorConfig {
            agent: AgentEndpoint::Tcp(self.address.clone()),
            framework_id: "f".into(),
            executor_id: "e".into(),
            checkpoint: true,
            recovery_timeout: Duration::from_secs(20),
            backoff_max: Duration::from_millis(10),
            grace: Duration::from_secs(5),
            token: None,
        }
    }

    fn run(&self, config: ExecutorConfig) -> Running {
        let transport = Arc::new(HttpExecutorTransport::new(&config, self.media));
        let driver = ExecutorDriver::new(config, transport);
        let handle = driver.handle();
        let mut executor = Runner::default();
        let task = tokio::spawn(async move {
            let ended = driver.run(&mut executor).await;
            (ended, executor.seen)
        });
        Running { handle, task }
    }

    async fn next(&mut self) -> Call {
        let next = tokio::time::timeout(Duration::from_secs(10), self.calls.recv()).await;
        next.expect("a call in time").unwrap()
    }

    /// The next call is an UPDATE: its task's state and its uuid.
    async fn next_update(&mut self) -> (TaskState, Vec<u8>) {
        let status = self.next().await.update.expect("an update").status;
        assert_eq!(status.executor_id.as_ref().unwrap().value, "e");
        (status.state(), status.uuid.unwrap())
    }

    fn send(&self, event: &Event) {
        let stream = self.stream.lock().unwrap().clone();
        stream.unwrap().send(self.media.encode(event)).unwrap();
    }

    fn send_type(&self, kind: event::Type) {
        self.send(&Event {
            r#type: Some(kind.into()),
            ..Event::default()
        });
    }

    async fn accept(&mut self) -> call::Subscribe {
        let subscribe = self.next().await.subscribe.expect("SUBSCRIBE");
        self.send(&Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(event::Subscribed::default()),
            ..Event::default()
        });
        subscribe
    }

    fn launch(&self, task: &str) {
        let task = TaskInfo {
            name: task.to_owned(),
            task_id: task.into(),
            agent_id: "a".into(),
            ..TaskInfo::default()
        };
        self.send(&Event {
            r#type: Some(event::Type::Launch.into()),
            launch: Some(event::Launch { task }),
            ..Event::default()
        });
    }

    fn acknowledge(&self, task: &str, uuid: Vec<u8>) {
        let task_id = task.into();
        self.send(&Event {
            r#type: Some(event::Type::Acknowledged.into()),
            acknowledged: Some(event::Acknowledged { task_id, uuid }),
            ..Event::default()
        });
    }

    /// As a crash of the agent looks from outside.
    fn crash(&self) {
        self.stream.lock().unwrap().take().unwrap().cut();
    }
}

struct Running {
    handle: ExecutorHandle,
    task: JoinHandle<(Result<ExecutorEnd, ExecutorError>, Vec<String>)>,
}

impl Running {
    async fn end(self) -> (Result<ExecutorEnd, ExecutorError>, Vec<String>) {
        let ended = tokio::time::timeout(Duration::from_secs(10), self.task).await;
        ended.expect("an end in time").unwrap()
    }
}

/// Says that tasks run, and that they are killed when it is told to shut down.
#[derive(Debug, Default)]
struct Runner {
    seen: Vec<String>,
    running: Vec<TaskId>,
}

#[async_trait]
impl Executor for Runner {
    async fn subscribed(&mut self, _: &ExecutorHandle, _: event::Subscribed) {
        self.seen.push("subscribed".to_owned());
    }

    async fn launch(&mut self, handle: &ExecutorHandle, task: TaskInfo) {
        self.seen.push(format!("launch {}", task.task_id));
        handle.update(task.task_id.clone(), TaskState::TaskRunning);
        self.running.push(task.task_id);
    }

    async fn kill(&mut self, _: &ExecutorHandle, task: TaskId, _: Option<KillPolicy>) {
        self.seen.push(format!("kill {task}"));
    }

    async fn shutdown(&mut self, handle: &ExecutorHandle) {
        self.seen.push("shutdown".to_owned());
        for task in self.running.drain(..) {
            handle.update(task, TaskState::TaskKilled);
        }
    }

    async fn disconnected(&mut self) {
        self.seen.push("disconnected".to_owned());
    }
}

#[tokio::test]
async fn updates_reach_the_agent_in_order_and_are_settled_before_the_end() {
    for media in MediaType::ALL {
        let mut agent = Agent::start(media).await;
        let running = agent.run(agent.config());
        assert_eq!(agent.accept().await, call::Subscribe::default());
        agent.launch("t");
        let (state, started) = agent.next_update().await;
        assert_eq!(state, TaskState::TaskRunning);
        running.handle.update("t".into(), TaskState::TaskFinished);
        running.handle.stop();
        let (state, finished) = agent.next_update().await;
        assert_eq!(state, TaskState::TaskFinished);
        agent.acknowledge("t", started);
        agent.acknowledge("t", finished);
        let (ended, seen) = running.end().await;
        assert_eq!(ended.unwrap(), ExecutorEnd::Stopped);
        assert_eq!(seen, ["subscribed", "launch t"]);
    }
}

#[tokio::test]
async fn an_agent_that_restarts_is_told_what_it_had_not_acknowledged() {
    let mut agent = Agent::start(MediaType::Protobuf).await;
    let running = agent.run(agent.config());
    agent.accept().await;
    agent.launch("known");
    let (_, uuid) = agent.next_update().await;
    agent.acknowledge("known", uuid);
    agent.launch("new");
    let (_, uuid) = agent.next_update().await;
    agent.crash();

    let subscribe = agent.accept().await;
    let [task] = &subscribe.unacknowledged_tasks[..] else {
        panic!("{subscribe:?}")
    };
    assert_eq!(task.task_id.value, "new");
    let [update] = &subscribe.unacknowledged_updates[..] else {
        panic!("{subscribe:?}")
    };
    assert_eq!(update.status.uuid.as_ref(), Some(&uuid));
    agent.acknowledge("new", uuid);
    agent.launch("later");
    let (_, uuid) = agent.next_update().await;
    agent.acknowledge("later", uuid);
    running.handle.stop();
    let (ended, seen) = running.end().await;
    assert_eq!(ended.unwrap(), ExecutorEnd::Stopped);
    assert_eq!(
        seen.join(", "),
        "subscribed, launch known, launch new, disconnected, subscribed, launch later"
    );
}

#[tokio::test]
async fn a_last_update_outlives_a_restart_of_the_agent() {
    let mut agent = Agent::start(MediaType::Protobuf).await;
    let running = agent.run(agent.config());
    agent.accept().await;
    agent.launch("t");
    let (_, first) = agent.next_update().await;
    agent.acknowledge("t", first);
    running.handle.update("t".into(), TaskState::TaskFinished);
    let (_, last) = agent.next_update().await;
    running.handle.stop();
    agent.crash();
    let subscribe = agent.accept().await;
    assert_eq!(subscribe.unacknowledged_updates.len(), 1);
    agent.acknowledge("t", last);
    assert_eq!(running.end().await.0.unwrap(), ExecutorEnd::Stopped);
}

#[tokio::test]
async fn without_checkpointing_the_agents_end_is_the_executors() {
    let mut agent = Agent::start(MediaType::Json).await;
    let config = ExecutorConfig {
        checkpoint: false,
        ..agent.config()
    };
    let running = agent.run(config);
    agent.accept().await;
    agent.launch("t");
    agent.next_update().await;
    agent.crash();
    let (ended, seen) = running.end().await;
    assert_eq!(ended.unwrap(), ExecutorEnd::AgentLost);
    assert_eq!(seen, ["subscribed", "launch t", "disconnected", "shutdown"]);
}

#[tokio::test]
async fn a_shutdown_is_told_to_the_executor_and_its_updates_to_the_agent() {
    let mut agent = Agent::start(MediaType::Json).await;
    let running = agent.run(agent.config());
    agent.accept().await;
    agent.launch("t");
    let (_, uuid) = agent.next_update().await;
    agent.acknowledge("t", uuid);
    agent.send_type(event::Type::Shutdown);
    let (state, uuid) = agent.next_update().await;
    assert_eq!(state, TaskState::TaskKilled);
    agent.acknowledge("t", uuid);
    let (ended, seen) = running.end().await;
    assert_eq!(ended.unwrap(), ExecutorEnd::ShutDown);
    assert_eq!(seen, ["subscribed", "launch t", "shutdown"]);
}

#[tokio::test]
async fn an_agent_that_does_not_know_the_executor_ends_it() {
    let agent = Agent::start(MediaType::Json).await;
    let config = ExecutorConfig {
        executor_id: "unknown".into(),
        ..agent.config()
    };
    let (ended, _) = agent.run(config).end().await;
    assert!(
        matches!(ended, Err(ExecutorError::Refused { .. })),
        "{ended:?}"
    );
}
