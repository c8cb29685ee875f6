//! What an operator's own code adds where the master decides.
//!
//! Mesos loads hooks as modules by `--hooks`; here they are values in [`Settings::hooks`](super::Settings::hooks), given by the
//! program that puts a master together. `dcos-sched/docs/hooks.md` says how.

#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

use std::fmt;

use dcos_core::resources::Resources;
use dcos_proto::mesos::{AgentId, AgentInfo, FrameworkInfo, Labels, Resource, TaskInfo};

use super::Master;

/// Looks at what is launched and lost, and changes what may be changed of it.
///
/// # Contract
/// 1. Called inside the deciding loop: a hook answers at once, from memory. What takes time belongs into a task of
///    its own that the hook tells.
/// 2. The same questions get the same answers: a launch that is tried again is decorated alike.
/// 3. Several hooks are asked in order; each sees what those before it left.
/// 4. Nothing is taken on trust: resources a hook gives a task are checked against the offer like the task's own.
///
/// # Source
/// Mesos 1.11 `Hook` (`include/mesos/hook.hpp`): `masterLaunchTaskResourceDecorator`, `masterLaunchTaskLabelDecorator`,
/// `masterSlaveLostHook`. To leave all as it is, is truly right for each of them, so that none is required.
///
/// # Implementing
/// Run `hooks::testkit::all` in your tests; start from `examples/custom_hooks.rs`.
pub trait MasterHooks: fmt::Debug + Send + Sync + 'static {
    /// The resources of `task` on an agent that has `total`, in place of its own; `None` leaves them. Asked before
    /// the task is checked.
    fn task_resources(&self, task: &TaskInfo, total: &Resources) -> Option<Vec<Resource>> {
        let _ = (task, total);
        None
    }

    /// The labels with which `task` is sent to its agent, in place of its own; `None` leaves them. Readers of the
    /// master see the task's own, as in Mesos. Asked for each task that is launched, after it was checked.
    fn task_labels(
        &self,
        task: &TaskInfo,
        framework: &FrameworkInfo,
        agent: &AgentInfo,
    ) -> Option<Labels> {
        let _ = (task, framework, agent);
        None
    }

    /// The agent is gone or out of reach, and every framework has been told.
    fn agent_lost(&self, agent: &AgentInfo) {
        let _ = agent;
    }
}

impl Master {
    /// Gives tasks that are to be launched the resources that hooks want.
    pub(crate) fn decorate_resources(&self, agent: &AgentId, tasks: &mut [TaskInfo]) {
        let Some(place) = self.agents.get(agent) else {
            return;
        };
        for hook in &self.settings.hooks {
            for task in &mut *tasks {
                if let Some(resources) = hook.task_resources(task, &place.total) {
                    task.resources = resources;
                }
            }
        }
    }

    /// Gives a task on its way to an agent the labels that hooks want.
    pub(crate) fn decorate_labels(
        &self,
        task: &mut TaskInfo,
        framework: &FrameworkInfo,
        agent: &AgentInfo,
    ) {
        for hook in &self.settings.hooks {
            if let Some(labels) = hook.task_labels(task, framework, agent) {
                task.labels = Some(labels);
            }
        }
    }

    /// Tells hooks of an agent that is lost.
    pub(crate) fn tell_hooks_agent_lost(&self, agent: &AgentInfo) {
        for hook in &self.settings.hooks {
            hook.agent_lost(agent);
        }
    }
}
