//! What happens to frameworks.

use std::sync::Arc;

use dcos_core::resources::Quantities;
use dcos_core::time::Time;
use dcos_proto::mesos::FrameworkId;

use super::super::words::FrameworkSpec;
use super::seat::{Seat, Wish};
use super::{Framework, HierarchicalDrf};

impl HierarchicalDrf {
    fn next_epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }

    /// The number of a framework; one we have not been told of yet is made up.
    pub(super) fn framework(&mut self, id: &FrameworkId) -> usize {
        if let Some(at) = self.framework_ids.get(id) {
            return *at;
        }
        let at = self.frameworks.insert(Framework {
            spec: FrameworkSpec {
                id: id.clone(),
                ..FrameworkSpec::default()
            },
            id: id.value.as_str().into(),
            known: false,
            active: false,
            is_wanting: false,
            leaves: std::collections::BTreeMap::new(),
        });
        self.framework_ids.insert(id.clone(), at);
        at
    }

    pub(super) fn known_framework(&self, id: &FrameworkId) -> Option<usize> {
        self.framework_ids
            .get(id)
            .copied()
            .filter(|at| self.frameworks[*at].known)
    }

    pub(super) fn add_framework(&mut self, spec: FrameworkSpec) {
        let at = self.framework(&spec.id);
        self.frameworks[at].known = true;
        self.frameworks[at].active = true;
        self.forget_refusals(at, |_| true);
        self.maintenance.forget(at);
        self.describe_framework(at, spec);
        self.invite(at, |_| true);
        self.maintenance.look_at_all();
    }

    pub(super) fn update_framework(&mut self, spec: FrameworkSpec) {
        if let Some(at) = self.known_framework(&spec.id) {
            self.describe_framework(at, spec);
        }
    }

    /// Takes over what a framework says of itself and lets its leaves follow.
    fn describe_framework(&mut self, at: usize, spec: FrameworkSpec) {
        let before = &self.frameworks[at].spec;
        let capable = before.capabilities != spec.capabilities || before.minimums != spec.minimums;
        let had_constraints = !before.constraints.is_empty();
        // Who wants offers for a role again, or leaves it, does not remember what it refused.
        let forgotten: Vec<String> = before
            .suppressed
            .difference(&spec.suppressed)
            .chain(before.roles.difference(&spec.roles))
            .cloned()
            .collect();
        for role in &spec.roles {
            self.leaf(at, role);
        }
        self.forget_refusals(at, |role| forgotten.iter().any(|other| other == role));
        self.frameworks[at].spec = spec;
        self.settle_framework(at);
        // Constraints cannot be compared; a framework that sends them again is looked at again.
        if capable || had_constraints || !self.frameworks[at].spec.constraints.is_empty() {
            self.invite(at, |_| true);
        }
    }

    /// The leaf of a framework in a role, made if there is none.
    pub(super) fn leaf(&mut self, at: usize, role: &str) -> usize {
        if let Some(leaf) = self.frameworks[at].leaves.get(role) {
            return *leaf;
        }
        let epoch = self.next_epoch();
        let shared: Arc<str> = role.into();
        let id = self.frameworks[at].id.clone();
        let leaf = self.tree.leaf(&shared, at, &id);
        let account = self.quotas.account(role);
        self.seats.set(leaf, Some(Seat::new(at, account, epoch)));
        self.quotas.add_leaf(account, leaf);
        self.follow_account(account);
        self.frameworks[at].leaves.insert(role.to_owned(), leaf);
        leaf
    }

    fn remove_leaf(&mut self, at: usize, role: &str) {
        let Some(leaf) = self.frameworks[at].leaves.remove(role) else {
            return;
        };
        let seat = &self.seats[leaf];
        self.own_minimums -= usize::from(seat.minimum.is_some());
        if let Some(due) = seat.wish.as_ref().and_then(|wish| wish.due) {
            self.impatient.remove(&(due, leaf));
        }
        let account = seat.account;
        self.tree.remove(leaf);
        self.seats.set(leaf, None);
        self.quotas.remove_leaf(account, leaf);
    }

    /// Lets each leaf take part or not, and drops those that have no purpose any more.
    pub(super) fn settle_framework(&mut self, at: usize) {
        let Framework {
            spec,
            active,
            leaves,
            known,
            is_wanting,
            ..
        } = &mut self.frameworks[at];
        let mut idle = Vec::new();
        let mut wants = false;
        for (role, leaf) in leaves.iter() {
            let subscribed = spec.roles.contains(role);
            let takes_part = *active && subscribed && !spec.suppressed.contains(role);
            wants |= takes_part;
            if takes_part && !self.tree.is_active(*leaf) {
                self.agenda.leaves.insert(*leaf);
            }
            self.tree.set_active(*leaf, takes_part);
            let seat = &mut self.seats[*leaf];
            let minimum = spec.minimums.get(role).cloned();
            self.own_minimums += usize::from(minimum.is_some());
            self.own_minimums -= usize::from(seat.minimum.is_some());
            seat.minimum = minimum;
            seat.is_choosy = !spec.constraints.is_empty();
            if !subscribed && seat.holdings == 0 {
                idle.push(role.clone());
            }
        }
        let wanted = std::mem::replace(is_wanting, wants);
        let is_stray = !*known;
        self.wanting = self.wanting + usize::from(wants) - usize::from(wanted);
        if wanted && !wants && self.wanting <= 1 {
            self.invite_held_up();
        }
        for role in idle {
            self.remove_leaf(at, &role);
        }
        if is_stray && self.frameworks[at].leaves.is_empty() {
            let id = self.frameworks[at].spec.id.clone();
            self.frameworks.remove(at);
            self.framework_ids.remove(&id);
            self.maintenance.forget(at);
        }
    }

    /// Nobody else waits any more: what is held up need not be.
    fn invite_held_up(&mut self) {
        for (leaf, seat) in self.seats.iter_mut() {
            if std::mem::take(&mut seat.is_held_up) {
                self.agenda.leaves.insert(leaf);
            }
        }
    }

    pub(super) fn set_framework_active(&mut self, id: &FrameworkId, active: bool) {
        let Some(at) = self.known_framework(id) else {
            return;
        };
        self.frameworks[at].active = active;
        if active {
            self.maintenance.look_at_all();
        } else {
            self.forget_refusals(at, |_| true);
            self.maintenance.forget(at);
        }
        self.settle_framework(at);
    }

    pub(super) fn remove_framework(&mut self, id: &FrameworkId) {
        let Some(at) = self.known_framework(id) else {
            return;
        };
        self.release_everything(at);
        let framework = &mut self.frameworks[at];
        framework.spec = FrameworkSpec {
            id: id.clone(),
            ..FrameworkSpec::default()
        };
        framework.known = false;
        framework.active = false;
        self.settle_framework(at);
    }

    pub(super) fn suppress(&mut self, id: &FrameworkId, roles: Vec<String>) {
        let Some(at) = self.known_framework(id) else {
            return;
        };
        let spec = &mut self.frameworks[at].spec;
        let roles = if roles.is_empty() {
            spec.roles.iter().cloned().collect()
        } else {
            roles
        };
        spec.suppressed.extend(roles);
        self.settle_framework(at);
    }

    pub(super) fn revive(&mut self, id: &FrameworkId, roles: &[String]) {
        let Some(at) = self.known_framework(id) else {
            return;
        };
        let is_meant = |role: &str| roles.is_empty() || roles.iter().any(|other| other == role);
        self.frameworks[at]
            .spec
            .suppressed
            .retain(|role| !is_meant(role));
        self.forget_refusals(at, is_meant);
        self.settle_framework(at);
        self.invite(at, is_meant);
    }

    pub(super) fn wish(&mut self, now: Time, id: &FrameworkId, pieces: &[Quantities]) {
        let Some(at) = self.known_framework(id) else {
            return;
        };
        // What no agent ever had cannot be offered, and names are kept for good: frameworks make up none.
        let pieces: Vec<_> = pieces
            .iter()
            .filter_map(|piece| self.names.known_quantities(piece))
            .collect();
        for leaf in self.frameworks[at].leaves.values() {
            let seat = &mut self.seats[*leaf];
            let used = seat.used(self.tree.allocated(*leaf));
            let due = self.config.preempt_after.filter(|_| !pieces.is_empty());
            let due = due.map(|patience| now + patience);
            let wish = (!pieces.is_empty()).then(|| Wish::new(pieces.clone(), used, due));
            if let Some(Wish { due: Some(due), .. }) = std::mem::replace(&mut seat.wish, wish) {
                self.impatient.remove(&(due, *leaf));
            }
            self.impatient.extend(due.map(|due| (due, *leaf)));
            if std::mem::take(&mut seat.is_held_up) {
                self.agenda.leaves.insert(*leaf);
            }
        }
    }

    fn forget_refusals(&mut self, at: usize, is_meant: impl Fn(&str) -> bool) {
        for (role, leaf) in &self.frameworks[at].leaves {
            if is_meant(role) {
                self.epochs += 1;
                self.seats[*leaf].epoch = self.epochs;
            }
        }
    }

    /// Lets a framework meet every agent in the next round.
    fn invite(&mut self, at: usize, is_meant: impl Fn(&str) -> bool) {
        let leaves = self.frameworks[at].leaves.iter();
        self.agenda.leaves.extend(
            leaves
                .filter(|(role, _)| is_meant(role))
                .map(|(_, leaf)| *leaf),
        );
    }
}
