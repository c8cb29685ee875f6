//! This node's part of the cluster's network: who is there, and virtual addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;

use axum::Router;
use dcos_containerizer::agent::{Config, detect};
use dcos_core::attributes;
use dcos_core::config::{Spec, Values};
use dcos_gossip::{ABOUT, About, Kind};
use dcos_overlay::{ContainerNetwork, DefaultBridge};
use dcos_program::{Guarded, HOST, Net, NetParts, Part, Passage, Passages};
use dcos_proto::mesos::MasterInfo;
use dcos_store::StandingMasters;
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientConfig, Credentials, Masters};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{names, overlay, rootless};

/// Options of our own: in DC/OS another program has them.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::port("net_port")
        .default("62080")
        .help("Where virtual addresses, names, nodes and their metrics are told, on loopback; with --l4lb, --dns or --gossip_key (ours)."),
    Spec::switch("accept_forwarded").help(
        "Where the node's `iptables` drops what it forwards, as it does where Docker runs, accept what is from and to containers of overlays and `mesos-bridge` (without --network_cni_config_dir) and of connections to virtual addresses, after all that FORWARD says, but before what Docker refuses to its containers of overlays. Without it, rules of an agent that had it are taken away (ours).",
    ),
];

/// The chains of `iptables` that say what of ours passes.
pub(crate) fn chains() -> Vec<&'static str> {
    let chains = [
        dcos_l4lb::passage().chain,
        ContainerNetwork::passage(&[]).chain,
        ContainerNetwork::docker_passage(&[]).chain,
        DefaultBridge::passage().chain,
    ];
    chains.into()
}

/// Keeps open what is forwarded for containers here, among what is `running`.
pub(crate) fn passages(values: &Values, running: &mut JoinSet<()>) -> Option<Passages> {
    if !rootless::is_root() {
        return None;
    }
    if !values.switch("accept_forwarded") {
        let forwards = bridges(values) || values.switch("overlay") || values.switch("l4lb");
        running.spawn(leave_closed(forwards));
        return None;
    }
    let (passages, keeping) = dcos_program::passages();
    running.spawn(keeping);
    for unwanted in unwanted(values) {
        passages.say(Passage::closed(unwanted));
    }
    if bridges(values) {
        passages.say(DefaultBridge::passage());
    }
    Some(passages)
}

/// The chains of what is switched off here: an agent before this one may have left them open.
fn unwanted(values: &Values) -> impl Iterator<Item = &'static str> {
    let chains = [
        (dcos_l4lb::passage().chain, values.switch("l4lb")),
        (
            ContainerNetwork::passage(&[]).chain,
            values.switch("overlay"),
        ),
        (
            ContainerNetwork::docker_passage(&[]).chain,
            values.switch("overlay"),
        ),
        (DefaultBridge::passage().chain, bridges(values)),
    ];
    let unwanted = chains.into_iter().filter(|(_, is_wanted)| !is_wanted);
    unwanted.map(|(chain, _)| chain)
}

/// Whether containers may join the default bridge.
fn bridges(values: &Values) -> bool {
    let launcher = values.opt_text("launcher");
    let linux = launcher.is_none_or(|launcher| launcher == "linux");
    linux && rootless::is_root() && overlay::has_default_bridge(values)
}

/// Takes away what an agent before this one opened, and tells whose node forwards something that this may be dropped.
async fn leave_closed(forwards: bool) {
    dcos_program::close_passages(chains()).await;
    if forwards && dcos_program::is_forwarding_closed().await {
        warn!(
            "this node's `iptables` drops what it forwards: containers of overlays and `mesos-bridge` may not reach other \
             nodes, nor be reached, nor virtual addresses; accept it by rules of your own, or by --accept_forwarded"
        );
    }
}

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

/// What else of this node's network is there to be told of.
pub(crate) struct Beside<'a> {
    pub(crate) gossip: Option<&'a Part>,
    pub(crate) overlay: Option<Router>,
}

/// Starts what the options ask for among what is `running`; it ends with `stop`, or when the set is dropped. Says whether
/// virtual addresses work by this.
pub(crate) async fn start(
    values: &Values,
    agent: &Config,
    standing: Option<StandingMasters>,
    ip: IpAddr,
    beside: Beside<'_>,
    running: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let mut api = NetParts {
        overlay: beside.overlay,
        ..NetParts::default()
    };
    let mut unreachable = None;
    if let Some(part) = beside.gossip {
        api.nodes = Some(dcos_gossip::router(part.view()));
        let masters = masters(agent.leading.as_ref(), &agent.master);
        running.spawn(join(masters, part.leaders()));
        let (nodes, telling) = part.unreachable(stop.clone());
        running.spawn(telling);
        unreachable = Some(nodes);
    }
    let mut listeners = Vec::new();
    let own = own_addresses(agent, ip);
    if let Some(names) = names::start(values, agent, &own, standing.clone(), running, stop).await? {
        listeners.push(names.listener);
        api.names = Some(names.routes);
    }
    let guarded = Guarded {
        named: vec![agent.master.clone()],
        standing,
        resolv_confs: HOST.map(Into::into).into(),
    };
    let mut balances = false;
    if let Some(balancing) = dcos_program::balance(values, own, guarded, unreachable).await? {
        listeners.push(balancing.listener);
        balances = true;
        api.vips = Some(balancing.routes);
        running.spawn(balancing.balancer.run(stop.clone()));
    }
    if !listeners.is_empty() {
        let (listener, routes, counting) = dcos_program::listener();
        listeners.push(listener);
        api.listener = Some(routes);
        running.spawn(counting);
        let masters = masters(agent.leading.as_ref(), &agent.master);
        running.spawn(masters.tell(client(agent)?, listeners));
    }
    if api.nodes.is_none() && api.names.is_none() && api.vips.is_none() {
        return Ok(balances);
    }
    let net = Net::bind(values, api, false).await?;
    running.spawn(net.serve(stop.clone()));
    Ok(balances)
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
        credentials: Credentials::FollowRedirects,
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

#[cfg(test)]
mod tests {
    use dcos_core::config::{Loaded, Schema, Sources};

    use super::*;

    #[test]
    fn no_firewall_is_opened_unless_somebody_says_so() -> anyhow::Result<()> {
        let said = |arguments: &[&str]| {
            let schema = Schema::new("test", "").with(OPTIONS);
            let sources = Sources::new(arguments.iter().copied());
            let Loaded::Run(values) = schema.load(&sources)? else {
                anyhow::bail!("no values");
            };
            Ok(values.switch("accept_forwarded"))
        };
        assert!(!said(&[])?);
        assert!(said(&["--accept_forwarded"])?);
        Ok(())
    }

    #[test]
    fn what_is_switched_off_is_closed() -> anyhow::Result<()> {
        let closed = |arguments: &[&str]| {
            let needed = ["--master=127.0.0.1:5050", "--work_dir=/nowhere"];
            let sources = Sources::new(needed.iter().chain(arguments).copied());
            let Loaded::Run(values) = crate::schema().load(&sources)? else {
                anyhow::bail!("no values");
            };
            Ok(unwanted(&values).collect::<Vec<_>>())
        };
        assert_eq!(closed(&[])?, ["DCOS-L4LB", "DCOS-OVERLAY", "DCOS-DOCKER"]);
        assert_eq!(closed(&["--l4lb", "--overlay"])?, [""; 0]);
        let without_bridge = ["--l4lb", "--overlay", "--ucr_default_bridge=false"];
        assert_eq!(closed(&without_bridge)?, ["DCOS-BRIDGE"]);
        Ok(())
    }
}
