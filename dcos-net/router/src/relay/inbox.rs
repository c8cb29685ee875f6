//! [`Inbox`]: what a client says, and how long it may take for that; pure.

use std::sync::Arc;

use dcos_wire::{ServerConfig, Shortcut};
use tokio::time::Instant;

use super::asked::{Looked, Room, look};
use super::buffer::{Buffer, ROOM};

/// Bytes that a client may send ahead while it is answered: a hundred requests.
const AHEAD: usize = 64 << 10;

/// What a client said and was not used yet. Whoever has the connection reads into it; time comes from there, too.
pub(super) struct Inbox {
    said: Buffer,
    /// How much of that was looked at and is no whole head.
    seen: usize,
    limits: Arc<ServerConfig>,
    /// Whether no request was taken out yet.
    is_new: bool,
    /// Since when the rest of a head is awaited.
    since: Option<Instant>,
    /// Since when nothing more is read of what the client sends ahead.
    full: Option<Instant>,
}

/// What becomes of a connection whose client is silent for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It ends, and the client is told that its head came too late.
    Late,
    /// It ends.
    End,
    /// It waits where that costs less.
    Park,
}

impl Inbox {
    pub(super) fn new(first: &[u8], limits: Arc<ServerConfig>) -> Self {
        Self {
            said: Buffer::of(first),
            seen: 0,
            limits,
            is_new: true,
            since: None,
            full: None,
        }
    }

    /// What is left to somebody else, where something last came `now`: since when the rest of its head is awaited.
    pub(super) fn left(&self, now: Instant) -> (Vec<u8>, Instant) {
        (self.said.bytes().to_vec(), self.since.unwrap_or(now))
    }

    /// Room for what the client says next, while that is awaited.
    pub(super) fn room(&mut self) -> &mut Buffer {
        &mut self.said
    }

    /// Room for what it sends ahead while it is answered. Whoever asks for more than there is has to get its answer in the
    /// time of a silence, as nobody sees any more whether it goes: until when is the error.
    pub(super) fn room_ahead(&mut self, now: Instant) -> Result<&mut Buffer, Instant> {
        if self.said.is_full() && !self.said.grow(AHEAD) {
            return Err(*self.full.get_or_insert(now) + self.limits.idle_timeout);
        }
        Ok(&mut self.said)
    }

    /// Looks at the next request, of which there may be nothing yet.
    pub(super) fn look<'a>(&'a mut self, room: &'a mut Room<'a>) -> Looked<'a> {
        let here = self.said.bytes().len();
        if here == 0 || (here < ROOM && !self.said.may_end_head(self.seen)) {
            return Looked::Partial;
        }
        match look(self.said.bytes(), room) {
            Looked::Partial if here < ROOM => {
                self.seen = here;
                Looked::Partial
            }
            Looked::Plain(asked) if asked.bytes.len() <= ROOM => Looked::Plain(asked),
            _ => Looked::Unfit,
        }
    }

    /// Takes a head of so many bytes out: from now on that request is answered.
    pub(super) fn take(&mut self, length: usize) {
        self.said.skip(length);
        (self.seen, self.is_new) = (0, false);
        (self.since, self.full) = (None, None);
    }

    /// Until when more may come, where something last came `now`, and what then.
    pub(super) fn silence(&mut self, now: Instant) -> (Instant, Then) {
        let (limits, pause) = (&self.limits, <dyn Shortcut>::PAUSE);
        if !self.said.is_empty() {
            let since = self.since.get_or_insert(now);
            (*since + limits.header_timeout, Then::Late)
        } else if self.is_new {
            (now + limits.first_byte_timeout, Then::End)
        } else if limits.idle_timeout < pause {
            (now + limits.idle_timeout, Then::End)
        } else {
            (now + pause, Then::Park)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::runtime::Builder;

    use super::super::asked::room;
    use super::*;

    fn inbox() -> Inbox {
        Inbox::new(b"", Arc::default())
    }

    /// Reads what fits; says how much that was.
    fn read(buffer: &mut Buffer, mut bytes: &[u8]) -> usize {
        let cx = &mut Context::from_waker(Waker::noop());
        match buffer.poll_read(cx, &mut bytes) {
            Poll::Ready(Ok(read)) => read,
            other => panic!("{other:?}"),
        }
    }

    /// A request: its line, and its headers.
    type Shown = (String, Vec<(String, Vec<u8>)>);

    /// The plain requests among bytes that come in pieces of such sizes, up to what is not plain.
    fn plain(mut bytes: &[u8], sizes: &[usize]) -> Vec<Shown> {
        let (mut inbox, mut all) = (inbox(), Vec::new());
        for size in sizes.iter().cycle() {
            let more = read(inbox.room(), &bytes[..*size.min(&bytes.len())]);
            bytes = &bytes[more..];
            loop {
                let taken = match inbox.look(&mut room()) {
                    Looked::Partial if more == 0 => return all,
                    Looked::Partial => break,
                    Looked::Unfit => return all,
                    Looked::Plain(asked) => {
                        let headers = asked.headers.iter();
                        let headers =
                            headers.map(|one| (one.name.to_lowercase(), one.value.to_vec()));
                        all.push((
                            format!("{} {}", asked.method, asked.target),
                            headers.collect(),
                        ));
                        asked.bytes.len()
                    }
                };
                inbox.take(taken);
            }
        }
        unreachable!("sizes are cycled")
    }

    /// The requests among bytes, as hyper reads them; none of them has a body.
    fn by_hyper(bytes: &[u8]) -> Vec<Shown> {
        let all = Arc::<Mutex<Vec<Shown>>>::default();
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let answer = service_fn(|request: Request<Incoming>| {
                let headers = request.headers().iter();
                let headers =
                    headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
                let line = format!("{} {}", request.method(), request.uri());
                let (shown, all) = ((line, headers.collect()), Arc::clone(&all));
                async move {
                    if request
                        .into_body()
                        .collect()
                        .await
                        .is_ok_and(|body| body.to_bytes().is_empty())
                    {
                        all.lock().unwrap().push(shown);
                    }
                    Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
                }
            });
            far.write_all(bytes).await.unwrap();
            let serving = http1::Builder::new().serve_connection(TokioIo::new(near), answer);
            // The clock stands still until nobody has anything to do.
            let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
        });
        std::mem::take(&mut *all.lock().unwrap())
    }

    fn requests() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            8 => "(GET|GET|HEAD|POST|GETS) /[a-z?%/]{0,5}(#|\"|\\*)? HTTP/1\\.[01]",
            1 => "(GET|HEAD)  ?/? ?(HTTP/1\\.1)?",
        ];
        let header = prop_oneof![
            6 => "[A-Za-z-]{1,6}:[ \t]{0,2}[!-~]{0,6}[ \t]{0,2}",
            2 => "(Connection|connection|Content-Length|Transfer-Encoding|Upgrade|Cookie|Expect|Host): ?(close|keep-alive|0|1|chunked|a|)",
            1 => "( folded|X : 1|: x|x|X: a\r|X: \u{1}|X: \u{e4}|Content-Length : 1|\u{e4}: 1)",
        ];
        let end =
            prop_oneof![9 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\r\n")];
        let lines = prop::collection::vec((header, end.clone()), 0..3);
        (line, end.clone(), lines, end).prop_map(|(line, first, lines, last)| {
            let lines: String = lines.into_iter().map(|(line, end)| line + end).collect();
            format!("{line}{first}Host: a\r\n{lines}{last}")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// What is taken for plain is to hyper the same request without a body, and begins and ends where that does.
        #[test]
        fn plain_requests_are_to_hyper_the_same(
            requests in prop::collection::vec(requests(), 1..5),
            sizes in prop::collection::vec(prop_oneof![1_usize..9, 1_usize..99, Just(9999)], 1..4),
        ) {
            let said = requests.concat();
            let ours = plain(said.as_bytes(), &sizes);
            prop_assert_eq!(&ours, &plain(said.as_bytes(), &[30_000]), "{:?}", said);
            let theirs = by_hyper(said.as_bytes());
            let same = ours.iter().zip(&theirs).take_while(|(ours, theirs)| {
                let sorted = |(line, headers): &Shown| {
                    let mut headers = headers.clone();
                    headers.sort();
                    (line.clone(), headers)
                };
                sorted(ours) == sorted(theirs)
            });
            // Behind a request after which it closes, hyper reads none.
            let closes = |(_, headers): &Shown| headers.iter().any(|(name, value)| name == "connection" && value == b"close");
            let expected = ours.iter().position(closes).map_or(ours.len(), |last| last + 1);
            prop_assert!(same.count() >= expected, "{said:?}: {ours:?}, {theirs:?}");
        }

        /// From its first byte on a head has one limit, however it drips; and what is sent ahead never fills more than there is.
        #[test]
        fn silence_has_an_end(drips in prop::collection::vec((1_usize..9, 0_u64..9), 1..9), ahead in 0_usize..200_000) {
            let mut inbox = inbox();
            let begun = Instant::now();
            let limits = ServerConfig::default();
            prop_assert_eq!(inbox.silence(begun), (begun + limits.first_byte_timeout, Then::End));
            let (head, mut now, mut first) = (b"GET / HTTP/1.1\r\n".repeat(9), begun, None);
            for (drip, seconds) in drips {
                now += Duration::from_secs(seconds);
                read(inbox.room(), &head[..drip]);
                let since = *first.get_or_insert(now);
                prop_assert_eq!(inbox.silence(now), (since + limits.header_timeout, Then::Late));
                prop_assert_eq!(inbox.left(now).1, since);
            }
            inbox.take(usize::MAX);
            prop_assert_eq!(inbox.silence(now), (now + <dyn Shortcut>::PAUSE, Then::Park));
            let (said, mut sent) = (vec![b'x'; ahead], 0);
            while let Ok(room) = inbox.room_ahead(now) && sent < ahead {
                sent += read(room, &said[sent..]);
            }
            prop_assert_eq!(sent, ahead.min(AHEAD));
            if ahead >= AHEAD {
                let full = inbox.room_ahead(now + Duration::from_secs(5)).err();
                prop_assert_eq!(full, Some(now + limits.idle_timeout));
            }
        }
    }
}
