//! [`Watcher`]: looks what becomes of connections to backends, and has those avoided that the [`Detector`] finds dead.
//! [`Lookout`]: what sees these connections. A plug point.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dcos_core::time::steady;
use dcos_net::vip::{Protocol, Service, VipTable};
use tokio::sync::watch;

use crate::balancer::{Failures, View};
use crate::dataplane::Services;
use crate::detector::{Detector, Flow, Pace, Sight};
use crate::trial::Trial;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// The kernel walks through all that it tracks for each: of one processor no more than this part is spent with it. Time in which
/// others had the processor does not count: on a busy machine looks would be rare just when connections fail.
const SHARE: u32 = 50;
/// Within this time a backend that appears is tried first: of 1,000 nodes 17 try it in a second.
const SPREAD: Duration = Duration::from_secs(60);
/// Between two looks at trials that run.
const TICK: Duration = Duration::from_millis(50);
/// So long the kernel tracks a trial that nobody answered.
const TRACKED: Duration = Duration::from_secs(130);

/// Sees what becomes of connections on a node.
///
/// Calls may block. They are made one at a time, all by one thread, in the network namespace that the watcher was
/// [started](Watcher::start) in. After an error [`reopen`](Self::reopen) is called before anything else is asked; if the next
/// call fails as well, all that was known of backends is forgotten, and nobody is avoided. Otherwise connections are counted anew.
pub trait Lookout: fmt::Debug + Send + 'static {
    /// The connections that nobody has answered yet, whomever they are for.
    ///
    /// # Errors
    /// What the system said.
    fn waiting(&mut self) -> io::Result<Vec<Begun>>;

    /// Those that ended without an answer since this was asked last. None may be missing: what is given and neither fails nor waits
    /// counts as answered.
    ///
    /// # Errors
    /// What the system said; that some were lost.
    fn ended(&mut self) -> io::Result<Vec<Begun>>;

    /// How many connections each of `backends` was given by `services` so far; `None` if these change just now.
    ///
    /// # Errors
    /// What the system said.
    fn given(
        &mut self,
        backends: &[SocketAddr],
        services: &Services,
    ) -> io::Result<Option<BTreeMap<SocketAddr, u64>>>;

    /// Whether connections are led to a backend before anybody sees them: those look as if they were meant for it.
    fn is_behind_connect(&self) -> bool;

    /// Begins anew after an error: what was asked before is not answered any more.
    ///
    /// # Errors
    /// What the system said.
    fn reopen(&mut self) -> io::Result<()>;
}

/// A connection that nobody has answered, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Which it is: a later one between the same ends is another.
    pub flow: Flow,
    /// Its begin.
    pub client: SocketAddr,
    /// Where it was to go.
    pub to: SocketAddr,
    /// Where it went.
    pub backend: SocketAddr,
}

/// Looks at connections of one network namespace.
#[derive(Debug)]
pub struct Watcher {
    lookout: Box<dyn Lookout>,
    spread: Duration,
}

impl Watcher {
    /// One that sees by way of `lookout`.
    pub fn new(lookout: impl Lookout) -> Self {
        Self {
            lookout: Box::new(lookout),
            spread: SPREAD,
        }
    }

    /// Tries whoever appears within this time, instead of a minute: many nodes would do so at once if it were short.
    #[must_use]
    pub fn trying_within(self, spread: Duration) -> Self {
        Self { spread, ..self }
    }

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
            let pace = Pace {
                node: RandomState::new().hash_one("node"),
                spread: self.spread,
            };
            let watch = Watch {
                lookout: self.lookout,
                table,
                detector: Detector::new(pace),
                pace,
                known: Known::default(),
                counted: BTreeMap::new(),
                trials: Vec::new(),
                tried: VecDeque::new(),
                ended: Vec::new(),
                missed: None,
            };
            watch.run(&tell);
        })?;
        Ok(told)
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
    lookout: Box<dyn Lookout>,
    table: Arc<Mutex<VipTable>>,
    detector: Detector,
    pace: Pace,
    known: Known,
    /// The services of suspects when they were counted.
    counted: BTreeMap<SocketAddr, Services>,
    trials: Vec<Trial>,
    /// Which connections were trials: since when, from which port, to whom.
    tried: VecDeque<(Instant, u16, SocketAddr)>,
    /// What ended without an answer since the last look, and why more may have.
    ended: Vec<Begun>,
    missed: Option<io::Error>,
}

impl Watch {
    fn run(mut self, tell: &watch::Sender<Failures>) {
        let mut is_blind = false;
        while !tell.is_closed() {
            let (begun, worked) = (Instant::now(), worked());
            let looked = self.look().or_else(|error| {
                tracing::debug!(%error, "looking at connections to backends once more");
                self.lookout.reopen()?;
                self.detector.recount();
                self.look()
            });
            if let Err(error) = &looked {
                if !is_blind {
                    tracing::warn!(%error, "connections to backends are not looked at: none that is dead is avoided");
                }
                self.detector = Detector::new(self.pace);
                self.known = Known::default();
            }
            is_blind = looked.is_err();
            self.tell(tell);
            let spent = self::worked().saturating_sub(worked);
            self.try_some(begun + PAUSE.max(spent * SHARE), tell);
        }
    }

    /// Looks once.
    fn look(&mut self) -> io::Result<()> {
        self.learn();
        self.listen();
        let ended = std::mem::take(&mut self.ended);
        if let Some(error) = self.missed.take() {
            return Err(error);
        }
        if !self.known.has_choice && self.detector.is_idle() {
            // Nobody could be avoided.
            return Ok(());
        }
        let given = self.given()?;
        let waiting = self.lookout.waiting()?;
        // What is waited for no more must be known to have failed.
        self.listen();
        let ended = ended.into_iter().chain(std::mem::take(&mut self.ended));
        let ended: Vec<Begun> = ended.collect();
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

    /// Takes what ended, before there is more of it than the kernel keeps.
    fn listen(&mut self) {
        match self.lookout.ended() {
            Ok(ended) => self.ended.extend(ended),
            Err(error) => self.missed = Some(error),
        }
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
                self.lookout.is_behind_connect()
                    && !tried.any(|(_, port, to)| (*port, *to) == trial)
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
        // Those that change just now are counted next time.
        let given = self.lookout.given(backends, &all)?;
        Ok(given.unwrap_or_default())
    }

    /// Tries whoever is to be tried, until it is time for the next look.
    fn try_some(&mut self, until: Instant, tell: &watch::Sender<Failures>) {
        // Once at least: a look may take long.
        loop {
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
            let is_calm = self.trials.is_empty() && self.detector.suspects().next().is_none();
            let tick = if is_calm { PAUSE } else { TICK };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || tell.is_closed() {
                break;
            }
            std::thread::sleep(left.min(tick));
            self.listen();
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

/// For how long this thread has had a processor.
fn worked() -> Duration {
    let worked = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(worked).unwrap_or_default()
}
