//! Events as a v0 driver (libmesos) wants them: one message a kind, sent to its UPID.
//!
//! Source: Mesos 1.11 `src/sched/sched.cpp`; rules 4.5 of the conformance inventory.

use dcos_proto::internal::{
    ExecutorToFrameworkMessage, ExitedExecutorMessage, FrameworkErrorMessage,
    FrameworkRegisteredMessage, FrameworkReregisteredMessage, LostSlaveMessage,
    RescindResourceOfferMessage, ResourceOffersMessage, StatusUpdate, StatusUpdateMessage,
};
use dcos_proto::mesos::{AgentId, FrameworkId, TaskStatus};
use dcos_proto::scheduler::{Event, call, event};

use super::subscriptions::Subscriber;
use super::{Link, Master};

/// How a driver subscribes; Mesos 1.11 `Master::_subscribe(const UPID&, ...)`, `Master::receive`, `Master::exited`.
impl Master {
    /// SUBSCRIBE of a driver. It says so again until it hears that it is registered, and is the same framework then.
    pub(crate) fn subscribe_driver(
        &mut self,
        pid: &str,
        force: bool,
        mut subscribe: call::Subscribe,
    ) {
        let info = &mut subscribe.framework_info;
        let own = info.id.clone().filter(|id| !id.value.is_empty());
        let mut force = force;
        match (own, self.pids.get(pid).cloned()) {
            // It already speaks for another one.
            (Some(own), Some(known)) if own != known => {
                self.counters.dropped_messages += 1;
                return;
            }
            (None, Some(known)) => {
                self.counters.messages_register_framework += 1;
                return self.announce_to_driver(&known, pid, false);
            }
            (None, None) => {
                // One that was disconnected before it heard of its id. Of another name it is another
                // one, whose process got the address of one that is gone.
                let mut all = self.frameworks.iter();
                let before = all.find(|(_, known)| {
                    known.pid.as_deref() == Some(pid) && known.info.name == info.name
                });
                if let Some((id, _)) = before {
                    info.id = Some(id.clone());
                    force = true;
                }
            }
            (Some(_), _) => {}
        }
        self.subscribe(&Subscriber::Driver(pid.to_owned(), force), subscribe);
    }

    /// Whether another process took the framework over from this driver, which did not notice.
    pub(crate) fn is_deposed(&self, subscriber: &Subscriber, id: &FrameworkId) -> bool {
        let Subscriber::Driver(pid, false) = subscriber else {
            return false;
        };
        let known = self.frameworks.get(id);
        known.is_some_and(|known| {
            known.link != Link::Recovered && known.pid.as_deref() != Some(&**pid)
        })
    }

    /// Whether a framework that is disconnected was last at this UPID.
    pub(crate) fn was_last_at(&self, pid: &str, id: &FrameworkId) -> bool {
        let known = self.frameworks.get(id);
        known.is_some_and(|known| {
            known.link == Link::Disconnected && known.pid.as_deref() == Some(pid)
        })
    }

    /// A driver has no other way to learn that its connection broke. It gives up, and its scheduler can start anew.
    pub(crate) fn tell_disconnected(&mut self, pid: &str) {
        let message = "Framework disconnected".to_owned();
        self.send(pid, &FrameworkErrorMessage { message });
    }
}

impl Master {
    pub(crate) fn announce_to_driver(&mut self, id: &FrameworkId, pid: &str, again: bool) {
        let master_info = self.settings.info.clone();
        let framework_id = id.clone();
        if again {
            let message = FrameworkReregisteredMessage {
                framework_id,
                master_info,
            };
            self.send(pid, &message);
        } else {
            let message = FrameworkRegisteredMessage {
                framework_id,
                master_info,
            };
            self.send(pid, &message);
        }
    }

    pub(crate) fn tell_driver(&mut self, id: &FrameworkId, pid: &str, event: Event) {
        match event.r#type() {
            event::Type::Offers => {
                let offers = event.offers.unwrap_or_default().offers;
                let pids = offers
                    .iter()
                    .map(|offer| self.pid_of(&offer.agent_id))
                    .collect();
                self.send(pid, &ResourceOffersMessage { offers, pids });
            }
            event::Type::Rescind => {
                let offer_id = event.rescind.unwrap_or_default().offer_id;
                self.send(pid, &RescindResourceOfferMessage { offer_id });
            }
            event::Type::Update => {
                let status = event.update.unwrap_or_default().status;
                let message = self.update_for_driver(id, status);
                self.send(pid, &message);
            }
            event::Type::Message => {
                let message = event.message.unwrap_or_default();
                let message = ExecutorToFrameworkMessage {
                    agent_id: message.agent_id,
                    framework_id: id.clone(),
                    executor_id: message.executor_id,
                    data: message.data,
                };
                self.send(pid, &message);
            }
            event::Type::Failure => {
                self.failure_for_driver(id, pid, event.failure.unwrap_or_default())
            }
            event::Type::Error => {
                let message = event.error.unwrap_or_default().message;
                self.send(pid, &FrameworkErrorMessage { message });
            }
            // Inverse offers and operations came after the v0 messages; drivers take them whole.
            event::Type::InverseOffers
            | event::Type::RescindInverseOffer
            | event::Type::UpdateOperationStatus => self.send(pid, &event),
            event::Type::Subscribed | event::Type::Heartbeat | event::Type::Unknown => {}
        }
    }

    fn failure_for_driver(&mut self, id: &FrameworkId, pid: &str, failure: event::Failure) {
        let agent_id = failure.agent_id.unwrap_or_default();
        match failure.executor_id {
            Some(executor_id) => {
                let message = ExitedExecutorMessage {
                    agent_id,
                    framework_id: id.clone(),
                    executor_id,
                    status: failure.status.unwrap_or_default(),
                };
                self.send(pid, &message);
            }
            None => self.send(pid, &LostSlaveMessage { agent_id }),
        }
    }

    /// The driver lets its scheduler acknowledge only what has a uuid and comes with the UPID of
    /// an agent.
    fn update_for_driver(&self, id: &FrameworkId, status: TaskStatus) -> StatusUpdateMessage {
        let uuid = status.uuid.clone();
        let from_agent = uuid.is_some();
        let agent_id = status.agent_id.clone();
        let pid = agent_id
            .as_ref()
            .filter(|_| from_agent)
            .map(|agent| self.pid_of(agent));
        StatusUpdateMessage {
            update: StatusUpdate {
                framework_id: id.clone(),
                executor_id: status.executor_id.clone(),
                agent_id,
                timestamp: status.timestamp.unwrap_or_default(),
                status,
                uuid,
                latest_state: None,
            },
            pid,
        }
    }

    fn pid_of(&self, agent: &AgentId) -> String {
        self.agents
            .get(agent)
            .map(|agent| agent.pid.clone())
            .unwrap_or_default()
    }
}
