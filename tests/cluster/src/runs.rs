//! Each engine's drill is a process of its own, since each makes a network of its own; what they say is added up.

use std::{
    path::Path,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cluster_tests::{network, servers::Kind};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
};

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
    kinds: &[Kind],
    arguments: &[String],
    keep: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut total = (0, 0);
    for kind in kinds {
        if let Some(why) = kind.missing() {
            println!("skipped: {why}");
            continue;
        }
        let temporary = tempfile::tempdir()?;
        let directory = keep.map_or_else(|| temporary.path().to_owned(), Path::to_owned);
        let directory = directory.join(kind.scheme());
        std::fs::create_dir_all(&directory)?;
        let begin = Instant::now();
        match one(*kind, arguments, &directory, &mut signals).await? {
            Ended::Counted(passed, failed) => total = (total.0 + passed, total.1 + failed),
            Ended::Interrupted => {
                println!("interrupted");
                remove(temporary).await;
                return Ok(ExitCode::from(130));
            }
        }
        let minutes = begin.elapsed().as_secs_f64() / 60.0;
        println!("{kind:?} took {minutes:.1} min");
    }
    println!("{} passed, {} failed", total.0, total.1);
    Ok(if total.1 == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn one(
    kind: Kind,
    arguments: &[String],
    directory: &Path,
    signals: &mut Signals,
) -> anyhow::Result<Ended> {
    let engine = match kind {
        Kind::ZooKeeper => "zookeeper",
        Kind::Etcd => "etcd",
    };
    let mut drill = Command::from(network::inside()?)
        .args(arguments)
        .arg(format!("--keep={}", directory.display()))
        .arg(engine)
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
