//! Who is not looked at for an offer, since what turned it down for another one turns it down again.
//!
//! Whether a constraint of a spec holds follows from the value that an agent has of one property, and from where the spec's
//! instances are. Until it launches something, a spec that was turned down for a value is turned down for all offers with that
//! value: that costs it a bit each, and what there is to say of it is put together at the end.

use std::collections::HashMap;

use super::Turn;
use crate::matching::{Placed, Reasons, Site, Stock, broken};

/// Who is turned down by which offers, by the places of turns and offers.
#[derive(Debug)]
pub(super) struct Blocked {
    /// The properties that constraints look at.
    fields: Vec<String>,
    /// Of each offer and each of `fields`: the group of the offers with the same value of it and the same role.
    groups: Vec<Vec<usize>>,
    /// How many offers there are of each group, and whom they turn down.
    members: Vec<(usize, Bits)>,
    /// The groups that turn down each turn.
    of_turn: Vec<Vec<usize>>,
    skipped: Vec<Skipped>,
}

/// Turns that did not look at an offer.
#[derive(Debug)]
pub(super) struct Skipped {
    offer: usize,
    turns: Bits,
    /// What the offer had left, from a turn on.
    stocks: Vec<(usize, Stock)>,
    /// From this turn on nobody had a look.
    end: usize,
}

impl Blocked {
    pub(super) fn new(turns: &[Turn], sites: &[Site]) -> Self {
        let mut fields: Vec<String> = Vec::new();
        for constraint in turns.iter().flat_map(|turn| &turn.spec.constraints) {
            if !fields.contains(&constraint.field) {
                fields.push(constraint.field.clone());
            }
        }
        let mut known = HashMap::new();
        let mut members: Vec<(usize, Bits)> = Vec::new();
        let mut group = |site, field| {
            let Site { role, agent, .. }: &Site = site;
            let key = (field, agent.field(field), role.as_str());
            let group = *known.entry(key).or_insert_with(|| {
                members.push((0, Bits::default()));
                members.len() - 1
            });
            members[group].0 += 1;
            group
        };
        let groups = sites.iter().map(|site| {
            let groups = fields.iter().map(|field| group(site, field.as_str()));
            groups.collect()
        });
        Self {
            groups: groups.collect(),
            members,
            of_turn: vec![Vec::new(); turns.len()],
            skipped: Vec::new(),
            fields,
        }
    }

    /// Those of `turns` that an offer is known to turn down, with what it has for them.
    pub(super) fn by(&self, offer: usize, turns: &Bits, stock: Stock) -> Skipped {
        let mut blocked = Bits::default();
        for group in &self.groups[offer] {
            blocked.add(&self.members[*group].1);
        }
        blocked.keep(turns);
        Skipped {
            offer,
            turns: blocked,
            stocks: vec![(0, stock)],
            end: usize::MAX,
        }
    }

    /// Those did not look.
    pub(super) fn note(&mut self, skipped: Skipped) {
        if !skipped.turns.is_empty() {
            self.skipped.push(skipped);
        }
    }

    /// A constraint of `turn` does not hold at the site of an offer.
    pub(super) fn refused(
        &mut self,
        turn: usize,
        spec: &Turn,
        offer: usize,
        site: &Site,
        placed: &Placed,
    ) {
        // A match of certain ports looks at the very ranges of an offer, which nobody remembers.
        let remembers = spec.needs.wants_any_ports();
        let Some(field) = broken(&spec.spec, site, placed).filter(|_| remembers) else {
            return;
        };
        let Some(field) = self.fields.iter().position(|known| known == field) else {
            return;
        };
        let group = self.groups[offer][field];
        let (offers, blocked) = &mut self.members[group];
        if *offers > 1 {
            blocked.insert(turn);
            self.of_turn[turn].push(group);
        }
    }

    /// What constraints say of `turn` is another thing now.
    pub(super) fn forget(&mut self, turn: usize) {
        for group in self.of_turn[turn].drain(..) {
            self.members[group].1.remove(turn);
        }
    }

    /// How many offers each turn did not look at.
    pub(super) fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.of_turn.len()];
        for skipped in &self.skipped {
            for turn in skipped.turns.iter().take_while(|turn| *turn < skipped.end) {
                counts[turn] += 1;
            }
        }
        counts
    }

    /// The offers that a turn did not look at, and what it would have found, latest first.
    pub(super) fn latest<'a>(
        &'a self,
        turn: usize,
        spec: &'a Turn,
        sites: &'a [Site],
    ) -> impl Iterator<Item = (usize, Reasons)> {
        let all = self.skipped.iter().rev();
        let own = all.filter(move |skipped| turn < skipped.end && skipped.turns.contains(turn));
        own.map(move |skipped| {
            let stock = skipped.stock(turn);
            let reasons = spec.needs.turned_down(&sites[skipped.offer], stock);
            (skipped.offer, reasons)
        })
    }
}

impl Skipped {
    /// Who did not look.
    pub(super) fn turns(&self) -> &Bits {
        &self.turns
    }

    /// A turn took something, and left so much to the next ones.
    pub(super) fn left(&mut self, turn: usize, stock: Stock) {
        self.stocks.push((turn + 1, stock));
    }

    /// Nobody after a turn had a look.
    pub(super) fn end(&mut self, turn: usize) {
        self.end = turn;
    }

    fn stock(&self, turn: usize) -> &Stock {
        let after = self.stocks.partition_point(|(from, _)| *from <= turn);
        &self.stocks[after - 1].1
    }
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// All numbers below.
    pub(super) fn below(count: usize) -> Self {
        let mut bits = Self(vec![u64::MAX; count / 64]);
        if !count.is_multiple_of(64) {
            bits.0.push((1 << (count % 64)) - 1);
        }
        bits
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn insert(&mut self, number: usize) {
        if self.0.len() <= number / 64 {
            self.0.resize(number / 64 + 1, 0);
        }
        self.0[number / 64] |= 1 << (number % 64);
    }

    pub(super) fn remove(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    fn contains(&self, number: usize) -> bool {
        let word = self.0.get(number / 64);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn add(&mut self, more: &Self) {
        if self.0.len() < more.0.len() {
            self.0.resize(more.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&more.0) {
            *word |= more;
        }
    }

    fn keep(&mut self, kept: &Self) {
        self.0.truncate(kept.0.len());
        for (word, kept) in self.0.iter_mut().zip(&kept.0) {
            *word &= kept;
        }
    }

    /// Those that are not in the other one.
    pub(super) fn without(&self, other: &Self) -> Self {
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        let words = self.0.iter().zip(others);
        Self(words.map(|(word, other)| word & !other).collect())
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_numbers() {
        for count in [0, 1, 63, 64, 65, 200] {
            let mut all = Bits::below(count);
            assert!(all.iter().eq(0..count), "{count}");
            all.remove(64);
            assert_eq!(all.contains(63), count > 63);
            assert!(!all.contains(64) && all.is_empty() == (count == 0));
        }
        let mut some = Bits::default();
        for number in [3, 130, 64] {
            some.insert(number);
        }
        let rest = Bits::below(131).without(&some);
        assert_eq!(rest.iter().count(), 128);
        some.keep(&Bits::below(70));
        assert!(some.iter().eq([3, 64]));
        some.add(&Bits::below(2));
        assert!(some.iter().eq([0, 1, 3, 64]));
    }
}
