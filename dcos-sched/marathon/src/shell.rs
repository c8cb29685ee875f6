//! The part with a clock, a disk and a network: carries out what the [`Core`] decides.
//!
//! ```text
//! master ── events ──► ┐                       ┌──► rows ──► store (one transaction)
//! API ──── requests ──►├─ mailbox ─► Core ─► Batch            │ once durable
//! checks ── results ──►┘                       └──► calls ──► master, events ──► listeners,
//!                                                   answers ──► API, view ──► readers
//! ```
//!
//! Whatever waits in the mailbox is taken in before the store is asked, so that under load one
//! transaction carries many requests. If the store refuses, what the core knows is ahead of what is durable, and
//! only starting over makes them one again: [`run`] ends with an error, or begins anew itself where the store is
//! well and the change is not.

mod backup;
mod link;
mod mailbox;
mod probes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::scheduler::Call;
use dcos_sched::sdk::{DriverError, SchedulerTransport};
use dcos_store::{Fence, StateStore, StoreError, Transaction};
use dcos_wire::{Listener, Server};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::api;
use crate::api::metrics::{Writes, up_since};
use crate::config::Config;
use crate::core::{Batch, Core, Input, PREFIX, RecoverError};
use crate::engine::{Machine, Service};
use crate::guard::entrance;

pub use backup::Between;
pub use link::framework_info;
pub(crate) use mailbox::Letter;
pub use mailbox::{Gone, Mailbox};

/// Why a service ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store failed; nothing unacknowledged is lost, nothing acknowledged is.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The store's content cannot be read.
    #[error("the state cannot be recovered")]
    Recover(#[from] RecoverError),
    /// The master wants nothing of this framework.
    #[error("the master ended the framework")]
    Master(#[from] DriverError),
}

/// Runs a Marathon until `cancel` fires: takes up what `store` holds, stays subscribed through
/// `transport`, and serves the API on `listener`.
///
/// # Errors
/// Those of [`serve`].
pub async fn run(
    config: Config,
    store: Arc<dyn StateStore>,
    fence: Fence,
    transport: Arc<dyn SchedulerTransport>,
    listener: Listener,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let marathon = Marathon(Arc::new(config));
    Box::pin(serve(marathon, store, fence, transport, listener, cancel)).await
}

/// The service this crate is.
#[derive(Debug)]
struct Marathon(Arc<Config>);

impl Service for Marathon {
    type Machine = Core;

    fn name(&self) -> &'static str {
        "marathon"
    }

    fn prefix(&self) -> &'static str {
        PREFIX
    }

    fn config(&self) -> &Arc<Config> {
        &self.0
    }

    fn recover(&self, seed: Seed, now: Time, rows: &[(&str, &[u8])]) -> Result<Core, RecoverError> {
        Core::recover(Arc::clone(&self.0), seed, now, rows.iter().copied())
    }

    fn router(&self, mailbox: Mailbox, ending: CancellationToken) -> axum::Router {
        api::router(mailbox, ending)
    }

    async fn beside(&self, mailbox: Mailbox, ending: CancellationToken) {
        probes::run(mailbox, ending).await;
    }
}

/// Runs a service until `cancel` fires: takes up what `store` holds, stays subscribed through
/// `transport`, and serves clients on `listener`.
///
/// Every write to `store` carries `fence`. A client that asks the service to abdicate gets what a
/// change of leaders amounts to: everything is read anew from the store. So it is after a change that the store can't take (a
/// document that is too large), whose requests are not answered well, and when somebody has ended the framework (TEARDOWN): it then
/// registers as another one, whose tasks are launched anew, those with volumes on the volumes they had. Ending leaves tasks running and the framework registered.
///
/// # Errors
/// [`RunError`]: the caller starts over, with a new fence if it lost its leadership.
pub async fn serve<S: Service>(
    service: S,
    store: Arc<dyn StateStore>,
    fence: Fence,
    transport: Arc<dyn SchedulerTransport>,
    listener: Listener,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    up_since();
    let config = Arc::clone(service.config());
    let core = recover(&service, store.as_ref()).await?;
    let (letters, inbox) = mpsc::channel(1024);
    let (events, _) = broadcast::channel(config.event_stream_max_outstanding_messages.max(1));
    let (view, viewer) = watch::channel(Arc::new(core.view(now())));
    let (abdication, mut abdications) = mpsc::channel(1);
    let writes = Writes::new();
    let mailbox = Mailbox::new(
        letters,
        viewer,
        events.clone(),
        Arc::clone(&config),
        abdication,
        Arc::clone(&writes),
    );
    // Replaced at the beginning of each life.
    let (calls, _) = mpsc::channel(1);
    let mut keeper = Keeper {
        core,
        store,
        fence,
        inbox,
        calls,
        events,
        view,
        writes,
    };

    // The server ends first, so that what it accepted is still answered; then the rest is dropped.
    let router = service.router(mailbox.clone(), cancel.clone());
    let router = entrance(&config.origins, config.guard.as_ref(), router);
    let server = Server::new(router);
    let server = server.ssl(config.tls.as_ref()).serve(listener, cancel);
    let mut server = std::pin::pin!(server);
    loop {
        let life = CancellationToken::new();
        let _end_with_me = life.clone().drop_guard();
        let (calls, outgoing) = mpsc::channel(MOST_CALLS);
        keeper.calls = calls;
        let end = tokio::select! {
            _ = &mut server => break,
            ended = keeper.run() => End::Itself(ended),
            ended = link::run(mailbox.clone(), Arc::clone(&transport), outgoing, &life) => {
                End::Itself(ended.map_err(RunError::from))
            }
            () = service.beside(mailbox.clone(), life.clone()) => break,
            between = abdications.recv() => End::Abdicated(between.unwrap_or_default()),
        };
        // Nobody else can lead under this fence, so the next life is ours as well.
        let mut removed = false;
        match end {
            End::Abdicated(between) => {
                info!("leadership abdicated, beginning anew");
                see_to(&service, &keeper, &between).await;
            }
            End::Itself(Err(RunError::Store(error @ StoreError::Invalid { .. }))) => {
                let error = dcos_core::error::chain(&error).to_string();
                error!(
                    error,
                    "the store can't take a change: it is undone, beginning anew"
                );
                tokio::select! {
                    _ = &mut server => break,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            End::Itself(Err(RunError::Master(DriverError::Ended { message })))
                if message.contains(REMOVED) =>
            {
                error!(%message, "this framework was ended, by somebody or for having been away too long, and its tasks with it: registering as another one");
                removed = true;
            }
            End::Itself(ended) => return ended,
        }
        keeper.core = recover(&service, keeper.store.as_ref()).await?;
        if removed {
            // Durable before anybody subscribes.
            keeper.core.handle(now(), Input::FrameworkEnded);
            keeper.settle(Vec::new()).await?;
        }
        keeper.view.send_replace(Arc::new(keeper.core.view(now())));
    }
    info!(name = service.name(), "ended");
    Ok(())
}

/// How a life of a service ended.
enum End {
    /// A client asked for another one.
    Abdicated(Between),
    /// By itself.
    Itself(Result<(), RunError>),
}

/// What a master says to a framework that was ended, which it will not take back under its id.
const REMOVED: &str = "Framework has been removed";

/// Between two lives, where the second may end as the first did.
const PAUSE: Duration = Duration::from_secs(2);

/// Writes a backup, or takes one back, while nobody else writes. What fails is told, and leaves the state as it is.
async fn see_to<S: Service>(service: &S, keeper: &Keeper<S::Machine>, between: &Between) {
    let store = keeper.store.as_ref();
    if let Some(path) = &between.backup {
        match backup::save(store, service.prefix(), path).await {
            Ok(rows) => info!(path = %path.display(), rows, "backup written"),
            Err(error) => {
                let error = dcos_core::error::chain(&error);
                warn!(path = %path.display(), %error, "no backup was written");
            }
        }
    }
    if let Some(path) = &between.restore {
        match backup::load(service, store, &keeper.fence, path).await {
            Ok(rows) => info!(path = %path.display(), rows, "backup restored"),
            Err(error) => {
                let error = dcos_core::error::chain(&error);
                warn!(path = %path.display(), %error, "no backup was restored; everything is as it was");
            }
        }
    }
}

async fn recover<S: Service>(service: &S, store: &dyn StateStore) -> Result<S::Machine, RunError> {
    let rows = store.scan(service.prefix()).await?.entries;
    info!(name = service.name(), rows = rows.len(), "state read");
    let rows: Vec<(&str, &[u8])> = rows
        .iter()
        .map(|entry| (&*entry.key, &*entry.value))
        .collect();
    Ok(service.recover(Seed::from_os(), now(), &rows)?)
}

/// The clock.
pub(crate) fn now() -> Time {
    dcos_core::time::steady()
}

/// Holds the core and makes durable what it decides.
struct Keeper<M: Machine> {
    core: M,
    store: Arc<dyn StateStore>,
    fence: Fence,
    inbox: mpsc::Receiver<Letter<M>>,
    calls: mpsc::Sender<Call>,
    events: broadcast::Sender<crate::event::Event>,
    view: watch::Sender<Arc<M::View>>,
    writes: Arc<Writes>,
}

/// How many calls may wait for the master: all that ten thousand instances can give rise to, in
/// some tens of megabytes.
const MOST_CALLS: usize = 64 * 1024;

/// How many letters one transaction may carry.
const MOST_LETTERS: usize = 256;

impl<M: Machine> Keeper<M> {
    async fn run(&mut self) -> Result<(), RunError> {
        self.settle(Vec::new()).await?;
        loop {
            let wait = self
                .core
                .next_deadline(now())
                .map_or(Duration::from_mins(1), |deadline| {
                    now().until(deadline).max(Duration::from_millis(1))
                });
            let mut letters = Vec::new();
            tokio::select! {
                () = tokio::time::sleep(wait) => self.core.handle(now(), Input::Tick),
                count = self.inbox.recv_many(&mut letters, MOST_LETTERS) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
            }
            self.settle(letters).await?;
        }
    }

    /// Takes letters in, makes what follows durable, and only then lets anybody know.
    async fn settle(&mut self, letters: Vec<Letter<M>>) -> Result<(), RunError> {
        let mut answers = Vec::new();
        for letter in letters {
            match letter {
                Letter::Input(input) => self.core.handle(now(), input),
                Letter::Request(request) => answers.push(request(&mut self.core, now())),
                Letter::Publish(event) => {
                    let _ = self.events.send(event);
                }
            }
        }
        let batch = self.core.take(now());
        let changed = !batch.is_empty() || !answers.is_empty();
        self.commit(&batch).await?;
        if changed {
            self.view.send_replace(Arc::new(self.core.view(now())));
        }
        for answer in answers {
            answer();
        }
        for event in batch.events {
            // Nobody listening is no failure.
            let _ = self.events.send(event);
        }
        for call in batch.calls {
            // The other end ends with this one. A call that finds no room is lost like one that
            // finds no master, and is made good in the same ways.
            if let Err(TrySendError::Full(call)) = self.calls.try_send(call) {
                warn!(kind = ?call.r#type(), "the master takes no calls; one is left out");
            }
        }
        if let Some(message) = batch.fatal {
            return Err(DriverError::Ended { message }.into());
        }
        Ok(())
    }

    async fn commit(&self, batch: &Batch) -> Result<(), RunError> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        // Of several changes of a row the last one counts.
        let mut writes = std::collections::BTreeMap::new();
        for row in &batch.rows {
            writes.insert(&row.key, &row.value);
        }
        let mut transaction = Transaction::new(self.fence.clone());
        for (key, value) in writes {
            transaction = match value {
                Some(value) => transaction.put(key.clone(), Bytes::copy_from_slice(value)),
                None => transaction.delete(key.clone()),
            };
        }
        let begun = now();
        self.store
            .transact(transaction)
            .await
            .inspect_err(|error| {
                warn!(error = %dcos_core::error::chain(error), "the store refused a change");
            })?;
        self.writes.end(begun);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
