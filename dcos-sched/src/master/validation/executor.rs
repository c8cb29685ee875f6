//! Whether an executor can be started.

use dcos_core::ids;
use dcos_core::resources::Resources;
use dcos_proto::mesos::executor_info::Type as ExecutorType;
use dcos_proto::mesos::{ExecutorInfo, container_info};

use super::parts;
use super::resources::{one_role, resources, unique_persistence, unmixed};
use super::task::Check;
use crate::master::{Agent, Framework};

/// What holds for any executor.
pub(super) fn executor(info: &ExecutorInfo, framework: &Framework, agent: &Agent) -> Check {
    ids::validate(&info.executor_id.value).map_err(|error| error.to_string())?;
    match info.r#type() {
        ExecutorType::Default => {
            if info.command.is_some() {
                return Err(
                    "'ExecutorInfo.command' must not be set for 'DEFAULT' executor".to_owned(),
                );
            }
            if let Some(container) = &info.container {
                if container.r#type() != container_info::Type::Mesos {
                    return Err(
                        "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor"
                            .to_owned(),
                    );
                }
                if container
                    .mesos
                    .as_ref()
                    .is_some_and(|mesos| mesos.image.is_some())
                {
                    return Err("'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor".to_owned());
                }
            }
        }
        ExecutorType::Custom if info.command.is_none() => {
            return Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".to_owned());
        }
        ExecutorType::Custom | ExecutorType::Unknown => {}
    }
    let known = framework
        .executors
        .get(&agent.id())
        .and_then(|executors| executors.get(&info.executor_id));
    if known.is_some_and(|known| !compatible(known, info)) {
        return Err(
            "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID."
                .to_owned(),
        );
    }
    match &info.framework_id {
        None => return Err("'ExecutorInfo.framework_id' must be set".to_owned()),
        Some(id) if *id != framework.id() => {
            return Err(format!(
                "ExecutorInfo has an invalid FrameworkID (Actual: {id} vs Expected: {})",
                framework.id()
            ));
        }
        Some(_) => {}
    }
    if info
        .shutdown_grace_period
        .is_some_and(|grace| grace.nanoseconds < 0)
    {
        return Err("ExecutorInfo's 'shutdown_grace_period' must be non-negative".to_owned());
    }
    resources(&info.resources)
        .map_err(|error| format!("Executor uses invalid resources: {error}"))?;
    unique_persistence(&info.resources)
        .map_err(|error| format!("Executor uses duplicate persistence ID: {error}"))?;
    one_role(&info.resources).map_err(|error| format!("Invalid executor resources: {error}"))?;
    unmixed(&info.resources).map_err(|error| {
        format!("Executor mixes revocable and non-revocable resources: {error}")
    })?;
    if let Some(command) = &info.command {
        parts::command(command)
            .map_err(|error| format!("Executor's `CommandInfo` is invalid: {error}"))?;
    }
    if let Some(container) = &info.container {
        parts::container(container)
            .map_err(|error| format!("Executor's `ContainerInfo` is invalid: {error}"))?;
    }
    Ok(())
}

/// The same executor, however its resources are written.
fn compatible(known: &ExecutorInfo, info: &ExecutorInfo) -> bool {
    let without = |info: &ExecutorInfo| ExecutorInfo {
        resources: Vec::new(),
        ..info.clone()
    };
    without(known) == without(info)
        && Resources::from(&known.resources) == Resources::from(&info.resources)
}

/// What the default executor needs for itself.
pub(super) fn least(info: &ExecutorInfo) -> Check {
    let resources = Resources::from(&info.resources);
    let id = &info.executor_id;
    match resources.cpus() {
        None => return Err(format!("Executor '{id}' uses no cpus")),
        Some(cpus) if cpus < 0.01 => {
            return Err(format!(
                "Executor '{id}' uses less CPUs ({cpus}) than the minimum required (0.01)"
            ));
        }
        Some(_) => {}
    }
    match resources.mem() {
        None => return Err(format!("Executor '{id}' uses no memory")),
        Some(mem) if mem < 32.0 => {
            return Err(format!(
                "Executor '{id}' uses less memory ({mem}MB) than the minimum required (32MB)"
            ));
        }
        Some(_) => {}
    }
    if resources.disk().is_none() {
        return Err(format!("Executor '{id}' uses no disk"));
    }
    Ok(())
}
