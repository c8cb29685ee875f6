//! How much longer a scheduler's call takes while others read the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench::Table;
use dcos_proto::mesos::FrameworkInfo;
use dcos_proto::scheduler::{Call, call};
use dcos_sched::sdk::SchedulerTransport;

use super::cluster::Cluster;
use super::reads::{get, path};
use super::{Size, runtime};

const POLLERS: usize = 50;
const PROBES: usize = 1000;

pub(crate) fn run() {
    for agents in [100, 1000] {
        compare(Size { agents, tasks: 100 });
    }
}

fn compare(size: Size) {
    let runtime = runtime();
    let cluster = Arc::new(runtime.block_on(Cluster::running(size)));
    let topic = format!(
        "a call of a scheduler while {POLLERS} clients poll /state every second, {} agents x {} tasks",
        size.agents, size.tasks
    );
    let mut table = Table::new(topic, "us");
    let (stream, id) = runtime.block_on(subscribe(&cluster));
    let idle = runtime.block_on(probe(&cluster, &stream, &id));
    table.limit("no pollers", idle.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let pollers: Vec<_> = (0..POLLERS)
        .map(|at| {
            let (stop, served, address) = (Arc::clone(&stop), Arc::clone(&served), cluster.address);
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(1000 * at as u64 / POLLERS as u64));
                while !stop.load(Ordering::Acquire) {
                    let begin = Instant::now();
                    get(address, &path("/state"));
                    served.fetch_add(1, Ordering::AcqRel);
                    thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_secs(2));
    let before = (served.load(Ordering::Acquire), Instant::now());
    let polled = runtime.block_on(probe(&cluster, &stream, &id));
    let rate =
        (served.load(Ordering::Acquire) - before.0) as f64 / before.1.elapsed().as_secs_f64();
    table.row(format!("{POLLERS} pollers"), polled);
    table.note(format!("{rate:.0} documents/s"));
    stop.store(true, Ordering::Release);
    for poller in pollers {
        poller.join().unwrap();
    }
    table.print();
}

async fn subscribe(cluster: &Cluster) -> (String, dcos_proto::mesos::FrameworkId) {
    let call = Call {
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe {
            framework_info: FrameworkInfo {
                user: "root".to_owned(),
                name: "probe".to_owned(),
                failover_timeout: Some(3600.0),
                ..FrameworkInfo::default()
            },
            ..call::Subscribe::default()
        }),
        ..Call::default()
    };
    let mut subscription = cluster.handle.subscribe(call).await.unwrap();
    let first = subscription.events.recv().await.unwrap();
    let id = first.subscribed.unwrap().framework_id;
    tokio::spawn(async move { while subscription.events.recv().await.is_some() {} });
    (subscription.stream_id, id)
}

/// Microseconds from a call to its answer, many times.
async fn probe(cluster: &Cluster, stream: &str, id: &dcos_proto::mesos::FrameworkId) -> Vec<f64> {
    let mut samples = Vec::new();
    for _ in 0..PROBES {
        let call = Call {
            framework_id: Some(id.clone()),
            r#type: Some(call::Type::Suppress.into()),
            ..Call::default()
        };
        let begin = Instant::now();
        cluster.handle.call(stream, call).await.unwrap();
        samples.push(begin.elapsed().as_secs_f64() * 1e6);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    samples
}
