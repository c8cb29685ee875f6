//! The state of the master and the turn of its crank.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::{Time, earliest};
use dcos_core::tree::Tree;
use dcos_proto::mesos::{
    AgentId, AgentInfo, FrameworkId, InverseOffer, MasterInfo, Offer, OfferId, TaskId, TimeInfo,
};
use dcos_proto::scheduler::Event;
use dcos_security::{RateLimits, Throttle};
use dcos_store::Write;

use super::acknowledged::Acknowledged;
use super::alike::Alike;
use super::authentication::Authentication;
use super::framework::MAX_TASKS;
use super::metrics::Counters;
use super::removals::Removals;
use super::security::Security;
use super::{
    Action, Agent, Framework, Input, Link, MasterHooks, News, Packet, Reply, RequestId, Snapshot,
    Standing,
};
use crate::allocator::{Allocator, Event as Allocation};
use crate::why::Question;

/// What the core must know beside its inputs.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "flags, each on its own")]
pub struct Settings {
    /// The master as others see it; its `id` prefixes the ids it assigns.
    pub info: MasterInfo,
    /// When the process started, if it stood by before it led.
    pub process_start: Option<Time>,
    /// How often agents are pinged.
    pub agent_ping_timeout: Duration,
    /// How many pings may go unanswered before an agent is unreachable.
    pub max_agent_ping_timeouts: u32,
    /// How long a disconnected or recovered agent may take to come back.
    pub agent_reregister_timeout: Duration,
    /// How long an offer is good; `None` means for ever.
    pub offer_timeout: Option<Duration>,
    /// How often a scheduler hears from the master.
    pub heartbeat_interval: Duration,
    /// Roles that exist; `None` means any.
    pub roles: Option<BTreeSet<String>>,
    /// Whether frameworks may run as root.
    pub root_submissions: bool,
    /// How many completed frameworks are remembered.
    pub max_completed_frameworks: usize,
    /// Weights of roles for a registry that holds none; those not listed weigh 1.
    pub weights: BTreeMap<String, f64>,
    /// Priorities of roles for a registry that holds none; those not listed have 0.
    pub priorities: BTreeMap<String, i32>,
    /// Whether agents without a fault domain are ignored.
    pub require_agent_domain: bool,
    /// How many agents may be found unreachable in how much time; `None` means any number.
    pub agent_removal_rate: Option<(u32, Duration)>,
    /// Which part of the agents in the registry, from 0 to 1, may stay away after a failover.
    pub recovery_removal_limit: f64,
    /// With how many frameworks a new one has to authenticate to be taken.
    pub max_unproved_frameworks: usize,
    /// How many ended tasks of a framework are remembered.
    pub max_completed_tasks: usize,
    /// How many unreachable tasks of a framework are remembered.
    pub max_unreachable_tasks: usize,
    /// How often the registry is searched for agents that are unreachable or gone and too old.
    pub registry_gc_interval: Duration,
    /// How old such an entry may become.
    pub registry_max_agent_age: Duration,
    /// How many of either kind there may be.
    pub registry_max_agent_count: usize,
    /// Whether each framework has metrics of its own.
    pub framework_metrics: bool,
    /// What is asked when tasks are launched, and told when agents are lost.
    pub hooks: Vec<Arc<dyn MasterHooks>>,
    /// Who may do what.
    pub security: Security,
    /// Whether agents are reached by `https`: TLS is on for all of a cluster, or for nobody.
    pub https: bool,
}

impl Settings {
    /// The defaults of Mesos for a master with this identity.
    pub fn new(info: MasterInfo) -> Self {
        Self {
            info,
            process_start: None,
            agent_ping_timeout: Duration::from_secs(15),
            max_agent_ping_timeouts: 5,
            agent_reregister_timeout: Duration::from_secs(600),
            offer_timeout: None,
            heartbeat_interval: Duration::from_secs(15),
            roles: None,
            root_submissions: true,
            max_completed_frameworks: 50,
            weights: BTreeMap::new(),
            priorities: BTreeMap::new(),
            require_agent_domain: false,
            agent_removal_rate: None,
            recovery_removal_limit: 1.0,
            max_unproved_frameworks: 10_000,
            max_completed_tasks: MAX_TASKS,
            max_unreachable_tasks: MAX_TASKS,
            registry_gc_interval: Duration::from_mins(15),
            registry_max_agent_age: Duration::from_hours(14 * 24),
            registry_max_agent_count: 100 * 1024,
            framework_metrics: true,
            hooks: Vec::new(),
            security: Security::default(),
            https: false,
        }
    }
}

/// At so many timers it is worth a look which of them speak of nothing any more.
const MANY_TIMERS: usize = 1024;

/// What happens when its time has come. Timers are not cancelled; when one fires, what it speaks
/// of is looked at again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Heartbeat(String),
    FrameworkExpires(FrameworkId),
    AgentExpires(AgentId),
    /// Before the agents it speaks of expire, which is at the same time.
    RecoveryEnds,
    RecoveredAgentExpires(AgentId),
    Ping(AgentId),
    OfferExpires(OfferId),
    InverseOfferExpires(OfferId),
    AgentRemoval,
    RegistryGc,
    Authentication(String),
}

/// The master: who is there, what runs where, who may use what.
///
/// Feed it with [`handle`](Self::handle), carry out what [`poll`](Self::poll) returns until it
/// returns `None`, and call again at [`next_deadline`](Self::next_deadline).
///
/// # Promises
/// 1. Same inputs at the same times, same actions.
/// 2. Nothing that depends on a write is polled before [`Input::Stored`] confirms that write: what
///    was acknowledged is durable. ("Output commit": the state moves on at once, the actions wait.)
/// 3. Time may stand still between inputs, and never runs backwards.
pub struct Master {
    pub(crate) settings: Settings,
    pub(crate) now: Time,
    pub(crate) started: Time,
    pub(crate) recovered: bool,
    pub(crate) uuids: Seed,
    pub(crate) allocator: Box<dyn Allocator>,
    pub(crate) frameworks: Tree<FrameworkId, Arc<Framework>>,
    pub(crate) completed: VecDeque<Arc<Framework>>,
    /// Frameworks that have ended, and when; also those that a former master knew.
    pub(crate) ended: Tree<FrameworkId, TimeInfo>,
    pub(crate) streams: BTreeMap<String, FrameworkId>,
    pub(crate) pids: BTreeMap<String, FrameworkId>,
    pub(crate) agents: Tree<AgentId, Arc<Agent>>,
    pub(crate) agent_pids: BTreeMap<String, AgentId>,
    /// Agents from the registry that have not come back since the master started.
    pub(crate) recovered_agents: Tree<AgentId, AgentInfo>,
    /// How many there were.
    pub(crate) known_before: usize,
    /// It must not lead any more.
    pub(crate) stopped: bool,
    pub(crate) unreachable: Tree<AgentId, TimeInfo>,
    pub(crate) gone: Tree<AgentId, TimeInfo>,
    pub(crate) offers: Tree<OfferId, Arc<Offer>>,
    pub(crate) inverse_offers: Tree<OfferId, Arc<InverseOffer>>,
    /// What operators have set.
    pub(crate) standing: Arc<Standing>,
    /// Agents that are drained and may have become empty.
    pub(crate) emptied: BTreeSet<AgentId>,
    /// Agents on which something became free that a booking may be waiting for to be taken back.
    pub(crate) freed: BTreeSet<AgentId>,
    pub(crate) removals: Removals,
    /// Operations that ended and are out of the books.
    pub(crate) acknowledged: Acknowledged,
    /// Tasks that were killed to make room, and for which role.
    pub(crate) preempted: BTreeMap<(FrameworkId, TaskId), String>,
    pub(crate) counters: Counters,
    pub(crate) authentication: Authentication,
    /// What frameworks said too fast; `None` if nobody is limited.
    pub(crate) throttle: Option<Throttle<Input>>,
    /// What those said too fast of whom nobody knows who they are.
    pub(crate) strangers: Option<Throttle<Input>>,
    /// Resources that were read lately.
    pub(crate) alike: Alike,
    next_framework: u64,
    next_agent: u64,
    next_offer: u64,
    next_write: u64,
    timers: BTreeSet<(Time, Timer)>,
    /// At so many timers those of offers that were answered are thrown away.
    many_timers: usize,
    outbox: VecDeque<Action>,
    queued: Queued,
    /// The write whose confirmation the outbox waits for.
    awaiting: Option<u64>,
}

/// What the next [`Action::Persist`] will write. There is one in the outbox while there is anything:
/// decided writes may happen earlier than the actions before them, so all that are decided until it
/// is polled join it. One trip to the disk for all.
#[derive(Debug, Default)]
struct Queued {
    /// The last write to each key.
    writes: BTreeMap<String, Write>,
    /// How many times something was decided.
    decisions: usize,
}

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Master")
            .field("id", &self.settings.info.id)
            .field("frameworks", &self.frameworks.len())
            .field("agents", &self.agents.len())
            .finish_non_exhaustive()
    }
}

impl Master {
    /// A master that has read nothing yet; its first input is [`Input::Recovered`].
    pub fn new(settings: Settings, allocator: Box<dyn Allocator>, seed: &Seed, now: Time) -> Self {
        let limits = &settings.security.rate_limits;
        let throttle_of =
            |limits: RateLimits| (limits != RateLimits::default()).then(|| Throttle::new(limits));
        let throttle = throttle_of(limits.clone());
        let strangers = throttle_of(limits.of_strangers());
        Self {
            settings,
            now,
            started: now,
            recovered: false,
            uuids: seed.stream("streams"),
            allocator,
            frameworks: Tree::new(),
            completed: VecDeque::new(),
            ended: Tree::new(),
            streams: BTreeMap::new(),
            pids: BTreeMap::new(),
            agents: Tree::new(),
            agent_pids: BTreeMap::new(),
            recovered_agents: Tree::new(),
            known_before: 0,
            stopped: false,
            unreachable: Tree::new(),
            gone: Tree::new(),
            offers: Tree::new(),
            inverse_offers: Tree::new(),
            standing: Arc::default(),
            emptied: BTreeSet::new(),
            freed: BTreeSet::new(),
            removals: Removals::default(),
            acknowledged: Acknowledged::default(),
            preempted: BTreeMap::new(),
            counters: Counters::default(),
            authentication: Authentication::new(seed),
            throttle,
            strangers,
            alike: Alike::default(),
            next_framework: 0,
            next_agent: 0,
            next_offer: 0,
            next_write: 0,
            timers: BTreeSet::new(),
            many_timers: MANY_TIMERS,
            outbox: VecDeque::new(),
            queued: Queued::default(),
            awaiting: None,
        }
    }

    /// Takes in what happened at `now`.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = now.max(self.now);
        self.fire_timers();
        self.release();
        if let Some(input) = self.admit(input) {
            self.take_in(input);
        }
        self.settle_bookings();
        self.conclude_drains();
        self.allocate();
    }

    pub(crate) fn take_in(&mut self, input: Input) {
        match input {
            Input::Recovered(snapshot) => self.recover(&snapshot),
            Input::Call {
                request,
                stream_id,
                principal,
                call,
            } => self.scheduler_call(request, stream_id.as_deref(), principal.as_deref(), *call),
            Input::Whitelist(names) => self
                .allocator
                .handle(self.now, Allocation::Whitelist(names)),
            Input::StreamClosed { stream_id } => self.stream_closed(&stream_id),
            Input::Message { from, message } => self.message(&from, &message),
            Input::Returning { from, returning } => self.returning_message(&from, *returning),
            Input::Exited { pid } => self.exited(&pid),
            Input::Operator {
                request,
                principal,
                call,
            } => self.operator_call(request, principal.as_deref(), *call),
            Input::Priorities {
                request,
                principal,
                priorities,
            } => self.order(request, |master| {
                master.prioritize(principal.as_deref(), priorities)
            }),
            Input::Read { request } => {
                let snapshot = Arc::new(Snapshot::of(self));
                self.push(Action::Snapshot { request, snapshot });
            }
            Input::Measure { request } => {
                let metrics = self.allocator.metrics();
                self.push(Action::Measured { request, metrics });
            }
            Input::Explain {
                request,
                framework_id,
                role,
                wish,
                reader,
            } => {
                let question = Question {
                    framework_id,
                    role,
                    wish,
                };
                self.explain(request, &question, &reader);
            }
            Input::Stored { id, .. } => {
                if self.awaiting == Some(id) {
                    self.awaiting = None;
                }
            }
            Input::Tick => {}
        }
    }

    /// The next action, unless it has to wait for a write. Call until it returns `None`.
    pub fn poll(&mut self) -> Option<Action> {
        if self.awaiting.is_some() {
            return None;
        }
        let mut action = self.outbox.pop_front()?;
        if let Action::Persist { id, writes } = &mut action {
            let queued = std::mem::take(&mut self.queued);
            writes.extend(queued.writes.into_values());
            self.awaiting = Some(*id);
        }
        Some(action)
    }

    /// When [`Input::Tick`] is wanted, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Time> {
        let timer = self.timers.first().map(|(time, _)| *time);
        let throttled = self.throttle.as_ref().and_then(Throttle::next_deadline);
        let strangers = self.strangers.as_ref().and_then(Throttle::next_deadline);
        let waiting = earliest(throttled, strangers);
        earliest(earliest(timer, waiting), self.allocator.next_deadline())
    }

    /// An admitted agent.
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.get(id).map(Arc::as_ref)
    }

    /// All admitted agents, in order of their ids.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values().map(Arc::as_ref)
    }

    /// Whether the registry has been read.
    pub fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// What readers see now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self)
    }

    /// What operators have set.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether an operator has declared an agent gone.
    pub fn is_gone(&self, id: &AgentId) -> bool {
        self.gone.contains_key(id)
    }

    /// An offer nobody has answered.
    pub fn open_offer(&self, id: &OfferId) -> Option<&Offer> {
        self.offers.get(id).map(Arc::as_ref)
    }

    fn fire_timers(&mut self) {
        while let Some((time, _)) = self.timers.first()
            && time.is_due(self.now)
        {
            let Some((_, timer)) = self.timers.pop_first() else {
                break;
            };
            match timer {
                Timer::Heartbeat(stream_id) => self.heartbeat(&stream_id),
                Timer::FrameworkExpires(id) => self.framework_expires(&id),
                Timer::AgentExpires(id) => self.agent_expires(&id),
                Timer::RecoveryEnds => self.recovery_ends(),
                Timer::RecoveredAgentExpires(id) => self.recovered_agent_expires(&id),
                Timer::Ping(id) => self.ping(&id),
                Timer::OfferExpires(id) => self.offer_expires(&id),
                Timer::InverseOfferExpires(id) => self.rescind_inverse_offer(&id),
                Timer::AgentRemoval => self.remove_next_agent(),
                Timer::RegistryGc => self.collect_garbage(),
                Timer::Authentication(pid) => self.authentication_expires(&pid),
            }
        }
    }

    /// Makes offers of what the allocator has decided to grant.
    fn allocate(&mut self) {
        let due = self.allocator.next_deadline();
        if due.is_some_and(|due| due.is_due(self.now)) {
            let decisions = self.allocator.poll(self.now);
            self.counters.allocation_runs += 1;
            self.offer(decisions.grants);
            self.offer_inversely(decisions.inverse);
            for preemption in &decisions.preemptions {
                self.preempt(preemption);
            }
        }
    }

    /// How many writes wait for one that is under way.
    pub(crate) fn queued_writes(&self) -> usize {
        self.queued.decisions
    }

    pub(crate) fn at(&mut self, after: Duration, timer: Timer) {
        if self.timers.len() >= self.many_timers {
            self.timers.retain(|(_, timer)| match timer {
                Timer::OfferExpires(id) => self.offers.contains_key(id),
                Timer::InverseOfferExpires(id) => self.inverse_offers.contains_key(id),
                _ => true,
            });
            // A walk for as many as came since the last one.
            self.many_timers = (2 * self.timers.len()).max(MANY_TIMERS);
        }
        self.timers.insert((self.now + after, timer));
    }

    /// How many timers are set.
    #[cfg(test)]
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.outbox.push_back(action);
    }

    pub(crate) fn persist(&mut self, writes: Vec<Write>) {
        let key = |write: &Write| match write {
            Write::Put(key, _) | Write::Delete(key) => key.clone(),
        };
        if self.queued.decisions == 0 {
            self.next_write += 1;
            let (id, writes) = (self.next_write, Vec::new());
            self.push(Action::Persist { id, writes });
        }
        self.queued.decisions += 1;
        let writes = writes.into_iter().map(|write| (key(&write), write));
        self.queued.writes.extend(writes);
    }

    pub(crate) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.push(Action::Reply { request, reply });
    }

    pub(crate) fn send<M: dcos_proto::Message>(&mut self, to: &str, message: &M) {
        self.push(Action::Send {
            to: to.to_owned(),
            message: Packet::of(message),
        });
    }

    pub(crate) fn publish(&mut self, news: impl Into<News>) {
        self.push(Action::Publish(news.into()));
    }

    /// Delivers an event to a framework, in the protocol it speaks; dropped if it isn't connected.
    pub(crate) fn tell(&mut self, framework: &FrameworkId, event: Event) {
        let Some(known) = self.frameworks.get(framework) else {
            return;
        };
        let kind = event.r#type().as_str_name();
        let link = known.link.clone();
        if link.is_connected()
            && let Some(known) = self.framework_mut(framework)
        {
            *known.tally.events.entry(kind).or_default() += 1;
        }
        match link {
            Link::Stream(stream_id) => self.push(Action::Event {
                stream_id,
                event: Arc::new(event),
            }),
            Link::Pid(pid) => self.tell_driver(framework, &pid, event),
            Link::Recovered | Link::Disconnected => self.counters.dropped_messages += 1,
        }
    }

    pub(crate) fn framework_mut(&mut self, id: &FrameworkId) -> Option<&mut Framework> {
        self.frameworks.get_mut(id).map(Arc::make_mut)
    }

    pub(crate) fn agent_mut(&mut self, id: &AgentId) -> Option<&mut Agent> {
        self.agents.get_mut(id).map(Arc::make_mut)
    }

    pub(crate) fn new_framework_id(&mut self) -> FrameworkId {
        let id = format!("{}-{:04}", self.settings.info.id, self.next_framework);
        self.next_framework += 1;
        id.into()
    }

    pub(crate) fn new_agent_id(&mut self) -> AgentId {
        let id = format!("{}-S{}", self.settings.info.id, self.next_agent);
        self.next_agent += 1;
        id.into()
    }

    pub(crate) fn new_offer_id(&mut self) -> OfferId {
        let id = format!("{}-O{}", self.settings.info.id, self.next_offer);
        self.next_offer += 1;
        id.into()
    }

    /// Frees what a task or an executor used, with framework, agent and allocator alike.
    pub(crate) fn discharge(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &dcos_core::resources::Resources,
    ) {
        if let Some(known) = self.framework_mut(framework) {
            known.discharge(agent, resources);
        }
        if let Some(known) = self.agent_mut(agent) {
            known.discharge(framework, resources);
            if !known.undone.is_empty() {
                self.freed.insert(agent.clone());
            }
        }
        self.recover_resources(framework, agent, resources, None);
    }
}

/// A timestamp as messages carry it.
pub(crate) fn time_info(time: Time) -> TimeInfo {
    TimeInfo {
        nanoseconds: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
    }
}
