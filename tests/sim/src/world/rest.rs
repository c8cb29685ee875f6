//! What must never be, and what has to be in the end.

use std::fmt;
use std::time::Duration;

use dcos_containerizer::agent::Agent;
use dcos_proto::Message;
use dcos_proto::internal::{SlaveRegisteredMessage, SlaveReregisteredMessage};
use dcos_proto::scheduler::Event;
use dcos_proto::{decode, mesos::AgentId};
use dcos_sched::master::Packet;

use super::{BEGIN, World};
use crate::node::Node;
use crate::watch::books;

/// How a world ended badly.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What was violated.
    pub wrong: String,
    /// When, by the virtual clock.
    pub time: Duration,
    /// After how many steps.
    pub steps: u64,
    /// How everybody stood.
    pub state: String,
    /// The last things that happened.
    pub trace: Vec<String>,
}

impl Failure {
    /// The violated promise, without the names of whom it concerned.
    pub fn kind(&self) -> String {
        self.wrong
            .split_whitespace()
            .filter(|word| !word.contains(|c: char| c.is_ascii_digit() || c == '_'))
            .take(6)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            wrong,
            time,
            steps,
            state,
            ..
        } = self;
        write!(f, "{wrong}, after {time:?} and {steps} steps{state}")
    }
}

impl World {
    /// What is wrong now and would be wrong at any time.
    pub(super) fn what_must_never_be(&mut self) -> Option<String> {
        self.watch
            .take_complaint()
            .or_else(|| self.registry.complaint.take())
            .or_else(|| self.listening.take_complaint())
            .or_else(|| self.overlays.take_complaint())
            .or_else(|| self.hosts.iter().find_map(|host| host.complaint.take()))
    }

    /// Whether all that was wanted is done, nothing is left over, and every node has been offered
    /// as a whole since.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.is_in_trouble()
            && self.seats.iter().all(|seat| {
                let now = seat.clock.show(self.now);
                seat.party.is_content(now)
            })
            && self.nodes.iter().all(|node| self.is_idle(node))
            && self.books_agree()
            && self.listening.is_at_rest(self.leader())
    }

    fn is_idle(&self, node: &Node) -> bool {
        let Some(agent) = &node.agent else {
            return false;
        };
        let was_offered = self.seats.iter().any(|seat| {
            let offer = agent.id().and_then(|id| seat.party.idle_offer(id));
            offer.is_some_and(|offer| *offer == node.total)
        });
        was_offered && node.is_empty() && agent.tasks().next().is_none()
    }

    /// What should have happened until everything was at rest, and has not.
    pub(super) fn what_is_missing(&self) -> Option<String> {
        let untold = self.watch.untold();
        untold.or_else(|| self.listening.disagreement(self.leader()))
    }

    /// Offers and uses on an agent never exceed it, by the books of whoever leads.
    pub(super) fn check_books(&mut self, at: usize) {
        if let Some(master) = &self.hosts[at].master
            && let Err(wrong) = books::check(master, self.watch.touched())
        {
            self.watch.complain(wrong);
        }
        self.watch.touch_none();
    }

    /// What a framework is told must be durable, as far as it has to be.
    pub(super) fn check_said(&mut self, at: usize, event: &Event) {
        if let Some(offers) = &event.offers {
            self.watch.touch(&offers.offers);
            self.check_offered(at, &offers.offers);
        }
        if let Some(subscribed) = &event.subscribed
            && self.is_newest(at)
        {
            let id = &subscribed.framework_id;
            if !self.registry.has(&format!("mesos/frameworks/{id}")) {
                self.watch
                    .complain(format!("{id} is subscribed before that was stored"));
            }
        }
    }

    /// What an agent is told must be durable.
    pub(super) fn check_sent(&mut self, at: usize, node: usize, packet: &Packet) {
        let id: Option<AgentId> = if packet.name == SlaveRegisteredMessage::V0_NAME {
            let message = decode::<SlaveRegisteredMessage>(&packet.body).ok();
            message.map(|message| message.agent_id)
        } else if packet.name == SlaveReregisteredMessage::V0_NAME {
            let message = decode::<SlaveReregisteredMessage>(&packet.body).ok();
            message.map(|message| message.agent_id)
        } else {
            None
        };
        if let Some(id) = id {
            self.check_admitted(at, node, &id);
        }
    }

    /// Whether nobody has led after this one: a deposed leader may believe what is past.
    pub(super) fn is_newest(&self, at: usize) -> bool {
        self.hosts[at].term == self.election.term()
    }

    pub(super) fn fail(&mut self, wrong: &str) -> Failure {
        Failure {
            wrong: wrong.to_owned(),
            time: self.now - BEGIN,
            steps: self.steps,
            state: self.state(),
            trace: self.trace.take(),
        }
    }

    fn state(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            let leads = host.master.is_some();
            text += &format!("\n  {} (leads: {leads}, term {})", host.address, host.term);
        }
        for seat in self.seats.iter().take(20) {
            let now = seat.clock.show(self.now);
            let (is_open, open) = (seat.party.stream().is_some(), seat.party.open(now));
            let content = seat.party.is_content(now);
            text += &format!(
                "\n  framework (stream: {is_open} of {:?}, content: {content}): {open}",
                seat.master
            );
        }
        let restless = self.nodes.iter().filter(|node| !self.is_idle(node));
        for node in restless.take(20) {
            let tasks: Vec<String> = node
                .agent
                .iter()
                .flat_map(Agent::tasks)
                .map(|task| format!("{} {}", task.task_id, task.state().as_str_name()))
                .collect();
            let agent = node.agent.as_ref();
            let master = agent.and_then(|agent| agent.master());
            let id = agent.and_then(Agent::id);
            let offered = self
                .seats
                .iter()
                .filter_map(|seat| seat.party.idle_offer(id?))
                .map(ToString::to_string)
                .next();
            text += &format!(
                "\n  {} {id:?} (up: {}, with {master:?}): uses {}; tasks {tasks:?}; offered {offered:?}",
                node.address,
                node.agent.is_some(),
                node.in_use()
            );
        }
        text + &self.disagreements()
    }
}
