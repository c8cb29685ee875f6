//! `cluster-drill`: see the library.
//!
//! ```text
//! cluster-drill [--quick] [--failovers=N] [--session-timeout=SECONDS] [--keep=FOLDER] [zookeeper] [etcd] [network]
//! ```
//!
//! `network` is the drill of six hosts with all of the network; it runs once, on the last engine that is named and
//! installed, and takes no faults of the others' plan. With no name at all everything runs. The last line is `N passed, M failed`. An engine that is not installed is skipped, with the reason. However it ends,
//! nothing goes on and nothing is left: what it starts lives in namespaces that end with it.

#![expect(clippy::print_stdout, reason = "this is its output")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use cluster_tests::{
    drill::{self, Plan, Report},
    network, probe, reach,
    servers::Kind,
    talk,
};

mod runs;

use runs::Run;

/// What the command line says.
struct Options {
    plan: Plan,
    runs: Vec<Run>,
    /// Where files are kept after the drill.
    keep: Option<PathBuf>,
    /// Arguments that every run gets.
    passed_on: Vec<String>,
}

// One thread: what is started is told to end when the thread that started it does.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "probe") {
        let address = arguments.nth(1).context("probe needs an address")?;
        return probe::ask_for_ever(&address)
            .await
            .map(|()| ExitCode::SUCCESS);
    }
    if arguments
        .peek()
        .is_some_and(|first| talk::WORDS_OF_TALK.contains(&&**first))
    {
        let words: Vec<String> = arguments.collect();
        return talk::run(&words).await.map(|()| ExitCode::SUCCESS);
    }
    let options = parse(arguments)?;
    if network::is_inside() {
        let directory = options.keep.context("a run gets a folder")?;
        let one = *options.runs.first().context("a run is of one engine")?;
        return run(one, options.plan, directory).await;
    }
    if let Some(why) = network::missing() {
        println!("skipped: {why}\n0 passed, 0 failed");
        return Ok(ExitCode::SUCCESS);
    }
    runs::all(&options.runs, &options.passed_on, options.keep.as_deref()).await
}

fn parse(arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut plan = Plan {
        failovers: 21,
        agents: 4,
        agents_too: true,
        session_timeout: Duration::from_secs(5),
    };
    let (mut kinds, mut network) = (Vec::new(), false);
    let (mut keep, mut passed_on) = (None, Vec::new());
    for argument in arguments {
        match argument.split_once('=').unwrap_or((&argument, "")) {
            ("--quick", _) => {
                plan = Plan {
                    failovers: 2,
                    agents: 2,
                    agents_too: false,
                    session_timeout: Duration::from_secs(2),
                }
            }
            ("--failovers", number) => plan.failovers = number.parse()?,
            ("--session-timeout", seconds) => {
                plan.session_timeout = Duration::from_secs_f64(seconds.parse()?);
            }
            ("--keep", folder) => {
                keep = Some(PathBuf::from(folder));
                continue;
            }
            ("zookeeper", _) => {
                kinds.push(Kind::ZooKeeper);
                continue;
            }
            ("etcd", _) => {
                kinds.push(Kind::Etcd);
                continue;
            }
            ("network", _) => {
                network = true;
                continue;
            }
            _ => anyhow::bail!("what is {argument:?}?"),
        }
        passed_on.push(argument);
    }
    Ok(Options {
        plan,
        runs: Run::of(&kinds, network),
        keep,
        passed_on,
    })
}

/// The drill on one engine, inside namespaces of its own.
async fn run(one: Run, plan: Plan, directory: PathBuf) -> anyhow::Result<ExitCode> {
    let programs = std::env::current_exe()?;
    let programs = programs.parent().context("programs are in a folder")?;
    let mut report = Report::default();
    let ended = match one {
        Run::Failover(kind) => drill::run(kind, plan, programs, &directory, &mut report).await,
        Run::Network(kind) => Box::pin(reach::run(kind, programs, &directory, &mut report)).await,
    };
    if let Err(error) = ended {
        report.failed += 1;
        println!("FAILED  {error:#}");
    }
    let mut times: Vec<f64> = report
        .times
        .iter()
        .map(|(_, time)| time.as_secs_f64())
        .collect();
    times.sort_by(f64::total_cmp);
    if let Some(worst) = times.last() {
        println!(
            "from a fault to the next offer, with a session timeout of {:?}: median {:.1} s, at most {worst:.1} s",
            plan.session_timeout,
            times[times.len() / 2]
        );
    }
    println!("{} passed, {} failed", report.passed, report.failed);
    Ok(if report.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
