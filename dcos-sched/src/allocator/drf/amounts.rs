//! Amounts as short vectors of integers: what shares, quotas and minimums are computed from.

use std::collections::BTreeMap;

use dcos_core::resources::{Quantities, ResourceExt, Resources, Scalar};
use dcos_proto::mesos::{Resource, value};

/// Gives each resource name a small number.
#[derive(Debug)]
pub(super) struct Names {
    numbers: BTreeMap<String, usize>,
    names: Vec<String>,
}

/// What nearly every agent has; their numbers are found without a search.
const USUAL: [&str; 5] = ["cpus", "mem", "disk", "gpus", "ports"];

impl Default for Names {
    fn default() -> Self {
        let names = USUAL.map(ToOwned::to_owned).to_vec();
        let numbers = names.iter().cloned().zip(0..).collect();
        Self { numbers, names }
    }
}

impl Names {
    pub(super) fn number(&mut self, name: &str) -> usize {
        if let Some(number) = USUAL.iter().position(|usual| *usual == name) {
            return number;
        }
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len();
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }

    /// The number of a name that occurred already.
    pub(super) fn known(&self, name: &str) -> Option<usize> {
        let usual = USUAL.iter().position(|usual| *usual == name);
        usual.or_else(|| self.numbers.get(name).copied())
    }

    pub(super) fn name(&self, number: usize) -> &str {
        &self.names[number]
    }

    /// The scalars of `resources`, added up by name.
    pub(super) fn scalars(&mut self, resources: &Resources) -> Amounts {
        self.sum(resources.iter())
    }

    /// The scalars of those that quotas count as they are held: unreserved and not revocable.
    pub(super) fn open_scalars(&mut self, resources: &Resources) -> Amounts {
        self.sum(resources.iter().filter(|resource| is_open(resource)))
    }

    fn sum<'a>(&mut self, resources: impl Iterator<Item = &'a Resource>) -> Amounts {
        let mut amounts = Amounts::default();
        for resource in resources {
            if let Some(amount) = resource.scalar_value() {
                *amounts.slot(self.number(&resource.name)) += amount.as_millis();
            }
        }
        amounts
    }

    /// How much there is by name, counting the members of ranges and sets: what minimums ask for.
    pub(super) fn counts(&mut self, resources: &Resources) -> Amounts {
        let mut amounts = Amounts::default();
        for resource in resources.iter() {
            let count = match resource.r#type() {
                value::Type::Scalar => {
                    let amount = resource.scalar_value().unwrap_or_default();
                    *amounts.slot(self.number(&resource.name)) += amount.as_millis();
                    continue;
                }
                value::Type::Ranges => resource.ranges.as_ref().map_or(0, |ranges| {
                    let len = |range: &value::Range| range.end.saturating_sub(range.begin) + 1;
                    ranges.range.iter().map(len).sum()
                }),
                value::Type::Set => resource.set.as_ref().map_or(0, |set| set.item.len() as u64),
                value::Type::Text => 0,
            };
            let slot = amounts.slot(self.number(&resource.name));
            *slot = slot.saturating_add(i64::try_from(count).unwrap_or(i64::MAX / 1000) * 1000);
        }
        amounts
    }

    pub(super) fn quantities(&mut self, quantities: &Quantities) -> Amounts {
        let mut amounts = Amounts::default();
        for (name, amount) in quantities.iter() {
            *amounts.slot(self.number(name)) += amount.as_millis();
        }
        amounts
    }

    /// The same of what somebody asks for; `None` if some of it has never been anywhere. No name is kept.
    pub(super) fn known_quantities(&self, quantities: &Quantities) -> Option<Amounts> {
        let mut amounts = Amounts::default();
        for (name, amount) in quantities.iter() {
            *amounts.slot(self.known(name)?) += amount.as_millis();
        }
        Some(amounts)
    }

    /// With their names again; what is not positive is left out.
    pub(super) fn to_quantities(&self, amounts: &Amounts) -> Quantities {
        amounts
            .iter()
            .filter(|(_, amount)| *amount > 0)
            .map(|(number, amount)| (self.name(number).to_owned(), Scalar::from_millis(amount)))
            .collect()
    }
}

/// Whether a resource counts towards a quota when it is held: reserved ones always count,
/// revocable ones never.
pub(super) fn is_open(resource: &Resource) -> bool {
    resource.is_unreserved() && !resource.is_revocable()
}

/// Thousandths of each resource, by the number of its name.
#[derive(Debug, Clone, Default)]
pub(super) struct Amounts {
    /// Those with small numbers, which is all of them in most clusters.
    first: [i64; USUAL.len()],
    more: Vec<i64>,
}

impl PartialEq for Amounts {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first
            && (0..self.more.len().max(other.more.len()))
                .all(|at| self.more.get(at).unwrap_or(&0) == other.more.get(at).unwrap_or(&0))
    }
}

impl Amounts {
    pub(super) fn get(&self, number: usize) -> i64 {
        let more = || self.more.get(number - USUAL.len());
        *self.first.get(number).or_else(more).unwrap_or(&0)
    }

    pub(super) fn slot(&mut self, number: usize) -> &mut i64 {
        let Some(beyond) = number.checked_sub(USUAL.len()) else {
            return &mut self.first[number];
        };
        if self.more.len() <= beyond {
            self.more.resize(beyond + 1, 0);
        }
        &mut self.more[beyond]
    }

    /// Numbers and amounts, zeros included.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, i64)> {
        self.first.iter().chain(&self.more).copied().enumerate()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.iter().all(|(_, amount)| amount == 0)
    }

    pub(super) fn has_positive(&self) -> bool {
        self.iter().any(|(_, amount)| amount > 0)
    }

    fn combine(&mut self, other: &Self, change: impl Fn(i64, i64) -> i64) {
        if self.more.len() < other.more.len() {
            self.more.resize(other.more.len(), 0);
        }
        for (mine, theirs) in self.first.iter_mut().zip(other.first) {
            *mine = change(*mine, theirs);
        }
        for (at, mine) in self.more.iter_mut().enumerate() {
            *mine = change(*mine, other.more.get(at).copied().unwrap_or(0));
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    pub(super) fn remove(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// The smaller of both, name by name.
    pub(super) fn lower_to(&mut self, other: &Self) {
        self.combine(other, i64::min);
    }

    /// The larger of both, name by name.
    pub(super) fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    /// What is missing to `self` when there is `other`; nothing is less than zero.
    pub(super) fn beyond(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        rest.combine(other, |mine, theirs| mine.saturating_sub(theirs).max(0));
        rest
    }

    /// Whether there is as much of everything as in `other`.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.first
            .iter()
            .zip(other.first)
            .all(|(mine, theirs)| *mine >= theirs)
            && other
                .more
                .iter()
                .enumerate()
                .all(|(at, theirs)| self.more.get(at).copied().unwrap_or(0) >= *theirs)
    }

    /// The largest part that these are of `totals`, leaving out names marked in `unfair`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share needs no more than 53 bits"
    )]
    pub(super) fn dominant_share(&self, totals: &Self, unfair: &[usize]) -> f64 {
        let mut share = 0.0_f64;
        for ((number, amount), (_, total)) in self.iter().zip(totals.iter()) {
            if amount > 0 && total > 0 && (unfair.is_empty() || !unfair.contains(&number)) {
                share = share.max(amount as f64 / total as f64);
            }
        }
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_usual_count_too() {
        let mut names = Names::default();
        let many = Resources::parse("cpus:1;a:1;b:2;c:3;cpus(r):4;ports:[1-10]").unwrap();
        let few = Resources::parse("cpus:1").unwrap();
        let (all, few) = (names.scalars(&many), names.scalars(&few));
        assert!(all.covers(&few) && !few.covers(&all));
        assert_eq!(all.get(0), 5000);
        assert_eq!(names.open_scalars(&many).get(0), 1000);
        let asked = |text: &str| names.known_quantities(&text.parse().unwrap());
        assert_eq!(asked("cpus:1").unwrap().get(0), 1000);
        assert!(asked("cpus:1;unheard:1").is_none() && names.known("unheard").is_none());
        let ports = names.number("ports");
        assert_eq!(names.counts(&many).get(ports), 10_000);
        let mut rest = all.clone();
        rest.remove(&all);
        assert!(rest.is_zero() && rest == Amounts::default() && !rest.has_positive());
        assert_eq!(
            names.to_quantities(&all.beyond(&few)).to_string(),
            "a:1; b:2; c:3; cpus:4"
        );
    }
}
