//! Requests that two servers could read in two ways (RFC 9112 sections 2.2, 3, 5, 6, 7; 9110 section 7.2).

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::backend::backend;
use crate::setup::{answer, before};

/// The request, and the statuses that are right; each is refused before anybody behind the router hears of it.
const REFUSED: &[(&str, &[u16])] = &[
    // 6.3: two lengths
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        &[400],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nhello!",
        &[400],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        &[400],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        &[400],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        &[400],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        &[400],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        &[400],
    ),
    // 6.1, 7: codings
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    (
        "POST /service/app/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400, 501],
    ),
    // 5: field lines
    (
        "GET /service/app/ HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        &[400],
    ),
    (
        "GET /service/app/ HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
        &[400],
    ),
    (
        "GET /service/app/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
        &[400],
    ),
    ("GET /service/app/ HTTP/1.1\r\n Host: a\r\n\r\n", &[400]),
    (
        "GET /service/app/ HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        &[400],
    ),
    (
        "GET /service/app/ HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        &[400],
    ),
    (
        "GET /service/app/ HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        &[400],
    ),
    // 3: request lines
    ("GET  /service/app/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET /service/app/ HTTP/1.1 \r\nHost: a\r\n\r\n", &[400]),
    ("GET /service/app/\r\nHost: a\r\n\r\n", &[400]),
    ("GET /service/app/ HTTP/3.7\r\nHost: a\r\n\r\n", &[400, 505]),
    ("GET service/app/ HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    (
        "GET /service/app/../../../x HTTP/1.1\r\nHost: a\r\n\r\n",
        &[400],
    ),
    (
        "GET /service/app/..%2f..%2fmesos/ HTTP/1.1\r\nHost: a\r\n\r\n",
        &[400],
    ),
    ("GET /service/app/%00 HTTP/1.1\r\nHost: a\r\n\r\n", &[400]),
    // 3.2: hosts
    ("GET /service/app/ HTTP/1.1\r\n\r\n", &[400]),
    (
        "GET /service/app/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        &[400],
    ),
    ("GET /service/app/ HTTP/1.1\r\nHost: a b\r\n\r\n", &[400]),
    ("GET /service/app/ HTTP/1.1\r\nHost: user@a\r\n\r\n", &[400]),
    // 9110, 9.3.6 and 9.3.8
    (
        "CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        &[400, 405],
    ),
    ("TRACE /service/app/ HTTP/1.1\r\nHost: a\r\n\r\n", &[405]),
];

/// So long a machine that is busy may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn requests_with_two_meanings_reach_nobody() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let reached = tokio::spawn(async move { backend.accept().await });
    for (request, right) in REFUSED {
        let asked = tokio::time::timeout(PATIENCE, served.ask(request)).await;
        let answer = asked.unwrap_or_else(|_| panic!("no answer to {request:?}"));
        assert!(
            right.contains(&answer.status),
            "{request:?}: {}",
            answer.head
        );
    }
    assert!(!reached.is_finished());
    reached.abort();
}

/// Chunks that are none. The head has gone on by then; the request behind the router must not end as a whole one.
const BROKEN_CHUNKS: &[&str] = &[
    "zz\r\nhello\r\n0\r\n\r\n",
    "-1\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\nhello\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "3\r\nhello\r\n0\r\n\r\n",
];

#[tokio::test]
async fn broken_chunks_never_become_a_whole_request() {
    for chunks in BROKEN_CHUNKS {
        let backend = backend().await;
        let served = before(backend.address).await;
        let seen = tokio::spawn(async move {
            let mut stream = backend.accept().await;
            let mut seen = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut seen).await;
            String::from_utf8_lossy(&seen).into_owned()
        });
        let mut client = served.connect().await;
        let head = "POST /service/app/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client
            .write_all(format!("{head}{chunks}").as_bytes())
            .await
            .unwrap();
        let status = answer(&mut client).await.status;
        assert!([400, 502].contains(&status), "{chunks:?}: {status}");
        // Either nobody was connected to, or the connection ended in the middle.
        let seen = tokio::time::timeout(Duration::from_millis(200), seen).await;
        if let Ok(Ok(seen)) = seen {
            assert!(!seen.ends_with("0\r\n\r\n"), "{chunks:?}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn what_follows_a_refused_request_is_not_read() {
    let backend = backend().await.reflect();
    let served = before(backend).await;
    let smuggled = "POST /service/app/ HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n\
                    GET /service/app/secret HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = served.connect().await;
    client.write_all(smuggled.as_bytes()).await.unwrap();
    let refused = answer(&mut client).await;
    assert_eq!(
        (refused.status, refused.header("connection")),
        (400, Some("close"))
    );
    assert_eq!(
        answer(&mut client).await.status,
        0,
        "the connection is closed"
    );
}

#[tokio::test]
async fn a_length_beside_a_coding_is_never_seen_by_those_behind() {
    // hyper drops the length and keeps the chunks (RFC 9112 section 6.3): the request is framed anew.
    let backend = backend().await.reflect();
    let served = before(backend).await;
    for (one, other) in [
        ("Transfer-Encoding: chunked", "Content-Length: 3"),
        ("Content-Length: 3", "Transfer-Encoding: chunked"),
        ("Content-Length: 3", "Transfer-Encoding:\tchunked"),
    ] {
        let request = format!(
            "POST /service/app/x HTTP/1.1\r\nHost: a\r\n{one}\r\n{other}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        let answer = served.ask(request).await;
        let text = answer.text().to_lowercase();
        let framed_anew = text.ends_with("body=5") && !text.contains("content-length");
        assert!(
            answer.status == 400 || framed_anew,
            "{}\n{text}",
            answer.head
        );
    }
}
