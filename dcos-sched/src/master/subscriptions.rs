//! How frameworks subscribe, for the first time or again.
//!
//! Rules S-S1 to S-S9 of the conformance inventory.

use std::collections::BTreeSet;
use std::sync::Arc;

use dcos_proto::mesos::{FrameworkId, FrameworkInfo};
use dcos_proto::scheduler::{Event, OfferConstraints, call::Subscribe, event};

use super::core::Timer;
use super::framework::roles_of;
use super::recent::Recent;
use super::{Action, Framework, Link, Master, Reply, RequestId, convert, registry, validation};
use crate::allocator::{Constraints, Event as Allocation, FrameworkSpec};

/// Where a subscription came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subscriber {
    /// API v1: answered with a stream; `true` if it has authenticated.
    Request(RequestId, bool),
    /// A v0 driver with this UPID; `true` if it takes over from whoever spoke for the framework before.
    Driver(String, bool),
}

/// What a scheduler hears in whose place there is another one.
const FAILED_OVER: &str = "Framework failed over";

impl Master {
    /// SUBSCRIBE: a new framework, one that comes back, or one that takes over from itself.
    pub(crate) fn subscribe(&mut self, subscriber: &Subscriber, subscribe: Subscribe) {
        let mut info = subscribe.framework_info;
        let named = info.id.as_ref().is_some_and(|id| !id.value.is_empty());
        if named {
            self.counters.messages_reregister_framework += 1;
        } else {
            self.counters.messages_register_framework += 1;
        }
        let link = self.open(subscriber);
        let proved = match subscriber {
            Subscriber::Request(..) => Ok(()),
            Subscriber::Driver(pid, _) => self.check_driver(pid, &mut info),
        };
        let checked = self
            .check_framework(&info, &subscribe.suppressed_roles)
            .and(proved)
            .and_then(|()| self.authorize_framework(&info))
            .and_then(|()| self.has_room_for(subscriber, &info))
            .and_then(|()| {
                let constraints = subscribe.offer_constraints.as_ref();
                validation::framework::offer_constraints(&info, constraints)
                    .map_err(|error| format!("Offer constraints are not valid: {error}"))
            });
        if let Err(error) = checked {
            return self.refuse(&link, error);
        }
        let id = if named {
            info.id.clone().unwrap_or_default()
        } else {
            self.new_framework_id()
        };
        info.id = Some(id.clone());
        let suppressed: BTreeSet<String> = subscribe.suppressed_roles.into_iter().collect();
        if let Some(known) = self.frameworks.get(&id) {
            validation::framework::keep_immutable(&known.info, &mut info);
            if let Err(error) = validation::framework::update(&known.info, &info) {
                return self.refuse(&link, error);
            }
            if self.is_deposed(subscriber, &id) {
                return self.refuse(&link, FAILED_OVER.to_owned());
            }
            self.change_framework(&id, &info, suppressed, subscribe.offer_constraints);
            let force = matches!(subscriber, Subscriber::Driver(_, true));
            self.relink(&id, link, force);
        } else {
            let mut framework = Framework::new(info, self.now);
            framework.suppressed = suppressed;
            framework.offer_constraints = subscribe.offer_constraints;
            self.add_framework(framework);
            self.link_framework(&id, link);
            self.announce(&id, false);
            self.publish_framework_added(&id);
        }
    }

    /// Checks what does not depend on earlier subscriptions.
    pub(crate) fn check_framework(
        &self,
        info: &FrameworkInfo,
        suppressed: &[String],
    ) -> Result<(), String> {
        validation::framework::info(info)?;
        if let Some(allowed) = &self.settings.roles {
            let unknown: BTreeSet<String> = roles_of(info)
                .into_iter()
                .filter(|role| role != "*" && !allowed.contains(role))
                .collect();
            if !unknown.is_empty() {
                let unknown: Vec<String> = unknown.into_iter().collect();
                return Err(format!(
                    "Roles {{ {} }} are not present in the master's --roles",
                    unknown.join(", ")
                ));
            }
        }
        if info.user == "root" && !self.settings.root_submissions {
            return Err(
                "User 'root' is not allowed to run frameworks without --root_submissions set"
                    .to_owned(),
            );
        }
        if let Some(id) = &info.id
            && self.is_ended(id)
        {
            return Err("Framework has been removed".to_owned());
        }
        validation::framework::suppressed_roles(info, suppressed)
    }

    /// Whoever can't be told from a stranger adds frameworks up to a bound only: each takes memory, and a place in the
    /// registry, for as long as it says itself.
    fn has_room_for(&self, subscriber: &Subscriber, info: &FrameworkInfo) -> Result<(), String> {
        let proved = match subscriber {
            Subscriber::Request(_, proved) => *proved,
            Subscriber::Driver(pid, _) => self.authentication.principal(pid).is_some(),
        };
        let known = |id| self.frameworks.contains_key(id);
        let (number, most) = (self.frameworks.len(), self.settings.max_unproved_frameworks);
        if proved || number < most || info.id.as_ref().is_some_and(known) {
            return Ok(());
        }
        Err(format!(
            "There are {number} frameworks: further ones have to authenticate (--max_unauthenticated_frameworks={most})"
        ))
    }

    fn open(&mut self, subscriber: &Subscriber) -> Link {
        match subscriber {
            Subscriber::Request(request, _) => {
                let stream_id = self.uuids.uuid();
                self.reply(
                    *request,
                    Reply::Subscribed {
                        stream_id: stream_id.clone(),
                    },
                );
                Link::Stream(stream_id)
            }
            Subscriber::Driver(pid, _) => Link::Pid(pid.clone()),
        }
    }

    /// Says why on the link, and ends it.
    fn refuse(&mut self, link: &Link, message: String) {
        match link {
            Link::Stream(stream_id) => {
                self.push(Action::Event {
                    stream_id: stream_id.clone(),
                    event: Arc::new(error_event(message)),
                });
                self.push(Action::Close {
                    stream_id: stream_id.clone(),
                });
            }
            Link::Pid(pid) => {
                let pid = pid.clone();
                self.send(
                    &pid,
                    &dcos_proto::internal::FrameworkErrorMessage { message },
                );
            }
            Link::Recovered | Link::Disconnected => {}
        }
    }

    /// Makes a framework known, durably. It has no link yet.
    pub(crate) fn add_framework(&mut self, framework: Framework) {
        self.persist(vec![registry::put_framework(&framework.info)]);
        self.insert_framework(framework);
    }

    /// Makes a framework known that is in the registry already.
    pub(crate) fn insert_framework(&mut self, mut framework: Framework) {
        framework.completed_tasks = Recent::new(self.settings.max_completed_tasks);
        framework.unreachable_tasks = Recent::new(self.settings.max_unreachable_tasks);
        let id = framework.id();
        let spec = spec_of(&framework);
        self.frameworks.insert(id.clone(), Arc::new(framework));
        self.allocator
            .handle(self.now, Allocation::AddFramework(spec));
        self.allocator
            .handle(self.now, Allocation::DeactivateFramework(id));
    }

    /// Takes over what a framework says about itself now.
    pub(crate) fn change_framework(
        &mut self,
        id: &FrameworkId,
        info: &FrameworkInfo,
        suppressed: BTreeSet<String>,
        offer_constraints: Option<OfferConstraints>,
    ) {
        let Some(framework) = self.framework_mut(id) else {
            return;
        };
        let changed = framework.info != *info;
        let shown = changed
            || framework.suppressed != suppressed
            || framework.offer_constraints != offer_constraints;
        let roles = roles_of(info);
        framework.info = info.clone();
        framework.suppressed = suppressed;
        framework.offer_constraints = offer_constraints;
        let offers = framework.offers.clone();
        if changed {
            self.persist(vec![registry::put_framework(info)]);
        }
        for offer in offers {
            let role = self.offers.get(&offer).map(|offer| convert::role_of(offer));
            if role.is_some_and(|role| !roles.contains(&role)) {
                self.rescind(&offer);
            }
        }
        if let Some(spec) = self.frameworks.get(id).map(|framework| spec_of(framework)) {
            self.allocator
                .handle(self.now, Allocation::UpdateFramework(spec));
        }
        if shown {
            self.publish_framework(id);
        }
    }

    /// A known framework speaks on a new link; an older one is closed.
    fn relink(&mut self, id: &FrameworkId, link: Link, force: bool) {
        let Some(framework) = self.frameworks.get(id) else {
            return;
        };
        let recovered = framework.link == Link::Recovered;
        // A driver that asks again, maybe after its connection broke; any other process is a
        // scheduler that failed over.
        let same_driver = matches!(&link, Link::Pid(new) if framework.pid.as_ref() == Some(new));
        let again = same_driver && !force;
        let old = framework.link.clone();
        if again {
            let offers = framework.offers.clone();
            let inverse_offers = framework.inverse_offers.clone();
            for offer in offers {
                self.rescind(&offer);
            }
            for offer in inverse_offers {
                self.rescind_inverse_offer(&offer);
            }
        } else if !same_driver {
            self.refuse(&old, FAILED_OVER.to_owned());
        }
        self.deactivate_framework(id);
        self.forget_link(&old);
        self.link_framework(id, link);
        let now = self.now;
        if let Some(framework) = self.framework_mut(id) {
            framework.reregistered = now;
            if recovered {
                framework.registered = now;
            }
        }
        self.announce(id, again);
        self.publish_framework(id);
        self.tell_agents_of(id);
    }

    /// The first thing a framework hears, followed by a heartbeat and by offers. A driver is told
    /// whether it is the one the master knew.
    fn announce(&mut self, id: &FrameworkId, again: bool) {
        let link = self
            .frameworks
            .get(id)
            .map(|framework| framework.link.clone());
        match link {
            Some(Link::Stream(stream_id)) => {
                let subscribed = event::Subscribed {
                    framework_id: id.clone(),
                    heartbeat_interval_seconds: Some(
                        self.settings.heartbeat_interval.as_secs_f64(),
                    ),
                    master_info: Some(self.settings.info.clone()),
                };
                self.tell(
                    id,
                    Event {
                        r#type: Some(event::Type::Subscribed.into()),
                        subscribed: Some(subscribed),
                        ..Event::default()
                    },
                );
                self.heartbeat(&stream_id);
            }
            Some(Link::Pid(pid)) => self.announce_to_driver(id, &pid, again),
            _ => {}
        }
    }

    fn link_framework(&mut self, id: &FrameworkId, link: Link) {
        match &link {
            Link::Stream(stream_id) => {
                self.streams.insert(stream_id.clone(), id.clone());
            }
            Link::Pid(pid) => {
                self.pids.insert(pid.clone(), id.clone());
                self.authentication.spend(pid);
                self.push(Action::Link { pid: pid.clone() });
            }
            Link::Recovered | Link::Disconnected => {}
        }
        let Some(framework) = self.framework_mut(id) else {
            return;
        };
        framework.pid = match &link {
            Link::Pid(pid) => Some(pid.clone()),
            _ => None,
        };
        framework.link = link;
        framework.active = true;
        framework.expires = None;
        let spec = spec_of(framework);
        // Filters belong to a subscription: adding anew forgets them.
        self.allocator
            .handle(self.now, Allocation::AddFramework(spec));
    }

    pub(crate) fn forget_link(&mut self, link: &Link) {
        match link {
            Link::Stream(stream_id) => {
                self.streams.remove(stream_id);
            }
            Link::Pid(pid) => {
                self.pids.remove(pid);
            }
            Link::Recovered | Link::Disconnected => {}
        }
    }

    pub(crate) fn heartbeat(&mut self, stream_id: &str) {
        if !self.streams.contains_key(stream_id) {
            return;
        }
        let event = Event {
            r#type: Some(event::Type::Heartbeat.into()),
            ..Event::default()
        };
        self.push(Action::Event {
            stream_id: stream_id.to_owned(),
            event: Arc::new(event),
        });
        self.at(
            self.settings.heartbeat_interval,
            Timer::Heartbeat(stream_id.to_owned()),
        );
    }
}

/// An ERROR event: the last one of its stream.
pub(crate) fn error_event(message: String) -> Event {
    Event {
        r#type: Some(event::Type::Error.into()),
        error: Some(event::Error { message }),
        ..Event::default()
    }
}

/// What the allocator is told of a framework.
fn spec_of(framework: &Framework) -> FrameworkSpec {
    let mut spec = FrameworkSpec::from_info(&framework.info, framework.suppressed.clone());
    // They were checked when they came in.
    let compiled = framework
        .offer_constraints
        .as_ref()
        .map(Constraints::compile);
    if let Some(Ok(constraints)) = compiled {
        spec.constraints = constraints;
    }
    spec
}
