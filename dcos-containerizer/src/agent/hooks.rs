//! What an operator's own code adds where the agent decides.
//!
//! Mesos loads hooks as modules by `--hooks`; here they are values in [`Config::hooks`](super::Config::hooks), given by the
//! program that puts an agent together. `dcos-sched/docs/hooks.md` says how, for masters and agents.

#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use dcos_proto::mesos::{
    AgentInfo, Attribute, ContainerStatus, Environment, ExecutorInfo, FrameworkId, FrameworkInfo,
    Labels, Resource, TaskInfo, TaskStatus,
};

use super::tasks::variables_of;

/// Looks at what an agent runs and says, and changes what may be changed of it.
///
/// # Contract
/// 1. Called inside the deciding loop: a hook answers at once, from memory. What takes time belongs into a task of its
///    own that the hook tells.
/// 2. The same questions get the same answers: what is tried again, or made anew after a restart, is decorated alike.
/// 3. Several hooks are asked in order; each sees what those before it left.
/// 4. A hook bears any message: fields may be absent, empty, or strange.
///
/// # Source
/// Mesos 1.11 `Hook` (`include/mesos/hook.hpp`), what begins with `slave` there. To leave all as it is, is truly right for
/// each of them, so that none is required.
///
/// # Implementing
/// Run `testkit::all` (feature `testkit`) in your tests; start from `examples/custom_hooks.rs`.
pub trait AgentHooks: fmt::Debug + Send + Sync + 'static {
    /// What the agent has, in place of what was configured and detected; `None` leaves it. Asked once, when it starts.
    ///
    /// Source: `slaveResourcesDecorator`.
    fn resources(&self, agent: &AgentInfo) -> Option<Vec<Resource>> {
        let _ = agent;
        None
    }

    /// What describes the agent, in place of what was configured; `None` leaves it. Asked once, when it starts, and
    /// after all hooks were asked for resources.
    ///
    /// Source: `slaveAttributesDecorator`.
    fn attributes(&self, agent: &AgentInfo) -> Option<Vec<Attribute>> {
        let _ = agent;
        None
    }

    /// The labels of a task that is to run here, in place of its own; `None` leaves them. Its executor sees them, and
    /// whoever reads the agent's state; the master knows its own.
    ///
    /// Source: `slaveRunTaskLabelDecorator`.
    fn task_labels(
        &self,
        task: &TaskInfo,
        executor: &ExecutorInfo,
        framework: &FrameworkInfo,
        agent: &AgentInfo,
    ) -> Option<Labels> {
        let _ = (task, executor, framework, agent);
        None
    }

    /// Variables for every container of an executor, in place of those in its command; `None` leaves them. Where a name
    /// is in the command as well, the command wins; where it is one that Mesos promises executors, the hook does.
    ///
    /// Source: `slaveExecutorEnvironmentDecorator`.
    fn executor_environment(&self, executor: &ExecutorInfo) -> Option<Environment> {
        let _ = executor;
        None
    }

    /// What a status says besides, before it is written down and sent. The default changes nothing.
    ///
    /// Source: `slaveTaskStatusDecorator`.
    fn task_status(&self, framework: &FrameworkId, status: &TaskStatus) -> StatusChange {
        let _ = (framework, status);
        StatusChange::default()
    }

    /// An executor is over, all it said is acknowledged, and the agent forgets it.
    ///
    /// Source: `slaveRemoveExecutorHook`.
    fn executor_removed(&self, framework: &FrameworkInfo, executor: &ExecutorInfo) {
        let _ = (framework, executor);
    }
}

/// What a hook may change of a status: each part as a whole, and nothing else.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatusChange {
    /// Its labels from now on.
    pub labels: Option<Labels>,
    /// What it tells of the container from now on, such as its addresses.
    pub container_status: Option<ContainerStatus>,
}

/// All hooks of an agent, in order.
#[derive(Debug, Clone, Default)]
pub struct Hooks(Vec<Arc<dyn AgentHooks>>);

impl FromIterator<Arc<dyn AgentHooks>> for Hooks {
    fn from_iter<I: IntoIterator<Item = Arc<dyn AgentHooks>>>(hooks: I) -> Self {
        Self(hooks.into_iter().collect())
    }
}

impl Hooks {
    /// One more, asked after those that are there.
    pub fn push(&mut self, hook: Arc<dyn AgentHooks>) {
        self.0.push(hook);
    }

    /// The agent as it presents itself.
    pub(super) fn decorate_agent(&self, agent: &mut AgentInfo) {
        for hook in &self.0 {
            if let Some(resources) = hook.resources(agent) {
                agent.resources = resources;
            }
        }
        for hook in &self.0 {
            if let Some(attributes) = hook.attributes(agent) {
                agent.attributes = attributes;
            }
        }
    }

    pub(super) fn decorate_task(
        &self,
        task: &mut TaskInfo,
        executor: &ExecutorInfo,
        framework: &FrameworkInfo,
        agent: &AgentInfo,
    ) {
        for hook in &self.0 {
            if let Some(labels) = hook.task_labels(task, executor, framework, agent) {
                task.labels = Some(labels);
            }
        }
    }

    /// The variables that hooks want in the containers of an executor.
    pub(super) fn environment(&self, executor: &ExecutorInfo) -> BTreeMap<String, String> {
        if self.0.is_empty() {
            return BTreeMap::new();
        }
        let mut seen = executor.clone();
        for hook in &self.0 {
            if let Some(environment) = hook.executor_environment(&seen) {
                let command = seen.command.get_or_insert_default();
                command.environment = Some(environment);
            }
        }
        let command = seen.command.unwrap_or_default();
        variables_of(command.environment.as_ref())
    }

    pub(super) fn decorate_status(&self, framework: &FrameworkId, status: &mut TaskStatus) {
        for hook in &self.0 {
            let StatusChange {
                labels,
                container_status,
            } = hook.task_status(framework, status);
            if labels.is_some() {
                status.labels = labels;
            }
            if container_status.is_some() {
                status.container_status = container_status;
            }
        }
    }

    pub(super) fn executor_removed(&self, framework: &FrameworkInfo, executor: &ExecutorInfo) {
        for hook in &self.0 {
            hook.executor_removed(framework, executor);
        }
    }
}
