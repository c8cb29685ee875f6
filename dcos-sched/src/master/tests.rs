//! The core, driven by hand: a small world in which everything that leaves it is written down.

mod agents;
mod drains;
mod drivers;
mod frameworks;
mod groups;
mod hooks;
mod late;
mod launches;
mod maintenance;
mod operations;
mod preemption;
mod properties;
mod quotas;
mod regressions;
mod restarts;
mod security;
mod why;

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::internal as messages;
use dcos_proto::master as operator;
use dcos_proto::mesos::{
    AgentId, AgentInfo, CommandInfo, FrameworkId, FrameworkInfo, MasterInfo, Offer, Task, TaskId,
    TaskInfo, TaskState, TaskStatus, agent_info, framework_info, offer,
};
use dcos_proto::scheduler::{Call, Event, call};
use dcos_proto::{Message, decode};
use dcos_store::{Entry, Revision, Snapshot as Stored, Write};

use super::{Action, Input, Master, Packet, Reply, Settings};
use crate::allocator::{Config, HierarchicalDrf};

/// A master with a store, and what it said to whom.
pub(super) struct World {
    pub(super) master: Master,
    pub(super) now: Time,
    pub(super) store: BTreeMap<String, bytes::Bytes>,
    pub(super) events: BTreeMap<String, Vec<Event>>,
    pub(super) sent: Vec<(String, Packet)>,
    pub(super) closed: Vec<String>,
    pub(super) published: Vec<operator::Event>,
    pub(super) stopped: Option<String>,
    replies: BTreeMap<u64, Reply>,
    request: u64,
}

/// A subscribed framework.
#[derive(Debug, Clone)]
pub(super) struct Subscribed {
    pub(super) id: FrameworkId,
    pub(super) stream: String,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(BTreeMap::new(), 1, |_| {})
    }

    /// A master with its own id and what is in `store`.
    pub(super) fn with(
        store: BTreeMap<String, bytes::Bytes>,
        number: u64,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        // What is free is offered at once, however much somebody holds in offers already.
        let config = Config {
            hoarding: None,
            ..Config::default()
        };
        Self::sharing(config, store, number, change)
    }

    /// The same, with another way to share resources.
    pub(super) fn sharing(
        config: Config,
        store: BTreeMap<String, bytes::Bytes>,
        number: u64,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let now = Time::from_secs(1_000_000 * number);
        let mut settings = Settings::new(MasterInfo {
            id: format!("m{number}"),
            ..MasterInfo::default()
        });
        change(&mut settings);
        let seed = Seed::new(number);
        let allocator = HierarchicalDrf::new(config, &seed);
        let mut world = Self {
            master: Master::new(settings, Box::new(allocator), &seed, now),
            now,
            store,
            events: BTreeMap::new(),
            sent: Vec::new(),
            closed: Vec::new(),
            published: Vec::new(),
            stopped: None,
            replies: BTreeMap::new(),
            request: 0,
        };
        let entries = world.store.iter().map(|(key, value)| Entry {
            key: key.as_str().into(),
            value: value.clone(),
            revision: Revision(1),
        });
        let snapshot = Stored {
            revision: Revision(1),
            entries: entries.collect(),
        };
        world.handle(Input::Recovered(snapshot));
        world
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.master.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.master.poll() {
            match action {
                Action::Persist { id, writes } => {
                    assert!(self.master.poll().is_none(), "an action overtook a write");
                    for write in writes {
                        match write {
                            Write::Put(key, value) => drop(self.store.insert(key, value)),
                            Write::Delete(key) => drop(self.store.remove(&key)),
                        }
                    }
                    let revision = Revision(2);
                    self.master.handle(self.now, Input::Stored { id, revision });
                }
                Action::Reply { request, reply } => drop(self.replies.insert(request, reply)),
                Action::Event { stream_id, event } => {
                    assert!(
                        !self.closed.contains(&stream_id),
                        "an event on a closed stream"
                    );
                    self.events
                        .entry(stream_id)
                        .or_default()
                        .push((*event).clone());
                }
                Action::Close { stream_id } => self.closed.push(stream_id),
                Action::Send { to, message } => self.sent.push((to, message)),
                Action::Publish(news) => self.published.push(news.into_event()),
                Action::Link { .. }
                | Action::Snapshot { .. }
                | Action::Measured { .. }
                | Action::Explained { .. } => {}
                Action::Stop { reason } => self.stopped = Some(reason),
            }
        }
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self
            .master
            .next_deadline()
            .filter(|deadline| *deadline <= end)
        {
            self.now = self.now.max(deadline);
            self.handle(Input::Tick);
        }
        self.now = end;
        self.handle(Input::Tick);
    }

    pub(super) fn call_on(&mut self, stream: Option<&str>, call: Call) -> Reply {
        self.request += 1;
        let request = self.request;
        self.handle(Input::Call {
            request,
            stream_id: stream.map(ToOwned::to_owned),
            principal: None,
            call: Box::new(call),
        });
        self.replies
            .remove(&request)
            .expect("every call is answered")
    }

    /// What an operator's call is answered with.
    pub(super) fn order(&mut self, call: operator::Call) -> Reply {
        self.request += 1;
        let request = self.request;
        self.handle(Input::Operator {
            request,
            principal: None,
            call: Box::new(call),
        });
        self.replies
            .remove(&request)
            .expect("every order is answered")
    }

    /// The master stops, and another takes over what is stored.
    pub(super) fn fail_over(self, number: u64) -> Self {
        Self::with(self.store, number, |_| {})
    }

    pub(super) fn call(&mut self, framework: &Subscribed, call: Call) {
        let stream = framework.stream.clone();
        let call = Call {
            framework_id: Some(framework.id.clone()),
            ..call
        };
        assert_eq!(self.call_on(Some(&stream), call), Reply::Accepted);
    }

    pub(super) fn try_subscribe(&mut self, info: FrameworkInfo) -> String {
        let call = Call {
            framework_id: info.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: info,
                ..call::Subscribe::default()
            }),
            ..Call::default()
        };
        match self.call_on(None, call) {
            Reply::Subscribed { stream_id } => stream_id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn subscribe(&mut self, info: FrameworkInfo) -> Subscribed {
        let stream = self.try_subscribe(info);
        let first = &self.events[&stream][0];
        let id = first
            .subscribed
            .clone()
            .expect("SUBSCRIBED comes first")
            .framework_id;
        Subscribed { id, stream }
    }

    /// What a stream brought since it was last looked at, without heartbeats.
    pub(super) fn take(&mut self, framework: &Subscribed) -> Vec<Event> {
        let mut events = self.events.remove(&framework.stream).unwrap_or_default();
        events.retain(|event| event.heartbeat().is_none());
        events
    }

    /// The same in short: `OFFERS`, `RESCIND`, `t1:TASK_RUNNING`, `t1:TASK_LOST/REASON_RECONCILIATION`.
    pub(super) fn seen(&mut self, framework: &Subscribed) -> Vec<String> {
        self.take(framework).iter().map(short).collect()
    }

    pub(super) fn offers(&mut self, framework: &Subscribed) -> Vec<Offer> {
        self.pass(Duration::from_secs(6));
        let events = self.take(framework);
        events
            .into_iter()
            .filter_map(|event| event.offers)
            .flat_map(|offers| offers.offers)
            .collect()
    }

    pub(super) fn send<M: Message>(&mut self, from: &str, message: &M) {
        self.handle(Input::Message {
            from: from.to_owned(),
            message: Packet::of(message),
        });
    }

    /// The messages of one kind that were sent to `pid`, which are then forgotten.
    pub(super) fn received<M: Message>(&mut self, pid: &str) -> Vec<M> {
        let all = std::mem::take(&mut self.sent);
        let (found, rest) = all
            .into_iter()
            .partition(|(to, packet)| to == pid && packet.name == M::V0_NAME);
        self.sent = rest;
        found
            .into_iter()
            .map(|(_, packet): (String, Packet)| decode(&packet.body).unwrap())
            .collect()
    }

    pub(super) fn agent(&mut self, pid: &str, resources: &str) -> AgentId {
        self.send(
            pid,
            &messages::RegisterSlaveMessage {
                agent: agent_info(resources),
                version: Some("1.11.0".to_owned()),
                agent_capabilities: agent_capabilities(),
                ..messages::RegisterSlaveMessage::default()
            },
        );
        let answers: Vec<messages::SlaveRegisteredMessage> = self.received(pid);
        answers[0].agent_id.clone()
    }

    pub(super) fn reregister(
        &mut self,
        pid: &str,
        id: &AgentId,
        resources: &str,
        tasks: Vec<Task>,
        mut frameworks: Vec<FrameworkInfo>,
    ) {
        let mut agent = agent_info(resources);
        agent.id = Some(id.clone());
        // Agents list the frameworks of all they run.
        for known in self.master.frameworks.values() {
            let has = |task: &Task| task.framework_id == known.id();
            if tasks.iter().any(has) && !frameworks.contains(&known.info) {
                frameworks.push(known.info.clone());
            }
        }
        self.send(
            pid,
            &messages::ReregisterSlaveMessage {
                agent,
                tasks,
                frameworks,
                version: Some("1.11.0".to_owned()),
                agent_capabilities: agent_capabilities(),
                ..messages::ReregisterSlaveMessage::default()
            },
        );
    }

    /// Launches tasks on the first offer there is.
    pub(super) fn launch(&mut self, framework: &Subscribed, tasks: &[(&str, &str)]) -> AgentId {
        let offers = self.offers(framework);
        let offer = offers.first().expect("there is an offer");
        let infos = tasks
            .iter()
            .map(|(id, resources)| task(id, &offer.agent_id, resources));
        self.accept(framework, offer, infos.collect());
        offer.agent_id.clone()
    }

    pub(super) fn accept(
        &mut self,
        framework: &Subscribed,
        offer: &Offer,
        task_infos: Vec<TaskInfo>,
    ) {
        let launch = offer::Operation {
            r#type: Some(offer::operation::Type::Launch.into()),
            launch: Some(offer::operation::Launch { task_infos }),
            ..offer::Operation::default()
        };
        self.call(
            framework,
            Call {
                r#type: Some(call::Type::Accept.into()),
                accept: Some(call::Accept {
                    offer_ids: vec![offer.id.clone()],
                    operations: vec![launch],
                    filters: None,
                }),
                ..Call::default()
            },
        );
    }

    /// The agent reports a state of a task, under a uuid that its framework acknowledges.
    pub(super) fn update(
        &mut self,
        pid: &str,
        agent: &AgentId,
        framework: &Subscribed,
        task: &str,
        state: TaskState,
    ) -> Vec<u8> {
        let uuid = vec![u8::try_from(i32::from(state)).unwrap(); 16];
        let update = messages::StatusUpdate {
            framework_id: framework.id.clone(),
            agent_id: Some(agent.clone()),
            status: TaskStatus {
                task_id: task.into(),
                state: state.into(),
                agent_id: Some(agent.clone()),
                ..TaskStatus::default()
            },
            timestamp: self.now.as_secs_f64(),
            uuid: Some(uuid.clone()),
            ..messages::StatusUpdate::default()
        };
        let pid_field = Some(pid.to_owned());
        self.send(
            pid,
            &messages::StatusUpdateMessage {
                update,
                pid: pid_field,
            },
        );
        uuid
    }

    pub(super) fn acknowledge(
        &mut self,
        framework: &Subscribed,
        agent: &AgentId,
        task: &str,
        uuid: Vec<u8>,
    ) {
        self.call(
            framework,
            Call {
                r#type: Some(call::Type::Acknowledge.into()),
                acknowledge: Some(call::Acknowledge {
                    agent_id: agent.clone(),
                    task_id: task.into(),
                    uuid,
                }),
                ..Call::default()
            },
        );
    }

    pub(super) fn reconcile(
        &mut self,
        framework: &Subscribed,
        tasks: &[(&str, Option<&AgentId>)],
    ) -> Vec<String> {
        let tasks = tasks.iter().map(|(task, agent)| call::reconcile::Task {
            task_id: (*task).into(),
            agent_id: agent.cloned(),
        });
        self.call(
            framework,
            Call {
                r#type: Some(call::Type::Reconcile.into()),
                reconcile: Some(call::Reconcile {
                    tasks: tasks.collect(),
                }),
                ..Call::default()
            },
        );
        self.seen(framework)
    }

    /// Used and offered resources never exceed what an agent has, and the books agree.
    pub(super) fn check(&self) {
        for (id, agent) in &self.master.agents {
            let mut held = agent.used_total();
            for offer in &agent.offers {
                held += &Resources::from(&self.master.offers[offer].resources);
            }
            let total = &agent.total;
            assert!(
                total.contains(&held.unallocated()),
                "{id}: {held} of {total}"
            );
            let mut by_framework = Resources::default();
            for framework in self.master.frameworks.values() {
                by_framework += &framework.used.get(id).cloned().unwrap_or_default();
            }
            assert_eq!(by_framework, agent.used_total(), "{id}");
        }
        for offer in self.master.offers.values() {
            assert!(
                self.master.frameworks[&offer.framework_id]
                    .offers
                    .contains(&offer.id)
            );
            assert!(
                self.master.agents[&offer.agent_id]
                    .offers
                    .contains(&offer.id)
            );
        }
    }
}

/// Heartbeats told apart from what matters.
trait Heartbeat {
    fn heartbeat(&self) -> Option<()>;
}

impl Heartbeat for Event {
    fn heartbeat(&self) -> Option<()> {
        (self.r#type() == dcos_proto::scheduler::event::Type::Heartbeat).then_some(())
    }
}

fn short(event: &Event) -> String {
    let Some(update) = &event.update else {
        return event.r#type().as_str_name().to_owned();
    };
    let status = &update.status;
    let state = status.state().as_str_name();
    match status.reason {
        Some(_) => format!(
            "{}:{state}/{}",
            status.task_id,
            status.reason().as_str_name()
        ),
        None => format!("{}:{state}", status.task_id),
    }
}

pub(super) fn agent_info(resources: &str) -> AgentInfo {
    AgentInfo {
        hostname: "host".to_owned(),
        resources: Resources::parse(resources).unwrap().to_messages(),
        ..AgentInfo::default()
    }
}

fn agent_capabilities() -> Vec<agent_info::Capability> {
    use agent_info::capability::Type;
    let all = [
        Type::MultiRole,
        Type::HierarchicalRole,
        Type::ReservationRefinement,
        Type::AgentDraining,
    ];
    let capability = |kind: Type| agent_info::Capability {
        r#type: Some(kind.into()),
    };
    all.map(capability).into()
}

pub(super) fn framework(name: &str) -> FrameworkInfo {
    FrameworkInfo {
        user: "nobody".to_owned(),
        name: name.to_owned(),
        failover_timeout: Some(60.0),
        checkpoint: Some(true),
        ..FrameworkInfo::default()
    }
}

pub(super) fn partition_aware(mut info: FrameworkInfo) -> FrameworkInfo {
    info.capabilities.push(framework_info::Capability {
        r#type: Some(framework_info::capability::Type::PartitionAware.into()),
    });
    info
}

pub(super) fn task(id: &str, agent: &AgentId, resources: &str) -> TaskInfo {
    TaskInfo {
        name: id.to_owned(),
        task_id: TaskId::from(id),
        agent_id: agent.clone(),
        resources: Resources::parse(resources).unwrap().to_messages(),
        command: Some(CommandInfo {
            value: Some("true".to_owned()),
            ..CommandInfo::default()
        }),
        ..TaskInfo::default()
    }
}
