//! Rules for pods.

use std::collections::BTreeSet;

use super::rules::{feature, unique};
use super::{Violations, fail, id};
use crate::model::{
    CheckCommand, EnvValue, Exec, NetworkMode, Pod, PodCheck, PodContainer, UnreachableStrategy,
};
use crate::normalize::Rules;

/// What executors have in their sandboxes.
const OCCUPIED: [&str; 5] = ["containers", "stderr", "stdout", "tasks", "volumes"];

const NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Rules for a pod on its own, as it was sent.
pub(crate) fn rules(pod: &Pod, context: &Rules, out: &mut Violations) {
    id(&pod.id, "/id", out);
    if pod.id.is_root() {
        fail(out, "/id", "Path must contain at least one path element");
    }
    if !pod.secrets.is_empty() {
        feature("secrets", "/secrets", context, out);
    }
    environment(&pod.environment, "/environment", pod, context, out);
    if pod.containers.is_empty() {
        fail(out, "/containers", "must not be empty");
    }
    let names = pod.containers.iter().map(|container| &container.name);
    if !unique(names) {
        fail(out, "/containers", "container names must be unique");
    }
    for (index, each) in pod.containers.iter().enumerate() {
        container(each, &format!("/containers({index})"), pod, context, out);
    }
    endpoints(pod, out);
    volumes(pod, context, out);
    super::network::combination(&pod.networks, context, out);
    scheduling(pod, out);
}

fn environment(
    variables: &std::collections::BTreeMap<String, EnvValue>,
    path: &str,
    pod: &Pod,
    context: &Rules,
    out: &mut Violations,
) {
    for (name, value) in variables {
        let first = name.starts_with(|c: char| c.is_ascii_digit());
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.len() > 254 || first || !name.chars().all(plain) {
            let text = "must fully match regular expression '^[a-zA-Z_][a-zA-Z0-9_]{0,253}$'";
            fail(out, format!("{path}({name})"), text);
        }
        if let EnvValue::Secret { secret } = value {
            feature("secrets", path, context, out);
            if !pod.secrets.contains_key(secret) {
                let text = "references an undefined secret";
                fail(out, format!("{path}/{name}"), text);
            }
        }
    }
}

fn container(
    container: &PodContainer,
    path: &str,
    pod: &Pod,
    context: &Rules,
    out: &mut Violations,
) {
    name(&container.name, &format!("{path}/name"), out);
    super::limits(
        container.resource_limits.as_ref(),
        container.resources.cpus,
        container.resources.mem,
        &format!("{path}/resourceLimits"),
        out,
    );
    if container.resource_limits.is_some() && pod.legacy_shared_cgroups == Some(true) {
        let text = "resourceLimits cannot be defined if legacySharedCgroups is enabled";
        fail(out, format!("{path}/resourceLimits"), text);
    }
    if container.resources.gpus > 0 {
        feature("gpu_resources", path, context, out);
    }
    if let Some(exec) = &container.exec {
        command(exec, &format!("{path}/exec/command"), out);
    }
    let of_container = format!("{path}/environment");
    environment(&container.environment, &of_container, pod, context, out);
    if let Some(pull) = container
        .image
        .as_ref()
        .and_then(|i| i.pull_config.as_ref())
    {
        let path = format!("{path}/image/pullConfig");
        feature("secrets", &path, context, out);
        if !pod.secrets.contains_key(&pull.secret) {
            let text = "pullConfig.secret must refer to an existing secret";
            fail(out, path, text);
        }
    }
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        if !pod.volumes.iter().any(|volume| volume.name == mount.name) {
            let text = "Referenced Volume in VolumeMount should exist";
            fail(out, format!("{path}/volumeMounts({index})/name"), text);
        }
    }
    for (index, artifact) in container.artifacts.iter().enumerate() {
        if artifact.uri.is_empty() || !super::uri(&artifact.uri) {
            let path = format!("{path}/artifacts({index})/uri");
            fail(out, path, "URI has invalid syntax.");
        }
    }
    if let Some(health) = &container.health_check {
        check(
            &health.check,
            container,
            &format!("{path}/healthCheck"),
            out,
        );
    }
    if let Some(reported) = &container.check {
        check(reported, container, &format!("{path}/check"), out);
    }
    let container_mode = pod
        .networks
        .iter()
        .filter(|n| n.mode == NetworkMode::Container);
    let containers = container_mode.count();
    let host = pod.networks.iter().all(crate::model::Network::is_host);
    let known: BTreeSet<&String> = pod
        .networks
        .iter()
        .filter_map(|n| n.name.as_ref())
        .collect();
    for (index, endpoint) in container.endpoints.iter().enumerate() {
        let path = format!("{path}/endpoints({index})");
        name(&endpoint.name, &format!("{path}/name"), out);
        if host && endpoint.container_port.is_some() {
            let text = "is not allowed when using host-mode networking";
            fail(out, format!("{path}/containerPort"), text);
        }
        if containers > 0 && endpoint.container_port.is_none() {
            let text = "is required when using container-mode networking";
            fail(out, format!("{path}/containerPort"), text);
        }
        if !unique(&endpoint.protocol) {
            let text = "Duplicate protocols within the same endpoint are not allowed";
            fail(out, format!("{path}/protocol"), text);
        }
        for (index, network) in endpoint.network_names.iter().enumerate() {
            if !known.contains(network) {
                let known: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
                let text = format!("is not one of ({})", known.join(","));
                fail(out, format!("{path}/networkNames({index})"), text);
            }
        }
        if containers > 1 && endpoint.host_port.is_some() && endpoint.network_names.len() != 1 {
            let text = "networkNames must be a single item list when hostPort is specified and more \
                        than 1 container network is defined";
            fail(out, path, text);
        }
    }
}

fn name(name: &str, path: &str, out: &mut Violations) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = name.starts_with(plain)
        && name.ends_with(plain)
        && name.chars().all(|c| plain(c) || c == '-');
    if !good || name.len() > 63 {
        let text = format!("must fully match regular expression '{NAME}'");
        fail(out, path, text);
    }
}

fn command(exec: &Exec, path: &str, out: &mut Violations) {
    if let CheckCommand::Argv { argv } = &exec.command
        && argv.is_empty()
    {
        fail(out, format!("{path}/argv"), "must not be empty");
    }
}

fn check(check: &PodCheck, container: &PodContainer, path: &str, out: &mut Violations) {
    if check.timeout_seconds >= check.interval_seconds {
        let text = "must be less than intervalSeconds";
        fail(out, format!("{path}/timeoutSeconds"), text);
    }
    let kinds = [
        check.http.is_some(),
        check.tcp.is_some(),
        check.exec.is_some(),
    ];
    if kinds.iter().filter(|kind| **kind).count() != 1 {
        let text = "Only one of http, tcp, or command may be specified";
        fail(out, path, text);
    }
    for (kind, target) in [("http", &check.http), ("tcp", &check.tcp)] {
        let Some(target) = target else { continue };
        if !container
            .endpoints
            .iter()
            .any(|e| e.name == target.endpoint)
        {
            let text = "contained in the container endpoints";
            fail(out, format!("{path}/{kind}/endpoint"), text);
        }
    }
    if let Some(exec) = &check.exec {
        command(exec, &format!("{path}/exec/command"), out);
    }
}

/// Names and numbers of endpoints are unique in the whole pod.
fn endpoints(pod: &Pod, out: &mut Violations) {
    if !unique(pod.endpoints().map(|endpoint| &endpoint.name)) {
        let text = "endpoint names nust be unique across all containers";
        fail(out, "/", text);
    }
    let given = |port: Option<u16>| port.filter(|port| *port != 0);
    if !unique(pod.endpoints().filter_map(|e| given(e.container_port))) {
        let text = "container ports must be unique across all containers";
        fail(out, "/", text);
    }
    if !unique(pod.endpoints().filter_map(|e| given(e.host_port))) {
        fail(out, "/", "host ports must be unique across all containers");
    }
}

fn volumes(pod: &Pod, context: &Rules, out: &mut Violations) {
    if !unique(pod.volumes.iter().map(|volume| &volume.name)) {
        fail(out, "/volumes", "volume names must be unique");
    }
    for (index, volume) in pod.volumes.iter().enumerate() {
        let path = format!("/volumes({index})");
        name(&volume.name, &format!("{path}/name"), out);
        let mounts = pod.containers.iter().flat_map(|c| &c.volume_mounts);
        if !mounts.into_iter().any(|mount| mount.name == volume.name) {
            let text = "volume must be referenced by at least one container";
            fail(out, &path, text);
        }
        let kinds = [
            volume.host.is_some(),
            volume.secret.is_some(),
            volume.persistent.is_some(),
        ];
        if kinds.iter().filter(|kind| **kind).count() > 1 {
            fail(out, &path, "Unknown pod volume type");
        }
        if let Some(secret) = &volume.secret {
            feature("secrets", &path, context, out);
            if !pod.secrets.contains_key(secret) {
                fail(out, &path, "volume.secret must refer to an existing secret");
            }
        }
        if let Some(persistent) = &volume.persistent {
            super::resident::persistent(persistent, &format!("{path}/persistent"), out);
            // The volume appears under its name in the executor's sandbox, beside these.
            if OCCUPIED.contains(&volume.name.as_str()) {
                let text = format!("must not be one of ({})", OCCUPIED.join(","));
                fail(out, format!("{path}/name"), text);
            }
        }
    }
}

fn scheduling(pod: &Pod, out: &mut Violations) {
    let placement = pod.scheduling.placement.as_ref();
    let words: Vec<Vec<String>> = placement
        .iter()
        .flat_map(|placement| &placement.constraints)
        .map(|constraint| {
            let words = [constraint.field_name.clone(), constraint.operator.clone()];
            words.into_iter().chain(constraint.value.clone()).collect()
        })
        .collect();
    for (index, words) in words.iter().enumerate() {
        if let Some(error) = super::constraint(words) {
            let path = format!("/scheduling/placement/constraints({index})");
            fail(out, path, error);
        }
    }
    if let Some(UnreachableStrategy::Enabled(unreachable)) = pod.scheduling.unreachable_strategy
        && unreachable.inactive_after_seconds > unreachable.expunge_after_seconds
    {
        let text = "inactiveAfterSeconds must be less or equal to expungeAfterSeconds";
        fail(out, "/scheduling/unreachableStrategy", text);
    }
}
