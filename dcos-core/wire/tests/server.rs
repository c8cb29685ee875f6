//! What slow, silent, truncated and oversized clients get, and that the server goes on serving.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::response::Redirect;
use axum::routing::{get, post};
use bytes::Bytes;
use dcos_wire::{
    Client, Credentials, Left, Listener, Peer, Server, ServerConfig, Shortcut, Stopped, Visit,
    records,
};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

struct Running {
    address: String,
    stop: CancellationToken,
    task: JoinHandle<Stopped>,
}

impl Running {
    async fn start(config: ServerConfig) -> Self {
        let router = Router::new()
            .route("/echo", post(async |body: Bytes| body))
            .route(
                "/peer",
                get(async |peer: Peer| peer.ip().unwrap().to_string()),
            )
            .route("/panic", get(panicking))
            .route(
                "/zeros/{n}",
                get(async |Path(n): Path<usize>| vec![b'0'; n]),
            );
        Self::serve(router, config).await
    }

    async fn serve(router: Router, config: ServerConfig) -> Self {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address().unwrap().to_string();
        let stop = CancellationToken::new();
        let server = Server::new(router).config(config);
        let task = tokio::spawn(server.serve(listener, stop.clone()));
        Self {
            address,
            stop,
            task,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Writes `request`, and reads until the server closes.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        let closed = tokio::time::timeout(Duration::from_secs(10), read).await;
        closed.expect("the server closes").unwrap();
        answer
    }

    async fn still_serves(&self) {
        let answer = Client::new().get(&self.url("/peer")).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "127.0.0.1");
    }
}

async fn panicking() -> String {
    panic!("a handler with a mistake")
}

/// Long enough for an honest client on a busy machine.
const PATIENCE: Duration = Duration::from_millis(1500);

fn impatient() -> ServerConfig {
    ServerConfig {
        first_byte_timeout: PATIENCE,
        header_timeout: PATIENCE,
        body_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        body_limit: 1000,
        head_limit: 8192,
        ..ServerConfig::default()
    }
}

#[tokio::test]
async fn a_bad_client_gets_its_status_and_harms_nobody() {
    let server = Running::start(impatient()).await;
    let check = async |request: &str, expected: &str| {
        let answer = server.raw(request).await;
        let line = answer.lines().next().unwrap_or_default();
        assert_eq!(line, expected, "{request:.60?}");
        server.still_serves().await;
    };
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\n";
    check("", "").await;
    check("POST /ec", "HTTP/1.1 408 Request Timeout").await;
    check(head, "HTTP/1.1 408 Request Timeout").await;
    for broken in [
        "no HTTP at all",
        "GET / HTTP/1.1\r\nbad header",
        "(bad) / HTTP/1.1",
    ] {
        check(&format!("{broken}\r\n\r\n"), "HTTP/1.1 400 Bad Request").await;
    }
    let slow = format!("{head}Content-Length: 10\r\n\r\nshort");
    check(&slow, "HTTP/1.1 408 Request Timeout").await;
    let announced = format!("{head}Content-Length: 1001\r\n\r\n");
    check(&announced, "HTTP/1.1 413 Payload Too Large").await;
    let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let sent = format!("{chunks}7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000));
    check(&sent, "HTTP/1.1 413 Payload Too Large").await;
    let broken = format!("{chunks}zz\r\n");
    check(&broken, "HTTP/1.1 400 Bad Request").await;
    let long = format!("{head}X: {}\r\n\r\n", "x".repeat(10_000));
    check(&long, "HTTP/1.1 431 Request Header Fields Too Large").await;
    check(
        "GET /panic HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 500 Internal Server Error",
    )
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_a_patient_one_is_not() {
    let server = Running::start(impatient()).await;
    let answer = server.raw("GET /peer HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.ends_with("127.0.0.1"), "{answer}");

    let mut linked = TcpStream::connect(&server.address).await.unwrap();
    let message = "POST /nobody/some.Message HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\
        Libprocess-From: a@127.0.0.1:1\r\n\r\n";
    linked.write_all(message.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    linked.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(2 * PATIENCE, linked.read_to_end(&mut rest));
    assert!(
        closed.await.is_err(),
        "libprocess takes a close for a crash"
    );
}

/// What a request to `/peer` is answered with over a pipe.
async fn asked(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// Silence takes no time here.
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_silent_for_long_goes_on_where_it_was() {
    let router = Router::new().route("/peer", get(async || "known"));
    let (pipe, listener) = Listener::pipe();
    let stop = CancellationToken::new();
    let server = tokio::spawn(Server::new(router).serve(listener, stop.clone()));
    let mut stream = pipe.connect().await.unwrap();
    let request = "GET /peer HTTP/1.1\r\nHost: x\r\n\r\n";
    for silent in [0, 2, 90, 1, 119] {
        tokio::time::sleep(Duration::from_secs(silent)).await;
        let answer = asked(&mut stream, request).await;
        assert!(answer.ends_with("\r\n\r\nknown"), "{answer}");
    }
    // The beginning of the next request came with the last one, or alone.
    for (begin, rest) in [request.split_at(9), request.split_at(request.len() - 2)] {
        let answer = asked(&mut stream, &format!("{request}{begin}")).await;
        assert!(answer.ends_with("known"), "{answer}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let answer = asked(&mut stream, rest).await;
        assert!(answer.ends_with("known"), "{answer}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        stream.write_all(&begin.as_bytes()[..1]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let answer = asked(&mut stream, &request[1..]).await;
        assert!(answer.ends_with("known"), "{answer}");
    }
    // A head that does not go on is given up, whatever was before; silence as well, at its own time.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut other = pipe.connect().await.unwrap();
    assert!(asked(&mut other, request).await.ends_with("known"));
    let begun = Instant::now();
    let late = asked(&mut stream, "GET /pe").await;
    assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
    assert_eq!(begun.elapsed().as_secs(), 15);
    assert_eq!(other.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(begun.elapsed().as_secs(), 120);
    // Who is silent does not keep the server from stopping.
    let mut last = pipe.connect().await.unwrap();
    assert!(asked(&mut last, request).await.ends_with("known"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    stop.cancel();
    assert_eq!(server.await.unwrap(), Stopped { aborted: 0 });
    assert_eq!(last.read(&mut [0; 1]).await.unwrap(), 0);
}

/// Who takes time over an answer has not gone silent, however much of it the server has let go of.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_slowly_arrives_whole() {
    const LENGTH: usize = 4_000_000;
    let whole = get(async || vec![b'0'; LENGTH]);
    let pieces = get(async || {
        let pieces = (0..LENGTH / 50_000).map(|_| Ok::<_, io::Error>(vec![b'0'; 50_000]));
        axum::body::Body::from_stream(futures::stream::iter(pieces))
    });
    let router = Router::new()
        .route("/whole", whole)
        .route("/pieces", pieces);
    let (pipe, listener) = Listener::pipe();
    let stop = CancellationToken::new();
    let server = tokio::spawn(Server::new(router).serve(listener, stop.clone()));
    let mut stream = pipe.connect().await.unwrap();
    for path in ["/whole", "/pieces"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (mut zeros, mut buffer) = (0, vec![0; 1 << 20]);
        while zeros < LENGTH {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let length = stream.read(&mut buffer).await.unwrap();
            assert_ne!(length, 0, "{path}: cut after {zeros}");
            // Heads and lengths of pieces have some more.
            zeros += String::from_utf8_lossy(&buffer[..length])
                .matches('0')
                .count();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        // The end of the pieces.
        let rest = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut buffer)).await;
        assert!(!matches!(rest, Ok(Ok(0))), "{path}");
    }
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn large_answers_are_compressed_and_unpacked() {
    let server = Running::start(ServerConfig::default()).await;
    let answer = Client::new()
        .get(&server.url("/zeros/100000"))
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(answer.bytes().await.unwrap().len(), 100_000);
    let answer = Client::new().get(&server.url("/zeros/1023")).await.unwrap();
    assert!(!answer.headers().contains_key("content-encoding"));
    assert_eq!(answer.bytes().await.unwrap().len(), 1023);
}

#[tokio::test]
async fn a_call_follows_the_leader_with_its_body() {
    let leader = Running::start(ServerConfig::default()).await;
    let address = leader.address.clone();
    let moved = Router::new()
        .fallback(async move |uri: http::Uri| dcos_wire::reply::leader(Some(&address), &uri));
    let standby = Running::serve(moved, ServerConfig::default()).await;
    let plain = HeaderValue::from_static("text/plain");
    let answer = Client::new()
        .post(&standby.url("/echo"), plain, "hello")
        .await
        .unwrap();
    assert_eq!(answer.url().to_string(), leader.url("/echo"));
    assert_eq!(answer.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn credentials_stay_with_the_server_unless_they_may_follow() {
    let told = async |headers: http::HeaderMap| {
        let names = ["authorization", "cookie", "proxy-authorization", "x-kept"];
        let shown = names.map(|name| {
            headers
                .get(name)
                .map_or("-", |value| value.to_str().unwrap())
        });
        shown.join(" ")
    };
    let stranger = Router::new().route("/", get(told));
    let stranger = Running::serve(stranger, ServerConfig::default()).await;
    let (away, own) = (
        stranger.url("/"),
        stranger.url("/").replace("//", "//own:key@"),
    );
    let asked = Router::new()
        .route("/", get(told))
        .route("/here", get(async || Redirect::temporary("/")))
        .route("/away", get(async move || Redirect::temporary(&away)))
        .route("/own", get(async move || Redirect::temporary(&own)));
    let asked = Running::serve(asked, ServerConfig::default()).await;
    let ask = async |client: &Client, user: &str, path: &str| {
        let url = asked.url(path).replace("//", &format!("//{user}"));
        let request = http::Request::get(url)
            .header("cookie", "c")
            .header("proxy-authorization", "p")
            .header("x-kept", "x")
            .body(Bytes::new());
        let answer = client.send(request.unwrap()).await.unwrap();
        answer.text().await.unwrap()
    };
    let strict = dcos_wire::ClientConfig {
        authorization: Some(HeaderValue::from_static("token")),
        ..dcos_wire::ClientConfig::default()
    };
    let strict = Client::with_config(strict).unwrap();
    let trusting = strict.clone().showing(Credentials::FollowRedirects);
    let ops = "Basic b3BzOnNlY3JldA==";
    for client in [&strict, &trusting] {
        assert_eq!(ask(client, "", "/here").await, "token c p x");
        assert_eq!(
            ask(client, "ops:secret@", "/here").await,
            format!("{ops} c p x")
        );
    }
    assert_eq!(ask(&strict, "", "/away").await, "- - - x");
    assert_eq!(ask(&strict, "ops:secret@", "/away").await, "- - - x");
    // The key of the redirect's own URL is meant for whom it names.
    assert_eq!(ask(&strict, "", "/own").await, "Basic b3duOmtleQ== - - x");
    assert_eq!(ask(&trusting, "", "/away").await, "token c p x");
    assert_eq!(
        ask(&trusting, "ops:secret@", "/away").await,
        format!("{ops} c p x")
    );
}

#[tokio::test]
async fn masters_that_redirect_in_circles_are_an_error() {
    let circle = Router::new().fallback(async |headers: http::HeaderMap, uri: http::Uri| {
        dcos_wire::reply::leader(headers["host"].to_str().ok(), &uri)
    });
    let server = Running::serve(circle, ServerConfig::default()).await;
    let error = Client::new().get(&server.url("/")).await.unwrap_err();
    assert!(matches!(
        error,
        dcos_wire::ClientError::Redirects { limit: 5, .. }
    ));
}

#[tokio::test]
async fn streams_carry_records_and_end_with_their_reader() {
    let (senders, mut taken) = tokio::sync::mpsc::channel(1);
    let router = Router::new().route(
        "/events",
        get(async move || {
            let (sender, body) = records::stream(records::Limits::default());
            senders.send(sender).await.unwrap();
            axum::response::Response::new(body)
        }),
    );
    let server = Running::serve(router, impatient()).await;
    let answer = Client::new().get(&server.url("/events")).await.unwrap();
    let mut events = answer.records(1000);
    let sender = taken.recv().await.unwrap();
    for text in ["one", "", "three"] {
        sender.send(text.into()).unwrap();
        assert_eq!(events.next().await.unwrap().unwrap(), text);
    }
    // Longer than the limit for idle connections: a stream is not idle.
    tokio::time::sleep(2 * PATIENCE).await;
    sender.send("still here".into()).unwrap();
    assert_eq!(events.next().await.unwrap().unwrap(), "still here");
    drop(events);
    sender.closed().await;
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_of_an_answer_is_noticed_whatever_it_sent() {
    let ended = Arc::new(AtomicUsize::new(0));
    let silent = {
        let ended = Arc::clone(&ended);
        async move || {
            let told = Ended(Arc::clone(&ended));
            let silence = futures::stream::pending().map(move |piece: std::io::Result<Bytes>| {
                let _ = &told;
                piece
            });
            let first = futures::stream::iter([Ok(Bytes::from_static(b"first"))]);
            axum::body::Body::from_stream(first.chain(silence))
        }
    };
    let router = Router::new()
        .route(
            "/silent",
            get(silent.clone()).post(async move |_: Bytes| silent().await),
        )
        .route("/echo", post(async |body: Bytes| body));
    let config = ServerConfig {
        body_limit: 1 << 20,
        ..impatient()
    };
    let server = Running::serve(router, config).await;
    let get = "GET /silent HTTP/1.1\r\nHost: x\r\n\r\n";
    let upload = "POST /silent HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    let many = "x".repeat(100_000);
    let cases = [
        (get, ""),
        (get, "X"),
        (get, get),
        (upload, "X"),
        (get, &*many),
    ];
    for (at, (request, behind)) in cases.into_iter().enumerate() {
        let mut client = TcpStream::connect(&server.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        client.write_all(behind.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"first\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        drop(client);
        until(|| ended.load(Ordering::SeqCst) == at + 1).await;
    }
    // What was sent ahead is answered in its turn, in the middle of a body, too.
    let echo = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n";
    let body = "y".repeat(30_000);
    let last =
        "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nend";
    let answers = server
        .raw(&format!("{}{last}", format!("{echo}{body}").repeat(4)))
        .await;
    assert_eq!(answers.matches(&body).count(), 4);
    assert!(answers.ends_with("end"));
}

/// Counts when it is dropped.
struct Ended(Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn stopping_lets_a_request_finish_and_cuts_a_stream() {
    let (began, mut begun) = tokio::sync::mpsc::channel(1);
    let slow = async move || {
        began.send(()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let router = Router::new().route("/slow", get(slow));
    let server = Running::serve(router, ServerConfig::default()).await;
    let url = server.url("/slow");
    let request = tokio::spawn(async move { Client::new().get(&url).await.unwrap().status() });
    begun.recv().await.unwrap();
    server.stop.cancel();
    assert_eq!(request.await.unwrap(), StatusCode::OK);
    assert_eq!(server.task.await.unwrap(), Stopped { aborted: 0 });

    let (_sender, body) = records::stream(records::Limits::default());
    let body = std::sync::Mutex::new(Some(body));
    let body: &'static std::sync::Mutex<_> = Box::leak(Box::new(body));
    let router = Router::new().route(
        "/events",
        get(async || axum::response::Response::new(body.lock().unwrap().take().unwrap())),
    );
    let config = ServerConfig {
        grace: Duration::from_millis(100),
        ..ServerConfig::default()
    };
    let server = Running::serve(router, config).await;
    let answer = Client::new().get(&server.url("/events")).await.unwrap();
    server.stop.cancel();
    assert_eq!(server.task.await.unwrap(), Stopped { aborted: 1 });
    assert!(answer.records(10).next().await.is_err());
}

#[tokio::test]
async fn a_unix_socket_serves_and_knows_its_clients() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let router = Router::new().route("/", get(async |peer: Peer| format!("{:?}", peer.address)));
    for _ in 0..2 {
        // A file left over by a crash does not keep the next server from binding.
        drop(std::os::unix::net::UnixListener::bind(&path));
        let listener = Listener::unix(&path).unwrap();
        assert!(Listener::unix(&path).is_err(), "somebody listens");
        let stop = CancellationToken::new();
        let task = tokio::spawn(Server::new(router.clone()).serve(listener, stop.clone()));
        let answer = Client::unix(&path).get("http://agent/").await.unwrap();
        let text = answer.text().await.unwrap();
        let pid = std::process::id();
        assert!(
            text.starts_with(&format!("Unix {{ pid: Some({pid})")),
            "{text}"
        );
        stop.cancel();
        task.await.unwrap();
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let config = ServerConfig {
        max_connections: 1,
        ..impatient()
    };
    let server = Running::start(config).await;
    let silent = TcpStream::connect(&server.address).await.unwrap();
    server.still_serves().await;
    drop(silent);
}

/// What the server says to a client at `from` that asks who it is; nothing if it is cut off.
async fn asked_from(server: &str, from: [u8; 4]) -> String {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(server.parse().unwrap()).await.unwrap();
    let request = b"GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    if stream.write_all(request).await.is_ok() {
        let _ = stream.read_to_string(&mut answer).await;
    }
    answer
}

#[tokio::test]
async fn one_host_does_not_shut_out_the_others() {
    let config = ServerConfig {
        max_connections: 5,
        max_connections_per_host: 2,
        ..ServerConfig::default()
    };
    let load = config.load.clone();
    let server = Running::start(config).await;
    let mut held = Vec::new();
    for open in 1..=2 {
        held.push(TcpStream::connect(&server.address).await.unwrap());
        until(|| load.open() == open).await;
    }
    assert_eq!(asked_from(&server.address, [127, 0, 0, 1]).await, "");
    assert_eq!((load.open(), load.refused()), (2, 1));
    let other = asked_from(&server.address, [127, 0, 0, 2]).await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    // Those that end make room.
    held.pop();
    until(|| load.open() == 1).await;
    let own = asked_from(&server.address, [127, 0, 0, 1]).await;
    assert!(own.starts_with("HTTP/1.1 200"), "{own}");
}

#[tokio::test]
async fn a_full_server_says_so() {
    let config = ServerConfig {
        max_connections: 1,
        ..impatient()
    };
    let load = config.load.clone();
    let server = Running::start(config).await;
    let silent = TcpStream::connect(&server.address).await.unwrap();
    until(|| load.full() == 1).await;
    server.still_serves().await;
    drop(silent);
}

/// Waits until something is so.
async fn until(is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.expect("it comes true");
}

#[tokio::test]
async fn noise_costs_nothing_but_its_own_connection() {
    let server = Running::start(impatient()).await;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        // xorshift64: the noise is the same in each run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let starts: [&[u8]; 5] = [
        b"",
        b"POST /echo HTTP/1.1\r\nHost: x\r\n",
        b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /master/x HTTP/1.1\r\nLibprocess-From: a@1.1.1.1:1\r\nContent-Length: 9\r\n\r\n",
    ];
    for round in 0..200 {
        let mut noise = starts[round % starts.len()].to_vec();
        for _ in 0..next() % 300 {
            noise.push(next().to_le_bytes()[3]);
        }
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        // The server may close before it has taken everything.
        let _ = stream.write_all(&noise).await;
    }
    server.still_serves().await;
}

/// Answers `GET /short` by itself, when it comes whole, and counts how often; leaves all else.
#[derive(Debug, Default)]
struct Short(AtomicUsize);

impl Shortcut for Short {
    fn serve(self: Arc<Self>, mut visit: Visit) -> BoxFuture<'static, Left> {
        Box::pin(async move {
            let mut bytes = std::mem::take(&mut visit.first);
            let since = Instant::now();
            loop {
                while !bytes.ends_with(b"\r\n\r\n") && !bytes.ends_with(b"other") {
                    let read = visit.stream.read_buf(&mut bytes);
                    match tokio::time::timeout(<dyn Shortcut>::PAUSE, read).await {
                        Err(_) => return Left::Silent(visit.stream),
                        Ok(Ok(0) | Err(_)) => return Left::Ended,
                        Ok(Ok(_)) => {}
                    }
                }
                if bytes != b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n" {
                    return Left::Unfit(visit.stream, bytes, since);
                }
                self.0.fetch_add(1, Ordering::Relaxed);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshort";
                visit.stream.write_all(answer).await.unwrap();
                bytes.clear();
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_shortcut_leaves_what_it_does_not_know_and_meets_a_connection_again() {
    let router = Router::new()
        .route("/short", get(async || "long!"))
        .route("/echo", post(async |body: Bytes| body));
    let (pipe, listener) = Listener::pipe();
    let (stop, short) = (CancellationToken::new(), Arc::<Short>::default());
    let server = Server::new(router).shortcut(Arc::clone(&short) as Arc<dyn Shortcut>);
    let task = tokio::spawn(server.serve(listener, stop.clone()));
    let mut client = pipe.connect().await.unwrap();
    let (plain, other) = (
        "GET /short HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nother",
    );
    let pause = <dyn Shortcut>::PAUSE * 3 / 2;
    for (request, answer, wait) in [
        (plain, "short", false),
        (plain, "short", true),
        (plain, "short", false),
        (other, "other", false),
        // Once it is served by others, it is for as long as it is busy, ...
        (plain, "long!", true),
        // ... and no longer.
        (plain, "short", false),
    ] {
        let answered = asked(&mut client, request).await;
        assert!(answered.ends_with(answer), "{answered}");
        if wait {
            tokio::time::sleep(pause).await;
        }
    }
    assert_eq!(short.0.load(Ordering::Relaxed), 4);
    stop.cancel();
    drop(client);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_has_one_limit_whoever_waits_for_it() {
    let (pipe, listener) = Listener::pipe();
    let (stop, short) = (CancellationToken::new(), Arc::<Short>::default());
    let header_timeout = Duration::from_secs(2);
    let server = Server::new(Router::new())
        .shortcut(short)
        .config(ServerConfig {
            header_timeout,
            ..ServerConfig::default()
        });
    let task = tokio::spawn(server.serve(listener, stop.clone()));
    let mut client = pipe.connect().await.unwrap();
    let begun = Instant::now();
    client.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    tokio::time::sleep(<dyn Shortcut>::PAUSE / 2).await;
    client.write_all(b"X: other").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(begun.elapsed() < header_timeout + <dyn Shortcut>::PAUSE / 4);
    stop.cancel();
    task.await.unwrap();
}
