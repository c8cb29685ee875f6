//! The loop: takes what is due next, feeds it to a core, carries out what the core decides.

mod carry;
mod faults;
mod happening;
mod judge;

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_containerizer::agent::Input as AgentInput;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_sched::master::{Input, Master, Reply};

use crate::framework::Framework;
use crate::leader::{ADDRESS, Leader};
use crate::network::{Network, Queue};
use crate::node::Node;
use crate::party::Party;
use crate::sabotage::Sabotage;
use crate::service::Service;
use happening::Happening;

/// When the world begins; later than any timeout, so that no subtraction meets the epoch.
const BEGIN: Time = Time::from_secs(1_000_000);
/// More steps than this mean that something spins.
const STEPS: u64 = 300_000;

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many nodes there are.
    pub nodes: usize,
    /// What each has.
    pub resources: &'static str,
    /// How many scripted frameworks there are.
    pub frameworks: usize,
    /// How many tasks each wants done.
    pub tasks: usize,
    /// Whether there is a Marathon with a restless user.
    pub marathon: bool,
    /// Which part is broken, to see whether that is noticed.
    pub sabotage: Option<Sabotage>,
    /// For how long faults happen.
    pub trouble: Duration,
    /// How long after that everything has to be at rest.
    pub patience: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nodes: 3,
            resources: "cpus:4;mem:1024;disk:1024;ports:[31000-31099]",
            frameworks: 2,
            tasks: 15,
            marathon: true,
            sabotage: None,
            trouble: Duration::from_mins(2),
            patience: Duration::from_hours(1),
        }
    }
}

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
    /// A digest of everything that happened: equal for equal seeds.
    pub digest: u64,
}

/// A cluster under a virtual clock.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    now: Time,
    seed: Seed,
    queue: Queue<Happening>,
    network: Network,
    leader: Leader,
    nodes: Vec<Node>,
    parties: Vec<Box<dyn Party>>,
    /// Who waits for which answer.
    requests: BTreeMap<u64, usize>,
    /// Whose stream is whose, as the master sees it.
    streams: BTreeMap<String, usize>,
    launches: BTreeMap<String, usize>,
    /// Nodes on which something was launched since the last look.
    launched_on: Vec<usize>,
    faults: usize,
    steps: u64,
    digest: u64,
    next_request: u64,
    is_tracing: bool,
}

impl World {
    /// A world in which `number` decides everything.
    pub fn new(number: u64, plan: Plan) -> Self {
        let seed = Seed::new(number);
        let mut world = Self {
            now: BEGIN,
            queue: Queue::new(),
            network: Network::new(&seed),
            leader: Leader::new(&seed, plan.sabotage),
            nodes: (0..plan.nodes)
                .map(|at| Node::new(at, &plan, &seed))
                .collect(),
            parties: parties(&plan, &seed),
            requests: BTreeMap::new(),
            streams: BTreeMap::new(),
            launches: BTreeMap::new(),
            launched_on: Vec::new(),
            faults: 0,
            steps: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            next_request: 0,
            is_tracing: std::env::var_os("SIM_TRACE").is_some(),
            seed: seed.stream("world"),
            plan,
        };
        world.queue.at(BEGIN, Happening::StartMaster);
        for node in 0..world.nodes.len() {
            world.queue.at(BEGIN, Happening::StartAgent { node });
        }
        world
            .queue
            .at(BEGIN + Duration::from_secs(3), Happening::Fault);
        world
    }

    /// Runs until everything is at rest.
    ///
    /// # Errors
    /// What went wrong, and when.
    pub fn run(mut self) -> Result<Verdict, String> {
        let end = BEGIN + self.plan.trouble + self.plan.patience;
        while !self.is_at_rest() {
            let Some(next) = self.next_time() else {
                return Err(self.report("nothing will ever happen again"));
            };
            if next > end {
                return Err(self.report("the cluster did not come to rest"));
            }
            self.now = self.now.max(next);
            self.step(next);
            self.steps += 1;
            if self.steps > STEPS {
                return Err(self.report("something spins"));
            }
            if let Some(wrong) = self.what_must_never_be() {
                return Err(self.report(&wrong));
            }
        }
        Ok(Verdict {
            steps: self.steps,
            time: self.now - BEGIN,
            launches: self.launches.values().sum(),
            faults: self.faults,
            digest: self.digest,
        })
    }

    fn next_time(&self) -> Option<Time> {
        let master = self.leader.master.as_ref().and_then(Master::next_deadline);
        let agents = self
            .nodes
            .iter()
            .filter_map(|node| node.agent.as_ref()?.next_deadline());
        let frameworks = self
            .parties
            .iter()
            .map(|party| party.next_deadline(self.now));
        self.queue
            .next_time()
            .into_iter()
            .chain(master)
            .chain(agents)
            .chain(frameworks)
            .min()
    }

    fn step(&mut self, time: Time) {
        if self.queue.next_time().is_some_and(|next| next <= time) {
            if let Some((_, happening)) = self.queue.pop() {
                self.note(&happening);
                self.happen(happening);
            }
            return;
        }
        let now = self.now;
        if self
            .leader
            .master
            .as_ref()
            .and_then(Master::next_deadline)
            .is_some_and(|t| t <= now)
        {
            return self.tell_master(Input::Tick);
        }
        for at in 0..self.nodes.len() {
            if let Some(agent) = &mut self.nodes[at].agent
                && agent
                    .next_deadline()
                    .is_some_and(|deadline| deadline <= now)
            {
                agent.tick(now);
                return self.settle_node(at);
            }
        }
        for at in 0..self.parties.len() {
            if self.parties[at].next_deadline(now) <= now {
                let is_calm = !self.is_in_trouble();
                let calls = self.parties[at].tick(now, is_calm);
                return self.send_calls(at, calls);
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToMaster { life, node, packet } => {
                if life == self.leader.life {
                    let from = self.nodes[node].address.clone();
                    self.tell_master(Input::Message {
                        from,
                        message: packet,
                    });
                }
            }
            Happening::ToNode { node, life, packet } => self.deliver(node, life, &packet),
            Happening::MasterLosesNode { life, node } => {
                if life == self.leader.life {
                    let pid = self.nodes[node].address.clone();
                    self.tell_master(Input::Exited { pid });
                }
            }
            Happening::NodeLosesMaster { node, life } => {
                self.tell_agent(node, life, AgentInput::Disconnected(ADDRESS.to_owned()));
            }
            Happening::Mend { node } => {
                let address = self.nodes[node].address.clone();
                self.network.mend(ADDRESS, &address);
            }
            Happening::Stored { life, id } => {
                if life == self.leader.life && self.leader.master.is_some() {
                    let revision = self.leader.commit();
                    self.tell_master(Input::Stored { id, revision });
                }
            }
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
            Happening::Call {
                life,
                framework,
                stream,
                call,
            } => {
                if life == self.leader.life && self.leader.master.is_some() {
                    self.next_request += 1;
                    let request = self.next_request;
                    self.requests.insert(request, framework);
                    self.tell_master(Input::Call {
                        request,
                        stream_id: stream,
                        principal: None,
                        call,
                    });
                }
            }
            Happening::Reply { framework, reply } => match reply {
                Reply::Subscribed { stream_id } => {
                    self.parties[framework].subscribed(self.now, stream_id);
                }
                Reply::Refused { .. } => self.parties[framework].refused(self.now),
                _ => {}
            },
            Happening::Event {
                framework,
                stream,
                event,
            } => {
                if self.parties[framework].stream() == Some(&*stream) {
                    let calls = self.parties[framework].event(self.now, &event);
                    self.send_calls(framework, calls);
                }
            }
            Happening::MasterLosesStream { life, stream } => {
                if life == self.leader.life {
                    self.tell_master(Input::StreamClosed { stream_id: stream });
                }
            }
            Happening::StreamBreaks { framework, stream } => {
                if self.parties[framework].stream() == Some(&*stream) {
                    self.parties[framework].disconnected(self.now);
                }
            }
            Happening::StartMaster => self.start_master(),
            Happening::StartAgent { node } => self.start_agent(node),
            Happening::Fault => self.fault(),
        }
    }
}

/// The scripts, and a Marathon if there is to be one.
fn parties(plan: &Plan, seed: &Seed) -> Vec<Box<dyn Party>> {
    let script = |at| -> Box<dyn Party> { Box::new(Framework::new(at, plan.tasks, seed)) };
    let mut parties: Vec<_> = (0..plan.frameworks).map(script).collect();
    if plan.marathon {
        parties.push(Box::new(Service::new(BEGIN, seed)));
    }
    parties
}
