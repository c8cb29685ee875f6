//! `/v2/apps/{id}/tasks`: the tasks of one app.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::request::Request;
use super::{Reply, apps, json_of, method_not_allowed, render};
use crate::core::Kill;
use crate::instance::{InstanceId, task_instance};
use crate::shell::Mailbox;
use crate::{Error, PathId};

pub(super) async fn all(mailbox: &Mailbox, request: &Request, path: &[&str]) -> Reply {
    match (request.method.as_str(), path) {
        ("GET" | "HEAD", [group @ .., "*"]) => {
            list_group(mailbox, &PathId::absolute(&group.join("/")))
        }
        ("GET" | "HEAD", app) => list(mailbox, &PathId::absolute(&app.join("/"))),
        ("DELETE", app) => kill(mailbox, request, PathId::absolute(&app.join("/"))).await,
        _ => Ok(method_not_allowed()),
    }
}

fn list(mailbox: &Mailbox, id: &PathId) -> Reply {
    let view = mailbox.view();
    if view.root.plain_app(id).is_none() {
        return Err(Error::unknown_app(id));
    }
    let tasks: Vec<Value> = view
        .instances_of(id)
        .map(|i| render::task(&view, i))
        .collect();
    Ok(json_of(&json!({"tasks": tasks})))
}

fn list_group(mailbox: &Mailbox, group: &PathId) -> Reply {
    let view = mailbox.view();
    if !view.root.groups.contains_key(group) {
        return Err(Error::unknown_group(group));
    }
    let apps = view.root.apps_below(group).filter(|app| !app.is_pod());
    let tasks: Vec<Value> = apps
        .flat_map(|app| view.instances_of(&app.id))
        .map(|instance| render::task(&view, instance))
        .collect();
    Ok(json_of(&json!({"tasks": tasks})))
}

async fn kill(mailbox: &Mailbox, request: &Request, id: PathId) -> Reply {
    let scale = request.scale()?;
    let view = mailbox.view();
    if view.root.plain_app(&id).is_none() {
        return Err(Error::unknown_app(&id));
    }
    let host = request.param("host");
    let ids: BTreeSet<InstanceId> = view
        .instances_of(&id)
        .filter(|instance| host.is_none_or(|host| host == "*" || host == instance.agent.host))
        .map(|instance| instance.id.clone())
        .collect();
    if scale {
        return apps::kill_and_scale(mailbox, request, Kill::from([(id, ids)])).await;
    }
    let found = apps::end(mailbox, request, ids).await?;
    Ok(apps::tasks_answer(mailbox, &found))
}

pub(super) async fn kill_one(
    mailbox: &Mailbox,
    request: &Request,
    id: &PathId,
    task: &str,
) -> Reply {
    let scale = request.scale()?;
    let view = mailbox.view();
    if view.root.plain_app(id).is_none() {
        return Err(Error::unknown_app(id));
    }
    let instance = task_instance(task)
        .and_then(|instance| view.instances.get(id)?.get(&instance).cloned())
        .ok_or_else(|| Error::unknown_task(task))?;
    let ids = BTreeSet::from([instance.id.clone()]);
    if scale {
        let kill = Kill::from([(id.clone(), ids)]);
        return apps::kill_and_scale(mailbox, request, kill).await;
    }
    let found = apps::end(mailbox, request, ids).await?;
    let killed = found.first().ok_or_else(|| Error::unknown_task(task))?;
    Ok(json_of(&json!({"task": render::task(&view, killed)})))
}
