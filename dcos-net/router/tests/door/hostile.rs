//! Clients that go, and answers that are meant to cost or to mislead: on either way.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::backend::backend;
use crate::setup::{answer, before, head};

const GET: &str = "GET /service/app/ HTTP/1.1\r\nHost: a\r\n\r\n";

/// Whether the other side has closed a connection, or does.
async fn ends(stream: &mut TcpStream) -> bool {
    let closing = async {
        let mut piece = [0; 4096];
        while stream.read(&mut piece).await.is_ok_and(|read| read > 0) {}
    };
    tokio::time::timeout(Duration::from_secs(20), closing)
        .await
        .is_ok()
}

#[tokio::test]
async fn a_client_that_goes_is_noticed_whatever_it_sent_ahead() {
    let backend = backend().await;
    let served = before(backend.address).await;
    for behind in ["X", GET, &GET.repeat(500), "\r\n", "POST / HTTP/1.1\r\n"] {
        for said in [
            "",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        ] {
            let mut client = served.connect().await;
            let request = format!("{GET}{behind}");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut stream = backend.accept().await;
            head(&mut stream).await;
            stream.write_all(said.as_bytes()).await.unwrap();
            if !said.is_empty() {
                head(&mut client).await;
            }
            drop(client);
            assert!(ends(&mut stream).await, "{behind:.20?}, {said:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_before_there_is_a_connection_is_noticed() {
    let silent = backend().await;
    let served = before(silent.address).await;
    served.know(&[("app", &format!("https://{}", silent.address))]);
    let mut client = served.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut stream = silent.accept().await;
    assert!(stream.read(&mut [0; 1]).await.is_ok(), "a TLS hello");
    let begun = std::time::Instant::now();
    drop(client);
    assert!(ends(&mut stream).await);
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(9), "not the limit: {waited:?}");
}

#[tokio::test]
async fn a_body_where_there_is_none_answers_nobody() {
    let cases = [
        ("HEAD", "200 OK", "Content-Length: 9"),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked"),
        ("GET", "304 Not Modified", "Content-Length: 9"),
        ("GET", "204 No Content", "Transfer-Encoding: chunked"),
    ];
    for (method, status, announced) in cases {
        let backend = backend().await;
        let served = before(backend.address).await;
        let service = async {
            let mut stream = backend.accept().await;
            head(&mut stream).await;
            let said = format!("HTTP/1.1 {status}\r\n{announced}\r\n\r\n");
            stream.write_all(said.as_bytes()).await.unwrap();
            // What it announced comes late; the next request is answered by another connection.
            let evil = async {
                head(&mut stream).await;
                let said = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
                stream.write_all(said).await.is_ok()
            };
            let good = async {
                let mut stream = backend.accept().await;
                head(&mut stream).await;
                let said = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
                stream.write_all(said).await.unwrap();
            };
            tokio::join!(evil, async {
                tokio::time::timeout(Duration::from_secs(60), good)
                    .await
                    .ok()
            });
        };
        let client = async {
            let mut client = served.connect().await;
            let first = format!("{method} /service/app/ HTTP/1.1\r\nHost: a\r\n\r\n");
            client.write_all(first.as_bytes()).await.unwrap();
            assert!(head(&mut client).await.contains(status));
            client.write_all(GET.as_bytes()).await.unwrap();
            assert_eq!(
                answer(&mut client).await.text(),
                "good",
                "{method} {status} {announced}"
            );
        };
        tokio::join!(service, client);
    }
}

/// An answer that can be read in two ways is framed anew and the last one of its connection, or none at all (RFC 9112 section 6.3).
#[tokio::test]
async fn answers_with_two_meanings_have_one_frame() {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let cases = [
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            chunks,
            Some(false),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 30",
            chunks,
            Some(false),
        ),
        ("Content-Length: 5, 5", "hello", Some(true)),
        (
            "Content-Length: 5\r\ncontent-length: 5",
            "hello",
            Some(true),
        ),
        ("Content-Length: 5\r\nContent-Length: 6", "hello!", None),
        ("Content-Length: +5", "hello", None),
        ("Transfer-Encoding: gzip, chunked", chunks, None),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            chunks,
            None,
        ),
    ];
    for (framing, body, kept) in cases {
        let backend = backend().await;
        let served = before(backend.address).await;
        let service = async {
            let mut stream = backend.accept().await;
            head(&mut stream).await;
            let said = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}");
            stream.write_all(said.as_bytes()).await.unwrap();
            stream
        };
        let mut client = served.connect().await;
        client.write_all(GET.as_bytes()).await.unwrap();
        let (answer, mut stream) = tokio::join!(answer(&mut client), service);
        let Some(kept) = kept else {
            assert_eq!(answer.status, 502, "{framing}");
            continue;
        };
        let frames = ["content-length", "transfer-encoding"].map(|name| answer.header(name));
        assert_eq!(
            (answer.status, &*answer.text()),
            (200, "hello"),
            "{framing}"
        );
        assert!(
            matches!(frames, [Some("5"), None] | [None, Some("chunked")]),
            "{frames:?}"
        );
        client.write_all(GET.as_bytes()).await.unwrap();
        assert_eq!(head(&mut stream).await.is_empty(), !kept, "{framing}");
    }
}

#[tokio::test]
async fn answers_that_name_too_much_are_none() {
    let names = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: {}\r\n\r\nok",
        "a,".repeat(200)
    );
    let few = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: 1\r\nB: 1\r\nConnection: {}a\r\n\r\nok",
        ",".repeat(200_000)
    );
    for (said, expected) in [(names, 502), (few, 200)] {
        let said: &'static str = said.leak();
        let served = before(backend().await.say(said)).await;
        let answer = served.get("/service/app/").await;
        assert_eq!(answer.status, expected, "{said:.60}");
        if expected == 200 {
            assert_eq!((answer.header("a"), answer.header("b")), (None, Some("1")));
        }
    }
}

/// Whoever only promises an answer is given up, whatever was asked and however many promises come at a time.
#[tokio::test]
async fn answers_that_are_promised_for_ever_are_none() {
    let asked = [
        GET,
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "GET /service/app/ HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    for request in asked {
        for at_once in [1, 1000] {
            let backend = backend().await;
            let served = before(backend.address).await;
            let promises = "HTTP/1.1 102 Processing\r\n\r\n".repeat(at_once);
            let service = async {
                let mut stream = backend.accept().await;
                head(&mut stream).await;
                while stream.write_all(promises.as_bytes()).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            };
            let (answer, ()) = tokio::join!(served.ask(request), service);
            assert_eq!(answer.status, 502, "{request}, {at_once}");
        }
    }
    // Some are fine.
    let said = "HTTP/1.1 102 Processing\r\n\r\n".repeat(16)
        + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let served = before(backend().await.say(said.leak())).await;
    for request in &asked[..2] {
        assert_eq!(served.ask(request).await.text(), "ok", "{request}");
    }
}

#[tokio::test]
async fn a_head_that_drips_is_not_read_anew_for_each_drop() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let service = async {
        let mut stream = backend.accept().await;
        stream.set_nodelay(true).unwrap();
        head(&mut stream).await;
        let said = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(200_000));
        stream.write_all(said.as_bytes()).await.unwrap();
        for drop in "bbbbb\r\nContent-Length: 2\r\n\r\nok".bytes() {
            stream.write_all(&[drop]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(served.get("/service/app/"), service);
    let x = answer.header("x").unwrap_or_default();
    assert_eq!((&*answer.text(), x.len()), ("ok", 200_005));
}
