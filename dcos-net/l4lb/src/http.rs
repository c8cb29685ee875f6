//! The part of dcos-net's REST API that a balancer can answer: VIPs and their metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use dcos_net::vip::{self, Listed, Protocol};
use dcos_wire::reply;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::dataplane::Connections;
use crate::{Failures, View};

/// The routes, below `/v1`.
pub fn router(view: View) -> Router {
    Router::new()
        .route("/v1/vips", get(vips))
        .route("/v1/metrics/l4lb", get(metrics))
        .route("/v1/metrics/default", get(metrics))
        .with_state(view)
}

/// With an `ETag`, as the original has one: who asks again is told whether anything changed.
async fn vips(State(view): State<View>, asked: HeaderMap) -> Response {
    let document = vip::document(&view.list());
    let mut hasher = DefaultHasher::new();
    document.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let known = asked.get_all(IF_NONE_MATCH).iter();
    let mut known = known
        .filter_map(|tags| tags.to_str().ok())
        .flat_map(|tags| tags.split(','));
    let is_known = known.any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        reply::json(document)
    };
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

async fn metrics(State(view): State<View>) -> Response {
    let connections = view.connections().await;
    let mut text = exposition(&view.list(), &view.unreachable(), &connections);
    failures(&mut text, &view.failures());
    let remembered = view.remembered_for().unwrap_or_default();
    let _ = write!(
        text,
        "# HELP remembered_seconds How old what VIPs are made of is, as long as no master told since this process began; 0 once one did.\n\
         # TYPE remembered_seconds gauge\nremembered_seconds {}\n",
        remembered.as_secs_f64()
    );
    let mut response = reply::text(StatusCode::OK, text);
    let prometheus = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, prometheus);
    response
}

/// What connections told of their backends.
fn failures(text: &mut String, failures: &Failures) {
    let _ = write!(
        text,
        "# HELP reached_backends The number of backends that answered a connection of the node's own: of others none is avoided.\n\
         # TYPE reached_backends gauge\nreached_backends {}\n\
         # HELP avoided_backends The number of backends found dead: they are given no connections where a VIP may do without.\n\
         # TYPE avoided_backends gauge\navoided_backends {}\n\
         # HELP failures_total Connections that a backend refused, or did not answer in three seconds.\n\
         # TYPE failures_total counter\n",
        failures.reached,
        failures.avoided.len()
    );
    for (backend, count) in &failures.counts {
        let _ = writeln!(text, "failures_total{{backend=\"{backend}\"}} {count}");
    }
}

/// What Prometheus reads.
fn exposition(
    listed: &[Listed],
    unreachable: &BTreeSet<IpAddr>,
    connections: &Connections,
) -> String {
    let backends = listed.iter().flat_map(|vip| &vip.backends);
    let (open, all) = (
        backends.clone().filter(|backend| backend.open).count(),
        backends.clone().count(),
    );
    let cut_off = backends.filter(|backend| unreachable.contains(&backend.agent));
    let mut text = String::new();
    for (name, help, value) in [
        ("vips", "The number of VIPs.", listed.len()),
        ("backends", "The number of VIP backends.", all),
        (
            "open_backends",
            "The number of VIP backends that take new connections.",
            open,
        ),
        (
            "unreachable_nodes",
            "The number of nodes that gossip does not reach.",
            unreachable.len(),
        ),
        (
            "unreachable_backends",
            "The number of VIP backends on such nodes.",
            cut_off.count(),
        ),
    ] {
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
        );
    }
    let names: BTreeMap<(Protocol, std::net::SocketAddr), String> = listed
        .iter()
        .flat_map(|vip| {
            let place = |ip: &_| (vip.protocol, std::net::SocketAddr::new(*ip, vip.port));
            vip.addresses
                .iter()
                .map(move |ip| (place(ip), vip.to_string()))
        })
        .collect();
    text.push_str(
        "# HELP connections_total Connections (flows of datagrams) given to a backend.\n\
         # TYPE connections_total counter\n",
    );
    for ((service, backend), count) in connections {
        let Some(name) = names.get(&(service.protocol, service.address)) else {
            continue;
        };
        let protocol = service.protocol.as_str();
        let _ = writeln!(
            text,
            "connections_total{{vip=\"{name}\",protocol=\"{protocol}\",backend=\"{backend}\"}} {count}"
        );
    }
    text
}
