//! Who comes first: the tree of roles and frameworks, ordered by dominant share.
//!
//! ```text
//! root ─┬─ eng ─┬─ "." ─┬─ framework 1      "." holds a role's own frameworks beside its
//!       │       │       └─ framework 2      sub-roles, which share with it as siblings
//!       │       └─ dev ── "." ── ...
//!       └─ ops ── "." ── ...
//! ```
//!
//! Each node keeps its active children in order, so that one grant moves one node a level and
//! nothing is sorted from scratch. Only when the totals change all shares do, and the whole tree
//! is put in order again before the next round.
//!
//! Source: Mesos 1.11 `DRFSorter`; rules AL-3 and AL-4 of the conformance inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::amounts::Amounts;
use super::slab::Slab;

/// The place of a node among its siblings: by share, then by how often it was granted something,
/// then by name.
type Place = (u64, u64, Arc<str>, usize);

#[derive(Debug)]
struct Node {
    name: Arc<str>,
    /// The role this node stands for; of frameworks and `.` the role they belong to.
    role: Arc<str>,
    parent: usize,
    children: BTreeMap<Arc<str>, usize>,
    /// The children that have active leaves, in order.
    order: BTreeSet<Place>,
    /// Where it stands in its parent's order, if it does.
    place: Option<Place>,
    weight: f64,
    allocated: Amounts,
    grants: u64,
    active_leaves: usize,
    /// The framework, if this is a leaf.
    framework: Option<usize>,
}

/// The tree; leaves are frameworks in roles.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Slab<Node>,
    root: usize,
    totals: Amounts,
    weights: BTreeMap<String, f64>,
    unfair: Vec<usize>,
    is_stale: bool,
}

impl Tree {
    pub(super) fn new(weights: BTreeMap<String, f64>, unfair: Vec<usize>) -> Self {
        let mut nodes = Slab::default();
        let root = nodes.insert(Node {
            name: "".into(),
            role: "".into(),
            parent: 0,
            children: BTreeMap::new(),
            order: BTreeSet::new(),
            place: None,
            weight: 1.0,
            allocated: Amounts::default(),
            grants: 0,
            active_leaves: 0,
            framework: None,
        });
        Self {
            nodes,
            root,
            totals: Amounts::default(),
            weights,
            unfair,
            is_stale: false,
        }
    }

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
        let is_role = framework.is_none() && &*name != ".";
        let weight = self
            .weights
            .get(&*role)
            .copied()
            .filter(|_| is_role)
            .unwrap_or(1.0);
        let child = self.nodes.insert(Node {
            name: name.clone(),
            role,
            parent,
            children: BTreeMap::new(),
            order: BTreeSet::new(),
            place: None,
            weight,
            allocated: Amounts::default(),
            grants: 0,
            active_leaves: 0,
            framework,
        });
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

    pub(super) fn framework(&self, leaf: usize) -> usize {
        self.nodes[leaf].framework.expect("leaves have a framework")
    }

    pub(super) fn role(&self, leaf: usize) -> &Arc<str> {
        &self.nodes[leaf].role
    }

    /// Charges a leaf, and all above it, for what it was granted.
    pub(super) fn charge(&mut self, leaf: usize, amounts: &Amounts) {
        for at in self.path(leaf) {
            let node = &mut self.nodes[at];
            node.grants += 1;
            node.allocated.add(amounts);
            self.settle(at);
        }
    }

    /// Charges a leaf, and all above it, for what it holds already.
    pub(super) fn recharge(&mut self, leaf: usize, amounts: &Amounts) {
        for at in self.path(leaf) {
            self.nodes[at].allocated.add(amounts);
            self.settle(at);
        }
    }

    /// Takes back a charge.
    pub(super) fn discharge(&mut self, leaf: usize, amounts: &Amounts) {
        for at in self.path(leaf) {
            self.nodes[at].allocated.remove(amounts);
            self.settle(at);
        }
    }

    /// Changes what there is in all.
    pub(super) fn change_totals(&mut self, more: &Amounts, less: &Amounts) {
        self.totals.add(more);
        self.totals.remove(less);
        self.is_stale |= more != less;
    }

    pub(super) fn set_weights(&mut self, weights: BTreeMap<String, f64>) {
        self.weights.extend(weights);
        for node in self.nodes.values_mut() {
            if node.framework.is_none() && &*node.name != "." {
                node.weight = self.weights.get(&*node.role).copied().unwrap_or(1.0);
            }
        }
        self.is_stale = true;
    }

    /// Brings everything in order; call it before a round.
    pub(super) fn refresh(&mut self) {
        if std::mem::take(&mut self.is_stale) {
            let all: Vec<usize> = self.nodes.keys().collect();
            for at in all {
                self.settle(at);
            }
        }
    }

    /// Shows active leaves, first come first, until `visit` breaks off.
    pub(super) fn visit<B>(
        &self,
        visit: &mut impl FnMut(usize) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        self.visit_below(self.root, visit)
    }

    fn visit_below<B>(
        &self,
        at: usize,
        visit: &mut impl FnMut(usize) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (_, _, _, child) in &self.nodes[at].order {
            if self.nodes[*child].framework.is_some() {
                visit(*child)?;
            } else {
                self.visit_below(*child, visit)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Brings some leaves into the order in which [`Tree::visit`] would show them; those that are
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

    /// Puts a node where it belongs in its parent's order.
    fn settle(&mut self, at: usize) {
        let (root, node) = (self.root, &self.nodes[at]);
        if at == root {
            return;
        }
        let share = node.allocated.dominant_share(&self.totals, &self.unfair) / node.weight;
        let place = (node.active_leaves > 0)
            .then(|| (share.max(0.0).to_bits(), node.grants, node.name.clone(), at));
        if place == node.place {
            return;
        }
        let parent = node.parent;
        let before = std::mem::replace(&mut self.nodes[at].place, place.clone());
        let order = &mut self.nodes[parent].order;
        if let Some(before) = before {
            order.remove(&before);
        }
        order.extend(place);
    }
}

#[cfg(test)]
mod tests {
    use super::super::amounts::Names;
    use super::*;
    use dcos_core::resources::Resources;

    fn order(tree: &Tree, leaves: &BTreeMap<usize, &'static str>) -> Vec<&'static str> {
        let mut seen = Vec::new();
        _ = tree.visit(&mut |leaf| {
            seen.push(leaves[&leaf]);
            ControlFlow::<()>::Continue(())
        });
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
        let mut amounts = |text: &str| names.amounts(&Resources::parse(text).unwrap());
        let (total, one, none) = (
            amounts("cpus:10;mem:100"),
            amounts("cpus:1"),
            Amounts::default(),
        );
        let most_mem = amounts("mem:90");
        let mut tree = Tree::new(BTreeMap::from([("b".into(), 10.0)]), vec![]);
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
    }

    #[test]
    fn empty_roles_are_forgotten() {
        let mut tree = Tree::new(BTreeMap::new(), vec![]);
        let deep = tree.leaf(&"a/b/c".into(), 0, &"f".into());
        tree.set_active(deep, true);
        tree.remove(deep);
        assert_eq!(tree.nodes.keys().count(), 1);
        assert!(!tree.is_active(deep));
    }
}
