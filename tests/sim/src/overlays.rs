//! Agents ask masters for their parts of the overlays, as a [`Desk`](dcos_overlay::Desk) gives them out: what is new is
//! stored before it is told. Desks fail over with their masters, deposed ones answer on, writes fail or happen unheard, and
//! agents forget what they had.
//!
//! What an agent was told is its own for ever: nobody else is told of an address of it, whoever leads.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_overlay::{AgentNetwork, Allocation, NetworkConfig, Wishes};

use crate::sabotage::Sabotage;

/// How many agents ask, at most.
const AGENTS: usize = 12;
/// How often it is looked what is due.
const PACE: Duration = Duration::from_millis(50);

/// A master that believes to lead: where, in which of its lives, and of which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lead {
    pub(crate) at: usize,
    pub(crate) life: u64,
    pub(crate) term: u64,
}

#[derive(Debug)]
pub(crate) struct Overlays {
    seed: Seed,
    config: NetworkConfig,
    agents: Vec<Agent>,
    desks: BTreeMap<Lead, Desk>,
    /// What is in the store, and the newest term that has read it: nobody of an earlier one writes any more.
    stored: BTreeMap<IpAddr, AgentNetwork>,
    newest: u64,
    /// What every agent was told.
    told: BTreeMap<IpAddr, AgentNetwork>,
    /// What is under way, in the order in which it was sent.
    under_way: BTreeMap<(Time, u64), Step>,
    sent: u64,
    next: Time,
    sabotage: Option<Sabotage>,
    complaint: Option<String>,
}

#[derive(Debug)]
struct Agent {
    ip: IpAddr,
    /// What is on its disk.
    has: Option<AgentNetwork>,
    /// When it asks next.
    asks: Time,
}

#[derive(Debug)]
struct Desk {
    allocation: Allocation,
    /// Until then it waits for the store.
    busy: Time,
}

#[derive(Debug)]
enum Step {
    Asked(Lead, usize, Option<AgentNetwork>),
    Stores(Lead, usize, AgentNetwork),
    Told(usize, AgentNetwork),
}

impl Overlays {
    pub(crate) fn new(root: &Seed, nodes: usize, begin: Time, sabotage: Option<Sabotage>) -> Self {
        let mut seed = root.stream("overlays");
        let agents = (0..nodes.min(AGENTS)).map(|number| Agent {
            ip: Ipv4Addr::from(0x0a01_0000 + u32::try_from(number).unwrap_or_default()).into(),
            has: None,
            // Agents join all the time.
            asks: begin + Duration::from_millis(seed.range(0..100_000)),
        });
        Self {
            agents: agents.collect(),
            config: NetworkConfig::default(),
            desks: BTreeMap::new(),
            stored: BTreeMap::new(),
            newest: 0,
            told: BTreeMap::new(),
            under_way: BTreeMap::new(),
            sent: 0,
            next: begin,
            sabotage,
            complaint: None,
            seed,
        }
    }

    /// Whether there is anything to do at `now`.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.next.is_due(now)
    }

    pub(crate) fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// What happened until `now`, with these masters believing to lead. A desk ends with its master's life.
    pub(crate) fn go_on(&mut self, now: Time, leads: &[Lead]) {
        self.next = now + PACE;
        self.desks.retain(|lead, _| leads.contains(lead));
        for lead in leads {
            // Whoever is deposed before it reads gets nothing.
            if !self.desks.contains_key(lead) && lead.term >= self.newest {
                self.newest = lead.term;
                let desk = Desk {
                    allocation: Allocation::new(self.stored.clone()),
                    busy: now,
                };
                self.desks.insert(*lead, desk);
            }
        }
        for number in 0..self.agents.len() {
            if self.agents[number].asks.is_due(now) {
                self.ask(now, number);
            }
        }
        while let Some(entry) = self.under_way.first_entry()
            && entry.key().0.is_due(now)
        {
            let ((time, _), step) = entry.remove_entry();
            match step {
                Step::Asked(lead, agent, former) => self.asked(time, lead, agent, former),
                Step::Stores(lead, agent, network) => self.store(time, lead, agent, network),
                Step::Told(agent, network) => self.tell(agent, network),
            }
        }
    }

    fn send(&mut self, time: Time, step: Step) {
        self.sent += 1;
        self.under_way.insert((time, self.sent), step);
    }

    fn soon(&mut self, now: Time) -> Time {
        now + Duration::from_millis(self.seed.range(1..60))
    }

    /// An agent asks somebody who believes to lead.
    fn ask(&mut self, now: Time, number: usize) {
        let pause = Duration::from_millis(self.seed.range(500..20_000));
        let is_wiped = self.seed.chance(0.02);
        let leads: Vec<Lead> = self.desks.keys().copied().collect();
        let lead = self.seed.pick(&leads).copied();
        let arrives = self.soon(now);
        let agent = &mut self.agents[number];
        agent.asks = now + pause;
        if is_wiped {
            agent.has = None;
        }
        if let Some(lead) = lead {
            let former = agent.has.clone();
            self.send(arrives, Step::Asked(lead, number, former));
        }
    }

    fn asked(&mut self, now: Time, lead: Lead, number: usize, former: Option<AgentNetwork>) {
        let Some(desk) = self.desks.get_mut(&lead) else {
            return;
        };
        if !desk.busy.is_due(now) {
            let later = desk.busy;
            return self.send(later, Step::Asked(lead, number, former));
        }
        let ip = self.agents[number].ip;
        let known = desk.allocation.agents().get(&ip).cloned();
        let given = desk
            .allocation
            .register(&self.config, ip, Wishes::ALL, former.as_ref());
        let network = match given {
            Ok(network) => network.clone(),
            Err(exhausted) => {
                self.complaint = Some(exhausted.to_string());
                return;
            }
        };
        if known.as_ref() == Some(&network) {
            let arrives = self.soon(now);
            return self.send(arrives, Step::Told(number, network));
        }
        let slow = if self.seed.chance(0.1) { 4000 } else { 50 };
        let stored = now + Duration::from_millis(self.seed.range(1..slow));
        if let Some(desk) = self.desks.get_mut(&lead) {
            desk.busy = stored;
        }
        self.send(stored, Step::Stores(lead, number, network));
    }

    /// The store is asked, and answers; a master whose write fails leads no longer.
    fn store(&mut self, now: Time, lead: Lead, number: usize, network: AgentNetwork) {
        let (fails, happens) = (self.seed.chance(0.05), self.seed.chance(0.5));
        let is_fenced = lead.term < self.newest;
        let ip = self.agents[number].ip;
        let is_lost = self.sabotage == Some(Sabotage::Unkept) && self.seed.chance(0.5);
        if !is_fenced && (!fails || happens) && !is_lost {
            self.stored.insert(ip, network.clone());
        }
        if is_fenced || fails {
            self.desks.remove(&lead);
        } else if self.desks.contains_key(&lead) {
            let arrives = self.soon(now);
            self.send(arrives, Step::Told(number, network));
        }
    }

    /// An agent hears what it has.
    fn tell(&mut self, number: usize, network: AgentNetwork) {
        let ip = self.agents[number].ip;
        if let Some(had) = self.told.get(&ip)
            && *had != network
        {
            self.complaint = Some(format!("{ip} has other parts of the overlays than before"));
        }
        let mut others = self.told.iter().filter(|(other, _)| **other != ip);
        if let Some((other, _)) = others.find(|(_, other)| collide(other, &network)) {
            self.complaint = Some(format!("{ip} and {other} have the same part of an overlay"));
        }
        self.agents[number].has = Some(network.clone());
        self.told.insert(ip, network);
    }
}

/// Whether any address is in both.
fn collide(one: &AgentNetwork, other: &AgentNetwork) -> bool {
    let (end, end6) = (one.vtep.ip.ip(), one.vtep.ip6.map(|ip| ip.ip()));
    let ends6 = end6.zip(other.vtep.ip6.map(|ip| ip.ip()));
    end == other.vtep.ip.ip()
        || ends6.is_some_and(|(one, other)| one == other)
        || one.vtep.mac == other.vtep.mac
        || one
            .parts()
            .any(|part| other.parts().any(|other| part.overlaps(&other)))
}
