//! [`Server`]: binds everything, then runs until told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use dcos_net::Snapshot;
use dcos_wire::Listener;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Rules;
use crate::forward::Forwarder;
use crate::resolvers::{Resolvers, leave_out_own};
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
    publisher: watch::Sender<Arc<Served>>,
    served: watch::Receiver<Arc<Served>>,
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
        let (publisher, served) = watch::channel(Arc::new(Served::nothing(&config.names)));
        Ok(Self {
            config,
            sockets,
            addresses,
            http,
            publisher,
            served,
        })
    }

    /// What dcos-net's REST API has of names: `/v1/hosts/{host}`, `/v1/services/{service}`, `/v1/records`.
    pub fn router(&self) -> axum::Router {
        http::of_dcos_net(Arc::new(self.config.clone()), self.served.clone())
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
            publisher,
            served,
        } = self;
        let mut zone_resolvers = config.zone_resolvers.clone();
        for resolvers in zone_resolvers.values_mut() {
            leave_out_own(resolvers, &addresses);
        }
        let upstream = config.upstream.clone();
        let others = Resolvers::new(upstream, addresses.clone());
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            served: served.clone(),
            rules: Rules {
                external: config.external,
                set_truncate_bit: config.set_truncate_bit,
            },
            forwarder: Arc::new(Forwarder::new(others, &zone_resolvers, config.timeout)),
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
