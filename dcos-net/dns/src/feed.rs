//! [`Feed`]: snapshots of the cluster for a name server, from what the leading master tells or from who leads itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::time::steady;
use dcos_net::{Follower, Journal, Keeping, Remembered, Snapshot};
use dcos_proto::master::event;
use dcos_proto::master::response::GetState;
use dcos_wire::Told;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::leader::Seeker;
use crate::memory::Memory;
use crate::{MasterList, Pace};

/// What is taken in at once.
const BATCH: usize = 512;

/// Where the snapshots come from that a [`Server`](crate::Server) answers from.
#[derive(Debug)]
pub struct Feed {
    publish: watch::Sender<Arc<Snapshot>>,
    /// Which masters there are.
    pub masters: MasterList,
    memory: Option<Memory>,
}

impl Feed {
    /// The least time between two times at which all that is known is kept.
    pub const KEEP: Duration = Duration::from_secs(10);
    /// The same of what changed, which takes little.
    const KEEP_CHANGES: Duration = Duration::from_secs(1);
    /// How long it is waited at most until what could not be kept is tried again.
    const KEEP_AT_MOST: Duration = Duration::from_secs(30);
    /// How often it is noted that nothing changed.
    pub const STILL: Duration = Journal::STILL;
    /// How long an end waits for a disk.
    const KEEP_LAST: Duration = Duration::from_secs(5);

    /// A feed, and what it tells: at once which masters there are, if that is known, for who must find them before any
    /// leads. What a feed before it kept in `memory` is told next, so that names are answered while no master is.
    pub fn new(
        masters: MasterList,
        memory: Option<Keeping>,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (publish, published) = watch::channel(Arc::new(unled(&masters)));
        let feed = Self {
            publish,
            masters,
            memory: memory.map(Memory::new),
        };
        (feed, published)
    }

    /// Tells what is so now, and of agents that are still awaited what was.
    pub fn tell(&self, now: Snapshot) {
        self.publish
            .send_modify(|told| *told = Arc::new(now.after(told)));
    }

    /// Keeps what a leader knows, for whoever begins with the file while nobody leads; without a file it does nothing. What
    /// `state` is, it says where it may take its time.
    pub async fn keep(
        &self,
        leader: SocketAddr,
        state: impl FnOnce() -> GetState + Send + 'static,
    ) {
        let Some(memory) = self.memory.clone() else {
            return;
        };
        let masters = self.masters.now(Some(leader.ip()));
        let write = move || {
            let mut known = Follower::of_all();
            known.begin(steady(), &state(), &mut ());
            memory.write(leader, masters, &mut known)
        };
        if let Err(error) = tokio::task::spawn_blocking(write).await {
            tracing::error!(%error, "what is known of names was not kept");
        }
    }

    /// Notes that what was [kept](Self::keep) is still so, and says whether that can be: all has to be kept anew otherwise.
    pub async fn still(&self) -> bool {
        let Some(memory) = self.memory.clone() else {
            return true;
        };
        let noted = tokio::task::spawn_blocking(move || memory.still()).await;
        noted.unwrap_or_default()
    }

    /// Tells what the leading master tells, until nobody sends that any more; keeps what was told last then.
    pub async fn follow(&mut self, news: &mut mpsc::Receiver<Told>) {
        let mut known = Known::default();
        if let Some(memory) = self.memory.clone()
            && let read = tokio::task::spawn_blocking(move || memory.read()).await
            && let Ok(Some(remembered)) = read
        {
            let masters = remembered.around.addresses.iter().copied().collect();
            known.remember(remembered);
            if known.is_whole() {
                self.tell(known.snapshot(masters));
            }
        }
        let mut batch = Vec::with_capacity(BATCH);
        let mut seeker = Seeker::default();
        let (mut is_news, mut is_unkept) = (false, false);
        let (mut next, mut keep) = (Instant::now(), Instant::now());
        let mut pause = Self::KEEP_CHANGES;
        let mut still = interval(Self::STILL);
        still.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let deadline = known.follower.next_deadline();
            let due = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep(deadline - steady()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = news.recv_many(&mut batch, BATCH) => {
                    if read == 0 {
                        break;
                    }
                    for told in batch.drain(..) {
                        is_news |= known.take_in(told, &mut seeker);
                    }
                }
                leader = seeker.found() => {
                    known.leader = Some(leader);
                    is_news = true;
                }
                () = due => {
                    known.follower.poll(steady(), &mut ());
                    is_news = true;
                }
                () = self.masters.changed() => {
                    is_news = true;
                    if !known.is_whole() {
                        self.tell(unled(&self.masters));
                    }
                }
                () = tokio::time::sleep_until(next), if is_news && known.is_whole() => {
                    let pace = Pace::begin();
                    let masters = self.masters.now(known.leader.map(|leader| leader.ip()));
                    let (told, snapshot) = aside(known, |known| known.snapshot(masters)).await;
                    known = told;
                    self.tell(snapshot);
                    next = pace.next();
                    (is_news, is_unkept) = (false, self.memory.is_some());
                }
                _ = still.tick(), if self.memory.is_some() && known.follower.is_begun() => {
                    is_unkept = true;
                }
                () = tokio::time::sleep_until(keep), if is_unkept => {
                    let is_kept;
                    (known, is_kept) = self.write(known).await;
                    pause = if is_kept {
                        Self::KEEP_CHANGES
                    } else {
                        (pause * 2).min(Self::KEEP_AT_MOST)
                    };
                    is_unkept = !is_kept;
                    keep = Instant::now() + pause;
                }
            }
        }
        if is_news || is_unkept {
            let kept = tokio::time::timeout(Self::KEEP_LAST, self.write(known)).await;
            if kept.is_err() {
                tracing::warn!("what was known last of names is not kept: the disk takes too long");
            }
        }
    }

    /// Keeps what a leader told, and says whether it is kept. What is only remembered is there already, with its time.
    async fn write(&self, known: Known) -> (Known, bool) {
        let memory = self.memory.clone().filter(|_| known.follower.is_begun());
        let (Some(memory), Some(leader)) = (memory, known.leader) else {
            return (known, true);
        };
        let masters = self.masters.now(Some(leader.ip()));
        let write = move |known: &mut Known| memory.write(leader, masters, &mut known.follower);
        aside(known, write).await
    }
}

/// Does what takes long with what is known, where no other work waits for it.
async fn aside<T: Send + 'static>(
    mut known: Known,
    work: impl FnOnce(&mut Known) -> T + Send + 'static,
) -> (Known, T) {
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&mut known);
        (known, done)
    });
    match done.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends.
            Err(_) => std::future::pending().await,
        },
    }
}

/// What a leading master told.
#[derive(Debug)]
struct Known {
    follower: Follower,
    leader: Option<SocketAddr>,
    is_recalled: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            follower: Follower::of_all(),
            leader: None,
            is_recalled: false,
        }
    }
}

impl Known {
    fn remember(&mut self, remembered: Remembered) {
        self.leader = remembered.around.leader;
        self.is_recalled = true;
        self.follower.recall(steady(), remembered, &mut ());
    }

    /// Whether there is enough to tell.
    fn is_whole(&self) -> bool {
        (self.follower.is_begun() || self.is_recalled) && self.leader.is_some()
    }

    fn snapshot(&self, masters: Vec<IpAddr>) -> Snapshot {
        self.follower.snapshot(self.leader, masters)
    }

    /// Says whether names may have changed.
    fn take_in(&mut self, told: Told, seeker: &mut Seeker) -> bool {
        match told {
            Told::Asked(..) => false,
            Told::Leader(leader) => {
                // A name is looked up beside; until it is found, whoever led before is told of.
                self.leader = seeker.seek(leader).or(self.leader);
                false
            }
            Told::Event(event) => {
                self.follower.apply(steady(), &event, &mut ());
                event.r#type() != event::Type::Heartbeat
            }
        }
    }
}

/// What is so before anybody leads.
fn unled(masters: &MasterList) -> Snapshot {
    Snapshot {
        masters: masters.now(None),
        ..Snapshot::default()
    }
}
