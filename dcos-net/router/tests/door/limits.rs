//! What clients may cost.

use std::time::Duration;

use dcos_router::limits;
use dcos_wire::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::backend::backend;
use crate::setup::{Wishes, answer, before, chunk, head, router};

#[tokio::test]
async fn heads_have_a_size() {
    let served = before(backend().await.reflect()).await;
    let long = "a".repeat(200_000);
    let request = format!("GET /service/app/ HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n");
    let mut client = served.connect().await;
    let _ = client.write_all(request.as_bytes()).await;
    assert_eq!(answer(&mut client).await.status, 431);
}

#[tokio::test]
async fn slow_heads_are_given_up() {
    let limits = ServerConfig {
        header_timeout: Duration::from_millis(100),
        first_byte_timeout: Duration::from_millis(100),
        ..limits()
    };
    let served = router(Wishes {
        limits: Some(limits),
        ..Wishes::default()
    })
    .await;
    let mut slow = served.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    assert_eq!(answer(&mut slow).await.status, 408);
    let mut silent = served.connect().await;
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn parts_take_smaller_bodies_than_services() {
    let address = backend().await.reflect();
    let parts = vec![format!("cosmos=http://{address}")];
    let served = router(Wishes {
        parts,
        ..Wishes::default()
    })
    .await;
    served.know(&[("app", &format!("http://{address}"))]);
    let over = (1_u64 << 30) + 1;
    let answer = served
        .ask(format!(
            "POST /package/x HTTP/1.1\r\nHost: a\r\nContent-Length: {over}\r\n\r\n"
        ))
        .await;
    assert_eq!(answer.status, 413);
    let over = (32_u64 << 30) + 1;
    let answer = served
        .ask(format!(
            "POST /service/app/x HTTP/1.1\r\nHost: a\r\nContent-Length: {over}\r\n\r\n"
        ))
        .await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn large_uploads_pass_whole() {
    let served = before(backend().await.reflect()).await;
    let size = 64 << 20;
    let mut client = served.connect().await;
    client
        .write_all(
            format!("PUT /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n")
                .as_bytes(),
        )
        .await
        .unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        client.write_all(&piece).await.unwrap();
    }
    assert!(
        answer(&mut client)
            .await
            .text()
            .ends_with(&format!("body={size}"))
    );
}

#[tokio::test]
async fn only_operators_may_take_their_time() {
    let limits = ServerConfig {
        body_timeout: Duration::from_millis(100),
        ..limits()
    };
    let served = router(Wishes {
        limits: Some(limits),
        ..Wishes::default()
    })
    .await;
    let (master, service) = (backend().await, backend().await);
    served.know(&[("app", &format!("http://{}", service.address))]);
    served.worlds.send_modify(|world| {
        let leader = format!("http://{}", master.address).parse().unwrap();
        std::sync::Arc::make_mut(world).mesos_leader = Some(leader);
    });
    let begin = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/recordio\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
        )
    };
    let mut typing = served.connect().await;
    typing
        .write_all(begin("/mesos/api/v1").as_bytes())
        .await
        .unwrap();
    let mut behind = master.accept().await;
    assert!(head(&mut behind).await.starts_with("POST /api/v1 "));
    assert_eq!(chunk(&mut behind).await.unwrap(), b"one");
    // Another one who says the same to a service, and then nothing, is given up ...
    let said = served.ask(begin("/service/app/api/v1")).await;
    assert_eq!(said.status, 408);
    // ... in a time in which the first one was silent, too.
    typing.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(chunk(&mut behind).await.unwrap(), b"two");
    behind
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    let answer = answer(&mut typing).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    // What follows on the connection is timed as ever.
    typing
        .write_all(begin("/service/app/api/v1").as_bytes())
        .await
        .unwrap();
    assert_eq!(crate::setup::answer(&mut typing).await.status, 408);
}
