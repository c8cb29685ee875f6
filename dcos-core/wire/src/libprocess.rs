//! The actor messages of libprocess: how Mesos's master, agents and drivers talk to each other.
//!
//! A message is a `POST /<actor>/<full.message.Name>` with the sender's [`Upid`] in a header, on the
//! same port as everything else; [`Messenger::server`] tells them from other requests. Each side
//! opens its own connection to the address in the other's UPID, so that a connection carries
//! messages one way only; answers say whether the actor exists, and senders ignore them. Messages
//! from one process to another arrive in order or not at all: nothing is repeated.
//!
//! [`Actor::link`] asks to be told when the connection to a peer breaks ([`Event::Exited`]), which
//! is how masters notice that a driver or an agent went away.
//!
//! Source: Mesos 1.11 `3rdparty/libprocess/src/{process,socket_manager,encoder}.cpp`.
//! Departures: queues are bounded. A peer that takes no more is cut and counts as exited, where the
//! original would queue until memory ends.
//!
//! ```
//! use dcos_wire::libprocess::{Event, Messenger};
//! use dcos_wire::Listener;
//! use tokio_util::sync::CancellationToken;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await?;
//! let messenger = Messenger::new(listener.address().expect("bound to TCP"));
//! let mut master = messenger.actor("master")?;
//! let stop = CancellationToken::new();
//! tokio::spawn(messenger.server(axum::Router::new()).serve(listener, stop.clone()));
//!
//! let other = Messenger::new("127.0.0.1:1".parse()?);
//! let agent = other.actor("slave(1)")?;
//! agent.send(master.upid(), "mesos.internal.PongSlaveMessage", "".into());
//!
//! let Some(Event::Message(message)) = master.recv().await else { panic!("no message") };
//! assert_eq!(message.from.to_string(), "slave(1)@127.0.0.1:1");
//! assert_eq!(message.name, "mesos.internal.PongSlaveMessage");
//! stop.cancel();
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

mod actor;
mod frame;
pub(crate) mod intake;
mod message;
mod peer;
mod pool;
mod service;
mod upid;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::Request;
use tower::Service;

pub use actor::{Actor, ActorHandle, Event, NameTaken};
pub use message::{Message, is_message};
pub use service::MessageService;
pub use upid::{Upid, UpidError};

use crate::Server;
use crate::tls::Ssl;
use actor::Directory;
use pool::Pool;

/// The bounds of a [`Messenger`].
#[derive(Debug, Clone)]
pub struct MessengerConfig {
    /// Refuse messages (400) that come from another IP address than the one in their sender's
    /// UPID. Off by default, as in libprocess (`LIBPROCESS_REQUIRE_PEER_ADDRESS_IP_MATCH`).
    pub require_peer_match: bool,
    /// Events that wait for one actor. When it is full, senders wait, as TCP makes them.
    pub inbox: usize,
    /// Messages that wait for one peer; one more, and it is cut.
    pub outbox_messages: usize,
    /// Bytes that wait for one peer; one more, and it is cut.
    pub outbox_bytes: usize,
    /// Until a connection to a peer stands; after that it counts as exited.
    pub connect_timeout: Duration,
    /// How long a peer may refuse to take more; after that it counts as exited.
    pub write_timeout: Duration,
    /// When a connection nobody is linked to is closed for want of messages.
    pub idle_timeout: Duration,
    /// How the connections to peers are encrypted; `None` leaves them plain.
    pub tls: Option<Ssl>,
}

impl Default for MessengerConfig {
    fn default() -> Self {
        Self {
            require_peer_match: false,
            inbox: 4096,
            outbox_messages: 64 * 1024,
            outbox_bytes: 512 << 20,
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(5),
            tls: None,
        }
    }
}

/// The messaging of one process: its actors, and its connections to other processes. Clones are
/// the same.
#[derive(Debug, Clone)]
pub struct Messenger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    config: MessengerConfig,
    directory: Arc<Directory>,
    pool: Pool,
}

impl Messenger {
    /// Messaging with default bounds, for a process that peers reach at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self::with_config(address, MessengerConfig::default())
    }

    /// Messaging for a process that peers reach at `address`: the address in the UPIDs of its
    /// actors, which may differ from the one it listens on (`--advertise_ip`).
    pub fn with_config(address: SocketAddr, config: MessengerConfig) -> Self {
        let directory = Arc::new(Directory::default());
        let pool = Pool::new(address, config.clone(), Arc::clone(&directory));
        Self {
            inner: Arc::new(Inner {
                address,
                config,
                directory,
                pool,
            }),
        }
    }

    /// Where peers reach this process.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Starts an actor called `name`. It ends when the returned value is dropped.
    ///
    /// # Errors
    /// This process has an actor of that name.
    pub fn actor(&self, name: &str) -> Result<Actor, NameTaken> {
        self.reading_actor(name, |event| event)
    }

    /// Starts an actor called `name` that hears what `read` makes of each event. It is called where
    /// the event comes from, on several threads at a time, so that what takes long there does not
    /// keep the actor from its work. Events of one sender stay in their order.
    ///
    /// # Errors
    /// This process has an actor of that name.
    pub fn reading_actor<T: Send + 'static>(
        &self,
        name: &str,
        read: impl Fn(Event) -> T + Send + Sync + 'static,
    ) -> Result<Actor<T>, NameTaken> {
        let upid = Upid::new(name, self.inner.address);
        let capacity = self.inner.config.inbox;
        let inbox = self.inner.directory.add(name, capacity, read)?;
        let handle = ActorHandle::new(upid, self.clone());
        Ok(Actor::new(handle, inbox))
    }

    /// A server for the actors and for `service`, which gets every request that is no message.
    /// Connections that bring nothing but messages never see HTTP.
    pub fn server<S>(&self, service: S) -> Server<MessageService<S>>
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        Server::new(self.wrap(service)).messages(self.clone())
    }

    /// Puts the actors in front of `service`, for a server that knows nothing of messages.
    pub fn wrap<S>(&self, service: S) -> MessageService<S> {
        MessageService::new(self.clone(), service)
    }

    /// Sends a message as an actor of this process. Never waits; whether it arrives is not known.
    pub fn send(&self, from: &Upid, to: &Upid, name: &str, body: Bytes) {
        self.inner.pool.send(from, to, name, body);
    }

    /// Delivers [`Event::Exited`] to the local actor `from` once the connection to `to` breaks,
    /// or can't be made.
    pub fn link(&self, from: &Upid, to: &Upid) {
        self.inner.pool.link(from, to);
    }

    /// Takes a [`Messenger::link`] back.
    pub fn unlink(&self, from: &Upid, to: &Upid) {
        self.inner.pool.unlink(from, to);
    }
}
