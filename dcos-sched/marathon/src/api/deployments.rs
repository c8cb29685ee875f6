//! `/v2/deployments`: what is changing right now.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::request::Request;
use super::{Reply, apps, deployed, json_of, render};
use crate::core::{DeploymentView, View};
use crate::deployment::step_to_json;
use crate::shell::Mailbox;
use crate::{Error, Timestamp};

pub(super) fn list(mailbox: &Mailbox, request: &Request) -> Response {
    let view = mailbox.view();
    // An addition, for those who ask: clients there are know no other fields than Marathon 1.11's, and fail over them.
    let mut embeds = request.params("embed");
    let waiting = embeds
        .any(|name| name == "waitingFor")
        .then(|| Timestamp::from(crate::shell::now()));
    let all: Vec<Value> = view
        .deployments
        .iter()
        .map(|each| deployment(&view, each, waiting))
        .collect();
    json_of(&all)
}

fn deployment(view: &View, deployment: &DeploymentView, waiting: Option<Timestamp>) -> Value {
    let plan = &deployment.plan;
    let current = plan
        .steps
        .get(deployment.step)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let actions: Vec<Value> = current
        .iter()
        .map(|action| {
            let instances = view.instances_of(&action.app);
            let results: Vec<_> = instances.filter_map(|i| render::readiness(i)).collect();
            let mut document = action.to_json();
            document["readinessCheckResults"] = json!(results);
            if let Some(now) = waiting {
                let waiting = view.waiting_for(&action.app, now);
                document["waitingFor"] = waiting.iter().map(|each| each.to_json(now)).collect();
            }
            document
        })
        .collect();
    let steps: Vec<Value> = plan.steps.iter().map(|step| step_to_json(step)).collect();
    let (apps, pods) = plan.affected_by_kind();
    let mut document = json!({
        "id": plan.id,
        "version": plan.version,
        "affectedApps": apps,
        "affectedPods": pods,
        "steps": steps,
        "currentActions": actions,
        "currentStep": deployment.step + 1,
        "totalSteps": plan.steps.len(),
    });
    if let (Some(limit), Some(now)) = (deployment.limit, waiting) {
        document["deadline"] = json!(limit.at);
        document["onDeadline"] = json!(limit.then);
        document["timeLeftSeconds"] = json!(limit.at.since(now).as_secs_f64());
    }
    document
}

pub(super) async fn cancel(mailbox: &Mailbox, request: &Request, id: &str) -> Reply {
    let (id, force) = (id.to_owned(), request.flag("force", false));
    let time = request.time_for_deployment()?;
    if force && time.is_some() {
        let text = "what is canceled by force has no deployment that a deadline is for";
        return Err(Error::BadRequest(text.to_owned()));
    }
    let plan = mailbox
        .ask(move |core, now| {
            let plan = core.cancel(now, &id, force)?;
            if let Some(plan) = &plan {
                apps::limit(core, now, plan, time);
            }
            Ok(plan)
        })
        .await?;
    Ok(plan.map_or_else(
        || {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        },
        |plan| deployed(&plan),
    ))
}
