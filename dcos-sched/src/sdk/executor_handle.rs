//! What an executor can say: the calls of the executor API.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use dcos_proto::executor::{Call, call};
use dcos_proto::mesos::{ExecutorId, FrameworkId, TaskId, TaskState, TaskStatus, task_status};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::unacknowledged::Unacknowledged;
use super::{ExecutorConfig, ExecutorTransport, TransportError};

/// Speaks in the name of an executor. Cheap to clone; usable from any task.
#[derive(Debug, Clone)]
pub struct ExecutorHandle {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) transport: Arc<dyn ExecutorTransport>,
    framework_id: FrameworkId,
    executor_id: ExecutorId,
    unacknowledged: Mutex<Unacknowledged>,
    /// There may be something to tell, or all may be settled.
    pub(super) changed: Notify,
    pub(super) stop: CancellationToken,
}

impl ExecutorHandle {
    pub(super) fn new(config: &ExecutorConfig, transport: Arc<dyn ExecutorTransport>) -> Self {
        Self {
            shared: Arc::new(Shared {
                transport,
                framework_id: config.framework_id.clone(),
                executor_id: config.executor_id.clone(),
                unacknowledged: Mutex::default(),
                changed: Notify::new(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// The framework this executor belongs to.
    pub fn framework_id(&self) -> &FrameworkId {
        &self.shared.framework_id
    }

    /// This executor's id.
    pub fn executor_id(&self) -> &ExecutorId {
        &self.shared.executor_id
    }

    /// Says that a task is in `state` now. See [`update_with`](Self::update_with).
    pub fn update(&self, task: TaskId, state: TaskState) {
        self.update_with(TaskStatus {
            task_id: task,
            state: state.into(),
            ..TaskStatus::default()
        });
    }

    /// Says what became of a task. Never waits and never fails: the driver tells the agent, in the
    /// order of these calls, and tells it again until it is acknowledged.
    ///
    /// Executor, source, time and uuid are filled in.
    pub fn update_with(&self, mut status: TaskStatus) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        status.executor_id = Some(self.shared.executor_id.clone());
        status.source = Some(task_status::Source::Executor.into());
        status.timestamp = Some(now.unwrap_or_default().as_secs_f64());
        status.uuid = Some(uuid::Uuid::new_v4().as_bytes().to_vec());
        self.shared.unacknowledged().add(status);
        self.shared.changed.notify_one();
    }

    /// Sends `data` to the scheduler, once: it may get lost.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn message(&self, data: Vec<u8>) -> Result<(), TransportError> {
        let mut call = self.shared.call(call::Type::Message);
        call.message = Some(call::Message { data });
        self.shared.transport.call(call).await
    }

    /// Ends the driver once the agent has acknowledged all updates, or the grace period is over.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    pub(super) fn unacknowledged(&self) -> MutexGuard<'_, Unacknowledged> {
        self.unacknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn call(&self, kind: call::Type) -> Call {
        Call {
            framework_id: self.framework_id.clone(),
            executor_id: self.executor_id.clone(),
            r#type: Some(kind.into()),
            ..Call::default()
        }
    }
}
