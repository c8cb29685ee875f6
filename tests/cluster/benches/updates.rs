//! Status updates a second on their whole way: executor, agent and its disk, master, scheduler,
//! acknowledgement, master, agent and its disk again.
//!
//! ```text
//! cargo bench -p cluster-tests --bench updates -- [--agents 10] [--tasks 100] [--updates 200]
//!     [--rounds 3] [--directory /where] [--json]
//! ```
//!
//! Master and agents are ours, whole, and share this process with all else. Each agent has one
//! executor, an actor on the libmesos protocol, that tells of each of its tasks one update after
//! the other: the next one as soon as the agent says that it has the last on disk. The scheduler is
//! in the master's process, and acknowledges whatever comes. A round is over when it has
//! acknowledged the last update of the last task.
//!
//! The limit is what durability costs alone: an agent can neither send an update nor forget it
//! before a sync, so that each update of a task waits for two of them, shared with all other tasks.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "updates/agents.rs"]
mod agents;
#[path = "updates/executors.rs"]
mod executors;
#[path = "updates/scheduler.rs"]
mod scheduler;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bench::Table;

/// What `dcos-master` runs on; `dcos-agent`, which is a container's small helpers too, does not.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much there is to tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) agents: usize,
    /// On each agent.
    pub(crate) tasks: usize,
    /// Of each task.
    pub(crate) updates: usize,
}

impl Size {
    fn all(self) -> usize {
        self.agents * self.tasks * self.updates
    }
}

fn main() {
    let size = Size {
        agents: bench::argument("--agents").unwrap_or(10),
        tasks: bench::argument("--tasks").unwrap_or(100),
        updates: bench::argument("--updates").unwrap_or(200),
    };
    let rounds = bench::argument("--rounds").unwrap_or(3);
    let directory = bench::argument::<PathBuf>("--directory").unwrap_or_else(std::env::temp_dir);
    let (mut limits, mut rates, mut cores) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        limits.push(limit(size, &directory));
        let (rate, spent) = round(size, &directory);
        rates.push(rate);
        cores.push(spent);
    }
    let topic = format!(
        "{} agents x {} tasks, {} updates each",
        size.agents, size.tasks, size.updates
    );
    let mut table = Table::new(format!("status updates end to end, {topic}"), "updates/s");
    table.limit("limit: two shared syncs for each", limits);
    table.row("agents, master, scheduler", rates);
    table.print();
    let mut table = Table::new("processor time of an update", "us");
    table.row("executor, agent, master, scheduler", cores);
    table.print();
}

/// Updates a second, and microseconds of processor time for each.
fn round(size: Size, directory: &Path) -> (f64, f64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (seconds, busy) = runtime.block_on(async {
        let master = scheduler::Master::start().await;
        let agents = agents::start(&master, size, directory).await;
        let mut scheduler = scheduler::Scheduler::subscribe(&master).await;
        scheduler.launch(size).await;
        let (begin, busy) = (Instant::now(), processor_time());
        agents.begin();
        scheduler.acknowledge_all(size.all()).await;
        let spent = (begin.elapsed().as_secs_f64(), processor_time() - busy);
        agents.stop().await;
        spent
    });
    let all = f64::from(u32::try_from(size.all()).unwrap());
    (all / seconds, busy * 1e6 / all)
}

/// Seconds that this process has spent on processors.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks = rest.split_whitespace().skip(11).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

/// Updates a second if there were nothing but the disk: each agent appends what its tasks have to
/// tell, syncs, appends the acknowledgements, and syncs.
fn limit(size: Size, directory: &Path) -> f64 {
    let folder = tempfile::tempdir_in(directory).unwrap();
    let (update, acknowledgement) = (vec![b'u'; 500 * size.tasks], vec![b'a'; 100 * size.tasks]);
    let rounds = size.updates.min(50);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for agent in 0..size.agents {
            let path = folder.path().join(agent.to_string());
            let (update, acknowledgement) = (&update, &acknowledgement);
            scope.spawn(move || {
                let mut file = File::create(path).unwrap();
                for _ in 0..rounds {
                    for bytes in [update, acknowledgement] {
                        file.write_all(bytes).unwrap();
                        file.sync_data().unwrap();
                    }
                }
            });
        }
    });
    let count = u32::try_from(size.agents * size.tasks * rounds).unwrap();
    f64::from(count) / begin.elapsed().as_secs_f64()
}
