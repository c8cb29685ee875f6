//! Checks the executor performs, in Mesos's words.

use dcos_proto::mesos::{
    CheckInfo, CommandInfo, HealthCheck as MesosCheck, check_info, health_check, network_info,
};

use crate::instance::Instance;
use crate::model::{App, CheckCommand, HealthCheck, Protocol};

/// The app's health check for the executor; Mesos takes one.
pub(super) fn health_check(app: &App, instance: &Instance) -> Option<MesosCheck> {
    let check = app
        .health_checks
        .iter()
        .find(|check| check.protocol.is_mesos())?;
    let mut mesos = MesosCheck {
        delay_seconds: Some(f64::from(check.delay_seconds)),
        interval_seconds: Some(f64::from(check.interval_seconds)),
        timeout_seconds: Some(f64::from(check.timeout_seconds)),
        consecutive_failures: Some(check.max_consecutive_failures),
        grace_period_seconds: Some(f64::from(check.grace_period_seconds)),
        ..MesosCheck::default()
    };
    let ip = if check.ip_protocol == "IPv6" {
        network_info::Protocol::IPv6
    } else {
        network_info::Protocol::IPv4
    };
    match check.protocol {
        Protocol::Command => {
            mesos.r#type = Some(health_check::Type::Command as i32);
            mesos.command = Some(shell(&check.command.as_ref()?.value));
        }
        Protocol::MesosTcp => {
            mesos.r#type = Some(health_check::Type::Tcp as i32);
            mesos.tcp = Some(health_check::TcpCheckInfo {
                port: port_of(check, app, instance)?,
                protocol: Some(ip as i32),
            });
        }
        protocol => {
            let scheme = if protocol == Protocol::MesosHttps {
                "https"
            } else {
                "http"
            };
            mesos.r#type = Some(health_check::Type::Http as i32);
            mesos.http = Some(health_check::HttpCheckInfo {
                scheme: Some(scheme.to_owned()),
                port: port_of(check, app, instance)?,
                path: check.path.clone(),
                protocol: Some(ip as i32),
                ..health_check::HttpCheckInfo::default()
            });
        }
    }
    Some(mesos)
}

/// The app's check whose result is only reported.
pub(super) fn check(app: &App, instance: &Instance) -> Option<CheckInfo> {
    let check = app.check.as_ref()?;
    let mut info = CheckInfo {
        delay_seconds: Some(f64::from(check.delay_seconds)),
        interval_seconds: Some(f64::from(check.interval_seconds)),
        timeout_seconds: Some(f64::from(check.timeout_seconds)),
        ..CheckInfo::default()
    };
    if let Some(http) = &check.http {
        info.r#type = Some(check_info::Type::Http as i32);
        info.http = Some(check_info::Http {
            port: port(http.port, http.port_index, app, instance)?,
            path: http.path.clone(),
        });
    } else if let Some(tcp) = &check.tcp {
        info.r#type = Some(check_info::Type::Tcp as i32);
        info.tcp = Some(check_info::Tcp {
            port: port(tcp.port, tcp.port_index, app, instance)?,
        });
    } else {
        let command = match &check.exec.as_ref()?.command {
            CheckCommand::Shell { shell: line } => shell(line),
            CheckCommand::Argv { argv } => CommandInfo {
                shell: Some(false),
                value: argv.first().cloned(),
                arguments: argv.clone(),
                ..CommandInfo::default()
            },
        };
        info.r#type = Some(check_info::Type::Command as i32);
        info.command = Some(check_info::Command { command });
    }
    Some(info)
}

fn port_of(check: &HealthCheck, app: &App, instance: &Instance) -> Option<u32> {
    port(check.port, check.port_index, app, instance)
}

/// The port as seen from inside the container, which is where the executor checks.
fn port(fixed: Option<u16>, index: Option<u16>, app: &App, instance: &Instance) -> Option<u32> {
    if let Some(port) = fixed {
        return Some(u32::from(port));
    }
    let at = usize::from(index.unwrap_or(0));
    let given = instance.ports.get(at).copied().flatten();
    let inside = app
        .port_mappings()
        .get(at)
        .map(|m| m.container_port)
        .filter(|port| *port != 0);
    inside.or(given).map(u32::from)
}

fn shell(line: &str) -> CommandInfo {
    CommandInfo {
        value: Some(line.to_owned()),
        ..CommandInfo::default()
    }
}
