//! Who is at the other end of a connection.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use rustls::pki_types::CertificateDer;

/// The address of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerAddress {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket, with what the kernel knows about the process.
    Unix {
        /// Its process id, if the kernel says.
        pid: Option<i32>,
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
    /// Not over a socket: through a [`Pipe`](super::Pipe), or straight into a router.
    Local,
}

/// Who sent a request. An extractor for axum handlers.
///
/// ```
/// use dcos_wire::Peer;
///
/// async fn whoami(peer: Peer) -> String {
///     format!("{:?}", peer.ip())
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(whoami));
/// ```
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where the request came from.
    pub address: PeerAddress,
    /// Which of our addresses it came to, over TCP: a connection is known by both its ends only.
    pub own_address: Option<SocketAddr>,
    /// The certificates the client showed, its own first; empty without mutual TLS.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

impl Peer {
    pub(crate) fn new(address: PeerAddress) -> Self {
        let certificates = Arc::default();
        Self {
            address,
            own_address: None,
            certificates,
        }
    }

    pub(crate) fn tcp(address: SocketAddr, own_address: Option<SocketAddr>) -> Self {
        // Who came to a dual-stack listener is known by its IPv4 address.
        let canonical = |one: SocketAddr| SocketAddr::new(one.ip().to_canonical(), one.port());
        Self {
            own_address: own_address.map(canonical),
            ..Self::new(PeerAddress::Tcp(canonical(address)))
        }
    }

    /// The client's IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_address().map(|address| address.ip())
    }

    /// The client's IP address and port, if it has one.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.address {
            PeerAddress::Tcp(address) => Some(address),
            PeerAddress::Unix { .. } | PeerAddress::Local => None,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Self>().cloned();
        Ok(peer.unwrap_or_else(|| Self::new(PeerAddress::Local)))
    }
}
