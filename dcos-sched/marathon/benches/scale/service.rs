//! A whole Marathon with its store on disk, over HTTP on loopback: what clients of many apps wait for.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bench::{Table, median};
use bytes::Bytes;
use dcos_marathon::Config;
use dcos_proto::scheduler::{Call, Event, call};
use dcos_sched::sdk::{SchedulerTransport, Subscription, TransportError};
use dcos_store::{Election as _, EmbeddedStore, MemoryElection};
use dcos_wire::Listener;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, subscribed};

const INSTANCES: usize = 10;
/// Clients that create apps side by side.
const CLIENTS: usize = 4;

pub(crate) fn measure(apps: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(life(apps));
}

async fn life(apps: usize) {
    let directory = tempfile::tempdir().unwrap();
    let agents = (apps * INSTANCES).div_ceil(10);
    let mesos = Arc::new(Mesos::new(agents));
    let first = Running::start(directory.path(), &mesos).await;
    let topic = format!("{apps} apps of {INSTANCES} instances, one process");
    let mut table = Table::new(topic, "ms");

    let waits = first.create(apps).await;
    let late = waits.len() - waits.len() / 10;
    table.published("the goal of creation, 99 of 100", 100.0);
    table.row("POST /v2/apps, 99 of 100", vec![percentile(&waits, 99)]);
    table.row("POST /v2/apps, the last tenth", waits[late..].to_vec());
    mesos.until(apps * INSTANCES).await;
    eprintln!("all run; {} MB", megabytes());

    let mut client = first.connect().await;
    let reads = read(&mut client, "/v2/apps", 9).await;
    table.published("the goal of a first byte", 50.0);
    table.row(
        "GET /v2/apps, first byte",
        column(&reads, |read| read.first),
    );
    table.row("GET /v2/apps, whole", column(&reads, |read| read.whole));
    table.note(format!("{} kB", reads[0].bytes / 1_000));
    for path in [
        "/v2/apps?embed=apps.tasks",
        "/v2/tasks",
        "/v2/groups",
        "/v2/apps/group-0/app-0",
    ] {
        let reads = read(&mut client, path, 5).await;
        table.row(
            format!("GET {path}, first byte"),
            column(&reads, |read| read.first),
        );
        table.row(
            format!("GET {path}, whole"),
            column(&reads, |read| read.whole),
        );
        table.note(format!("{} kB", reads[0].bytes / 1_000));
    }
    first.stop().await;

    let begin = Instant::now();
    let second = Running::start(directory.path(), &mesos).await;
    let mut client = second.connect().await;
    let answer = read(&mut client, "/v2/apps/group-0/app-0", 1).await;
    assert!(answer[0].bytes > 100, "it knows its apps");
    table.published("the goal of a start", 5_000.0);
    table.row("start to first answer", vec![millis(begin.elapsed())]);
    table.note(format!("{} MB resident in all, both lives", megabytes()));
    second.stop().await;
    table.print();
}

fn column(reads: &[Read], value: impl Fn(&Read) -> f64) -> Vec<f64> {
    reads.iter().map(value).collect()
}

fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * percent / 100]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn megabytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    resident * 4_096 / 1_000_000
}

struct Running {
    address: SocketAddr,
    cancel: CancellationToken,
    ended: JoinHandle<()>,
}

impl Running {
    async fn start(directory: &Path, mesos: &Arc<Mesos>) -> Self {
        let store = Arc::new(EmbeddedStore::open(directory.join("store")).unwrap());
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address().unwrap();
        let leadership = MemoryElection::new()
            .campaign("bench".into())
            .await
            .unwrap();
        let cancel = CancellationToken::new();
        let config = Config {
            http_port: address.port(),
            max_running_deployments: usize::MAX / 2,
            ..Config::default()
        };
        let transport = Arc::new(Transport(Arc::clone(mesos)));
        let (fence, until) = (leadership.fence(), cancel.clone());
        let ended = tokio::spawn(async move {
            let _leadership = leadership;
            dcos_marathon::run(config, store, fence, transport, listener, until)
                .await
                .unwrap();
        });
        Self {
            address,
            cancel,
            ended,
        }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.ended.await.unwrap();
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Creates apps, some clients side by side; how long each waited, in the order of the apps.
    async fn create(&self, apps: usize) -> Vec<f64> {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            let mut client = self.connect().await;
            clients.spawn(async move {
                let mut waits = Vec::new();
                for app in (number..apps).step_by(CLIENTS) {
                    let body = format!(
                        r#"{{"id": "/group-{}/app-{app}", "cmd": "serve", "cpus": 0.5, "mem": 64, "instances": {INSTANCES}}}"#,
                        app / 100
                    );
                    let begin = Instant::now();
                    let request = http::Request::post("/v2/apps").header("content-type", "application/json");
                    let answer = client.send_request(request.body(Full::from(body)).unwrap()).await.unwrap();
                    assert_eq!(answer.status(), 201);
                    answer.into_body().collect().await.unwrap();
                    waits.push((app, millis(begin.elapsed())));
                    if app % 1_000 == 0 {
                        eprintln!("{app} apps, the last in {:.1} ms", waits.last().unwrap().1);
                    }
                }
                waits
            });
        }
        let mut waits: Vec<(usize, f64)> = clients.join_all().await.into_iter().flatten().collect();
        waits.sort_by_key(|(app, _)| *app);
        waits.into_iter().map(|(_, wait)| wait).collect()
    }
}

struct Read {
    first: f64,
    whole: f64,
    bytes: usize,
}

async fn read(client: &mut SendRequest<Full<Bytes>>, path: &str, times: usize) -> Vec<Read> {
    let mut reads = Vec::new();
    for _ in 0..times {
        // The connection is free a moment after the last piece was read.
        client.ready().await.unwrap();
        let begin = Instant::now();
        let request = http::Request::get(path).body(Full::default()).unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let mut body = answer.into_body();
        let mut bytes = body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .len();
        let first = millis(begin.elapsed());
        while let Some(frame) = body.frame().await {
            bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        reads.push(Read {
            first,
            whole: millis(begin.elapsed()),
            bytes,
        });
    }
    eprintln!(
        "{path}: {:.1} ms",
        median(&column(&reads, |read| read.whole))
    );
    reads
}

/// A master with many agents that outlives the frameworks' connections.
struct Mesos {
    cluster: Mutex<Cluster>,
    events: Mutex<Option<mpsc::UnboundedSender<Event>>>,
}

impl std::fmt::Debug for Mesos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mesos")
    }
}

/// How many agents are offered at once.
const OFFERED: usize = 100;

impl Mesos {
    fn new(agents: usize) -> Self {
        Self {
            cluster: Mutex::new(Cluster::new(agents)),
            events: Mutex::new(None),
        }
    }

    fn send(&self, events: impl IntoIterator<Item = Event>) {
        if let Some(sender) = self.events.lock().unwrap().as_ref() {
            for event in events {
                let _ = sender.send(event);
            }
        }
    }

    fn take(&self, call: Call) {
        let mut cluster = self.cluster.lock().unwrap();
        if call.r#type() == call::Type::Revive {
            // Instances fill one agent after the other, so that these have room.
            let first = (cluster.launched / 16).min(cluster.agents());
            let last = (first + OFFERED).min(cluster.agents());
            let offers = cluster.offer(first..last);
            self.send([offers]);
        }
        self.send(cluster.obey(call));
    }

    async fn until(&self, launched: usize) {
        while self.cluster.lock().unwrap().launched < launched {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[derive(Debug)]
struct Transport(Arc<Mesos>);

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
        *self.0.events.lock().unwrap() = Some(sender);
        self.0.send([subscribed()]);
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
