//! This node's own place in the cluster's network: the way to containers in the overlays, for the router and for health checks,
//! and virtual addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use axum::Router;
use dcos_core::config::{Origin, Spec, Values};
use dcos_overlay::{DataplaneError, Kernel, Node, NodeConfig, Wishes};
use dcos_program::{Guarded, HOST, Net, NetParts, Part};
use dcos_store::{Ensemble, StandingMasters, electorate};
use dcos_wire::Masters;

use crate::Components;

/// Options of our own: in DC/OS other programs have them.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::switch("join_overlay").help(
        "Have the way to containers in overlays, as agents have with --overlay: by a tunnel end alone, without addresses for containers here; it takes root, `nft`, and a node of one's own (ours).",
    ),
    Spec::port("net_port").default("62080").help(
        "Where nodes, virtual addresses, names and their metrics are told, on loopback; with --gossip_key, --l4lb, a router, or this option itself (ours).",
    ),
];

/// What a node that joined can tell.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// What the master answers at its own port.
    pub(crate) routes: Router,
    /// What is answered at `--net_port`.
    pub(crate) api: NetParts,
}

/// Joins what the options ask for.
pub(crate) async fn join(
    parts: &mut Components,
    components: &[&'static str],
    gossip: Option<&Part>,
) -> anyhow::Result<Joined> {
    let mut joined = Joined::default();
    joined.api.nodes = gossip.map(|part| dcos_gossip::router(part.view()));
    if parts.values.switch("join_overlay") {
        ensure!(
            !components.contains(&"master") || parts.values.opt_json("overlay").is_some(),
            "--join_overlay: this master gives out no overlays to join: say which with --overlay"
        );
        (joined.routes, joined.api.overlay) = overlay(parts, components)?;
    }
    if !parts.values.switch("l4lb") {
        return Ok(joined);
    }
    let mut own = vec![parts.known];
    own.extend(Some(parts.ip).filter(|ip| !ip.is_unspecified()));
    let mut unreachable = None;
    if let Some(part) = gossip {
        let (nodes, telling) = part.unreachable(parts.stop.clone());
        parts.spawn(telling);
        unreachable = Some(nodes);
    }
    let (masters, standing) = whom(parts, components)?;
    let mut named: Vec<String> = parts.values.opt_text("master").into_iter().collect();
    named.extend(parts.house.ensemble().map(ToString::to_string));
    let guarded = Guarded {
        named,
        standing,
        resolv_confs: HOST.map(Into::into).into(),
    };
    let balancing = dcos_program::balance(&parts.values, own, guarded, unreachable).await?;
    if let Some(balancing) = balancing {
        joined.api.vips = Some(balancing.routes);
        let client = parts.client_of_masters("marathon")?;
        parts.spawn(balancing.balancer.run(parts.stop.clone()));
        let stop = parts.stop.clone();
        let (listener, routes, counting) = dcos_program::listener();
        joined.api.listener = Some(routes);
        parts.spawn(counting);
        let telling = masters.tell(client, vec![balancing.listener, listener]);
        parts.spawn(async move {
            stop.run_until_cancelled(telling).await;
        });
    }
    Ok(joined)
}

/// Joins the overlays; gives back what is told of that, at the master's port and of dcos-net's REST API.
fn overlay(
    parts: &mut Components,
    components: &[&'static str],
) -> anyhow::Result<(Router, Option<Router>)> {
    let is_taken = |error: &_| matches!(error, DataplaneError::Taken { .. });
    let Some(kernel) = dcos_program::unless_taken(Kernel::open(), is_taken, "--join_overlay")?
    else {
        return Ok((Router::new(), None));
    };
    let config = NodeConfig {
        masters: whom(parts, components)?.0,
        client: parts.client_of_masters("marathon")?,
        ip: parts.known,
        // As in the original masters have a tunnel end as agents have, and nothing behind it.
        wishes: Wishes {
            subnets: false,
            mesos_bridge: false,
            docker_bridge: false,
        },
        state: parts.values.path("work_dir").join("overlay/given.json"),
        container_mtu: None,
        networks: Vec::new(),
    };
    let node = Node::new(config, kernel);
    let view = node.view();
    parts.spawn(node.run(parts.stop.clone()));
    Ok((view.router(), Some(view.metrics())))
}

/// Who tells this node what there is, which is whoever leads; and all masters that stand, where they elect their leader.
fn whom(
    parts: &Components,
    components: &[&'static str],
) -> anyhow::Result<(Masters, Option<StandingMasters>)> {
    let values = &parts.values;
    let led = |ensemble: &Ensemble| {
        let (leading, standing) = electorate(ensemble);
        (Masters::Led(leading), Some(standing))
    };
    if !components.contains(&"master") {
        let named = values
            .opt_text("master")
            .context("--join_overlay and --l4lb without a master here need --master")?;
        if Ensemble::is_named_by(&named) {
            return Ok(led(&dcos_program::ensemble(values, &named)?));
        }
        return Ok((Masters::Fixed(only_one(&named)?), None));
    }
    if let Some(ensemble) = parts.house.ensemble() {
        return Ok(led(ensemble));
    }
    let own = SocketAddr::new(reached_from_here(parts.ip), values.port("port"));
    Ok((Masters::Fixed(own.to_string()), None))
}

/// The master that `named` names, if it is one: others would not be asked when it is gone.
fn only_one(named: &str) -> anyhow::Result<String> {
    let mut listed = named
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty());
    match (listed.next(), listed.next()) {
        (Some(one), None) => Ok(one.to_owned()),
        _ => bail!(
            "--master={named}: with --l4lb or --join_overlay, and no master here, name one master, or the URL of the \
             ensemble in which several elect their leader (zk://…, etcd://…)"
        ),
    }
}

/// Where a program of this host reaches one that listens at `ip`.
fn reached_from_here(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Serves what is told at `--net_port`, if there is something to tell or a router to ask for it; where.
pub(crate) async fn serve(
    parts: &mut Components,
    api: NetParts,
) -> anyhow::Result<Option<SocketAddr>> {
    let alone = api.nodes.is_none() && api.vips.is_none();
    if alone && !is_said(&parts.values) && !dcos_router::options::is_wanted(&parts.values) {
        return Ok(None);
    }
    let net = Net::bind(&parts.values, api, alone).await?;
    let address = net.address;
    parts.spawn(net.serve(parts.stop.clone()));
    Ok(Some(address))
}

fn is_said(values: &Values) -> bool {
    let origin = values.origin("net_port");
    origin.is_some_and(|origin| origin != Origin::Default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_master_is_followed_and_of_several_none_is_chosen_in_silence() {
        assert_eq!(only_one(" m1:5050,").ok().as_deref(), Some("m1:5050"));
        for named in ["m1:5050,m2:5050", "", ","] {
            let error = only_one(named).expect_err("it names not one");
            assert!(
                error.to_string().contains("name one master, or the URL"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_master_on_all_addresses_is_asked_by_loopback() {
        for (ip, expected) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "::1"),
            ("10.0.0.1", "10.0.0.1"),
            ("fd00::1", "fd00::1"),
        ] {
            let ip = ip.parse().expect("an address");
            assert_eq!(reached_from_here(ip).to_string(), expected);
        }
    }
}
