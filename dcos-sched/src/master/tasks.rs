//! What happens to tasks: updates, acknowledgements, kills, ends.

use dcos_core::resources::Resources;
use dcos_core::states::is_terminal;
use dcos_core::time::Time;
use dcos_proto::internal::{
    KillTaskMessage, StatusUpdateAcknowledgementMessage, StatusUpdateMessage,
};
use dcos_proto::master as operator;
use dcos_proto::mesos::task_status::{Reason, Source};
use dcos_proto::mesos::{
    AgentId, ExecutorId, FrameworkId, Task, TaskId, TaskState, TaskStatus, TimeInfo,
};
use dcos_proto::scheduler::{Event, call, event};

use super::{Master, News, TaskRecord};

/// Whether a task in this state holds no resources.
fn is_at_rest(state: TaskState) -> bool {
    is_terminal(state) || state == TaskState::TaskUnreachable
}

/// What readers are told of a task.
fn updated(task: &TaskRecord, framework: &FrameworkId, status: TaskStatus) -> News {
    let event = operator::Event {
        r#type: Some(operator::event::Type::TaskUpdated.into()),
        task_updated: Some(operator::event::TaskUpdated {
            framework_id: framework.clone(),
            status,
            state: task.state().into(),
        }),
        ..operator::Event::default()
    };
    News::TaskUpdated(Box::new(event), task.clone())
}

/// What the master itself says about a task.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) state: TaskState,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) unreachable_time: Option<TimeInfo>,
}

impl Status {
    pub(crate) fn master(state: TaskState, reason: Reason, message: String) -> Self {
        Self {
            state,
            reason,
            message,
            unreachable_time: None,
        }
    }

    /// As a message. It has no uuid: nobody acknowledges what the master says.
    pub(crate) fn of(
        &self,
        task: &TaskId,
        agent: Option<&AgentId>,
        executor: Option<&ExecutorId>,
        now: Time,
    ) -> TaskStatus {
        TaskStatus {
            task_id: task.clone(),
            state: self.state.into(),
            message: Some(self.message.clone()),
            agent_id: agent.cloned(),
            timestamp: Some(now.as_secs_f64()),
            executor_id: executor.cloned(),
            source: Some(Source::Master.into()),
            reason: Some(self.reason.into()),
            unreachable_time: self.unreachable_time,
            ..TaskStatus::default()
        }
    }
}

/// An UPDATE event.
pub(crate) fn update_event(status: TaskStatus) -> Event {
    Event {
        r#type: Some(event::Type::Update.into()),
        update: Some(event::Update { status }),
        ..Event::default()
    }
}

impl Master {
    /// An agent reports what became of a task.
    pub(crate) fn status_update(&mut self, message: StatusUpdateMessage) {
        let update = message.update;
        let known = update
            .agent_id
            .as_ref()
            .is_some_and(|agent| self.agents.contains_key(agent))
            && self.frameworks.contains_key(&update.framework_id);
        if !known {
            self.counters.invalid_status_updates += 1;
            return;
        }
        let (framework, mut status) = (update.framework_id, update.status);
        status.uuid = update.uuid.filter(|uuid| !uuid.is_empty());
        status.agent_id = status.agent_id.or(update.agent_id);
        status.executor_id = status.executor_id.or(update.executor_id);
        status.timestamp = status.timestamp.or(Some(update.timestamp));
        self.explain_preemption(&framework, &mut status);
        if self.task(&framework, &status.task_id).is_none() {
            self.tell(&framework, update_event(status));
            self.counters.invalid_status_updates += 1;
            return;
        }
        self.tell(&framework, update_event(status.clone()));
        let known = self.frameworks.get(&framework);
        if known.is_some_and(|known| known.link.is_connected()) {
            self.counters.valid_status_updates += 1;
        } else {
            self.counters.invalid_status_updates += 1;
        }
        let latest = update
            .latest_state
            .and_then(|state| TaskState::try_from(state).ok());
        // Nobody will acknowledge an end that carries no uuid.
        let over = is_terminal(status.state()) && status.uuid.is_none();
        let over = over.then(|| status.task_id.clone());
        self.update_task(&framework, status, latest);
        if let Some(task) = over {
            self.remove_task(&framework, &task, false);
        }
    }

    pub(crate) fn task(&self, framework: &FrameworkId, task: &TaskId) -> Option<&TaskRecord> {
        self.frameworks.get(framework)?.tasks.get(task)
    }

    fn task_mut(&mut self, framework: &FrameworkId, task: &TaskId) -> Option<&mut Task> {
        let task = self.framework_mut(framework)?.tasks.get_mut(task)?;
        Some(task.to_mut())
    }

    /// Writes an update into the task's record. `latest` is where the agent has got to meanwhile,
    /// if the update is an older one that had to wait for acknowledgements.
    fn update_task(
        &mut self,
        framework: &FrameworkId,
        mut status: TaskStatus,
        latest: Option<TaskState>,
    ) {
        let Some(task) = self.task_mut(framework, &status.task_id) else {
            return;
        };
        let has_told_end = task.status_update_state.is_some_and(|state| {
            let state = TaskState::try_from(state);
            state.is_ok_and(is_terminal)
        });
        if has_told_end && !is_terminal(status.state()) {
            // A copy that came late: an agent tells an end after all that was before it is acknowledged. Noted, it
            // would be in the way when the end is acknowledged, and the task would stay for ever.
            return;
        }
        let before = task.state();
        let mut tell_readers = matches!(
            status.reason(),
            Reason::TaskCheckStatusUpdated | Reason::TaskHealthCheckStatusUpdated
        );
        if !is_terminal(before) {
            task.state = latest.unwrap_or(status.state()).into();
        }
        task.status_update_state = Some(status.state);
        task.status_update_uuid.clone_from(&status.uuid);
        status.data = None;
        if task
            .statuses
            .last()
            .is_some_and(|last| last.state == status.state)
        {
            task.statuses.pop();
        } else {
            tell_readers = true;
        }
        let state = task.state();
        // An older status that is told again may bring the end with it: who follows would wait for that as long as the
        // framework is away.
        tell_readers |= state != before;
        let ends = !is_at_rest(before) && is_at_rest(state);
        let ended = ends.then(|| {
            let resources = Resources::from(&task.resources);
            (status.clone(), task.agent_id.clone(), resources)
        });
        let told = tell_readers.then(|| status.clone());
        task.statuses.push(status);
        if state != before
            && let Some(known) = self.framework_mut(framework)
        {
            known.counts.uncount(before);
            known.counts.count(state);
        }
        if let Some(status) = told
            && let Some(task) = self.task(framework, &status.task_id)
        {
            let news = updated(task, framework, status);
            self.publish(news);
        }
        if let Some((status, agent, resources)) = ended {
            self.counters.count_end(&status);
            if let Some(known) = self.framework_mut(framework) {
                known.tally.ended.count(state);
            }
            self.discharge(framework, &agent, &resources);
        }
    }

    /// Forgets a task that has ended, or moves it among the unreachable ones.
    pub(crate) fn remove_task(
        &mut self,
        framework: &FrameworkId,
        task: &TaskId,
        unreachable: bool,
    ) {
        let Some(record) = self
            .framework_mut(framework)
            .and_then(|known| known.take_task(task))
        else {
            return;
        };
        let key = (framework.clone(), task.clone());
        self.preempted.remove(&key);
        if let Some(agent) = self.agent_mut(&record.agent_id) {
            agent.tasks.remove(&key);
            agent.killed.remove(&key);
        }
        if self.standing.is_draining(&record.agent_id) {
            self.emptied.insert(record.agent_id.clone());
        }
        if !is_at_rest(record.state()) {
            let resources = Resources::from(&record.resources);
            self.discharge(framework, &record.agent_id, &resources);
        }
        if let Some(known) = self.framework_mut(framework) {
            if unreachable {
                known.remember_unreachable(record);
            } else {
                known.remember_completed(record);
            }
        }
    }

    /// A task that could not be reached is known not to come back.
    pub(crate) fn end_unreachable_task(
        &mut self,
        framework: &FrameworkId,
        task: &TaskId,
        status: &Status,
    ) {
        let now = self.now;
        let Some(known) = self.framework_mut(framework) else {
            return;
        };
        let Some(mut record) = known.unreachable_tasks.remove(task) else {
            return;
        };
        let executor = record.executor_id.clone();
        let message = status.of(task, Some(&record.agent_id), executor.as_ref(), now);
        let ended = record.to_mut();
        ended.state = message.state;
        ended.statuses.push(message.clone());
        let news = updated(&record, framework, message.clone());
        known.remember_completed(record);
        self.counters.count_end(&message);
        self.publish(news);
        self.tell(framework, update_event(message));
    }

    /// The master itself declares a task's end (or that it can't be reached), and tells the
    /// framework.
    pub(crate) fn end_task(&mut self, framework: &FrameworkId, task: &TaskId, status: &Status) {
        let Some(record) = self.task(framework, task).cloned() else {
            return;
        };
        if is_terminal(record.state()) {
            // Its end was told, if not acknowledged: a task ends once.
            self.remove_task(framework, task, false);
            return;
        }
        let message = status.of(
            task,
            Some(&record.agent_id),
            record.executor_id.as_ref(),
            self.now,
        );
        self.update_task(framework, message.clone(), None);
        let unreachable = status.unreachable_time.is_some();
        self.remove_task(framework, task, unreachable);
        self.tell(framework, update_event(message));
    }

    /// ACKNOWLEDGE: the framework has the update; the agent may forget it.
    pub(crate) fn acknowledge(&mut self, framework: &FrameworkId, acknowledge: call::Acknowledge) {
        let agent = self
            .agents
            .get(&acknowledge.agent_id)
            .filter(|agent| agent.connected);
        let Some(pid) = agent.map(|agent| agent.pid.clone()) else {
            self.counters.invalid_status_update_acknowledgements += 1;
            return;
        };
        if let Some(task) = self.task(framework, &acknowledge.task_id) {
            if task.agent_id != acknowledge.agent_id {
                self.counters.invalid_status_update_acknowledgements += 1;
                return;
            }
            let current = task.status_update_uuid.as_ref() == Some(&acknowledge.uuid);
            let ended = task
                .status_update_state
                .and_then(|state| TaskState::try_from(state).ok())
                .is_some_and(is_terminal);
            if current && ended {
                self.remove_task(framework, &acknowledge.task_id, false);
            }
        }
        self.counters.valid_status_update_acknowledgements += 1;
        let message = StatusUpdateAcknowledgementMessage {
            agent_id: acknowledge.agent_id,
            framework_id: framework.clone(),
            task_id: acknowledge.task_id,
            uuid: acknowledge.uuid,
        };
        self.send(&pid, &message);
    }

    /// KILL: passed to the agent; if it is away, again when it comes back.
    pub(crate) fn kill(&mut self, framework: &FrameworkId, kill: call::Kill) {
        self.counters.messages_kill_task += 1;
        let Some(task) = self.task(framework, &kill.task_id).cloned() else {
            let unknown = call::reconcile::Task {
                task_id: kill.task_id,
                agent_id: kill.agent_id,
            };
            return self.reconcile(framework, &[unknown]);
        };
        if kill.agent_id.is_some_and(|agent| agent != task.agent_id) {
            return;
        }
        let Some(agent) = self.agent_mut(&task.agent_id) else {
            return;
        };
        agent
            .killed
            .insert((framework.clone(), kill.task_id.clone()));
        if agent.connected {
            let pid = agent.pid.clone();
            let message = KillTaskMessage {
                framework_id: framework.clone(),
                task_id: kill.task_id,
                kill_policy: kill.kill_policy,
            };
            self.send(&pid, &message);
        }
    }

    /// The executor is gone or must be forgotten: what it used is free.
    pub(crate) fn remove_executor(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        executor: &ExecutorId,
    ) {
        let Some(known) = self.framework_mut(framework) else {
            return;
        };
        let Some(executors) = known.executors.get_mut(agent) else {
            return;
        };
        let info = executors.remove(executor);
        if executors.is_empty() {
            known.executors.remove(agent);
        }
        if let Some(info) = info {
            self.discharge(framework, agent, &Resources::from(&info.resources));
        }
    }
}
