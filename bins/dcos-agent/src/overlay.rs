//! This node's part of the overlay networks, for containers of both containerizers.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use dcos_containerizer::agent::Config;
use dcos_containerizer::isolator::network::{CniNetworks, ContainerNetwork as JoinedByCni};
use dcos_core::config::{Spec, Values};
use dcos_docker::{BridgeNetwork, BridgeNetworks};
use dcos_overlay::{
    CniConfigurations, ContainerNetwork, DataplaneError, DefaultBridge, Kernel, Networks,
    NetworksError, Node, NodeConfig, Subnet, Wishes,
};
use dcos_program::Passages;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{containers, network};

/// Options of our own: in DC/OS a module and another program have them.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::switch("overlay").help(
        "Join the overlay networks that the masters give out; it takes root, `nft`, CNI plugins, and a node of one's own: of several agents on a node one does it (ours).",
    ),
    Spec::switch("ucr_default_bridge").default("true").help(
        "Have the network that Marathon's container/bridge means, a bridge `ucr-br0` of this node, as DC/OS has it; it takes root, CNI plugins and `iptables`. With --network_cni_config_dir the networks there are all there are (ours).",
    ),
    Spec::text("ucr_default_bridge_network_name")
        .default("mesos-bridge")
        .help("What apps call it (ours)."),
    Spec::text("ucr_default_bridge_subnet")
        .default("172.31.254.0/24")
        .help("The addresses of containers behind it, the same on each node (ours)."),
    Spec::integer("overlay_mtu", 552, 9216).help(
        "What a packet of a container in an overlay may have, in bytes; by default 80 less than in the network between the nodes: 1420 of 1500 (ours).",
    ),
];

/// Where plugins are, unless `--network_cni_plugins_dir` says it.
const PLUGINS: &str = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni";
/// How long tasks of a new node wait for its overlays.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where configurations are written, unless `--network_cni_config_dir` says it.
fn configurations(values: &Values) -> PathBuf {
    let own = || values.path("work_dir").join("overlay/cni");
    values
        .opt_path("network_cni_config_dir")
        .unwrap_or_else(own)
}

/// Whether there is the default bridge, where containers have networks at all.
pub(crate) fn has_default_bridge(values: &Values) -> bool {
    values.opt_path("network_cni_config_dir").is_none() && values.switch("ucr_default_bridge")
}

/// What containers name, where an operator configured no networks beside the overlays and the default bridge, which
/// is written for them.
///
/// # Errors
/// Its configuration is wrong, or can't be written.
pub(crate) fn own_networks(
    values: &Values,
    linux: bool,
) -> anyhow::Result<Option<Arc<dyn JoinedByCni>>> {
    if values.opt_path("network_cni_config_dir").is_some() {
        return Ok(None);
    }
    let folder = configurations(values);
    let bridge = if linux && has_default_bridge(values) {
        let subnet: Subnet = values
            .text("ucr_default_bridge_subnet")
            .parse()
            .context("--ucr_default_bridge_subnet")?;
        ensure!(
            subnet.is_v4(),
            "--ucr_default_bridge_subnet={subnet}: it has to be of IPv4"
        );
        Some(DefaultBridge {
            name: values.text("ucr_default_bridge_network_name"),
            subnet,
            leases: leases(values),
        })
    } else {
        None
    };
    DefaultBridge::provide(bridge.as_ref(), &folder).context("--ucr_default_bridge")?;
    if bridge.is_none() && !values.switch("overlay") {
        return Ok(None);
    }
    Ok(Some(Arc::new(CniNetworks::new(folder, PLUGINS))))
}

/// Where it is noted which addresses containers have.
fn leases(values: &Values) -> PathBuf {
    containers::runtime_dir(values).join("cni/networks")
}

/// This node's part, which does nothing yet, if the options ask for one.
pub(crate) fn open(
    values: &Values,
    agent: &mut Config,
    ip: IpAddr,
    passages: Option<Passages>,
) -> anyhow::Result<Option<Node<Kernel>>> {
    if !values.switch("overlay") {
        return Ok(None);
    }
    let is_taken = |error: &_| matches!(error, DataplaneError::Taken { .. });
    let Some(kernel) = dcos_program::unless_taken(Kernel::open(), is_taken, "--overlay")? else {
        return Ok(None);
    };
    let own = network::own_addresses(agent, ip);
    let own = own
        .first()
        .copied()
        .context("--overlay: this node has no address; see --ip")?;
    let containerizers = values.text("containerizers");
    let runs = |name: &str| containerizers.split(',').any(|one| one.trim() == name);
    let cni = CniConfigurations::new(configurations(values), leases(values));
    let mut networks: Vec<Arc<dyn Networks>> = vec![Arc::new(cni)];
    if runs("docker") {
        networks.push(Arc::new(DockerNetworks(BridgeNetworks::new(
            values.path("docker_socket"),
        ))));
    }
    if let Some(passages) = passages {
        networks.push(Arc::new(PassingNetworks(passages)));
    }
    let mtu = values.opt_integer("overlay_mtu");
    let node = Node::new(
        NodeConfig {
            masters: network::masters(agent.leading.as_ref(), &agent.master),
            client: network::client(agent)?,
            ip: own,
            wishes: Wishes {
                subnets: true,
                mesos_bridge: runs("mesos"),
                docker_bridge: runs("docker"),
            },
            state: values.path("work_dir").join("overlay/given.json"),
            container_mtu: mtu.and_then(|mtu| u32::try_from(mtu).ok()),
            networks,
        },
        kernel,
    );
    let routes = std::mem::take(&mut agent.routes);
    agent.routes = routes.merge(node.view().router());
    Ok(Some(node))
}

/// Starts it among what is `running`; it ends with `stop`, or when the set is dropped.
pub(crate) async fn start(node: Node<Kernel>, running: &mut JoinSet<()>, stop: &CancellationToken) {
    let mut ready = node.ready();
    running.spawn(node.run(stop.clone()));
    // The first tasks of a node would not find their network. One that had it before need not wait.
    let waited = tokio::time::timeout(PATIENCE, ready.wait_for(|ready| *ready)).await;
    if waited.is_err() {
        warn!("no master gave this node a part of the overlays yet; starting without");
    }
}

/// Docker's networks of the overlays' names.
#[derive(Debug)]
struct DockerNetworks(BridgeNetworks);

#[async_trait]
impl Networks for DockerNetworks {
    async fn provide(&self, networks: &[ContainerNetwork]) -> Result<(), NetworksError> {
        for network in networks {
            let Some(bridge) = &network.docker_bridge else {
                continue;
            };
            let subnets = bridge.ip.iter().chain(&bridge.ip6);
            let wanted = BridgeNetwork {
                name: network.name.clone(),
                bridge: bridge.name.clone(),
                subnets: subnets.map(ToString::to_string).collect(),
                mtu: network.mtu,
            };
            let refused =
                |source: Box<dyn std::error::Error + Send + Sync>| NetworksError::Refused {
                    network: network.name.clone(),
                    containers: "Docker",
                    source,
                };
            self.0
                .provide(&wanted)
                .await
                .map_err(|error| refused(error.into()))?;
        }
        Ok(())
    }
}

/// The rules that let packets of overlays pass.
#[derive(Debug)]
struct PassingNetworks(Passages);

#[async_trait]
impl Networks for PassingNetworks {
    async fn provide(&self, networks: &[ContainerNetwork]) -> Result<(), NetworksError> {
        self.0.say(ContainerNetwork::passage(networks));
        self.0.say(ContainerNetwork::docker_passage(networks));
        Ok(())
    }
}
