//! `/v2/queue`: what waits to be launched, and why.

use axum::body::Body;
use axum::response::Response;
use dcos_proto::mesos::{Attribute, Offer, Resource, value};
use http::StatusCode;
use serde_json::{Value, json};

use super::request::Request;
use super::{Reply, json_of};
use crate::core::QueueItem;
use crate::matching::Reason;
use crate::queue::{Refusal, Summary};
use crate::shell::Mailbox;
use crate::{Error, PathId, Timestamp};

pub(super) fn list(mailbox: &Mailbox, request: &Request) -> Response {
    let view = mailbox.view();
    let now = Timestamp::from(crate::shell::now());
    let unused = request
        .params("embed")
        .any(|name| name == "lastUnusedOffers");
    let items: Vec<Value> = view
        .queue
        .iter()
        .map(|each| item(each, now, unused))
        .collect();
    json_of(&json!({"queue": items}))
}

pub(super) fn item(item: &QueueItem, now: Timestamp, unused: bool) -> Value {
    let left = item
        .held_until
        .map_or(0, |until| until.since(now).as_secs());
    let mut document = json!({
        "count": item.count,
        "role": item.spec.role,
        "delay": {"timeLeftSeconds": left, "overdue": item.held_until.is_none_or(|at| at <= now)},
        "since": item.since,
        "processedOffersSummary": summary(&item.summary),
    });
    match item.spec.pod_document() {
        Some(pod) => document["pod"] = json!(pod),
        None => document["app"] = json!(*item.spec),
    }
    if unused {
        let offers: Vec<_> = item.summary.last_refusals().map(refusal).collect();
        document["lastUnusedOffers"] = json!(offers);
    }
    document
}

fn summary(summary: &Summary) -> Value {
    let steps = |steps: Vec<(Reason, u64, u64)>| -> Vec<Value> {
        let step = |(reason, declined, processed): (Reason, u64, u64)| json!({"reason": reason.name(), "declined": declined, "processed": processed});
        steps.into_iter().map(step).collect()
    };
    let mut document = json!({
        "processedOffersCount": summary.processed,
        "unusedOffersCount": summary.unused,
        "rejectSummaryLastOffers": steps(summary.last_offers()),
        "rejectSummaryLaunchAttempt": steps(summary.attempt()),
    });
    for (name, moment) in [
        ("lastUnusedOfferAt", summary.last_unused),
        ("lastUsedOfferAt", summary.last_used),
    ] {
        if let Some(moment) = moment {
            document[name] = json!(moment);
        }
    }
    document
}

fn refusal(refusal: &Refusal) -> Value {
    let reasons: Vec<_> = refusal.reasons.iter().map(Reason::name).collect();
    json!({"offer": offer(&refusal.offer), "reason": reasons, "timestamp": refusal.at})
}

fn offer(offer: &Offer) -> Value {
    let resources: Vec<_> = offer.resources.iter().map(resource).collect();
    let attributes: Vec<_> = offer.attributes.iter().map(attribute).collect();
    json!({
        "id": offer.id.value,
        "hostname": offer.hostname,
        "agentId": offer.agent_id.value,
        "resources": resources,
        "attributes": attributes,
    })
}

fn resource(resource: &Resource) -> Value {
    let role = resource
        .reservations
        .last()
        .and_then(|reservation| reservation.role.as_deref());
    let role = role.or(resource.role.as_deref()).unwrap_or("*");
    let mut document = json!({"name": resource.name, "role": role});
    values(
        &mut document,
        resource.scalar.as_ref(),
        resource.ranges.as_ref(),
        resource.set.as_ref(),
    );
    document
}

fn attribute(attribute: &Attribute) -> Value {
    let mut document = json!({"name": attribute.name});
    if let Some(text) = &attribute.text {
        document["text"] = json!(text.value);
    }
    let (scalar, ranges, set) = (&attribute.scalar, &attribute.ranges, &attribute.set);
    values(
        &mut document,
        scalar.as_ref(),
        ranges.as_ref(),
        set.as_ref(),
    );
    document
}

fn values(
    document: &mut Value,
    scalar: Option<&value::Scalar>,
    ranges: Option<&value::Ranges>,
    set: Option<&value::Set>,
) {
    if let Some(scalar) = scalar {
        document["scalar"] = json!(scalar.value);
    }
    if let Some(ranges) = ranges {
        let range = |range: &value::Range| json!({"begin": range.begin, "end": range.end});
        document["ranges"] = ranges.range.iter().map(range).collect();
    }
    if let Some(set) = set {
        document["set"] = json!(set.item);
    }
}

pub(super) async fn reset_delay(mailbox: &Mailbox, id: &PathId) -> Reply {
    let app = id.clone();
    let known = mailbox
        .ask(move |core, _| Ok(core.reset_delay(&app)))
        .await?;
    if !known {
        return Err(Error::NotFound(format!(
            "Application {id} not found in tasks queue."
        )));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
