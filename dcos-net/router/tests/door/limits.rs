//! What clients may cost.

use std::time::Duration;

use dcos_router::limits;
use dcos_wire::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::backend::backend;
use crate::setup::{Wishes, answer, before, router};

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
