//! This node's names: a name server at the addresses that DC/OS's containers and hosts ask, which goes on answering while
//! no master does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::Router;
use dcos_containerizer::agent::Config;
use dcos_containerizer::isolator::network::DefaultDns;
use dcos_core::config::{Spec, Values};
use dcos_dns::{Feed, MasterList, ResolvConf, SPARTAN, Server, Spartan, SpartanError, Upstream};
use dcos_program::unless_taken;
use dcos_store::StandingMasters;
use dcos_wire::Told;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Options of our own: in DC/OS another program has them.
pub(crate) const OPTIONS: &[Spec] = &[Spec::switch("dns").help(
    "Answer names on this node, at 198.51.100.1 to .3 on the link `spartan`, also while no master does; it takes root, and a node of one's own: of several agents on a node one does it. Containers with networks of their own ask there, unless --default_container_dns says otherwise (ours).",
),
    Spec::path("dns_resolv_conf").help(
        "With --dns, a file such as /etc/resolv.conf that is kept so that the node itself asks there; whom else it asks is said by --dns_resolvers, and it asks them when the agent stops (ours).",
    ),
    Spec::list("dns_search").help("In that file: where names without a dot are looked for (ours)."),
    Spec::switch("dns_resolv_conf_leave").help(
        "Do nothing but have that file name --dns_resolvers again, if an agent wrote it last: for ExecStopPost= of the agent's unit, which comes also after it was killed (ours).",
    ),
];

/// How often it is looked whether somebody took the link away.
const REVIEW: Duration = Duration::from_secs(30);
/// What of the master's news may wait: what a busy one tells while all names are made anew.
const WAITING: usize = 4096;

/// A name server that runs.
#[derive(Debug)]
pub(crate) struct Names {
    /// Where to send what the leading master tells.
    pub(crate) listener: mpsc::Sender<Told>,
    /// What it answers of dcos-net's REST API.
    pub(crate) routes: Router,
}

/// Starts answering, if it is asked for.
pub(crate) async fn start(
    values: &Values,
    agent: &Config,
    standing: Option<StandingMasters>,
    running: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Names>> {
    if !values.switch("dns") {
        return Ok(None);
    }
    let opened = tokio::task::spawn_blocking(Spartan::open).await?;
    let is_taken = |error: &_| matches!(error, SpartanError::Taken { .. });
    let Some(spartan) = unless_taken(opened, is_taken, "--dns")? else {
        return Ok(None);
    };
    let (listen, upstream) = (spartan.listen(), dcos_dns::upstream(values)?);
    let resolvers = upstream.now();
    ensure!(
        resolvers.is_empty() || !resolvers.iter().all(|resolver| listen.contains(resolver)),
        "--dns: the node asks only this name server itself, which would answer nothing about other names: \
         name those it is to ask with --dns_resolvers"
    );
    let kept = resolv_conf(values, &upstream)?;
    let config = dcos_dns::Config {
        listen: listen.clone(),
        http: None,
        names: dcos_dns::naming(values)?,
        upstream,
        zone_resolvers: dcos_dns::forward_zones(values)?,
        cache: dcos_dns::cache(values),
        allow: dcos_dns::allow(values)?,
        ..dcos_dns::Config::default()
    };
    let server = Server::bind(config).await.context("--dns")?;
    let masters = dcos_dns::masters(values, || {
        // Without an election only the leader is known.
        let standing = standing.unwrap_or_else(|| watch::channel(Arc::default()).1);
        MasterList::Standing(standing)
    })?;
    let memory = agent.work_dir.join("names/state");
    let (mut feed, published) = Feed::new(masters, Some(memory));
    let (listener, mut news) = mpsc::channel(WAITING);
    let routes = server.router();
    running.spawn(server.run(published, stop.clone()));
    let over = stop.clone();
    running.spawn(async move {
        tokio::select! {
            () = feed.follow(&mut news) => {}
            () = over.cancelled() => {}
        }
    });
    let kept = kept.map(|file| Kept {
        file,
        own: listen,
        others: resolvers,
    });
    if let Some(kept) = &kept {
        kept.file.ask(&kept.own).context("--dns_resolv_conf")?;
    }
    running.spawn(keep(spartan, kept, stop.clone()));
    Ok(Some(Names { listener, routes }))
}

/// The file that has the node ask here, if one is to be kept.
fn resolv_conf(values: &Values, upstream: &Upstream) -> anyhow::Result<Option<ResolvConf>> {
    let Some(path) = values.opt_path("dns_resolv_conf") else {
        return Ok(None);
    };
    let Upstream::Named(named) = upstream else {
        bail!(
            "--dns_resolv_conf: what the file says now would be forgotten: name those who know other names with --dns_resolvers"
        );
    };
    ensure!(
        named
            .iter()
            .any(|resolver| resolver.port() == dcos_dns::PORT),
        "--dns_resolv_conf: when the agent stops the node asks those of --dns_resolvers, at port 53 alone, and none of them is there"
    );
    let search = values.opt_list("dns_search").unwrap_or_default();
    Ok(Some(ResolvConf::new(path, search)))
}

/// Has the node ask others again, where an agent that had it ask here is no more.
///
/// # Errors
/// The options name no file, or nobody else to ask; writing it.
pub(crate) fn leave(values: &Values) -> anyhow::Result<()> {
    let upstream = dcos_dns::upstream(values)?;
    let file = resolv_conf(values, &upstream)?;
    let file = file.context("--dns_resolv_conf_leave: --dns_resolv_conf says which file")?;
    if file.leave(&upstream.now())? {
        info!("this node asks those of --dns_resolvers for names");
    }
    Ok(())
}

/// A file that has the node ask here as long as somebody answers.
#[derive(Debug)]
struct Kept {
    file: ResolvConf,
    own: Vec<SocketAddr>,
    others: Vec<SocketAddr>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = self.file.leave(&self.others) {
            warn!("{:#}", anyhow::Error::new(error));
        }
    }
}

/// Puts the link right now and then, and the file.
async fn keep(mut spartan: Spartan, kept: Option<Kept>, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(REVIEW))
        .await
        .is_some()
    {
        let stood = tokio::task::spawn_blocking(move || {
            let stood = spartan.stand();
            (spartan, stood)
        });
        let Ok((again, stood)) = stood.await else {
            return;
        };
        spartan = again;
        if let Err(error) = stood {
            warn!("{:#}", anyhow::Error::new(error));
        }
        let Some(kept) = &kept else { continue };
        match kept.file.ask(&kept.own) {
            Ok(false) => {}
            Ok(true) => warn!("somebody had this node ask others for names: put right"),
            Err(error) => warn!("{:#}", anyhow::Error::new(error)),
        }
    }
}

/// What containers ask that have networks of their own, if nobody says otherwise.
///
/// # Errors
/// None that an operator can make.
pub(crate) fn of_containers(values: &Values) -> anyhow::Result<Option<DefaultDns>> {
    if !values.switch("dns") || values.opt_json("default_container_dns").is_some() {
        return Ok(None);
    }
    let dns = json!({ "nameservers": SPARTAN });
    let all = json!({ "mesos": [{ "network_mode": "CNI", "dns": dns }] });
    Ok(Some(serde_json::from_value(all)?))
}
