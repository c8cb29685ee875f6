//! Many cores, one clock, and a network that delays, drops and splits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_gossip::{
    About, Action, Config, Core, Counters, Keyring, Kind, Member, Members, Presence,
};

/// A day in 2020: lives are counted by the time of day.
const BEGIN: Time = Time::from_secs(1_600_000_000);

pub(crate) struct World {
    pub(crate) now: Time,
    seed: Seed,
    nodes: Vec<Node>,
    /// Who has to do something next.
    due: BTreeSet<(Time, usize)>,
    /// What is under way.
    packets: BTreeMap<(Time, u64), (usize, Vec<u8>)>,
    sent: u64,
    /// Which nodes hear each other: those of one group.
    groups: Vec<u32>,
    /// The part of packets that is lost, from 0 to 1.
    pub(crate) loss: f64,
    /// Who of whom was seen to die, and when: (observer, dead).
    pub(crate) deaths: Vec<(Time, usize, usize)>,
    /// Everything that was ever sent, if somebody listens.
    pub(crate) tapped: Option<Vec<(usize, Vec<u8>)>>,
}

struct Node {
    core: Option<Core>,
    members: Arc<Members>,
    lives: u64,
    /// It does nothing, as a process that is stopped.
    is_frozen: bool,
    /// As it is in `due`.
    due: Option<Time>,
}

pub(crate) fn address(node: usize) -> SocketAddr {
    let [.., high, low] = u32::try_from(node).expect("there are few").to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 62501))
}

fn number(address: SocketAddr) -> usize {
    let std::net::IpAddr::V4(ip) = address.ip() else {
        panic!("{address} is none of ours");
    };
    let [_, _, high, low] = ip.octets();
    usize::from(high) * 256 + usize::from(low)
}

pub(crate) fn about(node: usize) -> About {
    let mut about = About::new(Kind::Agent, address(node).ip());
    about.hostname = format!("node-{node}.example.com");
    about
}

pub(crate) fn keyring() -> Keyring {
    Keyring::new([[7; 32]]).expect("it is a key")
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize) -> Self {
        let node = || Node {
            core: None,
            members: Arc::default(),
            lives: 0,
            is_frozen: false,
            due: None,
        };
        Self {
            now: BEGIN,
            seed: Seed::new(seed),
            nodes: std::iter::repeat_with(node).take(nodes).collect(),
            due: BTreeSet::new(),
            packets: BTreeMap::new(),
            sent: 0,
            groups: vec![0; nodes],
            loss: 0.0,
            deaths: Vec::new(),
            tapped: None,
        }
    }

    /// One in which all have begun and know each other.
    pub(crate) fn settled(seed: u64, nodes: usize) -> Self {
        let mut world = Self::new(seed, nodes);
        for node in 0..nodes {
            world.start(node);
        }
        world.must(Duration::from_secs(60), "all to know all", Self::agrees);
        world
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.start_at(node, self.now, keyring());
    }

    /// Starts a node whose clock says something else.
    pub(crate) fn start_at(&mut self, node: usize, clock: Time, keyring: Keyring) {
        self.nodes[node].lives += 1;
        let lives = self.nodes[node].lives;
        let seed = self.seed.stream(&format!("node {node}, life {lives}"));
        let config = Config {
            address: address(node),
            about: about(node),
            seeds: vec![address(0), address(1)],
            remembered: Vec::new(),
        };
        // It is its life that the clock decides; its deadlines are the world's.
        let core = Core::new(config, keyring, &seed, clock).expect("it says little");
        self.nodes[node].core = Some(core);
        self.act(node);
    }

    /// Ends a node between two instructions.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].core = None;
        self.nodes[node].members = Arc::default();
        self.note(node);
    }

    /// Ends a node in order.
    pub(crate) fn leave(&mut self, node: usize) {
        let now = self.now;
        self.core(node).leave(now);
        self.act(node);
        self.kill(node);
    }

    pub(crate) fn freeze(&mut self, node: usize, is_frozen: bool) {
        self.nodes[node].is_frozen = is_frozen;
        if is_frozen {
            self.note(node);
        } else {
            self.act(node);
        }
    }

    /// Writes down when a node has to do something.
    fn note(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let core = node.core.as_ref().filter(|_| !node.is_frozen);
        let due = core.and_then(Core::next_deadline);
        if let Some(before) = std::mem::replace(&mut node.due, due) {
            self.due.remove(&(before, number));
        }
        self.due.extend(due.map(|due| (due, number)));
    }

    pub(crate) fn split(&mut self, group: impl Fn(usize) -> u32) {
        self.groups = (0..self.nodes.len()).map(group).collect();
    }

    pub(crate) fn heal(&mut self) {
        self.split(|_| 0);
    }

    pub(crate) fn core(&mut self, node: usize) -> &mut Core {
        self.nodes[node].core.as_mut().expect("it runs")
    }

    /// Lets a node do what came of a change from outside.
    pub(crate) fn act(&mut self, node: usize) {
        let now = self.now;
        while let Some(action) = self.nodes[node]
            .core
            .as_mut()
            .and_then(|core| core.poll(now))
        {
            match action {
                Action::Send { to, packet } => self.send(node, number(to), packet),
                Action::Members(members) => {
                    let before = std::mem::replace(&mut self.nodes[node].members, members);
                    let dead = |members: &Members| -> BTreeSet<usize> {
                        let dead = members.values();
                        let dead = dead.filter(|member| member.presence == Presence::Dead);
                        dead.map(|member| number(member.address)).collect()
                    };
                    let (before, after) = (dead(&before), dead(&self.nodes[node].members));
                    let new = after.difference(&before);
                    self.deaths.extend(new.map(|dead| (now, node, *dead)));
                }
            }
        }
        self.note(node);
    }

    fn send(&mut self, from: usize, to: usize, packet: Vec<u8>) {
        assert!(packet.len() <= dcos_gossip::PACKET);
        if let Some(tapped) = &mut self.tapped {
            tapped.push((to, packet.clone()));
        }
        if self.groups[from] != self.groups[to] || self.seed.chance(self.loss) {
            return;
        }
        let delay = Duration::from_micros(self.seed.range(200..5_000));
        self.sent += 1;
        self.packets
            .insert((self.now + delay, self.sent), (to, packet));
    }

    /// Gives a node a datagram that nobody sent just now.
    pub(crate) fn inject(&mut self, node: usize, packet: &[u8]) {
        let now = self.now;
        self.core(node).handle(now, packet);
        self.act(node);
    }

    /// Goes on for a while.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Goes on until `done`; panics if that takes longer than `limit`.
    pub(crate) fn must(
        &mut self,
        limit: Duration,
        what: &str,
        done: impl Fn(&Self) -> bool,
    ) -> Duration {
        let begin = self.now;
        let end = begin + limit;
        let mut looked = begin;
        while !done(self) {
            // Looking costs more than most steps.
            while self.now < looked + Duration::from_millis(50) {
                let more = self.step(end);
                assert!(
                    more,
                    "waited {limit:?} for {what}:
{}",
                    self.describe()
                );
            }
            looked = self.now;
        }
        self.now - begin
    }

    fn step(&mut self, end: Time) -> bool {
        let packet = self.packets.first_key_value().map(|((at, _), _)| *at);
        let due = self.due.first().copied();
        let (at, node) = match (packet, due) {
            (Some(packet), Some((due, _))) if packet <= due => (packet, None),
            (Some(packet), None) => (packet, None),
            (_, Some((due, node))) => (due, Some(node)),
            (None, None) => return false,
        };
        if at > end {
            return false;
        }
        self.now = self.now.max(at);
        let node = node.or_else(|| {
            let (_, (to, packet)) = self.packets.pop_first()?;
            let now = self.now;
            let node = &mut self.nodes[to];
            if node.is_frozen {
                return None;
            }
            node.core.as_mut()?.handle(now, &packet);
            Some(to)
        });
        if let Some(node) = node {
            self.act(node);
        }
        true
    }

    pub(crate) fn seen(&self, by: usize, of: usize) -> Option<&Member> {
        self.nodes[by].members.get(&address(of))
    }

    pub(crate) fn presence(&self, by: usize, of: usize) -> Option<Presence> {
        self.seen(by, of).map(|member| member.presence)
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        let running = self.nodes.iter().enumerate();
        let running = running.filter(|(_, node)| node.core.is_some());
        running.map(|(number, _)| number).collect()
    }

    /// Whether all who run know all who run and what they say, and nobody else is thought to.
    pub(crate) fn agrees(&self) -> bool {
        let running = self.running();
        let knows = |by: usize| {
            let members = &self.nodes[by].members;
            let there = members
                .values()
                .filter(|member| member.presence == Presence::Alive);
            there.count() == running.len()
                && running.iter().all(|of| {
                    let said = self.nodes[*of].members.get(&address(*of));
                    let seen = members.get(&address(*of));
                    seen.zip(said).is_some_and(|(seen, said)| {
                        seen.presence == Presence::Alive
                            && seen.about == said.about
                            && seen.updated == said.updated
                    })
                })
        };
        running.iter().all(|by| knows(*by))
    }

    /// Whether all others who run see `node` so.
    pub(crate) fn all_see(&self, node: usize, presence: Presence) -> bool {
        let others = self.running().into_iter().filter(|other| *other != node);
        others
            .into_iter()
            .all(|by| self.presence(by, node) == Some(presence))
    }

    /// What all nodes that run counted, added up.
    pub(crate) fn counters(&self) -> Counters {
        let mut all = Counters::default();
        for core in self.nodes.iter().filter_map(|node| node.core.as_ref()) {
            let one = core.counters();
            all.sent += one.sent;
            all.sent_bytes += one.sent_bytes;
            all.received += one.received;
            all.received_bytes += one.received_bytes;
            all.strangers += one.strangers;
            all.malformed += one.malformed;
            all.replayed += one.replayed;
            all.outdated += one.outdated;
            all.impostors += one.impostors;
        }
        all
    }

    fn describe(&self) -> String {
        let mut text = format!("{:?}\n", self.counters());
        for by in self.running() {
            let members = &self.nodes[by].members;
            let odd = members.values().filter(|member| {
                (member.presence == Presence::Alive)
                    != self.nodes[number(member.address)].core.is_some()
                    || member.about.is_none()
            });
            let odd: Vec<_> = odd
                .map(|member| {
                    (
                        number(member.address),
                        member.presence,
                        member.about.is_some(),
                    )
                })
                .collect();
            if !odd.is_empty() || members.len() < self.nodes.len() {
                text += &format!("{by} knows {}, oddly {odd:?}\n", members.len());
            }
        }
        text.truncate(2000);
        text
    }
}
