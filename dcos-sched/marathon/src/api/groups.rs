//! `/v2/groups`: trees of apps, changed as one.

mod change;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::render::{self, Embed, GroupEmbed};
use super::request::Request;
use super::{Reply, apps, created, deployed, json_of, method_not_allowed};
use crate::core::{Change, View};
use crate::deployment::step_to_json;
use crate::model::{Group, GroupUpdate, RootGroup, shape};
use crate::shell::Mailbox;
use crate::{Error, PathId, Timestamp, normalize, schema, validate};

pub(super) async fn dispatch(mailbox: &Mailbox, request: &Request, rest: &[&str]) -> Reply {
    let id = |pieces: &[&str]| PathId::absolute(&pieces.join("/"));
    match (request.method.as_str(), rest) {
        ("GET" | "HEAD", [group @ .., "versions"]) => versions(mailbox, &id(group)),
        ("GET" | "HEAD", [group @ .., "versions", version]) => {
            version_of(mailbox, request, &id(group), version)
        }
        ("GET" | "HEAD", [group @ .., "apps"]) => Ok(apps_of(mailbox, request, &id(group))),
        ("GET" | "HEAD", group) => show(mailbox, request, &id(group)),
        ("POST", group) => create(mailbox, request, id(group)).await,
        ("PUT", group) => update(mailbox, request, id(group)).await,
        ("PATCH", group) if !group.is_empty() => patch(mailbox, request, id(group)).await,
        ("DELETE", group) => delete(mailbox, request, id(group)).await,
        _ => Ok(method_not_allowed()),
    }
}

fn show(mailbox: &Mailbox, request: &Request, id: &PathId) -> Reply {
    let view = mailbox.view();
    let embed = GroupEmbed::parse(request.params("embed"));
    render_group(&view, id, embed)
}

fn render_group(view: &View, id: &PathId, embed: GroupEmbed) -> Reply {
    let known = view
        .root
        .groups
        .get(id)
        .ok_or_else(|| Error::unknown_group(id))?;
    Ok(json_of(&render::group(view, id, known, embed)))
}

fn apps_of(mailbox: &Mailbox, request: &Request, id: &PathId) -> Response {
    let view = mailbox.view();
    let embed = Embed::parse(request.params("embed"));
    let apps = view
        .root
        .apps_below(id)
        .filter(|app| !app.is_pod())
        .map(|app| render::app(&view, app, embed));
    json_of(&apps.collect::<Vec<Value>>())
}

fn versions(mailbox: &Mailbox, id: &PathId) -> Reply {
    let view = mailbox.view();
    if !view.root.groups.contains_key(id) {
        return Err(Error::unknown_group(id));
    }
    Ok(json_of(&view.history.group_versions(id)))
}

fn version_of(mailbox: &Mailbox, request: &Request, id: &PathId, version: &str) -> Reply {
    let version: Timestamp = version
        .parse()
        .map_err(|error: crate::TimestampError| Error::Unprocessable(error.to_string()))?;
    let view = mailbox.view();
    let root = view
        .history
        .root_at(&view.root, version)
        .ok_or_else(|| Error::unknown_group(id))?;
    let earlier = View {
        root: Arc::new(root),
        history: Arc::clone(&view.history),
        ..View::default()
    };
    render_group(&earlier, id, GroupEmbed::parse(request.params("embed")))
}

async fn create(mailbox: &Mailbox, request: &Request, base: PathId) -> Reply {
    let update = normalize::read_group(&request.body)?;
    let target = update
        .id
        .as_deref()
        .map_or_else(|| base.clone(), |id| base.resolve(id));
    let group = target.clone();
    let plan = apps::apply(mailbox, request, move |change| {
        validate::group::update(&update, &base, change.root, false)?;
        if change.root.groups.contains_key(&group) {
            let text = format!("Group {group} is already created. Use PUT to change this group.");
            return Err(Error::Conflict(text));
        }
        if change.root.app(&group).is_some() {
            let text = format!("An app with the path {group} already exists.");
            return Err(Error::Conflict(text));
        }
        change::apply(change, &group, update)
    })
    .await?;
    Ok(created(deployed(&plan), &target))
}

async fn update(mailbox: &Mailbox, request: &Request, base: PathId) -> Reply {
    // An old client takes back a group by `PUT /v2/groups/{id}/versions/{version}`.
    let update = match rollback_path(&base) {
        Some((group, version)) => {
            let update = GroupUpdate {
                version: Some(version),
                ..GroupUpdate::default()
            };
            return put(mailbox, request, group, update).await;
        }
        None => normalize::read_group(&request.body)?,
    };
    put(mailbox, request, base, update).await
}

fn rollback_path(path: &PathId) -> Option<(PathId, Timestamp)> {
    let version = path.name().parse().ok()?;
    let group = path.parent();
    (group.name() == "versions").then(|| (group.parent(), version))
}

async fn put(mailbox: &Mailbox, request: &Request, base: PathId, update: GroupUpdate) -> Reply {
    let apply = move |scope: &Change<'_>| changed(scope, &base, update);
    if request.flag("dryRun", false) {
        let plan = mailbox
            .ask(move |core, now| core.dry_run(now, apply))
            .await?;
        let steps: Vec<Value> = plan.steps.iter().map(|step| step_to_json(step)).collect();
        return Ok(json_of(&json!({"steps": steps})));
    }
    let plan = apps::apply(mailbox, request, apply).await?;
    Ok(deployed(&plan))
}

/// The tree with a group, seen from `base`, as `update` says.
pub(super) fn changed(
    scope: &Change<'_>,
    base: &PathId,
    update: GroupUpdate,
) -> Result<RootGroup, Error> {
    let id = update.id.as_deref();
    let target = id.map_or_else(|| base.clone(), |id| base.resolve(id));
    let modifies = validate::group::modifies_services(&update);
    validate::group::update(&update, &target, scope.root, modifies)?;
    change::apply(scope, &target, update)
}

async fn patch(mailbox: &Mailbox, request: &Request, id: PathId) -> Reply {
    let document = schema::parse(&request.body, shape::GROUP_PATCH)?;
    let enforce = document["enforceRole"].as_bool().unwrap_or_default();
    if !id.is_top_level() {
        return Err(Error::invalid("/", "Path needs to be top-level"));
    }
    mailbox
        .ask(move |core, now| {
            core.patch(now, |change| {
                let mut root = change.copy();
                let group = root
                    .groups
                    .get_mut(&id)
                    .ok_or_else(|| Error::unknown_group(&id))?;
                *group = Group {
                    enforce_role: Some(enforce),
                    ..group.clone()
                };
                Ok(root)
            })
        })
        .await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

async fn delete(mailbox: &Mailbox, request: &Request, id: PathId) -> Reply {
    let plan = apps::apply(mailbox, request, move |change| {
        let mut root = change.copy();
        if !root.groups.contains_key(&id) {
            return Err(Error::unknown_group(&id));
        }
        root.remove_group(&id);
        Ok(root)
    })
    .await?;
    Ok(deployed(&plan))
}
