//! [`Talk`]: a connection with a client, and what is sent on of it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::Response;
use dcos_wire::{Alarm, Left, Peer, ServerConfig, Shortcut, Stream, Visit};
use http::header::CONNECTION;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::answer::{self, Body, Broken, Heard, listen};
use super::asked::{self, Asked, Looked, is_plain_target, look};
use super::buffer::{Buffer, ROOM};
use super::lane::Lane;
use super::{Relay, write};
use crate::decide::{Forward, Permission, Step};
use crate::door::{Asking, Done, Note, shown};
use crate::headers::authority;
use crate::own::text;
use crate::path::normalize;
use crate::proxy::{failed, late};
use crate::shelf::Host;
use crate::upstream::SendError;

/// The largest head of an answer in bytes: as of hyper's client, all but.
const HEAD: usize = 512 << 10;
/// Data of an answer up to so many bytes is copied behind what stands before it: that costs less than a second piece.
const SMALL: usize = 4 << 10;
/// What is said of an answer whose chunks are none.
const BROKEN: &str = "its chunks are broken";
/// Heads before an answer's own that only say that it is still to come.
const MOST_INTERIM: usize = 16;
/// Bytes that a client may send ahead while it is answered: a hundred requests.
const AHEAD: usize = 64 << 10;
/// Who closes a used connection within this time has not begun with the request that went out on it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A connection with a client.
pub(super) struct Talk {
    relay: Arc<Relay>,
    client: Stream,
    /// What the client said and was not used yet.
    inbox: Buffer,
    /// How much of that, or of the answer, was looked at and is no whole head.
    seen: usize,
    /// What somebody behind the router said.
    answer: Buffer,
    /// A request's head on its way.
    onward: Vec<u8>,
    /// The way back: an answer's head, and what frames its body.
    back: Vec<u8>,
    peer: Peer,
    /// The client's address as headers have it.
    address: Option<String>,
    /// Whom the client asked last, which mostly is whom it asks next.
    host: Option<Authority>,
    limits: Arc<ServerConfig>,
    stop: CancellationToken,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whether nothing has come yet.
    is_new: bool,
    /// When something last came, from either side: the clock is not asked more often.
    now: Instant,
    /// Since when the rest of a head is awaited.
    since: Option<Instant>,
    /// Since when nothing more is read of what the client sends ahead.
    full: Option<Instant>,
    /// Rings when what is to come is late, ...
    alarm: Alarm,
    /// ... when the client takes nothing, ...
    stall: Alarm,
    /// ... and when it sends too much ahead.
    flood: Alarm,
    /// Whether the client took nothing for too long.
    stalled: bool,
}

/// A request that is sent on.
struct Plan {
    method: Method,
    forward: Forward,
    /// Whom to ask before.
    permission: Option<Permission>,
    tag: &'static str,
    note: Option<Note>,
    begun: Instant,
    /// Whether the client wants the connection to end.
    closes: bool,
    /// Bytes of its head.
    length: usize,
}

/// What becomes of what the client said.
enum Planned {
    /// There must be more of it.
    Wait,
    /// It is not for here.
    Unfit,
    Send(Box<Plan>),
}

/// What came of waiting for more.
enum More {
    Came,
    Silent,
    Ended,
}

/// The connection ends.
struct Ended;

/// Why there is no answer.
enum Failed {
    /// The client has gone.
    Gone,
    /// The connection had ended before a byte of an answer came.
    Unheard(io::Error),
    Of(SendError),
}

/// The head of an answer, on its way to the client.
struct Reply {
    status: u16,
    body: Body,
    /// Whether the lane takes another request afterwards.
    keeps: bool,
    /// Whether the client's connection ends afterwards.
    closes: bool,
}

/// Counts what is sent, and tells when that ends, however it does.
struct Counted {
    done: Done,
    sent: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.done.tell(0, self.sent);
    }
}

impl Talk {
    pub(super) fn new(relay: Arc<Relay>, visit: Visit) -> Self {
        let Visit {
            stream,
            first,
            peer,
            limits,
            stop,
        } = visit;
        Self {
            relay,
            client: stream,
            inbox: Buffer::of(&first),
            seen: 0,
            answer: Buffer::default(),
            onward: Vec::new(),
            back: Vec::new(),
            address: peer.ip().map(|ip| ip.to_string()),
            peer,
            host: None,
            limits,
            stopped: Box::pin(stop.clone().cancelled_owned()),
            stop,
            is_new: first.is_empty(),
            now: Instant::now(),
            since: None,
            full: None,
            alarm: Alarm::default(),
            stall: Alarm::default(),
            flood: Alarm::default(),
            stalled: false,
        }
    }

    pub(super) async fn run(mut self) -> Left {
        loop {
            let planned = match self.plan() {
                Planned::Send(mut plan) => self.exchange(&mut plan).await,
                Planned::Unfit => return Left::Unfit(self.client, self.inbox.bytes().to_vec()),
                Planned::Wait => match self.more().await {
                    More::Came => Ok(()),
                    More::Silent => return Left::Silent(self.client),
                    More::Ended => Err(Ended),
                },
            };
            if planned.is_err() {
                // TLS says that this is the end; who does not hear it is not waited for.
                if !self.stalled {
                    let _ = timeout(self.limits.write_timeout, self.client.shutdown()).await;
                }
                return Left::Ended;
            }
        }
    }

    /// Looks at what the client said. If it is sent on without asking anybody, its head is written now.
    fn plan(&mut self) -> Planned {
        let here = self.inbox.bytes().len();
        if here == 0 || (here < ROOM && !self.inbox.may_end_head(self.seen)) {
            return Planned::Wait;
        }
        let mut room = asked::room();
        let asked = match look(self.inbox.bytes(), &mut room) {
            Looked::Plain(asked) if asked.length <= ROOM => asked,
            Looked::Partial if here < ROOM => {
                self.seen = here;
                return Planned::Wait;
            }
            _ => return Planned::Unfit,
        };
        let known = self.host.as_ref().map(Authority::as_str);
        if known.is_none_or(|known| known.as_bytes() != asked.host) {
            match authority(asked.host) {
                Ok(host) => self.host = Some(host),
                Err(_) => return Planned::Unfit,
            }
        }
        let door = &self.relay.door;
        let (path, query) = match asked.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (asked.target, None),
        };
        let Ok(path) = normalize(path) else {
            return Planned::Unfit;
        };
        let asking = Asking {
            path: &path,
            query,
            method: &asked.method,
            forwarded: asked.forwarded,
        };
        let Some(decision) = door.decide(&asking) else {
            return Planned::Unfit;
        };
        let forward = match decision.step {
            // What frameworks say of themselves is part of the path.
            Step::Forward(forward) if is_plain_target(&forward.path) => forward,
            _ => return Planned::Unfit,
        };
        let house = &door.house;
        let open = house.authenticate.is_none() || decision.permission == Permission::Open;
        if open {
            let headers = asked.headers.iter();
            let headers = headers.map(|header| (header.name, header.value));
            let bytes = self.inbox.bytes();
            let from = write::From {
                bytes,
                address: self.address.as_deref(),
                scheme: door.scheme,
            };
            write::onward(&mut self.onward, &asked.method, headers, &from, &forward);
        }
        let note = house.journal.is_some().then(|| Note {
            upstream: shown(&forward.to),
            ..note(&asked, &self.peer)
        });
        Planned::Send(Box::new(Plan {
            method: asked.method,
            forward,
            permission: (!open).then_some(decision.permission),
            tag: decision.tag,
            note,
            begun: self.now,
            closes: asked.closes,
            length: asked.length,
        }))
    }

    /// Waits for what the client says next.
    async fn more(&mut self) -> More {
        let limits = &self.limits;
        let pause = <dyn Shortcut>::PAUSE;
        let patience = match (self.inbox.is_empty(), self.is_new) {
            (true, true) => limits.first_byte_timeout,
            (true, false) => limits.idle_timeout.min(pause),
            (false, _) => limits.header_timeout,
        };
        let since = if self.inbox.is_empty() {
            self.now
        } else {
            *self.since.get_or_insert(self.now)
        };
        poll_fn(|cx| {
            match self.inbox.poll_read(cx, &mut self.client) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(More::Ended),
                Poll::Ready(Ok(_)) => {
                    (self.is_new, self.now) = (false, Instant::now());
                    return Poll::Ready(More::Came);
                }
                Poll::Pending => {}
            }
            // Who is asked to end waits for no rest of a head either.
            if self.stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(More::Ended);
            }
            if !self.inbox.is_empty() {
                ready!(self.alarm.poll(since + patience, cx));
                // If not even these few bytes fit, the client does not listen either.
                let _ = Pin::new(&mut self.client).poll_write(cx, <dyn Shortcut>::LATE);
                return Poll::Ready(More::Ended);
            }
            ready!(self.alarm.poll(since + patience, cx));
            let parks = !self.is_new && patience == pause;
            Poll::Ready(if parks { More::Silent } else { More::Ended })
        })
        .await
    }

    /// Sends a request on, and back what is answered.
    async fn exchange(&mut self, plan: &mut Plan) -> Result<(), Ended> {
        (self.since, self.full, self.seen) = (None, None, 0);
        let relay = Arc::clone(&self.relay);
        if let Some(permission) = plan.permission.take() {
            let admitted = Box::pin(self.admit(&relay, plan, &permission)).await?;
            self.now = Instant::now();
            if let Err(refused) = admitted {
                return Box::pin(self.say(&relay, plan, refused)).await;
            }
        } else {
            self.inbox.skip(plan.length);
        }
        relay.door.house.counters.relayed();
        let patience = Duration::from_secs(plan.forward.ways.patience.into());
        let deadline = self.now + patience;
        let (pool, host) = relay.door.house.proxy.upstreams.way(&plan.forward.to);
        let mut kept = pool.lanes().take(&host, self.now);
        let error = loop {
            let used = kept.is_some();
            let mut lane = if let Some(lane) = kept.take() {
                lane
            } else {
                let opening = timeout_at(deadline, pool.open(&host));
                match Box::pin(self.unless_gone(opening)).await? {
                    Ok(Ok(stream)) => Lane::new(stream),
                    Ok(Err(error)) => break error,
                    Err(_) => break SendError::Late,
                }
            };
            match self.ask(plan, &mut lane, deadline).await {
                Ok(reply) => return self.carry(&relay, plan, reply, lane, host).await,
                Err(Failed::Gone) => return Err(Ended),
                // It was closed in the moment it was taken. What is plain may be asked twice: a new one answers. Whoever has
                // had the time to work on it, and died of it perhaps, is not asked again.
                Err(Failed::Unheard(_)) if used && self.now.elapsed() < AT_ONCE => {}
                Err(Failed::Unheard(error)) => break SendError::Speaking(error),
                Err(Failed::Of(error)) => break error,
            }
        };
        self.answer.clear();
        (self.seen, self.now) = (0, Instant::now());
        let response = match error {
            SendError::Late => late(),
            error => failed(&plan.forward.to, &error),
        };
        Box::pin(self.say(&relay, plan, response)).await
    }

    /// Asks whether the client may; the head of its request is written then.
    async fn admit(
        &mut self,
        relay: &Relay,
        plan: &Plan,
        permission: &Permission,
    ) -> Result<Result<(), Response>, Ended> {
        let mut headers = HeaderMap::new();
        if let Looked::Plain(asked) = look(self.inbox.bytes(), &mut asked::room()) {
            for header in asked.headers {
                let name = HeaderName::from_bytes(header.name.as_bytes());
                let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value)) else {
                    let refused = text(StatusCode::BAD_REQUEST, "400 Bad Request");
                    self.inbox.skip(plan.length);
                    return Ok(Err(refused));
                };
                headers.append(name, value);
            }
        }
        self.inbox.skip(plan.length);
        if let Some(authenticate) = &relay.door.house.authenticate {
            let peer = self.peer.clone();
            let asking = authenticate.admit(&mut headers, &peer, permission);
            let patience = Duration::from_secs(plan.forward.ways.patience.into());
            match self.unless_gone(timeout(patience, asking)).await? {
                Ok(Ok(())) => {}
                Ok(Err(refused)) => return Ok(Err(refused)),
                Err(_) => return Ok(Err(late())),
            }
        }
        let from = write::From {
            bytes: &[],
            address: self.address.as_deref(),
            scheme: relay.door.scheme,
        };
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        write::onward(
            &mut self.onward,
            &plan.method,
            headers,
            &from,
            &plan.forward,
        );
        Ok(Ok(()))
    }

    /// Sends the request, and waits for the head of the answer.
    async fn ask(
        &mut self,
        plan: &Plan,
        lane: &mut Lane,
        deadline: Instant,
    ) -> Result<Reply, Failed> {
        let (mut sent, mut heard, mut interim) = (0, false, 0);
        self.answer.clear();
        self.seen = 0;
        poll_fn(|cx| {
            while sent < self.onward.len() {
                match lane.poll_write(cx, &self.onward[sent..]) {
                    Poll::Ready(Ok(0)) => {
                        let error = io::ErrorKind::WriteZero.into();
                        return Poll::Ready(Err(Failed::Unheard(error)));
                    }
                    Poll::Ready(Ok(length)) => sent += length,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Failed::Unheard(error))),
                    Poll::Pending => break,
                }
            }
            if let Poll::Ready(Err(error)) = lane.poll_flush(cx) {
                return Poll::Ready(Err(Failed::Unheard(error)));
            }
            loop {
                let error = match self.answer.poll_read(cx, lane) {
                    Poll::Ready(Ok(0)) => io::ErrorKind::UnexpectedEof.into(),
                    Poll::Ready(Err(error)) => error,
                    Poll::Ready(Ok(_)) => {
                        heard = true;
                        match self.hear(plan, &mut interim) {
                            // Who never stops to speak has no more time than others.
                            Ok(None) if Instant::now() < deadline => continue,
                            Ok(None) => return Poll::Ready(Err(Failed::Of(SendError::Late))),
                            Ok(Some(mut reply)) => {
                                self.now = Instant::now();
                                self.seen = 0;
                                reply.keeps &= sent == self.onward.len();
                                return Poll::Ready(Ok(reply));
                            }
                            Err(Broken(why)) => {
                                return Poll::Ready(Err(Failed::Of(SendError::Nonsense(why))));
                            }
                        }
                    }
                    Poll::Pending => break,
                };
                return Poll::Ready(Err(if heard {
                    Failed::Of(SendError::Speaking(error))
                } else {
                    Failed::Unheard(error)
                }));
            }
            if self.is_gone(cx) {
                return Poll::Ready(Err(Failed::Gone));
            }
            ready!(self.alarm.poll(deadline, cx));
            Poll::Ready(Err(Failed::Of(SendError::Late)))
        })
        .await
    }

    /// Looks at what was answered; the client's head is written if that has a whole one.
    fn hear(&mut self, plan: &Plan, interim: &mut usize) -> Result<Option<Reply>, Broken> {
        loop {
            let mut room = answer::room();
            let bare = plan.method == Method::HEAD;
            let heard = if self.answer.may_end_head(self.seen) {
                listen(self.answer.bytes(), &mut room, bare)?
            } else {
                Heard::Partial
            };
            match heard {
                Heard::Partial => {
                    self.seen = self.answer.bytes().len();
                    if self.answer.is_full() && !self.answer.grow(HEAD) {
                        return Err(Broken("its head is too large"));
                    }
                    return Ok(None);
                }
                Heard::Interim(length) => {
                    *interim += 1;
                    if *interim > MOST_INTERIM {
                        return Err(Broken("it only says that it is still to come"));
                    }
                    self.answer.skip(length);
                    self.seen = 0;
                }
                Heard::Head(head) => {
                    let closes = plan.closes || self.stop.is_cancelled();
                    let host = self.host.as_ref().map_or("", Authority::as_str);
                    let bytes = self.answer.bytes();
                    write::back(&mut self.back, bytes, &head, &plan.forward, host, closes);
                    let length = head.length;
                    let reply = Reply {
                        status: head.status,
                        body: head.body,
                        keeps: head.keeps,
                        closes,
                    };
                    self.answer.skip(length);
                    return Ok(Some(reply));
                }
            }
        }
    }

    /// Sends the answer to the client, as fast as that takes it.
    async fn carry(
        &mut self,
        relay: &Relay,
        plan: &mut Plan,
        reply: Reply,
        lane: Lane,
        host: Host,
    ) -> Result<(), Ended> {
        let Reply {
            status,
            mut body,
            keeps,
            closes,
        } = reply;
        let (mut data, mut beyond) = body.take(&mut self.answer);
        if body.is_broken() {
            // Nothing was said yet.
            self.answer.clear();
            let error = SendError::Nonsense(BROKEN);
            let response = failed(&plan.forward.to, &error);
            return Box::pin(self.say(relay, plan, response)).await;
        }
        let mut counted = self.counted(relay, plan, status);
        let chunked = matches!(body, Body::Chunked(_) | Body::UntilEnd);
        let (pool, mut lane) = (
            relay.door.house.proxy.upstreams.way(&plan.forward.to).0,
            Some(lane),
        );
        loop {
            let last = body.has_ended();
            if last && let Some(lane) = lane.take_if(|_| keeps && !beyond) {
                pool.lanes().put(host.clone(), lane, self.now);
            }
            let behind: &[u8] = if chunked {
                write::around(&mut self.back, data, last)
            } else {
                b""
            };
            counted.sent += data as u64;
            self.send(data, behind).await?;
            if last {
                break;
            }
            // An answer that breaks off breaks off for the client, behind what came of it.
            let Some(lane) = lane.as_mut().filter(|_| !body.is_broken()) else {
                return Err(Ended);
            };
            let read = poll_fn(|cx| {
                if let Poll::Ready(read) = self.answer.poll_read(cx, lane) {
                    return Poll::Ready(read.map_err(|_| Ended));
                }
                if self.is_gone(cx) {
                    return Poll::Ready(Err(Ended));
                }
                Poll::Pending
            });
            let read = read.await?;
            self.now = Instant::now();
            if read == 0 {
                let Body::UntilEnd = body else {
                    return Err(Ended);
                };
                let behind = write::around(&mut self.back, 0, true);
                self.send(0, behind).await?;
                break;
            }
            (data, beyond) = body.take(&mut self.answer);
        }
        if closes { Err(Ended) } else { Ok(()) }
    }

    /// Answers by itself.
    async fn say(
        &mut self,
        relay: &Relay,
        plan: &mut Plan,
        response: Response,
    ) -> Result<(), Ended> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| Ended)?.to_bytes();
        let told = parts.headers.get(CONNECTION);
        let closes = plan.closes
            || self.stop.is_cancelled()
            || told.is_some_and(|told| told.as_bytes().eq_ignore_ascii_case(b"close"));
        let status = parts.status.as_u16();
        write::whole(&mut self.back, status, &parts.headers, body.len(), closes);
        let mut counted = self.counted(relay, plan, status);
        if plan.method != Method::HEAD {
            self.back.extend_from_slice(&body);
            counted.sent = body.len() as u64;
        }
        self.send(0, b"").await?;
        if closes { Err(Ended) } else { Ok(()) }
    }

    /// Sends the client what is on its way back, so many bytes of the answer, and what stands behind those.
    async fn send(&mut self, data: usize, behind: &[u8]) -> Result<(), Ended> {
        let mut data = &self.answer.bytes()[..data];
        let mut behind = behind;
        if data.len() <= SMALL {
            self.back.extend_from_slice(data);
            self.back.extend_from_slice(behind);
            (data, behind) = (&[], &[]);
        }
        let whole = self.back.len() + data.len() + behind.len();
        let (mut sent, mut since) = (0, None);
        let (client, back) = (&mut self.client, &self.back);
        let (stall, stalled) = (&mut self.stall, &mut self.stalled);
        let timeout = self.limits.write_timeout;
        let sending = poll_fn(|cx| {
            while sent < whole {
                let mut left = sent;
                let pieces = [back, data, behind].map(|piece| {
                    let skipped = left.min(piece.len());
                    left -= skipped;
                    IoSlice::new(&piece[skipped..])
                });
                let client = Pin::new(&mut *client);
                let written = if data.is_empty() {
                    client.poll_write(cx, &back[sent..])
                } else {
                    client.poll_write_vectored(cx, &pieces)
                };
                match written {
                    Poll::Ready(Ok(length)) if length > 0 => (sent, since) = (sent + length, None),
                    Poll::Ready(_) => return Poll::Ready(Err(Ended)),
                    Poll::Pending => break,
                }
            }
            if sent == whole
                && let Poll::Ready(flushed) = Pin::new(&mut *client).poll_flush(cx)
            {
                return Poll::Ready(flushed.map_err(|_| Ended));
            }
            let since = *since.get_or_insert_with(Instant::now);
            ready!(stall.poll(since + timeout, cx));
            *stalled = true;
            Poll::Ready(Err(Ended))
        });
        sending.await?;
        if since.is_some() {
            self.now = Instant::now();
        }
        self.back.clear();
        // The head of one answer in a thousand is large.
        self.back.shrink_to(ROOM);
        self.answer.clear();
        Ok(())
    }

    fn counted(&self, relay: &Relay, plan: &mut Plan, status: u16) -> Counted {
        let done = Done {
            house: Arc::clone(&relay.door.house),
            tag: plan.tag,
            note: plan.note.take(),
            begun: plan.begun.into_std(),
            until_head: self.now.duration_since(plan.begun),
            status,
        };
        Counted { done, sent: 0 }
    }

    /// What comes of that, unless the client goes meanwhile.
    async fn unless_gone<T>(&mut self, coming: impl Future<Output = T>) -> Result<T, Ended> {
        let mut coming = pin!(coming);
        poll_fn(|cx| match coming.as_mut().poll(cx) {
            Poll::Ready(came) => Poll::Ready(Ok(came)),
            Poll::Pending if self.is_gone(cx) => Poll::Ready(Err(Ended)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Whether the client has gone while it is answered. What it asks meanwhile is looked at afterwards; who asks for more
    /// than there is room for has to get its answer in the time of a silence, as nobody sees any more whether it goes.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if self.inbox.is_full() && !self.inbox.grow(AHEAD) {
                let full = *self.full.get_or_insert_with(Instant::now);
                let patience = self.limits.idle_timeout;
                return self.flood.poll(full + patience, cx).is_ready();
            }
            match self.inbox.poll_read(cx, &mut self.client) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(_)) => {}
            }
        }
    }
}

/// What the log tells of a request.
fn note(asked: &Asked<'_>, peer: &Peer) -> Note {
    let shown = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut headers = asked.headers.iter();
    let agent = headers.find(|header| header.name.eq_ignore_ascii_case("user-agent"));
    Note {
        client: peer.socket_address(),
        host: shown(asked.host),
        request: format!("{} {} HTTP/1.1", asked.method, asked.target),
        agent: agent.map(|header| shown(header.value)).unwrap_or_default(),
        upstream: "-".to_owned(),
    }
}
