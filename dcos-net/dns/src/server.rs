//! [`Server`]: binds everything, then runs until told to stop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use dcos_net::Snapshot;
use dcos_wire::Listener;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Rules;
use crate::forward::Forwarder;
use crate::served::{self, Served};
use crate::sockets::{self, Shared};
use crate::{Config, http};

/// Why a name server could not start.
#[derive(Debug, thiserror::Error)]
#[error(
    "listening on {address}{}",
    if address.port() == 53 { " (port 53 takes root, or another program has it)" } else { "" }
)]
pub struct BindError {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the operating system said.
    pub source: io::Error,
}

/// A name server that is bound but does not answer yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    sockets: Vec<(UdpSocket, TcpListener)>,
    addresses: Vec<SocketAddr>,
    http: Option<Listener>,
}

impl Server {
    /// Binds every address of the configuration.
    ///
    /// # Errors
    /// The first address that cannot be bound; none is then.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
        for &address in &config.listen {
            let bound = bind_both(address)
                .await
                .map_err(|source| BindError { address, source })?;
            let local = bound
                .0
                .local_addr()
                .map_err(|source| BindError { address, source })?;
            sockets.push(bound);
            addresses.push(local);
        }
        let http = match config.http {
            Some(address) => {
                let listener = Listener::tcp(address).await;
                Some(listener.map_err(|source| BindError { address, source })?)
            }
            None => None,
        };
        Ok(Self {
            config,
            sockets,
            addresses,
            http,
        })
    }

    /// Where DNS is served, in the order of [`Config::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the HTTP API is served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(Listener::address)
    }

    /// Answers from the latest snapshot with a leader until `stop` is cancelled; forwarded queries
    /// and TCP clients are cut then.
    pub async fn run(self, snapshots: watch::Receiver<Arc<Snapshot>>, stop: CancellationToken) {
        let Self {
            config,
            sockets,
            addresses,
            http,
        } = self;
        let (publisher, served) = watch::channel(Arc::new(Served::nothing(&config.names)));
        let mut resolvers = config.resolvers.clone();
        leave_out_own(&mut resolvers, &addresses);
        let mut zone_resolvers = config.zone_resolvers.clone();
        for resolvers in zone_resolvers.values_mut() {
            leave_out_own(resolvers, &addresses);
        }
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            served: served.clone(),
            rules: Rules {
                external: config.external,
                set_truncate_bit: config.set_truncate_bit,
            },
            forwarder: Arc::new(Forwarder::new(&resolvers, &zone_resolvers, config.timeout)),
            forwards: Arc::new(Semaphore::new(config.max_forwards)),
            connections: Arc::new(Semaphore::new(config.max_connections)),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        for (udp, tcp) in sockets {
            tasks.spawn(sockets::udp(Arc::clone(&shared), udp));
            tasks.spawn(sockets::tcp(Arc::clone(&shared), tcp));
        }
        if let Some(listener) = http {
            let router = http::router(Arc::new(config.clone()), served);
            let server = dcos_wire::Server::new(router).serve(listener, stop.clone());
            tasks.spawn(async move {
                server.await;
            });
        }
        tasks.spawn(served::publish(config.names, snapshots, publisher, stop));
        tasks.close();
        tasks.wait().await;
    }
}

/// Asking ourselves would go round in circles.
fn leave_out_own(resolvers: &mut Vec<SocketAddr>, bound: &[SocketAddr]) {
    resolvers.retain(|resolver| {
        let own = is_own(*resolver, bound);
        if own {
            tracing::warn!(%resolver, "this is the name server itself: not asked about other names");
        }
        !own
    });
}

/// Whether packets to `resolver` come to one of `bound`.
fn is_own(resolver: SocketAddr, bound: &[SocketAddr]) -> bool {
    // Packets to an address of this host leave from it; that an address can be bound says less (`ip_nonlocal_bind`).
    let is_here = || resolver.ip().is_loopback() || leaves_from(resolver) == Some(resolver.ip());
    let comes_to = |bound: &SocketAddr| {
        bound.port() == resolver.port()
            && (bound.ip() == resolver.ip() || bound.ip().is_unspecified() && is_here())
    };
    bound.iter().any(comes_to)
}

/// Where packets to `address` would leave from.
fn leaves_from(address: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(address).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// [`Server::bind`] and [`Server::run`] in one.
///
/// # Errors
/// As [`Server::bind`].
pub async fn run(
    config: Config,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: CancellationToken,
) -> Result<(), BindError> {
    Server::bind(config).await?.run(snapshots, stop).await;
    Ok(())
}

/// UDP and TCP on the same port, also if any free one will do.
async fn bind_both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    /// A free UDP port is now and then taken as a TCP port.
    const TRIES: usize = 16;
    let mut tries = 0;
    loop {
        tries += 1;
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if address.port() != 0 || tries == TRIES => return Err(error),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_every_address_of_this_host() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (resolver, bound, own) in [
            ("127.0.0.1:5353", "127.0.0.1:5353", true),
            ("127.0.0.1:5353", "0.0.0.0:5353", true),
            ("127.0.0.77:5353", "0.0.0.0:5353", true),
            ("127.0.0.1:53", "0.0.0.0:5353", false),
            ("127.0.0.53:5353", "127.0.0.1:5353", false),
            // TEST-NET-1 is nobody's.
            ("192.0.2.1:5353", "0.0.0.0:5353", false),
        ] {
            let found = is_own(address(resolver), &[address(bound)]);
            assert_eq!(found, own, "{resolver} at {bound}");
        }
    }
}
