//! An app of the original, as the document a user would send for it.
//!
//! That way it passes the same rules as every other document, and what is not served is refused in the same words.

use dcos_proto::mesos::{CommandInfo, Label, Resource};
use serde_json::{Map, Value, json};

use super::words::{
    Check, Constraint, Container, HealthCheck, Network, PortMapping, PullConfig, ReadinessCheck,
    ServiceDefinition, Volume,
};
use super::{object, word};

const CONSTRAINTS: [&str; 7] = [
    "UNIQUE", "LIKE", "CLUSTER", "GROUP_BY", "UNLIKE", "MAX_PER", "IS",
];
const HEALTH_PROTOCOLS: [&str; 7] = [
    "HTTP",
    "TCP",
    "COMMAND",
    "HTTPS",
    "MESOS_HTTP",
    "MESOS_HTTPS",
    "MESOS_TCP",
];
/// `NetworkDefinition.Mode`
const NETWORK_MODES: [&str; 4] = ["", "host", "container", "container/bridge"];
/// `ContainerInfo.Type.DOCKER`
const DOCKER: i32 = 1;
/// `Volume.Mode.RO`
const READ_ONLY: i32 = 2;
/// `HealthCheckDefinition.IpProtocol.IPv6`
const IPV6: i32 = 2;
/// `KillSelection.OldestFirst`
const OLDEST_FIRST: i32 = 2;
/// `IpcInfo.IpcMode.SHARE_PARENT`
const SHARE_PARENT: i32 = 2;

fn all<T>(items: &[T], each: impl Fn(&T) -> Result<Value, String>) -> Result<Vec<Value>, String> {
    items.iter().map(each).collect()
}

fn texts<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a str)>) -> Value {
    let pairs = pairs.into_iter();
    Value::Object(
        pairs
            .map(|(key, value)| (key.clone(), value.into()))
            .collect(),
    )
}

fn labels(labels: &[Label]) -> Value {
    texts(labels.iter().map(|label| (&label.key, label.value())))
}

fn seconds(millis: i64) -> i64 {
    millis / 1_000
}

fn amount(resources: &[Resource], name: &str) -> Option<f64> {
    let found = resources.iter().find(|resource| resource.name == name)?;
    Some(found.scalar?.value)
}

/// The document of an app.
pub(super) fn document(app: &ServiceDefinition) -> Result<Value, String> {
    let command = app.cmd.clone().unwrap_or_default();
    let cmd = command.value.clone().filter(|cmd| !cmd.is_empty());
    let cmd = cmd.filter(|_| command.arguments.is_empty());
    let upgrade = app.upgrade_strategy.as_ref().map(|strategy| {
        json!({
            "minimumHealthCapacity": strategy.minimum_health_capacity,
            "maximumOverCapacity": strategy.maximum_over_capacity(),
        })
    });
    let unreachable = app.unreachable_strategy.as_ref().map(|strategy| {
        match (
            strategy.inactive_after_seconds,
            strategy.expunge_after_seconds,
        ) {
            (Some(inactive), Some(expunge)) => {
                json!({"inactiveAfterSeconds": inactive, "expungeAfterSeconds": expunge})
            }
            _ => json!("disabled"),
        }
    });
    let accepted = app
        .accepted_resource_roles
        .as_ref()
        .map(|roles| &roles.role);
    let limits = app
        .resource_limits
        .as_ref()
        .map(|limits| object([("cpus", limit(limits.cpus)), ("mem", limit(limits.mem))]));
    let executor = (!app.executor_resources.is_empty()).then(|| {
        let of = |name| json!(amount(&app.executor_resources, name));
        object([
            ("cpus", of("cpus")),
            ("mem", of("mem")),
            ("disk", of("disk")),
        ])
    });
    let secrets = app.secrets.iter();
    let secrets = secrets.map(|secret| (secret.id.clone(), json!({"source": secret.source})));
    let oldest_first = app.kill_selection == Some(OLDEST_FIRST);
    let resource = |name| json!(amount(&app.resources, name));
    let gpus = amount(&app.resources, "gpus").map(whole);
    Ok(object([
        ("id", json!(app.id)),
        ("cmd", json!(cmd)),
        ("args", json!(command.arguments)),
        ("user", json!(command.user)),
        ("env", environment(app, &command)),
        ("fetch", fetch(&command)),
        ("instances", json!(app.instances)),
        ("cpus", resource("cpus")),
        ("mem", resource("mem")),
        ("disk", resource("disk")),
        ("gpus", json!(gpus)),
        ("executor", json!(app.executor)),
        ("executorResources", json!(executor)),
        ("resourceLimits", json!(limits)),
        ("constraints", all(&app.constraints, constraint)?.into()),
        ("acceptedResourceRoles", json!(accepted)),
        ("role", json!(app.role)),
        ("backoffSeconds", json!(seconds(app.backoff()))),
        ("backoffFactor", json!(app.backoff_factor())),
        (
            "maxLaunchDelaySeconds",
            json!(seconds(app.max_launch_delay())),
        ),
        ("upgradeStrategy", json!(upgrade)),
        ("unreachableStrategy", json!(unreachable)),
        (
            "killSelection",
            json!(if oldest_first {
                "OLDEST_FIRST"
            } else {
                "YOUNGEST_FIRST"
            }),
        ),
        ("dependencies", json!(app.dependencies)),
        (
            "labels",
            texts(
                app.labels
                    .iter()
                    .map(|label| (&label.key, label.value.as_str())),
            ),
        ),
        ("secrets", Value::Object(secrets.collect())),
        (
            "taskKillGracePeriodSeconds",
            json!(app.task_kill_grace_period.map(seconds)),
        ),
        ("tty", json!(app.tty.as_ref().map(|_| true))),
        ("requirePorts", json!(app.require_ports)),
        ("networks", all(&app.networks, network)?.into()),
        ("portDefinitions", port_definitions(app)),
        (
            "container",
            json!(app.container.as_ref().map(container).transpose()?),
        ),
        (
            "healthChecks",
            all(&app.health_checks, health_check)?.into(),
        ),
        ("check", json!(app.check.as_ref().map(check).transpose()?)),
        (
            "readinessChecks",
            all(&app.readiness_checks, readiness_check)?.into(),
        ),
    ]))
}

/// A number that is whole, although resources are not.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast stops at the bounds, and was made there too"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

fn limit(limit: Option<f64>) -> Value {
    match limit {
        Some(limit) if limit.is_infinite() => json!("unlimited"),
        limit => json!(limit),
    }
}

fn environment(app: &ServiceDefinition, command: &CommandInfo) -> Value {
    let variables = command.environment.iter().flat_map(|all| &all.variables);
    let plain = variables.map(|variable| (variable.name.clone(), json!(variable.value())));
    let secrets = app.env_references.iter().filter_map(|reference| {
        let secret = reference.secret.as_ref()?;
        Some((reference.name.clone(), json!({"secret": secret.id})))
    });
    Value::Object(plain.chain(secrets).collect::<Map<_, _>>())
}

fn fetch(command: &CommandInfo) -> Value {
    let uris = command.uris.iter().map(|uri| {
        object([
            ("uri", json!(uri.value)),
            ("extract", json!(uri.extract())),
            ("executable", json!(uri.executable())),
            ("cache", json!(uri.cache())),
            ("destPath", json!(uri.output_file)),
        ])
    });
    Value::Array(uris.collect())
}

fn constraint(constraint: &Constraint) -> Result<Value, String> {
    let operator = word(&CONSTRAINTS, constraint.operator, "constraint operator")?;
    let field = constraint.field.as_str();
    Ok(match &constraint.value {
        Some(value) => json!([field, operator, value]),
        None => json!([field, operator]),
    })
}

fn network(network: &Network) -> Result<Value, String> {
    Ok(object([
        (
            "mode",
            json!(word(&NETWORK_MODES, network.mode, "network mode")?),
        ),
        ("name", json!(network.name)),
        ("labels", labels(&network.labels)),
    ]))
}

/// Absent where ports are those of a container: an app may have one kind only.
fn port_definitions(app: &ServiceDefinition) -> Value {
    let host = app.networks.iter().all(|network| network.mode == 1);
    let mapped = app.container.as_ref();
    let mapped = mapped.is_some_and(|container| !container.port_mappings.is_empty());
    if !host || mapped {
        return Value::Null;
    }
    if !app.ports.is_empty() {
        return app.ports.iter().map(|port| json!({"port": port})).collect();
    }
    let ports = app.port_definitions.iter().map(|port| {
        let of_port = port.labels.as_ref().map(|all| labels(&all.labels));
        object([
            ("port", json!(port.number)),
            ("protocol", json!(port.protocol)),
            ("name", json!(port.name)),
            ("labels", json!(of_port)),
        ])
    });
    ports.collect()
}

fn container(container: &Container) -> Result<Value, String> {
    let docker = match (&container.docker, &container.mesos_docker) {
        (Some(docker), _) => {
            let parameters = docker.parameters.iter();
            let parameters = parameters.map(|one| json!({"key": one.key, "value": one.value}));
            json!({
                "image": docker.image,
                "privileged": docker.privileged,
                "forcePullImage": docker.force_pull_image,
                "parameters": parameters.collect::<Vec<_>>(),
            })
        }
        (None, Some(docker)) => {
            let credential = docker.credential.as_ref();
            let credential = credential.map(|one| json!({"principal": one.principal}));
            object([
                ("image", json!(docker.image)),
                ("forcePullImage", json!(docker.force_pull_image)),
                (
                    "pullConfig",
                    json!(docker.pull_config.as_ref().map(pull_config).transpose()?),
                ),
                ("credential", json!(credential)),
            ])
        }
        (None, None) => Value::Null,
    };
    let linux = container.linux_info.as_ref().map(|info| {
        let seccomp = info.seccomp.as_ref().map(|seccomp| {
            object([
                ("profileName", json!(seccomp.profile_name)),
                ("unconfined", json!(seccomp.unconfined)),
            ])
        });
        let ipc = info.ipc_info.as_ref().map(|ipc| {
            let shared = ipc.mode == SHARE_PARENT;
            let mode = if shared { "SHARE_PARENT" } else { "PRIVATE" };
            object([("mode", json!(mode)), ("shmSize", json!(ipc.shm_size))])
        });
        object([("seccomp", json!(seccomp)), ("ipcInfo", json!(ipc))])
    });
    let engine = if container.engine == DOCKER {
        "DOCKER"
    } else {
        "MESOS"
    };
    let mappings = &container.port_mappings;
    let mappings = (!mappings.is_empty()).then(|| mappings.iter().map(port_mapping));
    Ok(object([
        ("type", json!(engine)),
        ("docker", docker),
        ("linuxInfo", json!(linux)),
        ("volumes", all(&container.volumes, volume)?.into()),
        (
            "portMappings",
            json!(mappings.map(Iterator::collect::<Vec<_>>)),
        ),
    ]))
}

fn pull_config(config: &PullConfig) -> Result<Value, String> {
    let reference = config.secret.as_ref();
    let reference = reference.and_then(|secret| secret.reference.as_ref());
    let name = reference.map(|reference| &reference.name);
    let name = name.ok_or("its pull configuration names no secret")?;
    Ok(json!({"secret": name}))
}

fn port_mapping(mapping: &PortMapping) -> Value {
    object([
        ("containerPort", json!(mapping.container_port)),
        ("hostPort", json!(mapping.host_port)),
        ("servicePort", json!(mapping.service_port)),
        ("protocol", json!(mapping.protocol)),
        ("name", json!(mapping.name)),
        ("labels", labels(&mapping.labels)),
        ("networkNames", json!(mapping.network_names)),
    ])
}

fn volume(volume: &Volume) -> Result<Value, String> {
    // `Resource.DiskInfo.Source.Type`
    const DISKS: [&str; 3] = ["", "path", "mount"];
    let persistent = volume.persistent.as_ref().map(|persistent| {
        let disk = persistent
            .disk
            .map(|disk| word(&DISKS, disk, "kind of disk"));
        Ok::<_, String>(object([
            ("type", json!(disk.transpose()?.unwrap_or("root"))),
            ("size", json!(persistent.size)),
            ("maxSize", json!(persistent.max_size)),
            ("profileName", json!(persistent.profile_name)),
            (
                "constraints",
                all(&persistent.constraints, constraint)?.into(),
            ),
        ]))
    });
    let external = match (&volume.external, &volume.csi) {
        (Some(external), _) => object([
            ("name", json!(external.name)),
            ("provider", json!(external.provider)),
            ("size", json!(external.size)),
            ("shared", json!(external.shared)),
            ("options", labels(&external.options)),
        ]),
        (None, Some(csi)) => json!({
            "name": csi.name,
            "provider": "csi",
            "options": {"pluginName": csi.plugin_name, "volumeContext": csi.volume_context},
        }),
        (None, None) => Value::Null,
    };
    let mode = if volume.mode == READ_ONLY { "RO" } else { "RW" };
    let mode = volume.secret.is_none().then_some(mode);
    Ok(object([
        ("containerPath", json!(volume.container_path)),
        ("hostPath", json!(volume.host_path)),
        ("mode", json!(mode)),
        ("persistent", json!(persistent.transpose()?)),
        ("external", external),
        (
            "secret",
            json!(volume.secret.as_ref().map(|secret| &secret.secret)),
        ),
    ]))
}

fn health_check(check: &HealthCheck) -> Result<Value, String> {
    if let Some(name) = &check.port_name {
        return Err(format!(
            "a health check names port {name}: apps name ports by index"
        ));
    }
    let protocol = word(
        &HEALTH_PROTOCOLS,
        check.protocol,
        "protocol of a health check",
    )?;
    let by_executor = protocol.starts_with("MESOS_");
    let http = protocol.contains("HTTP");
    let ip = if check.ip_protocol == Some(IPV6) {
        "IPv6"
    } else {
        "IPv4"
    };
    let command = check.command.as_ref().filter(|_| protocol == "COMMAND");
    let command = command.map(|command| json!({"value": command.value()}));
    Ok(object([
        ("protocol", json!(protocol)),
        ("command", json!(command)),
        ("path", json!(check.path.as_ref().filter(|_| http))),
        ("port", json!(check.port)),
        ("portIndex", json!(check.port_index)),
        ("gracePeriodSeconds", json!(check.grace_period_seconds())),
        ("intervalSeconds", json!(check.interval_seconds())),
        ("timeoutSeconds", json!(check.timeout_seconds())),
        (
            "maxConsecutiveFailures",
            json!(check.max_consecutive_failures()),
        ),
        ("delaySeconds", json!(check.delay_seconds())),
        (
            "ignoreHttp1xx",
            json!((http && !by_executor).then_some(check.ignore_http1xx)),
        ),
        ("ipProtocol", json!(by_executor.then_some(ip))),
    ]))
}

fn check(check: &Check) -> Result<Value, String> {
    let ports = [
        ("portIndex", json!(check.port_index)),
        ("port", json!(check.port)),
    ];
    let (kind, what) = match check.protocol {
        0 => {
            let [index, port] = ports;
            ("http", object([index, port, ("path", json!(check.path))]))
        }
        1 => ("tcp", object(ports)),
        2 => {
            let command = check.command.clone().unwrap_or_default();
            let command = if command.shell() {
                json!({"shell": command.value()})
            } else {
                json!({"argv": command.arguments})
            };
            ("exec", json!({"command": command}))
        }
        unknown => return Err(format!("protocol {unknown} of a check is unknown")),
    };
    Ok(object([
        (kind, what),
        ("intervalSeconds", json!(check.interval_seconds())),
        ("timeoutSeconds", json!(check.timeout_seconds())),
        ("delaySeconds", json!(check.delay_seconds())),
    ]))
}

fn readiness_check(check: &ReadinessCheck) -> Result<Value, String> {
    let codes = (!check.codes.is_empty()).then_some(&check.codes);
    Ok(object([
        ("name", json!(check.name)),
        (
            "protocol",
            json!(word(
                &["HTTP", "HTTPS"],
                check.protocol,
                "protocol of a readiness check"
            )?),
        ),
        ("path", json!(check.path)),
        ("portName", json!(check.port_name)),
        (
            "intervalSeconds",
            json!(check.interval_millis.map(|millis| millis / 1_000)),
        ),
        (
            "timeoutSeconds",
            json!(check.timeout_millis.map(|millis| millis / 1_000)),
        ),
        ("httpStatusCodesForReady", json!(codes)),
        ("preserveLastResponse", json!(check.preserve_last_response)),
    ]))
}
