//! TLS as `LIBPROCESS_SSL_*` says it, between processes that both show certificates.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use dcos_wire::libprocess::{Actor, Event, Messenger, MessengerConfig};
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientConfig, Listener};
use tokio_util::sync::{CancellationToken, DropGuard};

fn ssl(more: &[(&str, &str)]) -> Ssl {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let file = |name: &str| folder.join(name).display().to_string();
    let mut variables = BTreeMap::from([
        ("ENABLED", "true".to_owned()),
        ("CERT_FILE", file("server.pem")),
        ("KEY_FILE", file("server.key")),
        ("CA_FILE", file("ca.pem")),
    ]);
    variables.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let found = Ssl::from_variables(|name| {
        let name = name.strip_prefix("LIBPROCESS_SSL_")?;
        variables.get(name).cloned()
    });
    found.unwrap().unwrap()
}

const MUTUAL: [(&str, &str); 2] = [("VERIFY_CERT", "true"), ("REQUIRE_CERT", "true")];

struct Process {
    messenger: Messenger,
    port: u16,
    _running: DropGuard,
}

async fn process(ssl: Option<Ssl>) -> Process {
    process_at([127, 0, 0, 1], ssl).await
}

async fn process_at(ip: [u8; 4], ssl: Option<Ssl>) -> Process {
    let listener = Listener::tcp((ip, 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    let config = MessengerConfig {
        tls: ssl.clone(),
        ..MessengerConfig::default()
    };
    let messenger = Messenger::with_config(address, config);
    let router = Router::new().route("/health", get(async || "fine"));
    let stop = CancellationToken::new();
    let server = messenger.server(router).ssl(ssl.as_ref());
    tokio::spawn(server.serve(listener, stop.clone()));
    Process {
        messenger,
        port: address.port(),
        _running: stop.drop_guard(),
    }
}

async fn next(actor: &mut Actor) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(10), actor.recv()).await;
    event.expect("an event in time").unwrap()
}

/// Whether a message gets through, and is not followed by the news that its receiver is gone.
async fn reaches(from: &Process, to: &Process) -> bool {
    let mut receiver = to.messenger.actor("receiver").unwrap();
    let mut sender = from.messenger.actor("sender").unwrap();
    sender.link(receiver.upid());
    sender.send(receiver.upid(), "test.Hello", "".into());
    tokio::select! {
        event = next(&mut receiver) => matches!(event, Event::Message(_)),
        _ = next(&mut sender) => false,
    }
}

#[tokio::test]
async fn messages_are_encrypted_with_certificates_on_both_sides() {
    let (one, two) = (ssl(&MUTUAL), ssl(&MUTUAL));
    let (one, two) = (process(Some(one)).await, process(Some(two)).await);
    assert!(reaches(&one, &two).await && reaches(&two, &one).await);
}

#[tokio::test]
async fn plain_peers_are_served_only_where_that_may_be() {
    let plain = process(None).await;
    let strict = process(Some(ssl(&[]))).await;
    assert!(!reaches(&plain, &strict).await && !reaches(&strict, &plain).await);
    let both = process(Some(ssl(&[("SUPPORT_DOWNGRADE", "true")]))).await;
    assert!(reaches(&plain, &both).await && reaches(&both, &plain).await);
    assert!(reaches(&strict, &both).await, "and those with TLS, too");
    let url = format!("http://127.0.0.1:{}/health", both.port);
    assert_eq!(
        Client::new().get(&url).await.unwrap().text().await.unwrap(),
        "fine"
    );
}

#[tokio::test]
async fn a_client_shows_the_certificate_that_is_asked_for() {
    let strict = process(Some(ssl(&MUTUAL))).await;
    let ask = async |tls: Ssl| {
        let config = ClientConfig {
            tls: Some(tls.client),
            ..ClientConfig::default()
        };
        let client = Client::with_config(config).unwrap();
        let url = format!("https://localhost:{}/health", strict.port);
        client.get(&url).await.is_ok()
    };
    assert!(ask(ssl(&MUTUAL)).await);
    let config = ClientConfig {
        trust: dcos_wire::tls::Trust::Anyone,
        ..ClientConfig::default()
    };
    let bare = Client::with_config(config).unwrap();
    let url = format!("https://localhost:{}/health", strict.port);
    assert!(
        bare.get(&url).await.is_err(),
        "without one it stays outside"
    );
}

/// Servers show, and clients as well, what the files hold now.
#[tokio::test]
async fn certificates_are_renewed_without_a_restart() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    // As whoever renews them does it: each file is replaced as a whole.
    let put = |from: &str, to: &str| {
        std::fs::copy(folder.join(from), at("part")).unwrap();
        std::fs::rename(at("part"), at(to)).unwrap();
    };
    put("server.pem", "own.pem");
    put("server.key", "own.key");
    let (own, key) = (at("own.pem"), at("own.key"));
    let (own, key) = (own.to_str().unwrap(), key.to_str().unwrap());
    let ca = |name: &str| folder.join(name).display().to_string();
    let (former, renewed) = (ca("ca.pem"), ca("renewed-ca.pem"));
    let changing = |trusts: &str| {
        let [verify, require] = MUTUAL;
        ssl(&[
            verify,
            require,
            ("CERT_FILE", own),
            ("KEY_FILE", key),
            ("CA_FILE", trusts),
        ])
    };
    let reached = async |tls: &Ssl, server: &Process| {
        let config = ClientConfig {
            tls: Some(tls.client.clone()),
            ..ClientConfig::default()
        };
        let url = format!("https://localhost:{}/health", server.port);
        let client = Client::with_config(config).unwrap();
        client.get(&url).await.is_ok()
    };
    // Made anew each time, for a session that is resumed shows no certificates.
    let trusts_former = || ssl(&MUTUAL);
    let trusts_renewed = || ssl(&[MUTUAL[0], ("CA_FILE", &renewed)]);
    let server = process(Some(changing(&former))).await;
    assert!(reached(&trusts_former(), &server).await);
    assert!(!reached(&trusts_renewed(), &server).await);
    // One that shows what it did, and lets in who shows the renewed one.
    let picky = ssl(&[MUTUAL[0], MUTUAL[1], ("CA_FILE", &renewed)]);
    let picky = process(Some(picky)).await;
    let client = changing(&former);
    assert!(!reached(&client, &picky).await);

    // The new certificate and the old key fit nothing, and so does what is no certificate.
    put("renewed.pem", "own.pem");
    assert!(reached(&trusts_former(), &server).await);
    assert!(!reached(&client, &picky).await);
    std::fs::write(at("own.pem"), "nonsense").unwrap();
    assert!(reached(&trusts_former(), &server).await);
    std::fs::remove_file(at("own.pem")).unwrap();
    assert!(reached(&trusts_former(), &server).await);

    put("renewed.key", "own.key");
    put("renewed.pem", "own.pem");
    assert!(
        !reached(&trusts_former(), &server).await,
        "it shows another"
    );
    assert!(reached(&trusts_renewed(), &server).await, "which is this");
    assert!(reached(&client, &picky).await, "clients show it, too");
}

#[tokio::test]
async fn an_address_is_a_name_only_if_asked_for() {
    // The certificate is for `localhost` and 127.0.0.1.
    let server = process_at([127, 0, 0, 2], Some(ssl(&[]))).await;
    let named = [("VERIFY_SERVER_CERT", "true"), ("VERIFY_IPADD", "true")];
    for (variables, host, expected) in [
        (&named[..1], "127.0.0.2", true),
        (&named[..], "127.0.0.2", false),
    ] {
        let config = ClientConfig {
            tls: Some(ssl(variables).client),
            ..ClientConfig::default()
        };
        let client = Client::with_config(config).unwrap();
        let url = format!("https://{host}:{}/health", server.port);
        assert_eq!(
            client.get(&url).await.is_ok(),
            expected,
            "{host} {variables:?}"
        );
    }
}

/// As in Mesos, where `REQUIRE_CERT` implies `VERIFY_CERT`.
#[tokio::test]
async fn who_asks_clients_for_certificates_checks_servers_too() {
    let server = process(Some(ssl(&[]))).await;
    // It trusts nobody who is there.
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let other = folder.join("server.pem").display().to_string();
    for (variable, expected) in [
        ("SUPPORT_DOWNGRADE", true),
        ("REQUIRE_CERT", false),
        ("REQUIRE_CLIENT_CERT", false),
    ] {
        let config = ClientConfig {
            tls: Some(ssl(&[(variable, "true"), ("CA_FILE", &other)]).client),
            ..ClientConfig::default()
        };
        let client = Client::with_config(config).unwrap();
        let url = format!("https://localhost:{}/health", server.port);
        assert_eq!(client.get(&url).await.is_ok(), expected, "{variable}");
    }
}
