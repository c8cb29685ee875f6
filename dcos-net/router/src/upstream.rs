//! Connections to those behind the router: over TCP, TLS and Unix sockets, kept for the next request.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use dcos_wire::tls::{self, TlsError, Trust};
use http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};
use tower::Service;

use crate::decide::{Place, Target};
use crate::route::Part;
use crate::world::Scheme;

/// A connection is kept so long without use: shorter than the servers' own limits, so that a request seldom meets one
/// that is being closed.
const IDLE: Duration = Duration::from_secs(50);
/// Connections kept for one host: as many as are asked at a time by a busy page or two.
const MAX_IDLE: usize = 256;
/// Until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent peer is probed after this long, so that a dead host ends streams.
const PROBE: Duration = Duration::from_secs(30);

/// Asks those behind the router.
#[derive(Debug, Clone)]
pub(crate) struct Upstreams {
    members: Client<HttpsConnector<Connector>, Body>,
    services: Client<HttpsConnector<Connector>, Body>,
}

impl Upstreams {
    /// Members of the cluster are asked with `tls`, or as the system trusts; services whoever they are, as in the
    /// original: nobody vouches for their certificates.
    pub(crate) fn new(
        tls: Option<Arc<rustls::ClientConfig>>,
        parts: &BTreeMap<Part, Place>,
    ) -> Result<Self, TlsError> {
        let sockets = parts.iter().filter_map(|(part, place)| match place {
            Place::Socket(path) => Some((part.name(), path.clone())),
            Place::At(_) => None,
        });
        let connector = Connector::new(sockets.collect());
        let trusted = match tls {
            Some(tls) => rustls::ClientConfig::clone(&tls),
            None => tls::client(&Trust::System)?,
        };
        let anybody = tls::client(&Trust::Anyone)?;
        Ok(Self {
            members: client(connector, trusted),
            // A framework may name any host as its own: none of them is a socket of this node.
            services: client(Connector::new(BTreeMap::new()), anybody),
        })
    }

    /// Sends a request whose URI names path and query only.
    pub(crate) async fn send(
        &self,
        mut request: Request<Body>,
        to: &Target,
        path: &str,
    ) -> Result<Response<Incoming>, SendError> {
        let (client, uri) = match to {
            Target::Member(base) => (
                &self.members,
                uri(base.scheme, base.authority.clone(), path),
            ),
            Target::Service(base) => (
                &self.services,
                uri(base.scheme, base.authority.clone(), path),
            ),
            Target::Socket(part) => {
                let authority = Authority::from_static(part.name());
                (&self.members, uri(Scheme::Http, authority, path))
            }
        };
        *request.uri_mut() = uri?;
        Ok(client.request(request).await?)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the path is none")]
    Path,
    #[error("asking")]
    Client(#[from] Error),
}

fn uri(scheme: Scheme, authority: Authority, path: &str) -> Result<Uri, SendError> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(match scheme {
        Scheme::Http => UriScheme::HTTP,
        Scheme::Https => UriScheme::HTTPS,
    });
    parts.authority = Some(authority);
    parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| SendError::Path)?);
    Uri::from_parts(parts).map_err(|_| SendError::Path)
}

fn client(
    connector: Connector,
    tls: rustls::ClientConfig,
) -> Client<HttpsConnector<Connector>, Body> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .set_host(false)
        .build(connector)
}

/// Opens connections: to the Unix socket a host is the name of, or over TCP.
#[derive(Debug, Clone)]
struct Connector {
    tcp: HttpConnector,
    sockets: Arc<BTreeMap<&'static str, PathBuf>>,
}

impl Connector {
    fn new(sockets: BTreeMap<&'static str, PathBuf>) -> Self {
        let mut tcp = HttpConnector::new();
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

/// An open connection.
enum Conn {
    Tcp(TokioIo<TcpStream>),
    Unix(TokioIo<UnixStream>),
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
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_read(cx, buf),
        }
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
