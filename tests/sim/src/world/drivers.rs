//! Frameworks on v0 drivers (libmesos): messages between processes instead of calls and a stream.
//!
//! The scripts stay what they are; here their calls become messages of a UPID, and what the master sends there becomes
//! events. As in libmesos 1.11 (`src/sched/sched.cpp`), a driver takes in nothing but what the master says that it
//! registers with, acknowledges only what has a uuid and came from an agent, and hears nothing after TEARDOWN.

use std::sync::Arc;
use std::time::Duration;

use dcos_proto::internal::{
    FrameworkErrorMessage, FrameworkRegisteredMessage, FrameworkReregisteredMessage,
    KillTaskMessage, ReconcileTasksMessage, RegisterFrameworkMessage, ReregisterFrameworkMessage,
    RescindResourceOfferMessage, ResourceOffersMessage, ReviveOffersMessage,
    StatusUpdateAcknowledgementMessage, StatusUpdateMessage,
};
use dcos_proto::mesos::{FrameworkId, TaskStatus};
use dcos_proto::scheduler::{Call, Event, call, event};
use dcos_proto::{Message, decode};
use dcos_sched::master::{Input, Packet};
use prost::Message as _;

use super::World;
use super::happening::Happening;
use crate::network::End;

/// SUBSCRIBE as drivers send it: with a field that API v1 does not have.
#[derive(Clone, PartialEq, prost::Message)]
struct DriverCall {
    #[prost(message, optional, tag = "1")]
    framework_id: Option<FrameworkId>,
    #[prost(int32, optional, tag = "2")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "3")]
    subscribe: Option<DriverSubscribe>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DriverSubscribe {
    #[prost(bytes = "vec", tag = "1")]
    framework_info: Vec<u8>,
    #[prost(bool, optional, tag = "2")]
    force: Option<bool>,
    #[prost(string, repeated, tag = "3")]
    suppressed_roles: Vec<String>,
}

/// The UPID of a framework's driver in one of its lives.
fn pid(party: usize, life: u64) -> String {
    format!(
        "scheduler-{life}@10.250.{}.{}:4000",
        party / 250,
        party % 250
    )
}

/// Which framework's driver a UPID names.
pub(super) fn number_of(pid: &str) -> Option<usize> {
    let (_, address) = pid.strip_prefix("scheduler-")?.split_once('@')?;
    let (high, low) = address
        .strip_prefix("10.250.")?
        .strip_suffix(":4000")?
        .split_once('.')?;
    Some(high.parse::<usize>().ok()? * 250 + low.parse::<usize>().ok()?)
}

impl World {
    fn driver_of(&self, party: usize) -> String {
        pid(party, self.seats[party].lives)
    }

    /// Sends what a framework says as its driver does.
    pub(super) fn send_driver_call(&mut self, party: usize, at: usize, call: &Call) {
        let (from, to) = (End::Party(party), End::Master(at));
        // Drivers write to one connection, and do not write again what it lost.
        let Some(arrival) = self.network.send(self.now, from, to) else {
            return;
        };
        let is_old = self.seed.chance(0.3);
        let seat = &self.seats[party];
        let force = seat.registered != Some(seat.lives);
        let happening = Happening::ToMasterFromDriver {
            at,
            life: self.hosts[at].life,
            pid: self.driver_of(party),
            packet: packet_of(call, is_old, force),
        };
        self.queue.at(arrival.time, happening);
        if call.r#type() == call::Type::Teardown
            && let Some(stream) = self.seats[party].party.stream().map(ToOwned::to_owned)
        {
            // Nothing will be heard of it; when it comes back, it is told.
            self.queue
                .at(arrival.time, Happening::StreamBreaks { party, stream });
        }
    }

    pub(super) fn reach_master_from_driver(
        &mut self,
        at: usize,
        life: u64,
        pid: String,
        packet: Packet,
    ) {
        if life == self.hosts[at].life {
            let (from, message) = (pid, packet);
            self.tell_master(at, Input::Message { from, message });
        }
    }

    /// A master says something to a driver. Whether it offered something.
    pub(super) fn send_to_driver(
        &mut self,
        at: usize,
        party: usize,
        pid: String,
        packet: &Packet,
    ) -> bool {
        let Some(event) = event_of(packet) else {
            return false;
        };
        let offers = event.offers.is_some();
        self.check_said(at, &event);
        if event.subscribed.is_some() {
            self.streams.insert(pid.clone(), (at, party));
        }
        let event = Arc::new(event);
        let happening = Happening::ToDriver {
            party,
            at,
            pid,
            event,
        };
        self.push_to_party(at, party, happening);
        offers
    }

    pub(super) fn reach_driver(&mut self, party: usize, at: usize, pid: &str, event: &Arc<Event>) {
        let is_current = pid == self.driver_of(party) && self.seats[party].master == Some(at);
        if !is_current {
            return;
        }
        if gives_up(event) {
            // The driver aborts; the scheduler's process ends with it, and is started again.
            return self.crash_party(party, Duration::ZERO);
        }
        let seat = &mut self.seats[party];
        let now = seat.clock.show(self.now);
        if event.subscribed.is_some() {
            seat.registered = Some(seat.lives);
            seat.party.subscribed(now, pid.to_owned());
        } else if event.error.is_some() && seat.party.stream().is_none() {
            // A refusal to register.
            let calls = seat.party.event(now, event);
            return self.settle_party(party, calls);
        }
        self.hear(party, pid, event);
    }
}

/// A call as drivers send it: those of before Mesos 0.24 had a message for most. With `force`, a new process takes the
/// framework over from one before it.
fn packet_of(call: &Call, is_old: bool, force: bool) -> Packet {
    if let Some(subscribe) = &call.subscribe {
        return subscription(call, subscribe, is_old, force);
    }
    let whose = call.framework_id.clone().unwrap_or_default();
    let old = is_old.then(|| old_packet(call, whose)).flatten();
    old.unwrap_or_else(|| Packet::of(call))
}

fn subscription(call: &Call, subscribe: &call::Subscribe, is_old: bool, force: bool) -> Packet {
    let framework = subscribe.framework_info.clone();
    if is_old && subscribe.suppressed_roles.is_empty() {
        return if call.framework_id.is_some() {
            Packet::of(&ReregisterFrameworkMessage {
                framework,
                failover: force,
            })
        } else {
            Packet::of(&RegisterFrameworkMessage { framework })
        };
    }
    let body = DriverCall {
        framework_id: call.framework_id.clone(),
        kind: call.r#type,
        subscribe: Some(DriverSubscribe {
            framework_info: framework.encode_to_vec(),
            force: call.framework_id.as_ref().map(|_| force),
            suppressed_roles: subscribe.suppressed_roles.clone(),
        }),
    };
    Packet {
        name: Call::V0_NAME.to_owned(),
        body: body.encode_to_vec().into(),
    }
}

fn old_packet(call: &Call, framework_id: FrameworkId) -> Option<Packet> {
    if let Some(kill) = &call.kill {
        return Some(Packet::of(&KillTaskMessage {
            framework_id,
            task_id: kill.task_id.clone(),
            kill_policy: kill.kill_policy,
        }));
    }
    if let Some(acknowledge) = &call.acknowledge {
        return Some(Packet::of(&StatusUpdateAcknowledgementMessage {
            agent_id: acknowledge.agent_id.clone(),
            framework_id,
            task_id: acknowledge.task_id.clone(),
            uuid: acknowledge.uuid.clone(),
        }));
    }
    if let Some(revive) = &call.revive {
        return Some(Packet::of(&ReviveOffersMessage {
            framework_id,
            roles: revive.roles.clone(),
        }));
    }
    let reconcile = call.reconcile.as_ref()?;
    let statuses = reconcile.tasks.iter().map(|task| TaskStatus {
        task_id: task.task_id.clone(),
        agent_id: task.agent_id.clone(),
        ..TaskStatus::default()
    });
    Some(Packet::of(&ReconcileTasksMessage {
        framework_id,
        statuses: statuses.collect(),
        framework: None,
    }))
}

/// Whether the master says that this process does not speak for its framework any more.
fn gives_up(event: &Event) -> bool {
    let error = event.error.as_ref().map(|error| &*error.message);
    matches!(
        error,
        Some("Framework disconnected" | "Framework failed over")
    )
}

/// What the scheduler behind a driver hears, if it hears anything.
fn event_of(packet: &Packet) -> Option<Event> {
    let of_kind = |kind: event::Type| Event {
        r#type: Some(kind.into()),
        ..Event::default()
    };
    let subscribed = |framework_id| Event {
        subscribed: Some(event::Subscribed {
            framework_id,
            ..event::Subscribed::default()
        }),
        ..of_kind(event::Type::Subscribed)
    };
    if let Some(message) = read::<FrameworkRegisteredMessage>(packet) {
        return Some(subscribed(message.framework_id));
    }
    if let Some(message) = read::<FrameworkReregisteredMessage>(packet) {
        return Some(subscribed(message.framework_id));
    }
    if let Some(message) = read::<ResourceOffersMessage>(packet) {
        let offers = event::Offers {
            offers: message.offers,
        };
        return Some(Event {
            offers: Some(offers),
            ..of_kind(event::Type::Offers)
        });
    }
    if let Some(message) = read::<RescindResourceOfferMessage>(packet) {
        let offer_id = message.offer_id;
        return Some(Event {
            rescind: Some(event::Rescind { offer_id }),
            ..of_kind(event::Type::Rescind)
        });
    }
    if let Some(message) = read::<StatusUpdateMessage>(packet) {
        let from_agent = message.pid.is_some_and(|pid| !pid.is_empty());
        let uuid = message
            .update
            .uuid
            .filter(|uuid| from_agent && !uuid.is_empty());
        let status = TaskStatus {
            uuid,
            ..message.update.status
        };
        return Some(Event {
            update: Some(event::Update { status }),
            ..of_kind(event::Type::Update)
        });
    }
    if let Some(message) = read::<FrameworkErrorMessage>(packet) {
        let message = message.message;
        return Some(Event {
            error: Some(event::Error { message }),
            ..of_kind(event::Type::Error)
        });
    }
    read::<Event>(packet)
}

fn read<M: Message>(packet: &Packet) -> Option<M> {
    let is_one = packet.name == M::V0_NAME;
    is_one.then(|| decode(&packet.body).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_framework() {
        for party in [0, 7, 249, 250, 600] {
            assert_eq!(number_of(&pid(party, 3)), Some(party));
        }
        assert_eq!(number_of("slave(1)@10.1.0.0:5051"), None);
    }
}
