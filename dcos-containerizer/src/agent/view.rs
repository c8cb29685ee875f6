//! What readers see of the agent: a copy, taken in the loop and serialised outside of it.

use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_proto::mesos::{
    AgentInfo, ContainerId, DrainConfig, ExecutorInfo, FrameworkInfo, Operation, Resource, Task,
    TaskState, TimeInfo,
};

use super::core::Agent;
use super::counters::Counters;
use super::records::{Executor, ExecutorState, Framework};
use super::registration::CAPABILITIES;

/// The agent at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// Who it is; with an id once it has registered.
    pub info: AgentInfo,
    /// Its UPID.
    pub pid: String,
    /// The master it is registered with.
    pub master: Option<String>,
    /// What it can do, by name.
    pub capabilities: Vec<String>,
    /// How it is being drained, and since when.
    pub drain: Option<(DrainConfig, TimeInfo)>,
    /// All it has, reservations and volumes included.
    pub total: Resources,
    /// Operations the master has not acknowledged.
    pub operations: Vec<Operation>,
    /// What can be lent as revocable.
    pub oversubscribed: Resources,
    /// What happened since the agent started.
    pub counters: Counters,
    /// How many directories wait to be deleted, and how old they may become.
    pub removals: (usize, Duration),
    /// Frameworks with executors.
    pub frameworks: Vec<FrameworkView>,
    /// Frameworks whose last executor ended.
    pub completed_frameworks: Vec<FrameworkView>,
}

/// A framework at one moment.
#[derive(Debug, Clone)]
pub struct FrameworkView {
    /// What it said of itself.
    pub info: FrameworkInfo,
    /// Its executors.
    pub executors: Vec<ExecutorView>,
    /// Those that ended.
    pub completed_executors: Vec<ExecutorView>,
}

/// An executor at one moment.
#[derive(Debug, Clone)]
pub struct ExecutorView {
    /// What it was launched from.
    pub info: ExecutorInfo,
    /// What it runs in.
    pub container: ContainerId,
    /// Its sandbox.
    pub directory: String,
    /// What it and its tasks may use.
    pub resources: Vec<Resource>,
    /// Whether it was made for one command task.
    pub command: bool,
    /// Where it is in its life.
    pub state: ExecutorState,
    /// Whether its container ended.
    pub over: bool,
    /// Tasks that wait for it.
    pub queued: Vec<Task>,
    /// Tasks it was given.
    pub launched: Vec<Task>,
    /// Tasks that ended, with updates not acknowledged.
    pub terminated: Vec<Task>,
    /// Tasks that ended.
    pub completed: Vec<Task>,
}

impl Agent {
    /// What readers see.
    pub fn view(&self) -> View {
        let drain = self.drain.as_ref().map(|(config, since)| {
            let nanoseconds = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
            (*config, TimeInfo { nanoseconds })
        });
        View {
            info: self.info.clone(),
            pid: self.settings.pid.clone(),
            master: self.master().map(ToOwned::to_owned),
            capabilities: CAPABILITIES
                .map(|kind| kind.as_str_name().to_owned())
                .to_vec(),
            drain,
            total: self.total().clone(),
            operations: self.operations(),
            oversubscribed: self.oversubscribed.clone().unwrap_or_default(),
            counters: self.counters.clone(),
            removals: (self.gc.pending(), self.gc.allowed()),
            frameworks: self.frameworks.values().map(framework_view).collect(),
            completed_frameworks: self.completed.iter().map(framework_view).collect(),
        }
    }
}

fn framework_view(framework: &Framework) -> FrameworkView {
    FrameworkView {
        info: framework.info.clone(),
        executors: framework.executors.values().map(executor_view).collect(),
        completed_executors: framework.completed.iter().map(executor_view).collect(),
    }
}

fn executor_view(executor: &Executor) -> ExecutorView {
    let mut view = ExecutorView {
        info: executor.info.clone(),
        container: executor.container.clone(),
        directory: executor.directory.display().to_string(),
        resources: executor.resources(),
        command: executor.is_for_command(),
        state: executor.state,
        over: executor.state.is_over(),
        queued: Vec::new(),
        launched: Vec::new(),
        terminated: Vec::new(),
        completed: executor
            .completed
            .iter()
            .map(|task| task.to_task(executor))
            .collect(),
    };
    for record in executor.tasks.values() {
        let task = record.to_task(executor);
        let state = record.state();
        if record.is_terminal() {
            view.terminated.push(task);
        } else if !record.delivered && state == TaskState::TaskStaging {
            view.queued.push(task);
        } else {
            view.launched.push(task);
        }
    }
    view
}
