//! An executor's life, from launch to its last acknowledged update.
//!
//! ```text
//! REGISTERING ──launched or subscribed──► RUNNING ──shutdown──► TERMINATING
//!      │                                     │                      │
//!      └──────────────── container ended ────┴──────────────────────┴──► TERMINATED ──all
//!                                                         updates acknowledged──► forgotten
//! ```
//!
//! Source: Mesos 1.11 `Slave::subscribe`, `executorTerminated`, `shutdownExecutor`,
//! `registerExecutorTimeout`, `removeExecutor`.

use dcos_core::time::Time;
use dcos_proto::executor::{call, event};
use dcos_proto::internal::ExitedExecutorMessage;
use dcos_proto::mesos::task_status::{Reason, Source};
use dcos_proto::mesos::{
    CheckStatusInfo, ContainerId, ContainerStatus, FrameworkId, TaskId, TaskInfo,
    TaskResourceLimitation, TaskState, TaskStatus,
};

use super::core::{Agent, event};
use super::gc::Remains;
use super::records::{ExecutorKey, ExecutorState, Verdict, dropped_state};
use super::status::Told;
use super::words::Action;
use crate::checkpoint::Write;
use crate::containerizer::{ContainerConfig, ContainerTermination};
use crate::executor::{Hosted, HostedAction, HostedInput, HostedKind};

impl Agent {
    /// Begins the life of an executor that has its first tasks queued.
    pub(super) fn launch_executor(&mut self, now: Time, key: &ExecutorKey) {
        let Some(executor) = self.executor(key) else {
            return;
        };
        if executor.hosts(HostedKind::Command) {
            // Its container is the task's, which the hosted executor launches itself.
            return self.starts_taking_tasks(now, key);
        }
        let config = Box::new(self.executor_container(executor));
        let container = executor.container.clone();
        self.act(Action::Launch(container, config));
    }

    fn starts_taking_tasks(&mut self, now: Time, key: &ExecutorKey) {
        if let Some(executor) = self.executor_mut(key)
            && executor.state == ExecutorState::Registering
        {
            executor.state = ExecutorState::Running;
            executor.deadline = None;
            self.deliver(now, key);
        }
    }

    /// Hands an input to a hosted executor and does what it wants.
    pub(super) fn hosted(&mut self, now: Time, key: &ExecutorKey, input: HostedInput) {
        self.with_hosted(now, key, |hosted| hosted.handle(now, input));
    }

    /// Lets a hosted executor that was recovered notice that it is done already.
    pub(super) fn hosted_wakes(&mut self, now: Time, key: &ExecutorKey) {
        self.hosted(now, key, HostedInput::Wake);
    }

    fn with_hosted(&mut self, now: Time, key: &ExecutorKey, act: impl FnOnce(&mut Hosted)) {
        if let Some(hosted) = self.executor_mut(key).and_then(|e| e.hosted.as_mut()) {
            act(hosted);
        }
        while let Some(hosted) = self.executor_mut(key).and_then(|e| e.hosted.as_mut())
            && let Some(action) = hosted.poll()
        {
            self.hosted_action(now, key, action);
        }
    }

    fn hosted_action(&mut self, now: Time, key: &ExecutorKey, action: HostedAction) {
        match action {
            HostedAction::Update(status) => {
                let task = status.task_id.clone();
                let source = self.source_of(key, &status);
                let status = *status;
                self.tell(now, key, &task, Told { status, source });
            }
            HostedAction::Launch(task, container) => {
                let Some(config) = self.task_container(key, &task, &container) else {
                    return;
                };
                self.act(Action::Launch(container, Box::new(config)));
            }
            HostedAction::StartChecks(task, container) => {
                let Some(config) = self.task_container(key, &task, &container) else {
                    return;
                };
                self.act(Action::StartChecks(container, task, Box::new(config)));
            }
            HostedAction::Signal(container, signal) => {
                self.act(Action::Signal(container, signal));
            }
            HostedAction::Destroy(container) => self.act(Action::Destroy(container)),
            HostedAction::Exit => self.hosted_exit(now, key),
        }
    }

    fn task_container(
        &self,
        key: &ExecutorKey,
        task: &TaskInfo,
        container: &ContainerId,
    ) -> Option<ContainerConfig> {
        let executor = self.executor(key)?;
        Some(if *container == executor.container {
            self.executor_container(executor)
        } else {
            self.nested_container(executor, task, container)
        })
    }

    /// In the original a command executor dies with its task's container, and the agent tells.
    fn source_of(&self, key: &ExecutorKey, status: &TaskStatus) -> Source {
        let dies = self
            .executor(key)
            .is_some_and(|e| e.hosts(HostedKind::Command));
        let told_by_agent = matches!(
            status.reason(),
            Reason::ContainerLaunchFailed
                | Reason::ContainerLimitation
                | Reason::ContainerLimitationDisk
                | Reason::ContainerLimitationMemory
                | Reason::ExecutorTerminated
        );
        if dies && status.reason.is_some() && told_by_agent {
            Source::Agent
        } else {
            Source::Executor
        }
    }

    fn hosted_exit(&mut self, now: Time, key: &ExecutorKey) {
        let Some(executor) = self.executor_mut(key).filter(|e| !e.state.is_over()) else {
            return;
        };
        if executor.hosts(HostedKind::Command) {
            return self.terminated(now, key, &ContainerTermination::exited(0));
        }
        executor.state = ExecutorState::Terminating;
        self.destroy(key);
    }

    pub(super) fn launched(&mut self, now: Time, container: &ContainerId, status: ContainerStatus) {
        let Some(key) = self.by_container.get(&container.root_id().value).cloned() else {
            return self.act(Action::Destroy(container.clone()));
        };
        let Some(executor) = self.executor(&key) else {
            return;
        };
        if executor.destroying {
            // Asked to end before it began: the first request may have come too early.
            return self.act(Action::Destroy(container.clone()));
        }
        match executor.hosted.as_ref().map(Hosted::kind) {
            Some(HostedKind::Default) if container.parent.is_none() => {
                self.starts_taking_tasks(now, &key);
            }
            Some(_) => self.hosted(now, &key, HostedInput::Launched(container.clone(), status)),
            None => {}
        }
    }

    pub(super) fn launch_failed(
        &mut self,
        now: Time,
        container: &ContainerId,
        reason: Reason,
        message: String,
    ) {
        self.counters.container_launch_errors += 1;
        let Some(key) = self.by_container.get(&container.root_id().value).cloned() else {
            return;
        };
        let is_root = container.parent.is_none();
        let command = self
            .executor(&key)
            .is_some_and(|e| e.hosts(HostedKind::Command));
        let sentenced = self
            .executor(&key)
            .is_some_and(|executor| executor.verdict.is_some());
        if is_root && (sentenced || !command) {
            let termination = ContainerTermination {
                reason: Some(reason),
                message: Some(message),
                ..ContainerTermination::default()
            };
            self.terminated(now, &key, &termination);
        } else {
            let failed = HostedInput::LaunchFailed(container.clone(), reason, message);
            self.hosted(now, &key, failed);
        }
    }

    pub(super) fn ended(
        &mut self,
        now: Time,
        container: &ContainerId,
        termination: ContainerTermination,
    ) {
        let Some(key) = self.by_container.get(&container.root_id().value).cloned() else {
            return self.act(Action::Remove(container.clone()));
        };
        let Some(executor) = self
            .executor(&key)
            .filter(|executor| !executor.state.is_over())
        else {
            return;
        };
        let is_root = container.parent.is_none();
        let sentenced = executor.verdict.is_some();
        if is_root && (sentenced || !executor.hosts(HostedKind::Command)) {
            return self.terminated(now, &key, &termination);
        }
        if sentenced {
            // Its tasks hear the verdict when the executor's own container has ended.
            return self.act(Action::Remove(container.clone()));
        }
        self.hosted(
            now,
            &key,
            HostedInput::Ended(container.clone(), termination),
        );
        if !is_root {
            self.act(Action::Remove(container.clone()));
        }
    }

    /// The executor's container ended: so did its tasks.
    fn terminated(&mut self, now: Time, key: &ExecutorKey, termination: &ContainerTermination) {
        let abandoned = self
            .frameworks
            .get(&key.framework)
            .is_some_and(|f| f.terminating);
        let held = self.held(key);
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        if executor.state.is_over() {
            return;
        }
        executor.state = ExecutorState::Terminated;
        executor.deadline = None;
        executor.connected = false;
        executor.queued.clear();
        let verdict = executor.verdict.take();
        let live = executor.tasks.values().filter(|task| !task.is_terminal());
        let live: Vec<_> = live.map(|task| task.info.task_id.clone()).collect();
        let command = executor.is_for_command();
        let hosted = executor.hosted.is_some();
        let run = executor.run();
        let (checkpoint, directory) = (executor.checkpoint, executor.directory.clone());
        self.recount(key, &held);
        self.counters.executors_terminated += 1;
        if !abandoned {
            let told = last_words(verdict.as_ref(), termination);
            for task in &live {
                self.tell(now, key, task, told.clone());
            }
        }
        if checkpoint {
            self.write(Write::Sentinel(run.clone()));
        }
        let remains = Remains {
            sandbox: directory,
            run: checkpoint.then(|| run.clone()),
        };
        self.gc.schedule(now, remains);
        self.act(Action::Remove(run.container));
        if !hosted {
            self.act(Action::Close(key.clone()));
        }
        if !command && let Some(agent_id) = self.info.id.clone() {
            self.send_master(ExitedExecutorMessage {
                agent_id,
                framework_id: key.framework.clone(),
                executor_id: key.executor.clone(),
                status: termination.status.unwrap_or(-1),
            });
        }
        self.forget_if_done(now, key);
    }

    /// Moves an executor nobody waits for to the completed ones, and its framework after the last.
    pub(super) fn forget_if_done(&mut self, _now: Time, key: &ExecutorKey) {
        let limit = self.settings.max_completed_executors_per_framework;
        let Some(framework) = self.frameworks.get_mut(&key.framework) else {
            return;
        };
        let terminating = framework.terminating;
        let done = framework
            .executors
            .get(&key.executor)
            .is_some_and(|executor| {
                executor.is_done() || (terminating && executor.state.is_over())
            });
        if !done {
            return;
        }
        self.deadlines.touch(key);
        if let Some(mut executor) = framework.executors.remove(&key.executor) {
            let left: Vec<_> = executor.tasks.keys().cloned().collect();
            for task in left {
                executor.complete(&task);
            }
            self.by_container.remove(&executor.container.value);
            let hooks = &self.settings.hooks;
            hooks.executor_removed(&framework.info, &executor.info);
            framework.completed.push_back(executor);
            if framework.completed.len() > limit {
                framework.completed.pop_front();
            }
        }
        if framework.executors.is_empty() {
            self.forget_framework(&key.framework);
        }
    }

    fn forget_framework(&mut self, id: &FrameworkId) {
        if let Some(framework) = self.frameworks.remove(id) {
            if framework.terminating {
                self.updates.forget_framework(id);
            }
            self.remember_framework(framework);
        }
    }

    pub(super) fn shutdown_framework(&mut self, now: Time, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(id) else {
            return self.updates.forget_framework(id);
        };
        framework.terminating = true;
        self.used = None;
        let executors = framework.executors.values();
        let keys: Vec<_> = executors.map(super::records::Executor::key).collect();
        for key in &keys {
            self.shutdown_executor(now, key);
            self.forget_if_done(now, key);
        }
        if keys.is_empty() {
            self.forget_framework(id);
        }
    }

    pub(super) fn shutdown_executor(&mut self, now: Time, key: &ExecutorKey) {
        let Some(executor) = self.executor(key) else {
            return;
        };
        let (state, hosted) = (executor.state, executor.hosted.is_some());
        let connected = executor.connected;
        let deadline = now + self.shutdown_grace(executor);
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        match state {
            ExecutorState::Terminating | ExecutorState::Terminated => {}
            ExecutorState::Running if hosted => {
                executor.state = ExecutorState::Terminating;
                self.hosted(now, key, HostedInput::Shutdown);
            }
            ExecutorState::Running if connected => {
                executor.state = ExecutorState::Terminating;
                executor.deadline = Some(deadline);
                self.event(key, event(event::Type::Shutdown));
            }
            // It cannot hear us.
            ExecutorState::Registering | ExecutorState::Running => {
                executor.state = ExecutorState::Terminating;
                self.destroy(key);
            }
        }
    }

    fn destroy(&mut self, key: &ExecutorKey) {
        if let Some(executor) = self.executor_mut(key)
            && !executor.destroying
        {
            executor.destroying = true;
            executor.deadline = None;
            let container = executor.container.clone();
            self.act(Action::Destroy(container));
        }
    }

    pub(super) fn subscribe(
        &mut self,
        now: Time,
        key: &ExecutorKey,
        subscribe: call::Subscribe,
        pid: Option<String>,
    ) {
        let Some(executor) = self
            .executor_mut(key)
            .filter(|executor| executor.hosted.is_none())
        else {
            self.event(key, event(event::Type::Shutdown));
            return self.act(Action::Close(key.clone()));
        };
        if matches!(
            executor.state,
            ExecutorState::Terminating | ExecutorState::Terminated
        ) {
            self.event(key, event(event::Type::Shutdown));
            return;
        }
        executor.connected = true;
        executor.deadline = None;
        executor.pid.clone_from(&pid);
        let (info, container) = (executor.info.clone(), executor.container.clone());
        let run = executor.checkpoint.then(|| executor.run());
        if let Some(run) = run {
            self.write(Write::Connected(run, pid));
        }
        let framework = self.frameworks.get(&key.framework).map(|f| f.info.clone());
        let mut subscribed = event(event::Type::Subscribed);
        subscribed.subscribed = Some(event::Subscribed {
            executor_info: info,
            framework_info: framework.unwrap_or_default(),
            agent_info: self.info.clone(),
            container_id: Some(container),
        });
        self.event(key, subscribed);
        for update in subscribe.unacknowledged_updates {
            self.executor_update(now, key, update.status);
        }
        let held = subscribe
            .unacknowledged_tasks
            .into_iter()
            .map(|task| task.task_id);
        self.drop_lost_tasks(now, key, &held.collect::<Vec<_>>());
        self.starts_taking_tasks(now, key);
        self.deliver(now, key);
        self.stop_waiting_if_all_are_back(now);
    }

    /// Tasks that were sent to an executor which, being back, does not have them.
    fn drop_lost_tasks(&mut self, now: Time, key: &ExecutorKey, held: &[TaskId]) {
        let Some(executor) = self.executor(key) else {
            return;
        };
        let lost: Vec<_> = executor
            .tasks
            .values()
            .filter(|task| task.delivered && task.state() == TaskState::TaskStaging)
            .map(|task| task.info.task_id.clone())
            .filter(|task| !held.contains(task))
            .collect();
        let info = self.frameworks.get(&key.framework).map(|f| f.info.clone());
        let state = dropped_state(&info.unwrap_or_default());
        for task in lost {
            let message = "Task launched during agent restart".to_owned();
            self.tell(
                now,
                key,
                &task,
                Told::by_agent(state, Reason::AgentRestarted, message),
            );
        }
    }

    pub(super) fn unsubscribed(&mut self, key: &ExecutorKey) {
        if let Some(executor) = self.executor_mut(key) {
            executor.connected = false;
        }
    }

    pub(super) fn executors_due(&mut self, now: Time) {
        for key in self.due_executors(now) {
            self.with_hosted(now, &key, |hosted| {
                if hosted.next_deadline().is_some_and(|at| at.is_due(now)) {
                    hosted.tick(now);
                }
            });
            let Some(executor) = self.executor_mut(&key) else {
                continue;
            };
            if !executor.deadline.is_some_and(|at| at.is_due(now)) {
                continue;
            }
            if executor.state == ExecutorState::Registering {
                let patience = self.settings.executor_registration_timeout;
                let patience = dcos_core::units::format_duration(patience);
                let message = format!("Executor did not register within {patience}");
                self.give_up(&key, Reason::ExecutorRegistrationTimeout, message);
            } else {
                self.destroy(&key);
            }
        }
    }

    /// Ends an executor for a reason its tasks are told.
    pub(super) fn give_up(&mut self, key: &ExecutorKey, reason: Reason, message: String) {
        self.sentence(
            key,
            Verdict {
                state: TaskState::TaskFailed,
                termination: ContainerTermination {
                    reason: Some(reason),
                    message: Some(message),
                    ..ContainerTermination::default()
                },
            },
        );
    }

    /// Ends an executor; what its tasks are told is decided now.
    pub(super) fn sentence(&mut self, key: &ExecutorKey, verdict: Verdict) {
        if let Some(executor) = self.executor_mut(key) {
            executor.state = ExecutorState::Terminating;
            executor.verdict = Some(verdict);
            self.destroy(key);
        }
    }

    pub(super) fn health(
        &mut self,
        now: Time,
        container: &ContainerId,
        task: TaskId,
        healthy: bool,
        kill: bool,
    ) {
        if let Some(key) = self.by_container.get(&container.root_id().value).cloned() {
            self.hosted(
                now,
                &key,
                HostedInput::Health {
                    task,
                    healthy,
                    kill,
                },
            );
        }
    }

    pub(super) fn check(
        &mut self,
        now: Time,
        container: &ContainerId,
        task: TaskId,
        status: CheckStatusInfo,
    ) {
        if let Some(key) = self.by_container.get(&container.root_id().value).cloned() {
            self.hosted(now, &key, HostedInput::Check(task, status));
        }
    }
}

/// What the tasks of an executor that ended are told.
fn last_words(verdict: Option<&Verdict>, termination: &ContainerTermination) -> Told {
    let state = verdict.map_or(TaskState::TaskFailed, |verdict| verdict.state);
    let verdict = verdict.map(|verdict| &verdict.termination);
    let reason = verdict
        .and_then(|verdict| verdict.reason)
        .or(termination.reason);
    let messages: Vec<_> = verdict
        .into_iter()
        .chain([termination])
        .filter_map(|termination| termination.message.clone())
        .collect();
    let message = if messages.is_empty() {
        "Executor terminated".to_owned()
    } else {
        messages.join("; ")
    };
    let reason = reason.unwrap_or(Reason::ExecutorTerminated);
    let mut told = Told::by_agent(state, reason, message);
    if !termination.limited.is_empty() {
        let resources = termination.limited.clone();
        told.status.limitation = Some(TaskResourceLimitation { resources });
    }
    told
}
