//! [`Gossip`]: a member on a UDP socket.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::steady;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::core::{Action, Config, Core, Counters, PACKET};
use crate::keys::{KeyFile, KeysError};
use crate::membership::{About, Change, Changes, Members, Membership, Presence};
use crate::record::TooLarge;

mod errands;

use errands::{News, Remembering, keys, names, recall};

/// How often to look again at keys, names of seeds and what came from strangers.
pub const REVIEW: Duration = Duration::from_secs(30);
/// After how many reviews without an answer the log is told.
const ALONE: u32 = 2;
/// Datagrams that are read before what is due is done.
const BATCH: usize = 64;

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
    /// Who looks up names; [`System`] asks what all programs ask.
    pub resolver: Arc<dyn Resolver>,
    /// How often to look again at keys, names and what came from strangers; [`REVIEW`] suits clusters.
    pub review: Duration,
}

/// The addresses of a name, some time later.
pub type LookUp = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Finds addresses of names. It may take as long as it wants: gossip does not wait for it.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// Looks up a `host:port` that is no address.
    fn look_up(&self, name: String) -> LookUp;
}

/// The system's resolver: `/etc/hosts`, DNS and whatever else it is set to.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Resolver for System {
    fn look_up(&self, name: String) -> LookUp {
        Box::pin(async move { Ok(lookup_host(name).await?.collect()) })
    }
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
    voice: Voice,
    setup: Setup,
    keys: KeyFile,
}

/// The core on its socket. It waits for nothing else: who answers late counts as dead.
#[derive(Debug)]
struct Voice {
    socket: UdpSocket,
    core: Core,
    /// There is somebody to join.
    awaits: bool,
    members: watch::Sender<Arc<Members>>,
    counters: watch::Sender<Counters>,
}

impl Gossip {
    /// Reads the keys and listens.
    ///
    /// # Errors
    /// What keeps it from that; nothing was sent then.
    pub async fn bind(mut setup: Setup) -> Result<Self, GossipError> {
        let (keyring, keys) = KeyFile::open(setup.keys.clone())?;
        let address = setup.listen;
        let failed = |source| GossipError::Listen { address, source };
        let socket = UdpSocket::bind(address).await.map_err(failed)?;
        if setup.address.port() == 0 {
            let port = socket.local_addr().map_err(failed)?.port();
            setup.address.set_port(port);
        }
        let config = Config {
            address: setup.address,
            about: setup.about.clone(),
            // They are looked up while it runs.
            seeds: Vec::new(),
            remembered: match &setup.memory {
                Some(path) => recall(path).await,
                None => Vec::new(),
            },
        };
        let core = Core::new(config, keyring, &Seed::from_os(), steady())?;
        Ok(Self {
            voice: Voice {
                socket,
                core,
                awaits: false,
                members: watch::Sender::default(),
                counters: watch::Sender::default(),
            },
            setup,
            keys,
        })
    }

    /// Where others reach it.
    pub fn address(&self) -> SocketAddr {
        self.voice.core.address()
    }

    /// What it knows, now and later.
    pub fn view(&self) -> View {
        View {
            members: self.voice.members.subscribe(),
            counters: self.voice.counters.subscribe(),
        }
    }

    /// Takes part until `stop` is cancelled, and says that it leaves.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = Changes::of(&self.view());
        let telling = async {
            let mut told = BTreeMap::new();
            while let Some(changes) = changes.next().await {
                for change in &changes {
                    tell(&mut told, change);
                }
            }
        };
        let Self {
            mut voice,
            setup,
            keys: file,
        } = self;
        let memory = setup.memory.map(|path| Remembering {
            path,
            own: voice.core.address(),
            members: voice.members.subscribe(),
        });
        let (outside, news) = mpsc::channel(1);
        let errands = async {
            tokio::join!(
                names(setup.join, &*setup.resolver, setup.review, &outside),
                keys(file, setup.review, &outside),
                Remembering::keep(memory.as_ref(), setup.review),
            )
        };
        let working = async {
            voice.work(&stop, news, setup.review).await;
            voice.core.leave(steady());
            voice.act().await;
            if let Some(memory) = &memory {
                memory.write().await;
            }
        };
        tokio::select! {
            () = working => {}
            () = telling => {}
            _ = errands => {}
        }
    }
}

impl Voice {
    async fn work(
        &mut self,
        stop: &CancellationToken,
        mut news: mpsc::Receiver<News>,
        review: Duration,
    ) {
        let mut review = interval(review);
        review.set_missed_tick_behavior(MissedTickBehavior::Delay);
        review.reset();
        let mut packet = vec![0; PACKET + 1];
        let (mut strangers, mut alone) = (0, 0);
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
                Some(news) = news.recv() => match news {
                    News::Seeds(seeds) => {
                        let own = self.core.address();
                        self.awaits = seeds.iter().any(|seed| *seed != own);
                        self.core.set_seeds(steady(), seeds);
                    }
                    News::Keys(keyring) => self.core.set_keyring(keyring),
                },
                _ = review.tick() => self.complain(&mut strangers, &mut alone),
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

    /// Tells the log of strangers, and that nobody answers.
    fn complain(&self, strangers: &mut u64, alone: &mut u32) {
        let is_alone = self.awaits && self.members.borrow().len() < 2;
        *alone = if is_alone { *alone + 1 } else { 0 };
        if *alone == ALONE {
            tracing::warn!(
                own = %self.core.address(),
                "nobody answers gossip: do those who are asked listen at that address and port, and say the same of themselves?"
            );
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
