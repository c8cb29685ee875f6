//! `dcos local`: a development cluster on this machine.
//!
//! The programs are started as they would be on real machines, each a process of its own that outlives
//! this command; what was started is noted in `local.json`, so that `down` finds it again.

use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Context, deployment, items, text};
use crate::cli::{Local, LocalDir, LocalUp};
use crate::cluster;
use crate::http::Server;
use crate::output::{self, Progress};

mod network;
mod plan;
mod process;
mod sweep;

use plan::{Notes, Plan};
use process::Program;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often a server that is starting is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) async fn run(context: &Context, command: Local) -> anyhow::Result<()> {
    match command {
        Local::Up(up) => start(context, &up).await,
        Local::Down(dir) => stop(context, &directory(context, &dir)).await,
        Local::Status(dir) => status(context, &directory(context, &dir)).await,
    }
}

/// Where the cluster is, without links: mounts and processes are known by that path.
fn directory(context: &Context, dir: &LocalDir) -> PathBuf {
    let dir = dir
        .dir
        .clone()
        .unwrap_or_else(|| context.home.join("local"));
    resolved(&std::path::absolute(&dir).unwrap_or(dir))
}

/// Of a link whose folder is gone, as `down` leaves one, that folder.
fn resolved(dir: &Path) -> PathBuf {
    dir.canonicalize().unwrap_or_else(|_| {
        let target = std::fs::read_link(dir).unwrap_or_else(|_| dir.to_owned());
        dir.with_file_name("").join(target)
    })
}

async fn start(context: &Context, up: &LocalUp) -> anyhow::Result<()> {
    let dir = directory(context, &up.dir);
    if let Some(notes) = Notes::read(&dir)? {
        if notes.processes.iter().any(process::Running::is_alive) {
            bail!(
                "a cluster already runs from {}; see `dcos local status`, or stop it by `dcos local down`",
                dir.display()
            );
        }
        sweep::sweep(&dir, &notes).tell()?;
    }
    let mut others = dir.read_dir().into_iter().flatten().flatten();
    if let Some(other) = others.next() {
        bail!(
            "{} holds {}, which is no local cluster's: name an empty directory, or one to be made",
            dir.display(),
            other.file_name().display()
        );
    }
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let dir = resolved(&dir);

    let mut progress = Progress::new(context.quiet || context.json);
    let mut interrupts = Interrupts::new()?;
    let plan = Plan::new(&dir, up)?;
    if !plan.root {
        progress.say("not root: nothing limits what tasks take, and they have namespaces only if users may make them");
    }
    let begin = Instant::now();
    let (programs, mut notes) = (plan.programs()?, plan.notes()?);
    if let Err(error) = launch(&programs, &mut notes, &dir, &mut progress) {
        if let Err(left) = end(&dir, notes, &mut progress).await {
            output::notice(format!("{left:#}"));
        }
        return Err(error);
    }
    let ready = async {
        await_cluster(&notes, up, &mut progress).await?;
        if up.sample {
            deploy_sample(context, &notes, &mut progress).await
        } else {
            Ok(None)
        }
    };
    let ready = tokio::time::timeout(Duration::from_secs(up.timeout), ready);
    let ready = tokio::select! {
        ready = ready => ready,
        () = interrupts.next() => {
            end(&dir, notes, &mut progress).await?;
            bail!("interrupted: what was started is ended");
        }
    };
    let sample = match ready {
        Ok(Ok(sample)) => sample,
        Ok(Err(error)) => return Err(error.context(explain(&dir, &notes))),
        Err(_) => {
            let marathon = Server::new(&notes.marathon)?;
            let failure = deployment::last_failure(&marathon, &json!("/hello")).await;
            let failure = failure.ok().flatten().map(|said| format!(" ({said})"));
            bail!(
                "the cluster does not work after {} s{}; {}",
                up.timeout,
                failure.unwrap_or_default(),
                explain(&dir, &notes)
            )
        }
    };
    progress.done();

    let mut config = cluster::Config::default();
    config.core.mesos_master_url.clone_from(&notes.master);
    "local".clone_into(&mut config.cluster.name);
    config.marathon = Some(cluster::Service {
        url: notes.marathon.clone(),
    });
    config.metronome = Some(cluster::Service {
        url: notes.metronome.clone(),
    });
    config.mesos_dns = Some(cluster::Service {
        url: notes.mesos_dns.clone(),
    });
    let attached = up.dir.dir.is_none();
    if attached {
        cluster::setup(&context.home, "local", &config)?;
    }
    let sample = sample.as_deref();
    report(context, &dir, &notes, sample, attached, begin.elapsed());
    Ok(())
}

/// Starts the programs, one after the other.
fn launch(
    programs: &[Program],
    notes: &mut Notes,
    dir: &Path,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    for program in programs {
        progress.say(format!("starting {}", program.name));
        notes.processes.push(program.start()?);
        // Written after each, so that `down` finds it whatever happens next.
        notes.write(dir)?;
    }
    Ok(())
}

/// What asks this program to end, but for what it was told to ignore, as by `nohup`. Whatever it does then, the programs it
/// starts have groups of their own and hear nothing of it.
struct Interrupts(Vec<Signal>);

impl Interrupts {
    fn new() -> anyhow::Result<Self> {
        let ignored = process::ignored();
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let heard = kinds.into_iter().filter(|kind| {
            let bit = kind.as_raw_value() - 1;
            ignored & (1 << bit) == 0
        });
        Ok(Self(heard.map(signal).collect::<Result<_, _>>()?))
    }

    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let mut came = self.0.iter_mut().map(|signal| signal.poll_recv(context));
            if came.any(|came| came.is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// Waits until the master leads, every agent has registered, Marathon answers, and names are known.
async fn await_cluster(notes: &Notes, up: &LocalUp, progress: &mut Progress) -> anyhow::Result<()> {
    let (master, marathon) = (Server::new(&notes.master)?, Server::new(&notes.marathon)?);
    progress.say("waiting for the master");
    while master.text("GET", "/health").await.is_err() {
        check_alive(notes)?;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    progress.say("waiting for the agents");
    loop {
        check_alive(notes)?;
        let slaves = master.get("/slaves").await.unwrap_or_default();
        let active = items(&slaves, "slaves")
            .iter()
            .filter(|slave| slave["active"] == true);
        if active.count() >= usize::from(up.agents) {
            break;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    progress.say("waiting for Marathon");
    while marathon.get("/v2/info").await.is_err() {
        check_alive(notes)?;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    progress.say("waiting for names");
    let names = Server::new(&notes.mesos_dns)?;
    while names.get("/v1/hosts/leader.mesos").await.is_err() {
        check_alive(notes)?;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

fn check_alive(notes: &Notes) -> anyhow::Result<()> {
    match notes.processes.iter().find(|process| !process.is_alive()) {
        Some(dead) => bail!("{} ended", dead.name),
        None => Ok(()),
    }
}

/// Deploys the sample service, and waits until it answers. Returns its URL.
async fn deploy_sample(
    context: &Context,
    notes: &Notes,
    progress: &mut Progress,
) -> anyhow::Result<Option<String>> {
    progress.say("deploying a sample service");
    let marathon = Server::new(&notes.marathon)?;
    let answer = marathon
        .send("PUT", "/v2/apps/hello", Some(&sample()))
        .await?;
    if let Some(id) = answer["deploymentId"].as_str() {
        deployment::wait(context, &marathon, id).await?;
    }
    let app = marathon.get("/v2/apps/hello/tasks").await?;
    let task = items(&app, "tasks")
        .first()
        .context("the sample service has no task")?;
    let port = task["ports"][0]
        .as_u64()
        .context("the sample service has no port")?;
    let service = Server::of_strangers(&format!("http://{}:{port}", text(task, "host")));
    progress.say("waiting for the sample service to answer");
    while service.text("GET", "/").await.is_err() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(Some(service.url))
}

fn sample() -> Value {
    json!({
        "id": "/hello",
        "cmd": "echo '<h1>Hello from your own datacenter</h1>' > index.html && exec python3 -m http.server \"$PORT0\"",
        "cpus": 0.1,
        "mem": 64,
        "instances": 1,
        "portDefinitions": [{"port": 0, "protocol": "tcp", "name": "http"}],
        "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/", "portIndex": 0,
            "gracePeriodSeconds": 10, "intervalSeconds": 1, "delaySeconds": 0}],
    })
}

fn explain(dir: &Path, notes: &Notes) -> String {
    let logs: Vec<_> = notes
        .processes
        .iter()
        .map(|process| process.log.display().to_string())
        .collect();
    format!(
        "see {}; `dcos local down --dir {}` stops what was started",
        logs.join(" and "),
        dir.display()
    )
}

/// `attached` means that the commands that follow are about this cluster.
fn report(
    context: &Context,
    dir: &Path,
    notes: &Notes,
    sample: Option<&str>,
    attached: bool,
    took: Duration,
) {
    if context.json {
        output::json(&json!({
            "master": notes.master, "marathon": notes.marathon, "metronome": notes.metronome, "dns": notes.dns,
            "mesos_dns": notes.mesos_dns, "router": notes.router, "directory": dir, "sample": sample,
            "seconds": took.as_secs_f64(),
        }));
        return;
    }
    let Notes {
        master,
        dns,
        router,
        ..
    } = notes;
    let [marathon, metronome] =
        [&notes.marathon, &notes.metronome].map(|url| output::harmless(url));
    let dns_port = dns.rsplit(':').next().unwrap_or_default();
    output::line(format!(
        "The cluster works after {:.1} s.\n",
        took.as_secs_f64()
    ));
    output::line(format!("  master     {master}/state"));
    output::line(format!("  Marathon   {marathon}/v2/apps"));
    output::line(format!("  Metronome  {metronome}/v1/jobs"));
    output::line(format!(
        "  DNS        dig -p {dns_port} @127.0.0.1 leader.mesos"
    ));
    if let Some(url) = sample {
        output::line(format!("  /hello     {url}/"));
    }
    output::line(format!(
        "  one door   {router}/service/marathon/v2/apps, {router}/mesos/state"
    ));
    output::line(format!("  logs       {}", dir.display()));
    output::line("\nFirst things to try:\n");
    if attached {
        output::line("  dcos task list");
    } else {
        output::line(format!("  dcos --master {master} task list"));
    }
    if attached && sample.is_some() {
        output::line("  dcos task log hello stderr");
        output::line("  dcos marathon app update /hello instances=3");
    }
    output::line(format!(
        "  python3 -c 'import dcos; print(dcos.connect(\"{master}\", marathon=\"{marathon}\").apps())'"
    ));
    let stop = if attached {
        String::new()
    } else {
        format!(" --dir {}", dir.display())
    };
    output::line(format!("\nStop it: dcos local down{stop}"));
}

async fn stop(context: &Context, dir: &Path) -> anyhow::Result<()> {
    let Some(notes) = Notes::read(dir)? else {
        if context.json {
            output::json(&json!({}));
        } else {
            output::line(format!("no cluster runs from {}", dir.display()));
        }
        return Ok(());
    };
    let mut progress = Progress::new(context.quiet || context.json);
    let is_usual = dir == directory(context, &LocalDir { dir: None });
    let ended = end(dir, notes, &mut progress).await;
    let forgotten = is_usual.then(|| cluster::remove_id(&context.home, "local"));
    progress.done();
    ended?;
    forgotten.transpose()?;
    if context.json {
        output::json(&json!({}));
    } else {
        output::line("The cluster is gone.");
    }
    Ok(())
}

/// Ends the programs, and what they left behind.
async fn end(dir: &Path, mut notes: Notes, progress: &mut Progress) -> anyhow::Result<()> {
    // Agents first: they kill their tasks and sign off while the master still listens.
    notes.processes.reverse();
    for process in &notes.processes {
        progress.say(format!("stopping {}", process.name));
        process.stop().await;
    }
    progress.say("cleaning up");
    sweep::sweep(dir, &notes).tell()
}

async fn status(context: &Context, dir: &Path) -> anyhow::Result<()> {
    let notes = Notes::read(dir)?;
    let Some(notes) = notes else {
        bail!("no cluster runs from {}", dir.display())
    };
    let slaves = Server::new(&notes.master)?
        .get("/slaves")
        .await
        .unwrap_or_default();
    let apps = Server::new(&notes.marathon)?
        .get("/v2/apps")
        .await
        .unwrap_or_default();
    if context.json {
        let processes: Vec<_> = notes
            .processes
            .iter()
            .map(process::Running::describe)
            .collect();
        output::json(&json!({
            "master": notes.master, "marathon": notes.marathon, "processes": processes,
            "agents": items(&slaves, "slaves").len(), "apps": items(&apps, "apps").len(),
        }));
        return Ok(());
    }
    let row = |process: &process::Running| {
        let state = if process.is_alive() {
            "running"
        } else {
            "ended"
        };
        let (pid, log) = (process.pid.to_string(), process.log.display().to_string());
        vec![process.name.clone(), state.to_owned(), pid, log]
    };
    output::table(
        &["PROGRAM", "STATE", "PID", "LOG"],
        notes.processes.iter().map(row),
    );
    output::line(format!(
        "\n{} agents, {} apps; master {}, Marathon {}",
        items(&slaves, "slaves").len(),
        items(&apps, "apps").len(),
        notes.master,
        output::harmless(&notes.marathon)
    ));
    Ok(())
}
