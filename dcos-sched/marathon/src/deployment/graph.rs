//! Which app waits for which.
//!
//! An app waits for what it names and for what the groups around it name; naming a group means every app below it. Groups
//! are nodes of their own, so that what they name is looked at once, however many apps are in them, and the way through is
//! a loop, so that the length of a chain does not matter.

use std::collections::{BTreeMap, HashMap};

use crate::PathId;
use crate::model::{RootGroup, differences};

/// Something others wait for, or that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Node<'a> {
    App(&'a PathId),
    /// Every app below a path.
    Below(&'a PathId),
    /// What a group and those around it name.
    Around(&'a PathId),
}

/// What is known of a node.
enum Known {
    /// The way leads through it.
    Under,
    /// The longest chain of apps from it, its own included.
    Chain(usize),
}

/// A node on the way.
struct Visit<'a> {
    node: Node<'a>,
    left: Vec<Node<'a>>,
    longest: usize,
}

/// For each app the length of the longest chain of apps it waits for; `None` if there is a cycle.
pub fn layers(root: &RootGroup) -> Option<BTreeMap<PathId, usize>> {
    layers_of(root, root.apps.keys())
}

/// The same for some apps only.
pub(super) fn layers_of<'a>(
    root: &'a RootGroup,
    apps: impl Iterator<Item = &'a PathId>,
) -> Option<BTreeMap<PathId, usize>> {
    let mut known = HashMap::new();
    let mut layers = BTreeMap::new();
    for id in apps {
        // What is in no tree waits for nothing.
        let Some((id, _)) = root.apps.get_key_value(id) else {
            continue;
        };
        layers.insert(id.clone(), chain(root, Node::App(id), &mut known)?);
    }
    Some(layers)
}

/// Whether a change makes an app wait, over whatever detours, for itself. There was no such app `before`, so that only
/// what came to wait is looked at; most changes are none of it.
pub(crate) fn makes_cycle(before: &RootGroup, after: &RootGroup) -> bool {
    let mut apps = before.differences(after).filter_map(|(id, old, new)| {
        let new = new?;
        let waits = match old {
            Some(old) => old.dependencies != new.dependencies,
            None => !new.dependencies.is_empty() || around(after, id).is_some(),
        };
        waits.then_some(())
    });
    let mut groups = differences(&before.groups, &after.groups).filter(|(_, old, new)| {
        let [old, new] = [old, new].map(|group| group.map(|group| &group.dependencies));
        new.is_some_and(|new| !new.is_empty()) && old != new
    });
    (apps.next().is_some() || groups.next().is_some()) && layers(after).is_none()
}

/// The longest chain of apps from `start`; `None` if it leads into a cycle.
fn chain<'a>(
    root: &'a RootGroup,
    start: Node<'a>,
    known: &mut HashMap<Node<'a>, Known>,
) -> Option<usize> {
    if let Some(Known::Chain(length)) = known.get(&start) {
        return Some(*length);
    }
    known.insert(start, Known::Under);
    let mut way = vec![Visit::new(root, start)];
    while let Some(visit) = way.last_mut() {
        if let Some(next) = visit.left.pop() {
            match known.get(&next) {
                Some(Known::Chain(length)) => visit.longest = visit.longest.max(*length),
                Some(Known::Under) => return None,
                None => {
                    known.insert(next, Known::Under);
                    way.push(Visit::new(root, next));
                }
            }
            continue;
        }
        let own = usize::from(matches!(visit.node, Node::App(_)));
        let (node, length) = (visit.node, visit.longest + own);
        known.insert(node, Known::Chain(length));
        way.pop();
        match way.last_mut() {
            Some(before) => before.longest = before.longest.max(length),
            None => return Some(length),
        }
    }
    None
}

impl<'a> Visit<'a> {
    fn new(root: &'a RootGroup, node: Node<'a>) -> Self {
        let named = |id: &'a PathId| match root.apps.get_key_value(id) {
            Some((id, _)) => Node::App(id),
            None => Node::Below(id),
        };
        let left = match node {
            Node::App(id) => {
                let app = root.apps.get(id).into_iter();
                let own = app.flat_map(|app| &app.dependencies).map(named);
                own.chain(around(root, id).map(Node::Around)).collect()
            }
            Node::Below(group) => root
                .apps_below(group)
                .map(|app| Node::App(&app.id))
                .collect(),
            Node::Around(id) => {
                let group = root.groups.get(id).into_iter();
                let own = group.flat_map(|group| &group.dependencies).map(named);
                own.chain(around(root, id).map(Node::Around)).collect()
            }
        };
        Self {
            node,
            left,
            longest: 0,
        }
    }
}

/// The innermost group around `id` that names something.
fn around<'a>(root: &'a RootGroup, id: &PathId) -> Option<&'a PathId> {
    if id.is_root() {
        return None;
    }
    id.parent()
        .ancestors()
        .chain([PathId::root()])
        .filter_map(|group| root.groups.get_key_value(&group))
        .find(|(_, group)| !group.dependencies.is_empty())
        .map(|(id, _)| id)
}
