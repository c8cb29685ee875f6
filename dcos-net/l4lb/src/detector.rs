//! [`Detector`]: which backends are dead, by what becomes of the connections they are given. Pure.
//!
//! ```text
//! meet (whenever backends change) ─► poll: somebody new to try ─► tried: its trials are evidence once one was answered
//! look (each second) ─► a connection fails: its backend is suspected ─► poll: somebody to try ─► tried
//!                        └─ others are answered meanwhile, or the trial is: acquitted       └─► avoided, and tried again
//! ```
//!
//! A connection fails that is refused, or that nobody answers in [`PATIENCE`]. Its backend is dead if a connection of the
//! node's own, the trial, fails as well although an earlier one was answered, and no other was answered since: one that is slow,
//! so busy that it hears only some, or reached by clients only, is not. Who refuses is tried twice: one that restarts does so for a
//! moment. The next trial that is answered brings it back.
//!
//! All nodes see a backend appear or die at once: [`Pace`] has each of them try it at another time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::time::Duration;

use dcos_core::time::Time;

/// So long a connection waits until it counts as failed: its client has asked three times by then.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// So long until its backend is suspected: its client has asked twice.
const DOUBT: Duration = Duration::from_secs(1);
/// For so long nobody is suspected again who was found to be alive: trials are not to become a load.
const REST: Duration = Duration::from_secs(5);
/// Between two trials of a backend that is avoided, first; then twice as long each time, up to the second.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);
/// For so long nobody is avoided without a connection of clients in between: they may reach whom the node does not.
const BOUND: Duration = Duration::from_secs(300);
/// Who fails again within this time comes back later than before.
const MEMORY: Duration = Duration::from_secs(600);
/// So many trials run at a time.
const TRIALS: usize = 64;
/// So many of those whom nobody suspects are tried in a second: a node that starts meets all there are at once.
const MEETINGS: u32 = 32;
/// Between two trials of one that never answered any, first, or as long as the [spread](Pace::spread); then twice as long each time,
/// up to the second.
const MEETING_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_MEETING_PAUSE: Duration = Duration::from_secs(512);

/// A connection, as long as it is tracked.
pub type Flow = u64;

/// What is seen of connections to backends at a moment.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Those that nobody has answered yet.
    pub waiting: BTreeMap<Flow, SocketAddr>,
    /// Those that ended without an answer since the last look, as of after `waiting`.
    pub failed: BTreeMap<Flow, SocketAddr>,
    /// How many connections the [suspects](Detector::suspects) were given so far, as of before `waiting`. Who is not there is not
    /// known, or was counted otherwise than at [`count`](Detector::count).
    pub given: BTreeMap<SocketAddr, u64>,
}

/// What became of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// It was refused, or nobody answered.
    Failed,
    /// Nothing: it could not be made.
    Unknown,
}

/// When this node tries whom: no node is in step with others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// What is this node's alone.
    pub node: u64,
    /// Within this time somebody new is tried first.
    pub spread: Duration,
}

impl Pace {
    /// A part of `all`, evenly spread over nodes, backends and moments.
    fn part(&self, all: Duration, backend: SocketAddr, now: Time) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.node, backend, now).hash(&mut hasher);
        let [one, two, ..] = hasher.finish().to_be_bytes();
        all * u32::from(u16::from_be_bytes([one, two])) / (1 << 16)
    }

    /// From half of a pause to all of it.
    fn pause(&self, pause: Duration, now: Time, backend: SocketAddr) -> Duration {
        pause / 2 + self.part(pause / 2, backend, now)
    }
}

/// Judges backends.
///
/// [`meet`](Self::meet) says who they are. [`look`](Self::look) takes in what is seen; then [`poll`](Self::poll) says who is to be tried until it says `None`, and those of
/// [`uncounted`](Self::uncounted) are to be [`count`](Self::count)ed. [`tried`](Self::tried) may come at any time.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    pace: Pace,
    met: BTreeMap<SocketAddr, Meeting>,
    /// Whom to try next of those who never answered and have an alternative, and when.
    to_meet: BTreeSet<(Time, SocketAddr)>,
    /// How many of them were tried since the start of a second.
    meetings: (Time, u32),
    waiting: BTreeMap<Flow, Waiting>,
    backends: BTreeMap<SocketAddr, Known>,
    failures: BTreeMap<SocketAddr, u64>,
}

#[derive(Clone, Debug)]
struct Waiting {
    backend: SocketAddr,
    /// When it was seen first.
    since: Time,
    /// Whether it counted as a failure.
    has_failed: bool,
}

/// Whether trials of a backend tell anything: the node may not reach whom clients do.
#[derive(Clone, Copy, Debug)]
enum Meeting {
    /// None was answered yet.
    Sought(Search),
    /// One was answered.
    Met,
}

#[derive(Clone, Copy, Debug)]
struct Search {
    trial: Trial,
    /// So long after one that fails, another is made.
    pause: Duration,
    /// Whether anybody could have its connections: otherwise it is not tried.
    has_alternative: bool,
}

/// What is known of a backend of which there is something to know.
#[derive(Clone, Debug, Default)]
struct Known {
    state: State,
    /// What was seen by then is no evidence.
    acquitted: Time,
    /// Until then it is not suspected.
    rest: Time,
    /// How often it was found dead, and when last.
    deaths: u32,
    died: Time,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Fine,
    Suspected(Suspicion),
    Avoided {
        since: Time,
        trial: Trial,
        pause: Duration,
    },
}

#[derive(Clone, Debug)]
struct Suspicion {
    /// When it was counted, and how many connections it had been given by then.
    base: Option<(Time, u64)>,
    /// How many connections given after that ended without an answer.
    lost: u64,
    /// How many waited and wait no more: they were answered.
    answered: u64,
    /// Whether one was refused.
    is_refusing: bool,
    trial: Trial,
    /// How many trials failed, and how many have to.
    failures: u32,
    needs: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    Due(Time),
    Running,
}

/// What waits for a backend.
#[derive(Clone, Copy, Default)]
struct Queue {
    oldest: Option<Time>,
    /// How many came after it was counted.
    new: u64,
}

impl Detector {
    /// One that knows nobody.
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            ..Self::default()
        }
    }

    /// These are the backends from `now` on. Who is none any more is forgotten, not who has no alternative for a moment. Those
    /// that are `replaceable` are to be tried until they answer, so that later trials tell something.
    pub fn meet(
        &mut self,
        now: Time,
        backends: &BTreeSet<SocketAddr>,
        replaceable: &BTreeSet<SocketAddr>,
    ) {
        self.met.retain(|backend, _| backends.contains(backend));
        self.backends
            .retain(|backend, _| backends.contains(backend));
        self.failures
            .retain(|backend, _| backends.contains(backend));
        self.waiting
            .retain(|_, waiting| backends.contains(&waiting.backend));
        self.to_meet.clear();
        for backend in backends {
            let meeting = self.met.entry(*backend).or_insert_with(|| {
                Meeting::Sought(Search {
                    trial: Trial::Due(now + self.pace.part(self.pace.spread, *backend, now)),
                    pause: MEETING_PAUSE.max(self.pace.spread),
                    has_alternative: false,
                })
            });
            if let Meeting::Sought(search) = meeting {
                let is_new = !search.has_alternative && replaceable.contains(backend);
                search.has_alternative = replaceable.contains(backend);
                if is_new && matches!(search.trial, Trial::Due(at) if at.is_due(now)) {
                    // It is so on all nodes at once.
                    let part = self.pace.part(self.pace.spread, *backend, now);
                    search.trial = Trial::Due(now + part);
                }
                self.to_meet.extend(search.due().map(|due| (due, *backend)));
            }
        }
    }

    /// Takes in what is seen at `now`, and judges. Whoever is no backend does not count.
    pub fn look(&mut self, now: Time, sight: &Sight) {
        self.take_in(now, sight);
        let queues = self.queues();
        for (backend, queue) in &queues {
            let doubtful = queue.oldest.is_some_and(|since| since + DOUBT <= now);
            if doubtful {
                self.suspect(now, *backend);
            }
        }
        for (backend, known) in &mut self.backends {
            let queue = queues.get(backend).copied().unwrap_or_default();
            let is_met = matches!(self.met.get(backend), Some(Meeting::Met));
            let pause = |pause| self.pace.pause(pause, now, *backend);
            known.judge(now, queue, sight.given.get(backend).copied(), is_met, pause);
        }
        let waited_for: BTreeSet<SocketAddr> =
            self.waiting.values().map(|flow| flow.backend).collect();
        self.backends.retain(|backend, known| {
            !matches!(known.state, State::Fine)
                || !known.rest.is_due(now)
                || waited_for.contains(backend)
                || (known.deaths > 0 && !(known.died + MEMORY).is_due(now))
        });
    }

    fn take_in(&mut self, now: Time, sight: &Sight) {
        let mut before = std::mem::take(&mut self.waiting);
        let met = &self.met;
        let is_backend = |(_, backend): &(&Flow, &SocketAddr)| met.contains_key(*backend);
        let failed: Vec<_> = sight.failed.iter().filter(is_backend).collect();
        let waiting: Vec<_> = sight.waiting.iter().filter(is_backend).collect();
        for (flow, backend) in failed {
            let was = before.remove(flow);
            if was.as_ref().is_none_or(|was| !was.has_failed) {
                *self.failures.entry(*backend).or_default() += 1;
            }
            self.suspect(now, *backend);
            if let Some(suspicion) = self.suspicion(backend) {
                suspicion.is_refusing = true;
                let is_counted = was.is_none_or(|was| suspicion.is_new(was.since));
                suspicion.lost += u64::from(is_counted);
            }
        }
        for (flow, backend) in waiting {
            if sight.failed.contains_key(flow) {
                continue;
            }
            let mut waiting = before.remove(flow).unwrap_or(Waiting {
                backend: *backend,
                since: now,
                has_failed: false,
            });
            if !waiting.has_failed && (waiting.since + PATIENCE).is_due(now) {
                waiting.has_failed = true;
                *self.failures.entry(*backend).or_default() += 1;
            }
            self.waiting.insert(*flow, waiting);
        }
        for answered in before.into_values() {
            if let Some(suspicion) = self.suspicion(&answered.backend) {
                suspicion.answered += 1;
            }
        }
    }

    /// What waits for each, and is evidence.
    fn queues(&self) -> BTreeMap<SocketAddr, Queue> {
        let mut queues: BTreeMap<SocketAddr, Queue> = BTreeMap::new();
        for flow in self.waiting.values() {
            let known = self.backends.get(&flow.backend);
            if known.is_some_and(|known| flow.since <= known.acquitted) {
                continue;
            }
            let queue = queues.entry(flow.backend).or_default();
            let oldest = queue.oldest.get_or_insert(flow.since);
            *oldest = flow.since.min(*oldest);
            let is_new = known.is_some_and(
                |known| matches!(&known.state, State::Suspected(it) if it.is_new(flow.since)),
            );
            queue.new += u64::from(is_new);
        }
        queues
    }

    fn suspicion(&mut self, backend: &SocketAddr) -> Option<&mut Suspicion> {
        match &mut self.backends.get_mut(backend)?.state {
            State::Suspected(suspicion) => Some(suspicion),
            _ => None,
        }
    }

    fn suspect(&mut self, now: Time, backend: SocketAddr) {
        let known = self.backends.entry(backend).or_default();
        if matches!(known.state, State::Fine) && known.rest.is_due(now) {
            known.state = State::Suspected(Suspicion {
                base: None,
                lost: 0,
                answered: 0,
                is_refusing: false,
                trial: Trial::Due(now),
                failures: 0,
                needs: 1,
            });
        }
    }

    /// Those whose connections are to be counted before the next look.
    pub fn suspects(&self) -> impl Iterator<Item = SocketAddr> {
        let known = self.backends.iter();
        known
            .filter(|(_, known)| matches!(known.state, State::Suspected(_)))
            .map(|(backend, _)| *backend)
    }

    /// Those of them that were never counted: it is to be done right after a look.
    pub fn uncounted(&self) -> impl Iterator<Item = SocketAddr> {
        let is_uncounted = |known: &Known| matches!(&known.state, State::Suspected(suspicion) if suspicion.base.is_none());
        let known = self.backends.iter();
        known
            .filter(move |(_, known)| is_uncounted(known))
            .map(|(backend, _)| *backend)
    }

    /// So many connections a suspect was given until now, the moment of the last look or after.
    pub fn count(&mut self, now: Time, backend: SocketAddr, given: u64) {
        if let Some(suspicion) = self.suspicion(&backend)
            && suspicion.base.is_none()
        {
            suspicion.base = Some((now, given));
            suspicion.lost = 0;
        }
    }

    /// Of what failed lately some is not known: what suspects are given is to be counted anew.
    pub fn recount(&mut self) {
        for known in self.backends.values_mut() {
            if let State::Suspected(suspicion) = &mut known.state {
                suspicion.base = None;
                suspicion.answered = 0;
            }
        }
    }

    /// Who is to be tried at `now`: the caller begins with it at once.
    pub fn poll(&mut self, now: Time) -> Option<SocketAddr> {
        let trials = self.backends.values_mut().filter_map(Known::trial);
        if trials.filter(|trial| **trial == Trial::Running).count() >= TRIALS {
            return None;
        }
        let suspect = self.backends.iter_mut().find_map(|(backend, known)| {
            let trial = known.trial()?;
            let is_due = matches!(trial, Trial::Due(at) if at.is_due(now));
            is_due.then(|| {
                *trial = Trial::Running;
                *backend
            })
        });
        suspect.or_else(|| self.poll_meeting(now))
    }

    /// Who is to be tried of those who never answered.
    fn poll_meeting(&mut self, now: Time) -> Option<SocketAddr> {
        let (begun, made) = &mut self.meetings;
        if (*begun + Duration::from_secs(1)).is_due(now) {
            (*begun, *made) = (now, 0);
        }
        let (due, backend) = *self.to_meet.first()?;
        if !due.is_due(now) || *made >= MEETINGS {
            return None;
        }
        *made += 1;
        self.to_meet.pop_first();
        if let Some(Meeting::Sought(search)) = self.met.get_mut(&backend) {
            search.trial = Trial::Running;
        }
        Some(backend)
    }

    /// Takes in what a trial says of whether trials reach a backend.
    fn met(&mut self, now: Time, backend: SocketAddr, outcome: Outcome) {
        let Some(meeting) = self.met.get_mut(&backend) else {
            return;
        };
        let Meeting::Sought(search) = meeting else {
            return;
        };
        if outcome == Outcome::Answered {
            if let Some(due) = search.due() {
                self.to_meet.remove(&(due, backend));
            }
            *meeting = Meeting::Met;
            // It rested because its failures told nothing: they do now.
            if let Some(known) = self.backends.get_mut(&backend) {
                known.rest = known.rest.min(now);
            }
        } else if search.trial == Trial::Running {
            search.trial = Trial::Due(now + self.pace.pause(search.pause, now, backend));
            search.pause = (search.pause * 2).min(LONGEST_MEETING_PAUSE);
            self.to_meet.extend(search.due().map(|due| (due, backend)));
        }
    }

    /// What became of the trial of a backend.
    pub fn tried(&mut self, now: Time, backend: SocketAddr, outcome: Outcome) {
        self.met(now, backend, outcome);
        let Some(known) = self.backends.get_mut(&backend) else {
            return;
        };
        match (&mut known.state, outcome) {
            (State::Fine, _) => {}
            (State::Avoided { .. }, Outcome::Answered) => known.come_back(now),
            (State::Suspected(_), Outcome::Answered) => known.acquit(now),
            (State::Suspected(suspicion), _) => {
                suspicion.failures += u32::from(outcome == Outcome::Failed);
                suspicion.trial = Trial::Due(now + DOUBT);
            }
            (State::Avoided { trial, pause, .. }, _) => {
                *pause = (*pause * 2).min(LONGEST_PAUSE);
                *trial = Trial::Due(now + self.pace.pause(*pause, now, backend));
            }
        }
    }

    /// Those who are to be given no connections, where there is somebody else.
    pub fn avoided(&self) -> BTreeSet<SocketAddr> {
        let known = self.backends.iter();
        known
            .filter(|(_, known)| matches!(known.state, State::Avoided { .. }))
            .map(|(backend, _)| *backend)
            .collect()
    }

    /// How many of the backends answered a trial: no other can be found dead.
    pub fn reached(&self) -> usize {
        let is_met = |meeting: &&Meeting| matches!(meeting, Meeting::Met);
        self.met.values().filter(is_met).count()
    }

    /// Whether it knows nothing bad of anybody.
    pub fn is_idle(&self) -> bool {
        self.backends.is_empty() && self.waiting.is_empty()
    }

    /// How many connections to each backend failed so far.
    pub fn failures(&self) -> &BTreeMap<SocketAddr, u64> {
        &self.failures
    }
}

impl Search {
    /// When it is to be tried next, if that is known.
    fn due(&self) -> Option<Time> {
        match self.trial {
            Trial::Due(at) if self.has_alternative => Some(at),
            _ => None,
        }
    }
}

impl Suspicion {
    /// Whether what was seen first at `since` was given after this was counted.
    fn is_new(&self, since: Time) -> bool {
        self.base.is_some_and(|(counted, _)| since > counted)
    }
}

impl Known {
    /// The trial that it needs.
    fn trial(&mut self) -> Option<&mut Trial> {
        match &mut self.state {
            State::Suspected(suspicion) if suspicion.failures < suspicion.needs => {
                Some(&mut suspicion.trial)
            }
            State::Avoided { trial, .. } => Some(trial),
            _ => None,
        }
    }

    fn acquit(&mut self, now: Time) {
        self.state = State::Fine;
        self.acquitted = now;
        self.rest = now + REST;
    }

    /// At once under suspicion again, if what begins from now on fails.
    fn come_back(&mut self, now: Time) {
        self.acquit(now);
        self.rest = now;
    }

    /// Trials of one that was not met are no evidence. `spread` says how long of a pause this node waits.
    fn judge(
        &mut self,
        now: Time,
        queue: Queue,
        given: Option<u64>,
        is_met: bool,
        spread: impl Fn(Duration) -> Duration,
    ) {
        match &mut self.state {
            State::Fine => {}
            State::Avoided { since, .. } => {
                if (*since + BOUND).is_due(now) {
                    self.come_back(now);
                }
            }
            State::Suspected(suspicion) => {
                let Some((_, base)) = suspicion.base else {
                    return;
                };
                let Some(since) = given.and_then(|given| given.checked_sub(base)) else {
                    // The count began anew.
                    suspicion.base = None;
                    return;
                };
                // At least so many were answered: what is known to wait or to have failed may have been given after the count.
                let answered =
                    suspicion.answered + since.saturating_sub(suspicion.lost + queue.new);
                let is_late = queue
                    .oldest
                    .is_some_and(|oldest| (oldest + PATIENCE).is_due(now));
                let is_failing = suspicion.is_refusing || is_late;
                if answered > 0 {
                    self.acquit(now);
                } else if suspicion.failures > 0 && is_failing && is_met {
                    // Who was silent was so for as long as the trial waited.
                    suspicion.needs = if suspicion.is_refusing { 2 } else { 1 };
                    if suspicion.failures >= suspicion.needs {
                        self.die(now, spread);
                    }
                } else if suspicion.failures > 0 && is_failing {
                    self.acquit(now);
                    self.rest = now + LONGEST_PAUSE;
                } else if queue.oldest.is_none() && !suspicion.is_refusing {
                    self.state = State::Fine;
                }
            }
        }
    }

    fn die(&mut self, now: Time, spread: impl Fn(Duration) -> Duration) {
        if (self.died + MEMORY).is_due(now) {
            self.deaths = 0;
        }
        let pause = (PAUSE * 2_u32.pow(self.deaths.min(4))).min(LONGEST_PAUSE);
        self.deaths += 1;
        self.died = now;
        self.state = State::Avoided {
            since: now,
            trial: Trial::Due(now + spread(pause)),
            pause,
        };
    }
}
