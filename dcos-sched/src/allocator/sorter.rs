//! Who comes first among siblings: the plug point [`Sorter`], and the two that Mesos knows.

use std::fmt;
use std::str::FromStr;

use dcos_core::seed::Seed;

/// Puts siblings in order: the roles right below one role, or the frameworks of one role.
///
/// [`HierarchicalDrf`](super::HierarchicalDrf) asks for a client's rank whenever something of it
/// changed, and offers to the smallest rank first. Equal ranks go by the number of grants, then
/// by name; priorities of roles come before ranks.
///
/// # Contract
/// 1. The rank depends on the client and on what the sorter was asked before, and on nothing
///    else: the same questions in the same order have the same answers.
/// 2. A rank is a number; one that is not counts as the largest.
///
/// # Source
/// Mesos 1.11 `Sorter` (`--role_sorter`, `--framework_sorter`), which sorts all clients for each
/// agent. Here the order is kept, so a sorter is asked about one client at a time.
///
/// # Implementing
/// Hand yours to [`HierarchicalDrf::with_sorters`](super::HierarchicalDrf::with_sorters), and run
/// `allocator::testkit::sorter` over it; `docs/allocator.md` has an example.
pub trait Sorter: fmt::Debug + Send + 'static {
    /// Where the client stands; smaller comes first.
    fn rank(&mut self, client: &Client<'_>) -> f64;
}

/// What a [`Sorter`] may look at.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The role's whole name, or the framework's id.
    pub name: &'a str,
    /// The largest part it holds of any resource of the cluster, from 0 to 1.
    pub share: f64,
    /// Its weight among its siblings; 1 for frameworks.
    pub weight: f64,
    /// How often it was granted something.
    pub grants: u64,
    /// Its rank so far; `None` if it is new among those that take part.
    pub rank: Option<f64>,
    /// Whether it was granted something since it was given that rank.
    pub was_granted: bool,
    /// The largest rank at which one of its siblings, or itself, was granted something.
    pub latest: f64,
}

/// Dominant resource fairness: whoever has the smallest share by weight comes first.
#[derive(Debug, Clone, Copy, Default)]
pub struct DominantShare;

impl Sorter for DominantShare {
    fn rank(&mut self, client: &Client<'_>) -> f64 {
        client.share / client.weight
    }
}

/// By chance, in proportion to weights.
///
/// A client's grants are the arrivals of a Poisson process whose rate is its weight; its rank is
/// when it arrives next. The next arrival is then anybody's, in proportion to weights, whoever
/// came before: what Mesos gets from shuffling all clients for each agent.
#[derive(Debug)]
pub struct Random(Seed);

impl Random {
    /// A sorter that takes its chances from `seed`.
    pub fn new(seed: &Seed) -> Self {
        Self(seed.stream("sorter"))
    }
}

impl Sorter for Random {
    fn rank(&mut self, client: &Client<'_>) -> f64 {
        match client.rank {
            Some(rank) if !client.was_granted => rank,
            // What it missed while it wanted nothing is gone: the next arrival comes from now on.
            _ => client.latest - (1.0 - self.0.unit()).ln() / client.weight,
        }
    }
}

/// The sorters that can be chosen by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// [`DominantShare`].
    #[default]
    Drf,
    /// [`Random`].
    Random,
}

/// The name of a sorter that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `drf` or `random`, got '{0}'")]
pub struct UnknownOrder(String);

impl Order {
    /// The sorter.
    pub fn sorter(self, seed: &Seed) -> Box<dyn Sorter> {
        match self {
            Self::Drf => Box::new(DominantShare),
            Self::Random => Box::new(Random::new(seed)),
        }
    }
}

impl FromStr for Order {
    type Err = UnknownOrder;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "drf" => Ok(Self::Drf),
            "random" => Ok(Self::Random),
            _ => Err(UnknownOrder(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_follows_weights() {
        let mut sorter = Random::new(&Seed::new(3));
        let mut clients = [1.0, 3.0].map(|weight| Client {
            name: "x",
            share: 0.0,
            weight,
            grants: 0,
            rank: None,
            was_granted: false,
            latest: 0.0,
        });
        let mut wins = [0; 2];
        for _ in 0..10_000 {
            for client in &mut clients {
                client.rank = Some(sorter.rank(client));
                client.was_granted = false;
            }
            let winner = usize::from(clients[1].rank < clients[0].rank);
            wins[winner] += 1;
            clients[winner].was_granted = true;
            let latest = clients[winner].rank.unwrap();
            for client in &mut clients {
                client.latest = latest;
            }
        }
        assert!((2300..2700).contains(&wins[0]), "{wins:?}");
    }
}
