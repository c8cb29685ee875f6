//! HTTP/2 at the door, HTTP/1.1 behind it (RFC 9113 sections 8.2.2, 8.2.3, 8.3.1).

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::backend::backend;
use crate::setup::{before, header};

#[tokio::test]
async fn requests_over_http2_are_sent_on_as_http1() {
    let served = before(backend().await.reflect()).await;
    let io = TokioIo::new(served.connect().await);
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::post("http://dcos:8880/service/app/x?y")
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .body(Full::new(Bytes::from_static(b"hello")))
        .unwrap();
    let mut answers = Vec::new();
    // Two at a time on one connection.
    let second = request.clone();
    let (one, two) = futures::join!(client.send_request(request), {
        let mut client = client.clone();
        async move { client.send_request(second).await }
    });
    for answer in [one.unwrap(), two.unwrap()] {
        assert_eq!(
            (answer.status(), answer.version()),
            (http::StatusCode::OK, http::Version::HTTP_2)
        );
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        answers.push(String::from_utf8(body.to_vec()).unwrap());
    }
    for seen in answers {
        assert!(
            seen.starts_with("POST /x?y HTTP/1.1\r\n") && seen.ends_with("body=5"),
            "{seen}"
        );
        assert_eq!(header(&seen, "host"), Some("dcos:8880"));
        assert_eq!(header(&seen, "cookie"), Some("a=b; c=d"));
    }
    driver.abort();
}

#[tokio::test]
async fn a_refusal_over_http2_costs_only_its_stream() {
    let served = before(backend().await.reflect()).await;
    let io = TokioIo::new(served.connect().await);
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    for (path, status) in [
        ("/service/app/..%2fx", 400),
        ("/service/none/x", 404),
        ("/service/app/x", 200),
    ] {
        let request = Request::get(format!("http://dcos{path}"))
            .body(Full::<Bytes>::default())
            .unwrap();
        assert_eq!(
            client.send_request(request).await.unwrap().status(),
            status,
            "{path}"
        );
    }
    driver.abort();
}
