//! Keeps an executor subscribed and tells the agent what becomes of its tasks.

use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_proto::executor::{Event, call, event};
use dcos_proto::mesos::TaskStatus;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::executor_handle::Shared;
use super::{Executor, ExecutorConfig, ExecutorHandle, ExecutorTransport, TransportError};

/// Why an executor's driver ended in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorEnd {
    /// The executor asked for it through [`ExecutorHandle::stop`].
    Stopped,
    /// The agent asked for it.
    ShutDown,
    /// The agent went away, and did not come back in time if it was waited for.
    AgentLost,
}

/// Why an executor's driver ended out of order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// The agent refused the subscription; trying again will not help.
    #[error("the agent refused the subscription")]
    Refused {
        /// What the agent said.
        source: TransportError,
    },
    /// The agent said that something is wrong.
    #[error("the agent ended the executor: {message}")]
    Ended {
        /// What the agent said.
        message: String,
    },
}

/// Runs one [`Executor`].
#[derive(Debug)]
pub struct ExecutorDriver {
    config: ExecutorConfig,
    handle: ExecutorHandle,
}

/// How one stream ended.
enum Broken {
    Closed,
    End(ExecutorEnd),
    Error(String),
}

/// How long to wait before an update that could not be told is told again.
const RETRY: Duration = Duration::from_secs(1);

impl ExecutorDriver {
    /// A driver that is not yet subscribed.
    pub fn new(config: ExecutorConfig, transport: Arc<dyn ExecutorTransport>) -> Self {
        let handle = ExecutorHandle::new(&config, transport);
        Self { config, handle }
    }

    /// What to speak through, also before and while the driver runs.
    pub fn handle(&self) -> ExecutorHandle {
        self.handle.clone()
    }

    /// Subscribes, and calls `executor` until the agent or the executor itself ends it, or the
    /// agent is lost. In the end `executor` was told to shut down unless it stopped by itself.
    ///
    /// # Errors
    /// [`ExecutorError`]: the agent wants nothing of this executor.
    pub async fn run(self, executor: &mut impl Executor) -> Result<ExecutorEnd, ExecutorError> {
        let shared = &*self.handle.shared;
        let subscribed = self.keep_subscribed(executor);
        tokio::select! {
            ended = subscribed => ended,
            never = tell(shared) => match never {},
        }
    }

    async fn keep_subscribed(
        &self,
        executor: &mut impl Executor,
    ) -> Result<ExecutorEnd, ExecutorError> {
        let mut seed = Seed::from_os();
        let mut lost_since: Option<Instant> = None;
        let shared = &*self.handle.shared;
        loop {
            let mut call = shared.call(call::Type::Subscribe);
            call.subscribe = Some(shared.unacknowledged().begin_session());
            let subscription = tokio::select! {
                () = self.may_stop() => return Ok(ExecutorEnd::Stopped),
                subscription = shared.transport.subscribe(call) => subscription,
            };
            match subscription {
                Ok(events) => {
                    let ended = Box::pin(self.stream(executor, events)).await;
                    shared.unacknowledged().close();
                    match ended {
                        Broken::End(end) => return Ok(end),
                        Broken::Error(message) => {
                            executor.error(message.clone()).await;
                            return Err(ExecutorError::Ended { message });
                        }
                        Broken::Closed => {
                            lost_since = Some(Instant::now());
                            executor.disconnected().await;
                        }
                    }
                }
                Err(error) if error.is_transient() => {
                    debug!(error = %dcos_core::error::chain(&error), "can't subscribe");
                    lost_since = lost_since.or_else(|| Some(Instant::now()));
                }
                Err(source) => return Err(ExecutorError::Refused { source }),
            }
            let lost_for = lost_since.map_or(Duration::ZERO, |since| since.elapsed());
            if !self.config.checkpoint || lost_for >= self.config.recovery_timeout {
                warn!(?lost_for, "the agent is lost");
                self.shut_down(executor).await;
                return Ok(ExecutorEnd::AgentLost);
            }
            let wait = self.config.backoff_max.mul_f64(seed.unit());
            let _ = tokio::time::timeout(wait, self.may_stop()).await;
        }
    }

    /// One stream, from SUBSCRIBE to its end. A call of the executor's methods is never cut short
    /// but by the grace period of its shutdown.
    async fn stream(
        &self,
        executor: &mut impl Executor,
        mut events: mpsc::Receiver<Event>,
    ) -> Broken {
        let shared = &*self.handle.shared;
        loop {
            let event = tokio::select! {
                () = shared.stop.cancelled() => {
                    return self.settle(&mut events, ExecutorEnd::Stopped).await;
                }
                event = events.recv() => event,
            };
            let Some(event) = event else {
                return Broken::Closed;
            };
            match event.r#type() {
                event::Type::Shutdown => {
                    info!("the agent asks to shut down");
                    self.shut_down(executor).await;
                    return self.settle(&mut events, ExecutorEnd::ShutDown).await;
                }
                event::Type::Error => {
                    let message = event.error.map(|error| error.message);
                    return Broken::Error(message.unwrap_or_default());
                }
                _ => self.dispatch(executor, event).await,
            }
        }
    }

    async fn dispatch(&self, executor: &mut impl Executor, event: Event) {
        let handle = &self.handle;
        let shared = &*handle.shared;
        self.note(&event);
        if let Some(subscribed) = event.subscribed {
            executor.subscribed(handle, subscribed).await;
        } else if let Some(launch) = event.launch {
            shared.unacknowledged().launched(launch.task.clone());
            executor.launch(handle, launch.task).await;
        } else if let Some(launch) = event.launch_group {
            for task in &launch.task_group.tasks {
                shared.unacknowledged().launched(task.clone());
            }
            executor.launch_group(handle, launch.task_group).await;
        } else if let Some(kill) = event.kill {
            executor.kill(handle, kill.task_id, kill.kill_policy).await;
        } else if let Some(message) = event.message {
            executor.message(handle, message.data).await;
        }
    }

    /// Takes in what matters to the telling of updates.
    fn note(&self, event: &Event) {
        let shared = &*self.handle.shared;
        if let Some(acknowledged) = &event.acknowledged {
            let task = &acknowledged.task_id.value;
            let mut unacknowledged = shared.unacknowledged();
            unacknowledged.acknowledged(task, &acknowledged.uuid);
        } else if event.subscribed.is_some() {
            shared.unacknowledged().open();
            shared.changed.notify_one();
        }
    }

    async fn shut_down(&self, executor: &mut impl Executor) {
        let shutdown = executor.shutdown(&self.handle);
        if tokio::time::timeout(self.config.grace, shutdown)
            .await
            .is_err()
        {
            warn!(grace = ?self.config.grace, "shutting down takes too long and is cut short");
        }
    }

    /// Waits until the agent has acknowledged everything, within the grace period. If the agent
    /// goes away meanwhile and is to be waited for, the stream counts as closed.
    async fn settle(&self, events: &mut mpsc::Receiver<Event>, end: ExecutorEnd) -> Broken {
        let shared = &*self.handle.shared;
        let settled = async {
            while !shared.unacknowledged().is_settled() {
                let Some(event) = events.recv().await else {
                    return Broken::Closed;
                };
                self.note(&event);
            }
            Broken::End(end)
        };
        match tokio::time::timeout(self.config.grace, settled).await {
            Ok(Broken::Closed) if self.config.checkpoint && end == ExecutorEnd::Stopped => {
                Broken::Closed
            }
            Ok(_) => Broken::End(end),
            Err(_) => {
                warn!("the agent did not acknowledge all updates in time");
                Broken::End(end)
            }
        }
    }

    /// Until the executor has asked to stop and there is nothing left to tell an agent that may
    /// come back.
    async fn may_stop(&self) {
        let shared = &*self.handle.shared;
        shared.stop.cancelled().await;
        if self.config.checkpoint && !shared.unacknowledged().is_settled() {
            std::future::pending::<()>().await;
        }
    }
}

/// Tells the agent of updates, one after the other, whenever there is a stream.
async fn tell(shared: &Shared) -> std::convert::Infallible {
    loop {
        let next = shared.unacknowledged().next_to_tell();
        let Some(status) = next else {
            shared.changed.notified().await;
            continue;
        };
        let uuid = status.uuid.clone().unwrap_or_default();
        match send(shared, status).await {
            Ok(()) => {}
            Err(error) if error.is_transient() => {
                // If the stream breaks too, SUBSCRIBE tells it first.
                debug!(error = %dcos_core::error::chain(&error), "can't tell an update");
                tokio::time::sleep(RETRY).await;
                shared.unacknowledged().untold(&uuid);
            }
            Err(error) => {
                warn!(error = %dcos_core::error::chain(&error), "the agent refuses an update");
                shared.unacknowledged().refused(&uuid);
            }
        }
    }
}

async fn send(shared: &Shared, status: TaskStatus) -> Result<(), TransportError> {
    let mut call = shared.call(call::Type::Update);
    call.update = Some(call::Update { status });
    shared.transport.call(call).await
}
