//! The parts of a task: commands, containers, checks.

use dcos_proto::mesos::{
    CheckInfo, CommandInfo, ContainerInfo, HealthCheck, Secret, Volume, check_info, container_info,
    environment, health_check, secret, volume::source::Type,
};

type Check = Result<(), String>;

/// A command: its environment must make sense.
pub(crate) fn command(command: &CommandInfo) -> Check {
    for variable in command
        .environment
        .iter()
        .flat_map(|environment| &environment.variables)
    {
        let name = &variable.name;
        match variable.r#type() {
            environment::variable::Type::Secret => {
                let Some(secret) = &variable.secret else {
                    return Err(format!(
                        "Environment variable '{name}' of type 'SECRET' must have a secret set"
                    ));
                };
                if variable.value.is_some() {
                    return Err(format!(
                        "Environment variable '{name}' of type 'SECRET' must not have a value set"
                    ));
                }
                check_secret(secret).map_err(|error| {
                    format!("Environment variable '{name}' specifies an invalid secret: {error}")
                })?;
                if secret
                    .value
                    .as_ref()
                    .is_some_and(|value| value.data.contains(&0))
                {
                    return Err(format!(
                        "Environment variable '{name}' specifies a secret containing null bytes, which is not allowed in the environment"
                    ));
                }
            }
            environment::variable::Type::Value => {
                if variable.value.is_none() {
                    return Err(format!(
                        "Environment variable '{name}' of type 'VALUE' must have a value set"
                    ));
                }
                if variable.secret.is_some() {
                    return Err(format!(
                        "Environment variable '{name}' of type 'VALUE' must not have a secret set"
                    ));
                }
            }
            environment::variable::Type::Unknown => {
                return Err("Environment variable of type 'UNKNOWN' is not allowed".to_owned());
            }
        }
    }
    Ok(())
}

fn check_secret(secret: &Secret) -> Check {
    match secret.r#type() {
        secret::Type::Reference => match (&secret.reference, &secret.value) {
            (None, _) => {
                Err("Secret of type REFERENCE must have the 'reference' field set".to_owned())
            }
            (Some(reference), Some(_)) => Err(format!(
                "Secret '{}' of type REFERENCE must not have the 'value' field set",
                reference.name
            )),
            (Some(_), None) => Ok(()),
        },
        secret::Type::Value => match (&secret.value, &secret.reference) {
            (None, _) => Err("Secret of type VALUE must have the 'value' field set".to_owned()),
            (Some(_), Some(_)) => {
                Err("Secret of type VALUE must not have the 'reference' field set".to_owned())
            }
            (Some(_), None) => Ok(()),
        },
        secret::Type::Unknown => Ok(()),
    }
}

/// A container: its volumes and the part its type needs.
pub(crate) fn container(container: &ContainerInfo) -> Check {
    for volume in &container.volumes {
        check_volume(volume).map_err(|error| format!("Invalid volume: {error}"))?;
    }
    if container.r#type() == container_info::Type::Docker {
        let Some(docker) = &container.docker else {
            return Err("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo".to_owned());
        };
        if docker
            .parameters
            .iter()
            .any(|parameter| parameter.key == "name")
        {
            return Err("Parameter in DockerInfo must not be 'name'".to_owned());
        }
    }
    Ok(())
}

fn check_volume(info: &Volume) -> Check {
    let sources = [
        info.host_path.is_some(),
        info.image.is_some(),
        info.source.is_some(),
    ];
    if sources.into_iter().filter(|set| *set).count() > 1 {
        return Err("Only one of them should be set: 'host_path', 'image' and 'source'".to_owned());
    }
    let Some(source) = &info.source else {
        return Ok(());
    };
    let (there, field, kind) = match source.r#type() {
        Type::DockerVolume => (
            source.docker_volume.is_some(),
            "docker_volume",
            "DOCKER_VOLUME",
        ),
        Type::HostPath => (source.host_path.is_some(), "host_path", "HOST_PATH"),
        Type::SandboxPath => (
            source.sandbox_path.is_some(),
            "sandbox_path",
            "SANDBOX_PATH",
        ),
        Type::Secret => (source.secret.is_some(), "secret", "SECRET"),
        Type::CsiVolume => (source.csi_volume.is_some(), "csi_volume", "CSI"),
        Type::Unknown => return Err("'source.type' is unknown".to_owned()),
    };
    if there {
        Ok(())
    } else {
        Err(format!("'source.{field}' is not set for {kind} volume"))
    }
}

/// A check.
pub(crate) fn check(check: &CheckInfo) -> Check {
    if check.r#type.is_none() {
        return Err("CheckInfo must specify 'type'".to_owned());
    }
    match check.r#type() {
        check_info::Type::Command => {
            let Some(probe) = &check.command else {
                return Err("Expecting 'command' to be set for COMMAND check".to_owned());
            };
            check_probe(&probe.command, "Command check must contain", "Check's")?;
        }
        check_info::Type::Http => {
            let Some(http) = &check.http else {
                return Err("Expecting 'http' to be set for HTTP check".to_owned());
            };
            if let Some(path) = http.path.as_ref().filter(|path| !path.starts_with('/')) {
                return Err(format!(
                    "The path '{path}' of HTTP check must start with '/'"
                ));
            }
        }
        check_info::Type::Tcp => {
            if check.tcp.is_none() {
                return Err("Expecting 'tcp' to be set for TCP check".to_owned());
            }
        }
        check_info::Type::Unknown => return Err("'UNKNOWN' is not a valid check type".to_owned()),
    }
    times(&[
        (check.delay_seconds, "delay_seconds"),
        (check.interval_seconds, "interval_seconds"),
        (check.timeout_seconds, "timeout_seconds"),
    ])
}

/// A health check.
pub(crate) fn health_check(check: &HealthCheck) -> Check {
    if check.r#type.is_none() {
        return Err("HealthCheck must specify 'type'".to_owned());
    }
    match check.r#type() {
        health_check::Type::Command => {
            let Some(probe) = &check.command else {
                return Err("Expecting 'command' to be set for COMMAND health check".to_owned());
            };
            check_probe(probe, "Command health check must contain", "Health check's")?;
        }
        health_check::Type::Http => {
            let Some(http) = &check.http else {
                return Err("Expecting 'http' to be set for HTTP health check".to_owned());
            };
            if let Some(scheme) = http
                .scheme
                .as_ref()
                .filter(|scheme| *scheme != "http" && *scheme != "https")
            {
                return Err(format!("Unsupported HTTP health check scheme: '{scheme}'"));
            }
            if let Some(path) = http.path.as_ref().filter(|path| !path.starts_with('/')) {
                return Err(format!(
                    "The path '{path}' of HTTP health check must start with '/'"
                ));
            }
        }
        health_check::Type::Tcp => {
            if check.tcp.is_none() {
                return Err("Expecting 'tcp' to be set for TCP health check".to_owned());
            }
        }
        health_check::Type::Unknown => {
            return Err("'UNKNOWN' is not a valid health check type".to_owned());
        }
    }
    times(&[
        (check.delay_seconds, "delay_seconds"),
        (check.grace_period_seconds, "grace_period_seconds"),
        (check.interval_seconds, "interval_seconds"),
        (check.timeout_seconds, "timeout_seconds"),
    ])
}

fn check_probe(probe: &CommandInfo, must: &str, whose: &str) -> Check {
    if probe.value.is_none() {
        let what = if probe.shell.unwrap_or(true) {
            "'shell command'"
        } else {
            "'executable path'"
        };
        return Err(format!("{must} {what}"));
    }
    command(probe).map_err(|error| format!("{whose} `CommandInfo` is invalid: {error}"))
}

fn times(times: &[(Option<f64>, &str)]) -> Check {
    match times
        .iter()
        .find(|(time, _)| time.is_some_and(|time| time < 0.0))
    {
        Some((_, name)) => Err(format!("Expecting '{name}' to be non-negative")),
        None => Ok(()),
    }
}
