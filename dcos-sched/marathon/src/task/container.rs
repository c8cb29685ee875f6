//! The container of a task, in Mesos's words.

use dcos_proto::mesos::{
    ContainerInfo, Image, Label, Labels, NetworkInfo, Parameter, Parameters, TtyInfo,
    Volume as MesosVolume, container_info, image, network_info, volume,
};

use super::env::reference;
use crate::instance::Instance;
use crate::model::{
    App, Container, DockerContainer, EngineType, ExternalVolume, Network, NetworkMode, PortMapping,
    Volume, VolumeMode,
};

pub(super) fn build(app: &App, instance: &Instance, bridge: &str) -> Option<ContainerInfo> {
    if app.container.is_none() && app.is_host_networked() && app.tty != Some(true) {
        return None;
    }
    let default = Container::mesos();
    let container = app.container.as_ref().unwrap_or(&default);
    let mappings: Vec<(&PortMapping, u32)> = app
        .port_mappings()
        .iter()
        .zip(&instance.ports)
        .filter_map(|(mapping, port)| Some((mapping, u32::from((*port)?))))
        .collect();
    let mut info = ContainerInfo {
        volumes: container
            .volumes
            .iter()
            .filter_map(|volume| mount(volume, app))
            .collect(),
        tty_info: (app.tty == Some(true)).then(TtyInfo::default),
        linux_info: container.linux_info.as_ref().map(super::linux),
        ..ContainerInfo::default()
    };
    match (container.engine, &container.docker) {
        (EngineType::Docker, Some(docker)) => {
            info.r#type = container_info::Type::Docker as i32;
            info.docker = Some(engine(docker, app, instance, &mappings));
            let named = app
                .networks
                .iter()
                .filter(|n| n.mode == NetworkMode::Container);
            info.network_infos = named
                .map(|network| join(network, Vec::new(), bridge))
                .collect();
        }
        (_, docker) => {
            info.r#type = container_info::Type::Mesos as i32;
            let image = docker.as_ref().map(|docker| Image {
                r#type: image::Type::Docker as i32,
                docker: Some(image::Docker {
                    name: docker.image.clone(),
                    config: docker
                        .pull_config
                        .as_ref()
                        .and_then(|pull| app.secrets.get(&pull.secret))
                        .map(|secret| reference(&secret.source)),
                    ..image::Docker::default()
                }),
                cached: Some(!docker.force_pull_image),
                ..Image::default()
            });
            info.mesos = Some(container_info::MesosInfo { image });
            let joined = app.networks.iter().filter(|network| !network.is_host());
            info.network_infos = joined
                .map(|network| join(network, mapped(network, &mappings), bridge))
                .collect();
        }
    }
    Some(info)
}

fn engine(
    docker: &DockerContainer,
    app: &App,
    instance: &Instance,
    mappings: &[(&PortMapping, u32)],
) -> container_info::DockerInfo {
    use container_info::docker_info::{Network as Mode, PortMapping as Mapping};
    let network = match app.networks.first().map(|network| network.mode) {
        Some(NetworkMode::Bridge) => Mode::Bridge,
        Some(NetworkMode::Container) => Mode::User,
        Some(NetworkMode::Host) | None => Mode::Host,
    };
    let mut parameters: Vec<_> = docker
        .parameters
        .iter()
        .map(|parameter| Parameter {
            key: parameter.key.clone(),
            value: parameter.value.clone(),
        })
        .collect();
    parameters.push(Parameter {
        key: "label".to_owned(),
        value: format!("MESOS_TASK_ID={}", instance.task_id),
    });
    let port_mappings = mappings.iter().flat_map(|(mapping, host_port)| {
        mapping.protocol.split(',').map(move |protocol| Mapping {
            host_port: *host_port,
            container_port: inside(mapping, *host_port),
            protocol: Some(protocol.to_owned()),
        })
    });
    container_info::DockerInfo {
        image: docker.image.clone(),
        network: Some(network as i32),
        port_mappings: port_mappings.collect(),
        privileged: Some(docker.privileged),
        parameters,
        force_pull_image: Some(docker.force_pull_image),
        ..container_info::DockerInfo::default()
    }
}

/// The mappings that belong to `network`.
fn mapped(network: &Network, mappings: &[(&PortMapping, u32)]) -> Vec<network_info::PortMapping> {
    let belongs = |mapping: &PortMapping| {
        mapping.network_names.is_empty()
            || network
                .name
                .as_ref()
                .is_some_and(|name| mapping.network_names.contains(name))
    };
    mappings
        .iter()
        .filter(|(mapping, _)| belongs(mapping))
        .flat_map(|(mapping, host_port)| {
            mapping
                .protocol
                .split(',')
                .map(move |protocol| network_info::PortMapping {
                    host_port: *host_port,
                    container_port: inside(mapping, *host_port),
                    protocol: Some(protocol.to_owned()),
                })
        })
        .collect()
}

fn inside(mapping: &PortMapping, host_port: u32) -> u32 {
    if mapping.container_port == 0 {
        host_port
    } else {
        u32::from(mapping.container_port)
    }
}

pub(super) fn join(
    network: &Network,
    ports: Vec<network_info::PortMapping>,
    bridge: &str,
) -> NetworkInfo {
    let name = match network.mode {
        NetworkMode::Bridge => Some(bridge.to_owned()),
        _ => network.name.clone(),
    };
    let labels = network.labels.iter().map(|(key, value)| Label {
        key: key.clone(),
        value: Some(value.clone()),
    });
    NetworkInfo {
        name,
        labels: (!network.labels.is_empty()).then(|| Labels {
            labels: labels.collect(),
        }),
        ip_addresses: vec![network_info::IpAddress::default()],
        port_mappings: ports,
        ..NetworkInfo::default()
    }
}

fn mount(mount: &Volume, app: &App) -> Option<MesosVolume> {
    if let Some(secret) = &mount.secret {
        let secret = app.secrets.get(secret)?;
        return Some(MesosVolume {
            container_path: mount.container_path.clone(),
            mode: volume::Mode::Ro as i32,
            source: Some(volume::Source {
                r#type: Some(volume::source::Type::Secret as i32),
                secret: Some(reference(&secret.source)),
                ..volume::Source::default()
            }),
            ..MesosVolume::default()
        });
    }
    let mode = match mount.mode {
        Some(VolumeMode::Ro) => volume::Mode::Ro,
        Some(VolumeMode::Rw) | None => volume::Mode::Rw,
    };
    if let Some(external) = &mount.external {
        return Some(MesosVolume {
            container_path: mount.container_path.clone(),
            mode: mode as i32,
            source: Some(volume::Source {
                r#type: Some(volume::source::Type::DockerVolume as i32),
                docker_volume: Some(of_driver(external)),
                ..volume::Source::default()
            }),
            ..MesosVolume::default()
        });
    }
    mount.host_path.as_ref().map(|host_path| MesosVolume {
        container_path: mount.container_path.clone(),
        host_path: Some(host_path.clone()),
        mode: mode as i32,
        ..MesosVolume::default()
    })
}

/// A volume of a Docker volume plugin. Without options there is no list of them, which some drivers tell from an empty one.
fn of_driver(external: &ExternalVolume) -> volume::source::DockerVolume {
    let options = external.driver_options();
    let options = options
        .into_iter()
        .map(|(key, value)| Parameter { key, value });
    let options: Vec<_> = options.collect();
    volume::source::DockerVolume {
        driver: external.driver().map(str::to_owned),
        name: external.name.clone(),
        driver_options: (!options.is_empty()).then_some(Parameters { parameter: options }),
    }
}
