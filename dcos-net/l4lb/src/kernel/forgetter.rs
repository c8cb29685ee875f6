//! [`Forgetter`]: has the connection tracking forget flows to backends that are gone, beside the changes and not within
//! them. What is tracked is read as a whole, which takes as long as its table is large (tens of milliseconds); no change
//! of the maps waits for that.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dcos_net::vip::Service;
use dcos_netlink::{Protocol as Family, Socket};

use super::connect::Peers;
use super::conntrack;

/// After the first failure it is tried again so soon, and half as often after each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Between two looks at sockets that wait: their kernel asks again after a second.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// So often it is looked at least. Who drew before its backend went may begin to wait after the first look; and a look
/// may fail.
const LOOKS: u32 = 3;

/// A thread that forgets, in the network namespace of the one that started it. Dropped, it does first what is left to do.
#[derive(Debug)]
pub(super) struct Forgetter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Services that lost backends, as many as there are services at most.
    losers: HashMap<Service, Loser>,
    /// Services whose sockets are looked at, as long as some wait.
    watched: HashMap<Service, Watched>,
    ended: bool,
}

impl State {
    /// Whether a service that lost backends does not have this one, as of now.
    fn is_gone(&self, service: &Service, backend: &SocketAddr) -> bool {
        let loser = self.losers.get(service);
        loser.is_none_or(|loser| !loser.left.contains(backend))
    }

    /// Begins to look at the sockets of services that lost backends, or looks once more: gives back what services have left.
    fn watch(&mut self) -> conntrack::Losers {
        for (service, loser) in &self.losers {
            let (left, looks) = (loser.left.clone(), LOOKS);
            self.watched.insert(*service, Watched { left, looks });
        }
        for watched in self.watched.values_mut() {
            watched.looks = watched.looks.saturating_sub(1);
        }
        let watched = self.watched.iter();
        let left = watched.map(|(service, watched)| (*service, watched.left.clone()));
        left.collect()
    }
}

#[derive(Debug)]
struct Loser {
    /// The backends it has.
    left: Vec<SocketAddr>,
    /// Whether it lost one that no pass knew of which has begun.
    anew: bool,
}

#[derive(Debug)]
struct Watched {
    /// The backends it has.
    left: Vec<SocketAddr>,
    /// How often it is looked at again, even if nobody waits.
    looks: u32,
}

impl Forgetter {
    /// One that also ends the waiting of sockets that chose their backend at `connect()`, if there are such.
    pub(super) fn start(peers: Option<Peers>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let working = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("l4lb-forgetter".to_owned());
        let thread = Some(thread.spawn(move || working.run(peers))?);
        Ok(Self { shared, thread })
    }

    /// A service is about to have backends: from now on flows to them stay.
    pub(super) fn expect<'a>(&self, coming: impl Iterator<Item = (&'a Service, &'a [SocketAddr])>) {
        let mut state = self.shared.lock();
        if state.losers.is_empty() && state.watched.is_empty() {
            return;
        }
        for (service, backends) in coming {
            if let Some(loser) = state.losers.get_mut(service) {
                loser.left.extend(backends);
            }
            if let Some(watched) = state.watched.get_mut(service) {
                watched.left.extend(backends);
            }
        }
    }

    /// A service has these backends now, and lost some if it `loses`: flows to those are forgotten.
    pub(super) fn tell<'a>(
        &self,
        now: impl Iterator<Item = (&'a Service, &'a [SocketAddr], bool)>,
    ) {
        let mut state = self.shared.lock();
        for (service, backends, loses) in now {
            if let Some(watched) = state.watched.get_mut(service) {
                watched.left = backends.to_vec();
            }
            if let Some(loser) = state.losers.get_mut(service) {
                loser.left = backends.to_vec();
                loser.anew |= loses;
            } else if loses {
                let (left, anew) = (backends.to_vec(), true);
                state.losers.insert(*service, Loser { left, anew });
            }
        }
        self.shared.changed.notify_all();
    }

    /// Waits until nothing is left to forget.
    pub(super) fn wait(&self) {
        let forgotten = |state: &mut State| !state.losers.is_empty();
        let waited = self
            .shared
            .changed
            .wait_while(self.shared.lock(), forgotten);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Forgetter {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Each change of the state is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut peers: Option<Peers>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut state = self.idle();
            if state.losers.is_empty() && state.ended {
                return;
            }
            if let Some(some) = &peers {
                let watched = state.watch();
                drop(state);
                if let Err(error) = self.abort(some, &watched) {
                    tracing::warn!(%error, "connections may wait for backends that are gone");
                    // What a kernel does not have it will not have next time.
                    let never = [libc::EOPNOTSUPP, libc::EINVAL, libc::EPERM, libc::ENOENT];
                    if error.raw_os_error().is_some_and(|no| never.contains(&no)) {
                        peers = None;
                        self.lock().watched.clear();
                    }
                }
                state = self.lock();
            }
            if state.losers.is_empty() {
                continue;
            }
            for loser in state.losers.values_mut() {
                loser.anew = false;
            }
            let losers = state.losers.iter();
            let losers = losers.map(|(service, loser)| (*service, loser.left.clone()));
            let losers: conntrack::Losers = losers.collect();
            drop(state);
            let begun = Instant::now();
            let done = self.pass(&losers);
            let mut state = self.lock();
            let rest = match done {
                Ok(forgotten) => {
                    tracing::debug!(forgotten, "flows choose another backend");
                    state.losers.retain(|_, loser| loser.anew);
                    self.changed.notify_all();
                    pause = FIRST_PAUSE;
                    // Where backends go all the time, every second moment at most is spent with it.
                    begun.elapsed()
                }
                Err(error) => {
                    tracing::warn!(%error, "flows may still go to backends that are gone");
                    if state.ended {
                        return;
                    }
                    let rest = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    rest
                }
            };
            let ended = |state: &mut State| !state.ended;
            drop(self.changed.wait_timeout_while(state, rest, ended));
        }
    }

    /// Waits until there is something to do, or nothing will be any more.
    fn idle(&self) -> MutexGuard<'_, State> {
        let idle = |state: &mut State| state.losers.is_empty() && !state.ended;
        let look = |state: &mut State| idle(state) && state.watched.is_empty();
        let state = self.changed.wait_while(self.lock(), look);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, LOOK_AGAIN, idle);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends the waiting of sockets that chose a backend which went without an answer to them, of services that are watched,
    /// and watches those no longer that have no such socket left. An error is one of looking.
    fn abort(&self, peers: &Peers, watched: &conntrack::Losers) -> std::io::Result<()> {
        let mut socket = Socket::open(Family::Diagnosis)?;
        let found = peers.stuck(&mut socket, watched);
        let mut waiting = HashSet::new();
        for stuck in found.iter().flatten() {
            if !stuck.is_in_vain {
                waiting.insert(stuck.service);
                continue;
            }
            let state = self.lock();
            // It may have come back meanwhile; whoever began before that is told to begin again.
            let left = state.watched.get(&stuck.service);
            let is_gone = left.is_some_and(|watched| !watched.left.contains(&stuck.backend));
            drop(state);
            if is_gone && let Err(error) = stuck.abort(&mut socket) {
                let backend = stuck.backend;
                tracing::warn!(%error, %backend, "a connection may wait for a backend that is gone");
            }
        }
        let mut state = self.lock();
        state
            .watched
            .retain(|service, watched| watched.looks > 0 || waiting.contains(service));
        found.map(drop)
    }

    /// Forgets what goes to backends that services lost; says how many flows that were.
    fn pass(&self, losers: &conntrack::Losers) -> std::io::Result<usize> {
        // One of its own each time: nothing of a pass that failed is answered to the next.
        let mut socket = Socket::open(Family::Netfilter)?;
        let stale = conntrack::stale(&mut socket, losers)?;
        let mut forgotten = 0;
        for some in stale.chunks(256) {
            // Some may have come back meanwhile, with new flows.
            let state = self.lock();
            let some = some
                .iter()
                .filter(|flow| state.is_gone(&flow.service, &flow.backend));
            let request = conntrack::deletion(some);
            drop(state);
            forgotten += conntrack::delete(&mut socket, &request)?;
        }
        Ok(forgotten)
    }
}
