//! Operator calls about single containers: launch, wait, kill, remove.
//!
//! Nested containers live in the container of an executor, or in a standalone one. Their sandbox
//! is below its, and they end with it. Standalone containers belong to nobody: who launched one
//! has to remove it, and the agent takes them up again after a restart.

use axum::response::Response;
use dcos_proto::agent::{Call, Response as Answer, call, response};
use dcos_proto::mesos::ContainerId;
use dcos_wire::{MediaType, Refusal, reply};
use futures::FutureExt;
use http::StatusCode;

use super::Context;
use super::operator::{missing, respond, shown};
use crate::agent::containers::{Home, has_own_root};
use crate::agent::tasks::environment_of;
use crate::checkpoint::paths;
use crate::containerizer::{ContainerConfig, ContainerTermination, ContainerizerError, sandbox};
use crate::isolator::filesystem::AGENT_SOCKET_VARIABLE;

pub(super) async fn answer(
    context: &Context,
    call: Call,
    media: MediaType,
) -> Result<Response, Refusal> {
    match call.r#type() {
        call::Type::LaunchNestedContainer => {
            let launch = call.launch_nested_container;
            let launch = launch.ok_or_else(|| missing("launch_nested_container"))?;
            launch_nested(
                context,
                call::LaunchContainer {
                    container_id: launch.container_id,
                    command: launch.command,
                    container: launch.container,
                    ..call::LaunchContainer::default()
                },
            )
            .await
        }
        call::Type::LaunchContainer => {
            let launch = call
                .launch_container
                .ok_or_else(|| missing("launch_container"))?;
            launch_nested(context, launch).await
        }
        call::Type::WaitNestedContainer => {
            let wait = call.wait_nested_container;
            let wait = wait.ok_or_else(|| missing("wait_nested_container"))?;
            let ended = wait_for(context, &wait.container_id).await?.to_message();
            let mut answer = Answer::default();
            answer.set_type(response::Type::WaitNestedContainer);
            answer.wait_nested_container = Some(response::WaitNestedContainer {
                exit_status: ended.exit_status,
                state: ended.state,
                reason: ended.reason,
                limitation: ended.limitation,
                message: ended.message,
            });
            Ok(respond(media, &answer))
        }
        call::Type::WaitContainer => {
            let wait = call
                .wait_container
                .ok_or_else(|| missing("wait_container"))?;
            let ended = wait_for(context, &wait.container_id).await?.to_message();
            let mut answer = Answer::default();
            answer.set_type(response::Type::WaitContainer);
            answer.wait_container = Some(ended);
            Ok(respond(media, &answer))
        }
        call::Type::KillNestedContainer => {
            let kill = call.kill_nested_container;
            let kill = kill.ok_or_else(|| missing("kill_nested_container"))?;
            signal(context, &kill.container_id, kill.signal).await
        }
        call::Type::KillContainer => {
            let kill = call
                .kill_container
                .ok_or_else(|| missing("kill_container"))?;
            signal(context, &kill.container_id, kill.signal).await
        }
        call::Type::RemoveNestedContainer => {
            let remove = call.remove_nested_container;
            let remove = remove.ok_or_else(|| missing("remove_nested_container"))?;
            forget(context, &remove.container_id).await
        }
        call::Type::RemoveContainer => {
            let remove = call
                .remove_container
                .ok_or_else(|| missing("remove_container"))?;
            forget(context, &remove.container_id).await
        }
        call::Type::AddResourceProviderConfig
        | call::Type::UpdateResourceProviderConfig
        | call::Type::RemoveResourceProviderConfig
        | call::Type::MarkResourceProviderGone => Err(Refusal::not_implemented(format!(
            "{} is not offered by this agent: it has no resource providers",
            call.r#type().as_str_name()
        ))),
        other => Err(Refusal::not_implemented(format!(
            "{} is not offered by this agent",
            other.as_str_name()
        ))),
    }
}

async fn launch_nested(
    context: &Context,
    launch: call::LaunchContainer,
) -> Result<Response, Refusal> {
    let id = launch.container_id;
    let (standalone, home) = home_of(context, id.root_id()).await?;
    if standalone && id.parent.is_some() && !is_known(context, id.root_id()).await {
        let root = shown(id.root_id());
        let text = format!("Parent container {root} does not exist");
        return Err(Refusal::bad_request(text));
    }
    let (sandbox, mut environment, user) = home;
    if has_own_root(launch.container.as_ref()) {
        environment.remove(AGENT_SOCKET_VARIABLE);
    }
    if let Some(command) = &launch.command {
        environment.extend(environment_of(command));
    }
    let own_user = launch
        .command
        .as_ref()
        .and_then(|command| command.user.clone());
    let config = ContainerConfig {
        command: launch.command,
        container: launch.container,
        resources: launch.resources,
        limits: launch.limits,
        environment,
        directory: paths::nested_sandbox(&sandbox, &id),
        user: own_user.or(user),
        standalone: standalone && id.parent.is_none(),
        ..ContainerConfig::default()
    };
    match context.containerizer.launch(&id, config).await {
        Ok(()) => Ok(reply::empty(StatusCode::OK)),
        Err(ContainerizerError::Exists(_)) => Ok(reply::accepted()),
        Err(error) => Err(Refusal::bad_request(error.to_string())),
    }
}

/// Where a root container and what is nested in it live, and whether it belongs to no executor.
async fn home_of(context: &Context, root: &ContainerId) -> Result<(bool, Home), Refusal> {
    let asked = root.clone();
    let found = context
        .handle
        .ask(move |agent| match agent.host_of(&asked) {
            Some(home) => (false, home),
            None => (true, agent.home_of_standalone(&asked)),
        });
    let found = found.await;
    found.ok_or_else(|| Refusal::unavailable("The agent is stopping"))
}

/// As in Mesos, the sandbox goes with the container that somebody removes.
async fn remove_sandbox(context: &Context, id: &ContainerId) {
    let Ok((_, (sandbox, ..))) = home_of(context, id.root_id()).await else {
        return;
    };
    let directory = paths::nested_sandbox(&sandbox, id);
    let path = directory.clone();
    let removed = tokio::task::spawn_blocking(move || sandbox::remove(&path)).await;
    if let Err(error) = removed.unwrap_or_else(|error| Err(error.into())) {
        tracing::warn!(?directory, %error, "could not remove a sandbox");
    }
}

/// Whether the containerizer knows a container, ended or not.
async fn is_known(context: &Context, id: &ContainerId) -> bool {
    context.containerizer.containers().await.contains(id)
}

async fn wait_for(context: &Context, id: &ContainerId) -> Result<ContainerTermination, Refusal> {
    let ended = context.containerizer.wait(id).await;
    ended.map_err(|_| Refusal::not_found(format!("Container {} cannot be found", shown(id))))
}

async fn signal(
    context: &Context,
    id: &ContainerId,
    signal: Option<i32>,
) -> Result<Response, Refusal> {
    // One that has a termination, or was never there, is waited for in no time.
    let killed = if context.containerizer.wait(id).now_or_never().is_some() {
        Err(ContainerizerError::Unknown(id.clone()))
    } else {
        let signal = signal.unwrap_or(libc::SIGKILL);
        context.containerizer.kill(id, signal).await
    };
    match killed {
        Ok(()) => Ok(reply::empty(StatusCode::OK)),
        Err(ContainerizerError::Unknown(_)) => Err(Refusal::not_found(format!(
            "Container '{}' cannot be found (or is already killed)",
            shown(id)
        ))),
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}

async fn forget(context: &Context, id: &ContainerId) -> Result<Response, Refusal> {
    let tasks = id.clone();
    let owned = context.handle.ask(move |agent| agent.owns(&tasks)).await;
    if owned != Some(false) {
        return Err(Refusal::bad_request(format!(
            "Container {} belongs to an executor or task",
            shown(id)
        )));
    }
    let root = id.root_id();
    if id.parent.is_some() && !is_known(context, id).await && is_known(context, root).await {
        // Whoever asks twice gets what was asked for.
        return Ok(reply::empty(StatusCode::OK));
    }
    if !is_known(context, id).await {
        return Err(Refusal::not_found(format!(
            "Container {} cannot be found",
            shown(id)
        )));
    }
    match context.containerizer.remove(id).await {
        Ok(()) => {
            remove_sandbox(context, id).await;
            Ok(reply::empty(StatusCode::OK))
        }
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}
