//! [`Census`]: how much a master tells of, counted and not kept.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::hash::RandomState;

use dcos_proto::master::{Event, event, response};
use dcos_proto::mesos::{self, TaskState};

/// How many agents, frameworks and tasks a master's operator API (`SUBSCRIBE`) tells of; some dozen bytes for each.
///
/// Source: the gauges of dcos-net's `dcos_net_mesos_listener`.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Identifiers are long, and only told apart here.
    hasher: RandomState,
    agents: HashSet<u64>,
    frameworks: HashSet<u64>,
    /// Framework and agent of each.
    tasks: HashMap<u64, (u64, u64)>,
}

/// What a [`Census`] has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Agents that are registered.
    pub agents: usize,
    /// Frameworks, those that are expected back included.
    pub frameworks: usize,
    /// Tasks that have not ended.
    pub tasks: usize,
    /// Those of them whose agent or framework was not told of.
    pub waiting: usize,
}

impl Census {
    /// Takes in what happened.
    pub fn apply(&mut self, event: &Event) {
        match event.r#type() {
            event::Type::Subscribed => {
                let told = event.subscribed.as_ref();
                if let Some(state) = told.and_then(|told| told.get_state.as_ref()) {
                    self.begin(state);
                }
            }
            event::Type::AgentAdded => {
                let added = event.agent_added.as_ref();
                let id = added.and_then(|added| added.agent.agent_info.id.as_ref());
                self.agents
                    .extend(id.map(|id| self.hasher.hash_one(&id.value)));
            }
            event::Type::AgentRemoved => {
                if let Some(removed) = &event.agent_removed {
                    let gone = self.hasher.hash_one(&removed.agent_id.value);
                    self.agents.remove(&gone);
                    self.tasks.retain(|_, (_, agent)| *agent != gone);
                }
            }
            event::Type::FrameworkAdded => {
                let added = event.framework_added.as_ref();
                self.add_framework(added.map(|added| &added.framework.framework_info));
            }
            event::Type::FrameworkRemoved => {
                let removed = event.framework_removed.as_ref();
                if let Some(id) = removed.and_then(|removed| removed.framework_info.id.as_ref()) {
                    let gone = self.hasher.hash_one(&id.value);
                    self.frameworks.remove(&gone);
                    self.tasks.retain(|_, (framework, _)| *framework != gone);
                }
            }
            event::Type::TaskAdded => {
                if let Some(added) = &event.task_added {
                    self.add_task(&added.task);
                }
            }
            event::Type::TaskUpdated => {
                let updated = event.task_updated.as_ref();
                if let Some(updated) = updated.filter(|updated| is_over(updated.state())) {
                    let task = (&updated.framework_id.value, &updated.status.task_id.value);
                    self.tasks.remove(&self.hasher.hash_one(task));
                }
            }
            event::Type::FrameworkUpdated | event::Type::Heartbeat | event::Type::Unknown => {}
        }
    }

    /// What there is now.
    pub fn counts(&self) -> Counts {
        let waiting = self.tasks.values().filter(|(framework, agent)| {
            !self.frameworks.contains(framework) || !self.agents.contains(agent)
        });
        Counts {
            agents: self.agents.len(),
            frameworks: self.frameworks.len(),
            tasks: self.tasks.len(),
            waiting: waiting.count(),
        }
    }

    fn begin(&mut self, state: &response::GetState) {
        self.agents.clear();
        self.frameworks.clear();
        self.tasks.clear();
        let agents = state.get_agents.iter().flat_map(|all| &all.agents);
        let ids = agents.filter_map(|agent| agent.agent_info.id.as_ref());
        self.agents
            .extend(ids.map(|id| self.hasher.hash_one(&id.value)));
        if let Some(all) = &state.get_frameworks {
            let known = all.frameworks.iter();
            let known = known.map(|framework| &framework.framework_info);
            for info in known.chain(&all.recovered_frameworks) {
                self.add_framework(Some(info));
            }
        }
        for task in state.get_tasks.iter().flat_map(|all| &all.tasks) {
            self.add_task(task);
        }
    }

    fn add_framework(&mut self, info: Option<&mesos::FrameworkInfo>) {
        let id = info.and_then(|info| info.id.as_ref());
        self.frameworks
            .extend(id.map(|id| self.hasher.hash_one(&id.value)));
    }

    fn add_task(&mut self, task: &mesos::Task) {
        let hash = |id: &String| self.hasher.hash_one(id);
        let of = (hash(&task.framework_id.value), hash(&task.agent_id.value));
        let id = (&task.framework_id.value, &task.task_id.value);
        let id = self.hasher.hash_one(id);
        if is_over(task.state()) {
            self.tasks.remove(&id);
        } else {
            self.tasks.insert(id, of);
        }
    }
}

/// Whether nothing follows on this state, or not on this agent as far as anybody knows.
pub(crate) fn is_over(state: TaskState) -> bool {
    !matches!(
        state,
        TaskState::TaskStaging
            | TaskState::TaskStarting
            | TaskState::TaskRunning
            | TaskState::TaskKilling
    )
}
