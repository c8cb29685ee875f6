//! Rules for health and readiness checks.

use super::{Violations, fail};
use crate::model::{App, EngineType, Protocol};

pub(super) fn checks(app: &App, out: &mut Violations) {
    let ports = app.port_count();
    for (index, check) in app.health_checks.iter().enumerate() {
        let path = format!("/healthChecks({index})");
        let has_port = match check.port_index {
            Some(index) => usize::from(index) < ports,
            None => check.port.is_some() || ports == 1,
        };
        if check.command.is_none() && !check.protocol.is_mesos() && !has_port {
            fail(
                out,
                &path,
                "Health check port indices must address an element of the ports array or container \
                 port mappings.",
            );
        }
        if check.protocol == Protocol::Command && check.command.is_none() {
            fail(out, format!("{path}/command"), "not defined");
        }
        let docker = app
            .container
            .as_ref()
            .is_some_and(|c| c.engine == EngineType::Docker);
        let asked = check.protocol.is_mesos() && check.protocol != Protocol::Command;
        if check.ip_protocol != "IPv4" && !(asked && docker) {
            fail(
                out,
                &path,
                "IPv6 can only be used for container type DOCKER and Mesos http/https/tcp health \
                 checks",
            );
        }
    }
    let by_mesos = app
        .health_checks
        .iter()
        .filter(|check| check.command.is_none() && check.protocol.is_mesos())
        .count();
    if by_mesos > 1 {
        fail(
            out,
            "/",
            "AppDefinition can contain at most one Mesos health check",
        );
    }
    readiness(app, out);
}

fn readiness(app: &App, out: &mut Violations) {
    if app.readiness_checks.len() > 1 {
        let text = format!("got {}, expected 1 or less", app.readiness_checks.len());
        fail(out, "/readinessChecks", text);
    }
    for (index, check) in app.readiness_checks.iter().enumerate() {
        let path = format!("/readinessChecks({index})");
        let names = app
            .port_mappings()
            .iter()
            .map(|mapping| &mapping.name)
            .chain(app.port_definitions().iter().map(|port| &port.name));
        if !names.flatten().any(|name| *name == check.port_name) {
            let text = format!(
                "No port definition reference for portName {}",
                check.port_name
            );
            fail(out, format!("{path}/portName"), text);
        }
        if check.timeout_seconds >= check.interval_seconds {
            let (got, bound) = (check.timeout_seconds, check.interval_seconds);
            let text = format!("got {got}, expected less than {bound}");
            fail(out, format!("{path}/timeoutSeconds"), text);
        }
    }
}
