//! The short way of plain requests: what may go wrong on it, and on connections that take both.

use std::time::Duration;

use dcos_router::limits;
use dcos_wire::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::backend::{Backend, backend};
use crate::setup::{Served, Wishes, answer, before, chunk, head, router};

const PLAIN: &[u8] = b"GET /service/app/ HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn relayed(served: &Served) -> String {
    let counters = served.get("/nginx/metrics").await.text();
    let line = counters
        .lines()
        .find(|line| line.starts_with("dcos_router_relayed_requests_total "));
    line.unwrap().rsplit(' ').next().unwrap().to_owned()
}

async fn limited(backend: &Backend, limits: ServerConfig) -> Served {
    let limits = Some(limits);
    let served = router(Wishes {
        limits,
        ..Wishes::default()
    })
    .await;
    served.know(&[("app", &format!("http://{}", backend.address))]);
    served
}

#[tokio::test]
async fn a_connection_may_take_both_ways_and_its_requests_come_at_once() {
    let served = before(backend().await.reflect()).await;
    let mut client = served.connect().await;
    let one = "GET /service/app/1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let two = "GET /service/app/2 HTTP/1.1\r\nHost: b\r\n\r\n";
    let three = "POST /service/app/3 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let four = "GET /service/app/4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client
        .write_all(format!("{one}{two}{three}{four}").as_bytes())
        .await
        .unwrap();
    for (line, end) in [
        ("GET /1 HTTP/1.1\r\nHost: a\r\n", "body=0"),
        ("GET /2 HTTP/1.1\r\nHost: b\r\n", "body=0"),
        ("POST /3 HTTP/1.1\r\n", "body=2"),
        ("GET /4 HTTP/1.1\r\n", "body=0"),
    ] {
        let text = answer(&mut client).await.text();
        assert!(
            text.starts_with(line) && text.ends_with(end),
            "{line}: {text}"
        );
    }
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "it closes");
    assert_eq!(
        relayed(&served).await,
        "2",
        "what follows the long way takes it too"
    );
}

#[tokio::test]
async fn a_connection_that_rested_takes_the_short_way_again() {
    let served = before(backend().await.reflect()).await;
    let mut client = served.connect().await;
    for request in [
        "POST /service/app/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".as_bytes(),
        PLAIN,
        PLAIN,
    ] {
        client.write_all(request).await.unwrap();
        assert_eq!(answer(&mut client).await.status, 200);
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
    assert_eq!(relayed(&served).await, "2");
}

#[tokio::test]
async fn a_kept_connection_that_is_closed_as_it_is_used_costs_nothing() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let service = async {
        let mut stream = backend.accept().await;
        head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        // The next request is there, and nobody answers it here ...
        head(&mut stream).await;
        drop(stream);
        // ... but there.
        let mut stream = backend.accept().await;
        assert!(head(&mut stream).await.starts_with("GET / "));
        stream.write_all(OK).await.unwrap();
        // A second time it is told: whoever closes a new connection is not asked again.
        head(&mut stream).await;
        drop(stream);
        drop(backend.accept().await);
    };
    let client = async {
        let mut client = served.connect().await;
        for status in [200, 200, 502] {
            client.write_all(PLAIN).await.unwrap();
            assert_eq!(answer(&mut client).await.status, status);
        }
    };
    tokio::join!(service, client);
}

#[tokio::test]
async fn half_an_answer_is_never_asked_for_again() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let service = async {
        let mut stream = backend.accept().await;
        head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 O").await.unwrap();
    };
    let client = async {
        let mut client = served.connect().await;
        for status in [200, 502] {
            client.write_all(PLAIN).await.unwrap();
            assert_eq!(answer(&mut client).await.status, status);
        }
    };
    tokio::join!(service, client);
}

#[tokio::test]
async fn what_follows_an_answer_is_nobodys() {
    let backend = backend().await;
    let served = before(backend.address).await;
    for answered in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nok\r\n0\r\n\r\n",
    ] {
        let service = async {
            let mut stream = backend.accept().await;
            head(&mut stream).await;
            stream.write_all(answered.as_bytes()).await.unwrap();
            stream.read(&mut [0; 1]).await.unwrap_or(0)
        };
        let (closed, answer) = tokio::join!(service, served.get("/service/app/"));
        assert_eq!((closed, &*answer.text()), (0, "ok"), "{}", answer.head);
        let both =
            ["content-length", "transfer-encoding"].map(|name| answer.header(name).is_some());
        assert_ne!(both[0], both[1], "{}", answer.head);
    }
}

#[tokio::test]
async fn pieces_of_answers_come_as_they_are_sent() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let mut client = served.connect().await;
    client.write_all(PLAIN).await.unwrap();
    let mut behind = backend.accept().await;
    head(&mut behind).await;
    behind
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
    for piece in ["one", "two"] {
        behind
            .write_all(format!("3;x=y\r\n{piece}\r\n").as_bytes())
            .await
            .unwrap();
        assert_eq!(chunk(&mut client).await.unwrap(), piece.as_bytes());
    }
    behind.write_all(b"0\r\nX: 1\r\n\r\n").await.unwrap();
    assert_eq!(chunk(&mut client).await, None);
    // The end of a connection is the end of a body, too.
    drop(behind);
    client.write_all(PLAIN).await.unwrap();
    let mut behind = backend.accept().await;
    head(&mut behind).await;
    behind
        .write_all(b"HTTP/1.0 200 OK\r\n\r\nold")
        .await
        .unwrap();
    drop(behind);
    assert_eq!(answer(&mut client).await.text(), "old");
}

#[tokio::test]
async fn chunks_that_are_none_are_no_answer() {
    let said =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\nevil\r\n0\r\n\r\n";
    let served = before(backend().await.say(said)).await;
    let mut client = served.connect().await;
    for _ in 0..2 {
        client.write_all(PLAIN).await.unwrap();
        assert_eq!(answer(&mut client).await.status, 502);
    }
}

#[tokio::test]
async fn chunks_that_break_later_break_the_answer_off_behind_what_came() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let mut client = served.connect().await;
    client.write_all(PLAIN).await.unwrap();
    let mut behind = backend.accept().await;
    head(&mut behind).await;
    for said in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "4\r\ngood\r\nzz\r\nevil\r\n0\r\n\r\n",
    ] {
        behind.write_all(said.as_bytes()).await.unwrap();
        if said.starts_with("HTTP") {
            head(&mut client).await;
            assert_eq!(chunk(&mut client).await.unwrap(), b"ok");
        }
    }
    assert_eq!(chunk(&mut client).await.unwrap(), b"good");
    assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn whoever_worked_on_a_request_for_a_while_is_not_asked_again() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let service = async {
        let mut stream = backend.accept().await;
        head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        head(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(1200)).await;
    };
    let client = async {
        let mut client = served.connect().await;
        for status in [200, 502] {
            client.write_all(PLAIN).await.unwrap();
            assert_eq!(answer(&mut client).await.status, status);
        }
    };
    tokio::join!(service, client);
}

#[tokio::test]
async fn many_requests_sent_ahead_are_answered_one_after_another() {
    let served = before(backend().await.reflect()).await;
    let client = served.connect().await;
    let (mut reader, mut writer) = client.into_split();
    let many = 3000;
    let asking = async {
        for at in 0..many {
            let request = format!(
                "GET /service/app/{at} HTTP/1.1\r\nHost: a\r\nX: {:>90}\r\n\r\n",
                1
            );
            writer.write_all(request.as_bytes()).await.unwrap();
        }
    };
    let answered = async {
        let mut all = Vec::new();
        let last = format!("GET /{} HTTP/1.1", many - 1);
        let mut piece = vec![0; 64 << 10];
        while !String::from_utf8_lossy(&all[all.len().saturating_sub(1000)..]).contains(&last) {
            let read = reader.read(&mut piece).await.unwrap();
            assert_ne!(read, 0);
            all.extend_from_slice(&piece[..read]);
        }
        String::from_utf8_lossy(&all)
            .matches("HTTP/1.1 200 OK")
            .count()
    };
    let ((), answered) = tokio::join!(asking, answered);
    assert_eq!(answered, many);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up_and_nothing_is_held_for_it() {
    let backend = backend().await;
    let write_timeout = Duration::from_millis(300);
    let limits = ServerConfig {
        write_timeout,
        ..limits()
    };
    let served = limited(&backend, limits).await;
    let mut client = served.connect().await;
    client.write_all(PLAIN).await.unwrap();
    let mut behind = backend.accept().await;
    head(&mut behind).await;
    let size = 1_u64 << 30;
    let said = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
    behind.write_all(said.as_bytes()).await.unwrap();
    let (piece, mut taken) = (vec![b'x'; 1 << 20], 0);
    while taken < size && behind.write_all(&piece).await.is_ok() {
        taken += 1 << 20;
    }
    assert!(taken < size / 4, "{taken} bytes are held");
}

#[tokio::test]
async fn silence_between_requests_has_an_end() {
    let backend = backend().await;
    for idle in [200, 1200] {
        let limits = ServerConfig {
            idle_timeout: Duration::from_millis(idle),
            ..limits()
        };
        let served = limited(&backend, limits).await;
        let mut client = served.connect().await;
        client.write_all(PLAIN).await.unwrap();
        let mut behind = backend.accept().await;
        head(&mut behind).await;
        behind.write_all(OK).await.unwrap();
        assert_eq!(answer(&mut client).await.status, 200);
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_router_that_ends_lets_answers_end_and_says_so() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let (mut client, mut idle) = (served.connect().await, served.connect().await);
    client.write_all(PLAIN).await.unwrap();
    let mut behind = backend.accept().await;
    head(&mut behind).await;
    served.stop();
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    behind.write_all(OK).await.unwrap();
    let answer = answer(&mut client).await;
    assert_eq!(
        (&*answer.text(), answer.header("connection")),
        ("ok", Some("close"))
    );
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}
