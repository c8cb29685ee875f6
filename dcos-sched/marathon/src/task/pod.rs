//! From a pod and what it got of an offer to the group of tasks Mesos launches, on an executor that is Mesos's own.
//!
//! Ports are the executor's, because all containers share its network; everything else is dealt out to the container
//! it is for. Source: Marathon 1.11 `TaskGroupBuilder`.

mod env;
mod mounts;

use dcos_proto::mesos::{
    AgentId, CheckInfo, CommandInfo, ContainerInfo, DiscoveryInfo, DurationInfo, Environment,
    ExecutorId, ExecutorInfo, FrameworkId, HealthCheck as MesosCheck, Image, KillPolicy, LinuxInfo,
    Port, Ports, Resource, TaskId, TaskInfo, TtyInfo, check_info, command_info, container_info,
    discovery_info, executor_info, health_check, image, network_info,
};

use super::{Surroundings, container, labels, limits, linux};
use crate::instance::{Instance, PodTask};
use crate::matching::Portions;
use crate::model::{
    App, CheckCommand, Endpoint, Exec, NetworkMode, Pod, PodCheck, PodContainer, PodHealthCheck,
};

/// The executor and the tasks that make `instance` of a pod run.
pub fn build_pod(
    app: &App,
    pod: &Pod,
    instance: &Instance,
    resources: Vec<Resource>,
    surroundings: &Surroundings,
) -> (ExecutorInfo, Vec<TaskInfo>) {
    let mut portions = Portions::new(resources);
    let own = pod.executor_resources;
    let mut of_executor = portions.take(own.cpus, own.mem, own.disk, 0);
    let tasks = pod.containers.iter().zip(&instance.tasks);
    let tasks = tasks
        .map(|(container, known)| {
            let needs = container.resources;
            let resources = portions.take(needs.cpus, needs.mem, needs.disk, needs.gpus);
            task(
                app,
                pod,
                container,
                known,
                instance,
                resources,
                surroundings,
            )
        })
        .collect();
    of_executor.extend(portions.rest());
    (
        executor(app, pod, instance, of_executor, surroundings),
        tasks,
    )
}

fn executor(
    app: &App,
    pod: &Pod,
    instance: &Instance,
    resources: Vec<Resource>,
    surroundings: &Surroundings,
) -> ExecutorInfo {
    let joined = pod.networks.iter().filter(|network| !network.is_host());
    let network_infos = joined.map(|network| {
        let mapped = mapped(pod, instance, network.name.as_deref());
        container::join(network, mapped, &surroundings.mesos_bridge_name)
    });
    let container = ContainerInfo {
        r#type: container_info::Type::Mesos as i32,
        network_infos: network_infos.collect(),
        linux_info: Some(linux_info(pod, pod.linux_info.as_ref())),
        ..ContainerInfo::default()
    };
    ExecutorInfo {
        r#type: Some(executor_info::Type::Default as i32),
        executor_id: ExecutorId::from(instance.id.executor()),
        framework_id: surroundings.framework.as_deref().map(FrameworkId::from),
        resources,
        container: Some(container),
        labels: (!app.labels.is_empty()).then(|| labels(&app.labels)),
        ..ExecutorInfo::default()
    }
}

fn linux_info(pod: &Pod, given: Option<&crate::model::LinuxInfo>) -> LinuxInfo {
    LinuxInfo {
        share_cgroups: Some(pod.legacy_shared_cgroups.unwrap_or_default()),
        ..given.map(linux).unwrap_or_default()
    }
}

fn task(
    app: &App,
    pod: &Pod,
    container: &PodContainer,
    known: &PodTask,
    instance: &Instance,
    resources: Vec<Resource>,
    surroundings: &Surroundings,
) -> TaskInfo {
    let ports = ports(pod, container, instance);
    let grace = container
        .lifecycle
        .and_then(|cycle| cycle.kill_grace_period_seconds);
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    let grace_period = grace.map(|seconds| DurationInfo {
        nanoseconds: (seconds * 1e9) as i64,
    });
    TaskInfo {
        name: container.name.clone(),
        task_id: TaskId::from(known.id.as_str()),
        agent_id: AgentId::from(instance.agent.id.as_str()),
        resources,
        command: Some(command(app, pod, container, known, instance, surroundings)),
        container: Some(container_info(pod, container)),
        health_check: container
            .health_check
            .as_ref()
            .and_then(|check| health(check, pod, &ports)),
        check: container
            .check
            .as_ref()
            .and_then(|check| reported(check, pod, &ports)),
        kill_policy: grace_period.map(|period| KillPolicy {
            grace_period: Some(period),
        }),
        labels: (!container.labels.is_empty()).then(|| labels(&container.labels)),
        limits: limits(container.resource_limits.as_ref()),
        discovery: Some(discovery(app, pod, &ports)),
        ..TaskInfo::default()
    }
}

/// The endpoints of a container with the host's port each got.
fn ports<'a>(
    pod: &'a Pod,
    container: &'a PodContainer,
    instance: &Instance,
) -> Vec<(&'a Endpoint, Option<u16>)> {
    let given = instance
        .ports
        .iter()
        .copied()
        .chain(std::iter::repeat(None));
    pod.containers
        .iter()
        .flat_map(|each| each.endpoints.iter().map(|endpoint| (&each.name, endpoint)))
        .zip(given)
        .filter(|((name, _), _)| **name == container.name)
        .map(|((_, endpoint), port)| (endpoint, port))
        .collect()
}

fn command(
    app: &App,
    pod: &Pod,
    container: &PodContainer,
    known: &PodTask,
    instance: &Instance,
    surroundings: &Surroundings,
) -> CommandInfo {
    let uris = container.artifacts.iter().map(|fetch| command_info::Uri {
        value: fetch.uri.clone(),
        executable: Some(fetch.executable),
        extract: Some(fetch.extract),
        cache: Some(fetch.cache),
        output_file: fetch.dest_path.clone(),
    });
    let variables = env::variables(app, pod, container, known, instance, surroundings);
    let base = CommandInfo {
        uris: uris.collect(),
        environment: Some(Environment { variables }),
        user: container.user.clone().or_else(|| pod.user.clone()),
        // Without a shell the image says what runs.
        shell: Some(false),
        ..CommandInfo::default()
    };
    container
        .exec
        .as_ref()
        .map_or_else(|| base.clone(), |exec| words(exec, base.clone()))
}

fn words(exec: &Exec, base: CommandInfo) -> CommandInfo {
    match &exec.command {
        CheckCommand::Shell { shell } => CommandInfo {
            shell: Some(true),
            value: Some(shell.clone()),
            ..base
        },
        CheckCommand::Argv { argv } => CommandInfo {
            shell: Some(false),
            arguments: argv.clone(),
            value: (exec.override_entrypoint == Some(true))
                .then(|| argv.first().cloned())
                .flatten(),
            ..base
        },
    }
}

fn container_info(pod: &Pod, container: &PodContainer) -> ContainerInfo {
    let image = container.image.as_ref().map(|image| Image {
        r#type: image::Type::Docker as i32,
        docker: Some(image::Docker {
            name: image.id.clone(),
            config: image
                .pull_config
                .as_ref()
                .and_then(|pull| pod.secrets.get(&pull.secret))
                .map(|secret| super::env::reference(&secret.source)),
            ..image::Docker::default()
        }),
        cached: image.force_pull.map(|force| !force),
        ..Image::default()
    });
    ContainerInfo {
        r#type: container_info::Type::Mesos as i32,
        volumes: mounts::volumes(pod, container),
        mesos: image.map(|image| container_info::MesosInfo { image: Some(image) }),
        tty_info: (container.tty == Some(true)).then(TtyInfo::default),
        linux_info: Some(linux_info(pod, container.linux_info.as_ref())),
        ..ContainerInfo::default()
    }
}

/// The port mappings of the endpoints that are on a network.
fn mapped(pod: &Pod, instance: &Instance, network: Option<&str>) -> Vec<network_info::PortMapping> {
    let mut all = Vec::new();
    for (endpoint, port) in pod.endpoints().zip(&instance.ports) {
        let names = &endpoint.network_names;
        let here = names.is_empty() || names.iter().any(|name| Some(name.as_str()) == network);
        let Some(port) = port.filter(|_| here) else {
            continue;
        };
        let inside = endpoint.container_port.filter(|port| *port != 0);
        for protocol in protocols(endpoint) {
            all.push(network_info::PortMapping {
                host_port: u32::from(port),
                container_port: u32::from(inside.unwrap_or(port)),
                protocol,
            });
        }
    }
    all
}

fn protocols(endpoint: &Endpoint) -> Vec<Option<String>> {
    if endpoint.protocol.is_empty() {
        return vec![None];
    }
    endpoint.protocol.iter().cloned().map(Some).collect()
}

fn discovery(app: &App, pod: &Pod, endpoints: &[(&Endpoint, Option<u16>)]) -> DiscoveryInfo {
    let host = app.is_host_networked();
    let mut ports = Vec::new();
    for (endpoint, port) in endpoints {
        let scopes: Vec<(u16, Vec<(String, String)>)> = match (host, port) {
            (_, Some(port)) => vec![(*port, vec![scope("host")])],
            (true, None) => Vec::new(),
            (false, None) => {
                let on = |name: String| vec![scope("container"), ("network-name".to_owned(), name)];
                let names = if endpoint.network_names.is_empty() {
                    let named = pod.networks.iter();
                    let named = named.filter(|network| network.mode == NetworkMode::Container);
                    named.filter_map(|network| network.name.clone()).collect()
                } else {
                    endpoint.network_names.clone()
                };
                let inside = endpoint.container_port.unwrap_or_default();
                names.into_iter().map(|name| (inside, on(name))).collect()
            }
        };
        for (number, scope) in scopes {
            let mut all = endpoint.labels.clone();
            all.extend(scope);
            for protocol in protocols(endpoint) {
                ports.push(Port {
                    number: u32::from(number),
                    name: Some(endpoint.name.clone()),
                    protocol: Some(protocol.unwrap_or_else(|| "tcp".to_owned())),
                    labels: Some(labels(&all)),
                    visibility: None,
                });
            }
        }
    }
    DiscoveryInfo {
        visibility: discovery_info::Visibility::Framework as i32,
        name: Some(app.id.host_name()),
        ports: Some(Ports { ports }),
        ..DiscoveryInfo::default()
    }
}

fn scope(value: &str) -> (String, String) {
    ("network-scope".to_owned(), value.to_owned())
}

/// The check in Mesos's words; executors check from inside the container.
fn health(
    health: &PodHealthCheck,
    pod: &Pod,
    ports: &[(&Endpoint, Option<u16>)],
) -> Option<MesosCheck> {
    let PodHealthCheck { check, .. } = health;
    let mut mesos = MesosCheck {
        delay_seconds: Some(f64::from(check.delay_seconds)),
        interval_seconds: Some(f64::from(check.interval_seconds)),
        timeout_seconds: Some(f64::from(check.timeout_seconds)),
        consecutive_failures: Some(health.max_consecutive_failures),
        grace_period_seconds: Some(f64::from(health.grace_period_seconds)),
        ..MesosCheck::default()
    };
    if let Some(http) = &check.http {
        mesos.r#type = Some(health_check::Type::Http as i32);
        mesos.http = Some(health_check::HttpCheckInfo {
            port: inside(&http.endpoint, pod, ports)?,
            path: http.path.clone(),
            scheme: Some(http.scheme.as_deref().unwrap_or("HTTP").to_lowercase()),
            ..health_check::HttpCheckInfo::default()
        });
    } else if let Some(tcp) = &check.tcp {
        mesos.r#type = Some(health_check::Type::Tcp as i32);
        mesos.tcp = Some(health_check::TcpCheckInfo {
            port: inside(&tcp.endpoint, pod, ports)?,
            ..health_check::TcpCheckInfo::default()
        });
    } else {
        mesos.r#type = Some(health_check::Type::Command as i32);
        mesos.command = Some(program(check.exec.as_ref()?));
    }
    Some(mesos)
}

/// The same of the check whose result is only reported.
fn reported(check: &PodCheck, pod: &Pod, ports: &[(&Endpoint, Option<u16>)]) -> Option<CheckInfo> {
    let mut info = CheckInfo {
        delay_seconds: Some(f64::from(check.delay_seconds)),
        interval_seconds: Some(f64::from(check.interval_seconds)),
        timeout_seconds: Some(f64::from(check.timeout_seconds)),
        ..CheckInfo::default()
    };
    if let Some(http) = &check.http {
        info.r#type = Some(check_info::Type::Http as i32);
        info.http = Some(check_info::Http {
            port: inside(&http.endpoint, pod, ports)?,
            path: http.path.clone(),
        });
    } else if let Some(tcp) = &check.tcp {
        info.r#type = Some(check_info::Type::Tcp as i32);
        info.tcp = Some(check_info::Tcp {
            port: inside(&tcp.endpoint, pod, ports)?,
        });
    } else {
        info.r#type = Some(check_info::Type::Command as i32);
        let command = program(check.exec.as_ref()?);
        info.command = Some(check_info::Command { command });
    }
    Some(info)
}

/// The port of an endpoint as seen from inside the container.
fn inside(name: &str, pod: &Pod, ports: &[(&Endpoint, Option<u16>)]) -> Option<u32> {
    let host = pod.networks.iter().all(crate::model::Network::is_host);
    let (endpoint, given) = ports.iter().find(|(endpoint, _)| endpoint.name == name)?;
    let inside = endpoint.container_port.filter(|port| *port != 0 && !host);
    inside.or(*given).map(u32::from)
}

/// What a check runs.
fn program(exec: &Exec) -> CommandInfo {
    let words = words(exec, CommandInfo::default());
    CommandInfo {
        value: words.value.or_else(|| words.arguments.first().cloned()),
        ..words
    }
}

#[cfg(test)]
mod tests;
