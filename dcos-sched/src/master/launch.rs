//! Carrying out the operations of an ACCEPT.

use dcos_core::resources::Resources;
use dcos_core::resources::convert::downgrade_all;
use dcos_proto::internal::{RunTaskGroupMessage, RunTaskMessage};
use dcos_proto::mesos::agent_info::capability::Type as AgentCapability;
use dcos_proto::mesos::offer::operation::Type;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    AgentId, ExecutorId, ExecutorInfo, FrameworkId, OperationState, Resource, Task, TaskGroupInfo,
    TaskInfo, TaskState, offer,
};

use super::offers::launched;
use super::operations::{Holdings, more_copies};
use super::{Master, News, TaskRecord, validation};

impl Master {
    /// Carries out one operation with what is left of the offers.
    pub(crate) fn carry_out(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        operation: offer::Operation,
        holdings: &mut Holdings,
    ) {
        let ready = self.agents.get(agent).map(|agent| agent.connected);
        if ready != Some(true) {
            return self.refuse_lost_agent(framework, &operation, ready.is_some());
        }
        match operation.r#type() {
            Type::Launch => {
                let tasks = operation.launch.map(|launch| launch.task_infos);
                let mut tasks = tasks.unwrap_or_default();
                self.decorate_resources(agent, &mut tasks);
                for task in tasks {
                    self.launch(framework, agent, task, holdings);
                }
            }
            Type::LaunchGroup => {
                if let Some(mut group) = operation.launch_group {
                    self.decorate_resources(agent, &mut group.task_group.tasks);
                    self.launch_group(framework, agent, group.executor, group.task_group, holdings);
                }
            }
            _ => self.change_resources(framework, agent, operation, holdings),
        }
    }

    /// The agent went away between the offer and its acceptance.
    fn refuse_lost_agent(
        &mut self,
        framework: &FrameworkId,
        operation: &offer::Operation,
        known: bool,
    ) {
        let Some(state) = self
            .frameworks
            .get(framework)
            .map(|framework| framework.state_or_lost(TaskState::TaskDropped))
        else {
            return;
        };
        let (reason, message) = if known {
            (Reason::AgentDisconnected, "Agent disconnected")
        } else {
            (Reason::AgentRemoved, "Agent removed")
        };
        let tasks = launched(operation);
        if tasks.is_empty() {
            self.refuse_operation(
                framework,
                operation,
                OperationState::OperationDropped,
                message,
            );
        }
        for task in tasks {
            self.fail_launch(framework, task, state, reason, message.to_owned());
        }
    }

    fn launch(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        mut task: TaskInfo,
        holdings: &mut Holdings,
    ) {
        if let Some(executor) = &mut task.executor {
            executor
                .framework_id
                .get_or_insert_with(|| framework.clone());
            if executor.r#type.is_none() && executor.command.is_some() {
                executor.r#type = Some(dcos_proto::mesos::executor_info::Type::Custom.into());
            }
        }
        let (Some(known), Some(place)) = (self.frameworks.get(framework), self.agents.get(agent))
        else {
            return;
        };
        if let Err(error) = self.authorize_launch(&known.info, &task) {
            let (state, reason) = (TaskState::TaskError, Reason::TaskUnauthorized);
            return self.fail_launch(framework, &task, state, reason, error);
        }
        if let Err(error) = validation::task::single(&task, known, place, &holdings.usable()) {
            return self.fail_launch(
                framework,
                &task,
                TaskState::TaskError,
                Reason::TaskInvalid,
                error,
            );
        }
        let info = known.info.clone();
        let pid = known.pid.clone();
        let launch_executor = match &task.executor {
            Some(executor) => self.admit_executor(framework, agent, executor, holdings),
            None => true,
        };
        self.admit_task(framework, &task, holdings);
        let mut message = RunTaskMessage {
            // Of times before the original's 0.24; it stands in `framework`.
            framework_id: None,
            framework: info,
            pid,
            task,
            resource_version_uuids: Vec::new(),
            launch_executor: Some(launch_executor),
        };
        let Some(place) = self.agents.get(agent) else {
            return;
        };
        message
            .resource_version_uuids
            .clone_from(&place.resource_versions);
        self.decorate_labels(&mut message.task, &message.framework, &place.info);
        if !place.has(AgentCapability::ReservationRefinement) {
            downgrade_task(&mut message.task);
        }
        let to = place.pid.clone();
        self.tally_operation(framework, Type::Launch);
        self.send(&to, &message);
    }

    fn launch_group(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        mut executor: ExecutorInfo,
        mut group: TaskGroupInfo,
        holdings: &mut Holdings,
    ) {
        executor
            .framework_id
            .get_or_insert_with(|| framework.clone());
        for task in &mut group.tasks {
            // What a member says about its executor repeats the group's.
            task.executor.get_or_insert_with(|| executor.clone());
        }
        let (Some(known), Some(place)) = (self.frameworks.get(framework), self.agents.get(agent))
        else {
            return;
        };
        let mut launches = group.tasks.iter();
        let authorized = launches.try_for_each(|task| self.authorize_launch(&known.info, task));
        let checked = match authorized {
            Ok(()) => validation::task::group(&group, &executor, known, place, &holdings.left)
                .map_err(|error| (Reason::TaskGroupInvalid, error)),
            Err(error) => Err((Reason::TaskGroupUnauthorized, error)),
        };
        if let Err((reason, error)) = checked {
            for task in &group.tasks {
                self.fail_launch(framework, task, TaskState::TaskError, reason, error.clone());
            }
            return;
        }
        let info = known.info.clone();
        let launch_executor = self.admit_executor(framework, agent, &executor, holdings);
        for task in &group.tasks {
            self.admit_task(framework, task, holdings);
        }
        let Some(place) = self.agents.get(agent) else {
            return;
        };
        let mut message = RunTaskGroupMessage {
            framework: info,
            executor,
            task_group: group,
            resource_version_uuids: place.resource_versions.clone(),
            launch_executor: Some(launch_executor),
        };
        for task in &mut message.task_group.tasks {
            self.decorate_labels(task, &message.framework, &place.info);
        }
        if !place.has(AgentCapability::ReservationRefinement) {
            let _ = downgrade_all(&mut message.executor.resources);
            message.task_group.tasks.iter_mut().for_each(downgrade_task);
        }
        let to = place.pid.clone();
        self.tally_operation(framework, Type::LaunchGroup);
        self.send(&to, &message);
    }

    /// Counts what was carried out for a framework.
    pub(crate) fn tally_operation(&mut self, framework: &FrameworkId, kind: Type) {
        if let Some(known) = self.framework_mut(framework) {
            *known.tally.operations.entry(kind).or_default() += 1;
        }
    }

    /// Books an executor unless it runs already; says whether the agent must start it.
    fn admit_executor(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        executor: &ExecutorInfo,
        holdings: &mut Holdings,
    ) -> bool {
        let known = self.frameworks.get(framework);
        if known.is_some_and(|known| known.has_executor(agent, &executor.executor_id)) {
            return false;
        }
        self.hold(framework, agent, &executor.resources, holdings);
        self.add_executor(framework, agent, executor.clone());
        true
    }

    /// Takes resources from what is left of the offers.
    fn hold(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &[Resource],
        holdings: &mut Holdings,
    ) {
        let more = holdings.take(&Resources::from(resources));
        if let Some(event) = more_copies(framework, agent, more) {
            self.allocator.handle(self.now, event);
        }
    }

    /// Charges framework and agent for an executor.
    pub(crate) fn add_executor(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        executor: ExecutorInfo,
    ) {
        let resources = Resources::from(&executor.resources);
        if let Some(place) = self.agent_mut(agent) {
            place.charge(framework, &resources);
        }
        self.book_executor(framework, agent, executor, &resources);
    }

    /// Charges the framework for an executor whose agent is charged already.
    pub(crate) fn book_executor(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        executor: ExecutorInfo,
        resources: &Resources,
    ) {
        if let Some(known) = self.framework_mut(framework) {
            known.add_executor(agent, executor);
            known.charge(agent, resources);
        }
    }

    fn admit_task(&mut self, framework: &FrameworkId, task: &TaskInfo, holdings: &mut Holdings) {
        self.hold(framework, &task.agent_id, &task.resources, holdings);
        let user = self
            .frameworks
            .get(framework)
            .map(|known| known.info.user.clone());
        let record = TaskRecord::from(staging(task, framework, user.as_deref()));
        self.add_task(&record);
    }

    /// Charges framework and agent for a task, and tells readers of it.
    pub(crate) fn add_task(&mut self, record: &TaskRecord) {
        if !dcos_core::states::is_terminal(record.state()) {
            let resources = self.alike.resources(&record.resources);
            if let Some(place) = self.agent_mut(&record.agent_id) {
                place.charge(&record.framework_id, &resources);
            }
            if let Some(known) = self.framework_mut(&record.framework_id) {
                known.charge(&record.agent_id, &resources);
            }
        }
        self.book_task(record);
    }

    /// Makes a task known for which framework and agent are charged, and tells readers of it.
    pub(crate) fn book_task(&mut self, record: &TaskRecord) {
        let key = (record.framework_id.clone(), record.task_id.clone());
        if let Some(known) = self.framework_mut(&key.0) {
            known.add_task(key.1.clone(), record.clone());
        }
        let place = self.agents.get(&record.agent_id);
        if place.is_some_and(|place| !place.tasks.contains(&key))
            && let Some(place) = self.agent_mut(&record.agent_id)
        {
            place.tasks.insert(key);
        }
        self.publish(News::TaskAdded(record.clone()));
    }
}

/// The record of a task that is on its way to its agent.
fn staging(task: &TaskInfo, framework: &FrameworkId, default_user: Option<&str>) -> Task {
    let executor: Option<&ExecutorInfo> = task.executor.as_ref();
    let command = task.command.as_ref().or_else(|| executor?.command.as_ref());
    let user = command
        .and_then(|command| command.user.clone())
        .or_else(|| default_user.map(ToOwned::to_owned));
    Task {
        name: task.name.clone(),
        task_id: task.task_id.clone(),
        framework_id: framework.clone(),
        executor_id: executor
            .map(|executor: &ExecutorInfo| -> ExecutorId { executor.executor_id.clone() }),
        agent_id: task.agent_id.clone(),
        state: TaskState::TaskStaging.into(),
        resources: task.resources.clone(),
        statuses: Vec::new(),
        status_update_state: None,
        status_update_uuid: None,
        labels: task.labels.clone(),
        discovery: task.discovery.clone().map(Box::new),
        container: task.container.clone().map(Box::new),
        user,
        health_check: task.health_check.clone().map(Box::new),
        kill_policy: task.kill_policy,
        limits: task.limits.clone(),
    }
}

fn downgrade_task(task: &mut TaskInfo) {
    let _ = downgrade_all(&mut task.resources);
    if let Some(executor) = &mut task.executor {
        let _ = downgrade_all(&mut executor.resources);
    }
}
