//! This node's part of the cluster's network: virtual addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::Context as _;
use dcos_containerizer::agent::Config;
use dcos_core::config::{Spec, Values};
use dcos_l4lb::{Balancer, Kernel, Masters};
use dcos_proto::mesos::MasterInfo;
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientConfig, Listener, Server};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Options of our own: in DC/OS another program has them.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::switch("l4lb").help(
        "Make virtual addresses (VIP labels) work on this node; it takes root, `nft`, and a node of one's own: of several agents on a node one does it (ours).",
    ),
    Spec::port("net_port")
        .default("62080")
        .help("Where virtual addresses and their metrics are told, on loopback; with --l4lb (ours)."),
];

/// Starts what the options ask for; it ends with `stop`, or when the set is dropped.
pub(crate) async fn start(
    values: &Values,
    agent: &Config,
    ip: IpAddr,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    let mut running = JoinSet::new();
    if !values.switch("l4lb") {
        return Ok(running);
    }
    let kernel = match tokio::task::spawn_blocking(Kernel::open).await? {
        Ok(kernel) => kernel,
        Err(error @ dcos_l4lb::DataplaneError::Taken { .. }) => {
            warn!("{:#}; leaving it to that one", anyhow::Error::new(error));
            return Ok(running);
        }
        Err(error) => return Err(error).context("--l4lb"),
    };
    let config = dcos_l4lb::Config {
        masters: masters(agent.leading.as_ref(), &agent.master)?,
        client: client(agent)?,
        own: own_addresses(agent, ip),
    };
    let balancer = Balancer::new(config, kernel);
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), values.port("net_port"));
    let listener = Listener::tcp(address)
        .await
        .with_context(|| format!("listening on {address} (--net_port)"))?;
    let server = Server::new(dcos_l4lb::router(balancer.view())).serve(listener, stop.clone());
    running.spawn(async move {
        server.await;
    });
    running.spawn(balancer.run(stop.clone()));
    Ok(running)
}

/// Where the agent itself looks for its master.
pub(crate) fn masters(
    leading: Option<&watch::Receiver<Option<Arc<MasterInfo>>>>,
    named: &str,
) -> anyhow::Result<Masters> {
    if let Some(leading) = leading {
        return Ok(Masters::Led(leading.clone()));
    }
    let named = match named.strip_prefix("file://") {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?,
        None => named.to_owned(),
    };
    let named = named.trim();
    let address = named.rsplit_once('@').map_or(named, |(_, address)| address);
    Ok(Masters::Fixed(address.to_owned()))
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
