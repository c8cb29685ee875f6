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

/// The option that names a network's bridge.
const BRIDGE: &str = "com.docker.network.bridge.name";

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

    /// Has the engine make `network`, without masquerading, unless it has it; one of that name and on that
    /// bridge with other addresses is made anew, which the engine refuses while containers are in it. Says
    /// whether anything was done.
    ///
    /// # Errors
    /// The engine does not answer, or refuses; or somebody else has a network of that name.
    pub async fn provide(&self, network: &BridgeNetwork) -> Result<bool, ContainerizerError> {
        let engine = Engine::connect(&self.socket, TIMEOUT).await?;
        let broken = |error: &Error| ContainerizerError::Broken {
            doing: format!("making Docker's network {}", network.name),
            reason: engine.text(error),
        };
        let options = None::<InspectNetworkOptions>;
        match engine.api().inspect_network(&network.name, options).await {
            Ok(found) if is_right(&found, network) => return Ok(false),
            Ok(found) if !is_ours(&found, network) => {
                return Err(ContainerizerError::Broken {
                    doing: format!("making Docker's network {}", network.name),
                    reason: format!(
                        "Docker has another network that answers to this name, not on the bridge {}: remove or rename it",
                        network.bridge
                    ),
                });
            }
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

/// Whether it was made here: a name may also be the beginning of another one's id.
fn is_ours(found: &NetworkInspect, wanted: &BridgeNetwork) -> bool {
    let bridge = found
        .options
        .as_ref()
        .and_then(|options| options.get(BRIDGE));
    found.name.as_ref() == Some(&wanted.name) && bridge == Some(&wanted.bridge)
}

fn is_right(found: &NetworkInspect, wanted: &BridgeNetwork) -> bool {
    let ranges = found
        .ipam
        .iter()
        .flat_map(|ipam| ipam.config.iter().flatten());
    // The engine adds a range of IPv4 to a network that was asked for with IPv6 alone.
    let of_interest = |subnet: &&String| {
        let same = |wanted: &String| wanted.contains(':') == subnet.contains(':');
        wanted.subnets.iter().any(same)
    };
    let mut subnets: Vec<&String> = ranges
        .filter_map(|range| range.subnet.as_ref())
        .filter(of_interest)
        .collect();
    let mut expected: Vec<&String> = wanted.subnets.iter().collect();
    subnets.sort();
    expected.sort();
    let options = found.options.as_ref();
    let has = |(key, value)| options.is_some_and(|options| options.get(key) == Some(&value));
    subnets == expected && driver_options(wanted).into_iter().all(has)
}

fn driver_options(network: &BridgeNetwork) -> [(&'static str, String); 3] {
    [
        (BRIDGE, network.bridge.clone()),
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
