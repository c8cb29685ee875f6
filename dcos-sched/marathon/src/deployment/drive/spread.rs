//! Taking members from where most are, of several fields at once.
//!
//! Members are the leaves of a tree, by the groups they lie in: the field with the fewest groups divides them first. A group
//! that loses a member changes its rank against its brothers only, wherever it stands in the tree, and the best below a node
//! is known there. So what a member costs grows with the places its groups have in the tree, not with the members: where
//! one field divides another, as racks do with hosts, each group has one place.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// The sizes of groups in the order of the fields, as far as they are not the same for all who are compared, and the first
/// member.
type Rank = (Vec<usize>, Reverse<usize>);

/// Members that are taken one after the other.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// The root first, and each node after the one above it.
    nodes: Vec<Node>,
    groups: Vec<Group>,
    /// How many ranks were looked at.
    #[cfg(test)]
    looks: usize,
}

/// Members that lie in the same groups of the fields down to here.
#[derive(Debug, Default)]
struct Node {
    above: Option<usize>,
    group: Option<usize>,
    rank: Option<Rank>,
    below: BTreeSet<(Rank, usize)>,
    /// The members themselves, if no field divides them further.
    members: VecDeque<usize>,
}

/// Members with one value of a field.
#[derive(Debug)]
struct Group {
    field: usize,
    size: usize,
    nodes: Vec<usize>,
}

impl Spread {
    /// Members in their order, each with its values of all fields.
    pub(super) fn new(members: impl Iterator<Item = Vec<Option<String>>>) -> Self {
        let mut spread = Self::default();
        let mut known: Vec<HashMap<Option<String>, usize>> = Vec::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        for values in members {
            known.resize_with(values.len(), HashMap::new);
            let mut groups = Vec::with_capacity(values.len());
            for (field, (value, known)) in values.into_iter().zip(&mut known).enumerate() {
                let group = *known.entry(value).or_insert_with(|| {
                    spread.groups.push(Group {
                        field,
                        size: 0,
                        nodes: Vec::new(),
                    });
                    spread.groups.len() - 1
                });
                spread.groups[group].size += 1;
                groups.push(group);
            }
            places.push(groups);
        }
        let mut fields: Vec<usize> = (0..known.len()).collect();
        fields.sort_by_key(|field| known[*field].len());
        spread.nodes.push(Node::default());
        let mut children = HashMap::new();
        for (member, groups) in places.into_iter().enumerate() {
            let mut node = 0;
            for field in &fields {
                let (above, group) = (node, groups[*field]);
                node = *children.entry((above, group)).or_insert_with(|| {
                    let node = spread.nodes.len();
                    spread.groups[group].nodes.push(node);
                    spread.nodes.push(Node {
                        above: Some(above),
                        group: Some(group),
                        ..Node::default()
                    });
                    node
                });
            }
            spread.nodes[node].members.push_back(member);
        }
        for node in (0..spread.nodes.len()).rev() {
            spread.settle(node);
        }
        spread
    }

    /// Takes the first member, in order, that lies in the largest group of each field it can: the first field counts most.
    pub(super) fn take(&mut self) -> Option<usize> {
        let mut node = 0;
        while let Some((_, best)) = self.nodes[node].below.last() {
            node = *best;
        }
        let member = self.nodes[node].members.pop_front()?;
        let mut path = Vec::new();
        let mut above = Some(node);
        while let Some(node) = above {
            path.extend(self.nodes[node].group);
            above = self.nodes[node].above;
        }
        for group in &path {
            self.groups[*group].size -= 1;
        }
        for group in path {
            for at in 0..self.groups[group].nodes.len() {
                self.settle(self.groups[group].nodes[at]);
            }
        }
        Some(member)
    }

    /// Puts a node, and those above it, where they belong now.
    fn settle(&mut self, mut node: usize) {
        loop {
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let rank = self.rank(node);
            if rank == self.nodes[node].rank {
                return;
            }
            let before = std::mem::replace(&mut self.nodes[node].rank, rank.clone());
            let Some(above) = self.nodes[node].above else {
                return;
            };
            let brothers = &mut self.nodes[above].below;
            if let Some(before) = before {
                brothers.remove(&(before, node));
            }
            brothers.extend(rank.map(|rank| (rank, node)));
            node = above;
        }
    }

    /// The best rank at or below a node, as its brothers see it; none if no member is left there.
    fn rank(&self, node: usize) -> Option<Rank> {
        let Node {
            group,
            below,
            members,
            ..
        } = &self.nodes[node];
        let mut rank = match (below.last(), members.front()) {
            (Some((best, _)), _) => best.clone(),
            (None, Some(first)) => (Vec::new(), Reverse(*first)),
            (None, None) => return None,
        };
        if let Some(group) = group.map(|group| &self.groups[group]) {
            if rank.0.len() <= group.field {
                rank.0.resize(group.field + 1, 0);
            }
            rank.0[group.field] = group.size;
        }
        Some(rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of 10,000 members of ten racks, alone on their hosts: looking at each host of a rack that shrinks would be ten
    /// million looks.
    #[test]
    fn costs_grow_with_what_is_taken() {
        for order in [[0, 1], [1, 0]] {
            let place = |member: usize| {
                let fields = [member % 10, member].map(|value| Some(value.to_string()));
                order.map(|field| fields[field].clone()).into()
            };
            let mut spread = Spread::new((0..10_000).map(place));
            spread.looks = 0;
            let taken: Vec<_> = std::iter::from_fn(|| spread.take()).take(5_000).collect();
            assert_eq!(taken, (0..5_000).collect::<Vec<_>>());
            assert!(spread.looks <= 8 * 5_000, "{}", spread.looks);
        }
    }
}
