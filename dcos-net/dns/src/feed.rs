//! [`Feed`]: snapshots of the cluster for a name server, from what the leading master tells or from who leads itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::time::steady;
use dcos_net::{Around, Follower, Journal, Keeper, Keeping, Remembered, Snapshot};
use dcos_proto::master::event;
use dcos_proto::master::response::GetState;
use dcos_wire::Told;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::leader::Seeker;
use crate::{MasterList, Pace};

/// What is taken in at once.
const BATCH: usize = 512;

/// Where the snapshots come from that a [`Server`](crate::Server) answers from.
#[derive(Debug)]
pub struct Feed {
    publish: watch::Sender<Arc<Snapshot>>,
    /// Which masters there are.
    pub masters: MasterList,
    /// Nothing waits for it: a disk may hang.
    keeper: Option<Keeper>,
}

impl Feed {
    /// The least time between two times at which all that is known is kept.
    pub const KEEP: Duration = Duration::from_secs(10);
    /// How often it is noted that nothing changed.
    pub const STILL: Duration = Journal::STILL;

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
            keeper: memory.map(|memory| Keeper::new("names", memory)),
        };
        (feed, published)
    }

    /// Tells what is so now, and of agents that are still awaited what was.
    pub fn tell(&self, now: Snapshot) {
        self.publish
            .send_modify(|told| *told = Arc::new(now.after(told)));
    }

    /// Whether anything could be [kept](Self::keep) now: not without a file, nor while something is written or soon after that
    /// failed.
    pub fn is_idle(&self) -> bool {
        self.keeper.as_ref().is_some_and(Keeper::is_idle)
    }

    /// Begins to keep what a leader knows, for whoever begins with the file while nobody leads, unless that is
    /// [impossible now](Self::is_idle). What `state` is, it says where it may take its time.
    pub fn keep(&mut self, leader: SocketAddr, state: impl FnOnce() -> GetState + Send + 'static) {
        let around = self.around(leader);
        if let Some(keeper) = &mut self.keeper {
            keeper.keep_all(around, move || all(&state()));
        }
    }

    /// Notes that what was [kept](Self::keep) is still so, and says whether that can be: all has to be kept anew otherwise.
    pub fn still(&mut self) -> bool {
        self.keeper.as_mut().is_none_or(Keeper::still)
    }

    /// Whether what was to be [kept](Self::keep) last was, or is on its way.
    pub fn has_kept(&self) -> bool {
        self.keeper.as_ref().is_none_or(Keeper::has_kept)
    }

    /// Waits until something is to be done: there are other masters, if this says so; otherwise what was to be kept was, or it
    /// is to be tried again.
    pub async fn changed(&mut self) -> bool {
        tokio::select! {
            () = self.masters.changed() => true,
            _ = written(&mut self.keeper) => false,
        }
    }

    /// Keeps the last of what a leader knows, if there is anything new, unless a disk takes too long for that.
    pub async fn finish(
        &mut self,
        leader: SocketAddr,
        state: Option<impl FnOnce() -> GetState + Send + 'static>,
    ) {
        let around = self.around(leader);
        let last = move |keeper: &mut Keeper| {
            if let Some(state) = state {
                keeper.keep_all(around, move || all(&state()));
            }
        };
        if let Some(keeper) = &mut self.keeper {
            keeper.finish(last).await;
        }
    }

    /// Tells what the leading master tells, until nobody sends that any more or `stop` is cancelled; what was told last is kept
    /// then, unless a disk takes too long for that.
    pub async fn follow(&mut self, news: &mut mpsc::Receiver<Told>, stop: &CancellationToken) {
        let mut known = Known::default();
        if let Some(keeper) = &self.keeper {
            let left = tokio::select! {
                left = keeper.read() => left,
                () = stop.cancelled() => return,
            };
            if let Some((remembered, _)) = left {
                let masters = remembered.around.addresses.iter().copied().collect();
                known.remember(*remembered);
                if known.is_whole() {
                    self.tell(known.snapshot(masters));
                }
            }
        }
        let mut batch = Vec::with_capacity(BATCH);
        let mut seeker = Seeker::default();
        let (mut is_news, mut is_unkept) = (false, false);
        let mut next = Instant::now();
        let mut still = interval(Self::STILL);
        still.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if is_unkept && self.is_idle() {
                is_unkept = false;
                self.write(&mut known);
            }
            let deadline = known.follower.next_deadline();
            let due = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep(deadline - steady()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
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
                    let (told, now) = snapshot(known, masters).await;
                    known = told;
                    self.tell(now);
                    next = pace.next();
                    (is_news, is_unkept) = (false, true);
                }
                _ = still.tick() => is_unkept = true,
                is_kept = written(&mut self.keeper) => is_unkept |= !is_kept,
            }
        }
        let around = known.told_by().map(|leader| self.around(leader));
        if let (Some(around), Some(keeper)) = (around, &mut self.keeper) {
            let last = |keeper: &mut Keeper| keeper.keep(&around, &mut known.follower);
            keeper.finish(last).await;
        }
    }

    /// Begins to keep what a leader told. What is only remembered is there already, with its time.
    fn write(&mut self, known: &mut Known) {
        let around = known.told_by().map(|leader| self.around(leader));
        if let (Some(around), Some(keeper)) = (around, &mut self.keeper) {
            keeper.keep(&around, &mut known.follower);
        }
    }

    /// What is kept besides.
    fn around(&self, leader: SocketAddr) -> Around {
        let masters = self.masters.now(Some(leader.ip()));
        Around {
            leader: Some(leader),
            addresses: masters.into_iter().collect(),
        }
    }
}

/// What becomes of what is being kept; see [`Keeper::written`].
async fn written(keeper: &mut Option<Keeper>) -> bool {
    match keeper {
        Some(keeper) => keeper.written().await,
        None => std::future::pending().await,
    }
}

/// Reads every task where no other work waits for it.
async fn snapshot(known: Known, masters: Vec<IpAddr>) -> (Known, Snapshot) {
    let done = tokio::task::spawn_blocking(move || {
        let snapshot = known.snapshot(masters);
        (known, snapshot)
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

/// What a leader knows.
fn all(state: &GetState) -> Follower {
    let mut known = Follower::of_all();
    known.begin(steady(), state, &mut ());
    known
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

    /// The leader, once one told.
    fn told_by(&self) -> Option<SocketAddr> {
        self.leader.filter(|_| self.follower.is_begun())
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
