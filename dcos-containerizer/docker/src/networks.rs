//! Networks that others want the engine to have.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;
use dcos_containerizer::containerizer::ContainerizerError;

use crate::engine::{Engine, is_status};

/// How long the engine may take to make a network.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A network on a bridge of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeNetwork {
    /// Its name.
    pub name: String,
    /// The bridge's.
    pub bridge: String,
    /// Where its addresses are, such as `9.0.0.128/25`: one of IPv4, one of IPv6, or both.
    pub subnets: Vec<String>,
    /// What a packet may have, in bytes.
    pub mtu: u32,
}

/// Makes networks of the engine at a socket.
#[derive(Debug, Clone)]
pub struct BridgeNetworks {
    socket: PathBuf,
}

impl BridgeNetworks {
    /// Those of the engine at `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Has the engine make `network`, without masquerading, unless it has it; one of that name with
    /// other addresses is made anew, which the engine refuses while containers are in it. Says
    /// whether anything was done.
    ///
    /// # Errors
    /// The engine does not answer, or refuses.
    pub async fn provide(&self, network: &BridgeNetwork) -> Result<bool, ContainerizerError> {
        let engine = Engine::connect(&self.socket, TIMEOUT).await?;
        let broken = |error: &Error| ContainerizerError::Broken {
            doing: format!("making Docker's network {}", network.name),
            reason: engine.text(error),
        };
        let options = None::<InspectNetworkOptions>;
        match engine.api().inspect_network(&network.name, options).await {
            Ok(found) if is_right(&found, network) => return Ok(false),
            Ok(_) => {
                let removed = engine.api().remove_network(&network.name).await;
                removed.map_err(|error| broken(&error))?;
            }
            Err(error) if is_status(&error, 404) => {}
            Err(error) => return Err(broken(&error)),
        }
        let created = engine.api().create_network(request(network)).await;
        created.map_err(|error| broken(&error))?;
        Ok(true)
    }
}

fn is_right(found: &NetworkInspect, wanted: &BridgeNetwork) -> bool {
    let ranges = found
        .ipam
        .iter()
        .flat_map(|ipam| ipam.config.iter().flatten());
    let mut subnets: Vec<&String> = ranges.filter_map(|range| range.subnet.as_ref()).collect();
    let mut expected: Vec<&String> = wanted.subnets.iter().collect();
    subnets.sort();
    expected.sort();
    let options = found.options.as_ref();
    let has = |(key, value)| options.is_some_and(|options| options.get(key) == Some(&value));
    subnets == expected && driver_options(wanted).into_iter().all(has)
}

fn driver_options(network: &BridgeNetwork) -> [(&'static str, String); 3] {
    [
        ("com.docker.network.bridge.name", network.bridge.clone()),
        (
            "com.docker.network.bridge.enable_ip_masquerade",
            "false".to_owned(),
        ),
        ("com.docker.network.driver.mtu", network.mtu.to_string()),
    ]
}

fn request(network: &BridgeNetwork) -> NetworkCreateRequest {
    let ranges = network.subnets.iter().map(|subnet| IpamConfig {
        subnet: Some(subnet.clone()),
        ..IpamConfig::default()
    });
    let options = driver_options(network).into_iter();
    NetworkCreateRequest {
        name: network.name.clone(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            config: Some(ranges.collect()),
            ..Ipam::default()
        }),
        enable_ipv6: Some(network.subnets.iter().any(|subnet| subnet.contains(':'))),
        options: Some(
            options
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<HashMap<_, _>>(),
        ),
        ..NetworkCreateRequest::default()
    }
}
