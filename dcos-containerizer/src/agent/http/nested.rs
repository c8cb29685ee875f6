//! Operator calls about single containers: launch, wait, kill, remove.
//!
//! Nested containers live in the container of an executor. Their sandbox is below the executor's,
//! and they end with it.

use axum::response::Response;
use dcos_proto::agent::{Call, Response as Answer, call, response};
use dcos_proto::mesos::ContainerId;
use dcos_wire::{MediaType, Refusal, reply};
use http::StatusCode;

use super::Context;
use super::operator::{missing, respond, shown};
use crate::agent::tasks::environment_of;
use crate::checkpoint::paths;
use crate::containerizer::{ContainerConfig, ContainerTermination, ContainerizerError};

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
        call::Type::LaunchNestedContainerSession
        | call::Type::AttachContainerInput
        | call::Type::AttachContainerOutput => Err(Refusal::not_implemented(format!(
            "{} is not offered by this agent: sessions and attaching belong to the container work \
             that is still to come",
            call.r#type().as_str_name()
        ))),
        call::Type::PruneImages => Err(Refusal::not_implemented(
            "PRUNE_IMAGES is not offered by this agent: it has no image store yet",
        )),
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
    if id.parent.is_none() {
        return Err(Refusal::not_implemented(
            "Standalone containers are not offered by this agent",
        ));
    }
    let root = id.root_id().clone();
    let asked = root.clone();
    let found = context
        .handle
        .ask(move |agent| agent.host_of(&asked))
        .await
        .flatten();
    let found = found.ok_or_else(|| {
        Refusal::bad_request(format!("Parent container {} does not exist", shown(&root)))
    })?;
    let (sandbox, mut environment, user) = found;
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
        ..ContainerConfig::default()
    };
    match context.containerizer.launch(&id, config).await {
        Ok(()) => Ok(reply::empty(StatusCode::OK)),
        Err(ContainerizerError::Exists(_)) => Ok(reply::accepted()),
        Err(error) => Err(Refusal::bad_request(error.to_string())),
    }
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
    let killed = context
        .containerizer
        .kill(id, signal.unwrap_or(libc::SIGKILL))
        .await;
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
    if id.parent.is_none() || owned != Some(false) {
        return Err(Refusal::bad_request(format!(
            "Container {} belongs to an executor or task",
            shown(id)
        )));
    }
    if !context.containerizer.containers().await.contains(id) {
        return Err(Refusal::not_found(format!(
            "Container {} cannot be found",
            shown(id)
        )));
    }
    match context.containerizer.remove(id).await {
        Ok(()) => Ok(reply::empty(StatusCode::OK)),
        Err(error) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}
