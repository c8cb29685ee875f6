//! Nodes that follow what the leader tells: each has names, a table of virtual addresses, and what its kernel holds of
//! that. Streams break, masters fail over, and processes begin anew with what they kept.
//!
//! What a node knows is compared with the leader's tasks one by one, not with what the same code makes of them. Delays and
//! breaks here are drawn by themselves, so that no other part of a world goes another way by them.

mod node;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_net::state_of;
use dcos_net::vip::TaskKey;
use dcos_proto::master::Event;
use dcos_proto::master::response::GetState;
use dcos_proto::mesos::{Task, TaskState};
use dcos_sched::master::Master;

use crate::sabotage::Sabotage;
use node::{Node, Said};

/// How many nodes follow.
const NODES: usize = 2;
/// How often they go on.
const PACE: Duration = Duration::from_millis(50);

/// The nodes that follow.
#[derive(Debug)]
pub(crate) struct Listening {
    seed: Seed,
    nodes: Vec<Node>,
    sabotage: Option<Sabotage>,
    told: u64,
    next: Time,
    complaint: Option<String>,
}

/// Who leads, in which of its lives.
#[derive(Clone, Copy)]
pub(crate) struct Leader<'a> {
    pub(crate) at: usize,
    pub(crate) life: u64,
    pub(crate) master: &'a Master,
    /// Whether it told all it knows: what waits for the store is told afterwards.
    pub(crate) has_told: bool,
}

impl Listening {
    pub(crate) fn new(root: &Seed, begin: Time, sabotage: Option<Sabotage>) -> Self {
        let mut seed = root.stream("listening");
        let nodes = (0..NODES).map(|_| Node::new(begin, &mut seed, sabotage));
        Self {
            nodes: nodes.collect(),
            seed,
            sabotage,
            told: 0,
            next: begin,
            complaint: None,
        }
    }

    /// A master tells everybody who listens to it.
    pub(crate) fn publish(&mut self, now: Time, at: usize, life: u64, event: impl Fn() -> Event) {
        let streams = self.nodes.iter_mut();
        let mut streams = streams
            .filter_map(|node| node.stream_of(at, life))
            .peekable();
        if streams.peek().is_none() {
            return;
        }
        let event = Arc::new(event());
        for stream in streams {
            self.told += 1;
            if self.sabotage == Some(Sabotage::Unheard) && self.told.is_multiple_of(15) {
                continue;
            }
            let arrives = now + Duration::from_millis(self.seed.range(1..200));
            stream.send(arrives, Said::Event(Arc::clone(&event)));
        }
    }

    /// Whether there is anything to do at `now`.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.next.is_due(now)
    }

    /// What happened until `now`. A stream ends with the life of its master.
    pub(crate) fn go_on(&mut self, now: Time, lives: &[u64], leader: Option<Leader<'_>>) {
        self.next = now + PACE;
        for node in &mut self.nodes {
            let wrong = node
                .go_on(now, &mut self.seed, lives, leader)
                .and_then(|()| node.hear(now))
                .and_then(|()| node.look(now, leader));
            self.complaint = self.complaint.take().or(wrong.err());
        }
    }

    pub(crate) fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// Whether everybody has heard all that `leader` told.
    pub(crate) fn is_at_rest(&self, leader: Option<Leader<'_>>) -> bool {
        let knows = |leader| self.nodes.iter().all(|node| node.knows_all(leader));
        leader.is_some_and(knows)
    }

    /// What somebody knows otherwise than `leader`, all having heard everything.
    pub(crate) fn disagreement(&self, leader: Option<Leader<'_>>) -> Option<String> {
        let truth = Truth::of(leader?.master);
        self.nodes.iter().find_map(|node| node.check(&truth).err())
    }
}

/// What a leader knows of tasks.
pub(crate) struct Truth {
    /// Those that are not over, and whether they take connections.
    live: BTreeMap<TaskKey, (SocketAddr, bool)>,
    /// Whether agents of a former leader are still to come back.
    is_whole: bool,
}

impl Truth {
    fn of(master: &Master) -> Self {
        let state = master.snapshot();
        let mut live = BTreeMap::new();
        for framework in state.frameworks.values() {
            for task in framework.tasks.values() {
                let task = task.read();
                if is_over(task.state()) {
                    continue;
                }
                let is_placed = state.agents.contains_key(&task.agent_id);
                let serves = task.state() == TaskState::TaskRunning && is_placed;
                live.insert(key(&task), (place(&task), serves));
            }
        }
        Self {
            live,
            is_whole: state.recovered_agents.is_empty(),
        }
    }
}

fn key(task: &Task) -> TaskKey {
    (task.framework_id.value.clone(), task.task_id.value.clone())
}

fn is_over(state: TaskState) -> bool {
    use TaskState::{TaskKilling, TaskRunning, TaskStaging, TaskStarting};
    !matches!(
        state,
        TaskStaging | TaskStarting | TaskRunning | TaskKilling
    )
}

/// The address of a task's container, which no other has, or hardly ever.
fn place(task: &Task) -> SocketAddr {
    place_of(&task.framework_id.value, &task.task_id.value)
}

fn place_of(framework: &str, task: &str) -> SocketAddr {
    let hash = framework.bytes().chain(task.bytes());
    let hash = hash.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let [_, _, _, second, third, fourth, high, low] = hash.to_be_bytes();
    let port = u16::from_be_bytes([high, low]).max(1);
    ([9, second, third, fourth], port).into()
}

/// What the leader tells first.
fn state_told(master: &Master) -> GetState {
    let state = master.snapshot();
    let agents = state.agents.iter().filter_map(|(id, agent)| {
        let (_, address) = agent.pid.rsplit_once('@')?;
        Some((id.as_str().to_owned(), address.parse().ok()?))
    });
    let frameworks = state.frameworks.values();
    let tasks = frameworks
        .clone()
        .flat_map(|framework| framework.tasks.values());
    let mut told = state_of(
        agents,
        frameworks.map(|framework| framework.info.clone()),
        tasks.map(|task| task.read().into_owned()),
    );
    let recovered = state.recovered_agents.iter();
    let recovered = recovered.map(|(_, info)| info.clone());
    told.get_agents.get_or_insert_default().recovered_agents = recovered.collect();
    told
}
