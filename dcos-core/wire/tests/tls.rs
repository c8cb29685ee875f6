//! HTTPS between our own client and server.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use dcos_wire::tls::{self, Trust};
use dcos_wire::{Client, ClientConfig, ClientError, Listener, Peer, Server, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::{CancellationToken, DropGuard};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tls")
        .join(name)
}

async fn serve(clients: Option<&str>) -> (u16, DropGuard) {
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let port = listener.address().unwrap().port();
    let clients = clients.map(file);
    let tls = tls::server(&file("server.pem"), &file("server.key"), clients.as_deref()).unwrap();
    let router = Router::new().route(
        "/",
        get(async |peer: Peer| format!("{} certificates", peer.certificates.len())),
    );
    let config = ServerConfig {
        header_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    };
    let stop = CancellationToken::new();
    let server = Server::new(router).tls(tls).config(config);
    tokio::spawn(server.serve(listener, stop.clone()));
    (port, stop.drop_guard())
}

fn client(trust: Trust) -> Client {
    let config = ClientConfig {
        trust,
        ..ClientConfig::default()
    };
    Client::with_config(config).unwrap()
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_served() {
    let (port, _running) = serve(None).await;
    let url = format!("https://localhost:{port}/");
    let trusting = client(Trust::File(file("ca.pem")));
    let answer = trusting.get(&url).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "0 certificates");

    let error = client(Trust::System).get(&url).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    let plain = format!("http://localhost:{port}/");
    assert!(trusting.get(&plain).await.is_err());
    assert!(trusting.get(&url).await.is_ok(), "it goes on serving");
}

#[tokio::test]
async fn a_client_without_a_certificate_stays_outside_where_one_is_asked_for() {
    let (port, _running) = serve(Some("ca.pem")).await;
    let url = format!("https://localhost:{port}/");
    assert!(client(Trust::File(file("ca.pem"))).get(&url).await.is_err());
}

#[tokio::test]
async fn a_handshake_that_does_not_begin_is_given_up() {
    let (port, _running) = serve(None).await;
    let mut silent = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .unwrap();
    let mut nothing = Vec::new();
    let closed = silent.read_to_end(&mut nothing);
    let closed = tokio::time::timeout(Duration::from_secs(10), closed).await;
    assert!(closed.is_ok());
}

/// MESOS-10186 and MESOS-5989: what is no handshake, half of one, or given up in its midst ends a connection only.
#[tokio::test]
async fn broken_handshakes_harm_nobody_else() {
    let (port, _running) = serve(None).await;
    // A record of a handshake, its length, a ClientHello of version 1.2 and what it says of itself.
    let mut hello = vec![22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
    hello.resize(205, 7);
    let beginnings: [&[u8]; 8] = [
        b"",
        &[22],
        &hello[..5],
        &hello[..100],
        &hello,
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 64],
        &[0xff; 16_000],
    ];
    for begun in beginnings {
        for polite in [true, false] {
            let connection = tokio::net::TcpStream::connect(("127.0.0.1", port));
            let mut connection = connection.await.unwrap();
            // The server may be faster in closing it than we are in writing.
            let _ = connection.write_all(begun).await;
            if polite {
                let _ = connection.shutdown().await;
                let mut rest = Vec::new();
                let end = connection.read_to_end(&mut rest);
                let end = tokio::time::timeout(Duration::from_secs(30), end).await;
                assert!(end.is_ok(), "{begun:?} keeps its connection");
            } else {
                // Unread, it ends by a reset.
                connection.set_zero_linger().unwrap();
            }
        }
        let trusting = client(Trust::File(file("ca.pem")));
        let answer = trusting.get(&format!("https://localhost:{port}/")).await;
        assert_eq!(answer.unwrap().text().await.unwrap(), "0 certificates");
    }
}

#[test]
fn files_that_hold_no_key_or_certificate_are_named() {
    let error = tls::server(&file("server.pem"), &file("ca.pem"), None).unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
    let error = tls::server(&file("server.key"), &file("server.key"), None).unwrap_err();
    assert!(error.to_string().contains("server.key"), "{error}");
}
