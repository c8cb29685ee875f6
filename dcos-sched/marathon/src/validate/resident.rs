//! Rules for apps and pods with persistent volumes.

use super::{Violations, fail};
use crate::error::Error;
use crate::model::{
    App, DiskType, Operator, PersistentVolume, RootGroup, UnreachableStrategy, Volume, VolumeMode,
};

/// Rules for one volume of an app.
pub(super) fn volume(
    volume: &Volume,
    persistent: &PersistentVolume,
    path: &str,
    out: &mut Violations,
) {
    let at = &volume.container_path;
    if at.contains('/') {
        let text = "value must not contain \"/\"";
        fail(out, format!("{path}/containerPath"), text);
    }
    if at == "." || at == ".." {
        let text = "must not be one of (.,..)";
        fail(out, format!("{path}/containerPath"), text);
    }
    if volume.mode == Some(VolumeMode::Ro) {
        fail(out, format!("{path}/mode"), "got RO, expected RW");
    }
    self::persistent(persistent, &format!("{path}/persistent"), out);
}

/// Rules for what a volume is made of.
pub(super) fn persistent(persistent: &PersistentVolume, path: &str, out: &mut Violations) {
    if persistent.size == 0 {
        let text = "got 0, expected more than 0";
        fail(out, format!("{path}/size"), text);
    }
    if persistent.max_size.is_some() && persistent.disk != DiskType::Mount {
        fail(out, path, "Only mount volumes can have maxSize");
    }
    if persistent
        .max_size
        .is_some_and(|most| most <= persistent.size)
    {
        fail(out, path, "Max size must be larger than size");
    }
    if persistent.disk == DiskType::Root && !persistent.constraints.is_empty() {
        fail(out, path, "Constraints on root volumes are not supported");
    }
    for (index, constraint) in persistent.constraints.iter().enumerate() {
        let path = format!("{path}/constraints({index})");
        if constraint.field != "path" {
            fail(out, &path, "Unsupported field");
        }
        if !matches!(constraint.operator, Operator::Like | Operator::Unlike) {
            fail(out, &path, "Operator must be one of LIKE, UNLIKE");
        }
        let value = constraint.value.as_deref();
        if value.is_none_or(|value| regex::Regex::new(value).is_err()) {
            fail(out, &path, "Invalid regular expression");
        }
    }
}

/// Rules for an app with such volumes.
pub(super) fn app(app: &App, out: &mut Violations) {
    if !app.is_resident() {
        return;
    }
    if app.role == "*" {
        fail(out, "/role", "Resident apps cannot have the role *");
    }
    if app.upgrade_strategy.maximum_over_capacity != 0.0 {
        let text = format!(
            "got {:?}, expected 0.0",
            app.upgrade_strategy.maximum_over_capacity
        );
        fail(out, "/upgradeStrategy/maximumOverCapacity", text);
    }
    if matches!(app.unreachable_strategy, UnreachableStrategy::Enabled(_)) {
        let text = "unreachableStrategy must be disabled for resident tasks";
        fail(out, "/", text);
    }
    let unreserved = ["*".to_owned()];
    if app
        .accepted_resource_roles
        .as_ref()
        .is_some_and(|roles| *roles != unreserved)
    {
        let text = "A resident app must have `acceptedResourceRoles = [\"*\"]`.";
        fail(out, "/acceptedResourceRoles", text);
    }
}

/// Rules for a pod with such volumes.
pub(crate) fn pod(pod: &App, out: &mut Violations) {
    if !pod.is_resident() {
        return;
    }
    if pod.role == "*" {
        fail(out, "/role", "Resident pods cannot have the role *");
    }
    let over = pod.upgrade_strategy.maximum_over_capacity;
    if over != 0.0 {
        let text = format!("got {over:?}, expected 0.0");
        fail(out, "/upgrade/maximumOverCapacity", text);
    }
    if matches!(pod.unreachable_strategy, UnreachableStrategy::Enabled(_)) {
        let text = "unreachableStrategy must be disabled for pods with persistent volumes";
        fail(out, "/", text);
    }
    let accepted = pod.accepted_resource_roles.iter().flatten();
    if accepted.into_iter().any(|role| role != "*") {
        let text = "A resident pod must have `acceptedResourceRoles = [\"*\"]`.";
        fail(out, "/acceptedResourceRoles", text);
    }
}

/// What is reserved is fixed: it cannot be changed with the app.
pub(crate) fn changes(before: &RootGroup, after: &RootGroup) -> Result<(), Error> {
    let mut out = Vec::new();
    for (_, old, new) in before.differences(after) {
        if let (Some(old), Some(new)) = (old, new)
            && (old.is_resident() || new.is_resident())
        {
            change(old, new, &mut out);
        }
    }
    if out.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(out))
    }
}

fn change(old: &App, new: &App, out: &mut Violations) {
    const RESOURCES: &str = "Services with persistent volumes configured may not change resource \
                             requirements. If you need to make this change, please create a new service.";
    const PORTS: &str = "Services with persistent volumes configured may not change host ports. If you \
                         need to make this change, please create a new service.";
    let path = |field: &str| format!("{}{field}", new.id);
    let volumes = |app: &App| {
        let volumes = app.persistent_volumes();
        let mut volumes: Vec<_> = volumes
            .map(|(path, volume)| (path.to_owned(), volume.clone()))
            .collect();
        volumes.sort_by(|a, b| a.0.cmp(&b.0));
        volumes
    };
    if volumes(old) != volumes(new) {
        fail(out, path(""), "Persistent volumes can not be changed!");
    }
    for (field, same) in [
        ("/cpus", same(old.cpus, new.cpus)),
        ("/mem", same(old.mem, new.mem)),
        ("/disk", same(old.disk, new.disk)),
        ("/gpus", old.gpus == new.gpus),
        ("/requirePorts", old.require_ports == new.require_ports),
    ] {
        if !same {
            fail(out, path(field), RESOURCES);
        }
    }
    if old.role != new.role {
        fail(out, path("/role"), "Resident apps cannot change their role");
    }
    // Each is reserved by itself, be its number any (0) as another's.
    let ports = |app: &App| -> Vec<u16> {
        let mapped = app.port_mappings().iter().filter_map(|port| port.host_port);
        let own = app.port_definitions().iter().map(|port| port.port);
        let own = own.filter(|_| app.require_ports);
        let endpoints = app.pod.iter().flat_map(|pod| pod.endpoints());
        let of_pod = endpoints.filter_map(|endpoint| endpoint.host_port);
        let mut all: Vec<u16> = mapped.chain(own).chain(of_pod).collect();
        all.sort_unstable();
        all
    };
    if ports(old) != ports(new) {
        fail(out, path(""), PORTS);
    }
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}
