//! Bookings that are taken back: operations that agents did not carry out.
//!
//! What was booked for an operation may be in use, by tasks or by operations booked later. So a booking is taken back
//! as soon as what it made is free. Of several that build on each other each may lack what another one holds;
//! those are taken back together, by what they come to.
//!
//! Source: none. Mesos leaves such bookings as they are, until the agent registers again.

use dcos_core::resources::Resources;
use dcos_core::resources::operation::{self, Conversion};
use dcos_proto::mesos::AgentId;
use dcos_proto::mesos::offer::Operation as Info;

use super::Master;

/// Among more than so many nobody looks for those that have to go together: each is compared with each.
const MOST: usize = 64;

impl Master {
    /// Takes back what was booked for an operation that the agent did not carry out, and for
    /// others that waited for what this one sets free.
    pub(crate) fn undo_operation(&mut self, agent: &AgentId, info: &Info) {
        let plain = operation::unallocated(info);
        let Ok(conversions) = operation::conversions(&plain) else {
            return;
        };
        let back = conversions.iter().rev().map(Conversion::reversed).collect();
        let Some(place) = self.agent_mut(agent) else {
            return;
        };
        place.undone.push(back);
        self.freed.insert(agent.clone());
    }

    /// Takes back what had to wait until nobody used what it made.
    pub(crate) fn settle_bookings(&mut self) {
        while let Some(agent) = self.freed.pop_first() {
            while self.undo_some(&agent) {}
        }
    }

    fn undo_some(&mut self, agent: &AgentId) -> bool {
        let Some(place) = self.agents.get(agent).filter(|it| !it.undone.is_empty()) else {
            return false;
        };
        let free = &place.total.unshared() - &place.used_total().unallocated().unshared();
        let free = &free + &place.total.shared();
        let Some((which, back)) = revocable(&free, &place.undone) else {
            return false;
        };
        for offer in self.offers_on(agent) {
            self.rescind(&offer);
        }
        let Some(place) = self.agent_mut(agent) else {
            return false;
        };
        for at in which.into_iter().rev() {
            place.undone.remove(at);
        }
        if let Ok(after) = place.total.convert_all(&back) {
            place.total = after;
        }
        self.tell_allocator_of_total(agent);
        true
    }
}

/// Which of `undone` can be taken back with what is free, in ascending order, and how.
fn revocable(
    free: &Resources,
    undone: &[Vec<Conversion>],
) -> Option<(Vec<usize>, Vec<Conversion>)> {
    let alone = undone
        .iter()
        .position(|back| free.convert_all(back).is_ok());
    if let Some(at) = alone {
        return Some((vec![at], undone[at].clone()));
    }
    if undone.len() > MOST {
        return None;
    }
    let sums: Vec<Conversion> = undone.iter().map(sum).collect();
    let mut grouped = vec![false; sums.len()];
    for first in 0..sums.len() {
        if grouped[first] {
            continue;
        }
        let group = group(first, &sums);
        for at in &group {
            grouped[*at] = true;
        }
        let together = vec![sum(group.iter().map(|at| &sums[*at]))];
        if free.convert_all(&together).is_ok() {
            return Some((group, together));
        }
    }
    None
}

/// What several conversions come to, in whatever order they are made.
fn sum<'a>(conversions: impl IntoIterator<Item = &'a Conversion>) -> Conversion {
    let (mut consumed, mut converted) = (Resources::new(), Resources::new());
    for conversion in conversions {
        consumed += &conversion.consumed;
        converted += &conversion.converted;
    }
    Conversion::new(&consumed - &converted, &converted - &consumed)
}

/// Those that have to do with the same resources as the one at `first`, or with such as do, in ascending order.
fn group(first: usize, sums: &[Conversion]) -> Vec<usize> {
    let mut group = vec![first];
    let mut seen = 0;
    while let Some(at) = group.get(seen).copied() {
        seen += 1;
        let more = (0..sums.len()).filter(|other| touch(&sums[at], &sums[*other]));
        let more: Vec<usize> = more.filter(|other| !group.contains(other)).collect();
        group.extend(more);
    }
    group.sort_unstable();
    group
}

/// Whether one gives what the other takes.
fn touch(one: &Conversion, other: &Conversion) -> bool {
    let meet = |some: &Resources, others: &Resources| &(some - others) != some;
    meet(&one.consumed, &other.converted) || meet(&one.converted, &other.consumed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resources(text: &str) -> Resources {
        Resources::parse(text).unwrap()
    }

    /// Exchanges between what is reserved for nobody and for two roles.
    fn exchange(from: usize, to: usize, amount: u32) -> Conversion {
        let roles = ["*", "a", "b", "c"];
        let some = |role: usize| resources(&format!("disk({}):{amount}", roles[role]));
        Conversion::new(some(from), some(to))
    }

    /// Takes back what can be.
    fn settle(total: &mut Resources, undone: &mut Vec<Vec<Conversion>>) {
        while let Some((which, back)) = revocable(total, undone) {
            *total = total.convert_all(&back).unwrap();
            for at in which.into_iter().rev() {
                undone.remove(at);
            }
        }
    }

    /// UNRESERVE, then RESERVE of more than the first set free, were taken back before CREATE and DESTROY of the same volume:
    /// of those none can go first.
    #[test]
    fn what_blocks_each_other_is_taken_back_together() {
        let (free, a, b) = ("disk:16", "disk(a):16", "disk(b):32");
        let change = |from, to| Conversion::new(resources(from), resources(to));
        // CREATE made `b` of what is gone; DESTROY made what is gone of `b`, and `a` of what is free.
        let create = vec![change(b, "mem:32")];
        let destroy = vec![change("mem:32", b), change(a, free)];
        let mut undone = vec![create, destroy];
        let mut total = resources("disk(a):16;cpus:1");
        settle(&mut total, &mut undone);
        assert!(undone.is_empty());
        assert_eq!(total, resources("disk:16;cpus:1"));
    }

    #[test]
    fn what_is_in_use_waits_with_what_needs_it() {
        let change = |from, to| Conversion::new(resources(from), resources(to));
        let blocked = vec![
            change("disk(b):32", "mem:32"),
            change("cpus(a):1", "cpus:1"),
        ];
        let other = vec![change("disk(a):8", "disk:8")];
        let mut undone = vec![blocked.clone(), other];
        let mut total = resources("disk(a):8;cpus(a):1");
        settle(&mut total, &mut undone);
        assert_eq!(undone, [blocked]);
        assert_eq!(total, resources("disk:8;cpus(a):1"));
    }

    proptest! {
        /// Whatever was booked, whatever got lost, and in whatever order that is told: in the end the books say what
        /// the agent has.
        #[test]
        fn in_the_end_the_books_say_what_is_there(
            wishes in prop::collection::vec((0..4usize, 0..4usize, 1..40u32, any::<bool>()), 1..12),
            order in any::<u64>(),
        ) {
            let mut total = resources("disk:64");
            let mut truth = total.clone();
            let mut failed = Vec::new();
            for (from, to, amount, arrives) in wishes {
                let change = exchange(from, to, amount);
                let Ok(after) = total.convert(&change) else { continue };
                total = after;
                match truth.convert(&change) {
                    Ok(after) if arrives => truth = after,
                    _ => failed.push(vec![change.reversed()]),
                }
            }
            let mut undone = Vec::new();
            let mut seed = dcos_core::seed::Seed::new(order);
            while !failed.is_empty() {
                undone.push(failed.swap_remove(seed.index(failed.len())));
                settle(&mut total, &mut undone);
            }
            prop_assert!(undone.is_empty());
            prop_assert_eq!(total, truth);
        }
    }
}
