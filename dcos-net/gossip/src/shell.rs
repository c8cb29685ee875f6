//! [`Gossip`]: a member on a UDP socket.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dcos_core::error::chain;
use dcos_core::seed::Seed;
use dcos_core::time::steady;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::core::{Action, Config, Core, Counters, PACKET};
use crate::keys::{Keyring, KeysError};
use crate::membership::{About, Change, Changes, Members, Membership, Presence};
use crate::record::TooLarge;

/// How often keys, names of seeds and what came from strangers are looked at.
const REVIEW: Duration = Duration::from_secs(30);
/// Datagrams that are read before what is due is done.
const BATCH: usize = 64;
/// Members that are remembered for the next start.
const REMEMBERED: usize = 64;

/// How a member takes part.
#[derive(Debug)]
pub struct Setup {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where others reach it; its port may be 0 for the one that is listened on.
    pub address: SocketAddr,
    /// The file with the cluster's keys; it is read again when it changes.
    pub keys: PathBuf,
    /// What it says of itself.
    pub about: About,
    /// Whom to join, as `host:port`; names are looked up again and again.
    pub join: watch::Receiver<Vec<String>>,
    /// Where members are remembered, for a start while nobody of `join` answers.
    pub memory: Option<PathBuf>,
}

/// Why a member cannot take part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GossipError {
    /// The keys are not there or not safe.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// There is no socket.
    #[error("listening for gossip on {address} (UDP)")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It says too much of itself.
    #[error(transparent)]
    About(#[from] TooLarge),
}

/// What a member knows, for those who ask. Clones see the same.
#[derive(Clone, Debug)]
pub struct View {
    members: watch::Receiver<Arc<Members>>,
    counters: watch::Receiver<Counters>,
}

impl View {
    /// What came and went.
    pub fn counters(&self) -> Counters {
        *self.counters.borrow()
    }
}

impl Membership for View {
    fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }
}

/// A member that listens, and says nothing yet.
#[derive(Debug)]
pub struct Gossip {
    socket: UdpSocket,
    core: Core,
    setup: Setup,
    keys_changed: Option<SystemTime>,
    members: watch::Sender<Arc<Members>>,
    counters: watch::Sender<Counters>,
}

impl Gossip {
    /// Reads the keys and listens.
    ///
    /// # Errors
    /// What keeps it from that; nothing was sent then.
    pub async fn bind(mut setup: Setup) -> Result<Self, GossipError> {
        let keys_changed = changed(&setup.keys).await;
        let keyring = Keyring::read(&setup.keys)?;
        let address = setup.listen;
        let failed = |source| GossipError::Listen { address, source };
        let socket = UdpSocket::bind(address).await.map_err(failed)?;
        if setup.address.port() == 0 {
            let port = socket.local_addr().map_err(failed)?.port();
            setup.address.set_port(port);
        }
        let seeds = resolve(&setup.join.borrow().clone()).await;
        let config = Config {
            address: setup.address,
            about: setup.about.clone(),
            seeds,
            remembered: match &setup.memory {
                Some(path) => recall(path).await,
                None => Vec::new(),
            },
        };
        let core = Core::new(config, keyring, &Seed::from_os(), steady())?;
        Ok(Self {
            socket,
            core,
            setup,
            keys_changed,
            members: watch::Sender::default(),
            counters: watch::Sender::default(),
        })
    }

    /// Where others reach it.
    pub fn address(&self) -> SocketAddr {
        self.core.address()
    }

    /// What it knows, now and later.
    pub fn view(&self) -> View {
        View {
            members: self.members.subscribe(),
            counters: self.counters.subscribe(),
        }
    }

    /// Takes part until `stop` is cancelled, and says that it leaves.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = Changes::of(&self.view());
        let telling = async {
            let mut told = BTreeMap::new();
            while let Some(changes) = changes.next().await {
                for change in &changes {
                    tell(&mut told, change);
                }
            }
        };
        let working = async {
            self.work(&stop).await;
            self.core.leave(steady());
            self.act().await;
            self.remember().await;
        };
        tokio::select! {
            () = working => {}
            () = telling => {}
        }
    }

    async fn work(&mut self, stop: &CancellationToken) {
        let mut review = interval(REVIEW);
        review.set_missed_tick_behavior(MissedTickBehavior::Delay);
        review.reset();
        let mut packet = vec![0; PACKET + 1];
        let (mut strangers, mut is_told) = (0, true);
        loop {
            self.act().await;
            let deadline = self.core.next_deadline();
            let due = async {
                match deadline {
                    Some(deadline) => sleep(deadline - steady()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                received = self.socket.recv_from(&mut packet) => match received {
                    Ok((length, _)) => self.core.handle(steady(), &packet[..length]),
                    // Of an earlier packet that found nobody; there is nothing to do about it.
                    Err(error) => tracing::debug!(%error, "receiving gossip"),
                },
                () = due => {}
                joined = self.setup.join.changed(), if is_told => match joined {
                    Ok(()) => self.look_up().await,
                    // Nobody will say anything else any more.
                    Err(_) => is_told = false,
                },
                _ = review.tick() => self.review(&mut strangers).await,
            }
            // What waits was sent before what is due now: answers count before they are missed.
            for _ in 0..BATCH {
                match self.socket.try_recv_from(&mut packet) {
                    Ok((length, _)) => self.core.handle(steady(), &packet[..length]),
                    Err(_) => break,
                }
            }
        }
    }

    /// Does what the core wants.
    async fn act(&mut self) {
        while let Some(action) = self.core.poll(steady()) {
            match action {
                Action::Send { to, packet } => {
                    if let Err(error) = self.socket.send_to(&packet, to).await {
                        tracing::debug!(%to, %error, "sending gossip");
                    }
                }
                Action::Members(members) => {
                    self.members.send_replace(members);
                }
            }
        }
        self.counters.send_replace(self.core.counters());
    }

    async fn review(&mut self, strangers: &mut u64) {
        self.look_up().await;
        let now = changed(&self.setup.keys).await;
        if now != self.keys_changed {
            self.keys_changed = now;
            match Keyring::read(&self.setup.keys) {
                Ok(keyring) => {
                    self.core.set_keyring(keyring);
                    tracing::info!("gossip has new keys");
                }
                Err(error) => {
                    tracing::warn!("{}; gossip goes on with the former keys", chain(&error));
                }
            }
        }
        let counters = self.core.counters();
        if counters.strangers > *strangers {
            let packets = counters.strangers - *strangers;
            tracing::warn!(
                packets,
                "gossip of strangers: somebody has other keys, or is none of us"
            );
            *strangers = counters.strangers;
        }
        self.remember().await;
    }

    async fn look_up(&mut self) {
        let names = self.setup.join.borrow_and_update().clone();
        let seeds = resolve(&names).await;
        self.core.set_seeds(steady(), seeds);
    }

    /// Writes down who is there, for the next start.
    async fn remember(&mut self) {
        let Some(path) = &self.setup.memory else {
            return;
        };
        let members = self.members.borrow().clone();
        let own = self.core.address();
        let there = members
            .values()
            .filter(|member| member.presence != Presence::Dead && member.address != own);
        let there: Vec<SocketAddr> = there
            .map(|member| member.address)
            .take(REMEMBERED)
            .collect();
        if there.is_empty() {
            // Whoever was there before may be again.
            return;
        }
        if let Err(error) = write(path, &there).await {
            tracing::warn!(%error, ?path, "remembering the members");
        }
    }
}

/// Tells the log who came and went.
fn tell(told: &mut BTreeMap<SocketAddr, Presence>, change: &Change) {
    match change {
        Change::Put(member) => {
            let (address, presence, node) = (member.address, member.presence, member.ip());
            if told.insert(address, presence) != Some(presence) {
                tracing::info!(%address, %node, "a member is {presence}");
            }
        }
        Change::Gone(address) => {
            told.remove(address);
            tracing::info!(%address, "a member is forgotten");
        }
    }
}

async fn changed(path: &Path) -> Option<SystemTime> {
    tokio::fs::metadata(path).await.ok()?.modified().ok()
}

/// The addresses behind `host:port`s; names that nobody knows are left out, for now.
async fn resolve(names: &[String]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for name in names {
        match lookup_host(name).await {
            Ok(found) => addresses.extend(found),
            Err(error) => tracing::debug!(name, %error, "looking up whom to join"),
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

async fn recall(path: &Path) -> Vec<SocketAddr> {
    let text = tokio::fs::read(path).await.unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

async fn write(path: &Path, members: &[SocketAddr]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let text = serde_json::to_vec(members)?;
    let beside = path.with_extension("new");
    tokio::fs::write(&beside, text).await?;
    tokio::fs::rename(&beside, path).await
}
