//! Task states, status updates, acknowledgements.
//!
//! Every update takes one way: it gets its uuid, is noted with its task, written down, kept until
//! acknowledged ([`Updates`](super::updates::Updates)) and forwarded with the latest state beside.
//!
//! Source: Mesos 1.11 `Slave::statusUpdate`, `forward`, `statusUpdateAcknowledgement`.

use dcos_core::time::Time;
use dcos_proto::executor::event;
use dcos_proto::internal::{
    ExecutorToFrameworkMessage, ReconcileTasksMessage, StatusUpdate,
    StatusUpdateAcknowledgementMessage, StatusUpdateMessage,
};
use dcos_proto::mesos::network_info::{IpAddress, Protocol};
use dcos_proto::mesos::task_status::{Reason, Source};
use dcos_proto::mesos::{
    ContainerStatus, ExecutorId, FrameworkId, FrameworkInfo, NetworkInfo, TaskId, TaskState,
    TaskStatus,
};

use super::core::{Agent, event};
use super::records::{ExecutorKey, TaskRecord, dropped_state};
use super::updates::{Acknowledged, Receipt, ack_record, update_record};
use crate::checkpoint::Write;
use dcos_core::states::is_terminal;

/// A status before it gets its uuid.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) status: TaskStatus,
    pub(super) source: Source,
}

impl Told {
    /// What the agent itself says about a task.
    pub(super) fn by_agent(state: TaskState, reason: Reason, message: String) -> Self {
        let status = TaskStatus {
            state: state.into(),
            reason: Some(reason.into()),
            message: Some(message),
            ..TaskStatus::default()
        };
        Self {
            status,
            source: Source::Agent,
        }
    }
}

impl Agent {
    /// Tells the scheduler of a task the agent knows.
    pub(super) fn tell(&mut self, now: Time, key: &ExecutorKey, task: &TaskId, told: Told) {
        let Told { mut status, source } = told;
        status.task_id = task.clone();
        status.source = Some(source.into());
        status.uuid = Some(self.uuids.uuid_bytes().to_vec());
        status.timestamp = Some(now.as_secs_f64());
        self.update(now, key, status);
    }

    /// Tells the scheduler of a task that never began here.
    pub(super) fn tell_of_unknown_task(
        &mut self,
        now: Time,
        framework: &FrameworkInfo,
        task: &TaskId,
        told: Told,
    ) {
        let Told { mut status, source } = told;
        status.task_id = task.clone();
        status.source = Some(source.into());
        status.uuid = Some(self.uuids.uuid_bytes().to_vec());
        status.timestamp = Some(now.as_secs_f64());
        status.agent_id.clone_from(&self.info.id);
        let framework_id = framework.id.clone().unwrap_or_default();
        let hooks = &self.settings.hooks;
        hooks.decorate_status(&framework_id, &mut status);
        let update = StatusUpdate {
            framework_id,
            executor_id: None,
            agent_id: self.info.id.clone(),
            timestamp: now.as_secs_f64(),
            uuid: status.uuid.clone(),
            latest_state: Some(status.state),
            status,
        };
        self.updates.receive(now, update);
    }

    /// Tells once more how a task ended whose end was acknowledged: a kill came late, or from a master that missed
    /// the end, as one does that asks for it. False if no such task is remembered.
    pub(super) fn tell_end_again(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        task: &TaskId,
    ) -> bool {
        let Some((executor, mut status)) = self.last_word_of(framework, task) else {
            return false;
        };
        if self.updates.has_pending(framework, task) {
            return true;
        }
        // It is the same update, under the uuid it has on disk.
        let uuids = &mut self.uuids;
        status
            .uuid
            .get_or_insert_with(|| uuids.uuid_bytes().to_vec());
        let update = StatusUpdate {
            framework_id: framework.clone(),
            executor_id: Some(executor),
            agent_id: self.info.id.clone(),
            timestamp: status.timestamp.unwrap_or_else(|| now.as_secs_f64()),
            uuid: status.uuid.clone(),
            latest_state: Some(status.state),
            status,
        };
        self.updates.receive(now, update);
        true
    }

    /// How a task ended that is remembered among the completed ones; the newest of its name.
    fn last_word_of(
        &self,
        framework: &FrameworkId,
        task: &TaskId,
    ) -> Option<(ExecutorId, TaskStatus)> {
        let own = self.frameworks.get(framework);
        let former = self.completed.iter().rev();
        let frameworks = own
            .into_iter()
            .chain(former.filter(|it| it.id() == *framework));
        let mut executors =
            frameworks.flat_map(|it| it.executors.values().chain(it.completed.iter().rev()));
        executors.find_map(|executor| {
            let mut records = executor.completed.iter().rev();
            let record = records.find(|record| record.info.task_id == *task)?;
            let status = record.statuses.last().filter(|_| record.is_terminal())?;
            Some((executor.info.executor_id.clone(), status.clone()))
        })
    }

    /// A custom executor's update, checked by the API it came through.
    pub(super) fn executor_update(&mut self, now: Time, key: &ExecutorKey, mut status: TaskStatus) {
        if status.timestamp.is_none() {
            status.timestamp = Some(now.as_secs_f64());
        }
        status.source = Some(Source::Executor.into());
        if let Some(executor) = self.executor(key) {
            let container = status
                .container_status
                .get_or_insert_with(ContainerStatus::default);
            container
                .container_id
                .get_or_insert_with(|| executor.container.clone());
        }
        let (task, uuid) = (
            status.task_id.clone(),
            status.uuid.clone().unwrap_or_default(),
        );
        self.update(now, key, status);
        // What is written down, or does not matter any more, the executor may forget.
        let mut acknowledged = event(event::Type::Acknowledged);
        acknowledged.acknowledged = Some(event::Acknowledged {
            task_id: task,
            uuid,
        });
        self.event(key, acknowledged);
    }

    /// Notes, writes down and keeps an update with uuid, source and timestamp.
    fn update(&mut self, now: Time, key: &ExecutorKey, mut status: TaskStatus) {
        status.agent_id.clone_from(&self.info.id);
        status.executor_id = Some(key.executor.clone());
        self.mark_drained(&key.framework, &mut status);
        let hooks = &self.settings.hooks;
        hooks.decorate_status(&key.framework, &mut status);
        self.add_address(&mut status);
        let update = StatusUpdate {
            framework_id: key.framework.clone(),
            executor_id: Some(key.executor.clone()),
            agent_id: self.info.id.clone(),
            timestamp: status.timestamp.unwrap_or_default(),
            uuid: status.uuid.clone(),
            latest_state: Some(status.state),
            status: status.clone(),
        };
        let task = self
            .executor(key)
            .and_then(|executor| executor.tasks.get(&status.task_id));
        if task.is_none_or(TaskRecord::is_terminal) {
            self.counters.invalid_status_updates += 1;
            return;
        }
        self.counters.valid_status_updates += 1;
        let Some(executor) = self.executor(key) else {
            return;
        };
        let run = executor.checkpoint.then(|| executor.run());
        if self.updates.receive(now, update.clone()) == Receipt::Duplicate {
            return;
        }
        let task = status.task_id.clone();
        let held = is_terminal(status.state()).then(|| self.held(key));
        let mut ended = false;
        if let Some(executor) = self.executor_mut(key)
            && let Some(record) = executor.tasks.get_mut(&task)
        {
            record.note(status.clone());
            ended = record.is_terminal();
        }
        if let Some(held) = held {
            self.recount(key, &held);
        }
        if ended {
            self.counters.end(&status);
        }
        if let Some(run) = run {
            self.write(Write::Update(run, task, Box::new(update_record(update))));
        }
        if ended {
            self.resize(key);
        }
    }

    /// A container without a network of its own is reached at the agent's address.
    fn add_address(&self, status: &mut TaskStatus) {
        if let Some(container) = &mut status.container_status
            && container.network_infos.is_empty()
        {
            let ip = self
                .settings
                .endpoint
                .rsplit_once(':')
                .map_or("", |(ip, _)| ip);
            let ip = ip.trim_matches(['[', ']']);
            // Version 4 goes without saying.
            let protocol = ip.contains(':').then_some(Protocol::IPv6.into());
            let address = IpAddress {
                protocol,
                ip_address: Some(ip.to_owned()),
            };
            container.network_infos.push(NetworkInfo {
                ip_addresses: vec![address],
                ..NetworkInfo::default()
            });
        }
    }

    /// Sends an update with the latest state of its task.
    pub(super) fn forward(&mut self, mut update: StatusUpdate) {
        let key = update.executor_id.clone().map(|executor| ExecutorKey {
            framework: update.framework_id.clone(),
            executor,
        });
        let (state, uuid) = (update.status.state, update.uuid.clone().unwrap_or_default());
        let task = &update.status.task_id;
        if let Some(key) = key
            && let Some(executor) = self.executor_mut(&key)
            && let Some(record) = executor.tasks.get_mut(task)
        {
            record.sent = Some((state, uuid));
            update.latest_state = Some(record.state().into());
        }
        let pid = Some(self.settings.pid.clone());
        self.send_master(StatusUpdateMessage { update, pid });
    }

    pub(super) fn acknowledge(&mut self, now: Time, message: &StatusUpdateAcknowledgementMessage) {
        let (framework, task) = (&message.framework_id, &message.task_id);
        let done = self
            .updates
            .acknowledge(now, framework, task, &message.uuid);
        let Acknowledged::Done { terminal, executor } = done else {
            return;
        };
        let named = executor.map(|executor| ExecutorKey {
            framework: framework.clone(),
            executor,
        });
        let known = named.filter(|key| {
            self.executor(key)
                .is_some_and(|executor| executor.tasks.contains_key(task))
        });
        let Some(key) = known.or_else(|| self.executor_of(framework, task)) else {
            return;
        };
        let Some(executor) = self.executor_mut(&key) else {
            return;
        };
        let mut was_live = false;
        if terminal {
            let record = executor.tasks.get(task);
            was_live = record.is_some_and(|record| !record.is_terminal());
            executor.complete(task);
        }
        if executor.checkpoint {
            let run = executor.run();
            let record = ack_record(message.uuid.clone());
            self.write(Write::Update(run, task.clone(), Box::new(record)));
        }
        if was_live {
            // The end of another task of that name was acknowledged.
            self.used = None;
        }
        self.forget_if_done(now, &key);
    }

    /// Tasks that the master has and this agent does not: they never began, or their end was acknowledged by way of
    /// another master or connection.
    pub(super) fn reconcile(&mut self, now: Time, message: &ReconcileTasksMessage) {
        let info = message.framework.clone();
        let mut info = info
            .or_else(|| Some(self.frameworks.get(&message.framework_id)?.info.clone()))
            .unwrap_or_default();
        info.id = Some(message.framework_id.clone());
        let framework = &message.framework_id;
        for status in &message.statuses {
            let task = &status.task_id;
            // Of one in staging the master has heard nothing: an end that is remembered is that of an earlier task.
            let has_begun = status.state() != TaskState::TaskStaging;
            let is_accounted_for = self.executor_of(framework, task).is_some()
                || self.updates.has_pending(framework, task)
                || has_begun && self.tell_end_again(now, framework, task);
            if !is_accounted_for {
                let text = "Reconciliation: task unknown to the agent".to_owned();
                let told = Told::by_agent(dropped_state(&info), Reason::Reconciliation, text);
                self.tell_of_unknown_task(now, &info, task, told);
                self.miss(now, framework, task);
            }
        }
    }

    pub(super) fn executor_message(&mut self, key: ExecutorKey, data: Vec<u8>) {
        let framework = self.frameworks.get(&key.framework);
        let runs = framework.is_some_and(|framework| {
            let executor = framework.executors.get(&key.executor);
            !framework.terminating && executor.is_some_and(|executor| !executor.state.is_over())
        });
        let id = self.info.id.clone().filter(|_| runs);
        let (Some(id), Some(_)) = (id, self.master()) else {
            self.counters.invalid_framework_messages += 1;
            return;
        };
        self.counters.valid_framework_messages += 1;
        self.send_master(ExecutorToFrameworkMessage {
            agent_id: id,
            framework_id: key.framework,
            executor_id: key.executor,
            data,
        });
    }
}
