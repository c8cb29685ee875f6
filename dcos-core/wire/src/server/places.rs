//! Who finds room on a server: how many connections there are, and whose.
//!
//! There is a bound on all connections and a lower one on those of one host, so that no single
//! host shuts out the others; and where peers send messages, a quarter of the room is theirs, which
//! clients of HTTP get none of.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ServerConfig;
use super::peer::Peer;

/// How often the log tells of connections that found no room.
const TELL: Duration = Duration::from_secs(10);

/// How much of the room of a server is taken, and who found none. Clones are the same; whoever
/// sums up several servers gives them the same.
#[derive(Debug, Clone, Default)]
pub struct Load(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    full: AtomicU64,
    refused: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Load {
    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// How often there was no room for any further connection, until one ended.
    pub fn full(&self) -> u64 {
        self.0.full.load(Ordering::Relaxed)
    }

    /// Connections that were closed since their host had too many, and requests that were answered
    /// with 503 since all clients of HTTP together had.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// These numbers as metrics.
    #[expect(
        clippy::cast_precision_loss,
        reason = "metrics are doubles, as in Mesos"
    )]
    pub fn metrics(&self) -> [(&'static str, f64); 3] {
        [
            ("server/connections", self.open() as f64),
            ("server/connections_full", self.full() as f64),
            ("server/connections_refused", self.refused() as f64),
        ]
    }

    /// Whether it is time to tell again of what may happen thousands of times a second.
    fn tells(&self) -> bool {
        let mut told = lock(&self.0.told);
        let is_due = told.is_none_or(|at| at.elapsed() >= TELL);
        if is_due {
            *told = Some(Instant::now());
        }
        is_due
    }
}

/// The room of one server.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Room>);

#[derive(Debug)]
struct Room {
    config: Arc<ServerConfig>,
    all: Arc<Semaphore>,
    http: Arc<Semaphore>,
    /// Connections of each host that has any.
    hosts: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    host: Option<IpAddr>,
    _one: OwnedSemaphorePermit,
}

impl Places {
    /// Places for a server that takes in messages as well, or nothing but HTTP.
    pub(super) fn new(config: Arc<ServerConfig>, messages: bool) -> Self {
        let all = config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let reserved = if messages { all / 4 } else { 0 };
        Self(Arc::new(Room {
            config,
            all: Arc::new(Semaphore::new(all)),
            http: Arc::new(Semaphore::new(all - reserved)),
            hosts: Mutex::default(),
        }))
    }

    /// Waits until there is room for a connection.
    pub(super) async fn free(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(free) = Arc::clone(&self.0.all).try_acquire_owned() {
            return Some(free);
        }
        let config = &self.0.config;
        config.load.0.full.fetch_add(1, Ordering::Relaxed);
        if config.load.tells() {
            let limit = config.max_connections;
            tracing::warn!(limit, "no room for more connections: they wait");
        }
        Arc::clone(&self.0.all).acquire_owned().await.ok()
    }

    /// Gives a place to `peer`; `None` if its host has as many as it may.
    pub(super) fn take(&self, one: OwnedSemaphorePermit, peer: &Peer) -> Option<Place> {
        let room = Arc::clone(&self.0);
        let (load, limit) = (&room.config.load, room.config.max_connections_per_host);
        let host = peer.ip().map(host);
        if let Some(host) = host {
            let mut hosts = lock(&room.hosts);
            let open = hosts.entry(host).or_default();
            if *open >= limit.max(1) {
                drop(hosts);
                load.0.refused.fetch_add(1, Ordering::Relaxed);
                if load.tells() {
                    tracing::warn!(%host, limit, "a host has too many connections: further ones are closed");
                }
                return None;
            }
            *open += 1;
        }
        load.0.open.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            room,
            host,
            _one: one,
        })
    }

    /// A seat for whoever is at the other end of a connection.
    pub(super) fn seat(&self) -> Seat {
        Seat {
            room: Arc::clone(&self.0),
            taken: Arc::default(),
        }
    }
}

/// The room of one client of HTTP: taken at its first request that is no message, kept until its
/// connection ends.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    room: Arc<Room>,
    taken: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Seat {
    /// Whether there is room for a request; none while clients of HTTP have as much as they may.
    pub(super) fn is_found(&self) -> bool {
        let mut taken = lock(&self.taken);
        if taken.is_none() {
            *taken = Arc::clone(&self.room.http).try_acquire_owned().ok();
        }
        if taken.is_some() {
            return true;
        }
        let load = &self.room.config.load;
        load.0.refused.fetch_add(1, Ordering::Relaxed);
        if load.tells() {
            let limit = self.room.config.max_connections;
            tracing::warn!(
                limit,
                "too many clients of HTTP: they are answered with 503"
            );
        }
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.config.load.0.open.fetch_sub(1, Ordering::Relaxed);
        let Some(host) = self.host else { return };
        let mut hosts = lock(&self.room.hosts);
        if let Some(open) = hosts.get_mut(&host) {
            *open -= 1;
            if *open == 0 {
                hosts.remove(&host);
            }
        }
    }
}

/// What counts as one host: an address of version 4, or a network of version 6, since a host has
/// all addresses of its `/64`.
fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into()
        }
        ip => ip,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_all_addresses_of_its_network() {
        let host = |text: &str| host(text.parse().unwrap()).to_string();
        assert_eq!(host("10.0.0.1"), "10.0.0.1");
        assert_eq!(host("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(host("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(host("::1"), "::1");
    }
}
