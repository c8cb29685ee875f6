//! The part of dcos-net's REST API that a balancer can answer: VIPs and their metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use dcos_net::vip::{self, Listed, Protocol};
use dcos_wire::reply;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use crate::View;
use crate::dataplane::Connections;

/// The routes, below `/v1`.
pub fn router(view: View) -> Router {
    Router::new()
        .route("/v1/vips", get(vips))
        .route("/v1/metrics/l4lb", get(metrics))
        .route("/v1/metrics/default", get(metrics))
        .with_state(view)
}

async fn vips(State(view): State<View>) -> Response {
    reply::json(vip::document(&view.list()))
}

async fn metrics(State(view): State<View>) -> Response {
    let connections = view.connections().await;
    let text = exposition(&view.list(), &view.unreachable(), &connections);
    let mut response = reply::text(StatusCode::OK, text);
    let prometheus = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, prometheus);
    response
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
