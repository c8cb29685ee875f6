//! Whole containers on one agent: tasks a second from ACCEPT to `TASK_FINISHED`, what launches cost
//! beside many containers and mounts, memory, images from a registry, tear-down.
//!
//! ```text
//! cargo build --release -p dcos-master -p dcos-agent
//! cargo bench -p cluster-tests --bench containers -- [--tasks 1000] [--idle 1000] [--many 2000] [--rounds 3]
//!     [--launches 40] [--mounts 1000] [--pulls 3] [--directory /where] [--programs /where] [--json]
//! ```
//!
//! As root. Master and agent are programs of their own, with their defaults: every task is a container with
//! all namespaces, cgroups, capabilities and filters, everything is checkpointed, and each update
//! is acknowledged by a scheduler over HTTP. What is lost with the host is on a tmpfs, as below `/run`.
//! `crun`, where installed, runs `true` with as many
//! namespaces, eight at a time: without agent, checkpoints, or a master; a Docker Engine, where installed,
//! pulls and runs images of the same size.
//!
//! CPU time is that of the processes, what the kernel does for them elsewhere (its journal, the
//! removal of namespaces) not included: on a machine that others share it says more than rates do.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "containers/node.rs"]
mod node;
#[path = "containers/peers.rs"]
mod peers;
#[path = "containers/pulls.rs"]
mod pulls;
#[path = "containers/scheduler.rs"]
mod scheduler;

use std::path::{Path, PathBuf};
use std::time::Instant;

use bench::Table;
use node::Node;
use scheduler::Framework;

/// What the original publishes for one agent: launches of containers a second.
const PUBLISHED: f64 = 33.0;

#[tokio::main]
async fn main() {
    if !rustix::process::geteuid().is_root() {
        Table::new("skipped: containers need root", "").print();
        return;
    }
    let size = Size {
        tasks: bench::argument("--tasks").unwrap_or(1000),
        idle: bench::argument("--idle").unwrap_or(1000),
        many: bench::argument("--many").unwrap_or_else(many),
        rounds: bench::argument("--rounds").unwrap_or(3),
        launches: bench::argument("--launches").unwrap_or(40),
        mounts: bench::argument("--mounts").unwrap_or(1000),
        pulls: bench::argument("--pulls").unwrap_or(3),
    };
    let directory = bench::argument::<PathBuf>("--directory").unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(directory).unwrap();
    let registry = pulls::Registry::new(2 * size.pulls).await;
    let node = Node::start(folder.path(), &registry.address).await;
    let mut framework = Framework::subscribe(&node.master).await;
    rate(&node, &mut framework, size, folder.path()).await;
    if size.idle >= FEW {
        among_others(&node, &mut framework, size, folder.path()).await;
    }
    if size.pulls > 0 {
        images(&mut framework, size, folder.path(), &registry).await;
    }
    node.sign_off().await;
}

/// How much is done.
#[derive(Clone, Copy)]
struct Size {
    tasks: usize,
    idle: usize,
    many: usize,
    rounds: usize,
    launches: usize,
    mounts: usize,
    pulls: usize,
}

/// Few containers, for launches among them to be compared with.
const FEW: usize = 10;

/// As many containers as the agent has descriptors for, ten for each, up to 2,000.
fn many() -> usize {
    let open = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let open = open.maximum.unwrap_or(u64::MAX);
    usize::try_from(open / 12).map_or(2000, |many| many.min(2000))
}

/// `true`, as many at once as there are.
async fn rate(node: &Node, framework: &mut Framework, size: Size, folder: &Path) {
    let Size { tasks, rounds, .. } = size;
    let mut rate = Table::new("tasks from ACCEPT to TASK_FINISHED", "tasks/s");
    rate.published("published for one agent of Mesos", PUBLISHED);
    let (mut ours, mut gone, mut cpu) = (Vec::new(), Vec::new(), [const { Vec::new() }; 4]);
    for _ in 0..rounds {
        let (begin, before) = (Instant::now(), node.cpu());
        framework.run(tasks, "true").await;
        ours.push(per_second(tasks, begin));
        node.settled(0).await;
        gone.push(per_second(tasks, begin));
        for ((all, now), before) in cpu.iter_mut().zip(node.cpu()).zip(before) {
            all.push(1000.0 * (now - before) / count(tasks));
        }
    }
    rate.row("dcos-agent", ours);
    rate.row("dcos-agent, until nothing is left of them", gone);
    if let Some(crun) = peers::crun(tasks.min(200), folder) {
        rate.row("crun run, 8 at a time", vec![crun]);
    }
    rate.print();
    let mut table = Table::new("CPU time a task", "ms");
    let all = (0..rounds).map(|round| cpu.iter().map(|part| part[round]).sum());
    table.row("all", all.collect());
    let names = [
        "the agent",
        "the launcher and the tasks",
        "the master",
        "the scheduler",
    ];
    for (name, samples) in names.into_iter().zip(cpu) {
        table.row(name, samples);
    }
    table.print();
}

/// One launch after the other, beside few and many containers; what those take, and how they end.
async fn among_others(node: &Node, framework: &mut Framework, size: Size, folder: &Path) {
    let Size {
        idle,
        many,
        launches,
        mounts,
        ..
    } = size;
    let mut cost = Table::new("one launch, ACCEPT to TASK_FINISHED", "ms");
    framework.launch(FEW, "exec sleep 1000000").await;
    cost.limit(
        format!("beside {FEW} containers"),
        framework.latencies(launches).await,
    );
    let held = peers::Mounts::new(&folder.join("mounts"), mounts);
    let beside = framework.latencies(launches).await;
    cost.row(format!("and {mounts} more mounts on the node"), beside);
    drop(held);
    let few = node.memory();
    framework.launch(idle - FEW, "exec sleep 1000000").await;
    let all = node.memory();
    if many > idle {
        framework.launch(many - idle, "exec sleep 1000000").await;
    }
    let many = many.max(idle);
    let beside = framework.latencies(launches).await;
    cost.row(format!("beside {many} containers"), beside);
    cost.print();

    let mut memory = Table::new(format!("memory with {idle} idle containers"), "KB");
    let each = |few, all| each(few, all, idle - FEW);
    memory.row("the agent, resident", vec![kb(all.agent)]);
    memory.row(
        "the agent, for each container",
        vec![each(few.agent, all.agent)],
    );
    memory.row("the launcher, resident", vec![kb(all.launcher)]);
    let launcher = each(few.launcher, all.launcher);
    memory.row("the launcher, for each container", vec![launcher]);
    memory.row("an init, its own pages", vec![kb(all.init)]);
    memory.print();

    let mut end = Table::new(format!("ending {many} running containers"), "tasks/s");
    let begin = Instant::now();
    framework.kill_all().await;
    end.row(
        "until all are told to be killed",
        vec![per_second(many, begin)],
    );
    node.settled(0).await;
    end.row(
        "until nothing is left of them",
        vec![per_second(many, begin)],
    );
    end.print();
}

/// From an image that nobody has to a task that runs.
async fn images(framework: &mut Framework, size: Size, folder: &Path, registry: &pulls::Registry) {
    let pulls = size.pulls;
    let mut pull = Table::new("from an image in a registry here to a task that runs", "ms");
    if let Some(docker) = pulls::Docker::start(folder, registry) {
        let run = |number| docker.run(&registry.image(number));
        pull.limit("docker pull and docker run", (0..pulls).map(run).collect());
    }
    let mut taken = Vec::new();
    for number in pulls..2 * pulls {
        taken.push(framework.launch_image(&registry.image(number)).await);
    }
    pull.row("dcos-agent, from ACCEPT to TASK_RUNNING", taken);
    let again = framework.launch_image(&registry.image(pulls)).await;
    pull.row("the same once the image is there", vec![again]);
    pull.print();
    framework.kill_all().await;
}

#[expect(clippy::cast_precision_loss, reason = "a count of tasks")]
fn count(tasks: usize) -> f64 {
    tasks as f64
}

fn per_second(tasks: usize, since: Instant) -> f64 {
    count(tasks) / since.elapsed().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a node")]
fn kb(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

fn each(few: u64, many: u64, containers: usize) -> f64 {
    kb(many.saturating_sub(few)) / count(containers)
}
