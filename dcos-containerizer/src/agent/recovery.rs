//! Taking up what an earlier agent left: its checkpoints, and the containers found beside them.
//!
//! Source: Mesos 1.11 `Slave::recover`, `Framework::recoverExecutor`, `reregisterExecutorTimeout`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_core::units::format_duration;
use dcos_proto::internal::{ReconnectExecutorMessage, StatusUpdateRecord, status_update_record};
use dcos_proto::mesos::framework_info::capability;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{AgentInfo, ContainerId, FrameworkId, Uuid};

use super::authentication::Authentication;
use super::core::Agent;
use super::counters::Counters;
use super::deadlines::Deadlines;
use super::gc::{Age, Gc, Remains};
use super::operations::Operations;
use super::records::{Executor, ExecutorKey, ExecutorState, Framework, TaskRecord};
use super::registration::Registration;
use super::updates::Updates;
use super::words::{Action, Settings};
use crate::checkpoint::{ExecutorCheckpoint, FrameworkCheckpoint, RunCheckpoint, State, Write};
use crate::containerizer::{ContainerTermination, Recovered};

impl Agent {
    /// The agent that goes on from `state`, which is empty on a new node.
    ///
    /// `info` describes the node as it is now; its id comes from `state`. `containers` is what the
    /// containerizer recovered: each of [`State::containers`] and what is nested in them.
    pub fn recover(
        now: Time,
        settings: Settings,
        seed: &Seed,
        info: AgentInfo,
        state: State,
        mut containers: BTreeMap<ContainerId, Recovered>,
    ) -> Self {
        let age = Age {
            delay: settings.gc_delay,
            headroom: settings.gc_disk_headroom,
        };
        let before = state.agent;
        let id = before.as_ref().and_then(|agent| agent.id.clone());
        let own = Resources::from(&info.resources);
        // Whoever starts an agent whose resources do not fit what was kept finds out before.
        let total = own
            .with_checkpointed(&Resources::from(&state.resources))
            .unwrap_or(own);
        let version = Uuid {
            value: seed.stream("resource version").uuid_bytes().to_vec(),
        };
        let operations = Operations::recover(total, version, state.operations);
        let mut agent = Self {
            authentication: Authentication::new(settings.credential.clone(), settings.patience),
            settings,
            uuids: seed.stream("uuids"),
            jitter: seed.stream("jitter"),
            info: AgentInfo {
                id,
                checkpoint: Some(true),
                ..info
            },
            operations,
            drain: state.drain.map(|config| (config, now)),
            registration: Registration::NoMaster,
            reconnecting_until: None,
            call_again: None,
            terminating: None,
            frameworks: BTreeMap::new(),
            completed: VecDeque::new(),
            by_container: BTreeMap::new(),
            deadlines: Deadlines::default(),
            updates: Updates::default(),
            missed: BTreeMap::new(),
            refusals: (Time::EPOCH, 0),
            used: None,
            gc: Gc::new(age),
            oversubscribed: None,
            counters: Counters::default(),
            actions: VecDeque::new(),
        };
        agent.updates.pause();
        agent.resume_operations(now);
        if before.is_some_and(|before| before != agent.info && before.id.is_some()) {
            // It was reconfigured; the master learns it when the agent registers again.
            agent.write(Write::Agent(agent.info.clone()));
        }
        let mut live = Vec::new();
        for (id, framework) in state.frameworks {
            live.extend(agent.recover_framework(now, &id, framework, &containers));
        }
        // Before it is seen what ended meanwhile: a drain may have ended it.
        agent.resume_drain(now);
        for key in live {
            agent.take_up(now, &key, &mut containers);
        }
        agent.wait_for_custom_executors(now);
        agent.note_deadlines();
        agent
    }

    /// Rebuilds a framework's records; returns its executors whose end is not on disk.
    fn recover_framework(
        &mut self,
        now: Time,
        id: &FrameworkId,
        checkpoint: FrameworkCheckpoint,
        containers: &BTreeMap<ContainerId, Recovered>,
    ) -> Vec<ExecutorKey> {
        let mut framework = Framework::new(checkpoint.info, checkpoint.pid);
        let mut live = Vec::new();
        for checkpoint in checkpoint.executors {
            for run in checkpoint.runs.clone() {
                let ended = run.ended;
                let executor = self.recover_executor(now, &framework, &checkpoint, run, containers);
                let key = executor.key();
                if let Some(ended) = ended {
                    self.schedule_deletion(ended, &executor);
                }
                self.act(Action::Show(executor.sandbox()));
                if executor.is_done() {
                    framework.completed.push_back(executor);
                    continue;
                }
                self.by_container
                    .insert(executor.container.value.clone(), key.clone());
                self.deadlines.touch(&key);
                if ended.is_none() {
                    live.push(key);
                }
                framework
                    .executors
                    .insert(executor.info.executor_id.clone(), executor);
            }
        }
        let excess = framework.completed.len();
        let excess = excess.saturating_sub(self.settings.max_completed_executors_per_framework);
        framework.completed.drain(..excess);
        if framework.executors.is_empty() {
            self.remember_framework(framework);
        } else {
            self.frameworks.insert(id.clone(), framework);
        }
        live
    }

    fn recover_executor(
        &mut self,
        now: Time,
        framework: &Framework,
        checkpoint: &ExecutorCheckpoint,
        run: RunCheckpoint,
        containers: &BTreeMap<ContainerId, Recovered>,
    ) -> Executor {
        let info = checkpoint.info.clone();
        let key = ExecutorKey {
            framework: framework.id(),
            executor: info.executor_id.clone(),
        };
        let directory = self.sandbox(&key, &run.container);
        let mut executor = Executor::new(info, run.container, directory);
        executor.checkpoint = true;
        executor.pid = run.pid;
        executor.generated = run.adopted.is_some_and(|adopted| adopted.generated);
        let killing = framework.can(capability::Type::TaskKillingState);
        let hosted = checkpoint.hosted;
        executor.hosted = hosted.map(|kind| self.hosted_executor(&executor, kind, killing));
        if run.ended.is_some() {
            executor.state = ExecutorState::Terminated;
        } else if executor.hosted.is_some() {
            executor.state = ExecutorState::Running;
        }
        for task in run.tasks {
            let id = task.checkpoint.task.task_id.clone();
            let mut record = TaskRecord::new(task.checkpoint.task);
            record.container = task.checkpoint.container;
            record.group = task.checkpoint.group;
            record.delivered = true;
            for update in updates_of(&task.updates) {
                record.note(update);
            }
            executor.next_group = executor.next_group.max(record.group + 1);
            let open = self.updates.recover(&key.framework, &id, &task.updates);
            let ended = record.is_terminal();
            if let (Some(hosted), Some(container)) = (&mut executor.hosted, &record.container)
                && !ended
                && (run.ended.is_none() || containers.contains_key(container))
            {
                let last = record.statuses.last();
                hosted.recover(
                    now,
                    record.info.clone(),
                    container.clone(),
                    last,
                    record.group,
                );
            }
            executor.tasks.insert(id.clone(), record);
            if ended && !open {
                executor.complete(&id);
            }
        }
        executor
    }

    /// Takes up the containers of an executor whose end is not on disk.
    fn take_up(
        &mut self,
        now: Time,
        key: &ExecutorKey,
        containers: &mut BTreeMap<ContainerId, Recovered>,
    ) {
        let Some(executor) = self.executor(key) else {
            return;
        };
        let root = executor.container.clone();
        let mut wanted = BTreeSet::from([root.clone()]);
        wanted.extend(
            executor
                .tasks
                .values()
                .filter_map(|task| task.container.clone().filter(|_| !task.is_terminal())),
        );
        let lost = || {
            let message = "the container was not found after a restart of the agent";
            Recovered::Ended(ContainerTermination::lost(message))
        };
        // Nested containers first: the end of the executor's own speaks for all that are left.
        let root_state = containers.remove(&root).unwrap_or_else(lost);
        wanted.remove(&root);
        for nested in wanted {
            match containers.remove(&nested).unwrap_or_else(lost) {
                Recovered::Running => self.act(Action::Watch(nested)),
                Recovered::Ended(termination) => self.ended(now, &nested, termination),
            }
        }
        match root_state {
            Recovered::Running => {
                self.act(Action::Watch(root));
                self.reconnect(key);
            }
            Recovered::Ended(termination) => self.ended(now, &root, termination),
        }
        // A hosted executor whose last task ended, or never began, ends as well.
        self.hosted_wakes(now, key);
    }

    /// Drivers wait to be called; those on the HTTP API come by themselves.
    fn reconnect(&mut self, key: &ExecutorKey) {
        let pid = self.executor(key).and_then(|executor| executor.pid.clone());
        if let (Some(pid), Some(agent_id)) = (pid, self.info.id.clone()) {
            self.act(Action::Reconnect(
                pid,
                ReconnectExecutorMessage { agent_id },
            ));
        }
    }

    fn wait_for_custom_executors(&mut self, now: Time) {
        let waiting = self.executors().any(Executor::is_awaited);
        if waiting {
            let patience = self.settings.executor_reregistration_timeout;
            self.reconnecting_until = Some(now + patience);
            let interval = self.settings.executor_reregistration_retry_interval;
            self.call_again = interval.map(|interval| now + interval);
        }
    }

    pub(super) fn stop_waiting_if_all_are_back(&mut self, now: Time) {
        if self.reconnecting_until.is_some() && !self.executors().any(Executor::is_awaited) {
            self.reconnecting_until = None;
            self.call_again = None;
            self.resume_drain(now);
        }
    }

    /// Ends the custom executors that did not come back.
    pub(super) fn reconnection_due(&mut self, now: Time) {
        if !self.reconnecting_until.is_some_and(|at| at.is_due(now)) {
            return self.call_awaited_again(now);
        }
        self.reconnecting_until = None;
        self.call_again = None;
        let patience = format_duration(self.settings.executor_reregistration_timeout);
        let missing: Vec<_> = self
            .executors()
            .filter(|e| e.is_awaited())
            .map(Executor::key)
            .collect();
        for key in missing {
            let message = format!("Executor did not reregister within {patience}");
            self.give_up(&key, Reason::ExecutorReregistrationTimeout, message);
        }
        self.resume_drain(now);
    }

    /// A call may be lost: the driver's process may have been busy.
    fn call_awaited_again(&mut self, now: Time) {
        let interval = self.settings.executor_reregistration_retry_interval;
        if !self.call_again.is_some_and(|at| at.is_due(now)) {
            return;
        }
        self.call_again = interval.map(|interval| now + interval.max(Duration::from_millis(1)));
        let missing: Vec<_> = self
            .executors()
            .filter(|executor| executor.is_awaited())
            .map(Executor::key)
            .collect();
        for key in &missing {
            self.reconnect(key);
        }
    }

    fn schedule_deletion(&mut self, ended: Time, executor: &Executor) {
        let remains = Remains {
            sandbox: executor.directory.clone(),
            run: Some(executor.run()),
        };
        self.gc.schedule(ended, remains);
    }
}

impl Executor {
    /// Whether an earlier agent left it and it has not been heard of since.
    pub(super) fn is_awaited(&self) -> bool {
        self.hosted.is_none()
            && self.checkpoint
            && self.state == ExecutorState::Registering
            && self.deadline.is_none()
    }
}

/// The statuses of a log, oldest first.
fn updates_of(
    records: &[StatusUpdateRecord],
) -> impl Iterator<Item = dcos_proto::mesos::TaskStatus> {
    records
        .iter()
        .filter(|record| record.r#type() == status_update_record::Type::Update)
        .filter_map(|record| Some(record.update.as_ref()?.status.clone()))
}
