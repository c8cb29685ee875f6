//! How long it takes until all agents are back after a failover.

use std::time::{Duration, Instant};

use bench::{Table, timed};
use bytes::Bytes;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::internal::ReregisterSlaveMessage;
use dcos_proto::mesos::MasterInfo;
use dcos_proto::{Message as _, decode};
use dcos_sched::allocator::{self, HierarchicalDrf};
use dcos_sched::master::{Action, Input, Master, Packet, Returning, Settings};
use dcos_store::{Revision, Snapshot};

use super::cluster::{Cluster, recovered, returning};
use super::{Size, runtime};

/// Ended tasks that each agent remembers: four million at 40,000 agents.
const ENDED: usize = 100;

/// Agents whose messages are made at a time, outside the measured time.
const CHUNK: usize = 1000;

pub(crate) fn run(size: Size, samples: usize) {
    let topic = format!(
        "failover, {} agents x {} tasks, all back",
        size.agents, size.tasks
    );
    let mut table = Table::new(topic, "s");
    let (mut limits, mut cores, mut wire) = (Vec::new(), Vec::new(), Vec::new());
    let mut taken_in = Vec::new();
    for _ in 0..samples {
        let (limit, core) = alone(size, 0);
        limits.push(limit);
        cores.push(core);
        taken_in.push(read_before(size));
        wire.push(over_sockets(size));
    }
    table.limit("limit: decoding the messages", limits);
    table.row("core alone, decoding included", cores);
    table.row("core alone, read before", taken_in);
    table.row(
        "master over libprocess, agents in one process",
        wire.clone(),
    );
    table.published("Mesos 1.5, 40,000 x 10 (published)", 19.0);
    table.row("master over libprocess", wire);
    table.print();

    let topic = format!("the same with {} ended tasks more", size.agents * ENDED);
    let mut table = Table::new(topic, "s");
    let (limit, core) = alone(size, ENDED);
    table.limit("limit: decoding the messages", vec![limit]);
    table.row("core alone, decoding included", vec![core]);
    table.published("Mesos 1.5, 40,000 x 10 (published)", 137.0);
    table.row("core alone", vec![core]);
    table.print();
}

/// Workload M1: agents, tasks that run on each, tasks that ended on each, and Mesos 1.5's published seconds.
const SIZES: [(usize, usize, usize, Option<f64>); 8] = [
    (2_000, 50, 50, None),
    (2_000, 100, 0, None),
    (20_000, 5, 0, None),
    (1_000, 10, 0, None),
    (5_000, 10, 0, None),
    (10_000, 10, 0, Some(4.2)),
    (20_000, 10, 0, None),
    (40_000, 10, 0, Some(19.0)),
];

/// The core at every size of M1.
pub(crate) fn run_sizes(samples: usize) {
    for (agents, tasks, ended, published) in SIZES {
        let size = Size { agents, tasks };
        let topic = format!("M1, failover, {agents} agents x {tasks} tasks and {ended} ended");
        let mut table = Table::new(topic, "s");
        let measured: Vec<_> = (0..samples).map(|_| alone(size, ended)).collect();
        let (limits, cores): (Vec<f64>, Vec<f64>) = measured.into_iter().unzip();
        table.limit("limit: decoding the messages", limits);
        table.row("core alone, decoding included", cores.clone());
        if let Some(published) = published {
            table.published("Mesos 1.5 (published)", published);
            table.row("core alone", cores);
        }
        table.print();
    }
}

/// The core alone, to look closer at it.
pub(crate) fn run_core(size: Size, samples: usize) {
    let topic = format!("failover, {} agents x {} tasks", size.agents, size.tasks);
    let mut table = Table::new(topic, "s");
    let measured: Vec<_> = (0..samples).map(|_| alone(size, 0)).collect();
    let (limits, cores) = measured.into_iter().unzip();
    table.limit("limit: decoding the messages", limits);
    table.row("core alone, decoding included", cores);
    let taken_in = (0..samples).map(|_| read_before(size)).collect();
    table.row("core alone, read before", taken_in);
    table.print();
}

/// A core of its own after a failover, nobody back yet.
pub(crate) fn core(registry: &Snapshot) -> Master {
    let seed = Seed::new(1);
    let allocator = HierarchicalDrf::new(allocator::Config::default(), &seed);
    let info = MasterInfo {
        id: "6a3c1f0e-0000-4000-8000-000000000001".to_owned(),
        ..MasterInfo::default()
    };
    let now = Time::from_secs(1);
    let mut master = Master::new(Settings::new(info), Box::new(allocator), &seed, now);
    master.handle(now, Input::Recovered(registry.clone()));
    master
}

/// The message of an agent, as it comes.
pub(crate) fn message(agent: usize, body: Bytes) -> Input {
    let message = Packet {
        name: ReregisterSlaveMessage::V0_NAME.to_owned(),
        body,
    };
    let from = pid(agent);
    Input::Message { from, message }
}

/// The same, read.
fn read(agent: usize, body: &Bytes) -> Input {
    let from = pid(agent);
    let returning = Box::new(Returning::read(body).unwrap());
    Input::Returning { from, returning }
}

fn pid(agent: usize) -> String {
    format!(
        "slave(1)@10.{}.{}.{}:5051",
        agent >> 16,
        agent >> 8 & 255,
        agent & 255
    )
}

/// Takes in one message and carries out what comes of it.
pub(crate) fn feed(master: &mut Master, now: Time, input: Input) {
    master.handle(now, input);
    while let Some(action) = master.poll() {
        if let Action::Persist { id, .. } = action {
            let revision = Revision(1);
            master.handle(now, Input::Stored { id, revision });
        }
    }
}

/// Seconds for decoding alone, and for the core.
fn alone(size: Size, ended: usize) -> (f64, f64) {
    measure(size, ended, &mut message)
}

/// Seconds for the core if messages are read before they reach it.
fn read_before(size: Size) -> f64 {
    measure(size, 0, &mut |agent, body| read(agent, &body)).1
}

fn measure(size: Size, ended: usize, input: &mut dyn FnMut(usize, Bytes) -> Input) -> (f64, f64) {
    let registry = runtime().block_on(recovered(size.agents));
    let mut master = core(&registry);
    let (mut limit, mut spent) = (0.0, 0.0);
    let mut now = Time::from_secs(2);
    for first in (0..size.agents).step_by(CHUNK) {
        let last = (first + CHUNK).min(size.agents);
        let messages: Vec<Bytes> = (first..last)
            .map(|agent| returning(agent, size.tasks, ended))
            .collect();
        limit += timed(|| {
            for message in &messages {
                decode::<ReregisterSlaveMessage>(message).unwrap();
            }
        })
        .1;
        let inputs = messages.into_iter().enumerate();
        let inputs: Vec<Input> = inputs.map(|(at, body)| input(first + at, body)).collect();
        spent += timed(|| {
            for input in inputs {
                now += Duration::from_micros(1);
                feed(&mut master, now, input);
            }
        })
        .1;
    }
    (limit / 1000.0, spent / 1000.0)
}

/// Seconds until the last agent is told that it is welcome, messages travelling over TCP.
fn over_sockets(size: Size) -> f64 {
    runtime().block_on(async {
        let cluster = Cluster::start(size.agents).await;
        let messages: Vec<Bytes> = (0..size.agents)
            .map(|agent| returning(agent, size.tasks, 0))
            .collect();
        let begin = Instant::now();
        cluster.come_back(messages).await;
        let spent = begin.elapsed().as_secs_f64();
        let snapshot = cluster.handle.snapshot().await.unwrap();
        assert_eq!(snapshot.agents.len(), size.agents);
        let tasks: usize = snapshot
            .frameworks
            .values()
            .map(|known| known.tasks.len())
            .sum();
        assert_eq!(tasks, size.agents * size.tasks);
        spent
    })
}
