//! [`Pool`]: connections to those behind the router, kept for the next request.
//!
//! A connection has no task of its own: whoever waits for an answer drives it, and takes it along with the answer's body
//! until that has ended. So nobody is woken to wake somebody else. Only where both directions may have to go on at once (a
//! request with a body, a connection that becomes something else) does a task drive it meanwhile.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dcos_wire::Alarm;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::ext::on_informational;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::relay::{Lane, Said};
use crate::shelf::{Host, Reusable, Shelf};
use crate::upstream::{
    Conn, Connector, MOST_INTERIM, ONLY_PROMISES, OPEN_TIMEOUT, SendError, look_now,
};

/// Connections to hosts.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    connector: HttpsConnector<Connector>,
    idle: Shelf<Line>,
    /// Those of the relay, which speaks HTTP by itself.
    lanes: Shelf<Lane>,
    /// Those that are driven by themselves.
    driven: TaskTracker,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// HTTP on a connection.
type Spoken = Connection<MaybeHttpsStream<Conn>, Body>;

/// A connection that takes one request after another.
struct Line {
    sender: SendRequest<Body>,
    /// Absent once it has ended.
    connection: Option<Pin<Box<Spoken>>>,
    alarm: Alarm,
}

impl Line {
    /// Carries on what is under way; says whether the connection has ended.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            // What was not sent comes back, and whoever waits is told.
            self.connection = None;
        }
        self.connection.is_none()
    }
}

impl Reusable for Line {
    fn is_ready(&mut self) -> bool {
        let ended = look_now(|cx| Poll::Ready(self.drive(cx)));
        ended == Poll::Ready(false) && self.sender.is_ready()
    }
}

/// Looks whether something is there that only driving a connection can bring, which whoever drives it does again
/// anyway: nobody needs to be woken for it, unless this task has had its turn.
fn look<T>(cx: &Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let looked = poll(&mut Context::from_waker(Waker::noop()));
    if looked.is_pending() && !has_budget_remaining() {
        cx.waker().wake_by_ref();
    }
    looked
}

impl Pool {
    /// For `good` see [`Shelf::new`].
    pub(crate) fn new(
        connector: HttpsConnector<Connector>,
        good: Duration,
        driven: TaskTracker,
    ) -> Self {
        Self(Arc::new(Shared {
            connector,
            idle: Shelf::new(good),
            lanes: Shelf::new(good),
            driven,
        }))
    }

    /// Connections on which the relay speaks.
    pub(crate) fn lanes(&self) -> &Shelf<Lane> {
        &self.0.lanes
    }

    /// Sends a request whose URI is a path, and gives back the answer. For one without a body that is no upgrade it waits
    /// until `deadline` at most: how long others may take depends on what comes.
    pub(crate) async fn ask(
        &self,
        host: Host,
        mut request: Request<Body>,
        upgrades: bool,
        deadline: Instant,
    ) -> Result<Response<Carried>, SendError> {
        let together = !upgrades && request.body().is_end_stream();
        let bare = *request.method() == Method::HEAD;
        let endless = Arc::new(Notify::new());
        let (promises, told) = (AtomicUsize::new(0), Arc::clone(&endless));
        on_informational(&mut request, move |_| {
            if promises.fetch_add(1, Ordering::Relaxed) == MOST_INTERIM {
                told.notify_one();
            }
        });
        loop {
            let kept = self.0.idle.take(&host, Instant::now());
            let used = kept.is_some();
            let mut line = match kept {
                Some(line) => line,
                None if together => Box::pin(timeout_at(deadline, self.connect(&host)))
                    .await
                    .map_err(|_| SendError::Late)??,
                None => Box::pin(self.connect(&host)).await?,
            };
            let answering = line.sender.try_send_request(request);
            let answering = async {
                tokio::select! {
                    biased;
                    () = endless.notified() => Err(SendError::Nonsense(ONLY_PROMISES)),
                    answered = answering => Ok(answered),
                }
            };
            let (answered, way) = if together {
                let mut answering = pin!(answering);
                let answered = poll_fn(|cx| {
                    line.drive(cx);
                    match look(cx, |cx| answering.as_mut().poll(cx)) {
                        Poll::Ready(answered) => Poll::Ready(answered),
                        Poll::Pending => {
                            line.alarm.poll(deadline, cx).map(|()| Err(SendError::Late))
                        }
                    }
                });
                (answered.await?, Way::Together(line))
            } else if upgrades {
                let Line {
                    sender, connection, ..
                } = line;
                if let Some(connection) = connection {
                    let connection = Pin::into_inner(connection);
                    self.0.driven.spawn(connection.with_upgrades());
                }
                let answered = answering.await;
                drop(sender);
                (answered?, Way::Once)
            } else {
                let (ended, told) = oneshot::channel();
                let carrying = self.clone().carry(host.clone(), line, told);
                self.0.driven.spawn(carrying);
                (answering.await?, Way::Apart(ended))
            };
            match answered {
                Ok(mut answer) => {
                    let headers = answer.headers().iter();
                    let said =
                        Said::by(headers.map(|(name, value)| (name.as_str(), value.as_bytes())))?;
                    // A length is told once, and beside a coding not at all: hyper leaves what it does not look at.
                    match said.length {
                        Some(_) if said.is_ambiguous() => {
                            drop(answer.headers_mut().remove(CONTENT_LENGTH))
                        }
                        Some(length) => {
                            drop(answer.headers_mut().insert(CONTENT_LENGTH, length.into()))
                        }
                        None => {}
                    }
                    // Who announces a body where there is none may send it by mistake: it would answer the next request.
                    let bare = bare
                        || matches!(
                            answer.status(),
                            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
                        );
                    let keeps = !(said.is_ambiguous() || bare && said.announces_body());
                    let pool = keeps.then(|| self.clone());
                    return Ok(answer.map(|body| Carried::new(body, way, pool, host)));
                }
                Err(mut error) => match error.take_message() {
                    // It was closed in the moment it was taken: nobody has seen the request.
                    Some(unsent) if used => request = unsent,
                    _ => return Err(SendError::Asking(error.into_error())),
                },
            }
        }
    }

    /// Opens a connection.
    pub(crate) async fn open(&self, host: &Host) -> Result<MaybeHttpsStream<Conn>, SendError> {
        let uri = Uri::builder()
            .scheme(host.scheme.as_str())
            .authority(host.authority.clone())
            .path_and_query("/");
        let uri = uri.build().map_err(|_| SendError::Path)?;
        let connecting = self.0.connector.clone().call(uri);
        match timeout(OPEN_TIMEOUT, connecting).await {
            Ok(opened) => opened.map_err(SendError::Connecting),
            Err(late) => Err(SendError::Connecting(late.into())),
        }
    }

    async fn connect(&self, host: &Host) -> Result<Line, SendError> {
        let stream = self.open(host).await?;
        let made = Builder::new().handshake(stream).await;
        let (sender, connection) = made.map_err(SendError::Asking)?;
        let connection = Some(Box::pin(connection));
        let alarm = Alarm::default();
        Ok(Line {
            sender,
            connection,
            alarm,
        })
    }

    /// Keeps a connection for the next request, if it takes one.
    fn put(&self, host: Host, mut line: Line) {
        let ended = line.connection.is_none();
        if !ended && (line.sender.is_ready() || line.is_ready()) {
            self.0.idle.put(host, line, Instant::now());
        }
    }

    /// Drives a connection until its answer has ended, and the request too, which may take longer.
    async fn carry(self, host: Host, mut line: Line, told: oneshot::Receiver<()>) {
        let mut told = pin!(told);
        let mut answered = false;
        let whole = poll_fn(|cx| {
            if line.drive(cx) {
                return Poll::Ready(false);
            }
            if !answered {
                match ready!(told.as_mut().poll(cx)) {
                    Ok(()) => answered = true,
                    // Nobody wants the rest.
                    Err(_) => return Poll::Ready(false),
                }
            }
            line.sender.poll_ready(cx).map(|taken| taken.is_ok())
        });
        if whole.await {
            self.put(host, line);
        }
    }

    /// Closes connections that nobody used for long, or that the other side has closed.
    pub(crate) fn sweep(&self) {
        self.0.idle.sweep();
        self.0.lanes.sweep();
    }
}

/// How the connection of an answer is driven.
enum Way {
    /// With the answer.
    Together(Line),
    /// By a task, which keeps it when it is told that the answer has ended.
    Apart(oneshot::Sender<()>),
    /// By a task, and it ends with the answer.
    Once,
}

/// The body of an answer, with the connection it comes on. Dropped before its end, it closes that.
pub(crate) struct Carried {
    body: Incoming,
    /// Absent once the answer has ended.
    way: Option<Way>,
    /// Why it broke off, which is told after what came before is sent: the server forgets that with the error.
    broken: Option<hyper::Error>,
    /// Where the connection is kept, if it takes another request.
    pool: Option<Pool>,
    host: Host,
}

impl Carried {
    fn new(body: Incoming, way: Way, pool: Option<Pool>, host: Host) -> Self {
        let mut carried = Self {
            body,
            way: Some(way),
            broken: None,
            pool,
            host,
        };
        if carried.body.is_end_stream() {
            carried.give_back();
        }
        carried
    }

    /// The answer has ended: the connection may take the next request.
    fn give_back(&mut self) {
        match (self.way.take(), &self.pool) {
            (Some(Way::Together(line)), Some(pool)) => pool.put(self.host.clone(), line),
            // If nobody is there to hear it, the connection has ended.
            (Some(Way::Apart(ended)), Some(_)) => drop(ended.send(())),
            _ => {}
        }
    }
}

impl HttpBody for Carried {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut body = Pin::new(&mut this.body);
        let frame = match &mut this.way {
            Some(Way::Together(line)) => match look(cx, |cx| body.as_mut().poll_frame(cx)) {
                Poll::Pending => {
                    line.drive(cx);
                    look(cx, |cx| body.poll_frame(cx))
                }
                there @ Poll::Ready(_) => there,
            },
            _ => body.poll_frame(cx),
        };
        match ready!(frame) {
            Some(Ok(frame)) => {
                if this.body.is_end_stream() {
                    this.give_back();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.way = None;
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                this.give_back();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::TcpListener;

    use super::*;
    use crate::decide::Target;
    use crate::upstream::Upstreams;
    use crate::world::{Base, Scheme};

    #[tokio::test]
    async fn what_the_runtime_has_not_heard_of_is_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = Base::at(Scheme::Http, &listener.local_addr().unwrap().to_string()).unwrap();
        let upstreams = Upstreams::new(None, &BTreeMap::new(), true, &TaskTracker::new()).unwrap();
        let to = Target::Service(base);
        let (pool, host) = upstreams.way(&to);
        let mut line = pool.connect(&host).await.unwrap();
        let (mut far, _) = listener.accept().unwrap();
        assert!(line.is_ready());
        // The runtime hears of nothing before this task waits.
        std::io::Write::write_all(&mut far, b"HTTP/1.1 200 OK\r\n").unwrap();
        assert!(!line.is_ready());
    }

    #[tokio::test]
    async fn who_takes_a_request_and_is_silent_is_given_up() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = Base::at(Scheme::Http, &silent.local_addr().unwrap().to_string()).unwrap();
        let upstreams = Upstreams::new(None, &BTreeMap::new(), true, &TaskTracker::new()).unwrap();
        let (request, to) = (Request::new(Body::empty()), Target::Service(base));
        let deadline = Instant::now() + Duration::from_millis(50);
        let answered = upstreams.send(request, &to, "/", false, deadline).await;
        assert!(matches!(answered, Err(SendError::Late)));
    }
}
