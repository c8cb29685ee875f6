//! Tasks a second through the scheduler API: one framework over HTTP, agents whose tasks cost
//! nothing.
//!
//! ```text
//! cargo bench -p cluster-tests --bench scheduler_api -- [--tasks 10000] [--rounds 5] [--json]
//!     [--peer 127.0.0.1:5050]
//! ```
//!
//! A task here is all a master has to do for one: an ACCEPT, the agent's RUNNING and FINISHED, and
//! an acknowledgement of each. The agents are actors in this process that answer at once. `--peer`
//! is the address of another master without agents, such as an original one, that takes turns with
//! ours. The limit is the same server answering empty requests over the same connection: four of
//! them are what a task costs at the very least (its share of an ACCEPT is small).
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use bench::Table;
use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_proto::mesos::{
    AgentInfo, CommandInfo, Filters, FrameworkId, FrameworkInfo, MasterInfo, Offer, TaskInfo,
    TaskState, TaskStatus, agent_info, task_status,
};
use dcos_proto::{Message, internal};
use dcos_sched::sdk::{DriverConfig, Handle, HttpTransport, Scheduler, SchedulerDriver};
use dcos_wire::libprocess::{Actor, Event, Messenger, Upid};
use dcos_wire::{Client, Listener, MediaType};
use tokio_util::sync::CancellationToken;

const AGENTS: usize = 10;
/// What each agent has: enough for many tasks at once.
const RESOURCES: &str = "cpus:100;mem:100000;disk:100000";
const NEED: &str = "cpus:0.1;mem:32";

struct Arguments {
    tasks: usize,
    rounds: usize,
    peer: Option<SocketAddr>,
}

impl Arguments {
    fn parse() -> anyhow::Result<Self> {
        let mut arguments = Self {
            tasks: 10_000,
            rounds: 5,
            peer: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} needs a value"))
            };
            match word.as_str() {
                "--tasks" => arguments.tasks = value()?.parse()?,
                "--rounds" => arguments.rounds = value()?.parse()?,
                "--peer" => arguments.peer = Some(value()?.parse()?),
                // What cargo itself passes, and what the table looks for.
                "--bench" | "--json" => {}
                other => bail!("unknown argument {other:?}"),
            }
        }
        Ok(arguments)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse()?;
    let master = OurMaster::start().await?;
    let mut contestants = vec![("dcos-master".to_owned(), master.address)];
    contestants.extend(arguments.peer.map(|peer| (format!("peer {peer}"), peer)));
    let mut agents = Vec::new();
    for (_, address) in &contestants {
        for index in 0..AGENTS {
            agents.push(agent(*address, index).await?);
        }
    }
    let mut rates = vec![Vec::new(); contestants.len()];
    let mut limits = Vec::new();
    for _ in 0..arguments.rounds {
        limits.push(limit(master.address, arguments.tasks).await?);
        for ((_, address), rates) in contestants.iter().zip(&mut rates) {
            rates.push(tasks(*address, arguments.tasks).await?);
        }
    }
    let mut table = Table::new("the scheduler API", "tasks/s");
    table.limit("limit: 4 empty requests a task", limits);
    for ((name, _), rates) in contestants.into_iter().zip(rates) {
        table.row(name, rates);
    }
    table.print();
    Ok(())
}

fn rate(count: usize, since: Instant) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / since.elapsed().as_secs_f64()
}

/// How many tasks a second there could be if a task were four requests that do nothing.
async fn limit(master: SocketAddr, tasks: usize) -> anyhow::Result<f64> {
    let client = Client::new();
    let url = format!("http://{master}/health");
    let start = Instant::now();
    for _ in 0..tasks {
        client.get(&url).await?.bytes().await?;
    }
    Ok(rate(tasks, start) / 4.0)
}

/// Runs `count` tasks to their end and returns how many ended a second.
async fn tasks(master: SocketAddr, count: usize) -> anyhow::Result<f64> {
    let framework = FrameworkInfo {
        user: "root".to_owned(),
        name: "bench".to_owned(),
        ..FrameworkInfo::default()
    };
    let transport = HttpTransport::new([master.to_string()], MediaType::Protobuf);
    let driver = SchedulerDriver::new(DriverConfig::new(framework), Arc::new(transport));
    let mut bench = Bench {
        waiting: count,
        running: count,
        need: Resources::parse(NEED)?,
        start: None,
    };
    driver.run(&mut bench, &CancellationToken::new()).await?;
    bench
        .start
        .map(|start| rate(count, start))
        .context("there was no offer")
}

struct Bench {
    waiting: usize,
    running: usize,
    need: Resources,
    /// When the first offer came.
    start: Option<Instant>,
}

#[async_trait]
impl Scheduler for Bench {
    async fn subscribed(&mut self, _: &Handle, _: FrameworkId, _: Option<MasterInfo>) {}

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        self.start.get_or_insert_with(Instant::now);
        for offer in offers {
            let mut left = Resources::from_messages(&offer.resources);
            let mut tasks = Vec::new();
            while self.waiting > 0 && left.contains(&self.need) {
                left -= &self.need;
                tasks.push(TaskInfo {
                    name: "bench".to_owned(),
                    task_id: format!("bench-{}", self.waiting).into(),
                    agent_id: offer.agent_id.clone(),
                    resources: self.need.to_messages(),
                    command: Some(CommandInfo {
                        value: Some("true".to_owned()),
                        ..CommandInfo::default()
                    }),
                    ..TaskInfo::default()
                });
                self.waiting -= 1;
            }
            let refuse = if self.waiting > 0 { 0.0 } else { 3600.0 };
            let filters = Filters {
                refuse_seconds: Some(refuse),
            };
            handle
                .launch(vec![offer.id], tasks, Some(filters))
                .await
                .ok();
        }
    }

    async fn update(&mut self, handle: &Handle, status: TaskStatus) {
        if status.state() != TaskState::TaskRunning {
            assert_eq!(status.state(), TaskState::TaskFinished, "{status:?}");
            self.running -= 1;
            if self.running == 0 {
                handle.acknowledge(&status).await.ok();
                handle.teardown().await.ok();
            }
        }
    }
}

/// A master of ours in a process of its own, in a directory of its own.
struct OurMaster {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl OurMaster {
    async fn start() -> anyhow::Result<Self> {
        let program = program("dcos-master")?;
        let folder = tempfile::tempdir()?;
        let address = free_port()?;
        let child = Command::new(&program)
            .args(["--ip=127.0.0.1", "--hostname=127.0.0.1", "--only=master"])
            .arg(format!("--port={}", address.port()))
            .arg(format!("--work_dir={}", folder.path().display()))
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let master = Self {
            child,
            address,
            _folder: folder,
        };
        let client = Client::new();
        let url = format!("http://{address}/health");
        for _ in 0..200 {
            if client
                .get(&url)
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                return Ok(master);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} does not answer", program.display())
    }
}

impl Drop for OurMaster {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of our programs, built in release: `cargo build --release` first.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    // This program is target/release/deps/scheduler_api-….
    let own = std::env::current_exe()?;
    let folder = own
        .parent()
        .and_then(|deps| deps.parent())
        .context("no target directory")?;
    let program = folder.join(name);
    anyhow::ensure!(program.exists(), "{} is not built", program.display());
    Ok(program)
}

fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// An agent whose tasks run and finish at once.
async fn agent(master: SocketAddr, index: usize) -> anyhow::Result<()> {
    let listener = Listener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let address = listener.address().context("no address")?;
    let messenger = Messenger::new(address);
    let actor = messenger.actor("slave(1)")?;
    let server = messenger.server(axum::Router::new());
    tokio::spawn(server.serve(listener, CancellationToken::new()));
    let master: Upid = format!("master@{master}").parse()?;
    let mut agent = FakeAgent {
        actor,
        master,
        seed: Seed::new(index as u64),
        id: String::new(),
    };
    agent.register(address)?;
    let (registered, done) = tokio::sync::oneshot::channel();
    tokio::spawn(async move { agent.serve(registered).await });
    tokio::time::timeout(Duration::from_secs(10), done)
        .await
        .context("not registered")??;
    Ok(())
}

struct FakeAgent {
    actor: Actor,
    master: Upid,
    seed: Seed,
    id: String,
}

impl FakeAgent {
    fn register(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        use agent_info::capability::Type;
        let capability = |kind: Type| agent_info::Capability {
            r#type: Some(kind.into()),
        };
        let known = [
            Type::MultiRole,
            Type::HierarchicalRole,
            Type::ReservationRefinement,
        ];
        let resource_version = self.seed.uuid_bytes().to_vec();
        self.send(&internal::RegisterSlaveMessage {
            agent: AgentInfo {
                hostname: address.ip().to_string(),
                port: Some(i32::from(address.port())),
                resources: Resources::parse(RESOURCES)?.to_messages(),
                ..AgentInfo::default()
            },
            version: Some("1.11.0".to_owned()),
            agent_capabilities: known.map(capability).into(),
            resource_version_uuid: Some(dcos_proto::mesos::Uuid {
                value: resource_version,
            }),
            ..internal::RegisterSlaveMessage::default()
        });
        Ok(())
    }

    fn send<M: Message>(&self, message: &M) {
        self.actor
            .send(&self.master, M::V0_NAME, message.encode_to_vec().into());
    }

    async fn serve(&mut self, registered: tokio::sync::oneshot::Sender<()>) -> anyhow::Result<()> {
        let mut registered = Some(registered);
        while let Some(event) = self.actor.recv().await {
            let Event::Message(message) = event else {
                continue;
            };
            match message.name.as_str() {
                "mesos.internal.SlaveRegisteredMessage" => {
                    let told: internal::SlaveRegisteredMessage = dcos_proto::decode(&message.body)?;
                    self.id = told.agent_id.value;
                    registered.take().map(|registered| registered.send(()));
                }
                "mesos.internal.PingSlaveMessage" => {
                    self.send(&internal::PongSlaveMessage::default());
                }
                "mesos.internal.RunTaskMessage" => {
                    let run: internal::RunTaskMessage = dcos_proto::decode(&message.body)?;
                    let framework = run.framework.id.context("no framework id")?;
                    self.update(framework, run.task.task_id.value, TaskState::TaskRunning);
                }
                "mesos.internal.StatusUpdateAcknowledgementMessage" => {
                    let acknowledged: internal::StatusUpdateAcknowledgementMessage =
                        dcos_proto::decode(&message.body)?;
                    // The first byte of a uuid of ours tells which update it was.
                    if acknowledged.uuid.first() == Some(&RUNNING) {
                        let (framework, task) = (acknowledged.framework_id, acknowledged.task_id);
                        self.update(framework, task.value, TaskState::TaskFinished);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn update(&mut self, framework: FrameworkId, task: String, state: TaskState) {
        let mut uuid = self.seed.uuid_bytes().to_vec();
        uuid[0] = if state == TaskState::TaskRunning {
            RUNNING
        } else {
            0
        };
        let status = TaskStatus {
            task_id: task.clone().into(),
            state: state.into(),
            agent_id: Some(self.id.as_str().into()),
            executor_id: Some(task.as_str().into()),
            source: Some(task_status::Source::Executor.into()),
            timestamp: Some(1.0),
            uuid: Some(uuid.clone()),
            ..TaskStatus::default()
        };
        self.send(&internal::StatusUpdateMessage {
            update: internal::StatusUpdate {
                framework_id: framework,
                executor_id: Some(task.into()),
                agent_id: Some(self.id.as_str().into()),
                status,
                timestamp: 1.0,
                uuid: Some(uuid),
                latest_state: Some(state.into()),
            },
            pid: Some(self.actor.upid().to_string()),
        });
    }
}

const RUNNING: u8 = 1;
