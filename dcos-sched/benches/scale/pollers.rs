//! How much longer a scheduler's call takes while others read the state.
//!
//! The readers are a process of their own that runs only when nobody else wants to (`chrt --idle`): they stand for other
//! machines, and what they take of this one's processors is not the master's doing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench::Table;
use dcos_proto::mesos::FrameworkInfo;
use dcos_proto::scheduler::{Call, call};
use dcos_sched::sdk::SchedulerTransport;

use super::cluster::Cluster;
use super::reads::{get, path};
use super::{Size, runtime};

const POLLERS: [usize; 3] = [1, 20, 50];
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
        "a call of a scheduler while clients poll /state every second, {} agents x {} tasks",
        size.agents, size.tasks
    );
    let mut table = Table::new(topic, "us");
    let (stream, id) = runtime.block_on(subscribe(&cluster));
    let idle = runtime.block_on(probe(&cluster, &stream, &id));
    table.limit("no pollers", idle);
    for count in POLLERS {
        let mut pollers = Pollers::start(cluster.address, count);
        thread::sleep(Duration::from_secs(2));
        let (before, begin) = (pollers.served(), Instant::now());
        let polled = runtime.block_on(probe(&cluster, &stream, &id));
        let spent = begin.elapsed().as_secs_f64();
        let rate = (pollers.served() - before) as f64 / spent;
        let slow = percentile(&polled, 99);
        table.row(format!("{count} pollers"), polled);
        table.note(format!("99 of 100 below {slow:.0}; {rate:.0} documents/s"));
    }
    table.print();
}

fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() * percent / 100]
}

/// A process whose threads poll.
struct Pollers {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Pollers {
    fn start(address: SocketAddr, count: usize) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new("chrt");
        command.args(["--idle", "0"]).arg(&program);
        let start = |command: &mut Command| {
            command
                .arg("--poll-stage")
                .arg(format!("{count}x{address}"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        let mut process = start(&mut command)
            .or_else(|_| start(&mut Command::new(&program)))
            .unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, answers }
    }

    /// How many documents were read so far.
    fn served(&mut self) -> usize {
        let asked = self.process.stdin.as_mut().unwrap();
        asked.write_all(b"\n").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().parse().unwrap()
    }
}

impl Drop for Pollers {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The process of pollers: says for each line it is told how many documents were read.
#[expect(
    clippy::print_stdout,
    reason = "it is read by the bench that started it"
)]
pub(crate) fn stage(order: &str) {
    let (count, address) = order.split_once('x').unwrap();
    let (count, address): (u64, SocketAddr) = (count.parse().unwrap(), address.parse().unwrap());
    let served = Arc::new(AtomicUsize::new(0));
    for at in 0..count {
        let served = Arc::clone(&served);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(1000 * at / count));
            loop {
                let begin = Instant::now();
                get(address, &path("/state"));
                served.fetch_add(1, Ordering::AcqRel);
                thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
            }
        });
    }
    for _ in std::io::stdin().lines() {
        println!("{}", served.load(Ordering::Acquire));
    }
    // Its threads end with it.
    std::process::exit(0);
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
