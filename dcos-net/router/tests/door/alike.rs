//! Both ways answer alike: the same requests to two routers before the same service, one of which has no short way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::backend::backend;
use crate::setup::{Answer, Served, Wishes, answer, head, header, router};

/// A request, and what is answered to it.
#[derive(Debug, Clone)]
struct Case {
    method: &'static str,
    path: String,
    headers: Vec<String>,
    status: &'static str,
    said: Vec<String>,
    framing: Framing,
    body: Vec<String>,
    twist: Twist,
}

/// What somebody behind the router says otherwise than most.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Twist {
    None,
    /// HTTP/1.0.
    Old,
    /// Lines end in LF only.
    Lf,
    /// So many answers before it that only promise it.
    Promises(usize),
    /// Its length twice, in two lines or in one, ...
    Twice(&'static str),
    /// ... and another one beside it.
    Another,
    /// Another answer follows, to nobody's request.
    Behind,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length,
    Chunks,
    Close,
}

fn cases() -> impl Strategy<Value = Case> {
    let path = prop_oneof![
        6 => "/service/app(/[a-z.~0-9]{1,5}){1,3}",
        4 => "/service/app/[a-z/]{0,8}\\?[a-z=&%+/?]{0,8}",
        2 => "/service/app/(/|//|\\.|\\.\\.|%2e|%2F|%41|a|%){0,6}",
        1 => Just("/service/none/x".to_owned()),
        1 => Just("/mesos".to_owned()),
    ];
    let header = prop_oneof![
        "X-[A-Z][a-z]{0,4}: [ -~]{0,12}",
        "(X_Real_IP|Content_Length|x_a|_): [a-z]{0,3}",
        "[Cc]ookie: (a=b|dcos-acs-auth-cookie=t|; |;|dcos-acs-info-cookie=u|c){1,5}",
        "(accept|Accept-Encoding|authorization|User-Agent|x-real-ip|X-Forwarded-Proto): [a-z,;=*/]{1,9}",
        "X-Forwarded-For: 1\\.2\\.3\\.4(, ?[a-z]{1,3}){0,9}",
        "(TE|Trailer|Keep-Alive|Proxy-Authorization|Proxy-Connection): [a-z]{1,5}",
        "Connection: (keep-alive|x-a|keep-alive, X-B)",
        "(Dcos-Forwarded|Range|If-None-Match): [a-z]{1,4}",
        "(Cookie|X-Forwarded-For):",
    ];
    let said = prop_oneof![
        "X-[A-Z][a-z]{0,4}: [ -~]{0,12}",
        "(Server|ETag|Cache-Control|Expires|Set-Cookie|Vary): [a-z]{1,9}",
        "Location: (/x|/\u{e4}|/service/app/y|http://dcos/z|http://else/|//h|q)",
        "Connection: (keep-alive|x-a, Server)",
        "(X-Accel-Redirect|X-Accel-Buffering|Keep-Alive|Proxy-Authenticate|Trailer): [a-z]{1,4}",
    ];
    let sizes = prop::sample::select(vec![1, 9, 5_000, 20_000]);
    let piece = ("[a-z]", sizes).prop_map(|(letter, size)| letter.repeat(size));
    let framing = prop_oneof![
        Just(Framing::Length),
        Just(Framing::Chunks),
        Just(Framing::Close)
    ];
    let twist = prop_oneof![
        8 => Just(Twist::None),
        1 => Just(Twist::Old),
        1 => Just(Twist::Lf),
        1 => prop::sample::select(vec![1, 16, 17]).prop_map(Twist::Promises),
        1 => prop::sample::select(vec![", ", "\r\nContent-Length: "]).prop_map(Twist::Twice),
        1 => Just(Twist::Another),
        1 => Just(Twist::Behind),
    ];
    let status = prop::sample::select(vec![
        "200 OK",
        "204 No Content",
        "302 Found",
        "304 Not Modified",
        "404 Gone",
        "299 Odd",
        "500 Oh",
    ]);
    (
        prop::sample::select(vec!["GET", "GET", "GET", "GET", "HEAD", "DELETE"]),
        path,
        prop::collection::vec(header, 0..5),
        status,
        prop::collection::vec(said, 0..5),
        framing,
        prop::collection::vec(piece, 0..4),
        twist,
    )
        .prop_map(
            |(method, path, headers, status, said, framing, body, twist)| Case {
                method,
                path,
                headers,
                status,
                said,
                framing,
                body,
                twist,
            },
        )
}

impl Case {
    /// The answer, as somebody behind the router writes it.
    fn answer(&self, bare: bool) -> Vec<u8> {
        let mut said = self.said.clone();
        if self.twist == Twist::Old {
            // On such a connection, kept, hyper asks in the old version, too, and the two ways keep different ones.
            said.retain(|line| line != "Connection: keep-alive");
        }
        let body = self.body.concat();
        match self.framing {
            Framing::Length => {
                let length = body.len();
                said.push(match self.twist {
                    Twist::Twice(between) => format!("Content-Length: {length}{between}{length}"),
                    Twist::Another => format!("Content-Length: {length}, {}", length + 1),
                    _ => format!("Content-Length: {length}"),
                });
            }
            Framing::Chunks => {
                said.push("Transfer-Encoding: chunked".to_owned());
                if self.twist == Twist::Another {
                    said.push("Content-Length: 3".to_owned());
                }
            }
            Framing::Close => said.push("Connection: close".to_owned()),
        }
        let version = if self.twist == Twist::Old {
            "1.0"
        } else {
            "1.1"
        };
        let mut answer = format!(
            "HTTP/{version} {}\r\n{}\r\n\r\n",
            self.status,
            said.join("\r\n")
        );
        match self.twist {
            Twist::Lf => answer = answer.replace('\r', ""),
            Twist::Promises(many) => {
                answer = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n".repeat(many) + &answer;
            }
            _ => {}
        }
        if !bare && !self.status.starts_with("204") && !self.status.starts_with("304") {
            match self.framing {
                Framing::Chunks => {
                    for piece in &self.body {
                        answer.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
                    }
                    answer.push_str("0\r\n\r\n");
                }
                Framing::Length | Framing::Close => answer.push_str(&body),
            }
        }
        if self.twist == Twist::Behind && !matches!(self.framing, Framing::Close) {
            answer.push_str("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        }
        answer.into_bytes()
    }

    fn request(&self) -> String {
        let lines = self.headers.iter().map(|line| format!("{line}\r\n"));
        let lines: String = lines.collect();
        let (method, path) = (self.method, &self.path);
        format!("{method} {path} HTTP/1.1\r\nHost: dcos:80\r\n{lines}\r\n")
    }
}

/// A router before a service that says what a case says, and notes what it is asked.
struct Way {
    served: Served,
    case: Arc<Mutex<Option<Case>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Way {
    async fn new(by_hyper: bool) -> Self {
        let (case, seen) = (
            Arc::<Mutex<Option<Case>>>::default(),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let service = backend().await;
        let wishes = Wishes {
            by_hyper: Some(by_hyper),
            ..Wishes::default()
        };
        let served = router(wishes).await;
        served.know(&[("app", &format!("http://{}", service.address))]);
        let way = Self {
            served,
            case: Arc::clone(&case),
            seen: Arc::clone(&seen),
        };
        tokio::spawn(async move {
            loop {
                let mut stream = service.accept().await;
                let (case, seen) = (Arc::clone(&case), Arc::clone(&seen));
                tokio::spawn(async move {
                    loop {
                        let asked = head(&mut stream).await;
                        if asked.is_empty() {
                            return;
                        }
                        let case = case.lock().unwrap().clone().unwrap();
                        let answer = case.answer(asked.starts_with("HEAD"));
                        seen.lock().unwrap().push(asked);
                        if stream.write_all(&answer).await.is_err()
                            || matches!(case.framing, Framing::Close)
                        {
                            return;
                        }
                    }
                });
            }
        });
        way
    }

    /// What is answered, and what the service saw.
    async fn ask(&self, client: &mut TcpStream, case: &Case) -> (Answer, Vec<String>) {
        *self.case.lock().unwrap() = Some(case.clone());
        client.write_all(case.request().as_bytes()).await.unwrap();
        let answer = if case.method == "HEAD" {
            let head = head(client).await;
            let status = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
            let (status, body) = (status.unwrap_or(0), Vec::new());
            Answer { status, head, body }
        } else {
            answer(client).await
        };
        (answer, std::mem::take(&mut *self.seen.lock().unwrap()))
    }

    /// Requests that took the short way.
    async fn relayed(&self) -> u64 {
        let counters = self.served.get("/nginx/metrics").await.text();
        let line = counters
            .lines()
            .find_map(|line| line.strip_prefix("dcos_router_relayed_requests_total "));
        line.unwrap().parse().unwrap()
    }
}

/// Headers that matter, by name: hyper writes names small, and each router its own date. An answer that never has a body
/// needs no length, and the long way tells it to who asks for the head.
fn sorted(head: &str) -> BTreeMap<String, Vec<String>> {
    let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let bare = [" 204 ", " 304 "]
        .iter()
        .any(|status| head.lines().next().unwrap_or_default().contains(status));
    for line in head.lines().skip(1) {
        if let Some((name, value)) = line.split_once(':') {
            let name = name.to_lowercase();
            if name != "date" && !(bare && name == "content-length") {
                sorted
                    .entry(name)
                    .or_default()
                    .push(value.trim().to_owned());
            }
        }
    }
    sorted
}

#[test]
fn the_short_way_and_the_long_one_answer_alike() {
    let runtime = Runtime::new().unwrap();
    let (short, long) = runtime.block_on(async { (Way::new(false).await, Way::new(true).await) });
    let config = Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let alike = |cases: Vec<Case>| {
        runtime.block_on(async {
            let (mut one, mut other) = (short.served.connect().await, long.served.connect().await);
            for case in cases {
                let (short, seen_short) = short.ask(&mut one, &case).await;
                let (long, seen_long) = long.ask(&mut other, &case).await;
                prop_assert_eq!(
                    short.head.lines().next(),
                    long.head.lines().next(),
                    "{:?}",
                    case
                );
                prop_assert_eq!(sorted(&short.head), sorted(&long.head), "{:?}", case);
                prop_assert_eq!(
                    header(&short.head, "date").is_some(),
                    header(&long.head, "date").is_some()
                );
                prop_assert!(short.body == long.body, "{case:?}");
                prop_assert_eq!(seen_short.len(), seen_long.len(), "{:?}", case);
                for (short, long) in seen_short.iter().zip(&seen_long) {
                    prop_assert_eq!(short.lines().next(), long.lines().next(), "{:?}", case);
                    prop_assert_eq!(sorted(short), sorted(long), "{:?}", case);
                }
                if short.header("connection").is_some() || short.status == 0 {
                    break;
                }
            }
            Ok(())
        })
    };
    let cases = prop::collection::vec(cases(), 1..4);
    TestRunner::new(config).run(&cases, alike).unwrap();
    let (short, long) = runtime.block_on(async { (short.relayed().await, long.relayed().await) });
    assert!(short > 200, "{short} only");
    assert_eq!(long, 0);
}
