//! Overlays as the original's API tells them.
//!
//! Source: dcos-mesos-modules `overlay/overlay.proto`, as `/overlay-master/state` and
//! `/overlay-agent/overlay` show it.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::roll::Roll;
use crate::{AgentNetwork, AgentOverlay, Bridge, NetworkConfig, OverlayInfo, Report, VNI, VTEP};

/// How an agent is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Status<'a> {
    /// It said nothing yet.
    Configuring,
    /// It is as it should be.
    Fine,
    /// It is not, and says why.
    Failed(&'a str),
}

impl<'a> Status<'a> {
    pub(crate) fn of(report: Option<&'a Report>) -> Self {
        match report {
            None => Self::Configuring,
            Some(report) => report.error.as_deref().map_or(Self::Fine, Self::Failed),
        }
    }
}

/// `/overlay-master/state`
pub(crate) fn state(roll: &Roll) -> Value {
    let agents = roll.allocation().agents().iter().map(|(ip, network)| {
        let standing = roll.standing(*ip);
        let report = standing.and_then(|standing| standing.report.as_ref());
        let attempts = report.map_or(0, |report| report.configuration_attempts);
        let status = match standing {
            Some(_) => Status::of(report),
            None => Status::Failed("the agent is not heard of"),
        };
        agent(roll.config(), *ip, network, status, attempts)
    });
    json!({ "network": network(roll.config()), "agents": agents.collect::<Vec<_>>() })
}

/// An agent: an entry of that, and `/overlay-agent/overlay`.
pub(crate) fn agent(
    config: &NetworkConfig,
    ip: IpAddr,
    network: &AgentNetwork,
    status: Status<'_>,
    attempts: u32,
) -> Value {
    let overlays = config.enabled().filter_map(|info| {
        let part = network.overlays.get(&info.name)?;
        Some(overlay(config, info, network, part, status))
    });
    json!({
        "ip": ip,
        "configuration_attempts": attempts,
        "overlays": overlays.collect::<Vec<_>>(),
        // Ours: nodes without parts, such as masters, have one as well.
        "backend": backend(config, network),
    })
}

fn network(config: &NetworkConfig) -> Value {
    let overlays: Vec<Value> = config.enabled().map(info).collect();
    let mut network = object(json!({
        "vtep_subnet": config.vtep_subnet,
        "vtep_mac_oui": config.vtep_mac_oui,
        "overlays": overlays,
    }));
    insert(&mut network, "vtep_subnet6", config.vtep_subnet6);
    insert(&mut network, "vtep_mtu", config.vtep_mtu);
    network.into()
}

fn info(overlay: &OverlayInfo) -> Value {
    let mut info = object(json!({ "name": overlay.name }));
    insert(&mut info, "subnet", overlay.subnet);
    insert(&mut info, "prefix", overlay.prefix);
    insert(&mut info, "subnet6", overlay.subnet6);
    insert(&mut info, "prefix6", overlay.prefix6);
    info.into()
}

fn overlay(
    config: &NetworkConfig,
    overlay: &OverlayInfo,
    network: &AgentNetwork,
    part: &AgentOverlay,
    status: Status<'_>,
) -> Value {
    let state = match status {
        Status::Configuring => json!({ "status": "STATUS_CONFIGURING" }),
        Status::Fine => json!({ "status": "STATUS_OK" }),
        Status::Failed(error) => json!({ "status": "STATUS_FAILED", "error": error }),
    };
    let mut document = object(json!({
        "info": info(overlay),
        "backend": backend(config, network),
        "state": state,
    }));
    insert(&mut document, "subnet", part.subnet);
    insert(&mut document, "subnet6", part.subnet6);
    insert(
        &mut document,
        "mesos_bridge",
        part.mesos_bridge.as_ref().map(bridge),
    );
    insert(
        &mut document,
        "docker_bridge",
        part.docker_bridge.as_ref().map(bridge),
    );
    document.into()
}

fn bridge(bridge: &Bridge) -> Value {
    let mut document = object(json!({ "name": bridge.name }));
    insert(&mut document, "ip", bridge.ip);
    insert(&mut document, "ip6", bridge.ip6);
    document.into()
}

fn backend(config: &NetworkConfig, network: &AgentNetwork) -> Value {
    let vtep = &network.vtep;
    let mut vxlan = object(json!({
        "vni": VNI,
        "vtep_name": VTEP,
        "vtep_ip": vtep.ip,
        "vtep_mac": vtep.mac,
    }));
    insert(&mut vxlan, "vtep_ip6", vtep.ip6);
    insert(&mut vxlan, "vtep_mtu", config.vtep_mtu);
    json!({ "vxlan": vxlan })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// What is absent is left out, as in the JSON of protobuf.
fn insert(object: &mut Map<String, Value>, key: &str, value: Option<impl serde::Serialize>) {
    if let Some(value) = value {
        object.insert(key.to_owned(), json!(value));
    }
}
