//! What callers may do: each question to the authorizer that the agent's endpoints ask.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use dcos_proto::agent::{Call, call};
use dcos_proto::mesos::{CommandInfo, ContainerId, ExecutorInfo, FrameworkInfo};
use dcos_security::{Action, Caller, Object, ObjectApprover};
use dcos_wire::files::asked_for;
use dcos_wire::{Peer, Refusal};

use super::{Context, inside};
use crate::agent::records::ExecutorKey;
use crate::agent::view::{ExecutorView, FrameworkView, View};

/// Where the agent's own log is shown.
const LOG: &str = "/slave/log";

impl Context {
    /// Goes on only if `caller` may do this.
    pub(super) fn allow(
        &self,
        caller: &Caller,
        action: Action,
        object: &Object<'_>,
    ) -> Result<(), Refusal> {
        caller.may(&*self.security.authorizer, action, object)
    }

    /// Whether `caller` may do this.
    pub(super) fn may(&self, caller: &Caller, action: Action, object: &Object<'_>) -> bool {
        let authorizer = &self.security.authorizer;
        authorizer.authorized(caller.principal(), action, object)
    }

    /// Goes on only if `caller` may read an endpoint for debugging.
    pub(super) fn allow_path(&self, caller: &Caller, path: &str) -> Result<(), Refusal> {
        self.allow(caller, Action::GetEndpointWithPath, &Object::value(path))
    }

    /// Which roles `caller` may see, and what is reserved for them.
    pub(super) fn roles(&self, caller: &Caller) -> Arc<dyn ObjectApprover> {
        let authorizer = &self.security.authorizer;
        authorizer.approver(caller.principal(), Action::ViewRole)
    }

    /// The agent as `caller` may see it.
    pub(super) async fn seen_by(&self, caller: &Caller) -> Result<View, Refusal> {
        let mut view = self.view().await?;
        let approver = |action| {
            let authorizer = &self.security.authorizer;
            authorizer.approver(caller.principal(), action)
        };
        let frameworks = approver(Action::ViewFramework);
        let executors = approver(Action::ViewExecutor);
        let tasks = approver(Action::ViewTask);
        if frameworks.approves_all() && executors.approves_all() && tasks.approves_all() {
            return Ok(view);
        }
        for listed in [&mut view.frameworks, &mut view.completed_frameworks] {
            listed.retain(|framework| frameworks.approved(&Object::framework(&framework.info)));
            for FrameworkView {
                info,
                executors: live,
                completed_executors: ended,
            } in listed
            {
                for listed in [live, ended] {
                    listed.retain(|executor| {
                        executors.approved(&Object::executor(&executor.info, info))
                    });
                    for executor in listed.iter_mut() {
                        let lists = [
                            &mut executor.queued,
                            &mut executor.launched,
                            &mut executor.terminated,
                            &mut executor.completed,
                        ];
                        for list in lists {
                            list.retain(|task| tasks.approved(&Object::task(task, info)));
                        }
                    }
                }
            }
        }
        Ok(view)
    }
}

/// Goes on only if `caller`, at `peer` if it came over a socket, may make this call of the operator API.
pub(super) async fn allow_call(
    context: &Context,
    caller: &Caller,
    peer: Option<&Peer>,
    call: &Call,
) -> Result<(), Refusal> {
    use call::Type;
    let any = |action| context.allow(caller, action, &Object::ANY);
    match call.r#type() {
        Type::GetFlags => any(Action::ViewFlags),
        Type::SetLoggingLevel => any(Action::SetLogLevel),
        Type::PruneImages => any(Action::PruneImages),
        Type::AddResourceProviderConfig
        | Type::UpdateResourceProviderConfig
        | Type::RemoveResourceProviderConfig => any(Action::ModifyResourceProviderConfig),
        Type::MarkResourceProviderGone => any(Action::MarkResourceProviderGone),
        Type::ListFiles => {
            let path = call.list_files.as_ref().map(|list| list.path.as_str());
            allow_file(context, caller, path.unwrap_or_default()).await
        }
        Type::ReadFile => {
            let path = call.read_file.as_ref().map(|read| read.path.as_str());
            allow_file(context, caller, path.unwrap_or_default()).await
        }
        _ => match container_call(call) {
            Some((actions, id, command)) => {
                allow_container(context, caller, actions, id, command).await?;
                match peer {
                    Some(peer) => inside::check(context, caller, peer, call.r#type(), id).await,
                    None => Ok(()),
                }
            }
            None => Ok(()),
        },
    }
}

/// What a call about a container does to a nested one, and to one that belongs to no executor.
type Actions = (Action, Action);

fn container_call(call: &Call) -> Option<(Actions, &ContainerId, Option<&CommandInfo>)> {
    use call::Type;
    let launch = (
        Action::LaunchNestedContainer,
        Action::LaunchStandaloneContainer,
    );
    let wait = (Action::WaitNestedContainer, Action::WaitStandaloneContainer);
    let kill = (Action::KillNestedContainer, Action::KillStandaloneContainer);
    let remove = (
        Action::RemoveNestedContainer,
        Action::RemoveStandaloneContainer,
    );
    let session = Action::LaunchNestedContainerSession;
    let (input, output) = (Action::AttachContainerInput, Action::AttachContainerOutput);
    Some(match call.r#type() {
        Type::LaunchNestedContainer => {
            let call = call.launch_nested_container.as_ref()?;
            (launch, &call.container_id, call.command.as_ref())
        }
        Type::LaunchContainer => {
            let call = call.launch_container.as_ref()?;
            (launch, &call.container_id, call.command.as_ref())
        }
        Type::LaunchNestedContainerSession => {
            let call = call.launch_nested_container_session.as_ref()?;
            (
                (session, session),
                &call.container_id,
                call.command.as_ref(),
            )
        }
        Type::WaitNestedContainer => (
            wait,
            &call.wait_nested_container.as_ref()?.container_id,
            None,
        ),
        Type::WaitContainer => (wait, &call.wait_container.as_ref()?.container_id, None),
        Type::KillNestedContainer => (
            kill,
            &call.kill_nested_container.as_ref()?.container_id,
            None,
        ),
        Type::KillContainer => (kill, &call.kill_container.as_ref()?.container_id, None),
        Type::RemoveNestedContainer => {
            let call = call.remove_nested_container.as_ref()?;
            (remove, &call.container_id, None)
        }
        Type::RemoveContainer => (remove, &call.remove_container.as_ref()?.container_id, None),
        Type::AttachContainerInput => {
            let call = call.attach_container_input.as_ref()?;
            ((input, input), call.container_id.as_ref()?, None)
        }
        Type::AttachContainerOutput => {
            let call = call.attach_container_output.as_ref()?;
            ((output, output), &call.container_id, None)
        }
        _ => return None,
    })
}

async fn allow_container(
    context: &Context,
    caller: &Caller,
    (nested, standalone): Actions,
    id: &ContainerId,
    command: Option<&CommandInfo>,
) -> Result<(), Refusal> {
    let root = id.root_id().clone();
    let owner = context.handle.ask(move |agent| agent.owner_of(&root)).await;
    if let Some((executor, framework)) = owner.flatten() {
        let object = Object::executor(&executor, &framework).in_container(id);
        return context.allow(caller, nested, &object.running(command));
    }
    let action = if id.parent.is_some() {
        nested
    } else {
        standalone
    };
    let object = Object::ANY.in_container(id).running(command);
    context.allow(caller, action, &object)
}

/// Goes on only if an executor that shows a token shows its own.
///
/// # Errors
/// 403 in the words of Mesos (`verifyExecutorClaims`).
pub(super) fn check_claims(
    caller: &Caller,
    key: &ExecutorKey,
    container: Option<&ContainerId>,
) -> Result<(), Refusal> {
    let Some(principal) = caller.principal() else {
        return Ok(());
    };
    let container = container.map(|id| id.value.as_str());
    let refused = |what: String| {
        let text = format!("Authenticated principal '{principal}' does not contain {what}");
        Err(Refusal::forbidden(text))
    };
    if principal.claim("fid") != Some(&*key.framework.value) {
        return refused(format!(
            "an 'fid' claim with the framework ID {}, which is set in the call",
            key.framework
        ));
    }
    if principal.claim("eid") != Some(&*key.executor.value) {
        return refused(format!(
            "an 'eid' claim with the executor ID {}, which is set in the call",
            key.executor
        ));
    }
    if container.is_none() || principal.claim("cid") != container {
        return refused("a 'cid' claim with the correct active ContainerID".to_owned());
    }
    Ok(())
}

/// The same for the v0 routes below `/files`.
pub(super) async fn guard_files(
    State(context): State<Context>,
    caller: Caller,
    RawQuery(query): RawQuery,
    request: Request,
    next: Next,
) -> Response {
    let allowed = if request.uri().path() == "/files/debug" {
        context.allow_path(&caller, "/files/debug")
    } else {
        match asked_for(&query.unwrap_or_default()) {
            Some(path) => allow_file(&context, &caller, &path).await,
            None => Ok(()),
        }
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// The same for `/logging/toggle`.
pub(super) async fn guard_toggle(
    State(context): State<Context>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    match context.allow_path(&caller, "/logging/toggle") {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Goes on only if `caller` may look at what is shown at `path`.
async fn allow_file(context: &Context, caller: &Caller, path: &str) -> Result<(), Refusal> {
    let Some(shown) = context.files.attachment(path) else {
        // Nothing is shown there, which is what the answer says.
        return Ok(());
    };
    if shown == LOG {
        return context.allow(caller, Action::AccessMesosLog, &Object::ANY);
    }
    let authorizer = &context.security.authorizer;
    let approver = authorizer.approver(caller.principal(), Action::AccessSandbox);
    if approver.approves_all() {
        return Ok(());
    }
    let view = context.view().await?;
    let allowed = match owner_of(&view, &shown) {
        Some((executor, framework)) => approver.approved(&Object::executor(executor, framework)),
        None => approver.approved(&Object::ANY),
    };
    if allowed {
        Ok(())
    } else {
        Err(Refusal::forbidden("403 Forbidden."))
    }
}

/// Whose sandbox is shown under a name: the virtual one, or where it is on the host.
fn owner_of<'a>(view: &'a View, shown: &str) -> Option<(&'a ExecutorInfo, &'a FrameworkInfo)> {
    let mut virtual_name = shown.split('/').skip(1);
    let by_name = match (
        virtual_name.next(),
        virtual_name.next(),
        virtual_name.next(),
        virtual_name.next(),
    ) {
        (Some("frameworks"), Some(framework), Some("executors"), Some(executor)) => {
            Some((framework, executor))
        }
        _ => None,
    };
    let every = view.frameworks.iter().chain(&view.completed_frameworks);
    let mut executors = every.flat_map(|framework| {
        let own = framework
            .executors
            .iter()
            .chain(&framework.completed_executors);
        own.map(move |executor| (executor, &framework.info))
    });
    let is_owner = |executor: &ExecutorView, framework: &FrameworkInfo| match by_name {
        Some((name, id)) => {
            let framework = framework.id.as_ref();
            framework.is_some_and(|framework| framework.value == name)
                && executor.info.executor_id.value == id
        }
        None => std::path::Path::new(shown).starts_with(&executor.directory),
    };
    let found = executors.find(|(executor, framework)| is_owner(executor, framework));
    found.map(|(executor, framework)| (&executor.info, framework))
}
