//! dcos-net's REST API, put together of what a process knows: on loopback, and behind the router as `/net/`.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use axum::Router;
use axum::routing::{any, get};
use dcos_core::config::{Origin, Values};
use dcos_wire::{Listener, Server, reply};
use http::{StatusCode, Uri};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// What there is; what there is not answers 501 and says which option it takes.
#[derive(Debug, Default)]
pub struct NetParts {
    /// Who is there, from gossip.
    pub nodes: Option<Router>,
    /// Virtual addresses, from what balances here.
    pub vips: Option<Router>,
    /// Names, from a name server here.
    pub names: Option<Router>,
    /// What is counted of the overlays, from what joined them here.
    pub overlay: Option<Router>,
    /// What is counted of the leading master's events, from what follows them here.
    pub listener: Option<Router>,
}

/// What the paths of each part begin with, and what it takes.
const NODES: (&[&str], &str) = (
    &["/v1/nodes", "/v1/members", "/v1/metrics/gossip"],
    "--gossip_key",
);
const VIPS: (&[&str], &str) = (
    &["/v1/vips", "/v1/metrics/l4lb", "/v1/metrics/default"],
    "--l4lb",
);
const NAMES: (&[&str], &str) = (
    &[
        "/v1/hosts/{host}",
        "/v1/services/{service}",
        "/v1/records",
        "/v1/metrics/dns",
    ],
    "a name server: --dns on agents, the component dns on masters",
);
const OVERLAY: (&[&str], &str) = (
    &["/v1/metrics/overlay"],
    "--overlay on agents, --join_overlay on masters",
);
const LISTENER: (&[&str], &str) = (
    &["/v1/metrics/mesos_listener"],
    "--l4lb, or --dns on agents: who needs no events hears none",
);
/// What of the original is nowhere here, and why.
const NOWHERE: &[(&str, &str)] = &[
    ("/v1/config", "dcos-net has none either"),
    (
        "/v1/enumerate",
        "dcos-net has none either; Mesos-DNS has it, at port 8123",
    ),
    (
        "/v1/metrics/lashup",
        "there is no lashup; see /v1/metrics/gossip",
    ),
    (
        "/lashup/kv/{*key}",
        "there is no lashup, and nobody is shown the cluster's keys",
    ),
    (
        "/lashup/key",
        "there is no lashup, and nobody is shown the cluster's keys",
    ),
];

impl NetParts {
    /// The whole API.
    pub fn router(self) -> Router {
        let mut router = Router::new().route("/v1/version", get(version));
        let parts = [
            (self.nodes, NODES),
            (self.vips, VIPS),
            (self.names, NAMES),
            (self.overlay, OVERLAY),
            (self.listener, LISTENER),
        ];
        for (part, (paths, takes)) in parts {
            match part {
                Some(part) => router = router.merge(part),
                None => {
                    for path in paths {
                        router = absent(router, path, &format!("this takes {takes}"));
                    }
                }
            }
        }
        for (path, why) in NOWHERE {
            router = absent(router, path, why);
        }
        router.fallback(|uri: Uri| async move {
            let text = format!("404 Not Found: dcos-net has nothing at {}", uri.path());
            reply::text(StatusCode::NOT_FOUND, text)
        })
    }
}

fn absent(router: Router, path: &str, why: &str) -> Router {
    let text = format!("501 Not Implemented: {why}");
    let answer = move || std::future::ready(reply::text(StatusCode::NOT_IMPLEMENTED, text.clone()));
    router.route(path, any(answer))
}

/// As dcos-net's, under the name of its application.
async fn version() -> axum::response::Response {
    let version = json!({ "Service": "dcos-dns", "Version": env!("CARGO_PKG_VERSION") });
    reply::json(version.to_string())
}

/// The API at a port of this host's loopback.
#[derive(Debug)]
pub struct Net {
    listener: Listener,
    routes: Router,
    /// Where it is asked.
    pub address: SocketAddr,
}

impl Net {
    /// Bound at `--net_port`. One that serves only this process (a router, `alone`) takes any port instead, unless the
    /// operator says one: several masters of a development machine have no quarrel then.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn bind(values: &Values, parts: NetParts, alone: bool) -> anyhow::Result<Self> {
        let is_said = values
            .origin("net_port")
            .is_some_and(|origin| origin != Origin::Default);
        let port = if alone && !is_said {
            0
        } else {
            values.port("net_port")
        };
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let listener = Listener::tcp(address)
            .await
            .with_context(|| format!("listening on {address} (--net_port)"))?;
        Ok(Self {
            address: listener.address().unwrap_or(address),
            listener,
            routes: parts.router(),
        })
    }

    /// Answers until `stop` is cancelled.
    pub async fn serve(self, stop: CancellationToken) {
        Server::new(self.routes).serve(self.listener, stop).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use dcos_proto::master::Event;
    use dcos_wire::Told;
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn asked(router: &Router, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("no error");
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("a body");
        (
            status,
            String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        )
    }

    #[tokio::test]
    async fn what_is_not_there_says_what_it_takes() {
        let vips = Router::new().route("/v1/vips", get(|| async { "[]" }));
        let (tell, heard, counting) = crate::listener();
        let parts = NetParts {
            vips: Some(vips),
            listener: Some(heard),
            ..NetParts::default()
        };
        let router = parts.router();
        let (heed, _heeded) = tokio::sync::mpsc::channel(1);
        for told in [
            Told::Asked([].into(), heed.clone()),
            Told::Asked([].into(), heed),
            Told::Leader("10.0.0.1:5050".into()),
            Told::Event(Event::default().into()),
        ] {
            tell.send(told).await.expect("it listens");
        }
        drop(tell);
        counting.await;
        let (_, counted) = asked(&router, "/v1/metrics/mesos_listener").await;
        for line in ["messages_total 1", "streams_total 1", "failures_total 1"] {
            assert!(counted.lines().any(|found| found == line), "{counted}");
        }
        for (path, status, word) in [
            ("/v1/version", 200, "\"dcos-dns\""),
            ("/v1/vips", 200, "[]"),
            ("/v1/nodes?force", 501, "--gossip_key"),
            ("/v1/hosts/leader.mesos", 501, "--dns"),
            ("/v1/metrics/overlay", 501, "--join_overlay"),
            ("/v1/config", 501, "dcos-net"),
            ("/v1/metrics/lashup", 501, "/v1/metrics/gossip"),
            ("/lashup/kv/a/b", 501, "no lashup"),
            ("/v2/vips", 404, "/v2/vips"),
        ] {
            let (found, text) = asked(&router, path).await;
            assert_eq!(found, status, "{path}: {text}");
            assert!(text.contains(word), "{path}: {text}");
        }
    }
}
