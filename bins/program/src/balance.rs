//! A node's part in virtual addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axum::Router;
use dcos_core::config::{Spec, Values};
use dcos_core::error::chain;
use dcos_l4lb::{Balancer, Config, DataPath, DataplaneError, Kernel, WAITING};
use dcos_wire::Told;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::{Guarded, keeping, unless_taken};

/// The options of virtual addresses.
pub const BALANCE_OPTIONS: &[Spec] = &[
    Spec::switch("l4lb").help(
        "Make virtual addresses (VIP labels) work on this node; it takes root, `nft`, and a node of one's own: of several agents and masters on a node one does it (ours).",
    ),
    Spec::choice("l4lb_data_path", &["nftables", "auto", "ebpf"])
        .default("nftables")
        .help("Where connections of this node's own processes are balanced: in nftables; at connect() by eBPF (Linux 5.14), or else in nftables; or by eBPF or not starting (should eBPF fail later, nftables goes on until the next start, and the log says so) (ours)."),
    Spec::switch("l4lb_failure_detection").default("true").help(
        "Give no connections to a backend that refuses or leaves unanswered those of this node, one of the agent's own included, until one of the agent's own is answered, where a VIP has others: one half of a VIP's backends at most, and none it never reached (ours).",
    ),
];

/// What balances connections on this node.
#[derive(Debug)]
pub struct Balancing {
    /// To be run.
    pub balancer: Balancer<Kernel>,
    /// Where to send what the leading master tells.
    pub listener: mpsc::Sender<Told>,
    /// What it answers of dcos-net's REST API.
    pub routes: Router,
}

/// A balancer for this node, which has the addresses `own`, if the options ask for one and no other process of the node is it.
/// The nodes that nobody reaches, if that is known, get no connections; those that are `guarded` keep theirs.
///
/// # Errors
/// The kernel can't be spoken to.
pub async fn balance(
    values: &Values,
    own: Vec<IpAddr>,
    guarded: Guarded,
    unreachable: Option<watch::Receiver<BTreeSet<IpAddr>>>,
) -> anyhow::Result<Option<Balancing>> {
    if !values.switch("l4lb") {
        return Ok(None);
    }
    let path = match &*values.text("l4lb_data_path") {
        "auto" => DataPath::Auto,
        "ebpf" => DataPath::Ebpf,
        _ => DataPath::Nftables,
    };
    let opened = tokio::task::spawn_blocking(move || Kernel::open(path)).await?;
    let is_taken = |error: &_| matches!(error, DataplaneError::Taken { .. });
    let Some(kernel) = unless_taken(opened, is_taken, "--l4lb")? else {
        return Ok(None);
    };
    let watcher = values
        .switch("l4lb_failure_detection")
        .then(|| kernel.watcher());
    let (listener, told) = mpsc::channel(WAITING);
    // A master's own ensemble comes last, and says more than a master that is named.
    let masters = guarded.named.last().cloned().unwrap_or_default();
    let memory = keeping(values, "vips/state", &masters, own.iter().copied());
    let config = Config {
        told,
        own,
        reserved: Some(guarded.watch(values)?),
        unreachable,
        memory: Some(memory),
    };
    let mut balancer = Balancer::new(config, kernel);
    match watcher {
        Some(Ok(watcher)) => balancer.avoid(watcher.start(&balancer.view())?),
        // VIPs work without it.
        Some(Err(error)) => warn!("no dead backend is avoided: {}", chain(&error)),
        None => {}
    }
    let routes = dcos_l4lb::router(balancer.view());
    Ok(Some(Balancing {
        balancer,
        listener,
        routes,
    }))
}
