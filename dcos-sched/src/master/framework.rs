//! What the master knows about one framework.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_core::resources::Resources;
use dcos_core::time::Time;
use dcos_core::tree::Tree;
use dcos_proto::internal::UpdateFrameworkMessage;
use dcos_proto::mesos::framework_info::capability;
use dcos_proto::mesos::offer::operation::Type as Operation;
use dcos_proto::mesos::task_status::Source;
use dcos_proto::mesos::{
    AgentId, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo, OfferId, OperationId, TaskId,
    TaskState,
};
use dcos_proto::scheduler::OfferConstraints;

use super::recent::Recent;
use super::{Packet, TaskRecord};

/// How many finished and how many unreachable tasks of a framework are remembered by default.
pub(crate) const MAX_TASKS: usize = 1000;

/// How a framework is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is known from the registry or from its agents and has not come back yet.
    Recovered,
    /// Nobody listens.
    Disconnected,
    /// An event stream of API v1, over HTTP or in process.
    Stream(String),
    /// A v0 driver with this UPID.
    Pid(String),
}

impl Link {
    /// Whether events can be delivered.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Pid(_))
    }
}

/// One framework and all that runs for it.
#[derive(Debug, Clone)]
pub struct Framework {
    /// What it said about itself; `id` is always set.
    pub info: FrameworkInfo,
    /// Where its events go.
    pub link: Link,
    /// Whether it is offered resources.
    pub active: bool,
    /// The UPID it last had, kept after it disconnects; `None` for API v1.
    pub pid: Option<String>,
    /// When it first subscribed.
    pub registered: Time,
    /// When it last subscribed.
    pub reregistered: Time,
    /// When it was removed.
    pub unregistered: Option<Time>,
    /// Until when it may come back.
    pub expires: Option<Time>,
    /// Roles it wants no offers for.
    pub suppressed: BTreeSet<String>,
    /// Which agents it wants offers from.
    pub offer_constraints: Option<OfferConstraints>,
    /// Tasks that are not forgotten yet.
    pub tasks: Tree<TaskId, TaskRecord>,
    /// How many of them are in each state.
    pub counts: StateCounts,
    /// Tasks on agents that are unreachable, oldest first.
    pub unreachable_tasks: Recent,
    /// Tasks that ended, oldest first.
    pub completed_tasks: Recent,
    /// Executors by agent.
    pub executors: Tree<AgentId, BTreeMap<ExecutorId, Arc<ExecutorInfo>>>,
    /// What it was offered and has not answered.
    pub offers: BTreeSet<OfferId>,
    /// What it was asked to give back and has not answered.
    pub inverse_offers: BTreeSet<OfferId>,
    /// What its tasks and executors use, by agent.
    pub used: Tree<AgentId, Resources>,
    /// The sum of `used`. As in Mesos it is kept, not computed: what several agents have of the
    /// same name and is no scalar (ports) is there once, and gone with the first that is freed.
    pub held: Resources,
    /// Operations it wants to hear of: on which agent, and under which uuid.
    pub operations: BTreeMap<OperationId, (AgentId, Vec<u8>)>,
    /// How many calls of each type it made, for metrics.
    pub calls: BTreeMap<&'static str, u64>,
    /// What else is counted of it.
    pub tally: Tally,
    /// What agents were last told of it.
    pub(crate) introduction: Option<(UpdateFrameworkMessage, Packet)>,
}

impl Framework {
    /// Whether a task with this id was launched, as far as is remembered.
    pub(crate) fn has_seen(&self, task: &TaskId) -> bool {
        let ended = || [&self.unreachable_tasks, &self.completed_tasks];
        self.tasks.contains_key(task) || ended().iter().any(|ended| ended.get(task).is_some())
    }

    /// Whether its agent said that this task has ended, as far as is remembered.
    pub(crate) fn has_ended(&self, task: &TaskId) -> bool {
        self.completed_tasks.get(task).is_some_and(|ended| {
            let last = ended.statuses.last();
            last.is_none_or(|last| last.source() != Source::Master)
        })
    }

    /// A framework that has not been linked yet.
    pub(crate) fn new(info: FrameworkInfo, now: Time) -> Self {
        Self {
            info,
            link: Link::Disconnected,
            active: false,
            pid: None,
            registered: now,
            reregistered: now,
            unregistered: None,
            expires: None,
            suppressed: BTreeSet::new(),
            offer_constraints: None,
            tasks: Tree::new(),
            counts: StateCounts::default(),
            unreachable_tasks: Recent::new(MAX_TASKS),
            completed_tasks: Recent::new(MAX_TASKS),
            executors: Tree::new(),
            offers: BTreeSet::new(),
            inverse_offers: BTreeSet::new(),
            used: Tree::new(),
            held: Resources::new(),
            operations: BTreeMap::new(),
            calls: BTreeMap::new(),
            tally: Tally::default(),
            introduction: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> FrameworkId {
        self.info.id.clone().unwrap_or_default()
    }

    /// Whether it declared a capability.
    pub fn has(&self, capability: capability::Type) -> bool {
        has_capability(&self.info, capability)
    }

    /// The roles it takes offers for.
    pub fn roles(&self) -> Vec<String> {
        roles_of(&self.info)
    }

    /// What an unknown or lost task is called for it.
    pub(crate) fn state_or_lost(&self, partition_aware: TaskState) -> TaskState {
        if self.has(capability::Type::PartitionAware) {
            partition_aware
        } else {
            TaskState::TaskLost
        }
    }

    /// All that its tasks and executors use.
    pub fn used_total(&self) -> Resources {
        self.held.clone()
    }

    pub(crate) fn charge(&mut self, agent: &AgentId, resources: &Resources) {
        *self.used.get_or_insert_with(agent, Resources::new) += resources;
        self.held += resources;
    }

    pub(crate) fn discharge(&mut self, agent: &AgentId, resources: &Resources) {
        if let Some(used) = self.used.get_mut(agent) {
            *used -= resources;
            if used.is_empty() {
                self.used.remove(agent);
            }
            self.held -= resources;
        }
    }

    pub(crate) fn add_executor(&mut self, agent: &AgentId, executor: ExecutorInfo) {
        let executors = self.executors.get_or_insert_with(agent, BTreeMap::new);
        executors.insert(executor.executor_id.clone(), Arc::new(executor));
    }

    pub(crate) fn add_task(&mut self, id: TaskId, task: TaskRecord) {
        self.counts.count(task.state());
        if let Some(before) = self.tasks.insert(id, task) {
            self.counts.uncount(before.state());
        }
    }

    pub(crate) fn take_task(&mut self, id: &TaskId) -> Option<TaskRecord> {
        let task = self.tasks.remove(id)?;
        self.counts.uncount(task.state());
        Some(task)
    }

    pub(crate) fn remember_completed(&mut self, task: TaskRecord) {
        self.completed_tasks.push(task);
    }

    pub(crate) fn remember_unreachable(&mut self, task: TaskRecord) {
        self.unreachable_tasks.push(task);
    }

    pub(crate) fn has_executor(&self, agent: &AgentId, executor: &ExecutorId) -> bool {
        self.executors
            .get(agent)
            .is_some_and(|executors| executors.contains_key(executor))
    }
}

/// What happened to a framework so far, for metrics.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Events of each type it was sent.
    pub events: BTreeMap<&'static str, u64>,
    /// Ends of its tasks.
    pub ended: StateCounts,
    /// Offers it was made.
    pub offers_sent: u64,
    /// Offers it accepted.
    pub offers_accepted: u64,
    /// Offers it declined.
    pub offers_declined: u64,
    /// Offers taken back from it.
    pub offers_rescinded: u64,
    /// Operations of each type that were carried out for it; a launch counts its tasks.
    pub operations: BTreeMap<Operation, u64>,
}

/// How many tasks are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCounts([u32; STATES]);

/// `TaskState` is numbered without gaps.
const STATES: usize = TaskState::TaskUnknown as usize + 1;

impl StateCounts {
    /// How many are in a state.
    pub fn of(&self, state: TaskState) -> u32 {
        self.0.get(state as usize).copied().unwrap_or_default()
    }

    /// Counts one more.
    pub fn count(&mut self, state: TaskState) {
        if let Some(count) = self.0.get_mut(state as usize) {
            *count += 1;
        }
    }

    pub(crate) fn uncount(&mut self, state: TaskState) {
        if let Some(count) = self.0.get_mut(state as usize) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Whether a framework declares a capability.
pub(crate) fn has_capability(info: &FrameworkInfo, wanted: capability::Type) -> bool {
    info.capabilities
        .iter()
        .any(|capability| capability.r#type() == wanted)
}

/// The roles a framework takes offers for: `roles` with `MULTI_ROLE`, else the one `role`.
pub(crate) fn roles_of(info: &FrameworkInfo) -> Vec<String> {
    if has_capability(info, capability::Type::MultiRole) {
        info.roles.clone()
    } else {
        vec![info.role.clone().unwrap_or_else(|| "*".to_owned())]
    }
}
