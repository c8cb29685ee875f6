//! Connections that become something else (RFC 9110 section 7.8, RFC 6455).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::backend::backend;
use crate::setup::{answer, before, head, header};

const ASK: &str = "GET /service/app/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways_until_one_side_ends_it() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let mut client = served.connect().await;
    client.write_all(ASK.as_bytes()).await.unwrap();
    let mut behind = backend.accept().await;
    let asked = head(&mut behind).await;
    assert!(asked.starts_with("GET /ws HTTP/1.1"), "{asked}");
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-key", "k"),
    ] {
        assert_eq!(header(&asked, name), Some(value), "{asked}");
    }
    // The first bytes of the new protocol come right behind the head.
    behind
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s\r\n\r\nhello")
        .await
        .unwrap();
    let switched = head(&mut client).await;
    assert!(switched.starts_with("HTTP/1.1 101 "), "{switched}");
    assert_eq!(header(&switched, "sec-websocket-accept"), Some("s"));
    let mut bytes = [0; 5];
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
    client.write_all(b"world").await.unwrap();
    behind.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"world");
    drop(behind);
    assert_eq!(client.read(&mut bytes).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_refused_upgrade_is_an_answer_like_others() {
    let said = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 4\r\n\r\nnope";
    let served = before(backend().await.say(said)).await;
    let answer = served.ask(ASK).await;
    assert_eq!((answer.status, &*answer.text()), (426, "nope"));
}

#[tokio::test]
async fn http_inside_of_http_is_not_offered_on() {
    let served = before(backend().await.reflect()).await;
    let request = "GET /service/app/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let seen = served.ask(request).await.text();
    for name in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(header(&seen, name), None, "{seen}");
    }
}

#[tokio::test]
async fn nobody_is_switched_who_did_not_ask() {
    let said = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    let served = before(backend().await.say(said)).await;
    let mut client = served.connect().await;
    client
        .write_all(b"GET /service/app/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(answer(&mut client).await.status, 502);
}
