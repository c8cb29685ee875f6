//! How everybody else speaks to the core, and sees it.

use std::sync::Arc;

use dcos_core::time::Time;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::Between;
use crate::api::metrics::Writes;
use crate::config::Config;
use crate::core::{Core, Input};
use crate::engine::Machine;
use crate::event::Event;
use crate::{Error, Timestamp};

/// Sends a finished answer.
pub(crate) type Answer = Box<dyn FnOnce() + Send>;

/// Something done with the core; what it returns is called once all is durable.
pub(crate) type Request<M> = Box<dyn FnOnce(&mut M, Time) -> Answer + Send>;

/// What arrives in the mailbox.
pub(crate) enum Letter<M> {
    /// Something happened.
    Input(Input),
    /// Somebody wants something.
    Request(Request<M>),
    /// An event that concerns listeners only.
    Publish(Event),
}

/// The core is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service is shutting down")]
pub struct Gone;

/// The way to a running core. Cheap to clone.
#[derive(Debug)]
pub struct Mailbox<M: Machine = Core> {
    letters: mpsc::Sender<Letter<M>>,
    view: watch::Receiver<Arc<M::View>>,
    events: broadcast::Sender<Event>,
    config: Arc<Config>,
    abdication: mpsc::Sender<Between>,
    writes: Arc<Writes>,
}

impl<M: Machine> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self {
            letters: self.letters.clone(),
            view: self.view.clone(),
            events: self.events.clone(),
            config: Arc::clone(&self.config),
            abdication: self.abdication.clone(),
            writes: Arc::clone(&self.writes),
        }
    }
}

impl<M: Machine> Mailbox<M> {
    pub(crate) fn new(
        letters: mpsc::Sender<Letter<M>>,
        view: watch::Receiver<Arc<M::View>>,
        events: broadcast::Sender<Event>,
        config: Arc<Config>,
        abdication: mpsc::Sender<Between>,
        writes: Arc<Writes>,
    ) -> Self {
        Self {
            letters,
            view,
            events,
            config,
            abdication,
            writes,
        }
    }

    /// How long changes take to be durable.
    pub fn writes(&self) -> &Writes {
        &self.writes
    }

    /// The latest picture of what is durable.
    pub fn view(&self) -> Arc<M::View> {
        Arc::clone(&self.view.borrow())
    }

    /// Waits for the next picture; false once there will be none.
    pub(crate) async fn changed(&mut self) -> bool {
        self.view.changed().await.is_ok()
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Ends this life of Marathon, so that the next one leads; what is to be done `between` them.
    pub(crate) fn abdicate(&self, between: Between) {
        // One that is asked to go already needs not be asked again.
        let _ = self.abdication.try_send(between);
    }

    /// Listens to events from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Tells the core what happened.
    pub(crate) async fn tell(&self, input: Input) {
        // A core that is gone needs to know nothing.
        let _ = self.letters.send(Letter::Input(input)).await;
    }

    /// Tells listeners.
    pub(crate) async fn publish(&self, event: impl FnOnce(Timestamp) -> Event) {
        let event = event(Timestamp::from(super::now()));
        let _ = self.letters.send(Letter::Publish(event)).await;
    }

    /// Does something with the core; the answer comes once everything that follows is durable.
    ///
    /// # Errors
    /// [`Gone`]: whether it was done is not known.
    pub async fn request<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut M, Time) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (sender, receiver) = oneshot::channel();
        let request: Request<M> = Box::new(move |core, now| {
            let answer = request(core, now);
            Box::new(move || {
                // Who does not wait any more needs no answer.
                let _ = sender.send(answer);
            })
        });
        self.letters
            .send(Letter::Request(request))
            .await
            .map_err(|_| Gone)?;
        receiver.await.map_err(|_| Gone)
    }
}

impl Mailbox {
    /// The same, for what may be refused.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut Core, Time) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let gone = |_| Error::Unavailable("Marathon is shutting down".to_owned());
        self.request(request).await.map_err(gone)?
    }
}
