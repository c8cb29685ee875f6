//! Whether a task, or a group of them, can be launched.

use dcos_core::ids;
use dcos_core::resources::{Quantities, Resources, validate_all};
use dcos_proto::mesos::agent_info::capability::Type as AgentCapability;
use dcos_proto::mesos::executor_info::Type as ExecutorType;
use dcos_proto::mesos::{
    CheckInfo, ContainerInfo, ExecutorInfo, HealthCheck, Resource, TaskGroupInfo, TaskInfo,
    check_info, container_info, health_check,
};

use super::parts;
use crate::master::{Agent, Framework};

type Check = Result<(), String>;

/// A task of a LAUNCH, against what is left of the offers.
pub(crate) fn single(
    task: &TaskInfo,
    framework: &Framework,
    agent: &Agent,
    offered: &Resources,
) -> Check {
    itself(task, framework, agent)?;
    if task.executor.is_some() == task.command.is_some() {
        return Err(
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
                .to_owned(),
        );
    }
    let mut total = Resources::from(&task.resources);
    if let Some(info) = &task.executor {
        executor(info, framework, agent)?;
        if info.r#type.is_some() && info.r#type() != ExecutorType::Custom {
            return Err("'ExecutorInfo.type' must be 'CUSTOM'".to_owned());
        }
        if info.command.is_none() {
            return Err("'ExecutorInfo.command' must be set".to_owned());
        }
        both(&task.resources, &info.resources)?;
        if !framework.has_executor(&agent.id(), &info.executor_id) {
            total += &Resources::from(&info.resources);
        }
        if share_cgroups(info.container.as_ref()) == Some(true) {
            return Err(
                "The 'share_cgroups' field cannot be set to 'true' on executor containers"
                    .to_owned(),
            );
        }
    }
    if !offered.contains(&total) {
        return Err(format!(
            "Total resources {total} required by task and its executor is more than available {offered}"
        ));
    }
    if share_cgroups(task.container.as_ref()) == Some(false) {
        return Err(
            "Only tasks in a task group may have 'share_cgroups' set to 'false'".to_owned(),
        );
    }
    Ok(())
}

/// The tasks of a `LAUNCH_GROUP` and their executor, against what is left of the offers.
pub(crate) fn group(
    group: &TaskGroupInfo,
    info: &ExecutorInfo,
    framework: &Framework,
    agent: &Agent,
    offered: &Resources,
) -> Check {
    let shared = |task: &TaskInfo| share_cgroups(task.container.as_ref()).unwrap_or(true);
    for task in &group.tasks {
        let id = &task.task_id;
        member(task, framework, agent)
            .map_err(|error| format!("Task '{id}' is invalid: {error}"))?;
        if group
            .tasks
            .iter()
            .filter(|other| other.task_id == *id)
            .count()
            > 1
        {
            return Err(format!(
                "Task '{id}' is invalid: Task has duplicate ID: {id}"
            ));
        }
    }
    executor(info, framework, agent)?;
    if info.r#type.is_none() {
        return Err("'ExecutorInfo.type' must be set".to_owned());
    }
    if info.r#type() == ExecutorType::Unknown {
        return Err("Unknown executor type".to_owned());
    }
    if is_docker(info.container.as_ref()) {
        return Err("Docker ContainerInfo is not supported on the executor".to_owned());
    }
    for task in &group.tasks {
        if task.executor.as_ref().is_some_and(|own| own != info) {
            return Err(format!(
                "The `ExecutorInfo` of task '{}' is different from executor '{}'",
                task.task_id, info.executor_id
            ));
        }
    }
    least(info)?;
    let mut all = info.resources.clone();
    all.extend(
        group
            .tasks
            .iter()
            .flat_map(|task| task.resources.iter().cloned()),
    );
    unique_persistence(&all).map_err(|error| {
        format!("Task group and executor use duplicate persistence ID: {error}")
    })?;
    unmixed(&all).map_err(|error| {
        format!("Task group and executor mix revocable and non-revocable resources: {error}")
    })?;
    let parts = group
        .tasks
        .iter()
        .map(|task| &task.resources)
        .chain([&info.resources]);
    if overlap(parts.map(Vec::as_slice)) {
        return Err(
            "There are overlapping resources in the task group's task and/or executor resources"
                .to_owned(),
        );
    }
    let mut total = Resources::default();
    for task in &group.tasks {
        total += &Resources::from(&task.resources);
    }
    if !framework.has_executor(&agent.id(), &info.executor_id) {
        total += &Resources::from(&info.resources);
    }
    if !offered.contains(&total) {
        return Err(format!(
            "Total resources {total} required by task group and its executor are more than available {offered}"
        ));
    }
    if share_cgroups(info.container.as_ref()) == Some(true) {
        return Err(
            "The 'share_cgroups' field cannot be set to 'true' on executor containers".to_owned(),
        );
    }
    if group
        .tasks
        .windows(2)
        .any(|pair| shared(&pair[0]) != shared(&pair[1]))
    {
        return Err("If set, the value of 'share_cgroups' must be the same for all tasks in each task group and under a single executor".to_owned());
    }
    Ok(())
}

/// What holds for any task, apart from its executor. The order decides which error is told.
fn itself(task: &TaskInfo, framework: &Framework, agent: &Agent) -> Check {
    ids::validate(&task.task_id.value).map_err(|error| error.to_string())?;
    let id = &task.task_id;
    if framework.tasks.contains_key(id) {
        return Err(format!("Task has duplicate ID: {id}"));
    }
    if framework
        .unreachable_tasks
        .iter()
        .any(|lost| lost.task_id == *id)
    {
        return Err(format!("Task reuses the ID of an unreachable task: {id}"));
    }
    if task.agent_id != agent.id() {
        return Err(format!(
            "Task uses invalid agent {} while agent {} is expected",
            task.agent_id,
            agent.id()
        ));
    }
    let grace = task.kill_policy.and_then(|policy| policy.grace_period);
    if grace.is_some_and(|grace| grace.nanoseconds < 0) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if task
        .max_completion_time
        .is_some_and(|time| time.nanoseconds < 0)
    {
        return Err("Task's `max_completion_time` must be non-negative".to_owned());
    }
    if let Some(check) = &task.check {
        parts::check(check).map_err(|error| format!("Task uses invalid check: {error}"))?;
    }
    if let Some(check) = &task.health_check {
        parts::health_check(check)
            .map_err(|error| format!("Task uses invalid health check: {error}"))?;
    }
    if task.resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    resources(&task.resources).map_err(|error| format!("Task uses invalid resources: {error}"))?;
    unique_persistence(&task.resources)
        .map_err(|error| format!("Task uses duplicate persistence ID: {error}"))?;
    one_role(&task.resources).map_err(|error| format!("Invalid task resources: {error}"))?;
    unmixed(&task.resources)
        .map_err(|error| format!("Task mixes revocable and non-revocable resources: {error}"))?;
    if let Some(command) = &task.command {
        parts::command(command)
            .map_err(|error| format!("Task's `CommandInfo` is invalid: {error}"))?;
    }
    if let Some(container) = &task.container {
        parts::container(container)
            .map_err(|error| format!("Task's `ContainerInfo` is invalid: {error}"))?;
    }
    limits(task, agent)
}

/// What holds for a member of a group beyond that.
fn member(task: &TaskInfo, framework: &Framework, agent: &Agent) -> Check {
    itself(task, framework, agent)?;
    if let Some(container) = &task.container {
        if !container.network_infos.is_empty()
            && (probes_network(task.health_check.as_ref()) || checks_network(task.check.as_ref()))
        {
            return Err("HTTP and TCP health checks are not supported for nested containers not joining parent's network".to_owned());
        }
        if is_docker(Some(container)) {
            return Err("Docker ContainerInfo is not supported on the task".to_owned());
        }
    }
    if !task.limits.is_empty() && share_cgroups(task.container.as_ref()) != Some(false) {
        return Err("Resource limits may only be set for tasks within a task group when the 'share_cgroups' field is set to 'false'.".to_owned());
    }
    Ok(())
}

/// What holds for any executor.
fn executor(info: &ExecutorInfo, framework: &Framework, agent: &Agent) -> Check {
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

/// A task and an executor of its own together.
fn both(task: &[Resource], executor: &[Resource]) -> Check {
    if overlap([task, executor].into_iter()) {
        return Err(
            "There are overlapping resources in the task resources and executor resources"
                .to_owned(),
        );
    }
    let all: Vec<Resource> = task.iter().chain(executor).cloned().collect();
    unique_persistence(&all)
        .map_err(|error| format!("Task and its executor use duplicate persistence ID: {error}"))?;
    unmixed(&all).map_err(|error| {
        format!("Task and its executor mix revocable and non-revocable resources: {error}")
    })
}

/// What the default executor needs for itself.
fn least(info: &ExecutorInfo) -> Check {
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

fn resources(resources: &[Resource]) -> Check {
    validate_all(resources).map_err(|error| format!("Invalid resources: {error}"))?;
    for resource in resources {
        let amount = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
        if resource.name == "gpus" && amount.fract() != 0.0 {
            return Err(
                "Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn one_role(resources: &[Resource]) -> Check {
    let mut role: Option<&str> = None;
    for resource in resources {
        let own = resource
            .allocation_info
            .as_ref()
            .and_then(|allocation| allocation.role.as_deref());
        let Some(own) = own else {
            return Err("The resources are not allocated to a role".to_owned());
        };
        let first = *role.get_or_insert(own);
        if first != own {
            return Err(format!(
                "The resources have multiple allocation roles ('{own}' and '{first}') but only one allocation role is allowed"
            ));
        }
    }
    Ok(())
}

fn unique_persistence(resources: &[Resource]) -> Check {
    let mut seen = std::collections::BTreeSet::new();
    for resource in resources
        .iter()
        .filter(|resource| resource.shared.is_none())
    {
        let id = resource
            .disk
            .as_ref()
            .and_then(|disk| disk.persistence.as_ref())
            .map(|persistence| &persistence.id);
        let role = resource
            .reservations
            .last()
            .and_then(|reservation| reservation.role.as_ref());
        if let Some(id) = id
            && !seen.insert((role, id))
        {
            return Err(format!("Persistence ID '{id}' is not unique"));
        }
    }
    Ok(())
}

fn unmixed(resources: &[Resource]) -> Check {
    let mixed = resources.iter().find(|one| {
        one.revocable.is_some()
            && resources
                .iter()
                .any(|other| other.name == one.name && other.revocable.is_none())
    });
    match mixed {
        Some(one) => Err(format!(
            "Cannot use both revocable and non-revocable '{}' at the same time",
            one.name
        )),
        None => Ok(()),
    }
}

/// Whether ranges or sets of different parts share an element.
fn overlap<'a>(parts: impl Iterator<Item = &'a [Resource]>) -> bool {
    let mut apart = Quantities::default();
    let mut together = Resources::default();
    for part in parts {
        let part = Resources::from(part);
        apart.add_all(&part.scalar_quantities());
        for range in part
            .iter()
            .filter_map(|resource| resource.ranges.as_ref().map(|ranges| (resource, ranges)))
        {
            let known = together.ranges(&range.0.name);
            let own = dcos_core::resources::Ranges::from_proto(range.1);
            if known.minus(&own) != known {
                return true;
            }
        }
        together += &part;
    }
    false
}

fn limits(task: &TaskInfo, agent: &Agent) -> Check {
    if task.limits.is_empty() {
        return Ok(());
    }
    if !agent.has(AgentCapability::TaskResourceLimits) {
        return Err("Agent is not capable of handling task resource limits".to_owned());
    }
    let requests = Resources::from(&task.resources);
    for (name, limit) in &task.limits {
        let (request, what, article) = match name.as_str() {
            "cpus" => (requests.cpus(), "CPU", "cpu"),
            "mem" => (requests.mem(), "memory", "memory"),
            _ => {
                return Err(
                    "Only cpus and mem may be included in a task's resource limits".to_owned(),
                );
            }
        };
        let Some(request) = request else {
            return Err(format!(
                "When a {what} limit is specified, a {what} request must also be specified"
            ));
        };
        if limit.value < request {
            return Err(format!(
                "The {article} limit must be greater than or equal to the {article} request"
            ));
        }
    }
    Ok(())
}

fn share_cgroups(container: Option<&ContainerInfo>) -> Option<bool> {
    container?.linux_info.as_ref()?.share_cgroups
}

fn is_docker(container: Option<&ContainerInfo>) -> bool {
    container.is_some_and(|container| container.r#type() == container_info::Type::Docker)
}

fn probes_network(check: Option<&HealthCheck>) -> bool {
    check.is_some_and(|check| {
        matches!(
            check.r#type(),
            health_check::Type::Http | health_check::Type::Tcp
        )
    })
}

fn checks_network(check: Option<&CheckInfo>) -> bool {
    check.is_some_and(|check| {
        matches!(
            check.r#type(),
            check_info::Type::Http | check_info::Type::Tcp
        )
    })
}
