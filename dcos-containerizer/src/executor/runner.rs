//! One task in one container: from launch to its terminal update.

use std::collections::VecDeque;
use std::time::Duration;

use dcos_core::time::{Time, earliest};
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    CheckStatusInfo, ContainerId, ContainerStatus, KillPolicy, TaskInfo, TaskResourceLimitation,
    TaskState, TaskStatus,
};

use super::HostedAction;
use crate::containerizer::{ContainerTermination, is_docker};
use dcos_core::states::is_terminal;

#[derive(Debug)]
pub(super) struct Runner {
    task: TaskInfo,
    container: ContainerId,
    /// How long it may take to end after SIGTERM, unless a kill policy says otherwise.
    grace: Duration,
    state: State,
    /// Why it is being killed, once it is.
    killing: Option<Killing>,
    completion: Option<Time>,
    healthy: Option<bool>,
    check: Option<CheckStatusInfo>,
    status: Option<ContainerStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Launching,
    Running,
    Ended(TaskState),
}

/// A kill that is under way.
#[derive(Debug)]
struct Killing {
    /// When SIGTERM was sent; `None` while the container is being launched.
    since: Option<Time>,
    grace: Duration,
    /// When SIGKILL follows; `None` once it was sent.
    escalation: Option<Time>,
    cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Asked,
    Unhealthy,
    MaxCompletionTime,
}

type Actions = VecDeque<HostedAction>;

impl Runner {
    /// Starts a task.
    pub(super) fn launch(
        task: TaskInfo,
        container: ContainerId,
        grace: Duration,
        actions: &mut Actions,
    ) -> Self {
        let launch = HostedAction::Launch(Box::new(task.clone()), container.clone());
        actions.push_back(launch);
        Self::new(task, container, grace, State::Launching)
    }

    /// Takes up a task whose container an earlier agent launched.
    pub(super) fn recover(
        now: Time,
        task: TaskInfo,
        container: ContainerId,
        grace: Duration,
        last: Option<&TaskStatus>,
    ) -> Self {
        let state = last.map_or(TaskState::TaskStaging, TaskStatus::state);
        let running = match state {
            TaskState::TaskStaging | TaskState::TaskStarting => State::Launching,
            ended if is_terminal(ended) => State::Ended(ended),
            _ => State::Running,
        };
        let mut runner = Self::new(task, container, grace, running);
        if let Some(last) = last {
            runner.healthy = last.healthy;
            runner.check = last.check_status;
            runner.status.clone_from(&last.container_status);
        }
        if running == State::Running {
            // What is left of the time is unknown; a restart of the agent grants it anew.
            runner.completion = runner.completion_deadline(now);
        }
        if state == TaskState::TaskKilling {
            runner.begin_kill(now, None, Cause::Asked);
        }
        runner
    }

    fn new(task: TaskInfo, container: ContainerId, grace: Duration, state: State) -> Self {
        Self {
            task,
            container,
            grace,
            state,
            killing: None,
            completion: None,
            healthy: None,
            check: None,
            status: None,
        }
    }

    pub(super) fn container(&self) -> &ContainerId {
        &self.container
    }

    /// How the task ended, once it has.
    pub(super) fn outcome(&self) -> Option<TaskState> {
        match self.state {
            State::Ended(state) => Some(state),
            _ => None,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let escalation = self.killing.as_ref().and_then(|killing| killing.escalation);
        earliest(escalation, self.completion)
    }

    /// The container runs. Told again after a restart of the agent, when the status is new but
    /// the state may be old.
    pub(super) fn launched(
        &mut self,
        now: Time,
        status: ContainerStatus,
        killing_state: bool,
        actions: &mut Actions,
    ) {
        self.status = Some(status);
        match self.state {
            State::Launching => {
                self.state = State::Running;
                self.completion = self.completion_deadline(now);
                self.tell(TaskState::TaskStarting, actions, |_| {});
                self.tell(TaskState::TaskRunning, actions, |_| {});
            }
            State::Running => {}
            State::Ended(_) => return,
        }
        if self.killing.is_some() {
            self.send_kill(now, killing_state, actions);
        } else if self.task.health_check.is_some() || self.task.check.is_some() {
            let task = Box::new(self.task.clone());
            actions.push_back(HostedAction::StartChecks(task, self.container.clone()));
        }
    }

    pub(super) fn launch_failed(&mut self, reason: Reason, message: String, actions: &mut Actions) {
        if self.state != State::Launching {
            return;
        }
        if self.killing.is_some() {
            self.end(TaskState::TaskKilled, actions, |status| {
                status.reason = Some(Reason::TaskKilledDuringLaunch.into());
                status.message = Some("Task killed during its launch".to_owned());
            });
        } else {
            self.end(TaskState::TaskFailed, actions, |status| {
                status.reason = Some(reason.into());
                status.message = Some(message);
            });
        }
    }

    /// A later kill may only shorten the grace period.
    pub(super) fn kill(
        &mut self,
        now: Time,
        policy: Option<&KillPolicy>,
        killing_state: bool,
        actions: &mut Actions,
    ) {
        self.kill_for(now, policy, Cause::Asked, killing_state, actions);
    }

    pub(super) fn health(
        &mut self,
        now: Time,
        healthy: bool,
        kill: bool,
        killing_state: bool,
        actions: &mut Actions,
    ) {
        if self.state != State::Running || self.killing.is_some() {
            return;
        }
        self.healthy = Some(healthy);
        self.tell(TaskState::TaskRunning, actions, |status| {
            status.reason = Some(Reason::TaskHealthCheckStatusUpdated.into());
        });
        if kill {
            self.kill_for(now, None, Cause::Unhealthy, killing_state, actions);
        }
    }

    pub(super) fn checked(&mut self, result: CheckStatusInfo, actions: &mut Actions) {
        if self.state != State::Running || self.killing.is_some() {
            return;
        }
        self.check = Some(result);
        self.tell(TaskState::TaskRunning, actions, |status| {
            status.reason = Some(Reason::TaskCheckStatusUpdated.into());
        });
    }

    pub(super) fn ended(&mut self, termination: &ContainerTermination, actions: &mut Actions) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        if self.state == State::Launching && termination.status.is_some() {
            // It ran and ended while the agent was down.
            self.tell(TaskState::TaskStarting, actions, |_| {});
            self.tell(TaskState::TaskRunning, actions, |_| {});
        }
        let cause = self.killing.as_ref().map(|killing| killing.cause);
        let (state, reason) = match cause {
            _ if termination.reason.is_some() => (TaskState::TaskFailed, termination.reason),
            Some(Cause::MaxCompletionTime) => (
                TaskState::TaskFailed,
                Some(Reason::MaxCompletionTimeReached),
            ),
            Some(_) => (TaskState::TaskKilled, None),
            None if termination.succeeded() => (TaskState::TaskFinished, None),
            None if termination.status.is_none() => {
                (TaskState::TaskFailed, Some(Reason::ExecutorTerminated))
            }
            None => (TaskState::TaskFailed, None),
        };
        let limitation = (!termination.limited.is_empty()).then(|| TaskResourceLimitation {
            resources: termination.limited.clone(),
        });
        let docker = self.task.container.as_ref().is_some_and(is_docker);
        let what = if docker { "Container" } else { "Command" };
        let message = match (&termination.message, termination.status) {
            (Some(message), _) if termination.reason.is_some() || termination.status.is_none() => {
                message.clone()
            }
            (_, None) => format!("Failed to get exit status for {what}"),
            _ => format!("{what} {}", termination.describe()),
        };
        if cause == Some(Cause::Unhealthy) {
            self.healthy = Some(false);
        }
        self.end(state, actions, |status| {
            status.reason = reason.map(Into::into);
            status.message = Some(message);
            status.limitation = limitation;
        });
    }

    pub(super) fn tick(&mut self, now: Time, killing_state: bool, actions: &mut Actions) {
        if self.completion.is_some_and(|at| at.is_due(now)) {
            self.completion = None;
            self.kill_for(now, None, Cause::MaxCompletionTime, killing_state, actions);
        }
        if let Some(killing) = &mut self.killing
            && killing.escalation.is_some_and(|at| at.is_due(now))
        {
            killing.escalation = None;
            actions.push_back(HostedAction::Destroy(self.container.clone()));
        }
    }

    fn kill_for(
        &mut self,
        now: Time,
        policy: Option<&KillPolicy>,
        cause: Cause,
        killing_state: bool,
        actions: &mut Actions,
    ) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        if let Some(killing) = &mut self.killing {
            let sooner = policy
                .and_then(grace_of)
                .filter(|grace| *grace < killing.grace);
            if let Some(grace) = sooner {
                killing.grace = grace;
                if let (Some(since), Some(_)) = (killing.since, killing.escalation) {
                    killing.escalation = Some(since + grace);
                }
            }
            return;
        }
        self.begin_kill(now, policy, cause);
        match self.state {
            State::Running => self.send_kill(now, killing_state, actions),
            // Whatever the launch is doing, ending it is the containerizer's business.
            _ => actions.push_back(HostedAction::Destroy(self.container.clone())),
        }
    }

    fn begin_kill(&mut self, now: Time, policy: Option<&KillPolicy>, cause: Cause) {
        let grace = policy
            .and_then(grace_of)
            .or_else(|| self.task.kill_policy.as_ref().and_then(grace_of))
            .unwrap_or(self.grace);
        let running = self.state == State::Running;
        self.killing = Some(Killing {
            since: running.then_some(now),
            grace,
            escalation: running.then_some(now + grace),
            cause,
        });
    }

    fn send_kill(&mut self, now: Time, killing_state: bool, actions: &mut Actions) {
        if let Some(killing) = &mut self.killing {
            killing.since = Some(now);
            killing.escalation = Some(now + killing.grace);
        }
        if killing_state {
            self.tell(TaskState::TaskKilling, actions, |_| {});
        }
        actions.push_back(HostedAction::Signal(self.container.clone(), libc::SIGTERM));
    }

    fn completion_deadline(&self, now: Time) -> Option<Time> {
        let limit = self.task.max_completion_time.as_ref()?.nanoseconds;
        Some(now + Duration::from_nanos(u64::try_from(limit).unwrap_or(0)))
    }

    fn end(&mut self, state: TaskState, actions: &mut Actions, fill: impl FnOnce(&mut TaskStatus)) {
        self.tell(state, actions, fill);
        self.state = State::Ended(state);
        self.killing = None;
        self.completion = None;
    }

    fn tell(&self, state: TaskState, actions: &mut Actions, fill: impl FnOnce(&mut TaskStatus)) {
        let mut status = TaskStatus {
            task_id: self.task.task_id.clone(),
            state: state.into(),
            healthy: self.healthy,
            check_status: self.check,
            container_status: self.status.clone(),
            ..TaskStatus::default()
        };
        fill(&mut status);
        actions.push_back(HostedAction::Update(Box::new(status)));
    }
}

fn grace_of(policy: &KillPolicy) -> Option<Duration> {
    let nanos = policy.grace_period.as_ref()?.nanoseconds;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}
