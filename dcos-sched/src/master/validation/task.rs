//! Whether a task, or a group of them, can be launched.

use std::borrow::Cow;

use dcos_core::ids;
use dcos_core::resources::Resources;
use dcos_proto::mesos::agent_info::capability::Type as AgentCapability;
use dcos_proto::mesos::executor_info::Type as ExecutorType;
use dcos_proto::mesos::{
    CheckInfo, ContainerInfo, ExecutorInfo, HealthCheck, Resource, Task, TaskGroupInfo, TaskInfo,
    check_info, container_info, health_check,
};

use super::executor::{executor, least};
use super::parts;
use super::resources::{one_role, overlap, resources, unique_persistence, unmixed};
use crate::master::{Agent, Framework, TaskRecord};

pub(super) type Check = Result<(), String>;

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
    let all_alike = match group.tasks.first() {
        Some(first) => {
            let shared = is_shared(first.container.as_ref());
            let alike = |task: &TaskInfo| is_shared(task.container.as_ref()) == shared;
            group.tasks.iter().all(alike)
                && earlier(framework, agent, info)
                    .all(|task| is_shared(task.container.as_deref()) == shared)
        }
        None => true,
    };
    if !all_alike {
        return Err("If set, the value of 'share_cgroups' must be the same for all tasks in each task group and under a single executor".to_owned());
    }
    Ok(())
}

/// Tasks that an executor has already; none if it is to be started.
fn earlier<'a>(
    framework: &'a Framework,
    agent: &'a Agent,
    info: &'a ExecutorInfo,
) -> impl Iterator<Item = Cow<'a, Task>> {
    let (of, at) = (framework.id(), agent.id());
    let is_known = framework.has_executor(&at, &info.executor_id);
    let own = agent
        .tasks
        .iter()
        .filter(move |(framework, _)| *framework == of);
    let known = own.filter_map(|(_, id)| framework.tasks.get(id));
    let all = known
        .chain(&framework.unreachable_tasks)
        .filter(move |_| is_known);
    all.map(TaskRecord::read).filter(move |task| {
        task.agent_id == at && task.executor_id.as_ref() == Some(&info.executor_id)
    })
}

/// What holds for any task, apart from its executor. The order decides which error is told.
fn itself(task: &TaskInfo, framework: &Framework, agent: &Agent) -> Check {
    ids::validate(&task.task_id.value).map_err(|error| error.to_string())?;
    let id = &task.task_id;
    if framework.tasks.contains_key(id) {
        return Err(format!("Task has duplicate ID: {id}"));
    }
    if framework.unreachable_tasks.get(id).is_some() {
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

/// Whether a member of a group is in the cgroups of its executor.
fn is_shared(container: Option<&ContainerInfo>) -> bool {
    share_cgroups(container).unwrap_or(true)
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
