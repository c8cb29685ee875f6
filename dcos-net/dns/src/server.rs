//! [`Server`]: binds everything, then runs until told to stop.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use dcos_net::Snapshot;
use dcos_wire::Listener;
use rustix::net::sockopt;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::answer::Rules;
use crate::clients::Clients;
use crate::forward::Forwarder;
use crate::http::{self, Api};
use crate::resolvers::{Resolvers, leave_out_own};
use crate::served::{self, Served};
use crate::sockets::{self, Shared, UdpThread};

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

/// Where DNS is served over UDP and TCP.
type Bound = (UdpSocket, TcpListener);

/// A name server that is bound but does not answer yet.
#[derive(Debug)]
pub struct Server {
    sockets: Vec<Bound>,
    addresses: Vec<SocketAddr>,
    /// Where it may listen one day.
    own: Vec<SocketAddr>,
    doors: (Doors, mpsc::Receiver<Vec<Bound>>),
    http: Option<Listener>,
    publisher: watch::Sender<Arc<Served>>,
    api: Api,
}

impl Server {
    /// Binds every address of the configuration.
    ///
    /// # Errors
    /// The first address that cannot be bound; none is then.
    pub async fn bind(mut config: Config) -> Result<Self, BindError> {
        let mut addresses = Vec::new();
        let sockets = bind_all(&config.listen).await?;
        for ((udp, _), address) in sockets.iter().zip(&config.listen) {
            let (address, local) = (*address, udp.local_addr());
            addresses.push(local.map_err(|source| BindError { address, source })?);
        }
        let own: Vec<SocketAddr> = addresses.iter().chain(&config.later).copied().collect();
        let http = match config.http {
            Some(address) => {
                let listener = Listener::tcp(address).await;
                Some(listener.map_err(|source| BindError { address, source })?)
            }
            None => None,
        };
        let of_others = config.zone_resolvers.keys().cloned();
        config.names.zones_of_others.extend(of_others);
        let (publisher, served) = watch::channel(Arc::new(Served::nothing(&config.names)));
        let mut zone_resolvers = config.zone_resolvers.clone();
        for resolvers in zone_resolvers.values_mut() {
            leave_out_own(resolvers, &own);
        }
        let others = Resolvers::new(config.upstream.clone(), own.clone());
        let forwarder = Forwarder::new(
            others,
            &zone_resolvers,
            config.timeout,
            config.cache,
            config.max_forwards,
        );
        Ok(Self {
            sockets,
            addresses,
            own,
            doors: doors(),
            http,
            publisher,
            api: Api {
                config: Arc::new(config),
                served,
                forwarder: Arc::new(forwarder),
                answers: Arc::default(),
            },
        })
    }

    /// What dcos-net's REST API has of names: `/v1/hosts/{host}`, `/v1/services/{service}`, `/v1/records`,
    /// `/v1/metrics/dns`.
    pub fn router(&self) -> axum::Router {
        http::of_dcos_net(self.api.clone())
    }

    /// Where DNS is served, in the order of [`Config::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A way to have it listen elsewhere as well, once it may.
    pub fn doors(&self) -> Doors {
        self.doors.0.clone()
    }

    /// Where the HTTP API is served.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(Listener::address)
    }

    /// Answers from the latest snapshot with a leader until `stop` is cancelled; forwarded queries
    /// and TCP clients are cut then.
    pub async fn run(self, snapshots: watch::Receiver<Arc<Snapshot>>, stop: CancellationToken) {
        let Self {
            sockets,
            own,
            doors: (_, mut opened),
            http,
            publisher,
            api,
            ..
        } = self;
        let config = &api.config;
        let forwarder = Arc::clone(&api.forwarder);
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shared {
            served: api.served.clone(),
            rules: Rules {
                external: config.external,
                set_truncate_bit: config.set_truncate_bit,
            },
            forwarder: Arc::clone(&api.forwarder),
            answers: Arc::clone(&api.answers),
            allow: config.allow.clone(),
            own: own.iter().map(|own| own.ip().to_canonical()).collect(),
            connections: Arc::new(Semaphore::new(config.max_connections)),
            clients: Clients::new(config.max_connections_per_host),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        let mut answering = Vec::new();
        let mut answer = |sockets: Vec<Bound>| {
            for (udp, tcp) in sockets {
                match UdpThread::start(Arc::clone(&shared), udp) {
                    Ok(thread) => answering.push(thread),
                    Err(error) => tracing::error!(%error, "names are answered over TCP alone"),
                }
                tasks.spawn(sockets::tcp(Arc::clone(&shared), tcp));
            }
        };
        answer(sockets);
        let publishing = served::publish(config.names.clone(), snapshots, publisher, stop.clone());
        tasks.spawn(publishing);
        if let Some(listener) = http {
            let server = dcos_wire::Server::new(http::router(api)).serve(listener, stop.clone());
            tasks.spawn(async move {
                server.await;
            });
        }
        tasks.close();
        let opening = async {
            while let Some(sockets) = opened.recv().await {
                answer(sockets);
            }
            std::future::pending::<()>().await;
        };
        stop.run_until_cancelled(opening).await;
        drop(answering);
        tasks.wait().await;
        forwarder.end().await;
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

/// Has a [`Server`] listen at more addresses while it runs. Clones are the same.
#[derive(Clone, Debug)]
pub struct Doors(mpsc::Sender<Vec<Bound>>);

/// One is opened after the other.
fn doors() -> (Doors, mpsc::Receiver<Vec<Bound>>) {
    let (sender, opened) = mpsc::channel(1);
    (Doors(sender), opened)
}

impl Doors {
    /// Has it listen at all of these, until it ends.
    ///
    /// # Errors
    /// The first address that cannot be bound; none is then.
    pub async fn open(&self, addresses: &[SocketAddr]) -> Result<(), BindError> {
        let sockets = bind_all(addresses).await?;
        // One that has ended listens nowhere.
        let _ = self.0.send(sockets).await;
        Ok(())
    }
}

async fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<Bound>, BindError> {
    let mut sockets = Vec::new();
    for &address in addresses {
        let bound = bind_both(address).await;
        sockets.push(bound.map_err(|source| BindError { address, source })?);
    }
    Ok(sockets)
}

/// UDP and TCP on the same port, also if any free one will do.
async fn bind_both(address: SocketAddr) -> io::Result<Bound> {
    /// A free UDP port is now and then taken as a TCP port.
    const TRIES: usize = 16;
    let mut tries = 0;
    loop {
        tries += 1;
        let udp = UdpSocket::bind(address)?;
        widen(&udp);
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if address.port() != 0 || tries == TRIES => return Err(error),
            Err(_) => {}
        }
    }
}

/// Lets a burst of queries wait: some thousands, as in dcos-net; and as many answers, while the kernel looks for hosts that
/// may not be there. Without `CAP_NET_ADMIN` as many as the system grants.
pub(crate) fn widen(udp: &UdpSocket) {
    const QUERIES: usize = 1024 * 1024;
    const ANSWERS: usize = 8 * 1024 * 1024;
    let queries = sockopt::set_socket_recv_buffer_size_force(udp, QUERIES)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(udp, QUERIES));
    let answers = sockopt::set_socket_send_buffer_size_force(udp, ANSWERS)
        .or_else(|_| sockopt::set_socket_send_buffer_size(udp, ANSWERS));
    if let Err(error) = queries.and(answers) {
        tracing::debug!(%error, "bursts of queries may be lost");
    }
}
