//! The built-in executors, as libraries that the agent hosts: no process of their own.
//!
//! A [`Hosted`] executor is a pure state machine between the agent, which hands it tasks and
//! kills, and the containers its tasks run in. The *command executor* runs one task in its own
//! container. The *default executor* runs groups of tasks, each in a container nested in its own,
//! which holds the namespaces and runs nothing.
//!
//! Feed it [`HostedInput`]s, carry out the [`HostedAction`]s that [`Hosted::poll`] returns until
//! there are none, and call [`Hosted::tick`] at [`Hosted::next_deadline`].
//!
//! Source: Mesos 1.11 `src/launcher/executor.cpp` and `default_executor.cpp`. Departures: updates
//! need no acknowledgement here (the agent keeps them), so an executor ends with its last task;
//! and an agent that restarts finds the tasks by their containers instead of being called back.

mod runner;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dcos_core::time::{Time, earliest};
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    CheckStatusInfo, ContainerId, ContainerStatus, KillPolicy, TaskId, TaskInfo, TaskState,
    TaskStatus,
};

use crate::containerizer::ContainerTermination;
use runner::Runner;

/// What a hosted executor is told.
#[derive(Debug, Clone)]
pub enum HostedInput {
    /// Run these tasks, each in its container, and end them together: they are the group of this
    /// number, which no other group of the executor has.
    Launch(u64, Vec<(TaskInfo, ContainerId)>),
    /// Nothing: says that an earlier agent's tasks are all [recovered](Hosted::recover).
    Wake,
    /// End a task.
    Kill(TaskId, Option<KillPolicy>),
    /// End all tasks, then yourself.
    Shutdown,
    /// A container's program was executed.
    Launched(ContainerId, ContainerStatus),
    /// A container could not be launched.
    LaunchFailed(ContainerId, Reason, String),
    /// A container ended.
    Ended(ContainerId, ContainerTermination),
    /// A health check changed its mind, or failed again. `kill` if it failed too often.
    Health {
        /// Whose.
        task: TaskId,
        /// What it says.
        healthy: bool,
        /// Whether the task is to end for it.
        kill: bool,
    },
    /// A check has a new result.
    Check(TaskId, CheckStatusInfo),
}

/// What a hosted executor wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum HostedAction {
    /// Tell the scheduler. The status has neither uuid nor source.
    Update(Box<TaskStatus>),
    /// Launch a task's container.
    Launch(Box<TaskInfo>, ContainerId),
    /// Begin the checks of a task that runs.
    StartChecks(Box<TaskInfo>, ContainerId),
    /// Send a signal.
    Signal(ContainerId, i32),
    /// End a container at once.
    Destroy(ContainerId),
    /// The executor is done: its container may go.
    Exit,
}

/// Which of the built-in executors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostedKind {
    /// One task; its container is the executor's.
    Command,
    /// Groups of tasks in nested containers.
    Default,
}

/// How long a task may take to end after SIGTERM, unless somebody says otherwise.
const KILL_GRACE: Duration = Duration::from_secs(3);

/// A built-in executor.
#[derive(Debug)]
pub struct Hosted {
    kind: HostedKind,
    /// How long tasks may take to end after SIGTERM, unless their kill policy says otherwise.
    grace: Duration,
    /// Whether the framework wants to hear of `TASK_KILLING`.
    killing_state: bool,
    runners: BTreeMap<TaskId, Runner>,
    groups: BTreeMap<TaskId, u64>,
    /// Whether it was given tasks, or told to end.
    ends_when_idle: bool,
    exited: bool,
    actions: VecDeque<HostedAction>,
}

impl Hosted {
    /// An executor without tasks.
    pub fn new(kind: HostedKind, killing_state: bool) -> Self {
        Self {
            kind,
            grace: KILL_GRACE,
            killing_state,
            runners: BTreeMap::new(),
            groups: BTreeMap::new(),
            ends_when_idle: false,
            exited: false,
            actions: VecDeque::new(),
        }
    }

    /// Gives tasks this long to end after SIGTERM, where their kill policy does not say; 3 seconds
    /// otherwise.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Takes up a task of an earlier agent, with the `last` that was told of it, before the first
    /// input. Tasks with the same `group` end together.
    pub fn recover(
        &mut self,
        now: Time,
        task: TaskInfo,
        container: ContainerId,
        last: Option<&TaskStatus>,
        group: u64,
    ) {
        let id = task.task_id.clone();
        self.groups.insert(id.clone(), group);
        let runner = Runner::recover(now, task, container, self.grace, last);
        self.runners.insert(id, runner);
    }

    /// Which of the built-in executors it is.
    pub fn kind(&self) -> HostedKind {
        self.kind
    }

    /// Takes in what happened at `now`.
    pub fn handle(&mut self, now: Time, input: HostedInput) {
        match input {
            HostedInput::Launch(group, tasks) => self.launch(group, tasks),
            HostedInput::Wake => self.ends_when_idle = true,
            HostedInput::Kill(task, policy) => self.kill(now, &task, policy.as_ref()),
            HostedInput::Shutdown => self.shutdown(now),
            HostedInput::Launched(container, status) => {
                let killing_state = self.killing_state;
                self.on_container(&container, |runner, actions| {
                    runner.launched(now, status, killing_state, actions);
                });
            }
            HostedInput::LaunchFailed(container, reason, message) => {
                self.on_container(&container, |runner, actions| {
                    runner.launch_failed(reason, message, actions);
                });
            }
            HostedInput::Ended(container, termination) => {
                self.on_container(&container, |runner, actions| {
                    runner.ended(&termination, actions);
                });
            }
            HostedInput::Health {
                task,
                healthy,
                kill,
            } => {
                let killing_state = self.killing_state;
                self.on_task(&task, |runner, actions| {
                    runner.health(now, healthy, kill, killing_state, actions);
                });
            }
            HostedInput::Check(task, status) => {
                self.on_task(&task, |runner, actions| runner.checked(status, actions));
            }
        }
        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Time) {
        let killing_state = self.killing_state;
        for runner in self.runners.values_mut() {
            runner.tick(now, killing_state, &mut self.actions);
        }
        self.settle(now);
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<HostedAction> {
        self.actions.pop_front()
    }

    /// When [`tick`](Self::tick) is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.runners
            .values()
            .map(Runner::next_deadline)
            .fold(None, earliest)
    }

    fn launch(&mut self, group: u64, tasks: Vec<(TaskInfo, ContainerId)>) {
        self.ends_when_idle = true;
        for (task, container) in tasks {
            let id = task.task_id.clone();
            if self.runners.contains_key(&id) {
                continue;
            }
            self.groups.insert(id.clone(), group);
            let runner = Runner::launch(task, container, self.grace, &mut self.actions);
            self.runners.insert(id, runner);
        }
    }

    fn kill(&mut self, now: Time, task: &TaskId, policy: Option<&KillPolicy>) {
        let killing_state = self.killing_state;
        self.on_task(task, |runner, actions| {
            runner.kill(now, policy, killing_state, actions);
        });
    }

    fn shutdown(&mut self, now: Time) {
        self.ends_when_idle = true;
        let tasks: Vec<_> = self.runners.keys().cloned().collect();
        for task in tasks {
            self.kill(now, &task, None);
        }
    }

    /// Ends the group of a task that failed or was killed, and the executor after its last task.
    fn settle(&mut self, now: Time) {
        loop {
            let ended: Vec<_> = self
                .runners
                .iter()
                .filter_map(|(id, runner)| Some((id.clone(), runner.outcome()?)))
                .collect();
            if ended.is_empty() {
                break;
            }
            for (id, outcome) in ended {
                self.runners.remove(&id);
                let group = self.groups.remove(&id);
                if outcome != TaskState::TaskFinished {
                    self.kill_group(now, group);
                }
            }
        }
        if self.runners.is_empty() && self.ends_when_idle && !self.exited {
            self.exited = true;
            self.actions.push_back(HostedAction::Exit);
        }
    }

    fn kill_group(&mut self, now: Time, group: Option<u64>) {
        let members: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, other)| Some(**other) == group)
            .map(|(id, _)| id.clone())
            .collect();
        for member in members {
            self.kill(now, &member, None);
        }
    }

    fn on_task(
        &mut self,
        task: &TaskId,
        act: impl FnOnce(&mut Runner, &mut VecDeque<HostedAction>),
    ) {
        if let Some(runner) = self.runners.get_mut(task) {
            act(runner, &mut self.actions);
        }
    }

    fn on_container(
        &mut self,
        container: &ContainerId,
        act: impl FnOnce(&mut Runner, &mut VecDeque<HostedAction>),
    ) {
        let mut runners = self.runners.values_mut();
        if let Some(runner) = runners.find(|runner| runner.container() == container) {
            act(runner, &mut self.actions);
        }
    }
}
