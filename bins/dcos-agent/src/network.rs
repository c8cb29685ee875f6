//! This node's part of the cluster's network: who is there, and virtual addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use dcos_containerizer::agent::{Config, detect};
use dcos_core::attributes;
use dcos_core::config::{Spec, Values};
use dcos_gossip::{ABOUT, About, Kind, Membership as _, View, unreachable};
use dcos_l4lb::{Balancer, Kernel, WAITING};
use dcos_program::Part;
use dcos_proto::mesos::MasterInfo;
use dcos_store::StandingMasters;
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientConfig, Listener, Masters, Server};
use tokio::sync::{mpsc, watch};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::names;

/// Options of our own: in DC/OS another program has them.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::switch("l4lb").help(
        "Make virtual addresses (VIP labels) work on this node; it takes root, `nft`, and a node of one's own: of several agents on a node one does it (ours).",
    ),
    Spec::port("net_port")
        .default("62080")
        .help("Where virtual addresses, nodes and their metrics are told, on loopback; with --l4lb or --gossip_key (ours)."),
];

/// Takes part in the nodes' gossip, if there is a key for it. The agent answers `/net/v1/nodes` then.
pub(crate) async fn gossip(
    values: &Values,
    agent: &mut Config,
    ip: IpAddr,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Part>> {
    let own = agent.advertise.0.unwrap_or(ip);
    let is_public = agent.default_role == "slave_public";
    let kind = if is_public {
        Kind::PublicAgent
    } else {
        Kind::Agent
    };
    let memory = agent.work_dir.join("gossip/members.json");
    let about = About {
        hostname: agent.hostname.clone().unwrap_or_else(detect::hostname),
        attributes: attributes(agent),
        ..About::new(kind, own)
    };
    let part = dcos_program::gossip(values, ip, about, memory, stop).await?;
    let Some(part) = part else {
        return Ok(None);
    };
    let routes = std::mem::take(&mut agent.routes);
    agent.routes = routes.nest("/net", dcos_gossip::router(part.view()));
    Ok(Some(part))
}

/// What an operator says of the agent, as far as it fits into gossip's packets with all else.
fn attributes(agent: &Config) -> BTreeMap<String, String> {
    let mut room = ABOUT / 2;
    let mut said = BTreeMap::new();
    for attribute in &agent.attributes {
        let (name, value) = (&attribute.name, attributes::value_text(attribute));
        // As JSON has it: quotes and control characters take more.
        let pair = serde_json::json!([name, value]).to_string();
        let Some(rest) = room.checked_sub(pair.len()) else {
            warn!(
                name,
                "an attribute is not gossiped: there is no room for more"
            );
            continue;
        };
        room = rest;
        said.insert(name.clone(), value);
    }
    said
}

/// Starts what the options ask for among what is `running`; it ends with `stop`, or when the set is dropped.
pub(crate) async fn start(
    values: &Values,
    agent: &Config,
    standing: Option<StandingMasters>,
    ip: IpAddr,
    gossip: Option<&Part>,
    running: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut routes = Router::new();
    if let Some(part) = gossip {
        routes = routes.merge(dcos_gossip::router(part.view()));
        let masters = masters(agent.leading.as_ref(), &agent.master);
        running.spawn(join(masters, part.leaders()));
    }
    let names = names::start(values, agent, standing, running, stop).await?;
    let mut listeners: Vec<_> = names.into_iter().collect();
    let kernel = kernel(values).await?;
    let balances = kernel.is_some();
    if let Some(kernel) = kernel {
        let (sender, told) = mpsc::channel(WAITING);
        listeners.push(sender);
        let config = dcos_l4lb::Config {
            told,
            own: own_addresses(agent, ip),
            unreachable: gossip.map(|part| follow(&part.view(), running, stop.clone())),
        };
        let balancer = Balancer::new(config, kernel);
        routes = routes.merge(dcos_l4lb::router(balancer.view()));
        running.spawn(balancer.run(stop.clone()));
    }
    if !listeners.is_empty() {
        let masters = masters(agent.leading.as_ref(), &agent.master);
        running.spawn(masters.tell(client(agent)?, listeners));
    }
    if !balances && gossip.is_none() {
        return Ok(());
    }
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), values.port("net_port"));
    let listener = Listener::tcp(address)
        .await
        .with_context(|| format!("listening on {address} (--net_port)"))?;
    let server = Server::new(routes).serve(listener, stop.clone());
    running.spawn(async move {
        server.await;
    });
    Ok(())
}

/// Has gossip join whoever leads.
async fn join(mut masters: Masters, tell: impl Fn(&str)) {
    loop {
        tell(&masters.leader().await);
        let Masters::Led(leading) = &mut masters else {
            return;
        };
        if leading.changed().await.is_err() {
            return;
        }
    }
}

/// The nodes that nobody reaches, for those who balance.
fn follow(
    view: &View,
    running: &mut JoinSet<()>,
    stop: CancellationToken,
) -> watch::Receiver<BTreeSet<IpAddr>> {
    let (told, nodes) = watch::channel(BTreeSet::new());
    let mut members = view.watch();
    running.spawn(async move {
        loop {
            let now = unreachable(&members.borrow_and_update());
            told.send_if_modified(|before| {
                let is_news = *before != now;
                *before = now;
                is_news
            });
            if members.changed().await.is_err() {
                if !stop.is_cancelled() {
                    // It can only have panicked. Who was dead then may be back, and nobody would say so.
                    error!("gossip ended: all nodes count as reachable from now on");
                    told.send_replace(BTreeSet::new());
                }
                told.closed().await;
                return;
            }
        }
    });
    nodes
}

/// The data path of virtual addresses, if this node is to balance.
async fn kernel(values: &Values) -> anyhow::Result<Option<Kernel>> {
    if !values.switch("l4lb") {
        return Ok(None);
    }
    match tokio::task::spawn_blocking(Kernel::open).await? {
        Ok(kernel) => Ok(Some(kernel)),
        Err(error @ dcos_l4lb::DataplaneError::Taken { .. }) => {
            warn!("{:#}; leaving it to that one", anyhow::Error::new(error));
            Ok(None)
        }
        Err(error) => Err(error).context("--l4lb"),
    }
}

/// Where the agent itself looks for its master.
pub(crate) fn masters(
    leading: Option<&watch::Receiver<Option<Arc<MasterInfo>>>>,
    named: &str,
) -> Masters {
    if let Some(leading) = leading {
        return Masters::Led(leading.clone());
    }
    let address = named.rsplit_once('@').map_or(named, |(_, address)| address);
    Masters::Fixed(address.to_owned())
}

/// As the agent itself speaks to the master.
pub(crate) fn client(agent: &Config) -> anyhow::Result<Client> {
    let credential = agent.security.credential.as_ref();
    Ok(Client::with_config(ClientConfig {
        tls: Ssl::from_env()?.map(|ssl| ssl.client),
        authorization: credential.map(dcos_security::Credential::basic),
        ..ClientConfig::default()
    })?)
}

/// The addresses by which the master knows this node: what is behind them is on this node.
pub(crate) fn own_addresses(agent: &Config, ip: IpAddr) -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> = agent.advertise.0.into_iter().collect();
    if ip.is_unspecified() {
        // The one that leads out of the node; nothing is sent for that.
        let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
        let probe = probe.and_then(|probe| {
            probe.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
            probe.local_addr()
        });
        own.extend(probe.map(|address| address.ip()));
    } else {
        own.push(ip);
    }
    own
}
