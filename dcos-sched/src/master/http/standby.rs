//! What stands before the routes: a master that does not lead redirects to the one that does.
//!
//! Source: Mesos 1.11 `Master::Http::redirect` and the checks at the top of each handler. Departure: a path that is
//! no route is redirected too, and refused by the leader.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use dcos_proto::mesos::MasterInfo;
use dcos_wire::reply;
use serde_json::json;

use super::{Api, metrics};
use crate::master::Stance;

pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let stance = api.stance.borrow().clone();
    let path = request.uri().path();
    let route = path.strip_prefix("/master").unwrap_or(path);
    let own = matches!(
        route,
        "/health" | "/flags" | "/version" | "/logging/toggle" | "/system/stats.json"
    ) || route.starts_with("/files/")
        // What this node knows of others, whoever leads.
        || path.starts_with("/net/");
    match stance {
        Stance::Leading => next.run(request).await,
        _ if own => next.run(request).await,
        _ if path == "/metrics/snapshot" => reply::json(json!(unelected(&api)).to_string()),
        _ if path == "/metrics" => metrics::page(&unelected(&api)),
        Stance::Recovering => reply::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "Master has not finished recovery",
        ),
        Stance::Standby(leader) => {
            let leader = leader.as_deref().map(address);
            if route == "/redirect" {
                // To the leader itself: its own `/redirect` would lead here again.
                return base(leader.as_deref());
            }
            if route.starts_with("/redirect/") {
                return reply::not_found();
            }
            reply::leader(leader.as_deref(), request.uri())
        }
    }
}

/// Where a master is reached, as `host:port`.
pub(super) fn address(info: &MasterInfo) -> String {
    let address = info.address.as_ref();
    let host = info
        .hostname
        .clone()
        .or_else(|| address.and_then(|address| address.hostname.clone()))
        .or_else(|| address.and_then(|address| address.ip.clone()))
        .unwrap_or_default();
    format!("{host}:{}", info.port)
}

fn base(leader: Option<&str>) -> Response {
    let mut response = reply::leader(leader, &axum::http::Uri::from_static("/"));
    let location = leader.and_then(|leader| format!("//{leader}").parse().ok());
    if let Some(location) = location {
        response
            .headers_mut()
            .insert(axum::http::header::LOCATION, location);
    }
    response
}

/// The metrics of a master that knows of no agent and no framework.
fn unelected(api: &Api) -> BTreeMap<String, f64> {
    let mut values: BTreeMap<String, f64> = metrics::host()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    values.insert("master/elected".to_owned(), 0.0);
    if let Some(start) = api.config.settings.process_start {
        let uptime = dcos_core::time::steady() - start;
        values.insert("master/uptime_secs".to_owned(), uptime.as_secs_f64());
    }
    values
}
