//! A whole cluster in one process: a master, an agent, and a framework that speaks to the master
//! through a channel. Nothing of it needs privileges, and nothing is left afterwards.
//!
//! ```text
//! cargo run -p examples --example in_process_cluster
//! ```
//!
//! It prints
//!
//! ```text
//! subscribed as …-0000
//! offered 1 agent
//! hello is running
//! hello finished: Command exited with status 0
//! ```
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use dcos_containerizer::agent;
use dcos_containerizer::containerizer::{Containerizer, Processes};
use dcos_core::resources::Resources;
use dcos_proto::mesos::{
    CommandInfo, FrameworkId, FrameworkInfo, MasterInfo, Offer, TaskInfo, TaskState, TaskStatus,
};
use dcos_sched::master::{Config, Node};
use dcos_sched::sdk::{DriverConfig, Handle, Scheduler, SchedulerDriver};
use dcos_store::{Fence, MemoryStore, StateStore, Term};
use dcos_wire::Listener;
use tokio_util::sync::CancellationToken;

/// Runs one task and stops.
struct Hello {
    launched: bool,
}

#[async_trait]
impl Scheduler for Hello {
    async fn subscribed(&mut self, _: &Handle, id: FrameworkId, _: Option<MasterInfo>) {
        println!("subscribed as {id}");
    }

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        if std::mem::replace(&mut self.launched, true) {
            return;
        }
        println!("offered {} agent", offers.len());
        for offer in offers {
            let task = TaskInfo {
                name: "hello".to_owned(),
                task_id: "hello".into(),
                agent_id: offer.agent_id.clone(),
                resources: Resources::parse("cpus:0.1;mem:32")
                    .unwrap_or_default()
                    .to_messages(),
                command: Some(CommandInfo {
                    value: Some("echo hello".to_owned()),
                    ..CommandInfo::default()
                }),
                ..TaskInfo::default()
            };
            handle.launch(vec![offer.id], vec![task], None).await.ok();
        }
    }

    async fn update(&mut self, handle: &Handle, status: TaskStatus) {
        match status.state() {
            TaskState::TaskRunning => println!("{} is running", status.task_id),
            TaskState::TaskFinished => {
                println!("{} finished: {}", status.task_id, status.message());
                handle.acknowledge(&status).await.ok();
                handle.teardown().await.ok();
            }
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("in-process-cluster-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let ended = cluster(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    ended
}

async fn cluster(folder: &Path) -> anyhow::Result<()> {
    let stop = CancellationToken::new();

    // The master. Its state is in memory here; `EmbeddedStore` keeps it on disk.
    let listener = Listener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let address = listener.address().context("bound to TCP")?;
    let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
    let node = Node::new(Config::default());
    let master = node.handle();
    let fence = Fence::new("master", Term(1));
    let deciding = tokio::spawn(node.run(store, fence, listener, stop.clone()));

    // The agent, with containers that are plain processes.
    let listener = Listener::tcp((Ipv4Addr::LOCALHOST, 0).into()).await?;
    let containerizer: Arc<dyn Containerizer> = Arc::new(Processes::new());
    let config = agent::Config {
        resources: "cpus:1;mem:512;disk:1024".to_owned(),
        switch_user: false,
        ..agent::Config::new(address.to_string(), folder)
    };
    let working = tokio::spawn(agent::run(config, containerizer, listener, stop.clone()));

    // The framework: the master's handle is its transport.
    let framework = FrameworkInfo {
        user: "nobody".to_owned(),
        name: "hello".to_owned(),
        ..FrameworkInfo::default()
    };
    let driver = SchedulerDriver::new(DriverConfig::new(framework), Arc::new(master));
    driver.run(&mut Hello { launched: false }, &stop).await?;

    stop.cancel();
    working.await?.context("the agent")?;
    deciding.await?.context("the master")
}
