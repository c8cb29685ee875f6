//! How frameworks find the leader, call it, and hear from it.

use std::sync::Arc;
use std::time::Duration;

use dcos_proto::internal::ShutdownFrameworkMessage;
use dcos_proto::scheduler::{Call, Event};
use dcos_sched::master::{Input, Packet, Reply};

use super::World;
use super::happening::Happening;
use crate::network::End;
use crate::sabotage::Sabotage;

impl World {
    pub(super) fn tick_party(&mut self, at: usize) {
        let is_calm = !self.is_in_trouble();
        let seat = &mut self.seats[at];
        let now = seat.clock.show(self.now);
        let calls = if seat.party.next_deadline(now) <= now {
            seat.party.tick(now, is_calm)
        } else {
            Vec::new()
        };
        self.settle_party(at, calls);
    }

    /// Sends what a framework says, and looks at what it complains of.
    pub(super) fn settle_party(&mut self, party: usize, calls: Vec<Call>) {
        for call in calls {
            self.send_call(party, call);
        }
        if let Some(wrong) = self.seats[party].party.complaint() {
            self.watch.complain(wrong.to_owned());
        }
        if self.seats[party].party.is_burnt() {
            let late = Duration::from_millis(self.seed.range(200..15_000));
            return self.crash_party(party, late);
        }
        self.arm(End::Party(party));
    }

    fn send_call(&mut self, party: usize, call: Call) {
        let is_subscribe = call.subscribe.is_some();
        self.watch.called(&call);
        let seat = &self.seats[party];
        // Any master redirects to the leader it knows.
        let known = if is_subscribe {
            seat.leader.or(self.election.leader())
        } else {
            seat.master
        };
        let Some(at) = known else {
            return self.refuse(party);
        };
        if is_subscribe {
            self.seats[party].master = Some(at);
            if self.hosts[at].master.is_none() {
                return self.refuse(party);
            }
            if self.plan.sabotage == Some(Sabotage::Killer)
                && let Some(framework_id) = call.framework_id.clone()
            {
                let message = Packet::of(&ShutdownFrameworkMessage { framework_id });
                let life = self.hosts[at].life;
                for node in 0..self.nodes.len() {
                    let to = self.nodes[node].life;
                    let packet = message.clone();
                    let connection = super::happening::STRAY;
                    let happening = Happening::ToNode {
                        node,
                        life: to,
                        at,
                        packet,
                        connection,
                    };
                    self.queue.at(self.now, happening);
                }
                debug_assert_eq!(life, self.hosts[at].life);
            }
        }
        if self.seats[party].party.is_driver() {
            return self.send_driver_call(party, at, &call);
        }
        let stream = self.seats[party].party.stream().filter(|_| !is_subscribe);
        let stream = stream.map(ToOwned::to_owned);
        let (from, to) = (End::Party(party), End::Master(at));
        let sent = if self.seats[party].is_hasty {
            self.network.send_alone(self.now, from, to)
        } else {
            self.network.send(self.now, from, to)
        };
        let Some(arrival) = sent else {
            return;
        };
        let life = self.hosts[at].life;
        let call = Box::new(call);
        // A client whose connection breaks before the answer came sends its call again.
        if !is_subscribe && self.is_in_trouble() && self.seed.chance(0.02) {
            let again = arrival.time + Duration::from_millis(self.seed.range(1..3000));
            let (stream, call) = (stream.clone(), call.clone());
            self.queue.at(
                again,
                Happening::Call {
                    at,
                    life,
                    party,
                    stream,
                    call,
                },
            );
        }
        self.queue.at(
            arrival.time,
            Happening::Call {
                at,
                life,
                party,
                stream,
                call,
            },
        );
    }

    /// Nobody answers there.
    fn refuse(&mut self, party: usize) {
        let seat = &mut self.seats[party];
        let now = seat.clock.show(self.now);
        seat.party.refused(now);
        self.arm(End::Party(party));
    }

    pub(super) fn reach_master_api(
        &mut self,
        at: usize,
        life: u64,
        party: usize,
        stream: Option<String>,
        call: Box<Call>,
    ) {
        if life != self.hosts[at].life || self.hosts[at].master.is_none() {
            return;
        }
        self.next_request += 1;
        let request = self.next_request;
        self.requests.insert(request, (at, party));
        self.tell_master(
            at,
            Input::Call {
                request,
                stream_id: stream,
                principal: self.seats[party].party.principal().map(ToOwned::to_owned),
                call,
            },
        );
    }

    pub(super) fn reach_party(&mut self, party: usize, at: usize, reply: Reply) {
        let seat = &mut self.seats[party];
        let now = seat.clock.show(self.now);
        match reply {
            Reply::Subscribed { stream_id } => {
                // Whoever opens a second stream closes the first.
                if let Some(old) = seat.party.stream().map(ToOwned::to_owned) {
                    self.close_stream(&old, Duration::ZERO);
                }
                self.seats[party].master = Some(at);
                self.seats[party].party.subscribed(now, stream_id);
            }
            Reply::Refused { .. } => seat.party.refused(now),
            _ => {}
        }
        self.settle_party(party, Vec::new());
    }

    pub(super) fn hear(&mut self, party: usize, stream: &str, event: &Arc<Event>) {
        if self.seats[party].party.stream() != Some(stream) {
            return;
        }
        self.watch.heard(event);
        let seat = &mut self.seats[party];
        let now = seat.clock.show(self.now);
        let calls = seat.party.event(now, event);
        self.settle_party(party, calls);
    }

    pub(super) fn stream_breaks(&mut self, party: usize, stream: &str) {
        if self.seats[party].party.stream() == Some(stream) {
            let seat = &mut self.seats[party];
            let now = seat.clock.show(self.now);
            seat.party.disconnected(now);
            self.settle_party(party, Vec::new());
        }
    }

    /// A framework's detector says who leads: one that is connected elsewhere lets go.
    pub(super) fn party_hears(&mut self, party: usize, change: u64, leader: Option<usize>) {
        let seat = &mut self.seats[party];
        if change < seat.change {
            return;
        }
        seat.change = change;
        seat.leader = leader;
        let is_elsewhere = leader.is_some() && seat.master != leader;
        if let Some(stream) = seat.party.stream().map(ToOwned::to_owned)
            && is_elsewhere
        {
            let now = seat.clock.show(self.now);
            seat.party.disconnected(now);
            if seat.party.is_driver() {
                // It turns to another master, and its connection with the one before stays.
                self.streams.remove(&stream);
            } else {
                self.close_stream(&stream, Duration::ZERO);
            }
            self.settle_party(party, Vec::new());
        }
    }

    /// A framework's end of a stream is gone; its master learns of it `late`.
    pub(super) fn close_stream(&mut self, stream: &str, late: Duration) {
        if let Some((at, _)) = self.streams.remove(stream) {
            let time = self.now + self.network.delay() + late;
            let life = self.hosts[at].life;
            let stream = stream.to_owned();
            self.queue
                .at(time, Happening::MasterLosesStream { at, life, stream });
        }
    }

    /// Its process is killed and started again, with another clock.
    pub(super) fn crash_party(&mut self, party: usize, late: Duration) {
        if let Some(stream) = self.seats[party].party.stream().map(ToOwned::to_owned) {
            self.close_stream(&stream, late);
        }
        self.seats[party].lives += 1;
        self.seats[party].clock = crate::clock::Clock::some(self.now, &mut self.seed);
        let seat = &mut self.seats[party];
        let now = seat.clock.show(self.now);
        seat.party.crash(now);
        self.settle_party(party, Vec::new());
    }
}
