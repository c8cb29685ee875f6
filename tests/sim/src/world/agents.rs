//! How agents live, and what reaches them.

use std::time::Duration;

use dcos_containerizer::agent::{FromMaster, Input as AgentInput};
use dcos_proto::{Message, internal};
use dcos_sched::master::Packet;

use super::World;
use super::happening::{Happening, STRAY};
use crate::host::Host;
use crate::network::End;
use crate::node::Wish;

impl World {
    pub(super) fn start_agent(&mut self, node: usize) {
        if self.nodes[node].agent.is_some() {
            return;
        }
        self.nodes[node].start(self.now);
        let leader = self.election.leader();
        self.settle_node(node);
        self.node_hears(node, self.changes, leader);
    }

    /// A node's detector says who leads.
    pub(super) fn node_hears(&mut self, node: usize, change: u64, leader: Option<usize>) {
        if change < self.nodes[node].change {
            return;
        }
        self.nodes[node].change = change;
        let life = self.nodes[node].life;
        let address = leader.map(|at| self.hosts[at].address.clone());
        self.tell_agent(node, life, AgentInput::Detected(address));
    }

    /// A message of a master arrives, if its connection stands, or late.
    pub(super) fn reach_node(
        &mut self,
        node: usize,
        life: u64,
        at: usize,
        packet: Packet,
        connection: u32,
    ) {
        let (from, to) = (End::Master(at), End::Node(node));
        if connection != STRAY && !self.network.stands(from, to, connection) {
            if let Some(late) = self.stray() {
                let connection = STRAY;
                let happening = Happening::ToNode {
                    node,
                    life,
                    at,
                    packet,
                    connection,
                };
                self.queue.at(late, happening);
            }
            return;
        }
        if packet.name == internal::ShutdownMessage::V0_NAME {
            self.watch.expect_end_at(node);
        }
        if packet.name == internal::DrainSlaveMessage::V0_NAME {
            self.watch.expect_end_at(node);
        }
        if let Some(Ok(message)) = FromMaster::decode(&packet.name, &packet.body) {
            let from = self.hosts[at].address.clone();
            self.tell_agent(node, life, AgentInput::Message { from, message });
        }
    }

    pub(super) fn tell_agent(&mut self, node: usize, life: u64, input: AgentInput) {
        let known = &mut self.nodes[node];
        if life != known.life {
            return;
        }
        let now = known.clock.show(self.now);
        if let Some(agent) = &mut known.agent {
            agent.handle(now, input);
            self.settle_node(node);
        }
    }

    pub(super) fn tick_agent(&mut self, node: usize) {
        let known = &mut self.nodes[node];
        let now = known.clock.show(self.now);
        if let Some(agent) = &mut known.agent {
            agent.tick(now);
            self.settle_node(node);
        }
    }

    pub(super) fn settle_node(&mut self, node: usize) {
        let (wishes, crashed) = self.nodes[node].carry_out(self.now);
        for wish in wishes {
            self.grant(node, wish);
        }
        if crashed {
            let pause = Duration::from_millis(self.seed.range(500..15_000));
            self.agent_is_gone(node, pause);
        }
        self.arm(End::Node(node));
    }

    fn grant(&mut self, node: usize, wish: Wish) {
        let life = self.nodes[node].life;
        match wish {
            Wish::Send { to, name, body } => {
                let Some(at) = Host::number_of(&to).filter(|at| *at < self.hosts.len()) else {
                    return;
                };
                let sent = self
                    .network
                    .send(self.now, End::Node(node), End::Master(at));
                let Some(arrival) = sent else {
                    return;
                };
                let packet = Packet {
                    name: name.to_owned(),
                    body: body.into(),
                };
                let happening = Happening::ToMaster {
                    at,
                    life: self.hosts[at].life,
                    node,
                    packet,
                    connection: arrival.connection,
                };
                self.queue.at(arrival.time, happening);
            }
            Wish::Later(delay, input) => {
                self.queue
                    .at(self.now + delay, Happening::Agent { node, life, input });
            }
            Wish::End(delay, container, status) => {
                let happening = Happening::End {
                    node,
                    container,
                    status,
                };
                self.queue.at(self.now + delay, happening);
            }
            Wish::Killed {
                framework,
                executor,
            } => self.watch.killed(node, &framework, &executor),
            Wish::Launched { executor } => {
                self.watch.launched(&executor);
                self.check_launched(node, &executor);
                let node = &self.nodes[node];
                if !node.fits(self.watch.ended()) {
                    let (address, running) = (&node.address, node.running());
                    self.watch
                        .complain(format!("resources of {address} are given twice:{running}"));
                }
            }
            Wish::Wrote {
                framework,
                uuid,
                what,
            } => self.watch.wrote(node, framework, &uuid, what),
            Wish::Acknowledged { uuid, what } => self.watch.dropped(&uuid, &what),
            Wish::Holds(content) => self.watch.holds(node, content),
            Wish::VolumeFailed { volume } => self.watch.volume_failed(&volume),
            Wish::VolumeDeleted { volume } => self.watch.volume_deleted(&volume),
            Wish::Rash(wrong) => self.watch.complain(wrong),
            Wish::Stopped { fresh } => {
                self.nodes[node].crash();
                if fresh {
                    self.nodes[node].forget();
                    self.watch.forgot(node);
                }
                let pause = Duration::from_millis(self.seed.range(500..15_000));
                self.agent_is_gone(node, pause);
            }
        }
    }

    /// The agent's process ended: masters will notice, and somebody starts it again.
    pub(super) fn agent_is_gone(&mut self, node: usize, pause: Duration) {
        self.disarm(End::Node(node));
        for at in 0..self.hosts.len() {
            if self.hosts[at].master.is_none() {
                continue;
            }
            let life = self.hosts[at].life;
            let sent = self
                .network
                .send(self.now, End::Node(node), End::Master(at));
            if let Some(arrival) = sent {
                let happening = Happening::MasterLosesNode { at, life, node };
                self.queue.at(arrival.time, happening);
            }
        }
        self.queue
            .at(self.now + pause, Happening::StartAgent { node });
    }
}
