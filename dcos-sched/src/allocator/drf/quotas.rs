//! Quotas: what each top-level role consumes, what is promised to it and what it may have.
//!
//! ```text
//! consumed = all that is reserved for the role or below it, held or not
//!          + unreserved, non-revocable scalars held in the role or below it
//! required = Σ over roles of what is missing from their guarantees
//! surplus  = unreserved, non-revocable scalars that nobody holds − required
//! ```
//!
//! Everything is kept up to date change by change. Source: Mesos 1.11 `hierarchical.cpp`
//! (`__generateOffers`, `RoleTree`); rules AL-5 to AL-7 of the conformance inventory.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::Resources;
use dcos_core::roles;

use super::super::words::Quota;
use super::amounts::{Amounts, Names};
use super::slab::Slab;
use super::tree::Lane;

/// The accounts of top-level roles.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    numbers: BTreeMap<String, usize>,
    accounts: Slab<Account>,
    /// What nobody holds of unreserved, non-revocable scalars.
    free: Amounts,
    required: Amounts,
    /// The cluster's minimum worth an offer.
    minimum: Vec<Amounts>,
    /// How many accounts have guarantees or limits.
    bounded: usize,
    /// How many accounts with leaves wait for their guarantee.
    waiting: usize,
}

/// What is known of one top-level role.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) role: String,
    pub(super) quota: Quota,
    guarantees: Amounts,
    limits: Vec<(usize, i64)>,
    pub(super) consumed: Amounts,
    /// What is missing from the guarantee.
    missing: Amounts,
    /// The leaves in this role and below it.
    pub(super) leaves: BTreeSet<usize>,
    /// Whether somebody got less, or nothing, because of a limit.
    pub(super) is_limiting: bool,
    pub(super) lane: Lane,
}

/// How much of an agent a role may have.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) amounts: Amounts,
    pub(super) cut: Cut,
}

/// What made it less than there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) limit: bool,
    pub(super) headroom: bool,
}

impl Quotas {
    pub(super) fn new(minimum: Vec<Amounts>) -> Self {
        Self {
            minimum,
            ..Self::default()
        }
    }

    /// The account of the role above `role`, made if there is none.
    pub(super) fn account(&mut self, role: &str) -> usize {
        let top = roles::top_level(role);
        if let Some(at) = self.numbers.get(top) {
            return *at;
        }
        let at = self.accounts.insert(Account {
            role: top.to_owned(),
            ..Account::default()
        });
        self.numbers.insert(top.to_owned(), at);
        at
    }

    /// The account of the role above `role`, if there is one.
    pub(super) fn find(&self, role: &str) -> Option<usize> {
        self.numbers.get(roles::top_level(role)).copied()
    }

    pub(super) fn get(&self, account: usize) -> &Account {
        &self.accounts[account]
    }

    pub(super) fn get_mut(&mut self, account: usize) -> &mut Account {
        &mut self.accounts[account]
    }

    /// All that are worth mentioning, by role.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.numbers.values().map(|at| &self.accounts[*at])
    }

    pub(super) fn add_leaf(&mut self, account: usize, leaf: usize) {
        self.change(account, |account| _ = account.leaves.insert(leaf));
    }

    pub(super) fn remove_leaf(&mut self, account: usize, leaf: usize) {
        self.change(account, |account| _ = account.leaves.remove(&leaf));
        self.forget_idle(account);
    }

    /// Sets or removes the bounds of a role.
    pub(super) fn set(&mut self, names: &mut Names, role: &str, quota: Quota) -> usize {
        let at = self.account(role);
        let was_bounded = !self.accounts[at].quota.is_default();
        let guarantees = names.quantities(&quota.guarantees);
        let limits = quota
            .limits
            .iter()
            .map(|(name, limit)| (names.number(name), limit.as_millis()))
            .collect();
        self.bounded = self.bounded + usize::from(!quota.is_default()) - usize::from(was_bounded);
        self.change(at, |account| {
            account.guarantees = guarantees;
            account.limits = limits;
            account.quota = quota;
        });
        at
    }

    /// Counts what a role consumes more.
    pub(super) fn consume(&mut self, account: usize, amounts: &Amounts) {
        if !amounts.is_zero() {
            self.change(account, |account| account.consumed.add(amounts));
        }
    }

    /// Counts what a role consumes less.
    pub(super) fn release(&mut self, account: usize, amounts: &Amounts) {
        if !amounts.is_zero() {
            self.change(account, |account| account.consumed.remove(amounts));
            self.forget_idle(account);
        }
    }

    /// Counts reservations that come or go with an agent's total.
    pub(super) fn reserve(&mut self, names: &mut Names, total: &Resources, is_more: bool) {
        for (role, part) in total.reservations() {
            let account = self.account(&role);
            let amounts = names.scalars(&part);
            if is_more {
                self.consume(account, &amounts);
            } else {
                self.release(account, &amounts);
            }
        }
    }

    /// Counts what nobody holds.
    pub(super) fn change_free(&mut self, more: &Amounts, less: &Amounts) {
        self.free.add(more);
        self.free.remove(less);
    }

    /// Changes an account, and what follows from it.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut Account)) {
        let account = &mut self.accounts[at];
        let was_waiting = account.is_waiting();
        change(account);
        if account.quota.is_default() && !account.missing.has_positive() {
            account.lane = Lane::Open;
            return;
        }
        self.required.remove(&account.missing);
        account.missing = account.guarantees.beyond(&account.consumed);
        self.required.add(&account.missing);
        self.waiting = self.waiting + usize::from(account.is_waiting()) - usize::from(was_waiting);
        account.lane = if account.missing.has_positive() {
            Lane::Promised
        } else if account.is_full(&self.minimum) {
            account.is_limiting = true;
            Lane::Full
        } else {
            Lane::Open
        };
    }

    pub(super) fn forget_idle(&mut self, at: usize) {
        let account = &self.accounts[at];
        if account.leaves.is_empty() && account.quota.is_default() && account.consumed.is_zero() {
            self.numbers.remove(&account.role);
            self.accounts.remove(at);
        }
    }

    /// Whether any role is promised or limited anything.
    pub(super) fn are_bounded(&self) -> bool {
        self.bounded > 0
    }

    /// Whether a role that has frameworks waits for what it is promised.
    pub(super) fn are_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Whether something has to be kept free.
    pub(super) fn keep_free(&self) -> bool {
        self.required.has_positive()
    }

    /// What may be handed out beyond guarantees; below zero if too much has been promised.
    pub(super) fn surplus(&self) -> Amounts {
        let mut surplus = self.free.clone();
        surplus.remove(&self.required);
        surplus
    }

    /// What `account` may have of the `open` scalars of an agent in the second stage: up to its
    /// limits, and no more than the surplus.
    pub(super) fn room(&self, account: usize, open: &Amounts) -> Room {
        let mut cut = Cut::default();
        let mut room = open.clone();
        cut.limit = self.accounts[account].limit(&mut room, None);
        cut.headroom = self.leave_headroom(&mut room);
        Room { amounts: room, cut }
    }

    /// What anybody without limits may have.
    pub(super) fn surplus_of(&self, open: &Amounts) -> Amounts {
        let mut room = open.clone();
        self.leave_headroom(&mut room);
        room
    }

    /// What `account` may have in the first stage: what makes progress towards its guarantee, and
    /// what its limits and the surplus allow beyond it. `None` if nothing makes progress.
    pub(super) fn promised(&self, account: usize, open: &Amounts) -> Option<Room> {
        let account = &self.accounts[account];
        let mut guaranteed = account.missing.clone();
        guaranteed.lower_to(open);
        guaranteed.raise_to(&Amounts::default());
        if !guaranteed.has_positive() {
            return None;
        }
        let mut cut = Cut::default();
        let mut more = open.clone();
        more.remove(&guaranteed);
        cut.limit = account.limit(&mut more, Some(&guaranteed));
        cut.headroom = self.leave_headroom(&mut more);
        more.add(&guaranteed);
        Some(Room { amounts: more, cut })
    }

    /// Cuts amounts down to the surplus; whether that made a difference.
    fn leave_headroom(&self, amounts: &mut Amounts) -> bool {
        self.keep_free() && cut_to(amounts, |amounts| amounts.lower_to(&self.surplus()))
    }

    /// Whether the limits of `account` leave room for all of `amounts`.
    pub(super) fn allow(&self, account: usize, amounts: &Amounts) -> bool {
        !self.accounts[account].limit(&mut amounts.clone(), None)
    }

    /// Whether amounts are worth an offer by the cluster's minimum.
    pub(super) fn are_worth_it(&self, counts: &Amounts) -> bool {
        self.minimum.is_empty() || self.minimum.iter().any(|least| counts.covers(least))
    }

    /// The roles for whose guarantees something is kept free.
    pub(super) fn waiting_roles(&self) -> Vec<String> {
        self.iter()
            .filter(|account| account.missing.has_positive())
            .map(|account| account.role.clone())
            .collect()
    }
}

impl Account {
    fn is_waiting(&self) -> bool {
        !self.leaves.is_empty() && self.missing.has_positive()
    }

    pub(super) fn is_limited(&self) -> bool {
        !self.limits.is_empty()
    }

    pub(super) fn is_missing_something(&self) -> bool {
        self.missing.has_positive()
    }

    /// Cuts `amounts` down to what the limits leave, once `beside` is consumed as well; whether
    /// that made a difference.
    fn limit(&self, amounts: &mut Amounts, beside: Option<&Amounts>) -> bool {
        self.is_limited()
            && cut_to(amounts, |amounts| {
                for (name, limit) in &self.limits {
                    let beside = beside.map_or(0, |beside| beside.get(*name));
                    let slot = amounts.slot(*name);
                    *slot = (*slot).min(limit - self.consumed.get(*name) - beside);
                }
            })
    }

    /// The numbers of resources of which there may be no more.
    pub(super) fn exhausted(&self) -> impl Iterator<Item = usize> {
        let left = |(name, limit): &&(usize, i64)| *limit <= self.consumed.get(*name);
        self.limits.iter().filter(left).map(|(name, _)| *name)
    }

    /// Whether no agent could make an offer of unreserved scalars to the role that is worth it.
    fn is_full(&self, minimum: &[Amounts]) -> bool {
        let is_out_of_reach = |least: &Amounts| {
            self.limits
                .iter()
                .any(|(name, limit)| limit - self.consumed.get(*name) < least.get(*name))
        };
        !minimum.is_empty() && minimum.iter().all(is_out_of_reach)
    }
}

/// Makes amounts smaller, but not negative; whether that made a difference.
fn cut_to(amounts: &mut Amounts, cut: impl FnOnce(&mut Amounts)) -> bool {
    let before = amounts.clone();
    cut(amounts);
    amounts.raise_to(&Amounts::default());
    *amounts != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surplus_is_what_no_guarantee_needs() {
        let mut names = Names::default();
        let mut amounts = |text: &str| names.quantities(&text.parse().unwrap());
        let (free, least, one) = (
            amounts("cpus:10;mem:100"),
            amounts("cpus:1"),
            amounts("cpus:1"),
        );
        let mut quotas = Quotas::new(vec![least]);
        quotas.change_free(&free, &Amounts::default());
        let quota = Quota {
            guarantees: "cpus:4".parse().unwrap(),
            limits: [(
                "cpus".to_owned(),
                dcos_core::resources::Scalar::from_f64(5.0),
            )]
            .into(),
        };
        let account = quotas.set(&mut names, "a", quota);
        assert_eq!(quotas.surplus().get(0), 6000);
        assert!(!quotas.are_waiting(), "nobody is there to take it");
        let Room { amounts, cut } = quotas.promised(account, &free).unwrap();
        assert_eq!(amounts.get(0), 5000);
        assert_eq!(amounts.get(1), 100_000, "what has no bounds comes along");
        assert!(cut.limit && !cut.headroom);

        for _ in 0..4 {
            quotas.consume(account, &one);
        }
        assert_eq!(quotas.get(account).lane, Lane::Open);
        assert_eq!(quotas.surplus().get(0), 10_000);
        assert_eq!(quotas.room(account, &free).amounts.get(0), 1000);
        quotas.consume(account, &one);
        assert_eq!(quotas.get(account).lane, Lane::Full);
        assert_eq!(quotas.get(account).exhausted().collect::<Vec<_>>(), [0]);

        quotas.set(&mut names, "a", Quota::default());
        assert_eq!(quotas.get(account).lane, Lane::Open);
        assert!(!quotas.are_bounded() && !quotas.keep_free());
    }
}
