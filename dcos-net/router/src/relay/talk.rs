//! [`Talk`]: a connection with a client, and what is sent on of it: reading and writing. What that leads to is decided by
//! [`Inbox`], [`Caller`] and [`Exchange`].

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::response::{IntoResponse as _, Response};
use dcos_wire::{Alarm, Left, Refusal, ServerConfig, Shortcut, Stream, Visit};
use futures::FutureExt as _;
use http::header::CONNECTION;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::asked::{self, Looked};
use super::exchange::{Exchange, Failed, Piece, Rest};
use super::inbox::{Inbox, Then};
use super::lane::Lane;
use super::plan::{Caller, Plan, Planned};
use super::{Relay, write};
use crate::decide::Permission;
use crate::door::Done;
use crate::own::text;
use crate::pool::Pool;
use crate::proxy::{failed, late};
use crate::shelf::Host;
use crate::upstream::SendError;

/// A connection with a client.
pub(super) struct Talk {
    relay: Arc<Relay>,
    client: Stream,
    inbox: Inbox,
    exchange: Exchange,
    caller: Caller,
    limits: Arc<ServerConfig>,
    stop: CancellationToken,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// When something last came, from either side: the clock is not asked more often.
    now: Instant,
    /// Rings when what is to come is late, ...
    alarm: Alarm,
    /// ... when the client takes nothing, ...
    stall: Alarm,
    /// ... and when it sends too much ahead.
    flood: Alarm,
    /// Whether the client took nothing for too long.
    stalled: bool,
}

/// The connection ends.
struct Ended;

impl From<Ended> for Failed {
    fn from(Ended: Ended) -> Self {
        Self::Gone
    }
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
            inbox: Inbox::new(&first, Arc::clone(&limits)),
            exchange: Exchange::default(),
            caller: Caller {
                address: peer.ip().map(|ip| ip.to_string()),
                peer,
                host: None,
            },
            limits,
            stopped: Box::pin(stop.clone().cancelled_owned()),
            stop,
            now: Instant::now(),
            alarm: Alarm::default(),
            stall: Alarm::default(),
            flood: Alarm::default(),
            stalled: false,
        }
    }

    pub(super) async fn run(mut self) -> Left {
        let relay = Arc::clone(&self.relay);
        loop {
            let planned = match self.plan(&relay) {
                Planned::Send(mut plan) => {
                    let exchanging = AssertUnwindSafe(self.exchange(&relay, &mut plan));
                    match exchanging.catch_unwind().await {
                        Ok(exchanged) => exchanged,
                        Err(_) => Box::pin(self.fail(&relay, &mut plan)).await,
                    }
                }
                Planned::Unfit => {
                    let (bytes, since) = self.inbox.left(self.now);
                    return Left::Unfit(self.client, bytes, since);
                }
                Planned::Wait => match self.more().await {
                    Some(Then::Park) => return Left::Silent(self.client),
                    Some(Then::Late | Then::End) => Err(Ended),
                    None => Ok(()),
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

    /// What becomes of what the client said. Where deciding that panics the long way decides again, which answers that.
    fn plan(&mut self, relay: &Relay) -> Planned {
        let (caller, onward) = (&mut self.caller, &mut self.exchange.onward);
        let planning = || caller.plan(&mut self.inbox, &relay.door, onward, self.now);
        catch_unwind(AssertUnwindSafe(planning)).unwrap_or(Planned::Unfit)
    }

    /// The code that served a request panicked: the client is told, unless it was told something already.
    async fn fail(&mut self, relay: &Relay, plan: &mut Plan) -> Result<(), Ended> {
        let path = plan.forward.path.split('?').next();
        tracing::error!(path, "relaying a request panicked");
        if !plan.answered {
            self.exchange = Exchange::default();
            plan.closes = true;
            let text = "the server failed to answer this request";
            let refusal = Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text);
            self.say(relay, plan, refusal.into_response()).await?;
        }
        Err(Ended)
    }

    /// Waits for what the client says next; if that does not come, for what becomes of it.
    async fn more(&mut self) -> Option<Then> {
        let (until, then) = self.inbox.silence(self.now);
        poll_fn(|cx| {
            match self.inbox.room().poll_read(cx, &mut self.client) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Then::End)),
                Poll::Ready(Ok(_)) => {
                    self.now = Instant::now();
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            // Who is asked to end waits for no rest of a head either.
            if self.stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Then::End));
            }
            ready!(self.alarm.poll(until, cx));
            if then == Then::Late {
                // If not even these few bytes fit, the client does not listen either.
                let _ = Pin::new(&mut self.client).poll_write(cx, <dyn Shortcut>::LATE);
            }
            Poll::Ready(Some(then))
        })
        .await
    }

    /// Sends a request on, and back what is answered.
    async fn exchange(&mut self, relay: &Relay, plan: &mut Plan) -> Result<(), Ended> {
        if let Some(permission) = plan.permission.take() {
            let admitted = Box::pin(self.admit(relay, plan, &permission)).await?;
            self.now = Instant::now();
            if let Err(refused) = admitted {
                return Box::pin(self.say(relay, plan, refused)).await;
            }
        } else {
            self.inbox.take(plan.length);
        }
        relay.door.house.counters.relayed();
        let begun = self.now;
        let (pool, host) = relay.door.house.proxy.upstreams.way(&plan.forward.to);
        let mut kept = pool.lanes().take(&host, begun);
        let error = loop {
            let used = kept.is_some();
            let lane = if let Some(lane) = kept.take() {
                lane
            } else {
                let opening = timeout_at(begun + plan.patience(), pool.open(&host));
                match Box::pin(self.unless_gone(opening)).await? {
                    Ok(Ok(stream)) => Lane::new(stream),
                    Ok(Err(error)) => break error,
                    Err(_) => break SendError::Late,
                }
            };
            self.exchange.begin(plan, used, begun);
            match self.carry(relay, plan, lane, (pool, &host)).await {
                Ok(closes) => return if closes { Err(Ended) } else { Ok(()) },
                Err(Failed::Gone) => return Err(Ended),
                Err(Failed::Again) => {}
                Err(Failed::Of(error)) => break error,
            }
        };
        self.now = Instant::now();
        let response = match error {
            SendError::Late => late(),
            error => failed(&plan.forward.to, &error),
        };
        Box::pin(self.say(relay, plan, response)).await
    }

    /// Asks whether the client may; the head of its request is written then.
    async fn admit(
        &mut self,
        relay: &Relay,
        plan: &Plan,
        permission: &Permission,
    ) -> Result<Result<(), Response>, Ended> {
        let mut headers = HeaderMap::new();
        if let Looked::Plain(asked) = self.inbox.look(&mut asked::room()) {
            for header in asked.headers {
                let name = HeaderName::from_bytes(header.name.as_bytes());
                let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value)) else {
                    let refused = text(StatusCode::BAD_REQUEST, "400 Bad Request");
                    return Ok(Err(refused));
                };
                headers.append(name, value);
            }
        }
        self.inbox.take(plan.length);
        if let Some(authenticate) = &relay.door.house.authenticate {
            let peer = self.caller.peer.clone();
            let asking = authenticate.admit(&mut headers, &peer, permission);
            match self.unless_gone(timeout(plan.patience(), asking)).await? {
                Ok(Ok(())) => {}
                Ok(Err(refused)) => return Ok(Err(refused)),
                Err(_) => return Ok(Err(late())),
            }
        }
        let from = write::From {
            bytes: &[],
            address: self.caller.address.as_deref(),
            scheme: relay.door.scheme,
        };
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        let onward = &mut self.exchange.onward;
        write::onward(onward, &plan.method, headers, &from, &plan.forward);
        Ok(Ok(()))
    }

    /// Sends the request out on a connection, and the answer to the client, as fast as that takes it; says whether the
    /// client's connection ends.
    async fn carry(
        &mut self,
        relay: &Relay,
        plan: &mut Plan,
        mut lane: Lane,
        (pool, host): (&Pool, &Host),
    ) -> Result<bool, Failed> {
        let mut counted = None;
        loop {
            let Piece { status, data, rest } = self.listen(plan, &mut lane).await?;
            let counted = counted.get_or_insert_with(|| self.counted(relay, plan, status));
            counted.sent += data as u64;
            match rest {
                Rest::More => self.send().await?,
                Rest::Done { keeps, closes } => {
                    if keeps {
                        pool.lanes().put(host.clone(), lane, self.now);
                    }
                    self.send().await?;
                    return Ok(closes);
                }
                Rest::Cut => {
                    self.send().await?;
                    return Err(Failed::Gone);
                }
            }
        }
    }

    /// Sends what there is of the request, and waits for what is answered.
    async fn listen(&mut self, plan: &Plan, lane: &mut Lane) -> Result<Piece, Failed> {
        poll_fn(|cx| {
            if self.exchange.deadline.is_some()
                && let Poll::Ready(Err(error)) = self.ask(cx, lane)
            {
                let ended = self.exchange.ended(Some(error), Instant::now());
                if let Some(ended) = ended.transpose() {
                    return Poll::Ready(ended);
                }
            }
            while let Poll::Ready(read) = self.exchange.answer.poll_read(cx, lane) {
                self.now = Instant::now();
                let heard = match read {
                    Ok(length) if length > 0 => {
                        let host = self.caller.host.as_ref().map_or("", Authority::as_str);
                        let stops = self.stop.is_cancelled();
                        self.exchange.came(plan, host, stops, self.now)
                    }
                    ended => self.exchange.ended(ended.err(), self.now),
                };
                if let Some(piece) = heard.transpose() {
                    return Poll::Ready(piece);
                }
            }
            if self.is_gone(cx) {
                return Poll::Ready(Err(Failed::Gone));
            }
            let Some(deadline) = self.exchange.deadline else {
                return Poll::Pending;
            };
            ready!(self.alarm.poll(deadline, cx));
            Poll::Ready(Err(Failed::Of(SendError::Late)))
        })
        .await
    }

    /// Sends what there is of the request.
    fn ask(&mut self, cx: &mut Context<'_>, lane: &mut Lane) -> Poll<io::Result<()>> {
        while !self.exchange.unsent().is_empty() {
            match ready!(lane.poll_write(cx, self.exchange.unsent()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.exchange.sent(length),
            }
        }
        lane.poll_flush(cx)
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
        let back = &mut self.exchange.back;
        write::whole(back, status, &parts.headers, body.len(), closes);
        let mut counted = self.counted(relay, plan, status);
        if plan.method != Method::HEAD {
            self.exchange.back.extend_from_slice(&body);
            counted.sent = body.len() as u64;
        }
        self.send().await?;
        if closes { Err(Ended) } else { Ok(()) }
    }

    /// Sends the client what is on its way back.
    async fn send(&mut self) -> Result<(), Ended> {
        let whole: usize = self.exchange.pieces().map(<[u8]>::len).iter().sum();
        let (mut sent, mut since) = (0, None);
        poll_fn(|cx| {
            while sent < whole {
                let mut left = sent;
                let pieces = self.exchange.pieces().map(|piece| {
                    let skipped = left.min(piece.len());
                    left -= skipped;
                    IoSlice::new(&piece[skipped..])
                });
                let client = Pin::new(&mut self.client);
                let written = if pieces[1].is_empty() && pieces[2].is_empty() {
                    client.poll_write(cx, &pieces[0])
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
                && let Poll::Ready(flushed) = Pin::new(&mut self.client).poll_flush(cx)
            {
                return Poll::Ready(flushed.map_err(|_| Ended));
            }
            let since = *since.get_or_insert_with(Instant::now);
            ready!(self.stall.poll(since + self.limits.write_timeout, cx));
            self.stalled = true;
            Poll::Ready(Err(Ended))
        })
        .await?;
        if since.is_some() {
            self.now = Instant::now();
        }
        self.exchange.passed();
        Ok(())
    }

    fn counted(&self, relay: &Relay, plan: &mut Plan, status: u16) -> Counted {
        plan.answered = true;
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

    /// Whether the client has gone while it is answered, or must. What it asks meanwhile is looked at afterwards.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let room = match self.inbox.room_ahead(self.now) {
                Ok(room) => room,
                Err(until) => return self.flood.poll(until, cx).is_ready(),
            };
            match room.poll_read(cx, &mut self.client) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0) | Err(_)) => return true,
                Poll::Ready(Ok(_)) => self.now = Instant::now(),
            }
        }
    }
}
