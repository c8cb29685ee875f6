//! Each engine's drill is a process of its own, since each makes a network of its own; what they say is added up.

use std::{
    path::Path,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cluster_tests::{machine, network, servers::Kind};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
};

/// A drill on one engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    /// Leaders fail.
    Failover(Kind),
    /// Hosts fail, and those who talk go on.
    Network(Kind),
}

impl Run {
    /// What is to be run if these are named on the command line.
    pub(crate) fn of(kinds: &[Kind], network: bool) -> Vec<Self> {
        const ALL: [Kind; 2] = [Kind::ZooKeeper, Kind::Etcd];
        let everything = kinds.is_empty() && !network;
        let engines = if kinds.is_empty() { &ALL[..] } else { kinds };
        let failovers = engines.iter().copied().map(Self::Failover);
        let failovers = failovers.filter(|_| everything || !network);
        let installed = engines.iter().rfind(|kind| kind.missing().is_none());
        let engine = installed.or(engines.last()).copied().map(Self::Network);
        failovers
            .chain(engine.filter(|_| everything || network))
            .collect()
    }

    fn kind(self) -> Kind {
        match self {
            Self::Failover(kind) | Self::Network(kind) => kind,
        }
    }

    /// Why it cannot run here, if it cannot.
    fn missing(self) -> Option<&'static str> {
        let there = |path: &str| Path::new(path).exists();
        let network = there("/usr/sbin/nft") && there("/usr/lib/cni/bridge");
        let absent = "Debian's packages nftables and containernetworking-plugins are not installed";
        let missing = matches!(self, Self::Network(_))
            .then_some(absent)
            .filter(|_| !network);
        missing.or_else(|| self.kind().missing())
    }

    /// What it is called on the command line and on disk.
    fn words(self) -> Vec<&'static str> {
        let engine = match self.kind() {
            Kind::ZooKeeper => "zookeeper",
            Kind::Etcd => "etcd",
        };
        match self {
            Self::Failover(_) => vec![engine],
            Self::Network(_) => vec![engine, "network"],
        }
    }
}

/// How a run ended.
enum Ended {
    /// With so many checks passed and failed.
    Counted(u32, u32),
    /// We were asked to end, and it is no more.
    Interrupted,
}

/// The signals that ask us to end.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Runs the drill on each of `kinds` and prints what they say. Asked to end, it ends them and removes their files.
pub(crate) async fn all(
    runs: &[Run],
    arguments: &[String],
    keep: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut total = (0, 0);
    for run in runs {
        if let Some(why) = run.missing() {
            println!("skipped: {why}");
            continue;
        }
        let temporary = tempfile::tempdir()?;
        let directory = keep.map_or_else(|| temporary.path().to_owned(), Path::to_owned);
        let directory = directory.join(run.words().join("-"));
        std::fs::create_dir_all(&directory)?;
        let begin = Instant::now();
        let ended = one(*run, arguments, &directory, &mut signals).await;
        machine::remove_cgroups(&machine::cgroup_of(&directory));
        match ended? {
            Ended::Counted(passed, failed) => total = (total.0 + passed, total.1 + failed),
            Ended::Interrupted => {
                println!("interrupted");
                remove(temporary).await;
                return Ok(ExitCode::from(130));
            }
        }
        let minutes = begin.elapsed().as_secs_f64() / 60.0;
        println!("{run:?} took {minutes:.1} min");
    }
    println!("{} passed, {} failed", total.0, total.1);
    Ok(if total.1 == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn one(
    run: Run,
    arguments: &[String],
    directory: &Path,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let mut drill = Command::from(network::inside()?)
        .args(arguments)
        .arg(format!("--keep={}", directory.display()))
        .args(run.words())
        .stdout(Stdio::piped())
        // A signal to the terminal is meant for us, who ends the run.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("starting setpriv and unshare, of Debian's util-linux")?;
    let said = drill.stdout.take().context("its output is piped")?;
    let mut lines = BufReader::new(said).lines();
    let mut counted = None;
    let interrupted = loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            () = signals.any() => break true,
        };
        let Some(line) = line else { break false };
        counted = counts(&line);
        if counted.is_none() {
            println!("{line}");
        }
    };
    if interrupted {
        drill.kill().await?;
        // The end of its output is the end of the namespaces' first process, and so of all others.
        while let Ok(Some(_)) = lines.next_line().await {}
        return Ok(Ended::Interrupted);
    }
    drill.wait().await?;
    // One that broke off says nothing, and has failed.
    let (passed, failed) = counted.unwrap_or((0, 1));
    Ok(Ended::Counted(passed, failed))
}

/// Removes a folder whose last users may be ending just now.
async fn remove(folder: tempfile::TempDir) {
    let path = folder.keep();
    for _ in 0..100 {
        if std::fs::remove_dir_all(&path).is_ok() || !path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{} could not be removed", path.display());
}

/// The numbers in a last line.
fn counts(line: &str) -> Option<(u32, u32)> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}
