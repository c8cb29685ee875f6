//! What the master knows about one framework.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dcos_core::resources::Resources;
use dcos_core::time::Time;
use dcos_proto::mesos::framework_info::capability;
use dcos_proto::mesos::{
    AgentId, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo, OfferId, Task, TaskId, TaskState,
};
use dcos_proto::scheduler::OfferConstraints;

use super::tasks::is_terminal;

/// How many finished and how many unreachable tasks of a framework are remembered.
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
    pub tasks: BTreeMap<TaskId, Arc<Task>>,
    /// Tasks on agents that are unreachable, oldest first.
    pub unreachable_tasks: VecDeque<Arc<Task>>,
    /// Tasks that ended, oldest first.
    pub completed_tasks: VecDeque<Arc<Task>>,
    /// Executors by agent.
    pub executors: BTreeMap<AgentId, BTreeMap<ExecutorId, Arc<ExecutorInfo>>>,
    /// What it was offered and has not answered.
    pub offers: BTreeSet<OfferId>,
    /// What its tasks and executors use, by agent.
    pub used: BTreeMap<AgentId, Resources>,
    /// How many calls of each type it made, for metrics.
    pub calls: BTreeMap<&'static str, u64>,
}

impl Framework {
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
            tasks: BTreeMap::new(),
            unreachable_tasks: VecDeque::new(),
            completed_tasks: VecDeque::new(),
            executors: BTreeMap::new(),
            offers: BTreeSet::new(),
            used: BTreeMap::new(),
            calls: BTreeMap::new(),
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
        let mut total = Resources::default();
        for used in self.used.values() {
            total += used;
        }
        total
    }

    pub(crate) fn charge(&mut self, agent: &AgentId, resources: &Resources) {
        *self.used.entry(agent.clone()).or_default() += resources;
    }

    pub(crate) fn discharge(&mut self, agent: &AgentId, resources: &Resources) {
        if let Some(used) = self.used.get_mut(agent) {
            *used -= resources;
            if used.is_empty() {
                self.used.remove(agent);
            }
        }
    }

    pub(crate) fn add_task(&mut self, task: Arc<Task>) {
        if !is_terminal(task.state()) {
            self.charge(&task.agent_id, &Resources::from(&task.resources));
        }
        self.tasks.insert(task.task_id.clone(), task);
    }

    pub(crate) fn remember_completed(&mut self, task: Arc<Task>) {
        if self.completed_tasks.len() == MAX_TASKS {
            self.completed_tasks.pop_front();
        }
        self.completed_tasks.push_back(task);
    }

    pub(crate) fn remember_unreachable(&mut self, task: Arc<Task>) {
        if self.unreachable_tasks.len() == MAX_TASKS {
            self.unreachable_tasks.pop_front();
        }
        self.unreachable_tasks.push_back(task);
    }

    pub(crate) fn has_executor(&self, agent: &AgentId, executor: &ExecutorId) -> bool {
        self.executors
            .get(agent)
            .is_some_and(|executors| executors.contains_key(executor))
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
