//! What the detector says of backends in a made-up world: some die, refuse, are slow or hear only some.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use dcos_core::time::Time;
use dcos_l4lb::detector::{Detector, Outcome, Pace, Sight};
use proptest::prelude::*;

/// How a backend takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Alive,
    /// The answer takes most of a second.
    Slow,
    /// Of three it hears one, of trials the first.
    Crowded,
    Silent,
    Refusing,
}

impl Mode {
    fn is_alive(self) -> bool {
        !matches!(self, Self::Silent | Self::Refusing)
    }
}

/// In steps of a tenth of a second.
const SECOND: u64 = 10;
/// When a client asks again, and when the kernel forgets whom nobody answered.
const AGAIN: [u64; 4] = [SECOND, 3 * SECOND, 7 * SECOND, 15 * SECOND];
const FORGOTTEN: u64 = 120 * SECOND;
const LIMIT: u64 = 3 * SECOND;

#[derive(Debug)]
struct Flow {
    backend: usize,
    begun: u64,
    /// When it is answered, if that is sure.
    answer: Option<u64>,
    is_trial: bool,
    /// Whether who hears only some hears it.
    is_lucky: bool,
}

#[derive(Debug, Default)]
struct World {
    /// Of each backend: how it is from which step on.
    modes: Vec<Vec<(u64, Mode)>>,
    now: u64,
    flows: BTreeMap<u64, Flow>,
    next: u64,
    failed: BTreeMap<u64, SocketAddr>,
    given: Vec<u64>,
    detector: Detector,
    /// When a trial of each was answered first.
    met: BTreeMap<usize, u64>,
    /// Who was avoided from which step on, and until when.
    avoided: Vec<(usize, u64, Option<u64>)>,
}

fn place(backend: usize) -> SocketAddr {
    let last = u8::try_from(backend).expect("few backends");
    ([10, 0, 0, last], 80).into()
}

fn time(step: u64) -> Time {
    Time::from_secs(1000) + Duration::from_millis(100 * step)
}

impl World {
    fn new(modes: Vec<Vec<(u64, Mode)>>) -> Self {
        let given = vec![0; modes.len()];
        let mut detector = Detector::default();
        let all = (0..modes.len()).map(place).collect();
        detector.meet(time(0), &all, &all);
        Self {
            modes,
            given,
            detector,
            ..Self::default()
        }
    }

    fn mode(&self, backend: usize) -> Mode {
        let past = self.modes[backend].iter().rev();
        let mut now = past.filter(|(since, _)| *since <= self.now);
        now.next().expect("from the beginning").1
    }

    /// Somebody asks: whether it is refused.
    fn hear(&mut self, id: u64) -> bool {
        let flow = &self.flows[&id];
        let (mode, lucky) = (self.mode(flow.backend), flow.is_lucky);
        let answer = match mode {
            Mode::Alive => Some(self.now),
            Mode::Slow => Some(self.now + SECOND - 1),
            Mode::Crowded if lucky => Some(self.now),
            Mode::Crowded | Mode::Silent => None,
            Mode::Refusing => return true,
        };
        if let Some(flow) = self.flows.get_mut(&id) {
            flow.answer = flow.answer.or(answer);
        }
        false
    }

    fn begin(&mut self, backend: usize, is_trial: bool) {
        let (id, begun) = (self.next, self.now);
        self.next += 1;
        self.flows.insert(
            id,
            Flow {
                backend,
                begun,
                answer: None,
                is_trial,
                is_lucky: if is_trial {
                    !self.met.contains_key(&backend)
                } else {
                    self.given[backend].is_multiple_of(3)
                },
            },
        );
        if !is_trial {
            self.given[backend] += 1;
        }
        if self.hear(id) {
            self.refuse(id);
        }
    }

    fn refuse(&mut self, id: u64) {
        let Some(flow) = self.flows.remove(&id) else {
            return;
        };
        if flow.is_trial {
            self.detector
                .tried(time(self.now), place(flow.backend), Outcome::Failed);
        } else {
            self.failed.insert(id, place(flow.backend));
        }
    }

    fn step(&mut self, gaps: &[u64]) {
        self.now += 1;
        let avoided = self.detector.avoided();
        for (backend, gap) in gaps.iter().enumerate() {
            let is_led = avoided.len() == gaps.len() || !avoided.contains(&place(backend));
            if self.now.is_multiple_of(*gap) && is_led {
                self.begin(backend, false);
            }
        }
        let ids: Vec<u64> = self.flows.keys().copied().collect();
        for id in ids {
            let flow = &self.flows[&id];
            let age = self.now - flow.begun;
            if flow.answer.is_some_and(|at| at <= self.now) {
                if flow.is_trial {
                    self.met.entry(flow.backend).or_insert(self.now);
                    self.detector
                        .tried(time(self.now), place(flow.backend), Outcome::Answered);
                }
                self.flows.remove(&id);
            } else {
                let is_over = age >= FORGOTTEN || (flow.is_trial && age >= LIMIT);
                let asks = flow.answer.is_none() && AGAIN.contains(&age);
                if is_over || (asks && self.hear(id)) {
                    self.refuse(id);
                }
            }
        }
        if self.now.is_multiple_of(SECOND) {
            self.look();
        }
        while let Some(tried) = self.detector.poll(time(self.now)) {
            let backend = (0..self.modes.len()).find(|one| place(*one) == tried);
            self.begin(backend.expect("a backend"), true);
        }
        let avoided = self.detector.avoided();
        for backend in 0..self.modes.len() {
            let is = avoided.contains(&place(backend));
            let open = self
                .avoided
                .iter_mut()
                .find(|(of, _, until)| *of == backend && until.is_none());
            match open {
                Some((.., until)) if !is => *until = Some(self.now),
                None if is => self.avoided.push((backend, self.now, None)),
                _ => {}
            }
        }
    }

    fn look(&mut self) {
        let given = |backend: usize| self.given[backend];
        let suspects: BTreeSet<SocketAddr> = self.detector.suspects().collect();
        let all = 0..self.modes.len();
        let counted = all.clone().filter(|one| suspects.contains(&place(*one)));
        let waiting = self.flows.iter().filter(|(_, flow)| !flow.is_trial);
        let sight = Sight {
            waiting: waiting
                .map(|(id, flow)| (*id, place(flow.backend)))
                .collect(),
            failed: std::mem::take(&mut self.failed),
            given: counted.map(|one| (place(one), given(one))).collect(),
        };
        self.detector.look(time(self.now), &sight);
        let uncounted: BTreeSet<SocketAddr> = self.detector.uncounted().collect();
        for backend in all.filter(|one| uncounted.contains(&place(*one))) {
            self.detector
                .count(time(self.now), place(backend), self.given[backend]);
        }
    }
}

/// Some are well all the time, in their way; one changes, every time for long enough that it has to be noticed.
fn modes() -> impl Strategy<Value = Vec<Vec<(u64, Mode)>>> {
    let well = prop_oneof![Just(Mode::Alive), Just(Mode::Slow), Just(Mode::Crowded)];
    let well = prop::collection::vec(well.prop_map(|mode| vec![(0, mode)]), 1..4);
    let kind = prop_oneof![
        Just(Mode::Silent),
        Just(Mode::Refusing),
        Just(Mode::Alive),
        Just(Mode::Slow)
    ];
    let changing = prop::collection::vec((1..60 * SECOND, kind), 1..6);
    (well, changing).prop_map(|(mut all, changes)| {
        let mut since = 0;
        let changing = changes.into_iter().map(|(lasts, mode)| {
            let from = since;
            since += lasts;
            (from, mode)
        });
        all.push(changing.collect());
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_dead_are_avoided_and_nobody_else(modes in modes(), gap in 1..2 * SECOND) {
        judge(&modes, gap)?;
    }
}

/// Of these, the last of which changes, clients of each begin with a connection every so many steps.
fn judge(modes: &[Vec<(u64, Mode)>], gap: u64) -> Result<(), TestCaseError> {
    let changing = modes.len() - 1;
    // Who hears only some is asked often enough to hear somebody.
    let gaps: Vec<u64> = modes
        .iter()
        .map(|mode| {
            if mode[0].1 == Mode::Crowded {
                gap.min(3)
            } else {
                gap
            }
        })
        .collect();
    let mut world = World::new(modes.to_vec());
    let last = modes[changing].last().expect("at least one").0;
    for _ in 0..last + 60 * SECOND {
        world.step(&gaps);
    }
    let ends: Vec<u64> = modes[changing]
        .iter()
        .skip(1)
        .map(|(at, _)| *at)
        .chain([world.now])
        .collect();
    let is_avoided = |at: u64| {
        world
            .avoided
            .iter()
            .any(|(_, from, until)| *from <= at && until.is_none_or(|until| until > at))
    };
    for (backend, from, until) in &world.avoided {
        prop_assert_eq!(*backend, changing, "avoided although it is well");
        let is_met = world.met.get(backend).is_some_and(|met| met < from);
        prop_assert!(is_met, "avoided by trials that never were answered");
        // Of what began before it was well again, the verdict may come a little later.
        let mode = |at: u64| {
            modes[changing]
                .iter()
                .rev()
                .find(|(since, _)| *since <= at)
                .expect("one")
                .1
        };
        let was_dead = (from.saturating_sub(5 * SECOND)..=*from).any(|at| !mode(at).is_alive());
        prop_assert!(
            was_dead,
            "avoided at {} although it was well for five seconds",
            from
        );
        if let Some(until) = until {
            // It may have died while its answer was on the way.
            let was_alive = (until - SECOND..=*until).any(|at| mode(at).is_alive());
            prop_assert!(
                was_alive || until - from >= 300 * SECOND,
                "given connections while dead"
            );
            prop_assert!(until - from >= SECOND, "it flaps");
        }
    }
    for ((since, mode), end) in modes[changing].iter().zip(ends) {
        let is_met = world.met.get(&changing).is_some_and(|met| met <= since);
        match mode {
            Mode::Refusing | Mode::Silent if !is_met => {}
            Mode::Refusing if end - since > gap + 10 * SECOND => {
                prop_assert!(
                    is_avoided(since + gap + 10 * SECOND),
                    "it refuses since {}",
                    since
                );
            }
            Mode::Silent if end - since > gap + 15 * SECOND => {
                prop_assert!(
                    is_avoided(since + gap + 15 * SECOND),
                    "it is silent since {}",
                    since
                );
            }
            Mode::Alive | Mode::Slow if end - since > 37 * SECOND => {
                prop_assert!(
                    !is_avoided(since + 37 * SECOND),
                    "it is well since {}",
                    since
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// What was no evidence before it was reached is none of how it is after.
#[test]
fn who_was_reached_a_moment_ago_is_judged_at_once() {
    let changing = vec![(0, Mode::Refusing), (25, Mode::Alive), (70, Mode::Refusing)];
    judge(&[vec![(0, Mode::Alive)], changing], 5).unwrap();
}

#[test]
fn who_stays_dead_is_shown_to_clients_every_five_minutes_and_no_sooner() {
    let dies = vec![(0, Mode::Alive), (2, Mode::Refusing)];
    let mut world = World::new(vec![dies, vec![(0, Mode::Alive)]]);
    for _ in 0..1000 * SECOND {
        world.step(&[5, 5]);
    }
    let lengths: Vec<u64> = world
        .avoided
        .iter()
        .filter_map(|(_, from, until)| Some(((*until)? - from) / SECOND))
        .collect();
    assert_eq!(lengths, [300, 300, 300]);
    assert!(world.avoided[0].1 <= 3 * SECOND, "{:?}", world.avoided);
    let failures = world.detector.failures()[&place(0)];
    assert!(
        (4..40).contains(&failures),
        "{failures} clients were refused"
    );
}

/// A firewall that lets containers pass only: their connections fail now and then, and the node's own always.
#[test]
fn whom_the_node_never_reached_it_does_not_avoid() {
    let mut detector = Detector::default();
    let backends = BTreeSet::from([place(1), place(2)]);
    detector.meet(time(0), &backends, &backends);
    let mut now = 0;
    let mut fail = |detector: &mut Detector, answers: bool| {
        for second in 0..60 {
            now += SECOND;
            let sight = Sight {
                failed: [(now, place(1))].into(),
                given: [(place(1), second)].into(),
                ..Sight::default()
            };
            detector.look(time(now), &sight);
            let uncounted: Vec<SocketAddr> = detector.uncounted().collect();
            for backend in uncounted {
                detector.count(time(now), backend, second + 1);
            }
            while let Some(tried) = detector.poll(time(now)) {
                let outcome = if answers || tried == place(2) {
                    Outcome::Answered
                } else {
                    Outcome::Failed
                };
                detector.tried(time(now), tried, outcome);
            }
            if detector.avoided().contains(&place(1)) {
                return true;
            }
        }
        false
    };
    assert!(!fail(&mut detector, false), "no trial was ever answered");
    assert!(!fail(&mut detector, true), "trials are answered");
    assert!(fail(&mut detector, false), "they are answered no more");
    // One of the same place that comes later is another.
    let other = BTreeSet::from([place(2)]);
    detector.meet(time(2000 * SECOND), &other, &other);
    detector.meet(time(2000 * SECOND), &backends, &backends);
    assert!(!fail(&mut detector, false), "a new one was never reached");
}

/// A task that is restarted in place.
#[test]
fn who_refuses_for_less_than_a_second_is_not_avoided() {
    for since in 0..4 * SECOND {
        let blinks = vec![
            (0, Mode::Alive),
            (40 + since, Mode::Refusing),
            (49 + since, Mode::Alive),
        ];
        for gap in [3, 20] {
            let mut world = World::new(vec![blinks.clone(), vec![(0, Mode::Alive)]]);
            for _ in 0..15 * SECOND {
                world.step(&[gap, gap]);
            }
            assert_eq!(world.avoided, [], "from {since} on, gap {gap}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// A thousand nodes see a backend appear in the same moment: whether it hears them or not, it is never tried by many at once.
    #[test]
    fn a_thousand_nodes_are_not_in_step(salt: u32, hears: bool) {
        let all = BTreeSet::from([place(1), place(2)]);
        let nodes = (0..1000_u64).map(|node| {
            let node = node << 32 | u64::from(salt);
            let mut detector = Detector::new(Pace { node, spread: Duration::from_secs(60) });
            detector.meet(time(0), &all, &all);
            detector
        });
        let mut nodes: Vec<Detector> = nodes.collect();
        for second in 0..=400 {
            let (now, mut tries) = (time(second * SECOND), 0);
            for detector in &mut nodes {
                while let Some(tried) = detector.poll(now) {
                    tries += usize::from(tried == place(1));
                    let outcome = if hears { Outcome::Answered } else { Outcome::Failed };
                    detector.tried(now, tried, outcome);
                }
            }
            prop_assert!(tries <= 100, "{} in second {}", tries, second);
            if second == 61 && hears {
                prop_assert!(nodes.iter().all(|detector| detector.reached() == 2));
            }
        }
    }
}

/// Nor are those that found it dead in the same moment.
#[test]
fn who_is_avoided_is_not_tried_by_all_nodes_at_once() {
    let all = BTreeSet::from([place(1), place(2)]);
    let nodes = (0..1000).map(|node| on_node_with_one_dead(node, &all));
    let mut nodes: Vec<Detector> = nodes.collect();
    let mut sum = 0;
    for step in 21..70 * SECOND {
        let mut tries = 0;
        for detector in &mut nodes {
            while let Some(tried) = detector.poll(time(step)) {
                detector.tried(time(step), tried, Outcome::Failed);
                tries += 1;
            }
        }
        assert!(tries < 200, "{tries} in step {step}");
        sum += tries;
    }
    assert!((5000..9000).contains(&sum), "{sum} in 70 s");
}

/// Nobody waits for a turn who has a client that fails, and who answers then is met.
#[test]
fn who_is_suspected_is_tried_at_once() {
    let all = BTreeSet::from([place(1), place(2)]);
    for node in 0..20 {
        let spread = Duration::from_secs(1_000_000);
        let mut detector = Detector::new(Pace { node, spread });
        detector.meet(time(0), &all, &all);
        assert_eq!(detector.poll(time(0)), None);
        let failed = [(1, place(1))].into();
        let sight = Sight {
            failed,
            ..Sight::default()
        };
        detector.look(time(1), &sight);
        assert_eq!(detector.poll(time(1)), Some(place(1)));
        detector.tried(time(2), place(1), Outcome::Answered);
        assert_eq!(detector.reached(), 1);
    }
}

/// A node that starts meets thousands of backends.
#[test]
fn all_are_met_and_few_at_a_time() {
    let mut detector = Detector::default();
    let all: BTreeSet<SocketAddr> = (0..200).map(place).collect();
    detector.meet(time(0), &all, &all);
    let mut tried: BTreeMap<SocketAddr, u64> = BTreeMap::new();
    for now in 0..20 * SECOND {
        let mut at_once = 0;
        while let Some(backend) = detector.poll(time(now)) {
            *tried.entry(backend).or_default() += 1;
            at_once += 1;
            let outcome = if backend == place(7) {
                Outcome::Unknown
            } else {
                Outcome::Answered
            };
            detector.tried(time(now), backend, outcome);
        }
        assert!(at_once <= 32, "{at_once} at once");
    }
    assert_eq!(tried.len(), 200);
    let again: Vec<_> = tried.iter().filter(|(_, times)| **times > 1).collect();
    assert!(
        matches!(again[..], [(who, 3..=5)] if *who == place(7)),
        "{again:?}"
    );
}

/// One that was reached and then found dead, of these.
fn with_one_dead(backends: &BTreeSet<SocketAddr>) -> Detector {
    on_node_with_one_dead(0, backends)
}

fn on_node_with_one_dead(node: u64, backends: &BTreeSet<SocketAddr>) -> Detector {
    let spread = Duration::ZERO;
    let mut detector = Detector::new(Pace { node, spread });
    let failed = BTreeMap::from([(1, place(1))]);
    let sight = |given: &[u64]| Sight {
        failed: failed.clone(),
        given: given.iter().map(|given| (place(1), *given)).collect(),
        ..Sight::default()
    };
    detector.meet(time(0), backends, backends);
    while let Some(backend) = detector.poll(time(0)) {
        detector.tried(time(0), backend, Outcome::Answered);
    }
    detector.look(time(0), &sight(&[]));
    detector.count(time(0), place(1), 1);
    assert_eq!(detector.poll(time(0)), Some(place(1)));
    detector.tried(time(1), place(1), Outcome::Failed);
    detector.look(time(10), &sight(&[1]));
    assert_eq!(detector.avoided(), [].into(), "it may be back in a moment");
    assert_eq!(detector.poll(time(11)), Some(place(1)));
    detector.tried(time(11), place(1), Outcome::Failed);
    detector.look(time(20), &sight(&[1]));
    assert_eq!(detector.avoided(), [place(1)].into());
    detector
}

/// What nobody heard of would count as answered.
#[test]
fn failures_that_were_missed_acquit_nobody() {
    let all = BTreeSet::from([place(1)]);
    let mut detector = Detector::default();
    let sight = |failed: u64, given: u64| Sight {
        failed: [(failed, place(1))].into(),
        given: [(place(1), given)].into(),
        ..Sight::default()
    };
    detector.meet(time(0), &all, &all);
    assert_eq!(detector.poll(time(0)), Some(place(1)));
    detector.tried(time(0), place(1), Outcome::Answered);
    detector.look(time(0), &sight(1, 1));
    detector.count(time(0), place(1), 1);
    assert_eq!(detector.poll(time(0)), Some(place(1)));
    detector.tried(time(1), place(1), Outcome::Failed);
    detector.recount();
    detector.look(time(10), &sight(2, 10));
    assert_eq!(detector.uncounted().collect::<Vec<_>>(), [place(1)]);
    detector.count(time(10), place(1), 10);
    detector.look(time(20), &sight(3, 11));
    assert_eq!(detector.poll(time(20)), Some(place(1)));
    detector.tried(time(21), place(1), Outcome::Failed);
    detector.look(time(30), &sight(4, 12));
    assert_eq!(detector.avoided(), [place(1)].into());
}

#[test]
fn who_was_no_backend_for_a_moment_is_not_avoided() {
    let mut detector = with_one_dead(&[place(1)].into());
    detector.meet(time(22), &BTreeSet::new(), &BTreeSet::new());
    detector.look(time(22), &Sight::default());
    assert_eq!(detector.avoided(), [].into());
    assert!(detector.is_idle() && detector.failures().is_empty());
}

/// The other one restarts.
#[test]
fn who_was_the_only_one_for_a_moment_is_avoided_all_the_same() {
    let both = BTreeSet::from([place(1), place(2)]);
    let mut detector = with_one_dead(&both);
    let failures = detector.failures().clone();
    assert_eq!((detector.reached(), failures[&place(1)]), (2, 3));
    detector.meet(time(22), &[place(1)].into(), &BTreeSet::new());
    detector.look(time(22), &Sight::default());
    detector.meet(time(24), &both, &both);
    assert_eq!(detector.avoided(), [place(1)].into());
    assert_eq!((detector.reached(), detector.failures()), (1, &failures));
    assert_eq!(detector.poll(time(24)), Some(place(2)));
    assert_eq!(detector.poll(time(24)), None);
}

/// A service is scaled: on each node somebody else could have the connections of the only one from now on.
#[test]
fn nodes_are_not_in_step_with_one_that_has_an_alternative_only_later() {
    let minute = Duration::from_secs(60);
    let (one, none) = (BTreeSet::from([place(1)]), BTreeSet::new());
    let scaled = 3600 * SECOND;
    let mut tried: Vec<u64> = Vec::new();
    for node in 0..600 {
        let spread = minute;
        let mut detector = Detector::new(Pace { node, spread });
        detector.meet(time(0), &one, &none);
        detector.meet(time(scaled), &one, &one);
        let mut seconds = 0..=60;
        let when = seconds.find(|second| {
            // What changes besides puts nothing off.
            detector.meet(time(scaled + second * SECOND), &one, &one);
            detector.poll(time(scaled + second * SECOND)).is_some()
        });
        tried.push(when.expect("within the spread"));
    }
    let most = (0..=60).map(|second| tried.iter().filter(|at| **at == second).count());
    assert!(most.max() < Some(40), "{tried:?}");
}

#[test]
fn who_has_no_alternative_is_not_met() {
    let (one, none) = (BTreeSet::from([place(1)]), BTreeSet::new());
    let mut detector = Detector::default();
    detector.meet(time(0), &one, &none);
    assert_eq!(detector.poll(time(0)), None);
    detector.meet(time(0), &one, &one);
    assert_eq!(detector.poll(time(0)), Some(place(1)));
    // Nor again, if it has none meanwhile.
    detector.meet(time(1), &one, &none);
    detector.tried(time(1), place(1), Outcome::Failed);
    assert_eq!(detector.poll(time(100 * SECOND)), None);
    // A moment without one does not begin its pauses anew.
    detector.meet(time(2), &one, &one);
    assert_eq!(detector.poll(time(2)), None);
    assert_eq!(detector.poll(time(1 + 2 * SECOND)), Some(place(1)));
    detector.tried(time(1 + 2 * SECOND), place(1), Outcome::Answered);
    assert_eq!((detector.reached(), detector.poll(time(1000))), (1, None));
}
