//! The connections to other processes, one for each.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::actor::Directory;
use super::peer::{self, Outgoing};
use super::{Message, MessengerConfig, Upid};

/// Connections by address. Ordering between any two actors follows from there being one each.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

/// What the pool and the tasks of its connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The address of this process; what is sent there stays in it.
    pub(super) own: SocketAddr,
    pub(super) config: MessengerConfig,
    pub(super) directory: Arc<Directory>,
    peers: Mutex<HashMap<SocketAddr, Arc<Peer>>>,
}

/// A connection, or one that is being made.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    outbox: mpsc::Sender<Outgoing>,
    /// Bytes in the outbox.
    pub(super) waiting: AtomicUsize,
    /// Which local actor (first) is linked to which remote one; guarded by the pool's lock.
    links: Mutex<BTreeSet<(String, Upid)>>,
    /// Ends the connection at once.
    pub(super) cut: CancellationToken,
}

impl Pool {
    pub(super) fn new(own: SocketAddr, config: MessengerConfig, directory: Arc<Directory>) -> Self {
        let peers = Mutex::default();
        let shared = Shared {
            own,
            config,
            directory,
            peers,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    pub(super) fn send(&self, from: &Upid, to: &Upid, name: &str, body: Bytes) {
        let shared = &self.shared;
        let outgoing = Outgoing {
            actor: to.name().to_owned(),
            message: Message {
                from: from.clone(),
                name: name.to_owned(),
                body,
            },
        };
        let size = outgoing.size();
        let mut peers = shared.lock();
        let peer = shared.peer(&mut peers, to.address());
        let before = peer.waiting.fetch_add(size, Ordering::AcqRel);
        let fits = before == 0 || before.saturating_add(size) <= shared.config.outbox_bytes;
        if !fits || peer.outbox.try_send(outgoing).is_err() {
            tracing::warn!(%to, waiting = before, "a peer takes no more messages and is cut");
            peer.cut.cancel();
            peers.remove(&to.address());
        }
    }

    pub(super) fn link(&self, from: &Upid, to: &Upid) {
        let mut peers = self.shared.lock();
        let peer = self.shared.peer(&mut peers, to.address());
        peer.links().insert((from.name().to_owned(), to.clone()));
    }

    pub(super) fn unlink(&self, from: &Upid, to: &Upid) {
        let peers = self.shared.lock();
        if let Some(peer) = peers.get(&to.address()) {
            peer.links().remove(&(from.name().to_owned(), to.clone()));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (_, peer) in self.shared.lock().drain() {
            peer.cut.cancel();
        }
    }
}

type Peers = HashMap<SocketAddr, Arc<Peer>>;

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to `address`, begun if there is none.
    fn peer(self: &Arc<Self>, peers: &mut Peers, address: SocketAddr) -> Arc<Peer> {
        let begin = || {
            let (outbox, queue) = mpsc::channel(self.config.outbox_messages);
            let peer = Arc::new(Peer {
                address,
                outbox,
                waiting: AtomicUsize::new(0),
                links: Mutex::default(),
                cut: CancellationToken::new(),
            });
            // The task ends with the pool, which cuts every peer when it is dropped.
            tokio::spawn(peer::run(Arc::clone(self), Arc::clone(&peer), queue));
            peer
        };
        Arc::clone(peers.entry(address).or_insert_with(begin))
    }

    /// Forgets a connection that ended; returns who was linked over it.
    pub(super) fn ended(&self, peer: &Arc<Peer>) -> BTreeSet<(String, Upid)> {
        let mut peers = self.lock();
        if peers
            .get(&peer.address)
            .is_some_and(|current| Arc::ptr_eq(current, peer))
        {
            peers.remove(&peer.address);
        }
        std::mem::take(&mut *peer.links())
    }

    /// Forgets a connection that nobody needs: no links, and nothing sent meanwhile. From then on
    /// a send begins a new one.
    pub(super) fn retire(&self, peer: &Arc<Peer>, queue: &mpsc::Receiver<Outgoing>) -> bool {
        let mut peers = self.lock();
        let unused = peer.links().is_empty() && queue.is_empty();
        if unused {
            peers.remove(&peer.address);
        }
        unused
    }
}

impl Peer {
    fn links(&self) -> std::sync::MutexGuard<'_, BTreeSet<(String, Upid)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
