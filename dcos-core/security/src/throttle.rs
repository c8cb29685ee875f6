//! Holding back what comes too often: a state machine.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dcos_core::time::{Time, earliest};

use crate::RateLimits;

/// What becomes of something that came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission<T> {
    /// It is taken in at once.
    Now(T),
    /// It waits; [`Throttle::poll`] gives it back when its turn has come.
    Later,
    /// Too much waits already.
    Exceeded {
        /// What came in.
        item: T,
        /// How much may wait.
        capacity: u64,
    },
}

/// Lets through what frameworks send no faster than [`RateLimits`] say, each queue in its order.
///
/// As in Mesos, permits are spaced evenly: `qps` a second, none saved up.
///
/// ```
/// use dcos_core::time::Time;
/// use dcos_security::{Admission, Throttle};
///
/// let limits = r#"{"limits": [{"principal": "p", "qps": 2, "capacity": 1}]}"#.parse()?;
/// let mut throttle = Throttle::new(limits);
/// let (start, half) = (Time::from_secs_f64(0.0), Time::from_secs_f64(0.5));
/// assert_eq!(throttle.admit(start, Some("p"), 'a'), Admission::Now('a'));
/// assert_eq!(throttle.admit(start, Some("p"), 'b'), Admission::Later);
/// assert!(matches!(throttle.admit(start, Some("p"), 'c'), Admission::Exceeded { capacity: 1, .. }));
/// assert_eq!(throttle.admit(start, Some("other"), 'd'), Admission::Now('d'));
/// assert_eq!((throttle.poll(start), throttle.next_deadline()), (None, Some(half)));
/// assert_eq!(throttle.poll(half), Some('b'));
/// # Ok::<(), dcos_security::RateLimitsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Throttle<T> {
    limits: RateLimits,
    /// By principal; `None` is the queue that all who are not listed share.
    queues: BTreeMap<Option<String>, Queue<T>>,
}

#[derive(Debug, Clone)]
struct Queue<T> {
    /// When the next may pass.
    next: Time,
    spacing: Duration,
    waiting: VecDeque<T>,
}

impl<T> Throttle<T> {
    /// Nothing waits yet.
    pub fn new(limits: RateLimits) -> Self {
        Self {
            limits,
            queues: BTreeMap::new(),
        }
    }

    /// Takes in what a framework with this principal sent at `now`.
    pub fn admit(&mut self, now: Time, principal: Option<&str>, item: T) -> Admission<T> {
        let capacity = self.limits.rate(principal).and_then(|rate| rate.capacity);
        self.enqueue(now, principal, item, capacity)
    }

    /// The same for what must not be dropped, such as the news that a peer is gone: it keeps its
    /// place in the order, however much waits.
    pub fn admit_always(&mut self, now: Time, principal: Option<&str>, item: T) -> Admission<T> {
        self.enqueue(now, principal, item, None)
    }

    fn enqueue(
        &mut self,
        now: Time,
        principal: Option<&str>,
        item: T,
        capacity: Option<u64>,
    ) -> Admission<T> {
        let Some(rate) = self.limits.rate(principal) else {
            return Admission::Now(item);
        };
        let name = self.limits.queue(principal).map(ToOwned::to_owned);
        let queue = self.queues.entry(name).or_insert_with(|| Queue {
            next: now,
            spacing: Duration::try_from_secs_f64(1.0 / rate.qps).unwrap_or(Duration::MAX),
            waiting: VecDeque::new(),
        });
        if queue.waiting.is_empty() && queue.next.is_due(now) {
            queue.pass(now);
            return Admission::Now(item);
        }
        match capacity {
            Some(capacity) if queue.waiting.len() as u64 >= capacity => {
                Admission::Exceeded { item, capacity }
            }
            _ => {
                queue.waiting.push_back(item);
                Admission::Later
            }
        }
    }

    /// The next thing whose turn has come at `now`; call until it returns `None`.
    pub fn poll(&mut self, now: Time) -> Option<T> {
        let mut queues = self.queues.values_mut();
        let due = queues.find(|queue| !queue.waiting.is_empty() && queue.next.is_due(now))?;
        let next = due.next;
        due.pass(next);
        due.waiting.pop_front()
    }

    /// When something's turn comes, if something waits.
    pub fn next_deadline(&self) -> Option<Time> {
        let waiting = self
            .queues
            .values()
            .filter(|queue| !queue.waiting.is_empty());
        waiting.map(|queue| Some(queue.next)).fold(None, earliest)
    }
}

impl<T> Queue<T> {
    /// Spends the permit that was there at `at`.
    fn pass(&mut self, at: Time) {
        self.next = at + self.spacing;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Never faster than allowed, in order, and nothing is lost but what was refused.
        #[test]
        fn passes_evenly_and_in_order(
            gaps in proptest::collection::vec(0_u64..2_000, 1..60),
            qps in 1_u32..20,
            capacity in 0_u64..8,
        ) {
            let text = format!(r#"{{"limits":[{{"principal":"p","qps":{qps},"capacity":{capacity}}}]}}"#);
            let mut throttle = Throttle::new(text.parse().unwrap());
            let (mut now, mut passed, mut kept) = (Time::default(), Vec::new(), Vec::new());
            let drain = |throttle: &mut Throttle<usize>, until: Time, passed: &mut Vec<(Time, usize)>| {
                while let Some(at) = throttle.next_deadline().filter(|at| at.is_due(until)) {
                    passed.extend(throttle.poll(at).map(|item| (at, item)));
                }
            };
            for (number, gap) in gaps.into_iter().enumerate() {
                now += Duration::from_millis(gap);
                drain(&mut throttle, now, &mut passed);
                match throttle.admit(now, Some("p"), number) {
                    Admission::Now(item) => { kept.push(item); passed.push((now, item)); }
                    Admission::Later => kept.push(number),
                    Admission::Exceeded { .. } => {}
                }
            }
            drain(&mut throttle, now + Duration::from_secs(1_000), &mut passed);
            let order: Vec<usize> = passed.iter().map(|(_, item)| *item).collect();
            prop_assert_eq!(order, kept);
            let spacing = Duration::from_secs_f64(1.0 / f64::from(qps));
            for pair in passed.windows(2) {
                prop_assert!(pair[0].0.until(pair[1].0) >= spacing);
            }
        }
    }
}
