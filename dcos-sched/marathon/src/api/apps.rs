//! `/v2/apps`: definitions, their versions, restarts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use dcos_core::time::Time;
use http::Method;
use serde_json::{Value, json};

use super::list::listed;
use super::render::{self, Embed};
use super::request::Request;
use super::selector::Selector;
use super::{
    Reply, app_tasks, created, deployed, extend, json_of, method_not_allowed, pods, with_deployment,
};
use crate::core::{Change, Core, Kill, Limit, Overdue, RESTART};
use crate::deployment::Plan;
use crate::event::Event;
use crate::instance::{Instance, InstanceId};
use crate::model::{App, AppUpdate, RootGroup, shape};
use crate::shell::Mailbox;
use crate::{Error, PathId, Timestamp, normalize, schema};

pub(super) async fn dispatch(mailbox: &Mailbox, request: &Request, rest: &[&str]) -> Reply {
    let id = |pieces: &[&str]| PathId::absolute(&pieces.join("/"));
    match (request.method.as_str(), rest) {
        ("GET" | "HEAD", []) => list(mailbox, request),
        ("POST", []) => create(mailbox, request).await,
        ("PUT", []) => change_many(mailbox, request, true).await,
        ("PATCH", []) => change_many(mailbox, request, false).await,
        ("GET" | "HEAD", [app @ .., "versions"]) => versions(mailbox, &id(app)),
        ("GET" | "HEAD", [app @ .., "versions", version]) if !app.is_empty() => {
            version_of(mailbox, &id(app), version)
        }
        ("POST", [app @ .., "restart"]) => restart(mailbox, request, id(app)).await,
        (_, [app @ .., "tasks"]) if request.method != Method::PUT => {
            app_tasks::all(mailbox, request, app).await
        }
        ("DELETE", [app @ .., "tasks", task]) => {
            app_tasks::kill_one(mailbox, request, &id(app), task).await
        }
        ("GET" | "HEAD", [group @ .., "*"]) => list_group(mailbox, request, &id(group)),
        ("GET" | "HEAD", app) => show(mailbox, request, &id(app)),
        ("PUT", app) => change_one(mailbox, request, id(app), true).await,
        ("PATCH", app) => change_one(mailbox, request, id(app), false).await,
        ("DELETE", app) => delete(mailbox, request, id(app)).await,
        _ => Ok(method_not_allowed()),
    }
}

fn list(mailbox: &Mailbox, request: &Request) -> Reply {
    let view = mailbox.view();
    let embed = Embed {
        counts: true,
        deployments: true,
        ..Embed::parse(request.params("embed"))
    };
    let label = request.param("label").map(Selector::parse).transpose()?;
    let contains = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
    let wanted = |app: &App| {
        request
            .param("cmd")
            .is_none_or(|part| app.cmd.as_ref().is_some_and(|cmd| contains(cmd, part)))
            && request
                .param("id")
                .is_none_or(|part| contains(app.id.as_str(), part))
            && label
                .as_ref()
                .is_none_or(|label| label.matches(&app.labels))
    };
    let apps = view.root.plain_apps().filter(|app| wanted(app));
    let apps: Vec<_> = apps.cloned().collect();
    let answer = listed("apps", apps, move |app| render::app(&view, app, embed));
    Ok(answer)
}

fn full(request: &Request) -> Embed {
    Embed {
        counts: true,
        tasks: true,
        deployments: true,
        last_task_failure: true,
        ..Embed::parse(request.params("embed"))
    }
}

fn show(mailbox: &Mailbox, request: &Request, id: &PathId) -> Reply {
    let view = mailbox.view();
    let app = view.root.plain_app(id);
    let app = app.ok_or_else(|| Error::unknown_app(id))?;
    Ok(json_of(
        &json!({"app": render::app(&view, app, full(request))}),
    ))
}

fn list_group(mailbox: &Mailbox, request: &Request, group: &PathId) -> Reply {
    let view = mailbox.view();
    if !view.root.groups.contains_key(group) {
        return Err(Error::unknown_group(group));
    }
    let embed = full(request);
    let apps = view.root.apps_below(group);
    let apps: Vec<_> = apps.filter(|app| !app.is_pod()).cloned().collect();
    let answer = listed("*", apps, move |app| render::app(&view, app, embed));
    Ok(answer)
}

fn versions(mailbox: &Mailbox, id: &PathId) -> Reply {
    let view = mailbox.view();
    let versions = view.history.versions(id);
    if view.root.plain_app(id).is_none() || versions.is_empty() {
        return Err(Error::unknown_app(id));
    }
    Ok(json_of(&json!({"versions": versions})))
}

fn version_of(mailbox: &Mailbox, id: &PathId, version: &str) -> Reply {
    let version: Timestamp = version
        .parse()
        .map_err(|error: crate::TimestampError| Error::Unprocessable(error.to_string()))?;
    let view = mailbox.view();
    let app = view.history.spec(id, version);
    let app = app.filter(|app| !app.is_pod());
    // Not wrapped, as in the original.
    app.map(|app| json_of(&render::definition(app)))
        .ok_or_else(|| Error::unknown_version(id, version))
}

async fn create(mailbox: &Mailbox, request: &Request) -> Reply {
    let update = normalize::read_app(&request.body)?;
    let id = PathId::absolute(update.id.as_deref().unwrap_or_default());
    let app_id = id.clone();
    let plan = apply(mailbox, request, move |change| {
        // What is wrong with the document is said first, as in the original.
        let rules = change.rules(&app_id);
        let app = normalize::create(update, &PathId::root(), &rules, change.version)?;
        pods::taken(change.root, &app_id, false)?;
        if change.root.app(&app_id).is_some() {
            let text = format!("An app with id [{app_id}] already exists.");
            return Err(Error::Conflict(text));
        }
        let mut root = change.copy();
        root.put_app(app, change.version, change.config.new_group_enforce_role);
        Ok(root)
    })
    .await?;
    post_event(mailbox, request, &plan, &id).await;
    let app = plan
        .target
        .app(&id)
        .ok_or_else(|| Error::unknown_app(&id))?;
    let mut document = render::definition(&App {
        version_info: None,
        ..(**app).clone()
    });
    extend(
        &mut document,
        json!({
            "tasksStaged": 0, "tasksRunning": 0, "tasksHealthy": 0, "tasksUnhealthy": 0,
            "deployments": [{"id": plan.id}],
        }),
    );
    Ok(with_deployment(created(json_of(&document), &id), &plan))
}

async fn change_one(mailbox: &Mailbox, request: &Request, id: PathId, create: bool) -> Reply {
    let partial = !create || request.flag("partialUpdate", true);
    let mut document = parse(&request.body, shape::APP_UPDATE)?;
    document["id"] = json!(id);
    let update: AppUpdate = typed(document)?;
    let app_id = id.clone();
    let plan = apply(mailbox, request, move |change| {
        let mut root = change.copy();
        put(change, &mut root, &app_id, update, partial, create)?;
        Ok(root)
    })
    .await?;
    post_event(mailbox, request, &plan, &id).await;
    let response = deployed(&plan);
    let known = plan.original.app(&id).is_some();
    Ok(if known {
        response
    } else {
        created(response, &id)
    })
}

async fn change_many(mailbox: &Mailbox, request: &Request, create: bool) -> Reply {
    let partial = !create || request.flag("partialUpdate", true);
    let shape = if partial {
        shape::APP_UPDATES
    } else {
        shape::APPS
    };
    let updates: Vec<AppUpdate> = typed(parse(&request.body, shape)?)?;
    let change = move |change: &Change<'_>| put_all(change, updates, partial, create);
    let plan = apply(mailbox, request, change).await?;
    Ok(deployed(&plan))
}

/// The tree with several apps created, changed or replaced.
pub(super) fn put_all(
    change: &Change<'_>,
    updates: Vec<AppUpdate>,
    partial: bool,
    create: bool,
) -> Result<RootGroup, Error> {
    let mut root = change.copy();
    for update in updates {
        let id = update.id.as_deref().map(PathId::absolute).ok_or_else(|| {
            Error::Unprocessable("requirement failed: App Update must have app id set".into())
        })?;
        put(change, &mut root, &id, update, partial, create)?;
    }
    Ok(root)
}

/// Creates, changes or replaces one app in `root`, or takes it back to an earlier version.
fn put(
    change: &Change<'_>,
    root: &mut RootGroup,
    id: &PathId,
    mut update: AppUpdate,
    partial: bool,
    create: bool,
) -> Result<(), Error> {
    pods::taken(root, id, false)?;
    let rules = change.rules(id);
    let known = root.app(id).cloned();
    if known.is_none() && !create {
        return Err(Error::unknown_app(id));
    }
    update.id = Some(id.to_string());
    let app = match (known, update.version) {
        (Some(_), Some(version)) if partial => {
            let only = AppUpdate {
                id: update.id.clone(),
                version: update.version,
                ..AppUpdate::default()
            };
            if update != only {
                let text = "The 'version' field may only be combined with the 'id' field.";
                return Err(Error::invalid("/", text));
            }
            let earlier = change.history.spec(id, version);
            let earlier = earlier.ok_or_else(|| Error::unknown_version(id, version))?;
            App {
                version: change.version,
                version_info: None,
                ..(**earlier).clone()
            }
        }
        (Some(app), _) if partial => normalize::update(&app, update, &rules, change.version)?,
        _ => normalize::create(update, &PathId::root(), &rules, change.version)?,
    };
    root.put_app(app, change.version, change.config.new_group_enforce_role);
    Ok(())
}

async fn restart(mailbox: &Mailbox, request: &Request, id: PathId) -> Reply {
    let plan = apply(mailbox, request, move |change| {
        let mut root = change.copy();
        let app = root
            .apps
            .get_mut(&id)
            .filter(|app| !app.is_pod())
            .ok_or_else(|| Error::unknown_app(&id))?;
        let app = Arc::make_mut(app);
        (app.version, app.version_info) = (RESTART, None);
        Ok(root)
    })
    .await?;
    Ok(deployed(&plan))
}

async fn delete(mailbox: &Mailbox, request: &Request, id: PathId) -> Reply {
    // Forced unless said otherwise, here only, as in the original.
    let force = request.flag("force", true);
    let change = move |change: &Change<'_>| {
        let mut root = change.copy();
        root.plain_app(&id).ok_or_else(|| Error::unknown_app(&id))?;
        root.apps.remove(&id);
        Ok(root)
    };
    let plan = apply_with(mailbox, request, force, change).await?;
    Ok(deployed(&plan))
}

/// Changes the tree, by force if the request says so.
pub(super) async fn apply(
    mailbox: &Mailbox,
    request: &Request,
    change: impl FnOnce(&Change<'_>) -> Result<RootGroup, Error> + Send + 'static,
) -> Result<Arc<Plan>, Error> {
    apply_with(mailbox, request, request.flag("force", false), change).await
}

async fn apply_with(
    mailbox: &Mailbox,
    request: &Request,
    force: bool,
    change: impl FnOnce(&Change<'_>) -> Result<RootGroup, Error> + Send + 'static,
) -> Result<Arc<Plan>, Error> {
    let time = request.time_for_deployment()?;
    mailbox
        .ask(move |core, now| {
            let plan = core.change(now, force, &Kill::new(), change)?;
            limit(core, now, &plan, time);
            Ok(plan)
        })
        .await
}

/// Kills instances and lowers the number of wanted ones by as many.
pub(super) async fn kill_and_scale(mailbox: &Mailbox, request: &Request, kill: Kill) -> Reply {
    let (force, time) = (request.flag("force", false), request.time_for_deployment()?);
    let plan = mailbox
        .ask(move |core, now| {
            let plan = core.kill_and_scale(now, &kill, force)?;
            limit(core, now, &plan, time);
            Ok(plan)
        })
        .await?;
    Ok(deployed(&plan))
}

/// Gives the deployment of `plan` the time that was asked for.
pub(super) fn limit(core: &mut Core, now: Time, plan: &Plan, time: Option<(Duration, Overdue)>) {
    if let Some((time, then)) = time {
        core.limit(&plan.id, Limit::within(now.into(), time, then));
    }
}

async fn post_event(mailbox: &Mailbox, request: &Request, plan: &Plan, id: &PathId) {
    if let Some(app) = plan.target.app(id) {
        mailbox
            .publish(|now| Event::api_post(now, &request.client, &request.uri, app))
            .await;
    }
}

/// Checks a body against its shape.
pub(super) fn parse(body: &[u8], shape: schema::Shape) -> Result<Value, Error> {
    schema::parse(body, shape)
}

/// Makes a checked document what it is.
pub(super) fn typed<T: serde::de::DeserializeOwned>(document: Value) -> Result<T, Error> {
    serde_json::from_value(document).map_err(|error| Error::Unprocessable(error.to_string()))
}

/// The tasks a kill was about.
pub(super) fn tasks_answer(mailbox: &Mailbox, found: &[Arc<Instance>]) -> Response {
    let view = mailbox.view();
    let tasks: Vec<_> = found
        .iter()
        .map(|instance| render::task(&view, instance))
        .collect();
    json_of(&json!({"tasks": tasks}))
}

/// Kills instances; with `wipe` they are forgotten at once.
pub(super) async fn end(
    mailbox: &Mailbox,
    request: &Request,
    ids: BTreeSet<InstanceId>,
) -> Result<Vec<Arc<Instance>>, Error> {
    let wipe = request.flag("wipe", false);
    mailbox
        .ask(move |core, now| {
            Ok(if wipe {
                core.wipe(now, &ids)
            } else {
                core.kill(now, &ids)
            })
        })
        .await
}
