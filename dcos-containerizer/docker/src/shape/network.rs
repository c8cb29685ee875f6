//! Networks, published ports, names of hosts and name servers.

use bollard::models::PortBinding;
use dcos_containerizer::containerizer::ContainerConfig;
use dcos_proto::mesos::ContainerInfo;
use dcos_proto::mesos::container_info::docker_info::{Network, PortMapping};
use serde::Deserialize;

use super::Shape;

/// One entry of `--default_container_dns`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DefaultDns {
    /// `BRIDGE` or `USER`.
    network_mode: String,
    /// Of one user network; absent, of all that have no entry of their own.
    network_name: Option<String>,
    dns: Dns,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Dns {
    #[serde(default)]
    nameservers: Vec<String>,
    #[serde(default)]
    search: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
}

pub(super) fn is_host(info: Option<&ContainerInfo>) -> bool {
    let docker = info.and_then(|info| info.docker.as_ref());
    docker.is_none_or(|docker| docker.network() == Network::Host)
}

pub(super) fn apply(
    shape: &mut Shape,
    config: &ContainerConfig,
    info: &ContainerInfo,
) -> Result<(), String> {
    let Some(docker) = &info.docker else {
        return Ok(());
    };
    let name = match docker.network() {
        Network::Host => "host".to_owned(),
        Network::Bridge => "bridge".to_owned(),
        Network::None => "none".to_owned(),
        Network::User => match info.network_infos.as_slice() {
            [] => return Err("No network info found in container info".to_owned()),
            [one] => one
                .name
                .clone()
                .ok_or("No network name found in network info")?,
            _ => return Err("Only a single network can be defined in Docker run".to_owned()),
        },
    };
    if let Some(hostname) = &info.hostname {
        if name == "host" {
            return Err("Unable to set hostname with host network mode".to_owned());
        }
        shape.body.hostname = Some(hostname.clone());
    }
    let closed = name == "host" || name == "none";
    if closed && !docker.port_mappings.is_empty() {
        let text = "Port mappings are only supported for bridge and user-defined networks";
        return Err(text.to_owned());
    }
    shape.host.network_mode = Some(name);
    for mapping in &docker.port_mappings {
        let given = config.resources.iter().filter(|one| one.name == "ports");
        let mut given = given
            .filter_map(|one| one.ranges.as_ref())
            .flat_map(|all| &all.range);
        let port = u64::from(mapping.host_port);
        if !given.any(|range| (range.begin..=range.end).contains(&port)) {
            return Err(format!("Port [{port}] not included in resources"));
        }
        publish(shape, mapping);
    }
    Ok(())
}

fn publish(shape: &mut Shape, mapping: &PortMapping) {
    // Marathon says `udp,tcp` for both.
    let protocols = mapping.protocol.as_deref().unwrap_or("tcp");
    for protocol in protocols.split(',').map(str::trim) {
        let port = format!("{}/{}", mapping.container_port, protocol.to_lowercase());
        add_port(shape, port, None, Some(mapping.host_port.to_string()));
    }
}

/// Publishes `port` (such as `80/tcp`) of the container.
pub(crate) fn add_port(
    shape: &mut Shape,
    port: String,
    host_ip: Option<String>,
    host_port: Option<String>,
) {
    let exposed = shape.body.exposed_ports.get_or_insert_default();
    if !exposed.contains(&port) {
        exposed.push(port.clone());
    }
    let bindings = shape.host.port_bindings.get_or_insert_default();
    let bindings = bindings.entry(port).or_default().get_or_insert_default();
    bindings.push(PortBinding { host_ip, host_port });
}

/// Name servers of the node, where the task names none.
pub(super) fn default_dns(shape: &mut Shape, network: Network, defaults: &[DefaultDns]) {
    let host = &mut shape.host;
    if host.dns.is_some() || host.dns_search.is_some() || host.dns_options.is_some() {
        return;
    }
    let name = host.network_mode.as_deref();
    let of = |mode: &str, name: Option<&str>| {
        let mut all = defaults.iter();
        all.rfind(|one| one.network_mode == mode && one.network_name.as_deref() == name)
    };
    let found = match network {
        Network::Bridge => defaults.iter().rfind(|one| one.network_mode == "BRIDGE"),
        Network::User => of("USER", name).or_else(|| of("USER", None)),
        Network::Host | Network::None => None,
    };
    if let Some(DefaultDns { dns, .. }) = found {
        host.dns = Some(dns.nameservers.clone());
        host.dns_search = Some(dns.search.clone());
        host.dns_options = Some(dns.options.clone());
    }
}
