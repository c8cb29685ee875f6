//! How masters are elected, lead, write, and are deposed.

use std::time::Duration;

use dcos_proto::internal::{KillTaskMessage, ShutdownFrameworkMessage, StatusUpdateMessage};
use dcos_proto::mesos::TaskState;
use dcos_proto::{Message, decode};
use dcos_sched::master::{Action, Input, Packet, Reply};
use dcos_store::Write;

use super::World;
use super::happening::{Happening, STRAY};
use crate::election::Elected;
use crate::network::End;
use crate::node::Node;
use crate::sabotage::Sabotage;

impl World {
    /// A process starts on a machine, and becomes a candidate.
    pub(super) fn start_master(&mut self, at: usize) {
        if self.hosts[at].is_up {
            return;
        }
        self.hosts[at].begin(self.now);
        let elected = self.election.join(at);
        self.proclaim(elected);
    }

    /// Everybody hears who leads now, sooner or later.
    fn proclaim(&mut self, elected: Option<Elected>) {
        let Some(Elected { master: at, term }) = elected else {
            return;
        };
        let life = self.hosts[at].life;
        let soon = self.now + self.network.delay();
        self.queue.at(soon, Happening::Elected { at, life, term });
        self.spread(Some(at));
    }

    /// Detectors learn who leads; some first learn that nobody does.
    fn spread(&mut self, leader: Option<usize>) {
        self.changes += 1;
        let change = self.changes;
        for node in 0..self.nodes.len() {
            let time = self.now + self.rumour();
            let happening = Happening::NodeHears {
                node,
                change,
                leader,
            };
            self.queue.at(time, happening);
        }
        for party in 0..self.seats.len() {
            let time = self.now + self.rumour();
            let happening = Happening::PartyHears {
                party,
                change,
                leader,
            };
            self.queue.at(time, happening);
        }
    }

    fn rumour(&mut self) -> Duration {
        let most = if self.seed.chance(0.05) { 12_000 } else { 500 };
        Duration::from_millis(self.seed.range(1..most))
    }

    /// A candidate learns that it leads: it closes the door behind the one before, and reads.
    pub(super) fn elected(&mut self, at: usize, life: u64, term: u64) {
        if life != self.hosts[at].life {
            return;
        }
        match self.registry.read(term, at) {
            Ok(snapshot) => {
                self.hosts[at].lead(self.now, term, snapshot);
                self.check_promises(at);
                self.settle_master(at);
            }
            // Somebody leads a later term already.
            Err(_) => self.master_ends(at),
        }
    }

    /// A session ended, and its process does not know it yet.
    pub(super) fn session_ends(&mut self, at: usize, life: u64) {
        if life != self.hosts[at].life || self.election.leader() != Some(at) {
            return;
        }
        let elected = self.election.leave(at);
        if elected.is_none() {
            self.spread(None);
        }
        self.proclaim(elected);
    }

    /// It learns it now.
    pub(super) fn deposed(&mut self, at: usize, life: u64) {
        if life == self.hosts[at].life && self.election.leader() != Some(at) {
            self.master_ends(at);
        }
    }

    /// A process ends by itself, and its supervisor starts another.
    pub(super) fn master_ends(&mut self, at: usize) {
        let pause = Duration::from_millis(self.seed.range(200..5000));
        self.crash_master(at, pause);
    }

    pub(super) fn crash_master(&mut self, at: usize, pause: Duration) {
        if !self.hosts[at].is_up {
            return;
        }
        let was_leading = self.hosts[at].master.is_some();
        self.hosts[at].end();
        self.disarm(End::Master(at));
        self.requests.retain(|_, (master, _)| *master != at);
        if was_leading {
            for node in 0..self.nodes.len() {
                // Behind what the master still said: a connection ends with its last byte.
                let life = self.nodes[node].life;
                let sent = self
                    .network
                    .send(self.now, End::Master(at), End::Node(node));
                if let Some(arrival) = sent {
                    let happening = Happening::NodeLosesMaster { node, life, at };
                    self.queue.at(arrival.time, happening);
                }
            }
            let streams = std::mem::take(&mut self.streams);
            for (stream, (master, party)) in streams {
                if master == at {
                    self.push_to_party(at, party, Happening::StreamBreaks { party, stream });
                } else {
                    self.streams.insert(stream, (master, party));
                }
            }
        }
        // Its session ends with its connection, or when nobody has heard of it for a while.
        let elected = self.election.leave(at);
        self.proclaim(elected);
        self.queue
            .at(self.now + pause, Happening::StartMaster { at });
    }

    pub(super) fn tell_master(&mut self, at: usize, input: Input) {
        let host = &mut self.hosts[at];
        let now = host.clock.show(self.now);
        if let Some(master) = &mut host.master {
            master.handle(now, input);
            self.settle_master(at);
        }
    }

    pub(super) fn settle_master(&mut self, at: usize) {
        let mut offered = false;
        while let Some(action) = self.hosts[at]
            .master
            .as_mut()
            .and_then(dcos_sched::master::Master::poll)
        {
            match action {
                Action::Persist { id, writes } => self.begin_write(at, id, writes),
                Action::Reply { request, reply } => self.reply(at, request, reply),
                Action::Event { stream_id, event } => {
                    offered |= event.offers.is_some();
                    if let Some(&(_, party)) = self.streams.get(&stream_id) {
                        self.check_said(at, &event);
                        let stream = stream_id;
                        self.push_to_party(
                            at,
                            party,
                            Happening::Event {
                                party,
                                stream,
                                event,
                            },
                        );
                    }
                }
                Action::Close { stream_id: stream } => {
                    if let Some((_, party)) = self.streams.remove(&stream) {
                        self.push_to_party(at, party, Happening::StreamBreaks { party, stream });
                    }
                }
                Action::Send { to, message } => match super::drivers::number_of(&to) {
                    Some(party) => offered |= self.send_to_driver(at, party, to, &message),
                    None => self.send_to_node(at, &to, message),
                },
                Action::Publish(news) => {
                    let life = self.hosts[at].life;
                    let event = || news.clone().into_event();
                    self.listening.publish(self.now, at, life, event);
                }
                // Links are always watched, and nobody reads.
                _ => {}
            }
        }
        if offered {
            self.check_books(at);
        }
        self.arm(End::Master(at));
    }

    fn begin_write(&mut self, at: usize, id: u64, writes: Vec<Write>) {
        self.hosts[at].writes = true;
        let (life, term) = (self.hosts[at].life, self.hosts[at].term);
        let time = self.now + self.registry.delay(self.now);
        if self.plan.sabotage == Some(Sabotage::Hasty) {
            let revision = Some(dcos_store::Revision::ZERO);
            self.queue.at(
                self.now,
                Happening::Stored {
                    at,
                    life,
                    id,
                    revision,
                },
            );
            if self.seed.chance(0.3) {
                return;
            }
        }
        self.queue.at(
            time,
            Happening::Commit {
                at,
                life,
                term,
                id,
                writes,
            },
        );
    }

    pub(super) fn commit(&mut self, at: usize, life: u64, term: u64, id: u64, writes: Vec<Write>) {
        self.check_drained(&writes);
        let done = self.registry.write(self.now, term, at, writes);
        if self.plan.sabotage == Some(Sabotage::Hasty) {
            return;
        }
        let revision = done.ok();
        let time = self.now + self.registry.delay(self.now);
        self.queue.at(
            time,
            Happening::Stored {
                at,
                life,
                id,
                revision,
            },
        );
    }

    fn reply(&mut self, at: usize, request: u64, reply: Reply) {
        let Some((_, party)) = self.requests.remove(&request) else {
            return self.operator.hear(request, reply == Reply::Done);
        };
        if let Reply::Subscribed { stream_id } = &reply {
            self.streams.insert(stream_id.clone(), (at, party));
        }
        self.push_to_party(at, party, Happening::Reply { party, at, reply });
    }

    pub(super) fn push_to_party(&mut self, at: usize, party: usize, happening: Happening) {
        let sent = self
            .network
            .send(self.now, End::Master(at), End::Party(party));
        if let Some(arrival) = sent {
            self.queue.at(arrival.time, happening);
        }
    }

    pub(super) fn send_to_node(&mut self, at: usize, to: &str, packet: Packet) {
        let Some(node) = Node::number_of(to).filter(|node| *node < self.nodes.len()) else {
            return;
        };
        self.check_sent(at, node, &packet);
        if packet.name == ShutdownFrameworkMessage::V0_NAME
            && let Ok(message) = decode::<ShutdownFrameworkMessage>(&packet.body)
        {
            self.watch.expect_end_of(&message.framework_id);
        }
        if packet.name == KillTaskMessage::V0_NAME
            && let Ok(message) = decode::<KillTaskMessage>(&packet.body)
            && self.hosts[at]
                .complaint
                .has_given_way(&message.framework_id)
        {
            self.watch.makes_room(&message.task_id);
        }
        if self.plan.sabotage == Some(Sabotage::Deaf) && packet.name == KillTaskMessage::V0_NAME {
            return;
        }
        let life = self.nodes[node].life;
        let sent = self
            .network
            .send(self.now, End::Master(at), End::Node(node));
        if let Some(arrival) = sent {
            let connection = arrival.connection;
            let happening = Happening::ToNode {
                node,
                life,
                at,
                packet,
                connection,
            };
            self.queue.at(arrival.time, happening);
        }
    }

    /// A message of an agent arrives, if its connection stands, or late.
    pub(super) fn reach_master(
        &mut self,
        at: usize,
        life: u64,
        node: usize,
        packet: Packet,
        connection: u32,
    ) {
        if life != self.hosts[at].life || self.hosts[at].master.is_none() {
            return;
        }
        let (from, to) = (End::Node(node), End::Master(at));
        if connection != STRAY && !self.network.stands(from, to, connection) {
            if let Some(late) = self.stray() {
                let connection = STRAY;
                let happening = Happening::ToMaster {
                    at,
                    life,
                    node,
                    packet,
                    connection,
                };
                self.queue.at(late, happening);
            }
            return;
        }
        // Agents repeat what they say until it is answered: whatever comes may come twice.
        if connection != STRAY && self.is_in_trouble() && self.seed.chance(0.01) {
            let time = self.now + Duration::from_millis(self.seed.range(1..3000));
            let happening = Happening::ToMaster {
                at,
                life,
                node,
                packet: packet.clone(),
                connection: STRAY,
            };
            self.queue.at(time, happening);
        }
        if self.is_meddled_with(at, node, &packet) {
            return;
        }
        let from = self.nodes[node].address.clone();
        let message = packet;
        self.tell_master(at, Input::Message { from, message });
    }

    /// Whether something that was under way when its connection broke waits in the receiver's
    /// kernel, and until when.
    pub(super) fn stray(&mut self) -> Option<dcos_core::time::Time> {
        self.seed
            .chance(0.3)
            .then(|| self.now + Duration::from_millis(self.seed.range(0..1500)))
    }

    /// What broken parts make of an agent's message; whether it ends there.
    fn is_meddled_with(&mut self, at: usize, node: usize, packet: &Packet) -> bool {
        if packet.name != StatusUpdateMessage::V0_NAME {
            return false;
        }
        let Ok(mut message) = decode::<StatusUpdateMessage>(&packet.body) else {
            return false;
        };
        let uuid = message.update.uuid.clone().unwrap_or_default();
        match self.plan.sabotage {
            Some(Sabotage::Swallower) => uuid.first().is_some_and(|byte| byte.is_multiple_of(16)),
            Some(Sabotage::Acknowledger) if self.seed.chance(0.2) => {
                let message = dcos_proto::internal::StatusUpdateAcknowledgementMessage {
                    agent_id: message.update.agent_id.unwrap_or_default(),
                    framework_id: message.update.framework_id,
                    task_id: message.update.status.task_id,
                    uuid,
                };
                let to = self.nodes[node].address.clone();
                self.send_to_node(at, &to, Packet::of(&message));
                true
            }
            Some(Sabotage::Fickle) if message.update.status.state() == TaskState::TaskFinished => {
                let other: Vec<u8> = uuid.iter().map(|byte| !byte).collect();
                message.update.status.state = TaskState::TaskFailed.into();
                message.update.status.uuid = Some(other.clone());
                message.update.uuid = Some(other);
                let life = self.hosts[at].life;
                let time = self.now + Duration::from_secs(1);
                let packet = Packet::of(&message);
                let connection = STRAY;
                // Once: the false one is not FINISHED.
                self.queue.at(
                    time,
                    Happening::ToMaster {
                        at,
                        life,
                        node,
                        packet,
                        connection,
                    },
                );
                false
            }
            _ => false,
        }
    }
}
