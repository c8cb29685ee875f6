use std::task::{Context, Poll, Waker};

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Builder;

use super::*;
use crate::decide::{Forward, Redirects, Target};
use crate::route::Ways;

fn plan(bare: bool) -> Plan {
    let forward = Forward {
        to: Target::Member("http://10.0.0.1:1".parse().unwrap()),
        path: "/".to_owned(),
        ways: Ways {
            patience: 2,
            ..Ways::PLAIN
        },
        upgrades: true,
        unpacked: false,
        marked: false,
        limit: 1,
        redirects: Redirects::Kept,
    };
    Plan {
        method: if bare { Method::HEAD } else { Method::GET },
        forward,
        permission: None,
        tag: "Own",
        note: None,
        begun: Instant::now(),
        closes: false,
        length: 0,
        answered: false,
    }
}

/// What somebody who asked makes of an answer.
#[derive(Debug, PartialEq)]
struct Read {
    status: u16,
    body: Vec<u8>,
    /// Whether that is all of it.
    whole: bool,
}

/// As hyper reads it, if it finds an answer in it at all.
fn read(bytes: &[u8], bare: bool) -> Option<Read> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut sender, connection) = handshake(TokioIo::new(near)).await.unwrap();
        let driven = tokio::spawn(connection);
        let request = Request::builder().method(if bare { Method::HEAD } else { Method::GET });
        let answered = sender.send_request(request.body(Empty::<&[u8]>::new()).unwrap());
        let far = async {
            let _ = tokio::io::AsyncReadExt::read(&mut far, &mut [0; 1024]).await;
            far.write_all(bytes).await.unwrap();
            drop(far);
        };
        let (answer, ()) = tokio::join!(answered, far);
        let answer = answer.ok()?;
        let status = answer.status().as_u16();
        let (mut body, mut frames, mut whole) = (Vec::new(), answer.into_body(), true);
        while let Some(frame) = frames.frame().await {
            match frame {
                Ok(frame) => body.extend(frame.into_data().unwrap_or_default()),
                Err(_) => whole = false,
            }
        }
        driven.abort();
        Some(Read {
            status,
            body,
            whole,
        })
    })
}

/// What a client is sent of an answer that comes in pieces of such sizes and ends then; how far it was read, and how that
/// ended.
fn carried(bytes: &[u8], sizes: &[usize], bare: bool) -> (Vec<u8>, usize, Result<Rest, Failed>) {
    let (mut exchange, plan, now) = (Exchange::default(), plan(bare), Instant::now());
    exchange.begin(&plan, false, now);
    let (mut client, mut from) = (Vec::new(), bytes);
    for size in sizes.iter().cycle() {
        let (mut piece, rest) = from.split_at((*size).min(from.len()));
        let cx = &mut Context::from_waker(Waker::noop());
        let came = match exchange.answer.poll_read(cx, &mut piece) {
            Poll::Ready(Ok(0)) => exchange.ended(None, now),
            _ => exchange.came(&plan, "dcos", false, now),
        };
        from = &from[from.len() - rest.len() - piece.len()..];
        match came {
            Err(failed) => return (client, bytes.len() - from.len(), Err(failed)),
            Ok(None) => {}
            Ok(Some(piece)) => {
                client.extend(exchange.pieces().concat());
                exchange.passed();
                if piece.rest != Rest::More {
                    return (client, bytes.len() - from.len(), Ok(piece.rest));
                }
            }
        }
    }
    unreachable!("sizes are cycled")
}

/// An answer: what stands before its body, that, and what stands behind it.
fn answers() -> impl Strategy<Value = (String, String, String)> {
    let interim = "(HTTP/1\\.1 10[0-3] [a-z]{0,3}\r\n(A: b\r\n)?\r\n){0,3}";
    let status = "HTTP/1\\.[01] (200|200|200|204|302|304|404|999)( [A-Za-z]{0,5})?";
    let line = prop_oneof![
        6 => "[A-Z][a-z]{0,5}:[ \t]{0,2}[!-~]{0,9}",
        1 => "(Connection|connection): (close|keep-alive|Close, a|a)",
        1 => "(Content-Length|Transfer-Encoding|Transfer-Encoding ): ?(5|5, 5|\\+5|chunked|identity|gzip, chunked|)",
        1 => "( folded|A\rB: c|no colon)",
    ];
    let framed = prop_oneof![
        3 => "[a-z]{0,12}".prop_map(|body| (format!("Content-Length: {}", body.len()), body)),
        1 => prop::sample::select(vec![4095_usize, 4096, 4097, 20_000])
            .prop_map(|size| (format!("content-length: {size}"), "x".repeat(size))),
        3 => prop::collection::vec("[a-z]{1,20}", 0..4).prop_map(|pieces| {
            let pieces = pieces.iter().map(|piece| format!("{:x};a\r\n{piece}\r\n", piece.len()));
            let body = pieces.chain(["0\r\nA: b\r\n\r\n".to_owned()]).collect();
            ("Transfer-Encoding: chunked".to_owned(), body)
        }),
        1 => "(1\r\na|5\nhello|zz|2\r\nok)\r\n(zz\r\n|0\r\n\r\n)?"
            .prop_map(|body| ("transfer-encoding: Chunked".to_owned(), body)),
        1 => "[a-z]{0,12}".prop_map(|body| ("Server: x".to_owned(), body)),
    ];
    let behind = "(|||HTTP/1\\.1 200 OK\r\nContent-Length: 4\r\n\r\nevil|\r\n|x)";
    let lines = prop::collection::vec(line, 0..3);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n"]);
    (interim, status, lines, framed, behind, end).prop_map(
        |(interim, status, mut lines, (framing, body), behind, end)| {
            lines.insert(0, status);
            lines.push(framing);
            let head = lines.join(end);
            (format!("{interim}{head}{end}{end}"), body, behind)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// However an answer is cut, whatever it says and wherever it breaks off: the client reads of it what hyper would.
    #[test]
    fn clients_read_what_was_answered(
        (head, body, behind) in answers(),
        sizes in prop::collection::vec(prop_oneof![1_usize..9, 1_usize..200, Just(30_000)], 1..4),
        bare in prop::bool::weighted(0.2),
        cut in prop::option::weighted(0.3, 0_usize..99),
    ) {
        let mut said = format!("{head}{body}{behind}");
        if let Some(cut) = cut {
            said.truncate(said.len() * cut / 100);
        }
        let theirs = read(said.as_bytes(), bare);
        let (client, used, ended) = carried(said.as_bytes(), &sizes, bare);
        let ours = read(&client, bare);
        match ended {
            Err(failed) => {
                prop_assert!(client.is_empty());
                prop_assert!(matches!(failed, Failed::Of(SendError::Speaking(_) | SendError::Nonsense(_))));
                // What hyper takes, and what is refused here: another protocol, a coding that nobody undoes, and what says
                // wrong things of a body that there is not, or says them twice.
                let none = bare || head.contains(" 204") || head.contains(" 304");
                let lower = head.to_lowercase();
                let codings = lower.matches("transfer-encoding:").count();
                let lengths = lower.matches("content-length:").count();
                let odd = codings + lengths > 1 || (codings == 1 && !lower.contains("encoding: chunked"));
                let strict = none || odd;
                let whole = theirs.is_some_and(|theirs| theirs.whole && theirs.status != 101);
                prop_assert!(!whole || strict, "{said:?}: {failed:?}");
            }
            Ok(rest) => {
                prop_assert_eq!(&ours, &theirs, "{:?}", said);
                let (ours, keeps) = (ours.unwrap(), matches!(rest, Rest::Done { keeps: true, .. }));
                prop_assert_eq!(ours.whole, rest != Rest::Cut);
                let text = String::from_utf8_lossy(&client).to_lowercase();
                let head_sent = text.split("\r\n\r\n").next().unwrap();
                let framings = head_sent.matches("\r\ncontent-length:").count()
                    + head_sent.matches("\r\ntransfer-encoding:").count();
                prop_assert!(framings < 2, "{head_sent}");
                // What is kept takes the next request, whose answer must be the next thing that comes.
                let none = bare || ours.status == 204 || ours.status == 304;
                let end = if none { head.len() } else { head.len() + body.len() };
                prop_assert!(!keeps || used == end, "{said:?}: {used} of {end}");
            }
        }
    }

    /// A request goes out a second time only where nobody can have begun with it, and never has longer than it has.
    #[test]
    fn only_what_nobody_heard_goes_out_again(used: bool, came in 0_usize..30, millis in 0_u64..3000, broke: bool) {
        let (mut exchange, plan, begun) = (Exchange::default(), plan(false), Instant::now());
        exchange.onward.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        exchange.begin(&plan, used, begun);
        let (deadline, now) = (begun + plan.patience(), begun + Duration::from_millis(millis));
        prop_assert_eq!(exchange.deadline, Some(deadline));
        let mut piece = &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1"[..came];
        if came > 0 {
            let cx = &mut Context::from_waker(Waker::noop());
            let _ = exchange.answer.poll_read(cx, &mut piece);
            let late = matches!(exchange.came(&plan, "dcos", false, now), Err(Failed::Of(SendError::Late)));
            prop_assert_eq!(late, now >= deadline);
        }
        let error = broke.then(|| io::ErrorKind::ConnectionReset.into());
        let again = matches!(exchange.ended(error, now), Err(Failed::Again));
        prop_assert_eq!(again, used && came == 0 && millis < 1000);
    }
}

#[test]
fn promises_and_heads_have_an_end() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (promises, expected) in [(MOST_INTERIM, true), (MOST_INTERIM + 1, false)] {
        let said = format!("{}{ok}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(promises));
        for size in [1, 7, 30_000] {
            let (_, _, ended) = carried(said.as_bytes(), &[size], false);
            assert_eq!(ended.is_ok(), expected, "{promises} in pieces of {size}");
        }
    }
    for (size, expected) in [(HEAD / 2, true), (HEAD + 1, false)] {
        let said = format!(
            "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
            "x".repeat(size)
        );
        let (_, _, ended) = carried(said.as_bytes(), &[30_000], false);
        assert_eq!(ended.is_ok(), expected, "{size}");
    }
}
