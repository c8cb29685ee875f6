//! `dcos-agent`: runs tasks on this node for a Mesos master.
//!
//! `dcos-agent launcher …` is the launcher: the parent of all containers, which this program starts
//! as a process of its own and which outlives it. `dcos-agent switchboard …` stands beside a
//! container that others may attach to, and outlives it as well; `dcos-agent monitor …` beside one
//! that a foreign runtime makes. `dcos-agent namespaces` and `dcos-agent callers` help one that an ordinary user starts
//! into its user namespace, and look around outside of it. Called as `dcos-overlay` (`ln -s dcos-agent /opt/cni/bin/dcos-overlay`) it is a CNI
//! plugin.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use dcos_containerizer::agent::{self, AgentError, Config, ExecutorSocket};
use dcos_containerizer::checkpoint::takeover::Takeover;
use dcos_containerizer::rootless::{CALLERS, KEEPER};
use dcos_core::config::{Schema, Values};
use dcos_store::{Ensemble, LeadingMaster, StandingMasters, electorate};
use dcos_wire::Listener;
use dcos_wire::tls::Ssl;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

mod containers;
mod door;
mod names;
mod network;
mod overlay;
mod rootless;

use containers::Containers;
use rootless::Begun;

/// As it is called.
const PROGRAM: &str = "dcos-agent";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    match Path::new(&called)
        .file_name()
        .and_then(std::ffi::OsStr::to_str)
    {
        Some(dcos_overlay::plugin::NAME) => return dcos_overlay::plugin::main(),
        // One that was a program of its own keeps name and arguments when it becomes this one.
        Some("dcos-launcher") => return dcos_launcher::main(arguments),
        _ => {}
    }
    match arguments
        .next()
        .as_deref()
        .and_then(std::ffi::OsStr::to_str)
    {
        Some(containers::LAUNCHER) => return dcos_launcher::main(arguments),
        Some(containers::MONITOR) => return dcos_containerizer::oci::main(arguments),
        Some(containers::SWITCHBOARD) => return dcos_containerizer::switchboard::main(arguments),
        Some(KEEPER) => return dcos_containerizer::rootless::keep(),
        Some(CALLERS) => return dcos_containerizer::rootless::serve_callers(arguments),
        _ => {}
    }
    dcos_program::main_after(schema(), rootless::begin, run)
}

/// All that may be said to the agent.
fn schema() -> Schema {
    Schema::new(PROGRAM, "Runs tasks on this node for a Mesos master.")
        .with(agent::OPTIONS)
        .with(dcos_program::ADDRESS_OPTIONS)
        .with(dcos_program::SERVER_OPTIONS)
        .with(dcos_program::ENSEMBLE_OPTIONS)
        .with(agent::SECURITY_OPTIONS)
        .with(dcos_containerizer::isolator::OPTIONS)
        .with(containers::OPTIONS)
        .with(network::OPTIONS)
        .with(dcos_program::BALANCE_OPTIONS)
        .with(dcos_program::NODE_NAMES_OPTIONS)
        .with(dcos_program::MEMORY_OPTIONS)
        .with(dcos_dns::OPTIONS)
        .with(dcos_program::GOSSIP_OPTIONS)
        .with(overlay::OPTIONS)
        .with(dcos_containerizer::systemd::OPTIONS)
        .with(dcos_containerizer::oci::OPTIONS)
        .with(dcos_docker::OPTIONS)
        .with(dcos_containerizer::provisioner::OPTIONS)
        .section("router", dcos_router::OPTIONS)
        .former(agent::FORMER)
}

/// The leading master and all that stand, if `named` says where masters elect it.
fn elected(
    values: &Values,
    named: &str,
) -> anyhow::Result<(Option<LeadingMaster>, Option<StandingMasters>)> {
    if !Ensemble::is_named_by(named) {
        return Ok((None, None));
    }
    let session = values.duration("zk_session_timeout");
    let ensemble = dcos_program::ensemble(values, named)?.session_timeout(session);
    let (leading, standing) = electorate(&ensemble);
    Ok((Some(leading), Some(standing)))
}

/// What executors of this agent must know to speak to it.
fn tls_of_executors() -> impl Iterator<Item = (String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with("LIBPROCESS_SSL_"))
}

async fn run(values: Values, begun: Begun, stop: CancellationToken) -> anyhow::Result<()> {
    if values.switch("dns_resolv_conf_leave") {
        return dcos_program::leave_resolv_conf(&values);
    }
    let mut config = Config::from_values(&values)?;
    config.own_log = dcos_program::log_file(&values, PROGRAM);
    if values.switch("check_takeover") {
        return check_takeover(&config.work_dir);
    }
    let (leading, standing) = elected(&values, &config.master)?;
    config.leading = leading;
    config.tls = Ssl::from_env()?;
    config.require_peer_match = dcos_program::require_peer_match()?;
    config.metrics_limit = dcos_program::metrics_limit()?;
    config.server = dcos_program::server_config(&values);
    config.origins = dcos_program::origins(&values)?;
    config.executor_environment.extend(tls_of_executors());
    config.executor_socket =
        ExecutorSocket::from_values(&values, &containers::runtime_dir(&values))?;
    let ip = dcos_program::listening_ip(&values, Ipv4Addr::UNSPECIFIED.into())?;
    let address = SocketAddr::new(ip, values.port("port"));
    let listener = Listener::tcp(address)
        .await
        .with_context(|| format!("listening on {address}"))?;

    // Before anything is changed there: another agent may be at work.
    config.occupied = Some(Arc::new(agent::occupy(&config.work_dir).await?));
    let door = door::open(&values, ip, &stop).await?;
    let Containers {
        all,
        universal,
        images,
        counted,
        gpus,
    } = Containers::new(&values, &begun, &stop).await?;
    config.images = images;
    config.gpus = gpus;
    config.meters.push(counted);
    let sign_off = config.sign_off.clone();
    let signals = tokio::spawn(async move {
        // As in Mesos: kill all tasks, unregister, end.
        let mut asked = signal(SignalKind::user_defined1())?;
        asked.recv().await;
        info!("asked to sign off");
        sign_off.cancel();
        Ok::<_, std::io::Error>(())
    });
    let signed_off = config.sign_off.clone();
    let gossip = network::gossip(&values, &mut config, ip, &stop).await?;
    let mut ways = JoinSet::new();
    let passages = network::passages(&values, &mut ways);
    let started = async {
        let overlay = overlay::open(&values, &mut config, ip, passages.clone())?;
        let beside = network::Beside {
            gossip: gossip.as_ref(),
            overlay: overlay.as_ref().map(|node| node.view().metrics()),
        };
        let balances =
            network::start(&values, &config, standing, ip, beside, &mut ways, &stop).await?;
        if let Some(passages) = passages.as_ref().filter(|_| balances) {
            passages.say(dcos_l4lb::passage());
        }
        if let Some(node) = overlay {
            overlay::start(node, &mut ways, &stop).await;
        }
        Ok::<_, anyhow::Error>(())
    };
    if let Err(error) = started.await {
        if let Some(part) = gossip {
            part.leave().await;
        }
        return Err(error);
    }
    let agent = Box::pin(agent::run(config, all, listener, stop));
    let agent = async {
        match door {
            // It ends with the agent, whichever way that ends.
            Some((router, ports)) => tokio::select! {
                ended = agent => ended,
                never = forever(router.serve(ports)) => match never {},
            },
            None => agent.await,
        }
    };
    let ended = tokio::select! {
        ended = agent => Ok(ended),
        panicked = panic_of(&mut ways) => Err(panicked),
    };
    let over = signed_off.is_cancelled() || matches!(ended, Ok(Err(AgentError::Gone { .. })));
    if let Some(passages) = passages.filter(|_| over) {
        passages.close().await;
    }
    ways.shutdown().await;
    if let Some(part) = gossip {
        part.leave().await;
    }
    signals.abort();
    // Tasks run on, and whatever supervises the agent starts it anew.
    let ended = ended.context("a part of this node's network panicked")?;
    if let Some(universal) = universal.filter(|_| over) {
        universal.stop().await;
    }
    Ok(ended?)
}

/// Waits until one of them panics: what it kept right would go wrong from then on. They may end in order.
async fn panic_of(ways: &mut JoinSet<()>) -> JoinError {
    while let Some(ended) = ways.join_next().await {
        if let Err(error) = ended {
            return error;
        }
    }
    std::future::pending().await
}

/// Does something, and never ends.
async fn forever(doing: impl Future<Output = ()>) -> std::convert::Infallible {
    doing.await;
    std::future::pending().await
}

/// Says what a start on this work directory would do.
fn check_takeover(work_dir: &Path) -> anyhow::Result<()> {
    match Takeover::find(work_dir)? {
        None => info!(?work_dir, "no original Mesos agent lived here last"),
        Some(found) if found.obstacles.is_empty() => {
            info!(?work_dir, executors = found.live(), "it can be taken over");
        }
        Some(found) => bail!(
            "{} cannot be taken over: {}; drain the original agent first",
            work_dir.display(),
            found.obstacles.join("; ")
        ),
    }
    Ok(())
}
