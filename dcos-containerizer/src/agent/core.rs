//! The outer shape of the agent's state machine.

use std::collections::{BTreeMap, VecDeque};

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::{Time, earliest};
use dcos_proto::executor::{self, Event};
use dcos_proto::mesos::{
    AgentId, AgentInfo, ContainerId, DrainConfig, ExecutorInfo, FrameworkId, FrameworkInfo, Task,
    TaskId,
};

use super::authentication::Authentication;
use super::containers::Home;
use super::counters::Counters;
use super::deadlines::Deadlines;
use super::gc::Gc;
use super::operations::Operations;
use super::records::{Executor, ExecutorKey, ExecutorState, Framework};
use super::registration::Registration;
use super::updates::Updates;
use super::words::{Action, FromMaster, Input, Settings, ToMaster};
use crate::checkpoint::Write;

/// How many frameworks without executors are remembered.
const MAX_COMPLETED_FRAMEWORKS: usize = 50;

/// The agent as a pure state machine.
///
/// Made by [`Agent::recover`], on an empty disk too. Then: [`handle`](Self::handle) what happens,
/// and [`tick`](Self::tick) at [`next_deadline`](Self::next_deadline); after either, carry out
/// what [`poll`](Self::poll) returns, in order, until there is nothing left.
///
/// An [`Action::Write`] has to be on stable storage before any action that follows it: an update
/// is sent, acknowledged, a container launched, only after it is written down.
#[derive(Debug)]
pub struct Agent {
    pub(super) settings: Settings,
    pub(super) uuids: Seed,
    pub(super) jitter: Seed,
    pub(super) info: AgentInfo,
    pub(super) operations: Operations,
    pub(super) drain: Option<(DrainConfig, Time)>,
    pub(super) registration: Registration,
    pub(super) authentication: Authentication,
    /// While custom executors of an earlier agent may still come back.
    pub(super) reconnecting_until: Option<Time>,
    /// When executors that have not come back are called once more.
    pub(super) call_again: Option<Time>,
    pub(super) terminating: Option<String>,
    pub(super) frameworks: BTreeMap<FrameworkId, Framework>,
    pub(super) completed: VecDeque<Framework>,
    pub(super) by_container: BTreeMap<String, ExecutorKey>,
    pub(super) deadlines: Deadlines,
    pub(super) updates: Updates,
    /// Tasks that were told not to be here, and when: a launch that comes late is for nobody.
    pub(super) missed: BTreeMap<(FrameworkId, TaskId), Time>,
    /// Since when drivers are counted that are not heard, and how many were.
    pub(super) refusals: (Time, u32),
    /// What is in use, once it was counted, and unless more changed than one executor.
    pub(super) used: Option<Resources>,
    pub(super) gc: Gc,
    /// What can be lent as revocable, lent already or not, as the estimator last said.
    pub(super) oversubscribed: Option<Resources>,
    pub(super) counters: Counters,
    pub(super) actions: VecDeque<Action>,
}

impl Agent {
    /// Takes in what happened at `now`.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Detected(master) => self.detected(now, master),
            Input::Disconnected(peer) => self.disconnected(now, &peer),
            Input::Message { from, message } => self.message(now, from, message),
            Input::Subscribe(key, subscribe) => self.subscribe(now, &key, subscribe, None),
            Input::Driver { from, message } => self.driver(now, from, message),
            Input::Unsubscribed(key) => self.unsubscribed(&key),
            Input::Update(key, status) => self.executor_update(now, &key, status),
            Input::ExecutorMessage(key, data) => self.executor_message(key, data),
            Input::Launched(container, status) => self.launched(now, &container, status),
            Input::LaunchFailed(container, reason, message) => {
                self.launch_failed(now, &container, reason, message);
            }
            Input::Ended(container, termination) => self.ended(now, &container, termination),
            Input::Health {
                container,
                task,
                healthy,
                kill,
            } => {
                self.health(now, &container, task, healthy, kill);
            }
            Input::Check(container, task, status) => self.check(now, &container, task, status),
            Input::Volumes(operation, outcome) => {
                self.volumes_changed(now, operation.as_deref(), outcome);
            }
            Input::DiskUsage(usage) => self.gc.disk_usage(usage),
            Input::Deleted { done, failed } => {
                self.counters.removals_succeeded += done.len() as u64;
                self.counters.removals_failed += failed;
                for run in done.into_iter().filter_map(|remains| remains.run) {
                    self.write(Write::Deleted(run));
                }
            }
            Input::DestroyFailed => self.counters.container_destroy_errors += 1,
            Input::Oversubscribable(more) => self.oversubscribable(&more),
            Input::Correct(correction) => self.correct(correction),
            Input::Unregister => self.unregister(now),
        }
        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Time) {
        self.registration_due(now);
        self.reconnection_due(now);
        self.executors_due(now);
        self.settle(now);
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`tick`](Self::tick) is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        let all = [
            self.next_executor_deadline(),
            self.registration.next_deadline(),
            self.reconnecting_until,
            self.call_again,
            self.updates.next_deadline(),
            self.operations.next_deadline(),
            self.gc.next_deadline(),
        ];
        all.into_iter().fold(None, earliest)
    }

    /// Who it is: with an id once it has registered.
    pub fn info(&self) -> &AgentInfo {
        &self.info
    }

    /// Its id, once it has registered for the first time.
    pub fn id(&self) -> Option<&AgentId> {
        self.info.id.as_ref()
    }

    /// The master it is registered with.
    pub fn master(&self) -> Option<&str> {
        self.registration.registered_with()
    }

    /// Whether custom executors of an earlier agent are still waited for.
    pub fn is_recovering(&self) -> bool {
        self.reconnecting_until.is_some()
    }

    /// Whether it runs anything for a framework.
    pub fn has_framework(&self, framework: &FrameworkId) -> bool {
        self.frameworks.contains_key(framework)
    }

    /// Where an executor is in its life, whether its stream is open, whether the agent hosts it.
    pub fn executor_standing(&self, key: &ExecutorKey) -> Option<(ExecutorState, bool, bool)> {
        let executor = self.executor(key)?;
        Some((
            executor.state,
            executor.connected,
            executor.hosted.is_some(),
        ))
    }

    /// What a container nested in an executor's inherits.
    pub(super) fn host_of(&self, root: &ContainerId) -> Option<Home> {
        let executor = self.executor(self.by_container.get(&root.value)?)?;
        let config = self.executor_container(executor);
        Some((executor.directory.clone(), config.environment, config.user))
    }

    /// The container of an executor that has not been forgotten.
    pub(super) fn container_of(&self, key: &ExecutorKey) -> Option<ContainerId> {
        Some(self.executor(key)?.container.clone())
    }

    /// Whose executor a root container is, and whose framework's.
    pub(super) fn owner_of(&self, root: &ContainerId) -> Option<(ExecutorInfo, FrameworkInfo)> {
        let key = self.by_container.get(&root.value)?;
        let framework = self.frameworks.get(&key.framework)?;
        let executor = framework.executors.get(&key.executor)?;
        Some((executor.info.clone(), framework.info.clone()))
    }

    /// Whether a root container is a custom executor's, which may launch what is nested in it.
    pub(super) fn is_custom(&self, root: &ContainerId) -> bool {
        let key = self.by_container.get(&root.value);
        let executor = key.and_then(|key| self.executor(key));
        executor.is_some_and(|executor| executor.hosted.is_none())
    }

    /// Whether a container is an executor's or a task's.
    pub(super) fn owns(&self, container: &ContainerId) -> bool {
        let executor = self.by_container.get(&container.root_id().value);
        executor
            .and_then(|key| self.executor(key))
            .is_some_and(|executor| {
                let mut tasks = executor.tasks.values();
                executor.container == *container
                    || tasks.any(|task| task.container.as_ref() == Some(container))
            })
    }

    /// Every container of an executor or task that has not been forgotten.
    pub fn has_container(&self, container: &ContainerId) -> bool {
        self.by_container.contains_key(&container.root_id().value)
    }

    /// Takes in what a master says. One that was deposed and does not know it yet is not obeyed:
    /// its successor could not know what came of it.
    fn message(&mut self, now: Time, from: String, message: FromMaster) {
        let is_order = !matches!(
            message,
            // Pings come from another part of the master, messages to executors from drivers too;
            // an original has a process of its own for each authentication.
            FromMaster::Ping(_)
                | FromMaster::ToExecutor(_)
                | FromMaster::Mechanisms(_)
                | FromMaster::Step(_)
                | FromMaster::Completed(_)
                | FromMaster::Failed(_)
                | FromMaster::Error(_)
        );
        if is_order && self.registration.master() != Some(&*from) {
            return;
        }
        // The answer that names it was lost, and what followed was not: nothing of it could be
        // reported. The master asks what is here as soon as it sees that the answer was lost.
        let is_nameless = self.info.id.is_none();
        let concerns_anybody = matches!(
            message,
            FromMaster::Registered(_) | FromMaster::Reregistered(_) | FromMaster::Shutdown(_)
        );
        if is_order && is_nameless && !concerns_anybody {
            return;
        }
        match message {
            FromMaster::Mechanisms(message) => {
                self.authentication_mechanisms(from, &message.mechanisms);
            }
            FromMaster::Step(message) => self.authentication_step(from, &message.data),
            FromMaster::Completed(_) => self.authentication_completed(now, &from),
            FromMaster::Failed(_) => self.authentication_failed(&from),
            // The next try comes when its time has come.
            FromMaster::Error(_) => {}
            FromMaster::Registered(message) => self.registered(now, &from, message),
            FromMaster::Reregistered(message) => self.reregistered(now, &from, message),
            FromMaster::Ping(ping) => self.ping(now, from, ping.connected),
            FromMaster::RunTask(message) => self.run_task(now, message),
            FromMaster::RunTaskGroup(message) => self.run_task_group(now, message),
            FromMaster::KillTask(message) => {
                let policy = message.kill_policy.as_ref();
                self.kill_task(now, &message.framework_id, &message.task_id, policy);
            }
            FromMaster::ShutdownFramework(message) => {
                self.shutdown_framework(now, &message.framework_id);
            }
            FromMaster::ShutdownExecutor(message) => {
                if let (Some(framework), Some(executor)) =
                    (message.framework_id, message.executor_id)
                {
                    self.shutdown_executor(
                        now,
                        &ExecutorKey {
                            framework,
                            executor,
                        },
                    );
                }
            }
            FromMaster::ToExecutor(message) => self.forward_to_executor(message),
            FromMaster::UpdateFramework(message) => self.update_framework(message),
            FromMaster::CheckpointResources(message) => self.checkpoint_resources(message),
            FromMaster::ApplyOperation(message) => self.apply_operation(now, message),
            FromMaster::AcknowledgeOperation(message) => self.operation_acknowledged(&message),
            FromMaster::ReconcileOperations(message) => self.reconcile_operations(message),
            FromMaster::Acknowledge(message) => self.acknowledge(now, &message),
            FromMaster::Drain(message) => self.start_drain(now, message.config),
            FromMaster::Shutdown(message) => {
                let reason = message.message.unwrap_or_default();
                self.shutdown(now, &format!("the master asked for it: {reason}"));
            }
        }
    }

    /// After each input: forget what is done with, send what is due, delete what is old.
    fn settle(&mut self, now: Time) {
        self.conclude_drain();
        while let Some(update) = self.updates.poll(now) {
            self.forward(update);
        }
        while let Some(update) = self.operations.poll(now) {
            self.send_master(update);
        }
        if let Some(remains) = self.gc.poll(now) {
            self.act(Action::Delete(remains));
        }
        self.note_deadlines();
        if let Some(reason) = &self.terminating
            && self.executors().all(|executor| executor.state.is_over())
        {
            let reason = reason.clone();
            self.terminating = None;
            if let (Some(master), Some(id)) = (self.master().map(ToOwned::to_owned), self.id()) {
                let message = dcos_proto::internal::UnregisterSlaveMessage {
                    agent_id: id.clone(),
                };
                self.send(master, message);
            }
            self.act(Action::Stop {
                reason,
                fresh: true,
            });
        }
    }

    /// Ends every task, then this agent's registration, then the process.
    pub(super) fn shutdown(&mut self, now: Time, reason: &str) {
        self.terminating = Some(reason.to_owned());
        let frameworks: Vec<_> = self.frameworks.keys().cloned().collect();
        for framework in frameworks {
            self.shutdown_framework(now, &framework);
        }
    }

    fn unregister(&mut self, now: Time) {
        self.shutdown(now, "an operator asked for it");
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Lets people look into an executor's sandbox, and those of its tasks.
    pub(super) fn show(&mut self, key: &ExecutorKey) {
        if let Some(sandbox) = self.executor(key).map(Executor::sandbox) {
            self.act(Action::Show(sandbox));
        }
    }

    pub(super) fn write(&mut self, write: Write) {
        self.act(Action::Write(Box::new(write)));
    }

    pub(super) fn send(&mut self, to: String, message: impl Into<ToMaster>) {
        self.act(Action::Send(to, Box::new(message.into())));
    }

    /// Sends to the master if there is one it is registered with.
    pub(super) fn send_master(&mut self, message: impl Into<ToMaster>) {
        if let Some(master) = self.registration.registered_with() {
            let master = master.to_owned();
            self.send(master, message);
        }
    }

    pub(super) fn event(&mut self, key: &ExecutorKey, event: Event) {
        self.act(Action::Event(key.clone(), Box::new(event)));
    }

    pub(super) fn executors(&self) -> impl Iterator<Item = &Executor> {
        self.frameworks
            .values()
            .flat_map(|framework| framework.executors.values())
    }

    pub(super) fn executor(&self, key: &ExecutorKey) -> Option<&Executor> {
        self.frameworks
            .get(&key.framework)?
            .executors
            .get(&key.executor)
    }

    /// An executor to change.
    pub(super) fn executor_mut(&mut self, key: &ExecutorKey) -> Option<&mut Executor> {
        self.deadlines.touch(key);
        self.frameworks
            .get_mut(&key.framework)?
            .executors
            .get_mut(&key.executor)
    }

    /// The executor that runs (or is given) a task.
    pub(super) fn executor_of(
        &self,
        framework: &FrameworkId,
        task: &TaskId,
    ) -> Option<ExecutorKey> {
        let executors = &self.frameworks.get(framework)?.executors;
        let has_it = |executor: &&Executor| executor.tasks.contains_key(task);
        // A command task's executor has its name.
        let namesake = executors.get(&task.as_str().into()).filter(has_it);
        let executor = namesake.or_else(|| executors.values().find(has_it))?;
        Some(executor.key())
    }

    /// Every task that has not been forgotten.
    pub fn tasks(&self) -> impl Iterator<Item = Task> {
        self.executors().flat_map(|executor| {
            let records = executor.tasks.values();
            records.map(|record| record.to_task(executor))
        })
    }

    pub(super) fn remember_framework(&mut self, framework: Framework) {
        self.completed.push_back(framework);
        if self.completed.len() > MAX_COMPLETED_FRAMEWORKS {
            self.completed.pop_front();
        }
    }
}

/// An event of `kind` without contents.
pub(super) fn event(kind: executor::event::Type) -> Event {
    Event {
        r#type: Some(kind.into()),
        ..Event::default()
    }
}
