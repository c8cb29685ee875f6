//! Whom requests are sent to: members of the cluster and services, over TCP, TLS and Unix sockets.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use dcos_wire::tls::{self, TlsError, Trust};
use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::decide::{Place, Target};
use crate::pool::{Carried, Pool};
use crate::relay::Broken;
use crate::route::Part;
use crate::shelf::Host;
use crate::world::{Scheme, is_off_limits};

/// Until a connection stands, its name being known.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until it can be spoken on: its name is known, and TLS agreed on.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// For how long connections to members of the cluster are kept without use: nginx, and what is ours, close after 60 s or more.
const GOOD: Duration = Duration::from_secs(50);
/// To services, of which many close after 5 s, as Node does.
const GOOD_TO_SERVICES: Duration = Duration::from_secs(4);
/// Heads before an answer's own that only say that it is still to come (1xx), at most.
pub(crate) const MOST_INTERIM: usize = 16;
/// What is said of whoever sends more.
pub(crate) const ONLY_PROMISES: &str = "it only says that it is still to come";
/// A silent peer is probed after this long, so that a dead host ends streams.
const PROBE: Duration = Duration::from_secs(30);

/// Asks those behind the router.
#[derive(Debug, Clone)]
pub(crate) struct Upstreams {
    members: Pool,
    services: Pool,
}

impl Upstreams {
    /// Members of the cluster are asked with `tls`, or as the system trusts; services whoever they are, as in the
    /// original: nobody vouches for their certificates. Services are not looked for on this host, unless the cluster is
    /// this host `alone`. What has to go on by itself runs among `tasks`.
    pub(crate) fn new(
        tls: Option<Arc<rustls::ClientConfig>>,
        parts: &BTreeMap<Part, Place>,
        alone: bool,
        tasks: &TaskTracker,
    ) -> Result<Self, TlsError> {
        let sockets = parts.iter().filter_map(|(part, place)| match place {
            Place::Socket(path) => Some((part.name(), path.clone())),
            Place::At(_) => None,
        });
        let connector = Connector::new(sockets.collect(), None);
        let trusted = match tls {
            Some(tls) => rustls::ClientConfig::clone(&tls),
            None => tls::client(&Trust::System)?,
        };
        let anybody = tls::client(&Trust::Anyone)?;
        Ok(Self {
            members: Pool::new(with_tls(connector, trusted), GOOD, tasks.clone()),
            // A framework may name any host as its own: none of them is a socket of this node.
            services: Pool::new(
                with_tls(Connector::new(BTreeMap::new(), Some(alone)), anybody),
                GOOD_TO_SERVICES,
                tasks.clone(),
            ),
        })
    }

    /// Sends a request on to a path there. With `upgrades` its connection may become something else. For `deadline` see
    /// [`Pool::ask`].
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
        to: &Target,
        path: &str,
        upgrades: bool,
        deadline: Instant,
    ) -> Result<Response<Carried>, SendError> {
        let (pool, host) = self.way(to);
        let path = PathAndQuery::try_from(path).map_err(|_| SendError::Path)?;
        *request.uri_mut() = Uri::from(path);
        pool.ask(host, request, upgrades, deadline).await
    }

    /// Whose connections lead to `to`, and by which host.
    pub(crate) fn way(&self, to: &Target) -> (&Pool, Host) {
        let (pool, scheme, authority) = match to {
            Target::Member(base) => (&self.members, base.scheme, base.authority.clone()),
            Target::Service(base) => (&self.services, base.scheme, base.authority.clone()),
            Target::Socket(part) => {
                let authority = Authority::from_static(part.name());
                (&self.members, Scheme::Http, authority)
            }
        };
        (pool, Host { scheme, authority })
    }

    /// Closes connections that nobody uses.
    pub(crate) fn sweep(&self) {
        self.members.sweep();
        self.services.sweep();
    }
}

/// A name leads where only this host may ask.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to addresses that each host has for itself")]
struct OffLimits;

impl SendError {
    /// Whether the name of a service leads where only this host may ask.
    pub(crate) fn is_off_limits(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            // What an `io::Error` carries is none of its sources.
            if let Some(carrier) = error.downcast_ref::<io::Error>()
                && let Some(carried) = carrier.get_ref()
                && carried.is::<OffLimits>()
            {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the path is none")]
    Path,
    #[error("nobody answered in time")]
    Late,
    #[error("connecting")]
    Connecting(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("asking")]
    Asking(#[source] hyper::Error),
    #[error("speaking to it")]
    Speaking(#[source] io::Error),
    #[error("the answer is none: {0}")]
    Nonsense(&'static str),
}

impl From<Broken> for SendError {
    fn from(Broken(why): Broken) -> Self {
        Self::Nonsense(why)
    }
}

fn with_tls(connector: Connector, tls: rustls::ClientConfig) -> HttpsConnector<Connector> {
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

/// Opens connections: to the Unix socket a host is the name of, or over TCP.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector<Lookup>,
    sockets: Arc<BTreeMap<&'static str, PathBuf>>,
}

impl Connector {
    fn new(sockets: BTreeMap<&'static str, PathBuf>, alone: Option<bool>) -> Self {
        let system = GaiResolver::new();
        let mut tcp = HttpConnector::new_with_resolver(Lookup { system, alone });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(PROBE));
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let sockets = Arc::new(sockets);
        Self { tcp, sockets }
    }
}

impl Service<Uri> for Connector {
    type Response = Conn;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Conn>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let named = uri.port().is_none().then(|| uri.host()).flatten();
        if let Some(path) = named.and_then(|name| self.sockets.get(name)).cloned() {
            return Box::pin(async move {
                let stream = UnixStream::connect(path).await?;
                Ok(Conn::Unix(TokioIo::new(stream)))
            });
        }
        let connecting = self.tcp.call(uri);
        Box::pin(async move {
            let stream = connecting.await.map_err(io::Error::other)?;
            Ok(Conn::Tcp(stream))
        })
    }
}

/// Looks up names. Those of services must not lead where only this host may ask.
#[derive(Debug, Clone)]
struct Lookup {
    system: GaiResolver,
    /// For services: whether the cluster is this host alone.
    alone: Option<bool>,
}

impl Service<Name> for Lookup {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (looking_up, alone) = (self.system.call(name), self.alone);
        Box::pin(async move {
            let mut found: Vec<SocketAddr> = looking_up.await?.collect();
            if found.is_empty() {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            if let Some(alone) = alone {
                found.retain(|address| !is_off_limits(address.ip(), alone));
            }
            if found.is_empty() {
                return Err(io::Error::other(OffLimits));
            }
            Ok(found.into_iter())
        })
    }
}

/// An open connection.
pub(crate) enum Conn {
    Tcp(TokioIo<TcpStream>),
    Unix(TokioIo<UnixStream>),
}

impl Conn {
    fn is_silent(&self) -> bool {
        match self {
            Self::Tcp(io) => is_silent(io.inner()),
            Self::Unix(io) => is_silent(io.inner()),
        }
    }
}

thread_local! {
    /// Whether somebody wants to know what is there now.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

/// Looks what a connection that layers hide has now, waiting for nothing: where something came of which the runtime has not
/// heard yet, reading fails.
pub(crate) fn look_now<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    LOOKS.set(true);
    let looking = pin!(unconstrained(poll_fn(&mut poll)));
    let looked = looking.poll(&mut Context::from_waker(Waker::noop()));
    LOOKS.set(false);
    looked
}

/// Whether nothing came on a socket, not even its end. The kernel is asked: the runtime says what it last heard from that,
/// and to a task that has had its turn, nothing.
pub(crate) fn is_silent(socket: impl AsFd) -> bool {
    let looked = recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(looked, Err(Errno::AGAIN))
}

impl Connection for Conn {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = match this {
            Self::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_read(cx, buf),
        };
        if read.is_pending() && LOOKS.get() && !this.is_silent() {
            return Poll::Ready(Err(io::ErrorKind::WouldBlock.into()));
        }
        read
    }
}

impl Write for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write(cx, data),
            Self::Unix(io) => Pin::new(io).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_flush(cx),
            Self::Unix(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Self::Unix(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write_vectored(cx, data),
            Self::Unix(io) => Pin::new(io).poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Unix(io) => io.is_write_vectored(),
        }
    }
}
