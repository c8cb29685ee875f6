//! [`Watcher`]: looks what becomes of connections to backends, and has those avoided that the [`Detector`] finds dead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dcos_core::time::steady;
use dcos_net::vip::{Protocol, Service, VipTable};
use dcos_netlink::{Events, Protocol as Family, Socket};
use tokio::sync::watch;

use super::conntrack::{self, Begun};
use super::counters::Counters;
use super::trial::Trial;
use crate::balancer::{Failures, View};
use crate::dataplane::Services;
use crate::detector::{Detector, Sight};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// The kernel walks through all that it tracks for each: of one processor no more than this part is spent with it.
const SHARE: u32 = 50;
/// Between two looks at trials that run.
const TICK: Duration = Duration::from_millis(50);
/// So long the kernel tracks a trial that nobody answered.
const TRACKED: Duration = Duration::from_secs(130);

/// Looks at connections of one network namespace.
#[derive(Debug)]
pub struct Watcher {
    pub(super) socket: Socket,
    pub(super) ended: Events,
    pub(super) counters: Counters,
    /// Whether connections are balanced at `connect()`: those look as if they were meant for their backend.
    pub(super) at_connect: bool,
}

impl Watcher {
    /// Looks from now on, in a thread in the network namespace of this one, at connections to what `view` knows, until what is
    /// given back is dropped. Should the thread end before, by a panic, what is given back is closed.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(self, view: &View) -> io::Result<watch::Receiver<Failures>> {
        let (tell, told) = watch::channel(Failures::default());
        let table = Arc::clone(&view.table);
        let thread = std::thread::Builder::new().name("l4lb-watcher".to_owned());
        thread.spawn(move || {
            let watch = Watch {
                watcher: self,
                table,
                detector: Detector::default(),
                known: Known::default(),
                counted: BTreeMap::new(),
                trials: Vec::new(),
                tried: VecDeque::new(),
            };
            watch.run(&tell);
        })?;
        Ok(told)
    }

    /// Opens its sockets anew.
    fn reopen(&mut self) -> io::Result<()> {
        self.socket = Socket::open(Family::Netfilter)?;
        self.ended = conntrack::unanswered()?;
        self.counters.reopen()
    }
}

/// What the table says, as of a revision.
#[derive(Debug, Default)]
struct Known {
    revision: Option<u64>,
    backends: BTreeSet<SocketAddr>,
    /// Whether others could take the connections of any.
    has_choice: bool,
}

#[derive(Debug)]
struct Watch {
    watcher: Watcher,
    table: Arc<Mutex<VipTable>>,
    detector: Detector,
    known: Known,
    /// The services of suspects when they were counted.
    counted: BTreeMap<SocketAddr, Services>,
    trials: Vec<Trial>,
    /// Which connections were trials: since when, from which port, to whom.
    tried: VecDeque<(Instant, u16, SocketAddr)>,
}

impl Watch {
    fn run(mut self, tell: &watch::Sender<Failures>) {
        let mut is_blind = false;
        while !tell.is_closed() {
            let begun = Instant::now();
            // What a socket still has to say after an error belongs to nothing that is asked next.
            let looked = self.look().or_else(|error| {
                tracing::debug!(%error, "looking at connections to backends once more");
                self.watcher.reopen()?;
                self.look()
            });
            if let Err(error) = &looked {
                if !is_blind {
                    tracing::warn!(%error, "connections to backends are not looked at: none that is dead is avoided");
                }
                self.detector = Detector::default();
                self.known = Known::default();
            }
            is_blind = looked.is_err();
            self.tell(tell);
            let spent = begun.elapsed();
            self.try_some(begun + PAUSE.max(spent * SHARE), tell);
        }
    }

    /// Looks once.
    fn look(&mut self) -> io::Result<()> {
        self.learn();
        if !self.known.has_choice && self.detector.is_idle() {
            // Nobody could be avoided.
            self.watcher.ended.drain(|_| {})?;
            return Ok(());
        }
        let given = self.given()?;
        let waiting = conntrack::waiting(&mut self.watcher.socket)?;
        let mut ended = Vec::new();
        let take = |entry: &[u8]| ended.extend(conntrack::read_begun(entry));
        self.watcher.ended.drain(take)?;
        let ours = |begun: Vec<Begun>| {
            let table = self.table();
            let ours = begun
                .into_iter()
                .filter(|begun| self.is_ours(&table, begun));
            ours.map(|begun| (begun.flow, begun.backend)).collect()
        };
        let sight = Sight {
            waiting: ours(waiting),
            failed: ours(ended),
            given,
        };
        self.detector.look(steady(), &sight);
        self.count()
    }

    /// Reads the table again, if it changed.
    fn learn(&mut self) {
        let table = self.table();
        if self.known.revision == Some(table.revision()) {
            return;
        }
        let replaceable = table.replaceable();
        let known = Known {
            revision: Some(table.revision()),
            backends: table.connected(),
            has_choice: !replaceable.is_empty(),
        };
        drop(table);
        self.detector.meet(steady(), &known.backends, &replaceable);
        self.known = known;
    }

    /// Whether a connection is to one of the backends, by way of a virtual address.
    fn is_ours(&self, table: &VipTable, begun: &Begun) -> bool {
        let service = Service {
            protocol: Protocol::Tcp,
            address: begun.to,
        };
        let trial = (begun.client.port(), begun.backend);
        self.known.backends.contains(&begun.backend)
            && if begun.to == begun.backend {
                let mut tried = self.tried.iter();
                self.watcher.at_connect && !tried.any(|(_, port, to)| (*port, *to) == trial)
            } else {
                table.told().contains_key(&service)
            }
    }

    /// The services that lead to each of these.
    fn services(&self, backends: &[SocketAddr]) -> BTreeMap<SocketAddr, Services> {
        let mut services: BTreeMap<SocketAddr, Services> =
            backends.iter().map(|one| (*one, Services::new())).collect();
        if services.is_empty() {
            return services;
        }
        for (service, all) in self.table().told() {
            for backend in all {
                if let Some(of) = services.get_mut(backend)
                    && service.protocol == Protocol::Tcp
                {
                    of.insert(*service, all.clone());
                }
            }
        }
        services
    }

    /// How many connections suspects were given, where they are counted as before.
    fn given(&mut self) -> io::Result<BTreeMap<SocketAddr, u64>> {
        let suspects: Vec<SocketAddr> = self.detector.suspects().collect();
        let services = self.services(&suspects);
        self.counted
            .retain(|backend, counted| services.get(backend) == Some(counted));
        let suspects: Vec<SocketAddr> = self.counted.keys().copied().collect();
        self.read(&suspects, &services)
    }

    /// Begins to count those that never were.
    fn count(&mut self) -> io::Result<()> {
        let uncounted: Vec<SocketAddr> = self.detector.uncounted().collect();
        let services = self.services(&uncounted);
        for (backend, given) in self.read(&uncounted, &services)? {
            self.detector.count(steady(), backend, given);
        }
        self.counted.extend(services);
        Ok(())
    }

    fn read(
        &mut self,
        backends: &[SocketAddr],
        services: &BTreeMap<SocketAddr, Services>,
    ) -> io::Result<BTreeMap<SocketAddr, u64>> {
        if backends.is_empty() {
            return Ok(BTreeMap::new());
        }
        let all = services.values().flatten();
        let all: Services = all.map(|(of, backends)| (*of, backends.clone())).collect();
        match self.watcher.counters.given(backends, &all) {
            // It changes just now: they are counted next time.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(BTreeMap::new()),
            given => given,
        }
    }

    /// Tries whoever is to be tried, until it is time for the next look.
    fn try_some(&mut self, until: Instant, tell: &watch::Sender<Failures>) {
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !left.is_zero()
            && !tell.is_closed()
        {
            while let Some(backend) = self.detector.poll(steady()) {
                let trial = Trial::begin(backend);
                if let Some(own) = trial.own {
                    self.tried.push_back((Instant::now(), own.port(), backend));
                }
                self.trials.push(trial);
            }
            let detector = &mut self.detector;
            self.trials.retain(|trial| {
                let outcome = trial.outcome();
                if let Some(outcome) = outcome {
                    detector.tried(steady(), trial.backend, outcome);
                }
                outcome.is_none()
            });
            self.tell(tell);
            let tick = if self.trials.is_empty() { PAUSE } else { TICK };
            std::thread::sleep(left.min(tick));
        }
        let is_old = |(begun, ..): &mut (Instant, u16, SocketAddr)| begun.elapsed() >= TRACKED;
        while self.tried.pop_front_if(is_old).is_some() {}
    }

    fn tell(&self, tell: &watch::Sender<Failures>) {
        let avoided = self.detector.avoided();
        tell.send_if_modified(|told| {
            for backend in avoided.difference(&told.avoided) {
                tracing::warn!(%backend, "connections to a backend fail: it is avoided where a VIP may do without, and tried now and then");
            }
            for backend in told.avoided.difference(&avoided) {
                tracing::info!(%backend, "a backend is given connections again");
            }
            let reached = self.detector.reached();
            let is_new = told.avoided != avoided
                || told.counts != *self.detector.failures()
                || told.reached != reached;
            if is_new {
                told.avoided = avoided;
                told.counts.clone_from(self.detector.failures());
                told.reached = reached;
            }
            is_new
        });
    }

    /// Nobody panics while holding it; if somebody did, the table is whole all the same.
    fn table(&self) -> MutexGuard<'_, VipTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
