//! A running Metronome: the scheduler, driven by the shell it shares with Marathon.

use std::sync::Arc;

use axum::Router;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::RunError;
use dcos_marathon::core::RecoverError;
use dcos_marathon::engine::{Machine as _, Service};
use dcos_sched::sdk::SchedulerTransport;
use dcos_store::{Fence, StateStore};
use dcos_wire::Listener;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::api::{self, Mailbox};
use crate::config::Config;
use crate::core::{JobScheduler, PREFIX};

/// Runs a Metronome until `cancel` fires: takes up what `store` holds, stays subscribed through `transport`, and serves
/// the API on `listener`. Every write to `store` carries `fence`. Ending leaves tasks running.
///
/// # Errors
/// [`RunError`]: the caller starts over, with a new fence if it lost its leadership.
pub async fn run(
    config: Config,
    store: Arc<dyn StateStore>,
    fence: Fence,
    transport: Arc<dyn SchedulerTransport>,
    listener: Listener,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let service = Metronome(Arc::new(config));
    let serving = dcos_marathon::shell::serve(service, store, fence, transport, listener, cancel);
    Box::pin(serving).await
}

/// The service this crate is.
#[derive(Debug)]
struct Metronome(Arc<Config>);

impl Service for Metronome {
    type Machine = JobScheduler;

    fn name(&self) -> &'static str {
        "metronome"
    }

    fn prefix(&self) -> &'static str {
        PREFIX
    }

    fn config(&self) -> &Arc<dcos_marathon::Config> {
        &self.0.engine
    }

    fn recover(
        &self,
        seed: Seed,
        now: Time,
        rows: &[(&str, &[u8])],
    ) -> Result<JobScheduler, RecoverError> {
        let core = JobScheduler::recover(Arc::clone(&self.0), seed, now, rows.iter().copied())?;
        for job in core.view(now).jobs.values() {
            if let Some(why) = &job.too_large {
                warn!(job = %job.id(), "a job never runs until it is made smaller: {why}");
            }
        }
        Ok(core)
    }

    fn router(&self, mailbox: Mailbox, _: CancellationToken) -> Router {
        api::router(mailbox)
    }
}
