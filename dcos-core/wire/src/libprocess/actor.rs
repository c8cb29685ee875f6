//! The actors of this process and their inboxes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

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

/// An actor of this process: hears [`Event`]s, sends messages. It ends when dropped, and messages
/// to it are answered with 404 from then on.
#[derive(Debug)]
pub struct Actor {
    handle: ActorHandle,
    inbox: mpsc::Receiver<Event>,
}

impl Actor {
    pub(super) fn new(handle: ActorHandle, inbox: mpsc::Receiver<Event>) -> Self {
        Self { handle, inbox }
    }

    /// The next event. A future dropped half-way loses nothing. Never `None` in practice, since
    /// the directory holds a sender for as long as the actor lives.
    pub async fn recv(&mut self) -> Option<Event> {
        self.inbox.recv().await
    }

    /// The next event, if there is one already.
    pub fn try_recv(&mut self) -> Option<Event> {
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

impl Drop for Actor {
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

/// The actors of a process by name.
#[derive(Debug, Default)]
pub(super) struct Directory(Mutex<HashMap<String, mpsc::Sender<Event>>>);

impl Directory {
    pub(super) fn add(
        &self,
        name: &str,
        capacity: usize,
    ) -> Result<mpsc::Receiver<Event>, NameTaken> {
        let mut actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if actors.contains_key(name) {
            let name = name.to_owned();
            return Err(NameTaken { name });
        }
        let (sender, receiver) = mpsc::channel(capacity);
        actors.insert(name.to_owned(), sender);
        Ok(receiver)
    }

    fn remove(&self, name: &str) {
        let mut actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        actors.remove(name);
    }

    /// Hands an event to an actor, waiting for room in its inbox; `false` if there is no such
    /// actor.
    pub(super) async fn deliver(&self, name: &str, event: Event) -> bool {
        let sender = {
            let actors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            actors.get(name).cloned()
        };
        match sender {
            Some(sender) => sender.send(event).await.is_ok(),
            None => false,
        }
    }
}
