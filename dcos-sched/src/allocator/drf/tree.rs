//! Who comes first: the tree of roles and frameworks, in the order of priorities and sorters.
//!
//! ```text
//! root ─┬─ eng ─┬─ "." ─┬─ framework 1      "." holds a role's own frameworks beside its
//!       │       │       └─ framework 2      sub-roles, which share with it as siblings
//!       │       └─ dev ── "." ── ...
//!       └─ ops ── "." ── ...
//! ```
//!
//! Each node keeps its active children in order, so that one grant moves one node a level and
//! nothing is sorted from scratch. Top-level roles stand in three lanes, so that a walk need not
//! look at those that cannot take anything.
//!
//! Shares are parts of the cluster. When the cluster grows or shrinks a little, all of them change
//! a little, and hardly ever their order; so they are computed from totals that follow the real
//! ones at a distance of [`DRIFT`], and all at once.
//!
//! Source: Mesos 1.11 `DRFSorter`; rules AL-3 and AL-4 of the conformance inventory.

use std::collections::{BTreeMap, BTreeSet, btree_set};
use std::iter::Peekable;
use std::sync::Arc;

use super::super::sorter::{Client, Sorter};
use super::amounts::Amounts;
use super::slab::Slab;

/// How far totals may be from those that shares were computed from: one part in this many.
const DRIFT: i64 = 64;

/// How deep most trees are: a role below a role, its `.`, a framework.
const DEPTH: usize = 4;

/// The place of a node among its siblings: by priority, then by rank, then by how often it was
/// granted something, then by name.
type Place = (i64, u64, u64, Arc<str>, usize);

/// What a top-level role can take; see `drf/quotas.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Lane {
    /// It lacks something of its guarantee.
    Promised,
    /// It may have more.
    #[default]
    Open,
    /// It has reached its limits: only reserved and revocable resources can be for it.
    Full,
}

const LANES: usize = 3;

#[derive(Debug)]
struct Node {
    name: Arc<str>,
    /// The role this node stands for; of frameworks and `.` the role they belong to.
    role: Arc<str>,
    parent: usize,
    children: BTreeMap<Arc<str>, usize>,
    /// The children that have active leaves, in order. Only the root uses more than one lane.
    orders: [BTreeSet<Place>; LANES],
    /// Where it stands in its parent's order, if it does.
    place: Option<Place>,
    lane: Lane,
    placed_in: Lane,
    weight: f64,
    priority: i32,
    allocated: Amounts,
    grants: u64,
    rank: Option<f64>,
    was_granted: bool,
    /// The largest rank at which a child was granted something.
    latest: f64,
    active_leaves: usize,
    /// The framework, if this is a leaf.
    framework: Option<usize>,
}

impl Node {
    fn new(name: Arc<str>, role: Arc<str>, parent: usize, framework: Option<usize>) -> Self {
        Self {
            name,
            role,
            parent,
            children: BTreeMap::new(),
            orders: Default::default(),
            place: None,
            lane: Lane::Open,
            placed_in: Lane::Open,
            weight: 1.0,
            priority: 0,
            allocated: Amounts::default(),
            grants: 0,
            rank: None,
            was_granted: false,
            latest: 0.0,
            active_leaves: 0,
            framework,
        }
    }

    /// Whether it stands for a role, and not for the frameworks of one, or for one of them.
    fn is_role(&self) -> bool {
        self.framework.is_none() && &*self.name != "."
    }
}

/// The tree; leaves are frameworks in roles.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Slab<Node>,
    root: usize,
    held: Amounts,
    totals: Amounts,
    /// The totals that shares were computed from.
    measure: Amounts,
    weights: BTreeMap<String, f64>,
    priorities: BTreeMap<String, i32>,
    unfair: Vec<usize>,
    roles: Box<dyn Sorter>,
    frameworks: Box<dyn Sorter>,
    is_stale: bool,
}

impl Tree {
    pub(super) fn new(
        weights: BTreeMap<String, f64>,
        priorities: BTreeMap<String, i32>,
        unfair: Vec<usize>,
        [roles, frameworks]: [Box<dyn Sorter>; 2],
    ) -> Self {
        let mut nodes = Slab::default();
        let root = nodes.insert(Node::new("".into(), "".into(), 0, None));
        Self {
            nodes,
            root,
            held: Amounts::default(),
            totals: Amounts::default(),
            measure: Amounts::default(),
            weights,
            priorities,
            unfair,
            roles,
            frameworks,
            is_stale: false,
        }
    }

    // ---- who is there -----------------------------------------------------------------------

    /// The leaf of a framework in a role, made if there is none. A new leaf is not active.
    pub(super) fn leaf(&mut self, role: &Arc<str>, framework: usize, id: &Arc<str>) -> usize {
        let mut at = self.root;
        for component in role.split('/') {
            let path = match &*self.nodes[at].role {
                "" => component.to_owned(),
                above => format!("{above}/{component}"),
            };
            at = self.child(at, component.into(), path.into(), None);
        }
        let own = self.child(at, ".".into(), role.clone(), None);
        self.child(own, id.clone(), role.clone(), Some(framework))
    }

    fn child(
        &mut self,
        parent: usize,
        name: Arc<str>,
        role: Arc<str>,
        framework: Option<usize>,
    ) -> usize {
        if let Some(child) = self.nodes[parent].children.get(&name) {
            return *child;
        }
        let mut node = Node::new(name.clone(), role, parent, framework);
        if node.is_role() {
            node.weight = self.weights.get(&*node.role).copied().unwrap_or(1.0);
            node.priority = self.priorities.get(&*node.role).copied().unwrap_or(0);
        }
        let child = self.nodes.insert(node);
        self.nodes[parent].children.insert(name, child);
        child
    }

    /// Forgets a leaf to which nothing is allocated, and what is empty above it.
    pub(super) fn remove(&mut self, leaf: usize) {
        self.set_active(leaf, false);
        let mut at = leaf;
        while at != self.root && self.nodes[at].children.is_empty() {
            let Some(node) = self.nodes.remove(at) else {
                break;
            };
            self.nodes[node.parent].children.remove(&node.name);
            at = node.parent;
        }
    }

    /// Lets a leaf take part, or not.
    pub(super) fn set_active(&mut self, leaf: usize, active: bool) {
        if (self.nodes[leaf].active_leaves > 0) == active {
            return;
        }
        for at in self.path(leaf) {
            let node = &mut self.nodes[at];
            if active {
                node.active_leaves += 1;
            } else {
                node.active_leaves -= 1;
            }
            self.settle(at);
        }
    }

    /// Whether the number is that of a leaf that takes part. Numbers of removed leaves may be asked
    /// for; they may stand for another node by now.
    pub(super) fn is_active(&self, leaf: usize) -> bool {
        self.nodes
            .get(leaf)
            .is_some_and(|node| node.framework.is_some() && node.active_leaves > 0)
    }

    /// How many leaves take part.
    pub(super) fn active_leaves(&self) -> usize {
        self.nodes[self.root].active_leaves
    }

    pub(super) fn role(&self, leaf: usize) -> &Arc<str> {
        &self.nodes[leaf].role
    }

    // ---- what they hold ---------------------------------------------------------------------

    /// What is allocated to a leaf.
    pub(super) fn allocated(&self, leaf: usize) -> &Amounts {
        &self.nodes[leaf].allocated
    }

    /// What is allocated to anybody.
    pub(super) fn held(&self) -> &Amounts {
        &self.held
    }

    /// What there is in all.
    pub(super) fn totals(&self) -> &Amounts {
        &self.totals
    }

    /// Charges a leaf, and all above it, for what it was granted.
    pub(super) fn charge(&mut self, leaf: usize, amounts: &Amounts) {
        self.held.add(amounts);
        for at in self.path(leaf) {
            let node = &mut self.nodes[at];
            node.grants += 1;
            node.was_granted = true;
            node.allocated.add(amounts);
            let (rank, parent) = (node.rank.unwrap_or_default(), node.parent);
            let parent = &mut self.nodes[parent];
            parent.latest = parent.latest.max(rank);
            self.settle(at);
        }
    }

    /// Charges a leaf, and all above it, for what it holds already.
    pub(super) fn recharge(&mut self, leaf: usize, amounts: &Amounts) {
        self.held.add(amounts);
        for at in self.path(leaf) {
            self.nodes[at].allocated.add(amounts);
            self.settle(at);
        }
    }

    /// Takes back a charge.
    pub(super) fn discharge(&mut self, leaf: usize, amounts: &Amounts) {
        self.held.remove(amounts);
        for at in self.path(leaf) {
            self.nodes[at].allocated.remove(amounts);
            self.settle(at);
        }
    }

    // ---- what their order depends on --------------------------------------------------------

    /// Changes what there is in all.
    pub(super) fn change_totals(&mut self, more: &Amounts, less: &Amounts) {
        self.totals.add(more);
        self.totals.remove(less);
        let mut totals = self.totals.iter();
        self.is_stale |= totals.any(|(number, total)| {
            let measured = self.measure.get(number);
            (total - measured).abs() > measured / DRIFT
        });
    }

    pub(super) fn set_weights(&mut self, weights: BTreeMap<String, f64>) {
        self.weights.extend(weights);
        for node in self.nodes.values_mut().filter(|node| node.is_role()) {
            node.weight = self.weights.get(&*node.role).copied().unwrap_or(1.0);
        }
        self.is_stale = true;
    }

    pub(super) fn set_priorities(&mut self, priorities: BTreeMap<String, i32>) {
        self.priorities.extend(priorities);
        for node in self.nodes.values_mut().filter(|node| node.is_role()) {
            node.priority = self.priorities.get(&*node.role).copied().unwrap_or(0);
        }
        self.is_stale = true;
    }

    /// Says what a top-level role can take.
    pub(super) fn set_lane(&mut self, role: &str, lane: Lane) {
        let found = self.nodes[self.root].children.get(role).copied();
        if let Some(at) = found.filter(|at| self.nodes[*at].lane != lane) {
            self.nodes[at].lane = lane;
            self.settle(at);
        }
    }

    /// Brings everything in order, if enough has changed; call it before a round.
    pub(super) fn refresh(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            self.measure = self.totals.clone();
            let all: Vec<usize> = self.nodes.keys().collect();
            for at in all {
                self.settle(at);
            }
        }
    }

    /// Puts a node where it belongs in its parent's order.
    fn settle(&mut self, at: usize) {
        if at == self.root {
            return;
        }
        let node = &self.nodes[at];
        let place = if node.active_leaves > 0 {
            let rank = self.rank(at);
            let node = &mut self.nodes[at];
            node.rank = Some(rank);
            node.was_granted = false;
            Some((
                -i64::from(node.priority),
                bits(rank),
                node.grants,
                node.name.clone(),
                at,
            ))
        } else {
            self.nodes[at].rank = None;
            None
        };
        let node = &mut self.nodes[at];
        if place == node.place && node.lane == node.placed_in {
            return;
        }
        let (parent, lane) = (node.parent, node.lane as usize);
        let before = std::mem::replace(&mut node.place, place.clone());
        let before_in = std::mem::replace(&mut node.placed_in, node.lane) as usize;
        let orders = &mut self.nodes[parent].orders;
        if let Some(before) = before {
            orders[before_in].remove(&before);
        }
        orders[lane].extend(place);
    }

    /// What the sorter says of a node.
    fn rank(&mut self, at: usize) -> f64 {
        let node = &self.nodes[at];
        let client = Client {
            name: if node.framework.is_some() {
                &node.name
            } else {
                &node.role
            },
            share: node.allocated.dominant_share(&self.measure, &self.unfair),
            weight: node.weight,
            grants: node.grants,
            rank: node.rank,
            was_granted: node.was_granted,
            latest: self.nodes[node.parent].latest,
        };
        if node.framework.is_some() {
            self.frameworks.rank(&client)
        } else {
            self.roles.rank(&client)
        }
    }

    /// The largest part a role or a framework in a role holds of anything.
    pub(super) fn role_shares(&self) -> impl Iterator<Item = (&str, f64)> {
        let nodes = self.nodes.keys().map(|at| &self.nodes[at]);
        nodes
            .filter(|node| node.is_role() && !node.role.is_empty())
            .map(|node| {
                let share = node.allocated.dominant_share(&self.totals, &self.unfair);
                (&*node.role, share)
            })
    }

    // ---- who comes first --------------------------------------------------------------------

    /// The active leaves, first come first; of top-level roles those in `lanes`.
    pub(super) fn walk(&self, lanes: &[Lane]) -> Walk<'_> {
        let mut below = Vec::with_capacity(DEPTH);
        below.push(self.ordered(self.root, lanes));
        Walk { tree: self, below }
    }

    fn ordered(&self, at: usize, lanes: &[Lane]) -> Ordered<'_> {
        let orders = &self.nodes[at].orders;
        if at != self.root {
            return Ordered::One(orders[Lane::Open as usize].iter());
        }
        let chosen = lanes.iter().map(|lane| &orders[*lane as usize]);
        let mut filled = chosen.filter(|order| !order.is_empty());
        match (filled.next(), filled.next()) {
            (None, _) => Ordered::Several(Vec::new()),
            (Some(one), None) => Ordered::One(one.iter()),
            (Some(one), Some(other)) => {
                let more = filled.map(|order| order.iter().peekable());
                let first = [one, other].map(|order| order.iter().peekable());
                Ordered::Several(first.into_iter().chain(more).collect())
            }
        }
    }

    /// Brings some leaves into the order in which [`Tree::walk`] would show them; those that are
    /// not active drop out.
    pub(super) fn sorted(&self, leaves: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut keyed: Vec<(Vec<&Place>, usize)> = leaves
            .into_iter()
            .filter(|leaf| self.is_active(*leaf))
            .map(|leaf| {
                let mut places: Vec<&Place> = self
                    .path(leaf)
                    .filter_map(|at| self.nodes[at].place.as_ref())
                    .collect();
                places.reverse();
                (places, leaf)
            })
            .collect();
        keyed.sort();
        keyed.into_iter().map(|(_, leaf)| leaf).collect()
    }

    /// Whether the role of `one` is more important than that of `other`: where their ways part, it
    /// has the higher priority.
    pub(super) fn outranks(&self, one: usize, other: usize) -> bool {
        let way = |leaf| {
            let mut way: Vec<usize> = self.path(leaf).collect();
            way.reverse();
            way
        };
        let (one, other) = (way(one), way(other));
        let parted = one.iter().zip(&other).find(|(one, other)| one != other);
        parted.is_some_and(|(one, other)| self.nodes[*one].priority > self.nodes[*other].priority)
    }

    /// A node and all above it, the root left out.
    fn path(&self, from: usize) -> impl Iterator<Item = usize> + use<> {
        let mut path = [0; 16];
        let mut long = Vec::new();
        let mut len = 0;
        let mut at = from;
        while at != self.root {
            if len < path.len() {
                path[len] = at;
            } else {
                long.push(at);
            }
            len += 1;
            at = self.nodes[at].parent;
        }
        path.into_iter().take(len).chain(long)
    }
}

/// A number whose order is that of ranks; what is no number comes last.
fn bits(rank: f64) -> u64 {
    let bits = rank.to_bits();
    if rank.is_nan() {
        u64::MAX
    } else if bits >> 63 == 0 {
        bits | 1 << 63
    } else {
        !bits
    }
}

/// Active leaves in order; see [`Tree::walk`].
pub(super) struct Walk<'a> {
    tree: &'a Tree,
    below: Vec<Ordered<'a>>,
}

enum Ordered<'a> {
    One(btree_set::Iter<'a, Place>),
    Several(Vec<Peekable<btree_set::Iter<'a, Place>>>),
}

impl<'a> Iterator for Ordered<'a> {
    type Item = &'a Place;

    fn next(&mut self) -> Option<&'a Place> {
        match self {
            Self::One(order) => order.next(),
            Self::Several(orders) => {
                let first =
                    |order: &mut Peekable<btree_set::Iter<'a, Place>>| order.peek().copied();
                let heads = orders.iter_mut().enumerate();
                let (at, _) = heads
                    .filter_map(|(at, order)| Some((at, first(order)?)))
                    .min_by_key(|(_, place)| *place)?;
                orders[at].next()
            }
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while let Some(order) = self.below.last_mut() {
            match order.next() {
                None => _ = self.below.pop(),
                Some((.., at)) if self.tree.nodes[*at].framework.is_some() => return Some(*at),
                Some((.., at)) => self.below.push(self.tree.ordered(*at, &[])),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::amounts::Names;
    use super::*;
    use crate::allocator::sorter::DominantShare;
    use dcos_core::resources::Resources;

    fn tree(weights: BTreeMap<String, f64>) -> Tree {
        let sorters: [Box<dyn Sorter>; 2] = [Box::new(DominantShare), Box::new(DominantShare)];
        Tree::new(weights, BTreeMap::new(), vec![], sorters)
    }

    fn order(tree: &Tree, leaves: &BTreeMap<usize, &'static str>) -> Vec<&'static str> {
        let seen: Vec<_> = tree
            .walk(&[Lane::Promised, Lane::Open, Lane::Full])
            .map(|leaf| leaves[&leaf])
            .collect();
        let sorted: Vec<_> = tree
            .sorted(leaves.keys().copied())
            .iter()
            .map(|leaf| leaves[leaf])
            .collect();
        assert_eq!(seen, sorted, "both ways of asking for the order agree");
        seen
    }

    #[test]
    fn the_smallest_share_comes_first_at_each_level() {
        let mut names = Names::default();
        let mut amounts = |text: &str| names.scalars(&Resources::parse(text).unwrap());
        let (total, one, none) = (
            amounts("cpus:10;mem:100"),
            amounts("cpus:1"),
            Amounts::default(),
        );
        let most_mem = amounts("mem:90");
        let mut tree = tree(BTreeMap::from([("b".into(), 10.0)]));
        tree.change_totals(&total, &none);
        let mut leaves = BTreeMap::new();
        for (at, (role, label)) in [("a", "a1"), ("a", "a2"), ("a/x", "ax"), ("b", "b1")]
            .into_iter()
            .enumerate()
        {
            let leaf = tree.leaf(&role.into(), at, &label.into());
            assert_eq!(tree.leaf(&role.into(), at, &label.into()), leaf);
            tree.set_active(leaf, true);
            leaves.insert(leaf, label);
        }
        tree.refresh();
        assert_eq!(
            order(&tree, &leaves),
            ["a1", "a2", "ax", "b1"],
            "equals go by name"
        );

        let leaf = |label: &str| *leaves.iter().find(|(_, l)| **l == label).unwrap().0;
        tree.charge(leaf("a1"), &one);
        assert_eq!(order(&tree, &leaves), ["b1", "ax", "a2", "a1"]);
        tree.charge(leaf("b1"), &one);
        assert_eq!(
            order(&tree, &leaves),
            ["b1", "ax", "a2", "a1"],
            "b weighs ten times as much"
        );
        tree.charge(leaf("ax"), &most_mem);
        assert_eq!(
            order(&tree, &leaves),
            ["b1", "a2", "a1", "ax"],
            "the dominant share counts"
        );
        tree.discharge(leaf("ax"), &most_mem);
        assert_eq!(order(&tree, &leaves), ["b1", "ax", "a2", "a1"]);

        tree.set_active(leaf("b1"), false);
        assert_eq!(order(&tree, &leaves), ["ax", "a2", "a1"]);
        tree.set_weights(BTreeMap::from([("a/x".into(), 0.5)]));
        tree.charge(leaf("ax"), &one);
        tree.refresh();
        assert_eq!(order(&tree, &leaves), ["a2", "a1", "ax"]);

        tree.set_priorities(BTreeMap::from([("a/x".into(), 1)]));
        tree.refresh();
        assert_eq!(
            order(&tree, &leaves),
            ["ax", "a2", "a1"],
            "priority comes before shares"
        );
        assert!(tree.outranks(leaf("ax"), leaf("a1")) && !tree.outranks(leaf("a1"), leaf("ax")));
    }

    #[test]
    fn lanes_are_walked_together_or_apart() {
        let mut tree = tree(BTreeMap::new());
        let leaves: Vec<usize> = ["a", "b", "c"]
            .into_iter()
            .map(|role| {
                let leaf = tree.leaf(&role.into(), 0, &"f".into());
                tree.set_active(leaf, true);
                leaf
            })
            .collect();
        tree.set_lane("b", Lane::Full);
        tree.set_lane("c", Lane::Promised);
        let walk = |lanes: &[Lane]| tree.walk(lanes).collect::<Vec<_>>();
        assert_eq!(walk(&[Lane::Promised, Lane::Open, Lane::Full]), leaves);
        assert_eq!(walk(&[Lane::Promised, Lane::Open]), [leaves[0], leaves[2]]);
        assert_eq!(walk(&[Lane::Full]), [leaves[1]]);
        tree.set_active(leaves[1], false);
        assert!(tree.walk(&[Lane::Full]).next().is_none());
    }

    #[test]
    fn empty_roles_are_forgotten() {
        let mut tree = tree(BTreeMap::new());
        let deep = tree.leaf(&"a/b/c".into(), 0, &"f".into());
        tree.set_active(deep, true);
        tree.remove(deep);
        assert_eq!(tree.nodes.keys().count(), 1);
        assert!(!tree.is_active(deep));
    }
}
