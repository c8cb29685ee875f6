//! One app of many instances, from its request to the last of them running: workload E1.
//!
//! ```text
//! cargo bench -p dcos-marathon --bench placement -- [--agents 100] [--tasks 10000] [--rounds 3]
//!     [--directory /where] [--json]
//! ```
//!
//! A master and a Marathon, whole, each with its store on disk, and agents that start whatever they are
//! sent and say so at once. All share this process, but speak as they would between machines; only
//! Marathon is in the master's process by nature. A round begins with `POST /v2/apps` and is over when
//! the deployment is: Marathon has heard of every instance that it runs, and has that on disk.
//!
//! Beside it stands what others published: 50,000 containers in under 90 s (Marathon on a Mesos of 24,000
//! cores), and 500 tasks of one app in 14.2 s (Mesos 0.27, Marathon 0.15, 189 agents).

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

mod agents;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::Table;
use dcos_marathon::Config as Service;
use dcos_sched::master::{Config, Node};
use dcos_store::{EmbeddedStore, Fence, StateStore, Term};
use dcos_wire::{Client, Listener};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What `dcos-master` runs on.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let agents = bench::argument("--agents").unwrap_or(100);
    let tasks: u32 = bench::argument("--tasks").unwrap_or(10_000);
    let rounds = bench::argument("--rounds").unwrap_or(3);
    let directory = bench::argument::<PathBuf>("--directory").unwrap_or_else(std::env::temp_dir);
    let spent: Vec<f64> = (0..rounds)
        .map(|_| round(agents, tasks, &directory))
        .collect();
    let rates = spent.iter().map(|spent| f64::from(tasks) / spent).collect();
    let topic = format!("one app of {tasks} instances, {agents} agents");
    let mut table = Table::new(topic, "tasks/s");
    table.published("Mesos 0.27, Marathon 0.15 (published)", 500.0 / 14.2);
    table.published("Marathon, 24,000 cores (published)", 50_000.0 / 90.0);
    table.row("from the request to all running", rates);
    table.print();
}

/// Seconds until all run.
fn round(agents: usize, tasks: u32, directory: &Path) -> f64 {
    let folder = tempfile::tempdir_in(directory).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let (master, marathon) = start(folder.path(), &mut running, &stop).await;
        let _agents = agents::start(master, agents, &stop).await;
        let spent = deploy(marathon, tasks).await;
        stop.cancel();
        while running.join_next().await.is_some() {}
        spent
    })
}

/// A master and a Marathon; where they listen.
async fn start(
    folder: &Path,
    running: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> (SocketAddr, SocketAddr) {
    let listen = async || Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let store = |name: &str| -> Arc<dyn StateStore> {
        Arc::new(EmbeddedStore::open(folder.join(name)).unwrap())
    };
    let fence = || Fence::new("bench", Term(1));
    let (for_master, for_marathon) = (listen().await, listen().await);
    let addresses = (
        for_master.address().unwrap(),
        for_marathon.address().unwrap(),
    );
    let node = Node::new(Config::default());
    let transport = Arc::new(node.handle());
    let master = node.run(store("master"), fence(), for_master, stop.clone());
    running.spawn(async move { master.await.unwrap() });
    let marathon = dcos_marathon::run(
        Service::default(),
        store("marathon"),
        fence(),
        transport,
        for_marathon,
        stop.clone(),
    );
    running.spawn(async move { marathon.await.unwrap() });
    addresses
}

async fn deploy(marathon: SocketAddr, tasks: u32) -> f64 {
    let client = Client::new();
    let app =
        json!({"id": "/app", "cmd": "sleep 1000", "instances": tasks, "cpus": 0.1, "mem": 32});
    let begin = Instant::now();
    let apps = format!("http://{marathon}/v2/apps");
    let answer = client.post_json(&apps, &app).await.unwrap();
    answer.success().await.unwrap();
    let deployments = format!("http://{marathon}/v2/deployments");
    loop {
        let answer = client.get(&deployments).await.unwrap();
        let under_way: Vec<Value> = answer.json().await.unwrap();
        if under_way.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let spent = begin.elapsed().as_secs_f64();
    let answer = client.get(&format!("{apps}//app")).await.unwrap();
    let shown: Value = answer.json().await.unwrap();
    assert_eq!(shown["app"]["tasksRunning"], tasks, "{}", shown["app"]);
    spent
}
