//! The actors of this process and their inboxes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Message, Messenger, Upid};

/// What an actor hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody sent a message.
    Message(Message),
    /// The connection to an actor that was linked to is gone, and with it maybe the actor. It has
    /// to be linked to again to be watched further.
    Exited(Upid),
}

/// This process has an actor of that name already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this process has an actor called {name:?}")]
pub struct NameTaken {
    /// The name.
    pub name: String,
}

/// An actor of this process: hears [`Event`]s, or what is [made of them](Messenger::reading_actor),
/// and sends messages. It ends when dropped, and messages to it are answered with 404 from then on.
#[derive(Debug)]
pub struct Actor<T = Event> {
    handle: ActorHandle,
    inbox: mpsc::Receiver<T>,
}

impl<T> Actor<T> {
    pub(super) fn new(handle: ActorHandle, inbox: mpsc::Receiver<T>) -> Self {
        Self { handle, inbox }
    }

    /// The next event. A future dropped half-way loses nothing. Never `None` in practice, since
    /// the directory holds a sender for as long as the actor lives.
    pub async fn recv(&mut self) -> Option<T> {
        self.inbox.recv().await
    }

    /// The next event, if there is one already.
    pub fn try_recv(&mut self) -> Option<T> {
        self.inbox.try_recv().ok()
    }

    /// How many events wait.
    pub fn waiting(&self) -> usize {
        self.inbox.len()
    }

    /// To send as this actor from elsewhere.
    pub fn handle(&self) -> ActorHandle {
        self.handle.clone()
    }

    /// Its address.
    pub fn upid(&self) -> &Upid {
        self.handle.upid()
    }

    /// See [`ActorHandle::send`].
    pub fn send(&self, to: &Upid, name: &str, body: Bytes) {
        self.handle.send(to, name, body);
    }

    /// See [`ActorHandle::send_message`].
    pub fn send_message<M: dcos_proto::Message>(&self, to: &Upid, message: &M) {
        self.handle.send_message(to, message);
    }

    /// See [`ActorHandle::link`].
    pub fn link(&self, to: &Upid) {
        self.handle.link(to);
    }
}

impl<T> Drop for Actor<T> {
    fn drop(&mut self) {
        let inner = &self.handle.messenger.inner;
        inner.directory.remove(self.handle.upid.name());
    }
}

/// Sends as an actor. Clones are the same.
#[derive(Debug, Clone)]
pub struct ActorHandle {
    upid: Upid,
    messenger: Messenger,
}

impl ActorHandle {
    pub(super) fn new(upid: Upid, messenger: Messenger) -> Self {
        Self { upid, messenger }
    }

    /// The actor's address.
    pub fn upid(&self) -> &Upid {
        &self.upid
    }

    /// Sends a message. Never waits; whether it arrives is not known.
    pub fn send(&self, to: &Upid, name: &str, body: Bytes) {
        self.messenger.send(&self.upid, to, name, body);
    }

    /// Sends a message of Mesos under its v0 name.
    pub fn send_message<M: dcos_proto::Message>(&self, to: &Upid, message: &M) {
        self.send(to, M::V0_NAME, message.encode_to_vec().into());
    }

    /// Asks for [`Event::Exited`] when the connection to `to` breaks or can't be made.
    pub fn link(&self, to: &Upid) {
        self.messenger.link(&self.upid, to);
    }

    /// Takes [`ActorHandle::link`] back.
    pub fn unlink(&self, to: &Upid) {
        self.messenger.unlink(&self.upid, to);
    }
}

/// Where what an actor hears is put.
trait Inbox: Send + Sync {
    /// Puts an event in, as far as there is room.
    fn put(&self, event: Event) -> Put;
}

/// What became of an event.
enum Put {
    Done,
    /// The actor is gone.
    Gone,
    /// There is no room; it goes in when there is. `false` if the actor has gone by then.
    Waiting(BoxFuture<'static, bool>),
}

/// Makes something of events on its way to the actor.
struct Reading<T, F> {
    sender: mpsc::Sender<T>,
    read: F,
}

impl<T, F> Inbox for Reading<T, F>
where
    T: Send + 'static,
    F: Fn(Event) -> T + Send + Sync,
{
    fn put(&self, event: Event) -> Put {
        match self.sender.try_send((self.read)(event)) {
            Ok(()) => Put::Done,
            Err(TrySendError::Closed(_)) => Put::Gone,
            Err(TrySendError::Full(read)) => {
                let sender = self.sender.clone();
                Put::Waiting(async move { sender.send(read).await.is_ok() }.boxed())
            }
        }
    }
}

/// The actors of a process by name.
#[derive(Default)]
pub(super) struct Directory(Mutex<HashMap<String, Arc<dyn Inbox>>>);

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(actors.keys()).finish()
    }
}

impl Directory {
    /// Opens an inbox; what is put in is read by `read`, where it comes from.
    pub(super) fn add<T: Send + 'static>(
        &self,
        name: &str,
        capacity: usize,
        read: impl Fn(Event) -> T + Send + Sync + 'static,
    ) -> Result<mpsc::Receiver<T>, NameTaken> {
        let mut actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if actors.contains_key(name) {
            let name = name.to_owned();
            return Err(NameTaken { name });
        }
        let (sender, receiver) = mpsc::channel(capacity);
        actors.insert(name.to_owned(), Arc::new(Reading { sender, read }));
        Ok(receiver)
    }

    fn remove(&self, name: &str) {
        let mut actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        actors.remove(name);
    }

    /// Hands an event to an actor, waiting for room in its inbox; `false` if there is no such
    /// actor.
    pub(super) async fn deliver(&self, name: &str, event: Event) -> bool {
        let inbox = {
            let actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            actors.get(name).cloned()
        };
        match inbox.map(|inbox| inbox.put(event)) {
            Some(Put::Done) => true,
            Some(Put::Waiting(room)) => room.await,
            Some(Put::Gone) | None => false,
        }
    }
}
