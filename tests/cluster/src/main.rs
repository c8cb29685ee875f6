//! `cluster-drill`: see the library.
//!
//! ```text
//! cluster-drill [--quick] [--failovers=N] [--session-timeout=SECONDS] [--keep=FOLDER] [zookeeper] [etcd]
//! ```
//!
//! The last line is `N passed, M failed`. An engine that is not installed is skipped, with the reason.

#![expect(clippy::print_stdout, reason = "this is its output")]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use cluster_tests::{
    drill::{self, Plan, Report},
    network, probe,
    servers::Kind,
};

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "probe") {
        let address = arguments.nth(1).context("probe needs an address")?;
        return runtime()?
            .block_on(probe::ask_for_ever(&address))
            .map(|()| ExitCode::SUCCESS);
    }
    if let Some(why) = network::missing() {
        println!("skipped: {why}\n0 passed, 0 failed");
        return Ok(ExitCode::SUCCESS);
    }
    let engines = ["zookeeper", "etcd"];
    let given: Vec<String> = arguments.collect();
    if !given
        .iter()
        .any(|argument| engines.contains(&argument.as_str()))
    {
        return one_by_one(&engines, &given);
    }
    if let Some(code) = network::inside()? {
        return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
    }
    let mut plan = Plan {
        failovers: 21,
        agents: 4,
        agents_too: true,
        session_timeout: Duration::from_secs(5),
    };
    let (mut kinds, mut keep) = (Vec::new(), None);
    for argument in given {
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
            ("--keep", folder) => keep = Some(PathBuf::from(folder)),
            ("zookeeper", _) => kinds.push(Kind::ZooKeeper),
            ("etcd", _) => kinds.push(Kind::Etcd),
            _ => anyhow::bail!("what is {argument:?}?"),
        }
    }
    let report = run(&kinds, plan, keep.as_deref())?;
    println!("{} passed, {} failed", report.passed, report.failed);
    Ok(if report.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Each engine in a process of its own, since each makes a network of its own; what they say is added up.
fn one_by_one(engines: &[&str], arguments: &[String]) -> anyhow::Result<ExitCode> {
    let mut total = (0, 0);
    for engine in engines {
        let mut drill = Command::new(std::env::current_exe()?)
            .args(arguments)
            .arg(engine)
            .stdout(Stdio::piped())
            .spawn()?;
        let said = drill.stdout.take().context("its output is piped")?;
        let mut counted = None;
        for line in BufReader::new(said).lines() {
            let line = line?;
            counted = counts(&line);
            if counted.is_none() {
                println!("{line}");
            }
        }
        drill.wait()?;
        // One that broke off says nothing, and has failed.
        let (passed, failed) = counted.unwrap_or((0, 1));
        total = (total.0 + passed, total.1 + failed);
    }
    println!("{} passed, {} failed", total.0, total.1);
    Ok(if total.1 == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The numbers in a last line.
fn counts(line: &str) -> Option<(u32, u32)> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

fn run(kinds: &[Kind], plan: Plan, keep: Option<&Path>) -> anyhow::Result<Report> {
    let programs = std::env::current_exe()?;
    let programs = programs.parent().context("programs are in a folder")?;
    let mut report = Report::default();
    for kind in kinds {
        if let Some(why) = kind.missing() {
            println!("skipped: {why}");
            continue;
        }
        let temporary = tempfile::tempdir()?;
        let directory = match keep {
            Some(folder) => folder.join(kind.scheme()),
            None => temporary.path().to_owned(),
        };
        std::fs::create_dir_all(&directory)?;
        let drill = drill::run(*kind, plan, programs, &directory, &mut report);
        if let Err(error) = runtime()?.block_on(drill) {
            report.failed += 1;
            println!("FAILED  {error:#}");
        }
    }
    let times: Vec<f64> = report
        .times
        .iter()
        .map(|(_, time)| time.as_secs_f64())
        .collect();
    if let Some(worst) = times.iter().copied().reduce(f64::max) {
        let mut sorted = times.clone();
        sorted.sort_by(f64::total_cmp);
        println!(
            "from a fault to the next offer, with a session timeout of {:?}: median {:.1} s, at most {worst:.1} s",
            plan.session_timeout,
            sorted[sorted.len() / 2]
        );
    }
    Ok(report)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.context("starting the runtime")
}
