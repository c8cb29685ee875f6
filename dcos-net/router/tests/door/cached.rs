//! `/cache/master/`: one answer of the master for all who may see the same.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::backend::backend;
use crate::setup::{Answer, Served, Wishes, header, router};

/// A router before a master at that address.
async fn before_master(master: SocketAddr) -> Served {
    let served = router(Wishes::default()).await;
    served.worlds.send_modify(|world| {
        let leader = format!("http://{master}").parse().unwrap();
        Arc::make_mut(world).mesos_leader = Some(leader);
    });
    served
}

impl Served {
    async fn cached(&self, headers: &str) -> Answer {
        self.ask(format!(
            "GET /cache/master/state HTTP/1.1\r\nHost: dcos\r\n{headers}\r\n"
        ))
        .await
    }
}

fn status(answer: &Answer) -> &str {
    answer.header("x-cache-status").unwrap_or_default()
}

#[tokio::test]
async fn what_one_may_see_is_kept_for_nobody_else() {
    let served = before_master(backend().await.reflect()).await;
    let admin = "Authorization: Basic YWRtaW46YWRtaW4=\r\n";
    for (who, expected) in [
        (admin, "MISS"),
        (admin, "HIT"),
        ("", "MISS"),
        ("", "HIT"),
        ("Authorization: Basic b3BlcmF0b3I6\r\n", "MISS"),
        // No credential for the master, which does not even see it.
        ("Cookie: Basic YWRtaW46YWRtaW4=; _ga=1\r\n", "HIT"),
        (
            "Cookie: dcos-acs-auth-cookie=x\r\nCache-Control: no-cache\r\n",
            "BYPASS",
        ),
        (admin, "HIT"),
    ] {
        let answer = served.cached(who).await;
        assert_eq!((answer.status, status(&answer)), (200, expected), "{who}");
        let seen = answer.text().to_lowercase();
        assert_eq!(
            seen.contains("authorization: basic ywrtaw46"),
            who == admin,
            "{who}: {seen}"
        );
        assert!(!seen.contains("cookie"), "{who}: {seen}");
    }
}

#[tokio::test]
async fn whoever_asks_for_the_head_alone_is_told_of_what_is_kept() {
    let served = before_master(backend().await.reflect()).await;
    let head = |status: &'static str| {
        let served = &served;
        async move {
            let mut client = served.connect().await;
            let request =
                "HEAD /cache/master/state HTTP/1.1\r\nHost: dcos\r\nConnection: close\r\n\r\n";
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            let answer = answer.to_lowercase();
            assert!(answer.starts_with("http/1.1 200"), "{answer}");
            assert!(
                answer.contains(&format!("x-cache-status: {status}")),
                "{answer}"
            );
            assert!(answer.ends_with("\r\n\r\n"), "it has a body: {answer}");
            header(&answer, "content-length").map(str::to_owned)
        }
    };
    let length = head("miss").await;
    let whole = served.cached("").await;
    assert_eq!(status(&whole), "HIT");
    assert!(whole.text().starts_with("GET "), "{}", whole.text());
    assert_eq!(length, Some(whole.text().len().to_string()));
    assert_eq!(head("hit").await, length);
}
