//! What the agent remembers of frameworks, executors and tasks.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;

use dcos_core::time::{Time, earliest};
use dcos_proto::mesos::framework_info::capability;
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{
    ContainerId, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo, Resource, Task, TaskId,
    TaskInfo, TaskState, TaskStatus,
};

use super::sandboxes::Sandbox;
use crate::checkpoint::{Run, paths};
use crate::containerizer::ContainerTermination;
use crate::executor::{Hosted, HostedKind};
use dcos_core::states::is_terminal;

/// How many ended tasks of an executor are remembered.
pub(crate) const MAX_COMPLETED_TASKS: usize = 200;

/// An executor's name: its id is unique within its framework only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorKey {
    /// Whose.
    pub framework: FrameworkId,
    /// Which.
    pub executor: ExecutorId,
}

impl fmt::Display for ExecutorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of framework {}", self.executor, self.framework)
    }
}

/// Where an executor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorState {
    /// Its container was launched, or is being launched; it has not said a word.
    Registering,
    /// It takes tasks.
    Running,
    /// It was told to end.
    Terminating,
    /// Its container ended; some of its updates are not acknowledged.
    Terminated,
}

#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) info: FrameworkInfo,
    /// Where its scheduler listens; none for those on the HTTP API.
    pub(crate) pid: Option<String>,
    pub(crate) terminating: bool,
    pub(crate) executors: BTreeMap<ExecutorId, Executor>,
    pub(crate) completed: VecDeque<Executor>,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says something else, and all combinations happen"
)]
pub(crate) struct Executor {
    pub(crate) info: ExecutorInfo,
    pub(crate) container: ContainerId,
    pub(crate) directory: PathBuf,
    pub(crate) checkpoint: bool,
    pub(crate) state: ExecutorState,
    /// The built-in executor that the agent hosts; none for a custom one.
    pub(crate) hosted: Option<Hosted>,
    /// Where an executor on the libmesos driver listens, to this agent or an earlier one.
    pub(crate) pid: Option<String>,
    /// Whether an original Mesos agent, whose place this one took, made it for a command task.
    pub(crate) generated: bool,
    /// Whether a custom executor's stream is open.
    pub(crate) connected: bool,
    /// The number of the next group of tasks.
    pub(crate) next_group: u64,
    /// Tasks, and groups of tasks, that wait for the executor to register.
    pub(crate) queued: VecDeque<Vec<TaskId>>,
    /// Every task that is queued, running, or ended with updates not acknowledged.
    pub(crate) tasks: BTreeMap<TaskId, TaskRecord>,
    pub(crate) completed: VecDeque<TaskRecord>,
    /// When patience ends, for what the state waits for.
    pub(crate) deadline: Option<Time>,
    /// Why the agent destroys the container, told to its tasks in place of how it ended.
    pub(crate) verdict: Option<Verdict>,
    /// Whether the container was asked to end.
    pub(crate) destroying: bool,
}

/// What the tasks of an executor that the agent ends are told.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) state: TaskState,
    pub(crate) termination: ContainerTermination,
}

#[derive(Debug, Clone)]
pub(crate) struct TaskRecord {
    pub(crate) info: TaskInfo,
    /// Where it runs, if in a container of its own.
    pub(crate) container: Option<ContainerId>,
    pub(crate) group: u64,
    /// Whether the executor was given it.
    pub(crate) delivered: bool,
    pub(crate) statuses: Vec<TaskStatus>,
    /// State and uuid of the update that was sent last.
    pub(crate) sent: Option<(i32, Vec<u8>)>,
}

impl Framework {
    pub(crate) fn new(info: FrameworkInfo, pid: Option<String>) -> Self {
        Self {
            info,
            pid,
            terminating: false,
            executors: BTreeMap::new(),
            completed: VecDeque::new(),
        }
    }

    pub(crate) fn id(&self) -> FrameworkId {
        self.info.id.clone().unwrap_or_default()
    }

    pub(crate) fn can(&self, wanted: capability::Type) -> bool {
        let mut all = self.info.capabilities.iter();
        all.any(|capability| capability.r#type() == wanted)
    }
}

/// What a task is called that never reached its executor.
pub(crate) fn dropped_state(info: &FrameworkInfo) -> TaskState {
    let mut all = info.capabilities.iter();
    if all.any(|capability| capability.r#type() == capability::Type::PartitionAware) {
        TaskState::TaskDropped
    } else {
        TaskState::TaskLost
    }
}

impl Executor {
    pub(crate) fn new(info: ExecutorInfo, container: ContainerId, directory: PathBuf) -> Self {
        Self {
            info,
            container,
            directory,
            checkpoint: false,
            state: ExecutorState::Registering,
            hosted: None,
            pid: None,
            generated: false,
            connected: false,
            next_group: 0,
            queued: VecDeque::new(),
            tasks: BTreeMap::new(),
            completed: VecDeque::new(),
            deadline: None,
            verdict: None,
            destroying: false,
        }
    }

    pub(crate) fn key(&self) -> ExecutorKey {
        ExecutorKey {
            framework: self.info.framework_id.clone().unwrap_or_default(),
            executor: self.info.executor_id.clone(),
        }
    }

    pub(crate) fn run(&self) -> Run {
        let key = self.key();
        Run {
            framework: key.framework,
            executor: key.executor,
            container: self.container.clone(),
        }
    }

    pub(crate) fn hosts(&self, kind: HostedKind) -> bool {
        self.hosted
            .as_ref()
            .is_some_and(|hosted| hosted.kind() == kind)
    }

    /// Whether an agent made it for a command task, so that nobody else knows of it.
    pub(crate) fn is_for_command(&self) -> bool {
        self.generated || self.hosts(HostedKind::Command)
    }

    /// When it is to be looked at again.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let hosted = self.hosted.as_ref().and_then(Hosted::next_deadline);
        earliest(self.deadline, hosted)
    }

    /// What it and its tasks that have not ended may use.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let live = self.tasks.values().filter(|task| !task.is_terminal());
        let tasks = live.flat_map(|task| &task.info.resources);
        // A command task's executor is the task.
        let own = if self.hosts(HostedKind::Command) {
            &[]
        } else {
            &self.info.resources[..]
        };
        own.iter().chain(tasks).cloned().collect()
    }

    /// What its tasks may burst to: the sum by name, where each task sets a limit.
    pub(crate) fn limits(&self) -> BTreeMap<String, Scalar> {
        let live = || self.tasks.values().filter(|task| !task.is_terminal());
        let mut limits = BTreeMap::<String, Scalar>::new();
        for (name, limit) in live().flat_map(|task| &task.info.limits) {
            if live().all(|task| task.info.limits.contains_key(name)) {
                limits.entry(name.clone()).or_default().value += limit.value;
            }
        }
        limits
    }

    /// What people may look into.
    pub(crate) fn sandbox(&self) -> Sandbox {
        let tasks = self.tasks.values().filter_map(|task| {
            let container = task.container.as_ref().filter(|id| id.parent.is_some())?;
            let directory = paths::nested_sandbox(&self.directory, container);
            Some((task.info.task_id.value.clone(), directory))
        });
        Sandbox {
            key: self.key(),
            run: self.container.value.clone(),
            directory: self.directory.clone(),
            tasks: tasks.collect(),
        }
    }

    /// Whether it ended and its scheduler knows of it all.
    pub(crate) fn is_done(&self) -> bool {
        self.state == ExecutorState::Terminated && self.tasks.is_empty()
    }

    /// Moves a task whose last update was acknowledged to the completed ones.
    pub(crate) fn complete(&mut self, task: &TaskId) {
        if let Some(record) = self.tasks.remove(task) {
            self.completed.push_back(record);
            if self.completed.len() > MAX_COMPLETED_TASKS {
                self.completed.pop_front();
            }
        }
    }

    /// Takes a queued task back; the rest of its group with it.
    pub(crate) fn take_queued(&mut self, task: &TaskId) -> Option<Vec<TaskId>> {
        let at = self.queued.iter().position(|group| group.contains(task))?;
        self.queued.remove(at)
    }
}

impl TaskRecord {
    pub(crate) fn new(info: TaskInfo) -> Self {
        Self {
            info,
            container: None,
            group: 0,
            delivered: false,
            statuses: Vec::new(),
            sent: None,
        }
    }

    pub(crate) fn state(&self) -> TaskState {
        let last = self.statuses.last();
        last.map_or(TaskState::TaskStaging, TaskStatus::state)
    }

    pub(crate) fn is_terminal(&self) -> bool {
        is_terminal(self.state())
    }

    /// Notes a status; a run of updates of one state keeps its last only.
    pub(crate) fn note(&mut self, status: TaskStatus) {
        let mut status = status;
        // What only the scheduler reads is kept by the update, not by every listing.
        status.data = None;
        if let Some(last) = self.statuses.last_mut()
            && last.state == status.state
        {
            *last = status;
        } else {
            self.statuses.push(status);
        }
    }

    /// As the master and the operator know it.
    pub(crate) fn to_task(&self, executor: &Executor) -> Task {
        let key = executor.key();
        let info = &self.info;
        Task {
            name: info.name.clone(),
            task_id: info.task_id.clone(),
            framework_id: key.framework,
            // Those that the agent made for a command are nobody's business.
            executor_id: (!executor.is_for_command()).then_some(key.executor),
            agent_id: info.agent_id.clone(),
            state: self.state().into(),
            resources: info.resources.clone(),
            statuses: self.statuses.clone(),
            status_update_state: self.sent.as_ref().map(|(state, _)| *state),
            status_update_uuid: self.sent.as_ref().map(|(_, uuid)| uuid.clone()),
            labels: info.labels.clone(),
            discovery: info.discovery.clone().map(Box::new),
            container: info.container.clone().map(Box::new),
            user: user_of(info, executor),
            health_check: info.health_check.clone().map(Box::new),
            kill_policy: info.kill_policy,
            limits: info.limits.clone(),
        }
    }
}

fn user_of(task: &TaskInfo, executor: &Executor) -> Option<String> {
    let command = task.command.as_ref().or(executor.info.command.as_ref())?;
    command.user.clone()
}

impl ExecutorState {
    /// Whether its container has ended.
    pub fn is_over(self) -> bool {
        self == Self::Terminated
    }
}
