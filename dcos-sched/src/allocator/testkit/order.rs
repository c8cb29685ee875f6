//! What every [`Sorter`] must keep: its own promises, and those of an allocator that follows it.

use dcos_core::seed::Seed;

use super::all;
use crate::allocator::HierarchicalDrf;
use crate::allocator::sorter::{Client, Sorter};

/// Makes a sorter to be tested; each one it makes is like the others.
pub type MakeSorter<'a> = &'a dyn Fn() -> Box<dyn Sorter>;

/// Runs every promise of a sorter, and those of an allocator whose roles and frameworks it sorts.
///
/// ```
/// use dcos_sched::allocator::{sorter::DominantShare, testkit};
///
/// testkit::sorter(&|| Box::new(DominantShare));
/// ```
pub fn sorter(make: MakeSorter<'_>) {
    the_same_questions_have_the_same_answers(make);
    all(&|config| {
        let allocator = HierarchicalDrf::with_sorters(config, &Seed::new(11), make(), make());
        Box::new(allocator)
    });
}

/// Promise 1: two of a kind that are asked the same, in the same order, rank the same.
pub fn the_same_questions_have_the_same_answers(make: MakeSorter<'_>) {
    let (mut one, mut other) = (make(), make());
    let mut chance = Seed::new(5);
    let mut ranks = [None; 4];
    for grants in 0..200 {
        let number = usize::try_from(grants % 4).unwrap_or_default();
        let name = format!("role/{number}");
        let client = Client {
            name: &name,
            share: chance.unit(),
            weight: 1.0 + 9.0 * chance.unit(),
            grants,
            rank: ranks[number],
            was_granted: chance.chance(0.5),
            latest: ranks.iter().flatten().copied().fold(0.0, f64::max),
        };
        let rank = one.rank(&client);
        let again = other.rank(&client);
        let same = rank.total_cmp(&again).is_eq() || (rank.is_nan() && again.is_nan());
        assert!(same, "{rank} and {again} for {client:?}");
        ranks[number] = Some(rank).filter(|rank| rank.is_finite());
    }
}
