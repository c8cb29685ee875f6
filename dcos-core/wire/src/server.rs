//! HTTP/1 and HTTP/2 on one port, with a limit on everything a client can stretch.
//!
//! A client that is slow, silent, truncated or too large gets the right status where there is still
//! someone to tell (408, 413, 431, 400), and costs nobody else anything. Connections on which
//! libprocess messages came may stay silent for ever, since their peers take a close for a crash.

mod body;
mod connection;
mod handler;
mod listener;
mod peer;
mod places;
mod shortcut;
mod timed;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::libprocess::Messenger;
use places::Places;

pub use body::{BodyError, Unhurried};
pub use listener::{Listener, Pipe};
pub use peer::{Peer, PeerAddress};
pub use places::Load;
pub use shortcut::{Left, Shortcut, Visit};

/// What a client may cost.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// How long a new connection may stay silent. Longer than the random delay (some seconds) in
    /// which a libmesos agent connects but does not yet speak.
    pub first_byte_timeout: Duration,
    /// From the first byte of a request to the end of its headers; also for the TLS handshake.
    /// Answered with 408.
    pub header_timeout: Duration,
    /// How long a body may pause before it is given up. Answered with 408.
    pub body_timeout: Duration,
    /// How long a connection may stay silent after a request.
    pub idle_timeout: Duration,
    /// How long a client may refuse to take more of its answer; also cuts streams nobody reads.
    pub write_timeout: Duration,
    /// The largest body in bytes. Answered with 413.
    pub body_limit: u64,
    /// The largest body in bytes of a libprocess message: a re-registering agent lists its tasks.
    pub message_limit: u64,
    /// The largest request head in bytes. Answered with 431.
    pub head_limit: usize,
    /// Connections at a time; further ones wait in the kernel's queue. Where messages are taken in, a
    /// quarter of them is for peers that send nothing else; clients of HTTP that find the rest taken
    /// are answered with 503. By default half of the open files that the process may have, since a
    /// peer costs two: its connection and ours to it.
    pub max_connections: usize,
    /// Connections of one host at a time (an address; of version 6, a /64); further ones are closed.
    /// By default a quarter of all.
    pub max_connections_per_host: usize,
    /// What is counted of connections.
    pub load: Load,
    /// Whether whole answers from 1024 bytes on are compressed for clients that take it.
    pub gzip: bool,
    /// How long requests may still run once the server is asked to stop.
    pub grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let max_connections = affordable();
        Self {
            first_byte_timeout: Duration::from_mins(1),
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_mins(1),
            body_limit: 32 << 20,
            message_limit: 256 << 20,
            head_limit: 64 << 10,
            max_connections,
            max_connections_per_host: max_connections / 4,
            load: Load::default(),
            gzip: true,
            grace: Duration::from_secs(5),
        }
    }
}

/// How many connections the process can afford.
fn affordable() -> usize {
    let files = crate::limits::open_files().soft;
    // Without a limit there is one of memory, some tens of kilobytes each.
    usize::try_from(files / 2).map_or(1 << 20, |half| half.clamp(64, 1 << 20))
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that were still busy after [`ServerConfig::grace`] and were cut.
    pub aborted: usize,
}

/// Serves a [`tower::Service`], such as an [`axum::Router`].
///
/// Handlers find a [`Peer`] in the request's extensions.
#[derive(Debug, Clone)]
pub struct Server<S> {
    service: S,
    config: Arc<ServerConfig>,
    tls: Option<Arc<rustls::ServerConfig>>,
    downgrade: bool,
    messages: Option<Messenger>,
    aside: Option<Aside>,
    shortcut: Option<Arc<dyn Shortcut>>,
}

/// Where some connections are served; see [`Server::aside`].
#[derive(Debug, Clone)]
struct Aside {
    runtime: Handle,
    chosen: fn(&str) -> bool,
}

impl<S> Server<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    /// A server for `service` with default limits and without TLS.
    pub fn new(service: S) -> Self {
        Self {
            service,
            config: Arc::default(),
            tls: None,
            downgrade: false,
            messages: None,
            aside: None,
            shortcut: None,
        }
    }

    /// Serves connections on `runtime` whose first request line is `chosen` (such as
    /// `GET /state HTTP/1.1`), so that what takes long keeps nobody waiting here. A server that takes in no
    /// messages ([`Messenger::server`]) looks at no line and serves everybody in one place.
    #[must_use]
    pub fn aside(mut self, runtime: Handle, chosen: fn(&str) -> bool) -> Self {
        self.aside = Some(Aside { runtime, chosen });
        self
    }

    /// Takes in the messages of connections that bring nothing else; see [`Messenger::server`].
    #[must_use]
    pub(crate) fn messages(mut self, messenger: Messenger) -> Self {
        self.messages = Some(messenger);
        self
    }

    /// Lets `shortcut` serve what it can of each connection; the service answers the rest.
    #[must_use]
    pub fn shortcut(mut self, shortcut: Arc<dyn Shortcut>) -> Self {
        self.shortcut = Some(shortcut);
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = Arc::new(config);
        self
    }

    /// Speaks TLS; see [`crate::tls::server`].
    #[must_use]
    pub fn tls(mut self, tls: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// With TLS, serves clients that speak without it too (`LIBPROCESS_SSL_SUPPORT_DOWNGRADE`).
    #[must_use]
    pub fn downgrade(mut self, downgrade: bool) -> Self {
        self.downgrade = downgrade;
        self
    }

    /// Speaks TLS as `ssl` says, if it says anything; see [`crate::tls::Ssl`].
    #[must_use]
    pub fn ssl(self, ssl: Option<&crate::tls::Ssl>) -> Self {
        match ssl {
            Some(ssl) => self.tls(Arc::clone(&ssl.server)).downgrade(ssl.downgrade),
            None => self,
        }
    }

    /// Serves until `shutdown` is cancelled: then no connection is taken any more, idle ones are
    /// closed, busy ones may finish within [`ServerConfig::grace`], and the rest is cut.
    ///
    /// Dropping the future cuts every connection at once.
    pub async fn serve(self, listener: Listener, shutdown: CancellationToken) -> Stopped {
        // Each is cut when this is dropped. None looks for itself whether it is: that would cost every request.
        let mut connections = JoinSet::new();
        let places = Places::new(Arc::clone(&self.config), self.messages.is_some());
        let acceptor = self.tls.map(TlsAcceptor::from);
        loop {
            let next = async {
                let free = places.free().await;
                (free, listener.accept().await)
            };
            let (free, accepted) = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                next = next => next,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = free.and_then(|free| places.take(free, &peer)) else {
                        continue;
                    };
                    let connection = connection::Connection {
                        peer,
                        service: self.service.clone(),
                        config: Arc::clone(&self.config),
                        acceptor: acceptor.clone(),
                        downgrade: self.downgrade,
                        messages: self.messages.clone(),
                        aside: self.aside.clone(),
                        shortcut: self.shortcut.clone(),
                        places: places.clone(),
                        shutdown: shutdown.clone(),
                    };
                    connections.spawn(async move {
                        connection.serve(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, or a client that went away in the queue. A pause
                    // keeps the first from spinning.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(self.config.grace, ended).await;
        let aborted = connections.len();
        connections.shutdown().await;
        Stopped { aborted }
    }
}
