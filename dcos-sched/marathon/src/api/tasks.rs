//! `/v2/tasks`: the tasks of all apps.

use std::collections::{BTreeMap, BTreeSet};

use axum::response::Response;
use http::StatusCode;

use super::list::listed;
use super::request::Request;
use super::{Reply, apps, render, typed};
use crate::core::{Kill, View};
use crate::instance::{Condition, Instance, task_instance};
use crate::model::shape;
use crate::shell::Mailbox;
use crate::{Error, PathId};

pub(super) fn list(mailbox: &Mailbox, request: &Request) -> Response {
    let view = mailbox.view();
    if request.accepts("text/plain") && !request.accepts("application/json") {
        return typed(StatusCode::OK, "text/plain", endpoints(&view));
    }
    let wanted: BTreeSet<String> = request
        .params("status")
        .chain(request.params("status[]"))
        .map(str::to_lowercase)
        .collect();
    let matches = |instance: &Instance| match instance.condition {
        Condition::Running => wanted.contains("running"),
        Condition::Provisioned | Condition::Staging => wanted.contains("staging"),
        _ => false,
    };
    let filters = wanted.contains("running") || wanted.contains("staging");
    let tasks: Vec<_> = view
        .all_instances()
        .filter(|instance| view.root.plain_app(&instance.app).is_some())
        .filter(|instance| !filters || matches(instance))
        .cloned()
        .collect();
    listed("tasks", tasks, move |instance| {
        render::task(&view, instance)
    })
}

/// One line for each service port: app, port, and `host:port` of each running task. Gone from the
/// original with 1.10, kept here for load balancers that still read it.
fn endpoints(view: &View) -> String {
    let mut lines = Vec::new();
    for app in view.root.plain_apps() {
        let running: Vec<&Instance> = view
            .instances_of(&app.id)
            .filter(|instance| instance.condition == Condition::Running)
            .map(AsRef::as_ref)
            .collect();
        let ports = app.service_ports();
        let name = app.id.safe();
        if ports.is_empty() {
            let hosts: Vec<_> = running.iter().map(|i| i.agent.host.as_str()).collect();
            lines.push(format!("{name}\t \t{}\n", hosts.join("\t")));
        }
        for (at, port) in ports.into_iter().enumerate() {
            let of = |instance: &&Instance| {
                let port = instance.ports.get(at).copied().flatten()?;
                Some(format!("{}:{port}", instance.agent.host))
            };
            let all: Vec<_> = running.iter().filter_map(of).collect();
            lines.push(format!("{name}\t{port}\t{}\n", all.join("\t")));
        }
    }
    lines.concat()
}

pub(super) async fn kill(mailbox: &Mailbox, request: &Request) -> Reply {
    let scale = request.scale()?;
    let body = apps::parse(&request.body, shape::TASK_IDS)?;
    let ids: Vec<String> = apps::typed(body["ids"].clone())?;
    let view = mailbox.view();
    let mut kill: Kill = BTreeMap::new();
    for id in ids {
        let instance = task_instance(&id)
            .ok_or_else(|| Error::BadRequest(format!("Invalid task id '{id}'. [{id}]")))?;
        let app: PathId = instance.app();
        if view
            .instances
            .get(&app)
            .is_some_and(|known| known.contains_key(&instance))
        {
            kill.entry(app).or_default().insert(instance);
        }
    }
    if scale {
        return apps::kill_and_scale(mailbox, request, kill).await;
    }
    let all = kill.into_values().flatten().collect();
    let found = apps::end(mailbox, request, all).await?;
    Ok(apps::tasks_answer(mailbox, &found))
}
