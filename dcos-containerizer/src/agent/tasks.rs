//! Tasks and groups on their way from the master to an executor, and kills on theirs.
//!
//! Source: Mesos 1.11 `Slave::runTask`, `runTaskGroup`, `__run`, `killTask`. What the original
//! spreads over five asynchronous steps happens at once here: there is no pending task.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::ids;
use dcos_core::resources::display::Shown;
use dcos_core::resources::{Resources, scalar_resource};
use dcos_core::time::Time;
use dcos_proto::executor::event;
use dcos_proto::internal::{
    ExitedExecutorMessage, FrameworkToExecutorMessage, ResourceVersionUuid, RunTaskGroupMessage,
    RunTaskMessage, UpdateFrameworkMessage,
};
use dcos_proto::mesos::executor_info::Type;
use dcos_proto::mesos::framework_info::capability;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    Environment, ExecutorInfo, FrameworkId, FrameworkInfo, KillPolicy, Resource, TaskGroupInfo,
    TaskId, TaskInfo, TaskState,
};
use dcos_security::{Action, Object, Principal};

use super::core::{Agent, event};
use super::records::{Executor, ExecutorKey, ExecutorState, Framework, TaskRecord, dropped_state};
use super::status::Told;
use crate::checkpoint::{TaskCheckpoint, Write};
use crate::executor::{HostedInput, HostedKind};

/// After this long no launch is under way any more that was sent on a connection of before.
const LATE_LAUNCHES: Duration = Duration::from_mins(1);

/// What the master wants run: one task, or a group that ends together.
struct Order {
    framework: FrameworkInfo,
    pid: Option<String>,
    executor: ExecutorInfo,
    kind: Option<HostedKind>,
    tasks: Vec<TaskInfo>,
    /// Whether the master believes that the executor is new.
    launch_executor: Option<bool>,
    /// Whether the master decided it for what an earlier agent had.
    outdated: bool,
    /// Whether the tasks are a group.
    group: bool,
}

impl Agent {
    pub(super) fn run_task(&mut self, now: Time, message: RunTaskMessage) {
        let RunTaskMessage {
            framework,
            pid,
            task,
            launch_executor,
            resource_version_uuids,
            framework_id: _,
        } = message;
        let outdated = self.is_outdated(&resource_version_uuids);
        let (executor, kind) = match task.executor.clone() {
            None => (
                command_executor(&framework, &task),
                Some(HostedKind::Command),
            ),
            Some(executor) => {
                let kind = hosted_kind(&executor);
                (executor, kind)
            }
        };
        let pid = pid.filter(|pid| !pid.is_empty());
        let tasks = vec![task];
        self.run(
            now,
            Order {
                framework,
                pid,
                executor,
                kind,
                tasks,
                launch_executor,
                outdated,
                group: false,
            },
        );
    }

    /// Whether a launch was decided before this agent started: what it relies on may not be here.
    fn is_outdated(&self, versions: &[ResourceVersionUuid]) -> bool {
        versions.iter().any(|version| {
            version.resource_provider_id.is_none() && version.uuid != self.operations.version
        })
    }

    pub(super) fn run_task_group(&mut self, now: Time, message: RunTaskGroupMessage) {
        let RunTaskGroupMessage {
            framework,
            executor,
            task_group,
            launch_executor,
            resource_version_uuids,
        } = message;
        let outdated = self.is_outdated(&resource_version_uuids);
        let kind = hosted_kind(&executor);
        let tasks = task_group.tasks;
        self.run(
            now,
            Order {
                framework,
                pid: None,
                executor,
                kind,
                tasks,
                launch_executor,
                outdated,
                group: true,
            },
        );
    }

    fn run(&mut self, now: Time, mut order: Order) {
        let Some(framework) = order.framework.id.clone() else {
            return;
        };
        let is_ours = |task: &TaskInfo| Some(&task.agent_id) == self.info.id.as_ref();
        if !order.tasks.iter().all(is_ours) {
            // It was meant for one that was here before.
            return;
        }
        order.executor.framework_id = Some(framework.clone());
        let key = ExecutorKey {
            framework,
            executor: order.executor.executor_id.clone(),
        };
        let has = |executor: &Executor| {
            let mut tasks = order.tasks.iter();
            tasks.any(|task| executor.tasks.contains_key(&task.task_id))
        };
        if self.executor(&key).is_some_and(has) {
            // A copy: what came first is carried out, and what it led to is told until it is acknowledged.
            return;
        }
        self.forget_missed(now);
        self.count_used();
        if let Some((state, reason, message)) = self.refusal(&key, &order) {
            self.refuse(now, &order, state, reason, &message);
            return;
        }
        self.learn_framework(&order);
        self.decorate(&mut order);
        let is_new = self.executor(&key).is_none();
        self.used = self.used.take().map(|mut used| {
            used += &charged(&order, is_new);
            used
        });
        if is_new {
            self.add_executor(now, &key, &order);
        }
        self.queue(&key, order.tasks);
        self.show(&key);
        if is_new {
            self.launch_executor(now, &key);
        } else {
            self.resize(&key);
            self.link_volumes(&key);
            self.deliver(now, &key);
        }
    }

    /// A task was told not to be here: its launch, if that is still on its way, is for nobody.
    pub(super) fn miss(&mut self, now: Time, framework: &FrameworkId, task: &TaskId) {
        self.forget_missed(now);
        self.missed.insert((framework.clone(), task.clone()), now);
    }

    fn forget_missed(&mut self, now: Time) {
        self.missed
            .retain(|_, since| now.since(*since) < LATE_LAUNCHES);
    }

    /// Gives tasks the labels that hooks want.
    fn decorate(&self, order: &mut Order) {
        for task in &mut order.tasks {
            let hooks = &self.settings.hooks;
            hooks.decorate_task(task, &order.executor, &order.framework, &self.info);
        }
    }

    /// Why an order cannot be carried out.
    fn refusal(&self, key: &ExecutorKey, order: &Order) -> Option<(TaskState, Reason, String)> {
        let dropped = dropped_state(&order.framework);
        if self.drain.is_some() {
            return Some((
                dropped,
                Reason::AgentDraining,
                "Task was received while agent was already draining".to_owned(),
            ));
        }
        if self.terminating.is_some() {
            return Some((
                dropped,
                Reason::ExecutorTerminated,
                "Agent terminating".to_owned(),
            ));
        }
        let framework = self.frameworks.get(&key.framework);
        if framework.is_some_and(|framework| framework.terminating) {
            let message = "Framework terminating".to_owned();
            return Some((dropped, Reason::ExecutorTerminated, message));
        }
        let task_ids = order.tasks.iter().map(|task| task.task_id.as_str());
        let ids = [key.framework.as_str(), key.executor.as_str()];
        if let Some(error) = ids
            .into_iter()
            .chain(task_ids)
            .find_map(|id| ids::validate(id).err())
        {
            return Some((TaskState::TaskError, Reason::TaskInvalid, error.to_string()));
        }
        if let Some(message) = self.forbidden(order) {
            let reason = if order.group {
                Reason::TaskGroupUnauthorized
            } else {
                Reason::TaskUnauthorized
            };
            return Some((TaskState::TaskError, reason, message));
        }
        let missed = |task: &TaskInfo| {
            let key = (key.framework.clone(), task.task_id.clone());
            self.missed.contains_key(&key)
        };
        if order.tasks.iter().any(missed) {
            let message = "Task came after it was told to be lost".to_owned();
            return Some((dropped, Reason::Reconciliation, message));
        }
        if order.outdated {
            let message = "Task assumes outdated resource state".to_owned();
            return Some((dropped, Reason::InvalidOffers, message));
        }
        let own = &order.executor.resources;
        let all = order.tasks.iter().flat_map(|task| &task.resources);
        if let Some(resource) = self.unknown_resource(own.iter().chain(all)) {
            let message = format!("This agent does not have {}", Shown(resource));
            return Some((dropped, Reason::ResourcesUnknown, message));
        }
        let executor = self.executor(key);
        let wanted = charged(order, executor.is_none());
        if let Some(shortage) = self.shortage(&wanted) {
            let message = format!("What is free on this agent lacks {shortage}");
            return Some((dropped, Reason::InvalidOffers, message));
        }
        let message = match (
            executor.map(|executor| executor.state),
            order.launch_executor,
        ) {
            (Some(ExecutorState::Terminating | ExecutorState::Terminated), _) => {
                "Executor terminating"
            }
            (None, Some(false)) => "No executor is expected to launch and there is no executor",
            (Some(_), Some(true)) => "Master expected a new executor, but it is running already",
            _ => return None,
        };
        Some((dropped, Reason::ExecutorTerminated, message.to_owned()))
    }

    /// Which task the framework may not run as the user it names: the master asked the same, but an agent may have
    /// rules of its own. One that is forbidden forbids its group.
    fn forbidden(&self, order: &Order) -> Option<String> {
        let principal = order.framework.principal.as_deref();
        let subject = principal.map(Principal::new);
        let authorizer = self.settings.authorizer.as_ref()?;
        let approver = authorizer.approver(subject.as_ref(), Action::RunTask);
        if approver.approves_all() {
            return None;
        }
        let mut objects = order
            .tasks
            .iter()
            .map(|task| Object::launch(task, &order.framework));
        let object = objects.find(|object| !approver.approved(object))?;
        let what = object.describe(Action::RunTask);
        let who = principal.unwrap_or_default();
        Some(format!("Principal '{who}' not authorized to {what}"))
    }

    fn refuse(
        &mut self,
        now: Time,
        order: &Order,
        state: TaskState,
        reason: Reason,
        message: &str,
    ) {
        for task in &order.tasks {
            let told = Told::by_agent(state, reason, message.to_owned());
            self.tell_of_unknown_task(now, &order.framework, &task.task_id, told);
        }
        let (Some(framework_id), Some(agent_id)) = (&order.framework.id, &self.info.id) else {
            return;
        };
        let key = ExecutorKey {
            framework: framework_id.clone(),
            executor: order.executor.executor_id.clone(),
        };
        if order.launch_executor == Some(true)
            && order.kind != Some(HostedKind::Command)
            && self.executor(&key).is_none()
        {
            // The master counts on an executor that will never be.
            let message = ExitedExecutorMessage {
                agent_id: agent_id.clone(),
                framework_id: key.framework,
                executor_id: key.executor,
                status: -1,
            };
            self.send_master(message);
        }
    }

    fn learn_framework(&mut self, order: &Order) {
        let id = order.framework.id.clone().unwrap_or_default();
        let known = self.frameworks.get(&id);
        // What is written down of a framework lasts as long as an executor of it that lives, or is kept after its end.
        let same = known.is_some_and(|known| {
            known.info == order.framework
                && (order.pid.is_none() || known.pid == order.pid)
                && known.executors.values().any(|it| !it.state.is_over())
        });
        if same {
            return;
        }
        if let Some(framework) = self.frameworks.get_mut(&id) {
            framework.info = order.framework.clone();
            framework.pid = order.pid.clone().or(framework.pid.take());
        } else {
            let framework = Framework::new(order.framework.clone(), order.pid.clone());
            self.frameworks.insert(id.clone(), framework);
        }
        self.checkpoint_framework(&id);
    }

    fn checkpoint_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else {
            return;
        };
        if framework.info.checkpoint() {
            let write = Write::Framework(framework.info.clone(), framework.pid.clone());
            self.write(write);
        }
    }

    fn add_executor(&mut self, now: Time, key: &ExecutorKey, order: &Order) {
        let container = dcos_proto::mesos::ContainerId::root(self.uuids.uuid());
        let directory = self.sandbox(key, &container);
        let mut executor = Executor::new(order.executor.clone(), container.clone(), directory);
        executor.checkpoint = order.framework.checkpoint();
        let framework = self.frameworks.get(&key.framework);
        let killing = framework.is_some_and(|f| f.can(capability::Type::TaskKillingState));
        executor.hosted = order
            .kind
            .map(|kind| self.hosted_executor(&executor, kind, killing));
        if order.kind.is_none() {
            executor.deadline = Some(now + self.settings.executor_registration_timeout);
        }
        let (run, checkpoint) = (executor.run(), executor.checkpoint);
        self.by_container.insert(container.value, key.clone());
        self.deadlines.touch(key);
        if let Some(framework) = self.frameworks.get_mut(&key.framework) {
            framework.executors.insert(key.executor.clone(), executor);
        }
        if checkpoint {
            self.write(Write::Executor(run, order.executor.clone(), order.kind));
        }
    }

    /// Notes tasks as waiting for their executor, on disk too.
    fn queue(&mut self, key: &ExecutorKey, tasks: Vec<TaskInfo>) {
        let mut uuids = self.uuids.clone();
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        let group = executor.next_group;
        executor.next_group += 1;
        let nested = executor.hosts(HostedKind::Default);
        let root = executor.container.clone();
        let mut records = Vec::new();
        for info in tasks {
            let mut record = TaskRecord::new(info);
            record.group = group;
            record.container = match (&executor.hosted, nested) {
                (None, _) => None,
                (Some(_), true) => Some(root.child(uuids.uuid())),
                (Some(_), false) => Some(root.clone()),
            };
            records.push(record);
        }
        let ids = records.iter().map(|record| record.info.task_id.clone());
        executor.queued.push_back(ids.collect());
        let run = executor.checkpoint.then(|| executor.run());
        for record in &records {
            executor
                .tasks
                .insert(record.info.task_id.clone(), record.clone());
        }
        self.uuids = uuids;
        for record in records {
            if let Some(run) = run.clone() {
                let checkpoint = TaskCheckpoint {
                    task: record.info,
                    container: record.container,
                    group: record.group,
                };
                self.write(Write::Task(run, Box::new(checkpoint)));
            }
        }
    }

    /// Hands what is queued to an executor that takes tasks.
    pub(super) fn deliver(&mut self, now: Time, key: &ExecutorKey) {
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        if executor.state != ExecutorState::Running {
            return;
        }
        let groups = std::mem::take(&mut executor.queued);
        for group in groups {
            let Some(executor) = self.executor_mut(key) else {
                return;
            };
            let mut tasks = Vec::new();
            let mut number = 0;
            for id in &group {
                if let Some(record) = executor.tasks.get_mut(id) {
                    record.delivered = true;
                    number = record.group;
                    tasks.push((record.info.clone(), record.container.clone()));
                }
            }
            if executor.hosted.is_some() {
                let tasks = tasks.into_iter();
                let placed = tasks.filter_map(|(task, container)| Some((task, container?)));
                self.hosted(now, key, HostedInput::Launch(number, placed.collect()));
            } else {
                self.deliver_remotely(key, tasks.into_iter().map(|(task, _)| task).collect());
            }
        }
    }

    fn deliver_remotely(&mut self, key: &ExecutorKey, mut tasks: Vec<TaskInfo>) {
        if tasks.len() == 1 {
            let mut launch = event(event::Type::Launch);
            launch.launch = tasks.pop().map(|task| event::Launch { task });
            self.event(key, launch);
        } else {
            let mut launch = event(event::Type::LaunchGroup);
            let task_group = TaskGroupInfo { tasks };
            launch.launch_group = Some(event::LaunchGroup { task_group });
            self.event(key, launch);
        }
    }

    pub(super) fn kill_task(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        task: &TaskId,
        policy: Option<&KillPolicy>,
    ) {
        let known = self.frameworks.get(framework);
        if known.is_some_and(|framework| framework.terminating) {
            // Its end is under way, and nobody is left to hear of it.
            return;
        }
        let Some(key) = self.executor_of(framework, task) else {
            let former = || self.completed.iter().rev().find(|it| it.id() == *framework);
            let info = known.or_else(former).map(|it| it.info.clone());
            if self.tell_end_again(now, framework, task) {
                return;
            }
            let info = info.unwrap_or_else(|| FrameworkInfo {
                id: Some(framework.clone()),
                ..FrameworkInfo::default()
            });
            let message = "Cannot find executor".to_owned();
            let told = Told::by_agent(dropped_state(&info), Reason::ExecutorTerminated, message);
            self.tell_of_unknown_task(now, &info, task, told);
            return self.miss(now, framework, task);
        };
        let queued = self
            .executor_mut(&key)
            .and_then(|executor| executor.take_queued(task));
        if let Some(group) = queued {
            return self.kill_queued(now, &key, &group);
        }
        let Some(executor) = self.executor(&key) else {
            return;
        };
        if executor.hosted.is_some() {
            let kill = HostedInput::Kill(task.clone(), policy.copied());
            self.hosted(now, &key, kill);
        } else if executor.state == ExecutorState::Running {
            let mut kill = event(event::Type::Kill);
            let kill_policy = policy.copied();
            kill.kill = Some(event::Kill {
                task_id: task.clone(),
                kill_policy,
            });
            self.event(&key, kill);
        }
    }

    /// Tasks that never reached their executor; which goes too, if it was launched for them.
    fn kill_queued(&mut self, now: Time, key: &ExecutorKey, group: &[TaskId]) {
        for task in group {
            let message = "Killed before delivery to the executor".to_owned();
            let reason = Reason::TaskKilledDuringLaunch;
            let told = Told::by_agent(TaskState::TaskKilled, reason, message);
            self.tell(now, key, task, told);
        }
        let unused = self.executor(key).is_some_and(|executor| {
            executor.state == ExecutorState::Registering
                && executor.tasks.values().all(TaskRecord::is_terminal)
        });
        if unused {
            self.shutdown_executor(now, key);
        }
    }

    pub(super) fn forward_to_executor(&mut self, message: FrameworkToExecutorMessage) {
        let key = ExecutorKey {
            framework: message.framework_id,
            executor: message.executor_id,
        };
        let listens = self.executor(&key).is_some_and(|executor| {
            executor.hosted.is_none() && executor.state == ExecutorState::Running
        });
        if listens {
            let mut forwarded = event(event::Type::Message);
            forwarded.message = Some(event::Message { data: message.data });
            self.event(&key, forwarded);
            self.counters.valid_framework_messages += 1;
        } else {
            self.counters.invalid_framework_messages += 1;
        }
    }

    pub(super) fn update_framework(&mut self, message: UpdateFrameworkMessage) {
        let Some(framework) = self.frameworks.get_mut(&message.framework_id) else {
            return;
        };
        if let Some(info) = message.framework_info {
            framework.info = info;
        }
        framework.pid = message.pid.filter(|pid| !pid.is_empty());
        self.checkpoint_framework(&message.framework_id);
    }
}

/// What an order takes, as the master counts it.
fn charged(order: &Order, is_new: bool) -> Resources {
    let counts = is_new && order.kind != Some(HostedKind::Command);
    let own = order.executor.resources.iter().filter(|_| counts);
    let tasks = order.tasks.iter().flat_map(|task| &task.resources);
    Resources::from_messages(tasks.chain(own)).unallocated()
}

fn hosted_kind(executor: &ExecutorInfo) -> Option<HostedKind> {
    (executor.r#type() == Type::Default).then_some(HostedKind::Default)
}

/// The executor that a task without one gets.
fn command_executor(framework: &FrameworkInfo, task: &TaskInfo) -> ExecutorInfo {
    let command = task.command.clone().unwrap_or_default();
    let shown = if command.shell() {
        format!("sh -c '{}'", command.value())
    } else {
        let program = std::iter::once(command.value()).filter(|value| !value.is_empty());
        let all: Vec<_> = program
            .chain(command.arguments.iter().skip(1).map(String::as_str))
            .collect();
        format!("['{}']", all.join("', '"))
    };
    let shown = match shown.char_indices().nth(75) {
        Some((end, _)) => format!("{}...", &shown[..end]),
        None => shown,
    };
    ExecutorInfo {
        executor_id: task.task_id.as_str().into(),
        framework_id: framework.id.clone(),
        name: Some(format!(
            "Command Executor (Task: {}) (Command: {shown})",
            task.task_id
        )),
        source: Some(task.task_id.value.clone()),
        command: task.command.clone(),
        container: task.container.clone(),
        resources: executor_resources(task),
        labels: task.labels.clone(),
        discovery: task.discovery.clone(),
        ..ExecutorInfo::default()
    }
}

/// What the original adds for the executor's own process: shown to operators, and nothing else,
/// since there is no such process here.
fn executor_resources(task: &TaskInfo) -> Vec<Resource> {
    let allocation = task
        .resources
        .iter()
        .find_map(|resource| resource.allocation_info.clone());
    let own = |name: &str, amount: f64| Resource {
        allocation_info: allocation.clone(),
        ..scalar_resource(name, amount)
    };
    vec![own("cpus", 0.1), own("mem", 32.0)]
}

/// What is known of each name in `variables`, later ones winning.
pub(super) fn environment_of(command: &dcos_proto::mesos::CommandInfo) -> BTreeMap<String, String> {
    variables_of(command.environment.as_ref())
}

/// The same of an environment by itself.
pub(super) fn variables_of(environment: Option<&Environment>) -> BTreeMap<String, String> {
    let variables = environment.into_iter().flat_map(|all| &all.variables);
    variables
        .filter_map(|variable| {
            let secret = variable
                .secret
                .as_ref()
                .and_then(|secret| secret.value.as_ref());
            let secret = secret.map(|value| String::from_utf8_lossy(&value.data).into_owned());
            Some((variable.name.clone(), variable.value.clone().or(secret)?))
        })
        .collect()
}
