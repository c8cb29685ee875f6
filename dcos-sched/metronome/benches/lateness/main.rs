//! How late a trigger is: a whole Metronome with its store on disk, and a master that this process plays.
//!
//! ```text
//! cargo bench -p dcos-metronome --bench lateness -- [--jobs 1000000] [--due 500] [--rate 500] [--agents 10]
//!     [--minutes 3] [--directory /where] [--json]
//! ```
//!
//! `--jobs` jobs have schedules. `--due` of them are due at each minute, all at its beginning: cron knows nothing finer.
//! Meanwhile others are run over HTTP, `--rate` a second, and every run is launched, runs and ends. For each run a schedule
//! triggers the time is taken from the beginning of its minute
//!
//! - until the store has it on disk, from when on no crash loses or repeats it, and
//! - until the ACCEPT call with its launch is at the master: it waited for an offer, which the master makes once it is asked,
//!   and for the store once more.
//!
//! The limit does only what can't be left out: it waits for a moment and writes as many rows of that size to a file, once.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![expect(
    clippy::print_stderr,
    reason = "progress is for whoever waits for the table"
)]

mod jobs;
mod mesos;
mod store;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::Table;
use dcos_core::time::steady;
use dcos_metronome::Config;
use dcos_store::{EmbeddedStore, Fence, Term};
use dcos_wire::{Client, Listener};
use tokio_util::sync::CancellationToken;

use mesos::{Mesos, Transport};
use store::Watched;

/// What `dcos-master` runs on.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many requests for runs are under way at once.
const CLIENTS: usize = 4;

fn main() {
    let jobs = bench::argument("--jobs").unwrap_or(1_000_000);
    let due = bench::argument("--due").unwrap_or(500);
    let rate: u32 = bench::argument("--rate").unwrap_or(500);
    let agents = bench::argument("--agents").unwrap_or(10);
    let minutes = bench::argument("--minutes").unwrap_or(3);
    let directory = bench::argument::<PathBuf>("--directory").unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(directory).unwrap();
    let limit = (0..20).map(|_| bare(folder.path(), due)).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let measured = runtime.block_on(measure(folder.path(), jobs, due, rate, agents, minutes));
    let topic = format!(
        "{due} triggers of {jobs} jobs at a moment, {rate} runs/s beside them, {agents} agents, from the moment on"
    );
    let mut table = Table::new(topic, "ms");
    table.limit(format!("a timer, and {due} rows in one write"), limit);
    for (what, minutes) in [
        ("on disk", measured.kept),
        ("its launch at the master", measured.launched),
    ] {
        for (name, per_cent) in [("half of them", 50), ("99 of 100", 99), ("all", 100)] {
            let of_minute = |lateness: &Vec<f64>| {
                let last = lateness.len() - 1;
                lateness[last * per_cent / 100]
            };
            let samples = minutes.values().map(of_minute).collect();
            table.row(format!("{what}, {name}"), samples);
        }
    }
    table.note(format!(
        "{:.0} runs/s launched beside them, {:.2} processors used",
        measured.beside, measured.processors
    ));
    table.print();
}

/// Milliseconds from a moment until `rows` rows are on disk, one after the other in a file.
fn bare(folder: &Path, rows: usize) -> f64 {
    const ROW: [u8; 700] = [b'x'; 700];
    let mut file = std::fs::File::create(folder.join("bare")).unwrap();
    let due = Instant::now() + Duration::from_millis(20);
    std::thread::sleep(Duration::from_millis(20));
    file.write_all(&ROW.repeat(rows)).unwrap();
    file.sync_data().unwrap();
    due.elapsed().as_secs_f64() * 1_000.0
}

/// How late triggers were, in milliseconds: sorted, by the minute they were for.
type Lateness = BTreeMap<u64, Vec<f64>>;

struct Measured {
    kept: Lateness,
    launched: Lateness,
    /// Runs that were launched in a second beside those of schedules.
    beside: f64,
    /// How much of processors the whole took, the clients and the master's part included.
    processors: f64,
}

async fn measure(
    folder: &Path,
    jobs: usize,
    due: usize,
    rate: u32,
    agents: usize,
    minutes: u64,
) -> Measured {
    let embedded = EmbeddedStore::open(folder.join("store")).unwrap();
    let fence = Fence::new("bench", Term(1));
    jobs::create(&embedded, &fence, jobs, due).await;
    let store = Arc::new(Watched::new(embedded));
    let mesos = Arc::new(Mesos::new(agents));
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    let stop = CancellationToken::new();
    let begin = Instant::now();
    let running = tokio::spawn(dcos_metronome::run(
        Config::default(),
        Arc::clone(&store) as _,
        fence,
        Arc::new(Transport(Arc::clone(&mesos))),
        listener,
        stop.clone(),
    ));
    let client = Client::new();
    while client.get(&format!("http://{address}/ping")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eprintln!("started in {:.1} s", begin.elapsed().as_secs_f64());
    let clients = CancellationToken::new();
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let every = Duration::from_secs(1) * u32::try_from(CLIENTS).unwrap() / rate.max(1);
        let requesting = request(client.clone(), address, number, every);
        let clients = clients.clone();
        requests.spawn(async move {
            if rate > 0 {
                clients.run_until_cancelled(requesting).await;
            }
        });
    }
    // The first minute may have begun before the load did.
    let first = steady().as_secs() / 60 + 2;
    until(first * 60 - 1).await;
    let (launched, used, begin) = (mesos.beside(), processors(), Instant::now());
    until((first + minutes - 1) * 60 + 30).await;
    let spent = begin.elapsed().as_secs_f64();
    let of_minutes = |all: Vec<u64>| -> Lateness {
        let mut minutes: Lateness = BTreeMap::new();
        for at in all {
            let (minute, late) = (at / 60_000_000, at % 60_000_000);
            if minute >= first {
                let late = Duration::from_micros(late).as_secs_f64() * 1_000.0;
                minutes.entry(minute).or_default().push(late);
            }
        }
        for lateness in minutes.values_mut() {
            lateness.sort_by(f64::total_cmp);
            assert_eq!(lateness.len(), due, "one of each");
        }
        minutes
    };
    let measured = Measured {
        kept: of_minutes(store.kept()),
        launched: of_minutes(mesos.launched()),
        beside: f64::from(u32::try_from(mesos.beside() - launched).unwrap()) / spent,
        processors: (processors() - used) / spent,
    };
    clients.cancel();
    while requests.join_next().await.is_some() {}
    stop.cancel();
    running.await.unwrap().unwrap();
    measured
}

async fn until(second: u64) {
    while steady().as_secs() < second {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asks for a run of one job after the other.
async fn request(client: Client, address: std::net::SocketAddr, number: usize, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    for job in (number..jobs::BESIDE).step_by(CLIENTS).cycle() {
        ticks.tick().await;
        let url = format!("http://{address}/v1/jobs/beside-{job}/runs");
        let answer = client
            .post_json(&url, &serde_json::json!({}))
            .await
            .unwrap();
        answer.success().await.unwrap().text().await.unwrap();
    }
}

/// Microseconds since the epoch, by the clock Metronome goes by.
fn now() -> u64 {
    steady().as_nanos() / 1_000
}

/// Seconds of processors this process used.
fn processors() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split(' ').skip(12).take(2);
    let ticks: u32 = fields.map(|ticks| ticks.parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}
