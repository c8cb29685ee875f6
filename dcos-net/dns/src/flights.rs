//! [`Flights`]: who asks what is being asked already waits for that answer.
//!
//! Packets have no hop count: where two name servers forward to each other, a question comes back to the one it went
//! out from. There it finds itself in flight and goes no further, so that a circle costs each of its members one
//! question until that times out. Forgers profit from many questions of one name at a time; this leaves them one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};

use crate::question::Key;

/// An answer on its way, with the id of one of those who asked.
pub(crate) type Flight = Shared<Asking>;
type Asking = BoxFuture<'static, Option<Arc<[u8]>>>;

/// The questions that are in flight.
#[derive(Default, Clone)]
pub(crate) struct Flights(Arc<Mutex<Board>>);

#[derive(Default)]
struct Board {
    /// Tells a flight from a later one for the same question.
    numbers: u64,
    flights: BTreeMap<Key, InFlight>,
}

struct InFlight {
    number: u64,
    asking: WeakShared<Asking>,
    /// Whether it goes on whoever waits.
    kept: bool,
}

impl Flights {
    /// The flight for this question: the one there is, or the one that `begin` begins, if it does. It goes on as long as one
    /// of those who joined waits.
    pub(crate) fn join<F>(&self, key: Key, begin: impl FnOnce() -> Option<F>) -> Option<Flight>
    where
        F: Future<Output = Option<Vec<u8>>> + Send + 'static,
    {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = board.flights.get(&key);
        if let Some(flight) = there.and_then(|flight| flight.asking.upgrade()) {
            return Some(flight);
        }
        let asking = begin()?;
        board.numbers += 1;
        let number = board.numbers;
        let landing = Landing {
            flights: self.clone(),
            key: key.clone(),
            number,
        };
        let flight = async move {
            let answer = asking.await.map(Arc::from);
            drop(landing);
            answer
        };
        let flight = flight.boxed().shared();
        if let Some(asking) = flight.downgrade() {
            let kept = false;
            let flight = InFlight {
                number,
                asking,
                kept,
            };
            board.flights.insert(key, flight);
        }
        Some(flight)
    }

    /// Whether the flight for this question is the caller's to carry on when nobody waits: true once.
    pub(crate) fn keep(&self, key: &Key) -> bool {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = board.flights.get_mut(key);
        there.is_some_and(|flight| !std::mem::replace(&mut flight.kept, true))
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

/// Takes a flight off the board when it has ended, or nobody waits any more.
struct Landing {
    flights: Flights,
    key: Key,
    number: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut board = self
            .flights
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = board.flights.get(&self.key);
        if own.is_some_and(|flight| flight.number == self.number) {
            board.flights.remove(&self.key);
        }
    }
}
