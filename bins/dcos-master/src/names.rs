//! The cluster's names, made of what the leading master knows: the one in this process, or another.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::bail;
use dcos_core::config::Values;
use dcos_dns::{Feed, MasterList, Pace};
use dcos_net::{Keeping, Snapshot};
use dcos_proto::master::response::GetState;
use dcos_sched::master::{self, MasterHandle, Stance, TaskRecord};
use dcos_store::electorate;
use dcos_wire::libprocess::Upid;
use dcos_wire::{Client, Masters};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::Local;
use crate::house::House;

/// Where names are served, out of the program's settings.
///
/// # Errors
/// A resolver that is named is no address, a network none.
pub(crate) fn config(values: &Values, ip: IpAddr) -> anyhow::Result<dcos_dns::Config> {
    Ok(dcos_dns::Config {
        listen: vec![SocketAddr::new(ip, values.port("dns_port"))],
        http: Some(SocketAddr::new(ip, values.port("mesos_dns_port"))),
        names: dcos_dns::naming(values)?,
        upstream: dcos_dns::upstream(values)?,
        zone_resolvers: dcos_dns::forward_zones(values)?,
        cache: dcos_dns::cache(values),
        allow: dcos_dns::allow(values)?,
        ..dcos_dns::Config::default()
    })
}

/// Whether names can be served at the addresses of the node as well.
///
/// # Errors
/// Whoever listens everywhere at their port has them already, and answers from other ones than were asked.
pub(crate) fn has_room(config: &dcos_dns::Config) -> anyhow::Result<()> {
    let everywhere = |own: &&SocketAddr| own.ip().is_unspecified() && own.port() == dcos_dns::PORT;
    if let Some(own) = config.listen.iter().find(everywhere) {
        bail!(
            "--dns: --ip={} with --dns_port={} leaves no room for 198.51.100.1: give --ip one address, or --dns_port another port",
            own.ip(),
            own.port(),
        );
    }
    Ok(())
}

/// What of another leader's news may wait: what a busy one tells while all names are made anew.
const WAITING: usize = 4096;

/// What names are made of.
pub(crate) struct Source {
    master: Local,
    /// Where this master is.
    own: SocketAddr,
    /// Whoever leads, if there are several.
    leading: Option<Masters>,
    masters: MasterList,
    /// Where what is known is kept, if there are several, for the time when none of them leads.
    memory: Option<Keeping>,
}

impl Source {
    /// The master of this process, and those it meets in `house`.
    ///
    /// # Errors
    /// `--dns_masters` has what is no address.
    pub(crate) fn new(
        values: &Values,
        house: &House,
        master: Local,
        own: SocketAddr,
    ) -> anyhow::Result<Self> {
        let (leading, found) = match house.ensemble() {
            Some(ensemble) => {
                let (leading, standing) = electorate(ensemble);
                (Some(Masters::Led(leading)), MasterList::Standing(standing))
            }
            None => (None, MasterList::Fixed(BTreeSet::from([own.ip()]))),
        };
        let ensemble = house.ensemble().map(ToString::to_string);
        let memory =
            ensemble.map(|named| dcos_program::keeping(values, "names/state", &named, [own.ip()]));
        Ok(Self {
            memory,
            master,
            own,
            leading,
            masters: dcos_dns::masters(values, || found)?,
        })
    }
}

/// Answers until `stop` is cancelled: each change of this master's state as soon as it is there, or, while another
/// one leads, what that one tells.
pub(crate) async fn serve(
    server: dcos_dns::Server,
    source: Source,
    client: Client,
    stop: CancellationToken,
) {
    let (mut feed, published) = Feed::new(source.masters, source.memory);
    let Local { handle, stance } = source.master;
    let over = stop.child_token();
    let tell = async {
        follow(&mut feed, source.leading, stance, client, &over).await;
        lead(&mut feed, &handle, source.own, &over).await;
    };
    let answer = async {
        server.run(published, stop).await;
        over.cancel();
    };
    tokio::join!(answer, tell);
}

/// Tells what the leader tells until this master leads, or is to `stop`.
async fn follow(
    feed: &mut Feed,
    leading: Option<Masters>,
    mut stance: watch::Receiver<Stance>,
    client: Client,
    stop: &CancellationToken,
) {
    let over = stop.child_token();
    let following = async {
        if let Some(masters) = leading {
            let (sender, mut news) = mpsc::channel(WAITING);
            tokio::select! {
                () = masters.tell(client, vec![sender]) => {}
                () = feed.follow(&mut news, &over) => {}
            }
        }
        over.cancelled().await;
    };
    let leading = async {
        tokio::select! {
            // An end of the master ends this process, too.
            _ = stance.wait_for(|stance| *stance == Stance::Leading) => over.cancel(),
            () = stop.cancelled() => {}
        }
    };
    // What was told last is kept before this one tells.
    tokio::join!(following, leading);
}

/// Tells what this master knows, and keeps it, until it ends or is to `stop`.
async fn lead(feed: &mut Feed, master: &MasterHandle, own: SocketAddr, stop: &CancellationToken) {
    let mut changes = master.changes();
    let mut keep = Instant::now();
    let mut still = interval(Feed::STILL);
    still.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unkept = None;
    'leading: while !stop.is_cancelled()
        && let Ok(state) = master.snapshot().await
    {
        let pace = Pace::begin();
        // Before the registry is read this master knows of nobody.
        if state.recovered {
            let masters = feed.masters.now(Some(own.ip()));
            let now = Arc::clone(&state);
            // It reads every task: no work for a thread that serves requests.
            match tokio::task::spawn_blocking(move || names(&now, own, masters)).await {
                Ok(now) => feed.tell(now),
                Err(error) => error!(%error, "names could not be read; keeping the last"),
            }
        }
        pace.rest().await;
        // Of agents that are awaited nothing is known here: what is kept says more.
        let is_whole = state.recovered && state.recovered_agents.is_empty();
        unkept = is_whole.then_some(state);
        loop {
            tokio::select! {
                () = stop.cancelled() => break 'leading,
                changed = changes.changed() => if changed.is_err() { break 'leading } else { break },
                is_other = feed.changed() => if is_other {
                    break;
                } else if is_whole && unkept.is_none() && !feed.has_kept() {
                    // What could not be written is tried again.
                    unkept = master.snapshot().await.ok();
                },
                () = sleep_until(keep), if unkept.is_some() && feed.is_idle() => {
                    if let Some(state) = unkept.take() {
                        feed.keep(own, move || kept(&state));
                    }
                    keep = Instant::now() + Feed::KEEP;
                }
                _ = still.tick(), if is_whole && unkept.is_none() => if !feed.still() {
                    unkept = master.snapshot().await.ok();
                }
            }
        }
    }
    feed.finish(own, unkept.map(|state| move || kept(&state)))
        .await;
}

/// What is kept of the state.
fn kept(state: &master::Snapshot) -> GetState {
    let agents = state.agents.iter().filter_map(|(id, agent)| {
        let upid: Upid = agent.pid.parse().ok()?;
        Some((id.as_str().to_owned(), upid.address()))
    });
    let frameworks = state.frameworks.values();
    let tasks = frameworks
        .clone()
        .flat_map(|framework| framework.tasks.values());
    dcos_net::state_of(
        agents,
        frameworks.map(|framework| framework.info.clone()),
        tasks.map(|task| task.read().into_owned()),
    )
}

fn names(state: &master::Snapshot, leader: SocketAddr, masters: Vec<IpAddr>) -> Snapshot {
    let agents = state.agents.iter().filter_map(|(id, agent)| {
        let upid: Upid = agent.pid.parse().ok()?;
        Some(dcos_net::Agent::new(
            id.as_str(),
            upid.address().ip(),
            upid.address().port(),
        ))
    });
    let frameworks = state.frameworks.values().map(|framework| {
        let driver: Option<Upid> = framework.pid.as_deref().and_then(|pid| pid.parse().ok());
        (&framework.info, driver.map(|driver| driver.address()))
    });
    let tasks = state
        .frameworks
        .values()
        .flat_map(|framework| framework.tasks.values());
    Snapshot::collect(
        Some(leader),
        masters,
        agents,
        frameworks,
        tasks.map(TaskRecord::read),
    )
    .awaiting(
        state
            .recovered_agents
            .keys()
            .map(|id| id.as_str().to_owned()),
    )
}
