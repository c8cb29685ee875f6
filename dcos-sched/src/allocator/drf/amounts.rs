//! Scalar amounts as short vectors of integers: what shares and minimums are computed from.

use std::collections::BTreeMap;

use dcos_core::resources::{ResourceExt, Resources};

/// Gives each resource name a small number.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, usize>);

impl Names {
    pub(super) fn number(&mut self, name: &str) -> usize {
        if let Some(number) = self.0.get(name) {
            return *number;
        }
        let number = self.0.len();
        self.0.insert(name.to_owned(), number);
        number
    }

    /// The scalars of `resources` that fulfil a condition, added up by name.
    pub(super) fn amounts(&mut self, resources: &Resources) -> Amounts {
        let mut amounts = Amounts::default();
        for resource in resources.iter() {
            if let Some(amount) = resource.scalar_value() {
                let number = self.number(&resource.name);
                amounts.slot(number).add(amount.as_millis());
            }
        }
        amounts
    }
}

/// Thousandths of each resource, by the number of its name. What lies beyond the end is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Amounts(Vec<i64>);

/// One amount, in place.
struct Slot<'a>(&'a mut i64);

impl Slot<'_> {
    fn add(self, amount: i64) {
        *self.0 = self.0.saturating_add(amount);
    }
}

impl Amounts {
    fn slot(&mut self, number: usize) -> Slot<'_> {
        if self.0.len() <= number {
            self.0.resize(number + 1, 0);
        }
        Slot(&mut self.0[number])
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (number, amount) in other.0.iter().enumerate() {
            self.slot(number).add(*amount);
        }
    }

    pub(super) fn remove(&mut self, other: &Self) {
        for (number, amount) in other.0.iter().enumerate() {
            self.slot(number).add(-*amount);
        }
    }

    /// The largest part that these are of `totals`, leaving out names marked in `unfair`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share needs no more than 53 bits"
    )]
    pub(super) fn dominant_share(&self, totals: &Self, unfair: &[usize]) -> f64 {
        let mut share = 0.0_f64;
        for (number, (amount, total)) in self.0.iter().zip(&totals.0).enumerate() {
            if *total > 0 && !unfair.contains(&number) {
                share = share.max(*amount as f64 / *total as f64);
            }
        }
        share
    }
}
