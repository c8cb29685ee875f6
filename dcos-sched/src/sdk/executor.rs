//! What an executor's author writes.

use async_trait::async_trait;
use dcos_proto::executor::event::Subscribed;
use dcos_proto::mesos::{KillPolicy, TaskGroupInfo, TaskId, TaskInfo};

use super::ExecutorHandle;

/// The half of a framework on an agent: runs tasks and tells what becomes of them.
///
/// # Contract
/// 1. The driver calls one method at a time, in the order the agent sent the events; while a
///    method runs, later events wait. Tasks therefore run beside it, not in it.
/// 2. Every task ends with one terminal update through [`ExecutorHandle::update`].
/// 3. After [`shutdown`](Self::shutdown) has returned, or its grace period is over, the driver
///    delivers what is still to be told and ends; the process should end then too.
/// 4. An agent that restarts breaks the stream. The driver subscribes anew and tells it what the
///    old one had not acknowledged; the executor sees [`disconnected`](Self::disconnected) and
///    another [`subscribed`](Self::subscribed), and its tasks run on.
///
/// # Source
/// The events of Mesos 1.11 `include/mesos/v1/executor/executor.proto`.
///
/// ```
/// use async_trait::async_trait;
/// use dcos_proto::mesos::{KillPolicy, TaskId, TaskInfo, TaskState};
/// use dcos_sched::sdk::{Executor, ExecutorHandle};
///
/// /// Every task has finished before it began.
/// #[derive(Debug)]
/// struct Instant;
///
/// #[async_trait]
/// impl Executor for Instant {
///     async fn launch(&mut self, handle: &ExecutorHandle, task: TaskInfo) {
///         handle.update(task.task_id.clone(), TaskState::TaskRunning);
///         handle.update(task.task_id, TaskState::TaskFinished);
///     }
///
///     async fn kill(&mut self, _: &ExecutorHandle, _: TaskId, _: Option<KillPolicy>) {}
/// }
/// ```
#[async_trait]
pub trait Executor: Send + 'static {
    /// A task is to be run.
    async fn launch(&mut self, handle: &ExecutorHandle, task: TaskInfo);

    /// A task is to be ended. It still gets its terminal update, mostly `TASK_KILLED`. The agent
    /// may repeat this, with a shorter grace period.
    async fn kill(&mut self, handle: &ExecutorHandle, task: TaskId, policy: Option<KillPolicy>);

    /// Tasks are to be run that live and die together. Executors that are only sent single tasks
    /// may leave this out: each task is launched on its own then.
    async fn launch_group(&mut self, handle: &ExecutorHandle, group: TaskGroupInfo) {
        for task in group.tasks {
            self.launch(handle, task).await;
        }
    }

    /// The agent knows this executor, for the first time or again.
    async fn subscribed(&mut self, _handle: &ExecutorHandle, _subscribed: Subscribed) {}

    /// The scheduler sent `data`.
    async fn message(&mut self, _handle: &ExecutorHandle, _data: Vec<u8>) {}

    /// All tasks are to be ended, and the executor with them.
    async fn shutdown(&mut self, _handle: &ExecutorHandle) {}

    /// The stream broke; the driver subscribes anew by itself.
    async fn disconnected(&mut self) {}

    /// The agent says that something is wrong with this executor; the driver ends after this.
    async fn error(&mut self, _message: String) {}
}
