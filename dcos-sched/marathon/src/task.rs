//! From an app and what it got of an offer to the task Mesos launches.

mod container;
mod env;
mod pod;
mod probe;

use dcos_proto::mesos::{
    AgentId, CommandInfo, DiscoveryInfo, DurationInfo, Environment, ExecutorId, ExecutorInfo,
    KillPolicy, Label, Labels, LinuxInfo, Port, Ports, Resource, SeccompInfo, TaskId, TaskInfo,
    command_info, discovery_info, environment, linux_info, value,
};

use crate::instance::Instance;
use crate::model::{App, Network, NetworkMode, ResourceLimits};

pub use pod::build_pod;

/// What a task depends on beside the app and its match.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Put before the names of port variables.
    pub env_vars_prefix: Option<String>,
    /// Whether the app's top-level group enforces its role.
    pub enforce_role: bool,
    /// The network that stands for bridge mode.
    pub mesos_bridge_name: String,
    /// The framework's id, which executors of pods belong to.
    pub framework: Option<String>,
}

/// The task that makes `instance` run.
pub fn build(
    app: &App,
    instance: &Instance,
    resources: Vec<Resource>,
    surroundings: &Surroundings,
) -> TaskInfo {
    let mut task = TaskInfo {
        name: app.id.host_name(),
        task_id: TaskId::from(instance.task_id.as_str()),
        agent_id: AgentId::from(instance.agent.id.as_str()),
        resources,
        discovery: Some(discovery(app, instance)),
        labels: (!app.labels.is_empty()).then(|| labels(&app.labels)),
        kill_policy: app
            .task_kill_grace_period_seconds
            .map(|seconds| KillPolicy {
                grace_period: Some(DurationInfo {
                    nanoseconds: i64::from(seconds) * 1_000_000_000,
                }),
            }),
        health_check: probe::health_check(app, instance),
        check: probe::check(app, instance),
        limits: limits(app.resource_limits.as_ref()),
        ..TaskInfo::default()
    };
    let command = command(app, instance, surroundings);
    let container = container::build(app, instance, &surroundings.mesos_bridge_name);
    match app.executor.as_str() {
        "" | "//cmd" => (task.command, task.container) = (Some(command), container),
        path => {
            let words = app.cmd.clone().unwrap_or_else(|| app.args.join(" "));
            let line = format!("chmod ug+rx '{path}' && exec '{path}' {words}");
            task.executor = Some(ExecutorInfo {
                executor_id: ExecutorId::from(format!("marathon-{}", instance.task_id)),
                command: Some(CommandInfo {
                    value: Some(line),
                    shell: Some(true),
                    ..command
                }),
                container,
                resources: executor_resources(app),
                ..ExecutorInfo::default()
            });
        }
    }
    task
}

fn command(app: &App, instance: &Instance, surroundings: &Surroundings) -> CommandInfo {
    let variables = env::variables(app, instance, surroundings)
        .into_iter()
        .map(|(name, value)| environment::Variable {
            name,
            value: Some(value),
            ..environment::Variable::default()
        });
    let variables = variables.chain(env::secrets(app));
    let uris = app.fetch.iter().map(|fetch| command_info::Uri {
        value: fetch.uri.clone(),
        executable: Some(fetch.executable),
        extract: Some(fetch.extract),
        cache: Some(fetch.cache),
        output_file: fetch.dest_path.clone(),
    });
    let mut command = CommandInfo {
        uris: uris.collect(),
        environment: Some(Environment {
            variables: variables.collect(),
        }),
        user: app.user.clone(),
        ..CommandInfo::default()
    };
    match app.cmd.as_deref() {
        Some(line) if !line.is_empty() => command.value = Some(line.to_owned()),
        _ => command.shell = Some(false),
    }
    if !app.args.is_empty() {
        command.shell = Some(false);
        command.arguments.clone_from(&app.args);
        if app.container.is_none() {
            command.value = app.args.first().cloned();
        }
    }
    command
}

fn discovery(app: &App, instance: &Instance) -> DiscoveryInfo {
    let port = |number: u16, protocol: &str, name: Option<&String>, labels| Port {
        number: u32::from(number),
        name: name.cloned(),
        protocol: Some(protocol.to_owned()),
        labels,
        visibility: None,
    };
    let mut ports = Vec::new();
    if app.is_host_networked() {
        for (definition, number) in app.port_definitions().iter().zip(&instance.ports) {
            let own = (!definition.labels.is_empty()).then(|| labels(&definition.labels));
            for protocol in definition.protocol.split(',') {
                let number = number.unwrap_or(definition.port);
                ports.push(port(
                    number,
                    protocol,
                    definition.name.as_ref(),
                    own.clone(),
                ));
            }
        }
    } else {
        for (mapping, number) in app.port_mappings().iter().zip(&instance.ports) {
            for protocol in mapping.protocol.split(',') {
                for (number, scope) in scopes(app, mapping, *number) {
                    let mut all = mapping.labels.clone();
                    all.extend(scope);
                    ports.push(port(
                        number,
                        protocol,
                        mapping.name.as_ref(),
                        Some(labels(&all)),
                    ));
                }
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

/// Where a mapped port is reachable: on the host if it has a port there, else on each network.
fn scopes(
    app: &App,
    mapping: &crate::model::PortMapping,
    host_port: Option<u16>,
) -> Vec<(u16, Vec<(String, String)>)> {
    let scope = |value: &str| ("network-scope".to_owned(), value.to_owned());
    if let Some(port) = host_port {
        return vec![(port, vec![scope("host")])];
    }
    let of_app = app
        .networks
        .iter()
        .filter(|network| network.mode == NetworkMode::Container)
        .filter_map(|network: &Network| network.name.clone());
    let names: Vec<String> = if mapping.network_names.is_empty() {
        of_app.collect()
    } else {
        mapping.network_names.clone()
    };
    let on = |name| vec![scope("container"), ("network-name".to_owned(), name)];
    names
        .into_iter()
        .map(|name| (mapping.container_port, on(name)))
        .collect()
}

fn limits(given: Option<&ResourceLimits>) -> std::collections::BTreeMap<String, value::Scalar> {
    let Some(limits) = given else {
        return std::collections::BTreeMap::new();
    };
    [("cpus", &limits.cpus), ("mem", &limits.mem)]
        .into_iter()
        .filter_map(|(name, limit)| {
            Some((
                name.to_owned(),
                value::Scalar {
                    value: limit.as_ref()?.value(),
                },
            ))
        })
        .collect()
}

fn executor_resources(app: &App) -> Vec<Resource> {
    let Some(resources) = app.executor_resources else {
        return Vec::new();
    };
    [
        ("cpus", resources.cpus),
        ("mem", resources.mem),
        ("disk", resources.disk),
    ]
    .into_iter()
    .map(|(name, value)| Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar as i32,
        scalar: Some(value::Scalar { value }),
        allocation_info: Some(dcos_proto::mesos::resource::AllocationInfo {
            role: Some(app.role.clone()),
        }),
        ..Resource::default()
    })
    .collect()
}

/// Security settings in Mesos's words.
fn linux(info: &crate::model::LinuxInfo) -> LinuxInfo {
    let mut linux = LinuxInfo::default();
    if let Some(seccomp) = &info.seccomp {
        linux.seccomp = Some(SeccompInfo {
            profile_name: seccomp["profileName"].as_str().map(str::to_owned),
            unconfined: seccomp["unconfined"].as_bool(),
        });
    }
    if let Some(ipc) = &info.ipc_info {
        let mode = match ipc["mode"].as_str() {
            Some("SHARE_PARENT") => linux_info::IpcMode::ShareParent,
            _ => linux_info::IpcMode::Private,
        };
        linux.ipc_mode = Some(mode as i32);
        let size = ipc["shmSize"].as_u64();
        linux.shm_size = size.and_then(|size| u32::try_from(size).ok());
    }
    linux
}

fn labels<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Labels {
    let label = |(key, value): (&String, &String)| Label {
        key: key.clone(),
        value: Some(value.clone()),
    };
    Labels {
        labels: pairs.into_iter().map(label).collect(),
    }
}

#[cfg(test)]
mod tests;
