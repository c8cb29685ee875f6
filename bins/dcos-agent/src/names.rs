//! This node's names: a name server at the addresses that DC/OS's containers and hosts ask, which goes on answering while
//! no master does.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use dcos_containerizer::agent::Config;
use dcos_containerizer::isolator::network::DefaultDns;
use dcos_core::config::Values;
use dcos_dns::{Feed, MasterList, SPARTAN, Server, Spartan};
use dcos_program::NodeNames;
use dcos_store::StandingMasters;
use dcos_wire::Told;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
    own: &[IpAddr],
    standing: Option<StandingMasters>,
    running: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Names>> {
    if !values.switch("dns") {
        return Ok(None);
    }
    let mut config = dcos_dns::Config {
        http: None,
        names: dcos_dns::naming(values)?,
        upstream: dcos_dns::upstream(values)?,
        zone_resolvers: dcos_dns::forward_zones(values)?,
        cache: dcos_dns::cache(values),
        allow: dcos_dns::allow(values)?,
        ..dcos_dns::Config::default()
    };
    let masters = dcos_dns::masters(values, || {
        // Without an election only the leader is known.
        let standing = standing.unwrap_or_else(|| watch::channel(Arc::default()).1);
        MasterList::Standing(standing)
    })?;
    let Some(node) = NodeNames::open(values).await? else {
        return Ok(None);
    };
    config.listen = node.listen().to_vec();
    config.later = Spartan::places().collect();
    let server = Server::bind(config).await.context("--dns")?;
    let own = own.iter().copied();
    let memory = dcos_program::keeping(values, "names/state", &agent.master, own);
    let (mut feed, published) = Feed::new(masters, Some(memory));
    let (listener, mut news) = mpsc::channel(WAITING);
    let (routes, doors) = (server.router(), server.doors());
    running.spawn(server.run(published, stop.clone()));
    let over = stop.clone();
    running.spawn(async move { feed.follow(&mut news, &over).await });
    running.spawn(node.keep(doors, stop.clone())?);
    Ok(Some(Names { listener, routes }))
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
