//! From what users send to a complete [`App`]: deprecated fields become canonical ones, relative ids
//! absolute, missing values defaults.
//!
//! The order is Marathon 1.11's, because it decides which message a wrong document gets: rules for
//! deprecated fields, translation, rules for canonical fields, defaults that depend on other fields.

mod pod;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::Error;
use crate::model::shape;
use crate::model::{
    App, AppUpdate, Container, DockerNetwork, EngineType, Fetch, GroupUpdate, HealthCheck,
    IpDiscoveryPort, Network, NetworkMode, PortDefinition, PortMapping, Protocol,
    UnreachableStrategy, UpgradeStrategy,
};
use crate::{PathId, Timestamp, schema, validate};

pub use pod::{pod, read_pod};

/// What validity depends on beside the document itself.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Optional abilities that are switched on, such as `secrets`.
    pub features: BTreeSet<String>,
    /// The network meant by a container network without a name.
    pub default_network_name: Option<String>,
    /// The network that stands for bridge mode.
    pub mesos_bridge_name: String,
    /// The role of a service that names none.
    pub default_role: String,
    /// The roles a service may name.
    pub valid_roles: BTreeSet<String>,
}

/// Reads the body of a request that creates an app.
///
/// # Errors
/// [`Error::NotJson`], [`Error::Shape`] with every place of the wrong shape.
pub fn read_app(body: &[u8]) -> Result<AppUpdate, Error> {
    from_value(schema::parse(body, shape::APP)?)
}

/// Reads the body of a request that changes a group.
///
/// # Errors
/// As [`read_app`].
pub fn read_group(body: &[u8]) -> Result<GroupUpdate, Error> {
    let mut document = schema::parse(body, shape::GROUP)?;
    check_levels(&mut document)?;
    from_value(document)
}

/// The table of a group stops at the groups in it, which are groups again.
fn check_levels(document: &mut Value) -> Result<(), Error> {
    let groups = document.get_mut("groups").and_then(Value::as_array_mut);
    for group in groups.into_iter().flatten() {
        schema::check(group, shape::GROUP)?;
        check_levels(group)?;
    }
    Ok(())
}

/// Makes an app of a document; ids are relative to `base`, `version` is the app's.
///
/// # Errors
/// [`Error::Invalid`] with every broken rule.
pub fn create(
    update: AppUpdate,
    base: &PathId,
    rules: &Rules,
    version: Timestamp,
) -> Result<App, Error> {
    validate::deprecated(&update)?;
    let update = canonical(update, rules, true)?;
    finish(update, base, rules, version)
}

/// Applies a change to `app`; fields that are absent stay.
///
/// # Errors
/// [`Error::Invalid`] with every broken rule of the result.
pub fn update(
    app: &App,
    update: AppUpdate,
    rules: &Rules,
    version: Timestamp,
) -> Result<App, Error> {
    validate::deprecated(&update)?;
    let mut merged = to_value(app)?;
    let change = to_value(canonical(update, rules, false)?)?;
    if let (Value::Object(merged), Value::Object(change)) = (&mut merged, change) {
        merged.extend(
            change
                .into_iter()
                .filter(|(name, _)| name != "id" && name != "version"),
        );
    }
    let merged = canonical(from_value(merged)?, rules, true)?;
    finish(merged, &app.id.parent(), rules, version)
}

fn finish(
    mut update: AppUpdate,
    base: &PathId,
    rules: &Rules,
    version: Timestamp,
) -> Result<App, Error> {
    let id = base.resolve(update.id.as_deref().unwrap_or_default());
    let group = id.parent();
    update.id = Some(id.to_string());
    update.version = Some(version);
    if let Some(dependencies) = &mut update.dependencies {
        for dependency in dependencies {
            *dependency = group.resolve(dependency).to_string();
        }
    }
    update
        .role
        .get_or_insert_with(|| rules.default_role.clone());
    let mut violations = Vec::new();
    validate::constraints(
        update.constraints.as_deref().unwrap_or_default(),
        &mut violations,
    );
    if !violations.is_empty() {
        update.constraints = None;
    }
    let explicit_strategy = update.upgrade_strategy.is_some();
    let explicit_unreachable = update.unreachable_strategy.is_some();
    let mut app: App = from_value(to_value(update)?)?;
    if !explicit_strategy && app.is_single_instance() {
        app.upgrade_strategy = UpgradeStrategy {
            maximum_over_capacity: 0.0,
            minimum_health_capacity: 0.0,
        };
    } else if !explicit_strategy && (app.is_resident() || app.external_volumes().next().is_some()) {
        app.upgrade_strategy = UpgradeStrategy::RESIDENT;
    }
    if !explicit_unreachable && app.is_resident() {
        app.unreachable_strategy = UnreachableStrategy::NEVER;
    }
    validate::app(&app, rules, &mut violations);
    if !violations.is_empty() {
        return Err(Error::Invalid(violations));
    }
    complete(&mut app, rules);
    Ok(app)
}

/// Defaults that depend on other fields, applied once the document is known to be right.
fn complete(app: &mut App, rules: &Rules) {
    if app.networks.is_empty() {
        app.networks.push(Network::host());
    }
    for network in &mut app.networks {
        if network.mode == NetworkMode::Container && network.name.is_none() {
            network.name.clone_from(&rules.default_network_name);
        }
    }
    if !app.is_host_networked() {
        app.require_ports = false;
        let container = app.container.get_or_insert_with(|| Container {
            port_mappings: Some(vec![default_mapping()]),
            ..Container::mesos()
        });
        if app
            .networks
            .iter()
            .any(|network| network.mode == NetworkMode::Bridge)
        {
            for mapping in container.port_mappings.iter_mut().flatten() {
                mapping.host_port.get_or_insert(0);
            }
        }
    }
    app.constraints.sort();
    app.constraints.dedup();
    app.dependencies.sort();
    app.dependencies.dedup();
}

/// Translates deprecated fields; `complete` documents also get their default ports.
fn canonical(mut update: AppUpdate, rules: &Rules, complete: bool) -> Result<AppUpdate, Error> {
    translate_uris(&mut update)?;
    translate_networks(&mut update, rules)?;
    let ip_address = update.ip_address.take();
    if ip_address.is_some() {
        update.container.get_or_insert_with(Container::mesos);
    }
    if let Some(container) = &mut update.container {
        lift_docker_mappings(container)?;
        if let Some(discovery) = ip_address.and_then(|address| address.discovery) {
            lift_discovery(container, discovery.ports)?;
        }
        if let Some(docker) = &mut container.docker {
            docker.network = None;
        }
    }
    if let Some(ports) = update.ports.take() {
        update
            .port_definitions
            .get_or_insert_with(|| ports.into_iter().map(PortDefinition::number).collect());
    }
    if complete {
        default_ports(&mut update);
    }
    for check in update.readiness_checks.iter_mut().flatten() {
        if check.http_status_codes_for_ready.is_empty() {
            check.http_status_codes_for_ready.push(200);
        }
    }
    let has_ports = update
        .port_definitions
        .as_ref()
        .is_some_and(|ports| !ports.is_empty())
        || update
            .container
            .as_ref()
            .and_then(|container| container.port_mappings.as_ref())
            .is_some_and(|mappings| !mappings.is_empty());
    if has_ports || !complete {
        update
            .health_checks
            .iter_mut()
            .flatten()
            .for_each(default_port_index);
    }
    Ok(update)
}

fn default_port_index(check: &mut HealthCheck) {
    if check.protocol != Protocol::Command && check.port.is_none() && check.port_index.is_none() {
        check.port_index = Some(0);
    }
}

fn translate_uris(update: &mut AppUpdate) -> Result<(), Error> {
    let uris = update.uris.take().unwrap_or_default();
    if uris.is_empty() {
        return Ok(());
    }
    if update.fetch.as_ref().is_some_and(|fetch| !fetch.is_empty()) {
        return Err(Error::Unprocessable(
            "cannot specify both uris and fetch fields".to_owned(),
        ));
    }
    let fetch = uris.into_iter().map(|uri| Fetch {
        extract: is_archive(&uri),
        uri,
        executable: false,
        cache: false,
        dest_path: None,
    });
    update.fetch = Some(fetch.collect());
    Ok(())
}

/// Whether the fetcher would unpack it, which is what `uris` meant.
fn is_archive(uri: &str) -> bool {
    [
        ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip",
    ]
    .iter()
    .any(|suffix| uri.ends_with(suffix))
}

fn translate_networks(update: &mut AppUpdate, rules: &Rules) -> Result<(), Error> {
    let docker = update
        .container
        .as_ref()
        .and_then(|container| container.docker.as_ref())
        .and_then(|docker| docker.network);
    let named = |networks: &Option<Vec<Network>>| networks.as_ref().is_some_and(|n| !n.is_empty());
    let address = update.ip_address.as_ref();
    if (docker.is_some() || address.is_some()) && named(&update.networks) {
        let text = "cannot mix deprecated and canonical network APIs";
        return Err(Error::Unprocessable(text.to_owned()));
    }
    let labels = address
        .map(|address| address.labels.clone())
        .unwrap_or_default();
    let name = address.and_then(|address| address.network_name.clone());
    let is_bridge = name.as_deref() == Some(&rules.mesos_bridge_name);
    let network = match docker {
        None if address.is_none() => return Ok(()),
        Some(DockerNetwork::Host) => Network::host(),
        Some(DockerNetwork::None) => {
            let text = "unsupported docker network type NONE";
            return Err(Error::Unprocessable(text.to_owned()));
        }
        Some(DockerNetwork::Bridge) => Network {
            name: None,
            mode: NetworkMode::Bridge,
            labels,
        },
        None if is_bridge => Network {
            name: None,
            mode: NetworkMode::Bridge,
            labels,
        },
        Some(DockerNetwork::User) | None => Network {
            name,
            mode: NetworkMode::Container,
            labels,
        },
    };
    update.networks = Some(vec![network]);
    Ok(())
}

fn lift_docker_mappings(container: &mut Container) -> Result<(), Error> {
    let Some(mappings) = container
        .docker
        .as_mut()
        .and_then(|docker| docker.port_mappings.take())
    else {
        return Ok(());
    };
    let has = container
        .port_mappings
        .as_ref()
        .is_some_and(|mappings| !mappings.is_empty());
    if has && !mappings.is_empty() {
        let text = "cannot specify both portMappings and docker.portMappings";
        return Err(Error::Unprocessable(text.to_owned()));
    }
    if !has {
        container.port_mappings = Some(mappings);
    }
    Ok(())
}

fn lift_discovery(container: &mut Container, ports: Vec<IpDiscoveryPort>) -> Result<(), Error> {
    if ports.is_empty() {
        return Ok(());
    }
    if container.engine == EngineType::Docker {
        let text = "ipAddress.discovery.ports do not apply for container type DOCKER";
        return Err(Error::Unprocessable(text.to_owned()));
    }
    if container
        .port_mappings
        .as_ref()
        .is_some_and(|mappings| !mappings.is_empty())
    {
        let text = "container.portMappings and ipAddress.discovery.ports must not both be set";
        return Err(Error::Unprocessable(text.to_owned()));
    }
    let mapping = |port: IpDiscoveryPort| PortMapping {
        container_port: port.number,
        name: Some(port.name),
        protocol: port.protocol,
        labels: port.labels,
        ..empty_mapping()
    };
    container.port_mappings = Some(ports.into_iter().map(mapping).collect());
    Ok(())
}

/// Ports belong to the host or to the container, depending on the network.
fn default_ports(update: &mut AppUpdate) {
    let host = update.networks.iter().flatten().all(Network::is_host);
    if host {
        if let Some(container) = &mut update.container {
            container.port_mappings = None;
        }
        update.port_definitions.get_or_insert_with(|| {
            vec![PortDefinition {
                name: Some("default".to_owned()),
                ..PortDefinition::number(0)
            }]
        });
        return;
    }
    let wanted = update
        .port_definitions
        .take()
        .map_or(0, |ports| ports.len());
    if let Some(container) = &mut update.container {
        let mappings = container
            .port_mappings
            .get_or_insert_with(|| vec![default_mapping()]);
        while mappings.len() < wanted {
            mappings.push(empty_mapping());
        }
    }
}

fn empty_mapping() -> PortMapping {
    PortMapping {
        protocol: "tcp".to_owned(),
        ..PortMapping::default()
    }
}

fn default_mapping() -> PortMapping {
    PortMapping {
        name: Some("default".to_owned()),
        ..empty_mapping()
    }
}

fn to_value(document: impl serde::Serialize) -> Result<Value, Error> {
    serde_json::to_value(document).map_err(|error| Error::Unprocessable(error.to_string()))
}

fn from_value<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::Unprocessable(error.to_string()))
}

#[cfg(test)]
#[path = "normalize/tests.rs"]
mod tests;
