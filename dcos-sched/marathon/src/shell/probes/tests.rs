//! Checks against servers that answer well, badly, late and not at all.

use std::net::SocketAddr;
use std::path::Path;

use ::http::StatusCode;
use dcos_wire::{Listener, Server, tls};

use super::*;

const CERTIFICATES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../dcos-core/wire/tests/tls"
);

/// A server with a few paths; its certificate is signed by nobody the system trusts.
async fn server(secure: bool) -> (SocketAddr, CancellationToken) {
    let router = axum::Router::new()
        .route("/ok", axum::routing::get(async || "fine"))
        .route("/moved", axum::routing::get(async || StatusCode::FOUND))
        .route(
            "/bad",
            axum::routing::get(async || StatusCode::SERVICE_UNAVAILABLE),
        )
        .route("/never", axum::routing::get(std::future::pending::<String>));
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    let mut server = Server::new(router);
    if secure {
        let file = |name: &str| Path::new(CERTIFICATES).join(name);
        server = server.tls(tls::server(&file("server.pem"), &file("server.key"), None).unwrap());
    }
    let stop = CancellationToken::new();
    tokio::spawn(server.serve(listener, stop.clone()));
    (address, stop)
}

async fn outcome(protocol: &str, port: u16, path: &str) -> Option<Result<(), String>> {
    let check = serde_json::json!({"protocol": protocol, "path": path, "timeoutSeconds": 1});
    let check: HealthCheck = serde_json::from_value(check).unwrap();
    let work = Work {
        check: Check::Health(0, check),
        host: "127.0.0.1".into(),
        port,
    };
    let instance = InstanceId::new(&"/a".into(), "u");
    match once(&instance, &work).await {
        Some(Probe::Health { outcome, .. }) => Some(outcome),
        _ => None,
    }
}

#[tokio::test]
async fn answers_decide() {
    for (secure, protocol) in [(false, "HTTP"), (true, "HTTPS")] {
        let (address, _stop) = server(secure).await;
        let ask = |path| outcome(protocol, address.port(), path);
        assert_eq!(ask("/ok").await, Some(Ok(())), "{protocol}");
        assert_eq!(
            ask("moved").await,
            Some(Ok(())),
            "3xx passes and is not followed"
        );
        assert_eq!(
            ask("/bad").await,
            Some(Err("503 Service Unavailable".into()))
        );
        assert_eq!(ask("/none").await, Some(Err("404 Not Found".into())));
        assert_eq!(
            ask("/never").await,
            Some(Err("no answer within 1 s".into()))
        );
        assert_eq!(outcome("TCP", address.port(), "").await, Some(Ok(())));
    }
}

#[tokio::test]
async fn the_host_is_named_as_urls_name_it() {
    for (host, named) in [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")] {
        let address = SocketAddr::new(host.parse().unwrap(), 0);
        let listener = Listener::tcp(address).await.unwrap();
        let port = listener.address().unwrap().port();
        let answer = |headers: ::http::HeaderMap| async move {
            headers["host"].to_str().unwrap().to_owned()
        };
        let router = axum::Router::new().route("/", axum::routing::get(answer));
        tokio::spawn(Server::new(router).serve(listener, CancellationToken::new()));
        let answer = http::get(false, host, port, "/").await.unwrap();
        assert_eq!(answer.body, format!("{named}:{port}"));
    }
}

#[tokio::test]
async fn nobody_there_is_a_failure() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    for protocol in ["TCP", "HTTP", "HTTPS"] {
        let found = outcome(protocol, port, "/").await;
        assert!(
            matches!(&found, Some(Err(cause)) if cause.contains("refused")),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn readiness_keeps_the_answer_if_asked() {
    let (address, _stop) = server(false).await;
    let check: ReadinessCheck =
        serde_json::from_value(serde_json::json!({"path": "/ok", "preserveLastResponse": true}))
            .unwrap();
    let work = Work {
        check: Check::Readiness(check.clone()),
        host: "127.0.0.1".into(),
        port: address.port(),
    };
    let result = readiness(&check, &work).await;
    assert!(result.ready);
    let (status, _, body) = result.last_response.unwrap();
    assert_eq!((status, body.as_str()), (200, "fine"));
    let bad = ReadinessCheck {
        path: "/bad".into(),
        preserve_last_response: false,
        ..check
    };
    let result = readiness(&bad, &work).await;
    assert!(!result.ready && result.last_response.is_none());
}

#[test]
fn a_fixed_port_is_looked_for_where_the_container_is() {
    let asked = |mode: &str, addresses: &[&str]| {
        let spec = serde_json::json!({
            "id": "/a", "cmd": "run", "networks": [{"mode": mode, "name": "n"}],
            "container": {"type": "MESOS"},
            "healthChecks": [{"protocol": "HTTP", "port": 8080}],
        });
        let spec: App = serde_json::from_value(spec).unwrap();
        let agent = crate::instance::Agent {
            host: "agent".into(),
            ..Default::default()
        };
        let id = InstanceId::new(&spec.id, "u");
        let now = crate::Timestamp::default();
        let mut instance = Instance::launched(id, &spec, agent, Vec::new(), now);
        instance.addresses = addresses.iter().map(|one| (*one).to_owned()).collect();
        health_target(&spec, &instance, &spec.health_checks[0])
    };
    let at = |host: &str| Some((host.to_owned(), 8080));
    assert_eq!(asked("container", &["9.0.0.5"]), at("9.0.0.5"));
    assert_eq!(
        asked("container", &[]),
        None,
        "its address is not known yet"
    );
    assert_eq!(asked("container/bridge", &["172.17.0.2"]), at("agent"));
    assert_eq!(asked("host", &["10.0.0.1"]), at("agent"));
}
