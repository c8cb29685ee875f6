//! Keeps a framework subscribed and hands it what the master sends.

use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_proto::mesos::{FrameworkId, FrameworkInfo, TaskStatus};
use dcos_proto::scheduler::{Call, Event, call, event};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::handle::Session;
use super::{Backoff, Handle, Scheduler, SchedulerTransport, TOO_SLOW, TransportError};

/// Who acknowledges status updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acknowledge {
    /// The driver, after [`Scheduler::update`] has returned.
    #[default]
    Automatic,
    /// The scheduler, through [`Handle::acknowledge`]: right where the update must be durable first.
    Explicit,
}

/// How a driver behaves.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// The framework. With an `id`, it takes up where that framework left.
    pub framework: FrameworkInfo,
    /// Roles that start without offers.
    pub suppressed_roles: Vec<String>,
    /// Who acknowledges status updates. Default: the driver.
    pub acknowledge: Acknowledge,
    /// The first and the longest wait between two tries to subscribe. Default: 100 ms and 30 s.
    /// Shorter waits burden a master that just came up; longer ones leave offers unused.
    pub backoff: (Duration, Duration),
    /// How many heartbeats may be missed before the link counts as dead. Default: 5.
    pub missed_heartbeats: u32,
}

impl DriverConfig {
    /// The defaults for `framework`.
    pub fn new(framework: FrameworkInfo) -> Self {
        Self {
            framework,
            suppressed_roles: Vec::new(),
            acknowledge: Acknowledge::default(),
            backoff: (Duration::from_millis(100), Duration::from_secs(30)),
            missed_heartbeats: 5,
        }
    }
}

/// How a driver came to its end when it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The framework is still registered and may come back under its id.
    MayReturn,
    /// The framework is gone, and its tasks with it.
    TornDown,
}

/// Why a driver ended without being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The master refused the subscription; trying again unchanged will not help.
    #[error("the master refused the subscription")]
    Refused {
        /// What the master said.
        source: TransportError,
    },
    /// The master ended the framework.
    #[error("the master ended the framework: {message}")]
    Ended {
        /// What the master said.
        message: String,
    },
}

/// Runs one [`Scheduler`].
#[derive(Debug)]
pub struct SchedulerDriver {
    config: DriverConfig,
    handle: Handle,
    session: watch::Sender<Session>,
    stopped: watch::Receiver<Option<Stopped>>,
}

/// How one stream ended.
enum End {
    Broken,
    Stopped,
    Error(String),
}

/// The two ways a driver is told to stop.
struct Stopping<'a> {
    asked: &'a CancellationToken,
    cancelled: &'a CancellationToken,
}

impl Stopping<'_> {
    async fn wait(&self) {
        tokio::select! {
            () = self.asked.cancelled() => {}
            () = self.cancelled.cancelled() => {}
        }
    }
}

/// Acknowledgements on their way at a time. An agent sends the next update of a task only after
/// the last was acknowledged, so they need no order, and waiting for each would bound a framework
/// to one round trip an update.
const MAX_ACKNOWLEDGEMENTS: usize = 64;
/// How long a driver that stops waits for them.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl SchedulerDriver {
    /// A driver that is not yet subscribed.
    pub fn new(config: DriverConfig, transport: Arc<dyn SchedulerTransport>) -> Self {
        let framework_id = config.framework.id.clone();
        let (session, receiver) = watch::channel(Session {
            stream_id: None,
            framework_id,
        });
        let (stop, stopped) = watch::channel(None);
        let cancel = CancellationToken::new();
        let handle = Handle {
            transport,
            session: receiver,
            stop,
            cancel,
        };
        Self {
            config,
            handle,
            session,
            stopped,
        }
    }

    /// What to speak through, also before and while the driver runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Subscribes, and calls `scheduler` until it is stopped through its [`Handle`] or `cancel`
    /// fires (the framework may return then).
    ///
    /// A future dropped half-way leaves the framework registered, as after a crash.
    ///
    /// # Errors
    /// [`DriverError`]: the master wants nothing of this framework.
    pub async fn run(
        self,
        scheduler: &mut impl Scheduler,
        cancel: &CancellationToken,
    ) -> Result<Stopped, DriverError> {
        let stop = self.handle.cancel.clone();
        let stopping = Stopping {
            asked: &stop,
            cancelled: cancel,
        };
        let mut backoff = Backoff::new(
            self.config.backoff.0,
            self.config.backoff.1,
            Seed::from_os(),
        );
        loop {
            let end = self.stream(scheduler, &mut backoff, &stopping).await?;
            self.session.send_modify(|session| session.stream_id = None);
            match end {
                End::Stopped => {
                    return Ok(self.stopped.borrow().unwrap_or(Stopped::MayReturn));
                }
                End::Error(message) => {
                    scheduler.error(message.clone()).await;
                    return Err(DriverError::Ended { message });
                }
                End::Broken => {
                    let wait = backoff.wait();
                    debug!(?wait, "subscribing anew");
                    let _ = tokio::time::timeout(wait, stopping.wait()).await;
                }
            }
        }
    }

    /// One stream, from SUBSCRIBE to its end. A call of the scheduler's methods is never cut short:
    /// `stopping` is heeded between them.
    async fn stream(
        &self,
        scheduler: &mut impl Scheduler,
        backoff: &mut Backoff,
        stopping: &Stopping<'_>,
    ) -> Result<End, DriverError> {
        let subscription = tokio::select! {
            () = stopping.wait() => return Ok(End::Stopped),
            subscription = self.handle.transport.subscribe(self.subscribe_call()) => subscription,
        };
        let mut subscription = match subscription {
            Ok(subscription) => subscription,
            Err(error) if error.is_transient() => {
                warn!(error = %dcos_core::error::chain(&error), "can't subscribe");
                return Ok(End::Broken);
            }
            Err(source) => return Err(DriverError::Refused { source }),
        };
        self.session.send_modify(|session| {
            session.stream_id = Some(subscription.stream_id.clone());
        });
        // Until SUBSCRIBED says otherwise: the original's heartbeat.
        let mut patience = Duration::from_secs(15) * self.config.missed_heartbeats;
        let mut acknowledgements = JoinSet::new();
        loop {
            // Once stopped, what still arrives is nobody's: a torn down framework has no voice.
            let event = tokio::select! {
                biased;
                () = stopping.wait() => {
                    let last = acknowledgements.join_all();
                    let _ = tokio::time::timeout(LAST_WORDS, last).await;
                    return Ok(End::Stopped);
                }
                event = tokio::time::timeout(patience, subscription.events.recv()) => event,
            };
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) => {
                    warn!(?patience, "no heartbeat: the link counts as dead");
                    break;
                }
            };
            if let Some(subscribed) = &event.subscribed {
                backoff.reset();
                self.adopt(&subscribed.framework_id);
                if let Some(interval) = heartbeat(subscribed) {
                    patience = interval * self.config.missed_heartbeats;
                }
            }
            if let (event::Type::Error, Some(error)) = (event.r#type(), &event.error) {
                if error.message == TOO_SLOW {
                    warn!(
                        "events came faster than they were dealt with: the master cut the stream"
                    );
                    break;
                }
                return Ok(End::Error(error.message.clone()));
            }
            self.dispatch(scheduler, event, &mut acknowledgements).await;
        }
        self.session.send_modify(|session| session.stream_id = None);
        scheduler.disconnected().await;
        Ok(End::Broken)
    }

    async fn dispatch(
        &self,
        scheduler: &mut impl Scheduler,
        event: Event,
        acknowledgements: &mut JoinSet<()>,
    ) {
        let handle = &self.handle;
        if let Some(event) = event.subscribed {
            scheduler
                .subscribed(handle, event.framework_id, event.master_info)
                .await;
        } else if let Some(event) = event.offers {
            scheduler.offers(handle, event.offers).await;
        } else if let Some(event) = event.update {
            let status = event.status.clone();
            scheduler.update(handle, event.status).await;
            if self.config.acknowledge == Acknowledge::Automatic && status.uuid.is_some() {
                if acknowledgements.len() >= MAX_ACKNOWLEDGEMENTS {
                    acknowledgements.join_next().await;
                }
                while acknowledgements.try_join_next().is_some() {}
                acknowledgements.spawn(acknowledge(handle.clone(), status));
            }
        } else if let Some(event) = event.rescind {
            scheduler.rescinded(handle, event.offer_id).await;
        } else if let Some(event) = event.message {
            scheduler
                .message(handle, event.agent_id, event.executor_id, event.data)
                .await;
        } else if let Some(event) = event.failure {
            scheduler
                .failure(handle, event.agent_id, event.executor_id, event.status)
                .await;
        } else if let Some(event) = event.inverse_offers {
            scheduler.inverse_offers(handle, event.inverse_offers).await;
        } else if let Some(event) = event.update_operation_status {
            scheduler.operation_update(handle, event.status).await;
        }
    }

    fn adopt(&self, framework_id: &FrameworkId) {
        self.session.send_if_modified(|session| {
            let new = session.framework_id.as_ref() != Some(framework_id);
            if new {
                info!(framework = %framework_id, "subscribed");
                session.framework_id = Some(framework_id.clone());
            }
            new
        });
    }

    fn subscribe_call(&self) -> Call {
        let framework_id = self.session.borrow().framework_id.clone();
        let framework_info = FrameworkInfo {
            id: framework_id.clone(),
            ..self.config.framework.clone()
        };
        Call {
            framework_id,
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info,
                suppressed_roles: self.config.suppressed_roles.clone(),
                ..call::Subscribe::default()
            }),
            ..Call::default()
        }
    }
}

async fn acknowledge(handle: Handle, status: TaskStatus) {
    if let Err(error) = handle.acknowledge(&status).await {
        // The agent sends the update again.
        debug!(error = %dcos_core::error::chain(&error), "can't acknowledge");
    }
}

fn heartbeat(subscribed: &event::Subscribed) -> Option<Duration> {
    let seconds = subscribed.heartbeat_interval_seconds?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|interval| !interval.is_zero())
}
