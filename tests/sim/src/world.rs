//! The loop: takes what is due next, feeds it to a core, carries out what the core decides.

mod agents;
mod drivers;
mod faults;
mod happening;
mod masters;
mod operator;
mod parties;
mod rest;
mod standing;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dcos_containerizer::agent::{Agent, Input as AgentInput};
use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_sched::master::{Input, Master};

use crate::clock::Clock;
use crate::election::Election;
use crate::framework::Framework;
use crate::host::Host;
use crate::listening::{Leader, Listening};
use crate::network::{End, Network};
use crate::node::Node;
use crate::overlays::{Lead, Overlays};
use crate::party::Party;
pub use crate::plan::Plan;
use crate::queue::Queue;
use crate::registry::Registry;
use crate::service::Service;
use crate::service::apps::Apps;
use crate::service::jobs::Jobs;
use crate::watch::Watch;
use happening::Happening;
pub use rest::Failure;

/// When the world begins; later than any timeout, so that no subtraction meets the epoch.
const BEGIN: Time = Time::from_secs(1_000_000);
/// More steps than this at one time mean that something spins.
const STEPS_AT_ONCE: u64 = 200_000;
/// How often it is looked whether everything is at rest.
const LOOK: Duration = Duration::from_millis(500);
/// How many lines of the trace are kept.
const TRACE: usize = 4000;

/// How a world ended, if it ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How many things happened.
    pub steps: u64,
    /// How long it took by the virtual clock.
    pub time: Duration,
    /// How many containers were launched.
    pub launches: usize,
    /// How many faults there were.
    pub faults: usize,
    /// How many leaders there were.
    pub terms: u64,
    /// A digest of everything that happened: equal for equal seeds.
    pub digest: u64,
}

/// A framework, and where it stands with the masters.
#[derive(Debug)]
struct Seat {
    party: Box<dyn Party>,
    clock: Clock,
    /// The leader it was last told of, and by which change.
    leader: Option<usize>,
    change: u64,
    /// The master its stream comes from.
    master: Option<usize>,
    /// Whether its calls go over several connections.
    is_hasty: bool,
    /// How often its process was started again.
    lives: u64,
    /// The last of its lives that was registered, if it is a driver.
    registered: Option<u64>,
}

/// A cluster under a virtual clock.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    now: Time,
    seed: Seed,
    queue: Queue<Happening>,
    /// When a process wants to do something by itself, both ways round.
    alarms: BTreeSet<(Time, End)>,
    alarm_of: BTreeMap<End, Time>,
    /// Processes that do nothing until then.
    frozen: BTreeMap<End, Time>,
    network: Network,
    election: Election,
    operator: operator::Operator,
    /// Counts what detectors were told.
    changes: u64,
    registry: Registry,
    hosts: Vec<Host>,
    nodes: Vec<Node>,
    seats: Vec<Seat>,
    /// Who waits for which answer of which master.
    requests: BTreeMap<u64, (usize, usize)>,
    /// Whose stream is whose, as a master sees it.
    streams: BTreeMap<String, (usize, usize)>,
    listening: Listening,
    overlays: Overlays,
    watch: Watch,
    faults: usize,
    steps: u64,
    steps_now: u64,
    next_look: Time,
    digest: u64,
    next_request: u64,
    trace: trace::Trace,
}

impl World {
    /// A world in which `number` decides everything.
    ///
    /// # Panics
    /// If the plan's resources are not well formed.
    pub fn new(number: u64, plan: Plan) -> Self {
        let root = Seed::new(number);
        let total = Resources::parse(plan.resources).expect("the plan's resources are well formed");
        let mut seed = root.stream("world");
        let mut world = Self {
            now: BEGIN,
            queue: Queue::new(),
            alarms: BTreeSet::new(),
            alarm_of: BTreeMap::new(),
            frozen: BTreeMap::new(),
            network: Network::new(&root),
            election: Election::new(),
            operator: operator::Operator::new(),
            changes: 0,
            registry: Registry::new(&root, plan.sabotage),
            hosts: (0..plan.masters)
                .map(|at| Host::new(at, &plan, &root, BEGIN))
                .collect(),
            nodes: (0..plan.nodes)
                .map(|at| Node::new(at, &plan, &total, &root, BEGIN))
                .collect(),
            seats: seats(&plan, &root, &mut seed),
            requests: BTreeMap::new(),
            streams: BTreeMap::new(),
            listening: Listening::new(&root, BEGIN, plan.sabotage),
            overlays: Overlays::new(&root, plan.nodes, BEGIN, plan.sabotage),
            watch: Watch::new(),
            faults: 0,
            steps: 0,
            steps_now: 0,
            next_look: BEGIN,
            digest: 0xcbf2_9ce4_8422_2325,
            next_request: 0,
            trace: trace::Trace::new(TRACE),
            seed,
            plan,
        };
        for at in 0..world.hosts.len() {
            let pause = Duration::from_millis(world.seed.range(0..500));
            world.queue.at(BEGIN + pause, Happening::StartMaster { at });
        }
        for node in 0..world.nodes.len() {
            let pause = Duration::from_millis(world.seed.range(0..3000));
            world
                .queue
                .at(BEGIN + pause, Happening::StartAgent { node });
        }
        for (time, fault) in world.plan.faults(number) {
            world.queue.at(BEGIN + time, Happening::Fault(fault));
        }
        let calm = BEGIN + world.plan.trouble;
        world.queue.at(calm, Happening::Tidy);
        for at in 0..world.seats.len() {
            world.arm(End::Party(at));
        }
        world
    }

    /// Runs until everything is at rest.
    ///
    /// # Errors
    /// What went wrong, and when.
    pub fn run(mut self) -> Result<Verdict, Box<Failure>> {
        let end = BEGIN + self.plan.trouble + self.plan.patience;
        loop {
            if self.now >= self.next_look {
                self.next_look = self.now + LOOK;
                self.compare();
                if self.is_at_rest() {
                    break;
                }
            }
            let Some(next) = self.next_time() else {
                return Err(self.fail("nothing will ever happen again").into());
            };
            if next > end {
                return Err(self.fail("the cluster did not come to rest").into());
            }
            self.steps_now = if next > self.now {
                0
            } else {
                self.steps_now + 1
            };
            self.now = self.now.max(next);
            self.step(next);
            self.listen();
            self.steps += 1;
            if self.steps_now > STEPS_AT_ONCE + 100 * self.plan.nodes as u64 {
                return Err(self.fail("something spins").into());
            }
            if let Some(wrong) = self.what_must_never_be() {
                return Err(self.fail(&wrong).into());
            }
        }
        if let Some(wrong) = self.what_is_missing() {
            return Err(self.fail(&wrong).into());
        }
        Ok(Verdict {
            steps: self.steps,
            time: self.now - BEGIN,
            launches: self.watch.launches(),
            faults: self.faults,
            terms: self.election.term(),
            digest: self.digest,
        })
    }

    /// Nodes hear what the leader told, and are asked what they know; agents ask for parts of the overlays.
    fn listen(&mut self) {
        if self.listening.is_due(self.now) {
            let lives: Vec<u64> = self.hosts.iter().map(|host| host.life).collect();
            let leader = leader(&self.election, &self.hosts);
            self.listening.go_on(self.now, &lives, leader);
        }
        if self.overlays.is_due(self.now) {
            let hosts = self.hosts.iter().enumerate();
            let leads = hosts.filter(|(_, host)| host.master.is_some());
            let leads = leads.map(|(at, host)| Lead {
                at,
                life: host.life,
                term: host.term,
            });
            self.overlays.go_on(self.now, &leads.collect::<Vec<_>>());
        }
    }

    /// Who leads.
    fn leader(&self) -> Option<Leader<'_>> {
        leader(&self.election, &self.hosts)
    }

    fn next_time(&self) -> Option<Time> {
        let alarm = self.alarms.first().map(|(time, _)| *time);
        let queued = self.queue.next_time();
        [alarm, queued].into_iter().flatten().min()
    }

    fn step(&mut self, time: Time) {
        if self.queue.next_time().is_some_and(|next| next <= time) {
            if let Some(happening) = self.queue.pop() {
                self.happen_unless_frozen(happening);
            }
            return;
        }
        let Some((_, end)) = self.alarms.pop_first() else {
            return;
        };
        self.alarm_of.remove(&end);
        if let Some(thaw) = self.thaw(end) {
            return self.arm_at(end, thaw);
        }
        match end {
            End::Master(at) => self.tell_master(at, Input::Tick),
            End::Node(at) => self.tick_agent(at),
            End::Party(at) => self.tick_party(at),
        }
    }

    fn happen_unless_frozen(&mut self, happening: Happening) {
        if let Some(end) = happening.whose()
            && let Some(thaw) = self.thaw(end)
        {
            return self.queue.at(thaw, happening);
        }
        self.note(&happening);
        self.happen(happening);
    }

    /// Until when a process does nothing, if it does nothing now.
    fn thaw(&mut self, end: End) -> Option<Time> {
        let thaw = *self.frozen.get(&end)?;
        if thaw > self.now {
            return Some(thaw);
        }
        self.frozen.remove(&end);
        None
    }

    /// Sets the alarm of a process to when it next wants to do something.
    fn arm(&mut self, end: End) {
        let when = match end {
            End::Master(at) => {
                let host = &self.hosts[at];
                let deadline = host.master.as_ref().and_then(Master::next_deadline);
                deadline.map(|deadline| host.clock.when(deadline))
            }
            End::Node(at) => {
                let node = &self.nodes[at];
                let deadline = node.agent.as_ref().and_then(Agent::next_deadline);
                deadline.map(|deadline| node.clock.when(deadline))
            }
            End::Party(at) => {
                let seat = &self.seats[at];
                let now = seat.clock.show(self.now);
                Some(seat.clock.when(seat.party.next_deadline(now)))
            }
        };
        match when.filter(|when| *when < Time::MAX) {
            Some(when) => self.arm_at(end, when),
            None => self.disarm(end),
        }
    }

    fn arm_at(&mut self, end: End, when: Time) {
        let when = when.max(self.now);
        if self.alarm_of.get(&end) == Some(&when) {
            return;
        }
        self.disarm(end);
        self.alarm_of.insert(end, when);
        self.alarms.insert((when, end));
    }

    fn disarm(&mut self, end: End) {
        if let Some(old) = self.alarm_of.remove(&end) {
            self.alarms.remove(&(old, end));
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::StartMaster { at } => self.start_master(at),
            Happening::Elected { at, life, term } => self.elected(at, life, term),
            Happening::Deposed { at, life } => self.deposed(at, life),
            Happening::SessionEnds { at, life } => self.session_ends(at, life),
            Happening::Commit {
                at,
                life,
                term,
                id,
                writes,
            } => {
                self.commit(at, life, term, id, writes);
            }
            Happening::Stored {
                at,
                life,
                id,
                revision,
            } => {
                if life == self.hosts[at].life {
                    self.hosts[at].writes = false;
                    match revision {
                        Some(revision) => self.tell_master(at, Input::Stored { id, revision }),
                        None => self.master_ends(at),
                    }
                }
            }
            Happening::ToMaster {
                at,
                life,
                node,
                packet,
                connection,
            } => {
                self.reach_master(at, life, node, packet, connection);
            }
            Happening::MasterLosesNode { at, life, node } => {
                if life == self.hosts[at].life {
                    let pid = self.nodes[node].address.clone();
                    self.tell_master(at, Input::Exited { pid });
                }
            }
            Happening::MasterLosesStream { at, life, stream } => {
                if life == self.hosts[at].life {
                    let input = match drivers::number_of(&stream) {
                        Some(_) => Input::Exited { pid: stream },
                        None => Input::StreamClosed { stream_id: stream },
                    };
                    self.tell_master(at, input);
                }
            }
            Happening::ToMasterFromDriver {
                at,
                life,
                pid,
                packet,
            } => self.reach_master_from_driver(at, life, pid, packet),
            Happening::ToDriver {
                party,
                at,
                pid,
                event,
            } => self.reach_driver(party, at, &pid, &event),
            Happening::ToNode {
                node,
                life,
                at,
                packet,
                connection,
            } => {
                self.reach_node(node, life, at, packet, connection);
            }
            Happening::NodeLosesMaster { node, life, at } => {
                let address = self.hosts[at].address.clone();
                self.tell_agent(node, life, AgentInput::Disconnected(address));
            }
            Happening::NodeHears {
                node,
                change,
                leader,
            } => self.node_hears(node, change, leader),
            Happening::Agent { node, life, input } => self.tell_agent(node, life, *input),
            Happening::End {
                node,
                container,
                status,
            } => {
                if let Some(input) = self.nodes[node].end(&container, status) {
                    let life = self.nodes[node].life;
                    self.tell_agent(node, life, input);
                }
            }
            Happening::StartAgent { node } => self.start_agent(node),
            Happening::Call {
                at,
                life,
                party,
                stream,
                call,
            } => {
                self.reach_master_api(at, life, party, stream, call);
            }
            Happening::Reply { party, at, reply } => self.reach_party(party, at, reply),
            Happening::Event {
                party,
                stream,
                event,
            } => self.hear(party, &stream, &event),
            Happening::StreamBreaks { party, stream } => self.stream_breaks(party, &stream),
            Happening::PartyHears {
                party,
                change,
                leader,
            } => self.party_hears(party, change, leader),
            Happening::Order { at, life, call } => self.reach_operator_api(at, life, call),
            Happening::Tidy => self.tidy(),
            Happening::Fault(fault) => self.strike(fault),
        }
    }
}

/// Who leads, once it has read what its forerunner wrote.
fn leader<'a>(election: &Election, hosts: &'a [Host]) -> Option<Leader<'a>> {
    let at = election.leader()?;
    let host = hosts.get(at)?;
    let master = host
        .master
        .as_ref()
        .filter(|master| master.is_recovered())?;
    Some(Leader {
        at,
        life: host.life,
        master,
        has_told: !host.writes,
    })
}

/// The scripts, and a Marathon and a Metronome if there are to be such.
fn seats(plan: &Plan, root: &Seed, seed: &mut Seed) -> Vec<Seat> {
    let script = |at| -> Box<dyn Party> { Box::new(Framework::new(at, plan, root)) };
    let mut parties: Vec<_> = (0..plan.frameworks).map(script).collect();
    if plan.marathon {
        let user = Apps::new(root, plan);
        parties.push(Box::new(Service::new(user, BEGIN, root, plan.sabotage)));
    }
    if plan.metronome {
        let user = Jobs::new(plan.sabotage);
        parties.push(Box::new(Service::new(user, BEGIN, root, plan.sabotage)));
    }
    let seat = |party: Box<dyn Party>| Seat {
        clock: Clock::right(BEGIN),
        leader: None,
        change: 0,
        master: None,
        is_hasty: seed.chance(0.3) && !party.is_patient(),
        party,
        lives: 0,
        registered: None,
    };
    parties.into_iter().map(seat).collect()
}
