//! Rules for containers, volumes, networks and ports.

use super::rules::{feature, unique};
use super::{Violations, fail};
use crate::model::{App, Container, EngineType, Network, NetworkMode, PortMapping};
use crate::normalize::Rules;

pub(super) fn container(container: &Container, app: &App, context: &Rules, out: &mut Violations) {
    match (&container.docker, container.engine) {
        (None, EngineType::Docker) => fail(out, "/container/docker", "not defined"),
        (Some(docker), engine) => {
            if let Some(pull) = &docker.pull_config {
                if engine == EngineType::Docker {
                    let text = "pullConfig is not supported with Docker containerizer";
                    fail(out, "/container/docker/pullConfig", text);
                } else {
                    feature("secrets", "/container/docker/pullConfig", context, out);
                    if !app.secrets.contains_key(&pull.secret) {
                        let text = "pullConfig.secret must refer to an existing secret";
                        fail(out, "/container/docker/pullConfig", text);
                    }
                }
            }
        }
        (None, EngineType::Mesos) => {}
    }
    mappings(
        container.port_mappings.as_deref().unwrap_or_default(),
        app,
        out,
    );
    volumes(container, app, context, out);
}

fn mappings(mappings: &[PortMapping], app: &App, out: &mut Violations) {
    if !unique(
        mappings
            .iter()
            .filter_map(|mapping| mapping.name.as_deref()),
    ) {
        fail(out, "/container/portMappings", "Port names must be unique.");
    }
    let names: Vec<&str> = app
        .networks
        .iter()
        .filter_map(|n| n.name.as_deref())
        .collect();
    let containers = app
        .networks
        .iter()
        .filter(|n| n.mode == NetworkMode::Container)
        .count();
    for (index, mapping) in mappings.iter().enumerate() {
        let path = format!("/container/portMappings({index})");
        if containers > 1 && mapping.host_port.is_some() && mapping.network_names.len() != 1 {
            fail(
                out,
                &path,
                "networkNames must be a single item list when hostPort is specified and more than 1 \
                 container network is defined",
            );
        }
        for (index, name) in mapping.network_names.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                let text = format!("is not one of ({})", names.join(","));
                fail(out, format!("{path}/networkNames({index})"), text);
            }
        }
    }
}

fn volumes(container: &Container, app: &App, context: &Rules, out: &mut Violations) {
    for (index, volume) in container.volumes.iter().enumerate() {
        let path = format!("/container/volumes({index})");
        let kinds = [
            volume.host_path.is_some(),
            volume.persistent.is_some(),
            volume.external.is_some(),
            volume.secret.is_some(),
        ];
        if kinds.iter().filter(|kind| **kind).count() != 1 {
            fail(out, &path, "Unknown app volume type");
        }
        if let Some(secret) = &volume.secret {
            feature("secrets", &path, context, out);
            if !app.secrets.contains_key(secret) {
                fail(out, &path, "volume.secret must refer to an existing secret");
            }
        }
        if let Some(persistent) = &volume.persistent {
            super::resident::volume(volume, persistent, &path, out);
        }
        if let Some(external) = &volume.external {
            feature("external_volumes", &path, context, out);
            super::external::volume(volume, external, container.engine, &path, out);
        }
    }
}

pub(super) fn ports(app: &App, out: &mut Violations) {
    let definitions = app.port_definitions();
    if !unique(definitions.iter().filter_map(|port| port.name.as_deref())) {
        fail(out, "/portDefinitions", "Port names must be unique.");
    }
    if !unique(
        definitions
            .iter()
            .map(|port| port.port)
            .filter(|port| *port != 0),
    ) {
        fail(out, "/portDefinitions", "Ports must be unique.");
    }
    if app.networks.iter().any(crate::model::Network::is_host) && !app.port_mappings().is_empty() {
        fail(
            out,
            "/",
            "portMappings are not allowed with host-networking",
        );
    }
    if !app.is_host_networked() && !definitions.is_empty() {
        fail(
            out,
            "/",
            "portDefinitions are only allowed with host-networking",
        );
    }
}

pub(super) fn networks(app: &App, context: &Rules, out: &mut Violations) {
    combination(&app.networks, context, out);
    let docker = app
        .container
        .as_ref()
        .is_some_and(|c| c.engine == EngineType::Docker);
    let containers = app
        .networks
        .iter()
        .filter(|network| network.mode == NetworkMode::Container);
    if docker && containers.count() > 1 {
        let text =
            "may only specify a single container network when using the Docker container engine";
        fail(out, "/", text);
    }
}

/// Rules for the networks of an app or a pod together.
pub(super) fn combination(networks: &[Network], context: &Rules, out: &mut Violations) {
    let count = |mode| {
        networks
            .iter()
            .filter(|network| network.mode == mode)
            .count()
    };
    let (host, bridge, containers) = (
        count(NetworkMode::Host),
        count(NetworkMode::Bridge),
        count(NetworkMode::Container),
    );
    let of = |mode| networks.iter().filter(move |network| network.mode == mode);
    if of(NetworkMode::Host).any(|network| network.name.is_some() || !network.labels.is_empty()) {
        fail(
            out,
            "/networks",
            "Host networks may not have names or labels",
        );
    }
    if of(NetworkMode::Bridge).any(|network| network.name.is_some()) {
        fail(out, "/networks", "Bridge networks may not have names");
    }
    let unnamed = of(NetworkMode::Container)
        .filter(|network| network.name.is_none())
        .count();
    if unnamed > 1
        || !unique(
            networks
                .iter()
                .filter_map(|network| network.name.as_deref()),
        )
    {
        fail(out, "/networks", "Duplicate networks are not allowed");
    }
    let kinds = [host, bridge, containers]
        .iter()
        .filter(|count| **count > 0)
        .count();
    if kinds > 1 || host > 1 || bridge > 1 {
        fail(
            out,
            "/networks",
            "May specify a single host network, single bridge network, or else 1-to-n container \
             networks",
        );
    }
    if unnamed > 0 && context.default_network_name.is_none() {
        let text = "Network name must be specified when container network is selected.";
        fail(out, "/networks", text);
    }
}
