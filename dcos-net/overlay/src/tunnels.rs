//! [`Tunnels`]: what a node's kernel must know of the others, and how it gets there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::{AgentNetwork, Mac, Subnet};

/// The table of routes to agents, for containers alone.
pub const TABLE: u8 = 42;

/// What a kernel knows of tunnels to other nodes: what it should know, or what was found there.
///
/// Of each other agent: its tunnel end's hardware address (neighbours) and node (forwards), the way
/// to its containers (routes) and, for containers alone, to itself (agents: in a table of their
/// own, that a rule for each overlay leads to, so that what answers to a node's address stays in
/// the overlay).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    entries: BTreeMap<Key, Entry>,
}

/// One entry of the kernel's, to be put there or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// The hardware address of a tunnel end.
    Neighbour(IpAddr, Mac),
    /// The node of a hardware address.
    Forward(Mac, IpAddr),
    /// The tunnel end a part of an overlay is behind.
    Route(Subnet, IpAddr),
    /// The tunnel end of an agent, for containers.
    Agent(IpAddr, IpAddr),
    /// Containers of an overlay use the table of agents.
    Rule(Subnet),
}

/// What of an entry there is one of. In this order entries are put, and taken in that from the end:
/// the way to a node stands before packets are sent on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Neighbour(IpAddr),
    Forward(Mac),
    Route(Subnet),
    Agent(IpAddr),
    Rule(Subnet),
}

/// A step from what is found to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put it there; it replaces what has the same key.
    Put(Entry),
    /// Take it away.
    Take(Entry),
}

impl Tunnels {
    /// What a node has to know of agents beside itself. `overlays` are the networks whose
    /// containers use the table of agents: those of IPv4.
    pub fn to<'a>(
        peers: impl IntoIterator<Item = (&'a IpAddr, &'a AgentNetwork)>,
        overlays: impl IntoIterator<Item = Subnet>,
    ) -> Self {
        let peers = peers.into_iter();
        let entries = peers.flat_map(|(agent, network)| entries_of(*agent, network));
        entries
            .chain(overlays.into_iter().map(Entry::Rule))
            .collect()
    }

    /// The steps from `self` to `wanted`. What is right is not touched, and what is replaced is
    /// never missing.
    pub fn steps_to(&self, wanted: &Self) -> Vec<Step> {
        let wrong = |(key, entry): &(&Key, &Entry)| self.entries.get(key) != Some(entry);
        let gone = self
            .entries
            .iter()
            .filter(|(key, _)| !wanted.entries.contains_key(key));
        let put = wanted.entries.iter().filter(wrong);
        let put = put.map(|(_, entry)| Step::Put(*entry));
        put.chain(gone.rev().map(|(_, entry)| Step::Take(*entry)))
            .collect()
    }

    /// The steps when one agent's network changes, comes, or goes.
    pub fn change(
        agent: IpAddr,
        before: Option<&AgentNetwork>,
        after: Option<&AgentNetwork>,
    ) -> Vec<Step> {
        let of = |network: Option<&AgentNetwork>| -> Self {
            network
                .into_iter()
                .flat_map(|network| entries_of(agent, network))
                .collect()
        };
        of(before).steps_to(&of(after))
    }

    /// Takes in a step, as the kernel does.
    pub fn take_in(&mut self, step: Step) {
        match step {
            Step::Put(entry) => drop(self.entries.insert(entry.key(), entry)),
            Step::Take(entry) => drop(self.entries.remove(&entry.key())),
        }
    }

    /// Every entry, in the order in which they are put.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.values()
    }

    /// The same without what needs IPv6.
    #[must_use]
    pub fn without_v6(mut self) -> Self {
        self.entries.retain(|_, entry| !entry.is_v6());
        self
    }
}

impl FromIterator<Entry> for Tunnels {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let entries = entries.into_iter();
        Self {
            entries: entries.map(|entry| (entry.key(), entry)).collect(),
        }
    }
}

fn entries_of(agent: IpAddr, network: &AgentNetwork) -> BTreeSet<Entry> {
    let vtep = network.vtep;
    let (end, end6) = (vtep.ip.ip(), vtep.ip6.map(|ip| ip.ip()));
    let mut entries = BTreeSet::from([Entry::Forward(vtep.mac, agent)]);
    entries.insert(Entry::Neighbour(end, vtep.mac));
    entries.extend(end6.map(|end| Entry::Neighbour(end, vtep.mac)));
    if agent.is_ipv4() {
        entries.insert(Entry::Agent(agent, end));
    }
    for part in network.overlays.values() {
        entries.extend(part.subnet.map(|subnet| Entry::Route(subnet, end)));
        let route6 = part.subnet6.zip(end6);
        entries.extend(route6.map(|(subnet, end)| Entry::Route(subnet, end)));
    }
    entries
}

impl Entry {
    fn key(&self) -> Key {
        match *self {
            Self::Neighbour(ip, _) => Key::Neighbour(ip),
            Self::Forward(mac, _) => Key::Forward(mac),
            Self::Route(part, _) => Key::Route(part),
            Self::Agent(agent, _) => Key::Agent(agent),
            Self::Rule(overlay) => Key::Rule(overlay),
        }
    }

    /// Whether it is one of IPv6.
    pub fn is_v6(&self) -> bool {
        match self {
            Self::Neighbour(ip, _) | Self::Agent(ip, _) => ip.is_ipv6(),
            Self::Forward(_, node) => node.is_ipv6(),
            Self::Route(subnet, _) | Self::Rule(subnet) => !subnet.is_v4(),
        }
    }
}
