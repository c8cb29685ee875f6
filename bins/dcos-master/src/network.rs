//! This node's own place in the cluster's network: the way to containers in the overlays, for the router and for health checks,
//! and virtual addresses.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use dcos_core::config::{Origin, Spec, Values};
use dcos_overlay::{DataplaneError, Kernel, Node, NodeConfig, Wishes};
use dcos_program::{Net, NetParts, Part};
use dcos_store::{Ensemble, masters};
use dcos_wire::Masters;
use tracing::warn;

use crate::Components;

/// Options of our own: in DC/OS other programs have them.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::switch("join_overlay").help(
        "Have the way to containers in overlays, as agents have with --overlay: by a tunnel end alone, without addresses for containers here; it takes root, `nft`, and a node of one's own (ours).",
    ),
    Spec::port("net_port").default("62080").help(
        "Where nodes, virtual addresses and names are told, on loopback; with --gossip_key, --l4lb or a router (ours).",
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
        joined.routes = overlay(parts, components)?;
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
    let balancing = dcos_program::balance(&parts.values, own, unreachable).await?;
    if let Some(balancing) = balancing {
        joined.api.vips = Some(balancing.routes);
        let masters = whom(parts, components)?;
        let client = parts.client_of_masters("marathon")?;
        parts.spawn(balancing.balancer.run(parts.stop.clone()));
        let stop = parts.stop.clone();
        let telling = masters.tell(client, vec![balancing.listener]);
        parts.spawn(async move {
            stop.run_until_cancelled(telling).await;
        });
    }
    Ok(joined)
}

/// Joins the overlays; gives back what is told of that.
fn overlay(parts: &mut Components, components: &[&'static str]) -> anyhow::Result<Router> {
    let kernel = match Kernel::open() {
        Ok(kernel) => kernel,
        Err(error @ DataplaneError::Taken { .. }) => {
            warn!("{:#}; leaving it to that one", anyhow::Error::new(error));
            return Ok(Router::new());
        }
        Err(error) => return Err(error).context("--join_overlay"),
    };
    let config = NodeConfig {
        masters: whom(parts, components)?,
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
    let routes = node.view().router();
    parts.spawn(node.run(parts.stop.clone()));
    Ok(routes)
}

/// Who tells this node what there is: whoever leads.
fn whom(parts: &Components, components: &[&'static str]) -> anyhow::Result<Masters> {
    let values = &parts.values;
    if !components.contains(&"master") {
        let named = values
            .opt_text("master")
            .context("--join_overlay and --l4lb without a master here need --master")?;
        if Ensemble::is_named_by(&named) {
            let ensemble = dcos_program::ensemble(values, &named)?;
            return Ok(Masters::Led(masters(&ensemble)));
        }
        let first = named.split(',').next().unwrap_or_default().trim();
        return Ok(Masters::Fixed(first.to_owned()));
    }
    let Some(ensemble) = parts.house.ensemble() else {
        let ip = if parts.ip.is_unspecified() {
            parts.known
        } else {
            parts.ip
        };
        let own = SocketAddr::new(ip, values.port("port"));
        return Ok(Masters::Fixed(own.to_string()));
    };
    Ok(Masters::Led(masters(ensemble)))
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
