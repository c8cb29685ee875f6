//! A standby of a cluster on TLS.

use super::*;

const KEYS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../dcos-core/wire/tests/tls"
);

fn ssl(more: &[&str]) -> Ssl {
    let found = Ssl::from_variables(|name| {
        let name = name.strip_prefix("LIBPROCESS_SSL_")?;
        let file = |name: &str| Some(format!("{KEYS}/{name}"));
        match name {
            "ENABLED" | "VERIFY_CERT" => Some("true".to_owned()),
            "CERT_FILE" => file("server.pem"),
            "KEY_FILE" => file("server.key"),
            "CA_FILE" => file("ca.pem"),
            _ => more.contains(&name).then(|| "true".to_owned()),
        }
    });
    found.unwrap().unwrap()
}

/// Serves on an address of its own.
async fn served(
    servers: &mut JoinSet<()>,
    tls: Option<&Ssl>,
    router: impl FnOnce(&str) -> Router,
) -> String {
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap().to_string();
    let server = Server::new(router(&address)).ssl(tls);
    servers.spawn(async move {
        server.serve(listener, CancellationToken::new()).await;
    });
    address
}

/// What a standby with `own` TLS says of a leader with `theirs`, and where it sends readers of events.
async fn said(own: &Ssl, theirs: Option<&Ssl>) -> (StatusCode, String) {
    let mut servers = JoinSet::new();
    let leader = served(&mut servers, theirs, |_| {
        Router::new().fallback(async || "leading")
    })
    .await;
    let leading = watch::Sender::new(Some(Leader {
        term: Term(1),
        candidate: leader.clone().into(),
    }));
    let standby = served(&mut servers, Some(own), |address| {
        let elected = CancellationToken::new();
        router(address, leading.subscribe(), elected, Some(own)).unwrap()
    })
    .await;
    let client = Client::with_config(ClientConfig {
        tls: Some(Arc::clone(&own.client)),
        max_redirects: 0,
        ..ClientConfig::default()
    })
    .unwrap();
    let ask = async |path: &str| {
        let request = http::Request::get(format!("https://{standby}{path}"));
        let request = request.body(Body::empty()).unwrap();
        client.send_streaming(request).await.unwrap()
    };
    let events = ask("/v2/events").await;
    assert_eq!(events.status(), StatusCode::FOUND);
    let location = events.headers()["location"].to_str().unwrap();
    assert!(
        location.ends_with(&format!("://{leader}/v2/events")),
        "{location}"
    );
    let scheme = location.split(':').next().unwrap().to_owned();
    let answer = ask("/ping").await;
    (answer.status(), scheme)
}

#[tokio::test]
async fn the_way_to_the_leader_is_encrypted_too() {
    let own = ssl(&["REQUIRE_CERT"]);
    let https = || "https".to_owned();
    assert_eq!(said(&own, Some(&own)).await, (StatusCode::OK, https()));
    let plain = said(&own, None).await;
    assert_eq!(plain, (StatusCode::BAD_GATEWAY, https()), "never in clear");
}

#[tokio::test]
async fn a_leader_that_is_not_moved_to_tls_yet_is_asked_without() {
    let own = ssl(&["SUPPORT_DOWNGRADE"]);
    let expected = |scheme: &str| (StatusCode::OK, scheme.to_owned());
    assert_eq!(said(&own, None).await, expected("http"));
    assert_eq!(said(&own, Some(&own)).await, expected("https"));
    let strict = ssl(&["REQUIRE_CERT"]);
    assert_eq!(said(&own, Some(&strict)).await, expected("https"));
}
