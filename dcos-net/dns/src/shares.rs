//! [`Shares`]: room that several use, of whom none can take all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places for several users. Half of them are kept for each in equal parts, the others are anybody's: one that needs all
/// leaves enough for the others to go on, and has all if there is nobody else.
#[derive(Clone, Debug)]
pub(crate) struct Shares(Arc<Mutex<Places>>);

#[derive(Debug)]
struct Places {
    free: usize,
    /// Of each user.
    kept: usize,
    taken: Vec<usize>,
}

impl Shares {
    /// So many places for so many users.
    pub(crate) fn new(places: usize, users: usize) -> Self {
        Self(Arc::new(Mutex::new(Places {
            free: places,
            kept: places / 2 / users.max(1),
            taken: vec![0; users],
        })))
    }

    /// A place for this user, by number, if there is one for it; free again when it is dropped.
    pub(crate) fn take(&self, user: usize) -> Option<Share> {
        let mut places = self.places();
        let others = places.taken.iter().enumerate();
        let others = others.filter(|(other, _)| *other != user);
        let reserved: usize = others
            .map(|(_, taken)| places.kept.saturating_sub(*taken))
            .sum();
        if places.free <= reserved {
            return None;
        }
        *places.taken.get_mut(user)? += 1;
        places.free -= 1;
        let places = self.clone();
        Some(Share { places, user })
    }

    /// Each change is whole.
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(crate) struct Share {
    places: Shares,
    user: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut places = self.places.places();
        places.free += 1;
        if let Some(taken) = places.taken.get_mut(self.user) {
            *taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(shares: &Shares, user: usize) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(user)).collect()
    }

    #[test]
    fn whoever_takes_all_there_is_leaves_the_others_theirs() {
        let shares = Shares::new(1024, 2);
        let greedy = all(&shares, 0);
        let modest = all(&shares, 1);
        assert_eq!((greedy.len(), modest.len()), (768, 256));
        drop(greedy);
        let others = all(&shares, 1);
        assert_eq!(others.len(), 512, "what is kept for the first stays free");
        assert_eq!(all(&shares, 0).len(), 256);
    }

    #[test]
    fn one_alone_has_all_and_places_are_used_again() {
        let shares = Shares::new(3, 1);
        for _ in 0..2 {
            assert_eq!(all(&shares, 0).len(), 3);
        }
        let few = Shares::new(1, 5);
        let only = few.take(4);
        assert!(only.is_some() && few.take(0).is_none());
        drop(only);
        assert!(few.take(0).is_some());
    }
}
