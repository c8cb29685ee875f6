//! What passes, and how (RFC 9110 sections 7.6, 10.1.1, 15; dcos/dcos 2.2 test-harness `test_generic.config.yml`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::response::{IntoResponse as _, Response};
use dcos_router::Authenticate;
use dcos_router::decide::Permission;
use dcos_wire::Peer;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::backend::backend;
use crate::setup::{Wishes, answer, before, chunk, head, header, router};

#[tokio::test]
async fn a_service_sees_its_own_path_and_who_asks() {
    let served = before(backend().await.reflect()).await;
    let request = "GET /service/app//foo/a%20%3F%23z/?q=%2F HTTP/1.1\r\nHost: dcos:8880\r\nConnection: close, x-hop\r\n\
                   X-Hop: 1\r\nX_Real_IP: 6.6.6.6\r\nTE: trailers\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: spdy\r\n\
                   Cookie: a=b; dcos-acs-auth-cookie=t\r\nAuthorization: token=x\r\nAccept-Encoding: br\r\n\r\n";
    let answer = served.ask(request).await;
    let seen = answer.text();
    assert!(
        seen.starts_with("GET /foo/a%20%3F%23z/?q=%2F HTTP/1.1\r\n"),
        "{seen}"
    );
    for (name, value) in [
        ("host", Some("dcos:8880")),
        ("x-forwarded-for", Some("1.1.1.1, 127.0.0.1")),
        ("x_real_ip", None),
        ("x-real-ip", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("cookie", Some("a=b")),
        ("authorization", Some("token=x")),
        ("accept-encoding", Some("br")),
        ("x-hop", None),
        ("te", None),
        ("connection", None),
        ("dcos-forwarded", None),
    ] {
        assert_eq!(header(&seen, name), value, "{name} in {seen}");
    }
}

#[tokio::test]
async fn services_that_close_after_five_seconds_are_not_met_while_they_do() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let ask = || served.ask("GET /service/app/ HTTP/1.1\r\nHost: a\r\n\r\n");
    let said = async |stream: &mut tokio::net::TcpStream| {
        let asked = head(stream).await;
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        asked
    };
    let first = async {
        let mut first = backend.accept().await;
        said(&mut first).await;
        first
    };
    let (_, mut first) = tokio::join!(ask(), first);
    let (_, again) = tokio::join!(ask(), said(&mut first));
    assert!(again.starts_with("GET / "), "it is kept: {again}");
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(4500)).await;
    tokio::time::resume();
    let second = async {
        assert_eq!(head(&mut first).await, "", "it was closed");
        said(&mut backend.accept().await).await;
    };
    tokio::join!(ask(), second);
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let mut client = served.connect().await;
    client
        .write_all(b"POST /service/app/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        .await
        .unwrap();
    // The first piece is there before the client has sent the second, ...
    let mut behind = backend.accept().await;
    assert!(head(&mut behind).await.starts_with("POST / "));
    assert_eq!(chunk(&mut behind).await.unwrap(), b"one");
    behind
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await
        .unwrap();
    // ... the answer before the request has ended, ...
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
    assert_eq!(chunk(&mut client).await.unwrap(), b"first");
    client.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(chunk(&mut behind).await.unwrap(), b"two");
    assert_eq!(chunk(&mut behind).await, None);
    // ... and its end when it ends.
    behind.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(chunk(&mut client).await.unwrap(), b"second");
    assert_eq!(chunk(&mut client).await, None);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_request_behind() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let mut client = served.connect().await;
    client
        .write_all(b"GET /service/app/events HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut behind = backend.accept().await;
    head(&mut behind).await;
    behind
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await
        .unwrap();
    head(&mut client).await;
    drop(client);
    assert_eq!(
        behind.read(&mut [0; 8]).await.unwrap_or(0),
        0,
        "the stream has ended"
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client() {
    let address = backend()
        .await
        .say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    let served = before(address).await;
    let mut client = served.connect().await;
    client
        .write_all(b"GET /service/app/ HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut all = Vec::new();
    // A reset or an early end, never a whole answer.
    let _ = client.read_to_end(&mut all).await;
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(
        text.to_lowercase().contains("content-length: 10") && text.ends_with("half"),
        "{text}"
    );
}

#[tokio::test]
async fn redirects_stay_within_the_service() {
    let address = backend()
        .await
        .say("HTTP/1.1 302 Found\r\nLocation: /login?x\r\nContent-Length: 0\r\n\r\n");
    let served = before(address).await;
    let answer = served.get("/service/app/x").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("/service/app/login?x"))
    );
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for (said, method, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", "GET", 204),
        (
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            "GET",
            304,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", 200),
    ] {
        let served = before(backend().await.say(said)).await;
        let mut client = served.connect().await;
        let request =
            format!("{method} /service/app/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        let text = String::from_utf8(all).unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
    }
}

#[tokio::test]
async fn who_expects_to_be_told_to_go_on_is_told() {
    let served = before(backend().await.reflect()).await;
    let mut client = served.connect().await;
    client
        .write_all(b"POST /service/app/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await
        .unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 100 "));
    client.write_all(b"hello").await.unwrap();
    assert!(answer(&mut client).await.text().ends_with("body=5"));
}

#[tokio::test]
async fn nobody_behind_is_told_in_words() {
    let gone = backend().await.address;
    let served = before(gone).await;
    let answer = served.get("/service/app/").await;
    assert_eq!((answer.status, &*answer.text()), (502, "502 Bad Gateway\n"));
    let nonsense = before(backend().await.say("SMTP ready\r\n\r\n")).await;
    assert_eq!(nonsense.get("/service/app/").await.status, 502);
}

#[tokio::test]
async fn connections_behind_are_used_again() {
    let backend = backend().await;
    let served = before(backend.address).await;
    let one = tokio::spawn(async move {
        let mut stream = backend.accept().await;
        for _ in 0..3 {
            head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await
                .unwrap();
        }
    });
    for _ in 0..3 {
        assert_eq!(served.get("/service/app/").await.text(), "ok");
    }
    one.await.unwrap();
}

#[tokio::test]
async fn requests_wait_for_what_is_about_to_be_known() {
    let address = backend().await.reflect();
    let served = router(Wishes::default()).await;
    let mut client = served.connect().await;
    client
        .write_all(b"GET /service/app/late HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    tokio::task::yield_now().await;
    served.know(&[("app", &format!("http://{address}"))]);
    assert!(answer(&mut client).await.text().starts_with("GET /late "));
}

#[tokio::test]
async fn unix_sockets_are_asked_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let read = stream.read(&mut bytes).await.unwrap();
        let body = String::from_utf8_lossy(&bytes[..read])
            .lines()
            .next()
            .unwrap()
            .to_owned();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let parts = vec![format!("logs=unix:{}", path.display())];
    let served = router(Wishes {
        parts,
        ..Wishes::default()
    })
    .await;
    let answer = served.get("/system/v1/logs/v1/range/?x").await;
    assert_eq!(answer.text(), "GET /v1/range/?x HTTP/1.1");
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
}

#[tokio::test]
async fn own_answers_are_the_originals() {
    let served = router(Wishes::default()).await;
    served.know(&[]);
    for (path, status, text) in [
        ("/service/none/", 404, "404 Not Found: service not found.\n"),
        (
            "/agent/none/x",
            404,
            "404 Not Found: agent `none` unknown.\n",
        ),
        ("/nowhere", 404, "404 Not Found\n"),
        ("/pkgpanda/active.buildinfo.full.json", 200, "{}"),
    ] {
        let answer = served.get(path).await;
        assert_eq!((answer.status, &*answer.text()), (status, text), "{path}");
    }
    let version = served.get("/dcos-metadata/dcos-version.json").await;
    assert!(
        version.text().contains("\"version\":\"2.2.0\""),
        "{}",
        version.text()
    );
    let bare = served
        .ask("GET /mesos HTTP/1.1\r\nHost: bad.host\r\n\r\n")
        .await;
    assert_eq!(
        (bare.status, bare.header("location")),
        (301, Some("/mesos/"))
    );
    let absent = served.get("/package/search").await;
    assert!(
        absent.status == 404 && absent.text().contains("no package management (Cosmos)"),
        "{}",
        absent.text()
    );
}

#[tokio::test]
async fn the_log_and_the_counters_tell_of_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let access_log = Some(path.clone());
    let served = router(Wishes {
        access_log,
        ..Wishes::default()
    })
    .await;
    served.know(&[("app", &format!("http://{}", backend().await.reflect()))]);
    served.get("/service/app/x").await;
    served.get("/mesos").await;
    let told = |wanted: &'static str| {
        let path = path.clone();
        async move {
            for _ in 0..500 {
                if std::fs::read_to_string(&path).unwrap().contains(wanted) {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            false
        }
    };
    assert!(told("\"GET /service/app/x HTTP/1.1\"").await);
    assert!(told("code=301").await);
    let counters = served.get("/nginx/metrics").await.text();
    assert!(
        counters.contains("nginx_vts_upstream_requests_total{upstream=\"Service\",code=\"2xx\"} 1"),
        "{counters}"
    );
}

#[tokio::test]
async fn no_service_leads_to_what_only_this_host_may_ask() {
    let address = backend().await.reflect();
    let own_hosts = Some(["10.0.0.1".to_owned()].into());
    let wishes = Wishes {
        own_hosts,
        ..Wishes::default()
    };
    let served = router(wishes).await;
    let port = address.port();
    // Whatever the system's resolver takes for an address is a name to us.
    for (host, status) in [
        ("127.0.0.1", 403),
        ("[::ffff:127.0.0.1]", 403),
        ("0.0.0.0", 403),
        ("169.254.169.254", 403),
        ("localhost", 403),
        ("127.1", 403),
        ("2130706433", 403),
    ] {
        served.know(&[("app", &format!("http://{host}:{port}"))]);
        let answer = served.get("/service/app/").await;
        assert_eq!(answer.status, status, "{host}");
        assert!(
            answer.text().contains("--advertise_ip"),
            "it says why: {host}"
        );
    }
}

/// Lets those pass who say `token=yes`, as somebody else; counts how often it is asked.
#[derive(Debug, Default)]
struct Guard(AtomicUsize);

#[async_trait]
impl Authenticate for Guard {
    async fn admit(
        &self,
        headers: &mut HeaderMap,
        peer: &Peer,
        permission: &Permission,
    ) -> Result<(), Response> {
        self.0.fetch_add(1, Ordering::Relaxed);
        assert!(peer.ip().is_some());
        let resource = "dcos:adminrouter:service:app";
        assert_eq!(*permission, Permission::Resource(resource.into()));
        if headers
            .get(AUTHORIZATION)
            .is_none_or(|value| value != "token=yes")
        {
            return Err((
                StatusCode::UNAUTHORIZED,
                [("www-authenticate", "oauthjwt")],
                "who?",
            )
                .into_response());
        }
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer somebody"));
        headers.insert("x-user", HeaderValue::from_static("somebody"));
        Ok(())
    }
}

/// Code with a fault.
#[derive(Debug)]
struct Faulty;

#[async_trait]
impl Authenticate for Faulty {
    async fn admit(&self, _: &mut HeaderMap, _: &Peer, _: &Permission) -> Result<(), Response> {
        panic!("as this test wants it")
    }
}

#[tokio::test]
async fn code_that_panics_is_answered_and_costs_no_other_request() {
    let authenticate = Some(Arc::new(Faulty) as Arc<dyn Authenticate>);
    let wishes = Wishes {
        authenticate,
        ..Wishes::default()
    };
    let served = router(wishes).await;
    served.know(&[("app", &format!("http://{}", backend().await.reflect()))]);
    for method in ["GET", "HEAD", "POST"] {
        let request = format!(
            "{method} /service/app/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: 1\r\n\r\n"
        );
        let mut client = served.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 500 "), "{method}: {said}");
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert_eq!(header(head, "connection"), Some("close"));
        assert_eq!(body.is_empty(), method == "HEAD", "{said}");
    }
}

#[tokio::test]
async fn who_may_ask_is_asked_once_and_its_answer_is_the_clients() {
    let guard = Arc::<Guard>::default();
    let authenticate = Some(Arc::clone(&guard) as Arc<dyn Authenticate>);
    let wishes = Wishes {
        authenticate,
        ..Wishes::default()
    };
    let served = router(wishes).await;
    served.know(&[("app", &format!("http://{}", backend().await.reflect()))]);
    let mut client = served.connect().await;
    for (credentials, status) in [
        ("Authorization: token=no\r\n", 401),
        ("Authorization: token=yes\r\nX-User: root\r\n", 200),
        ("", 401),
        ("Authorization: token=yes\r\nConnection: close\r\n", 200),
    ] {
        let request = format!("GET /service/app/x HTTP/1.1\r\nHost: a\r\n{credentials}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = answer(&mut client).await;
        assert_eq!(answer.status, status, "{credentials}");
        assert!(answer.header("date").is_some());
        let text = answer.text();
        if status == 401 {
            assert_eq!(
                (&*text, answer.header("www-authenticate")),
                ("who?", Some("oauthjwt"))
            );
        } else {
            assert!(text.starts_with("GET /x HTTP/1.1\r\n"), "{text}");
            assert_eq!(header(&text, "authorization"), Some("Bearer somebody"));
            assert_eq!(
                (header(&text, "x-user"), header(&text, "host")),
                (Some("somebody"), Some("a"))
            );
            assert_eq!(header(&text, "x-forwarded-for"), Some("127.0.0.1"));
        }
    }
    assert_eq!(guard.0.load(Ordering::Relaxed), 4);
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}
