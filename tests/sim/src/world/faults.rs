//! What goes wrong.

use std::time::Duration;

use dcos_core::time::Time;

use super::happening::Happening;
use super::{BEGIN, World};
use crate::fault::{Fault, Kind, Way};
use crate::network::End;

impl World {
    pub(super) fn is_in_trouble(&self) -> bool {
        self.now < BEGIN + self.plan.trouble
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        self.faults += 1;
        match fault {
            Fault::MasterCrash { who, pause } => {
                let at = pick(who, self.hosts.len());
                self.crash_master(at, pause);
            }
            Fault::SessionLoss { late } => {
                if let Some(at) = self.election.leader() {
                    let life = self.hosts[at].life;
                    self.queue.at(self.now, Happening::SessionEnds { at, life });
                    self.queue
                        .at(self.now + late, Happening::Deposed { at, life });
                }
            }
            Fault::AgentCrash { who, pause } => {
                let node = pick(who, self.nodes.len());
                if self.nodes[node].agent.is_some() {
                    self.nodes[node].crash();
                    self.agent_is_gone(node, pause);
                }
            }
            Fault::AgentFuse { who, actions } => {
                let node = pick(who, self.nodes.len());
                self.nodes[node].fuse = Some(actions);
            }
            Fault::PowerLoss { who, pause } => self.power_loss(pick(who, self.nodes.len()), pause),
            Fault::PartyCrash { who, late } => self.crash_party(pick(who, self.seats.len()), late),
            Fault::PartyFuse {
                who,
                writes,
                is_written,
            } => {
                let first = pick(who, self.seats.len());
                let (before, rest) = self.seats.split_at_mut(first);
                _ = rest
                    .iter_mut()
                    .chain(before)
                    .any(|seat| seat.party.light(writes, is_written));
            }
            Fault::StreamBreak { who, late } => {
                let party = pick(who, self.seats.len());
                if self.seats[party].party.is_driver() {
                    // One does not notice; what breaks its connection for good is its end.
                    return self.crash_party(party, late);
                }
                if let Some(stream) = self.seats[party].party.stream().map(ToOwned::to_owned) {
                    self.stream_breaks(party, &stream);
                    self.close_stream(&stream, late);
                }
            }
            Fault::Partition {
                who,
                count,
                way,
                time,
            } => {
                let first = pick(who, self.nodes.len());
                for node in (first..self.nodes.len()).take(pick(count, usize::MAX).max(1)) {
                    self.part(node, way, time);
                }
            }
            Fault::Stall { who, time } => {
                let node = pick(who, self.nodes.len());
                let until = self.now + time;
                for at in 0..self.hosts.len() {
                    let (one, other) = (End::Master(at), End::Node(node));
                    self.network.stall(one, other, until);
                    self.network.stall(other, one, until);
                }
            }
            Fault::Freeze { whose, who, time } => {
                let end = self.whom(whose, who);
                self.frozen.insert(end, self.now + time);
            }
            Fault::ClockJump {
                whose,
                who,
                by,
                forward,
            } => self.jump(self.whom(whose, who), by, forward),
            Fault::Order(order) => {
                self.faults -= 1;
                self.order(order);
            }
            Fault::Store { ailment, time } => self.registry.ail(ailment, self.now + time),
        }
    }

    fn whom(&self, kind: Kind, who: u64) -> End {
        match kind {
            Kind::Master => End::Master(pick(who, self.hosts.len())),
            Kind::Agent => End::Node(pick(who, self.nodes.len())),
            Kind::Framework => End::Party(pick(who, self.seats.len())),
        }
    }

    fn jump(&mut self, end: End, by: Duration, forward: bool) {
        let clock = match end {
            End::Master(at) => &mut self.hosts[at].clock,
            End::Node(at) => &mut self.nodes[at].clock,
            End::Party(at) => &mut self.seats[at].clock,
        };
        clock.jump(self.now, by, forward);
        self.arm(end);
    }

    /// The machine goes down; its peers may see no more than silence.
    fn power_loss(&mut self, node: usize, pause: Duration) {
        let was_up = self.nodes[node].agent.is_some();
        self.nodes[node].power_off();
        if !was_up {
            return;
        }
        if self.seed.chance(0.5) {
            return self.agent_is_gone(node, pause);
        }
        self.disarm(End::Node(node));
        self.queue
            .at(self.now + pause, Happening::StartAgent { node });
    }

    /// Nothing passes between a node and the masters, in one direction or both.
    ///
    /// Whoever sent something that got lost learns of it, when the connection is given up or
    /// reset; the other end may not.
    fn part(&mut self, node: usize, way: Way, time: Duration) {
        let until = self.now + time;
        for at in 0..self.hosts.len() {
            let (master, agent) = (End::Master(at), End::Node(node));
            let (up, down) = (way != Way::Down, way != Way::Up);
            if up {
                self.network.cut(agent, master, until);
            }
            if down {
                self.network.cut(master, agent, until);
            }
            if up || self.seed.chance(0.5) {
                let life = self.nodes[node].life;
                for notice in self.notices(until) {
                    self.queue
                        .at(notice, Happening::NodeLosesMaster { node, life, at });
                }
            }
            if down || self.seed.chance(0.5) {
                let life = self.hosts[at].life;
                for notice in self.notices(until) {
                    self.queue
                        .at(notice, Happening::MasterLosesNode { at, life, node });
                }
            }
        }
    }

    /// When somebody notices that a connection does not work: before it works again, or when
    /// what he sent is answered by a reset. In the first case he tries another one, which does not work either.
    fn notices(&mut self, until: Time) -> Vec<Time> {
        let span = until.since(self.now);
        if self.seed.chance(0.5) {
            let first = self.now + span.mul_f64(self.seed.unit());
            vec![first, until + until.since(first).mul_f64(0.1)]
        } else {
            vec![until + Duration::from_millis(self.seed.range(1..3000))]
        }
    }
}

pub(super) fn pick(who: u64, count: usize) -> usize {
    usize::try_from(who % (count as u64).max(1)).unwrap_or(0)
}
