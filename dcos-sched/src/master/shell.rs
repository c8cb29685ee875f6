//! What carries out the core's decisions: one task that owns it, and the handles to it.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::FrameworkId;
use dcos_proto::scheduler::{Call, Event};
use dcos_security::Turns;
use dcos_store::{
    Election, ElectionError, Fence, Lease, Revision, Snapshot as Stored, StateStore, StoreError,
    Transaction,
};
use dcos_wire::libprocess::{Actor, Messenger, MessengerConfig, Upid};
use dcos_wire::records::RecordSender;
use dcos_wire::{Body, Listener, MediaType, Stopped};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::gauges::Gauges;
use super::http;
use super::http::Api;
use super::http::desk::Desk;
use super::http::sight::Sight;
use super::registry::{self, PREFIX};
use super::returning::ReadAhead;
use super::threads::{self, Readers};
use super::watchers::Watchers;
use super::whitelist::Whitelist;
use super::{Action, Config, Input, Master, Reader, Reply, RequestId, Snapshot, Stance, standby};
use crate::allocator::{Allocator, HierarchicalDrf, Metrics};
use crate::why::Wish;

/// Requests that wait for the core. It takes microseconds for each, so that a full queue means
/// some 10 ms of work; those who come then wait in their connections.
const COMMANDS: usize = 4096;

/// Inputs that are taken in before what came of them is carried out.
const BATCH: usize = 256;

/// Why a master ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The registry could not be read or written; another master may lead now.
    #[error("keeping the registry")]
    Store(#[from] StoreError),
    /// The registry does not answer. It may come to itself and have written what it was asked to;
    /// another master may lead by then.
    #[error(
        "the registry did not {verb} within {limit:?} (--{flag}): its disk or its servers do not answer"
    )]
    Silent {
        /// What it was asked for.
        verb: &'static str,
        /// How long it had.
        limit: Duration,
        /// The option that says so.
        flag: &'static str,
    },
    /// Masters of one cluster are all in one region: frameworks that do not know of regions are offered
    /// the agents of the leader's.
    #[error(
        "the leading master is in region {theirs:?}, this one (--domain) in {own:?}: all masters of a cluster must be in the same"
    )]
    Region {
        /// The leader's.
        theirs: String,
        /// This master's.
        own: String,
    },
    /// The election can't be held.
    #[error("standing for election")]
    Election(#[from] ElectionError),
    /// The leadership is over, or could be: another master may lead now.
    #[error("the leadership is lost")]
    Deposed,
    /// Which agents may be offered is not known.
    #[error("reading the whitelist {}", path.display())]
    Whitelist {
        /// The file.
        path: PathBuf,
        /// Why it can't be read.
        source: io::Error,
    },
    /// The registry was written by a newer master, and says what this one would not understand.
    #[error("the registry needs a master with {lacking}: start the newer one again")]
    Outdated {
        /// The capabilities it demands.
        lacking: String,
    },
    /// The master itself says that it must not lead.
    #[error("{reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// There is a master in this process already.
    #[error("starting the master's actor")]
    Actor(#[from] dcos_wire::libprocess::NameTaken),
    /// The system has no threads left for it.
    #[error("starting the master's threads")]
    Threads(#[source] io::Error),
    /// The listener is not one others could reach a master at.
    #[error("a master needs a TCP listener")]
    NoAddress,
}

/// Where the events of a stream go.
#[derive(Debug)]
pub(crate) enum Sink {
    Http(RecordSender, MediaType),
    Channel(mpsc::Sender<Event>),
}

impl Sink {
    /// Delivers an event; `false` if the reader is gone or does not keep up.
    fn send(&self, event: Arc<Event>) -> bool {
        match self {
            Self::Http(sender, media) => sender.send(encode(&*event, *media)).is_ok(),
            Self::Channel(sender) => sender.try_send(Arc::unwrap_or_clone(event)).is_ok(),
        }
    }

    fn closed(&self) -> BoxFuture<'static, ()> {
        match self {
            Self::Http(sender, _) => {
                let sender = sender.clone();
                async move { sender.closed().await }.boxed()
            }
            Self::Channel(sender) => {
                let sender = sender.clone();
                async move { sender.closed().await }.boxed()
            }
        }
    }
}

/// A message in the form a client asked for.
pub(crate) fn encode<M: dcos_proto::Message>(message: &M, media: MediaType) -> Bytes {
    match media {
        MediaType::Json => json::to_vec(message, Dialect::V1).into(),
        MediaType::Protobuf => message.encode_to_vec().into(),
    }
}

/// What a handle asks of the core.
pub(crate) enum Command {
    Call {
        stream_id: Option<String>,
        principal: Option<String>,
        call: Box<Call>,
        /// Where events go, if the call is a SUBSCRIBE.
        sink: Option<Sink>,
        answer: oneshot::Sender<Reply>,
    },
    Operator {
        principal: Option<String>,
        call: Box<dcos_proto::master::Call>,
        answer: oneshot::Sender<Reply>,
    },
    Priorities {
        principal: Option<String>,
        priorities: Vec<(String, i32)>,
        answer: oneshot::Sender<Reply>,
    },
    Read(oneshot::Sender<Arc<Snapshot>>),
    Explain(
        Option<FrameworkId>,
        Option<String>,
        Option<Wish>,
        Reader,
        oneshot::Sender<serde_json::Value>,
    ),
    Watch(MediaType, Sight, oneshot::Sender<Body>),
    Measure(oneshot::Sender<Metrics>),
}

/// Speaks to a running master from within its process. Clones speak to the same.
#[derive(Debug, Clone)]
pub struct MasterHandle {
    commands: mpsc::Sender<Command>,
    changes: watch::Receiver<u64>,
}

/// The master has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the master has stopped")]
pub struct MasterStopped;

impl MasterHandle {
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, MasterStopped> {
        let (answer, answered) = oneshot::channel();
        self.commands
            .send(command(answer))
            .await
            .map_err(|_| MasterStopped)?;
        answered.await.map_err(|_| MasterStopped)
    }

    /// Has an operator's order carried out: one of the calls of the operator API that change
    /// something. Answered after the change is durable.
    ///
    /// # Errors
    /// [`MasterStopped`]
    pub async fn order(
        &self,
        principal: Option<String>,
        call: dcos_proto::master::Call,
    ) -> Result<Reply, MasterStopped> {
        let call = Box::new(call);
        let command = |answer| Command::Operator {
            principal,
            call,
            answer,
        };
        self.ask(command).await
    }

    /// Gives roles these priorities; of several for one role the last counts. Answered after the
    /// change is durable.
    ///
    /// # Errors
    /// [`MasterStopped`]
    pub async fn prioritize(
        &self,
        principal: Option<String>,
        priorities: Vec<(String, i32)>,
    ) -> Result<Reply, MasterStopped> {
        let command = |answer| Command::Priorities {
            principal,
            priorities,
            answer,
        };
        self.ask(command).await
    }

    /// Everything there is to read. What any request that was answered before did is in it.
    ///
    /// # Errors
    /// [`MasterStopped`]
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, MasterStopped> {
        self.ask(Command::Read).await
    }

    /// Wakes whenever an agent, a framework or a task came, went or changed, so that a reader knows
    /// when to take another [`snapshot`](Self::snapshot). Changes in quick succession may wake it
    /// once.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// The event stream of the operator API, as a body.
    pub(crate) async fn watch(
        &self,
        media: MediaType,
        sight: Sight,
    ) -> Result<Body, MasterStopped> {
        self.ask(|answer| Command::Watch(media, sight, answer))
            .await
    }
}

/// A master that is set up but does not run yet.
///
/// Take a [`handle`](Self::handle) for frameworks in this process, then [`run`](Self::run) it.
#[derive(Debug)]
pub struct Node {
    config: Config,
    allocator: Box<dyn Allocator>,
    handle: MasterHandle,
    commands: mpsc::Receiver<Command>,
    changed: watch::Sender<u64>,
    stance: watch::Sender<Stance>,
    seed: Seed,
}

/// How a master comes to lead.
enum Office {
    Held(Fence),
    Elective(Arc<dyn Election>),
}

impl Node {
    /// A master with the default allocator.
    pub fn new(config: Config) -> Self {
        let seed = Seed::from_os();
        let allocator = HierarchicalDrf::new(config.allocator.clone(), &seed.stream("allocator"));
        Self::with_allocator(config, Box::new(allocator))
    }

    /// A master that shares resources as `allocator` decides.
    pub fn with_allocator(config: Config, allocator: Box<dyn Allocator>) -> Self {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (changed, changes) = watch::channel(0);
        Self {
            config,
            allocator,
            handle: MasterHandle {
                commands: sender,
                changes,
            },
            changed,
            commands,
            stance: watch::Sender::new(Stance::Standby(None)),
            seed: Seed::from_os(),
        }
    }

    /// To speak to it from within this process.
    pub fn handle(&self) -> MasterHandle {
        self.handle.clone()
    }

    /// What it may do, now and later.
    pub fn stance(&self) -> watch::Receiver<Stance> {
        self.stance.subscribe()
    }

    /// Reads the registry, then serves API and libprocess messages on `listener` until `stop` is
    /// cancelled. `fence` is the leadership under which it writes.
    ///
    /// # Errors
    /// [`RunError`]. The process should end then: what the master decided last may not be stored.
    pub async fn run(
        self,
        store: Arc<dyn StateStore>,
        fence: Fence,
        listener: Listener,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        self.stance.send_replace(Stance::Leading);
        self.start(store, Office::Held(fence), listener, stop).await
    }

    /// Serves on `listener` as one master of several: redirects to the leader until it is elected, then
    /// leads as [`run`](Self::run) does, until `stop` is cancelled or the leadership is over.
    ///
    /// # Errors
    /// [`RunError::Deposed`] and all others: the process should end, or begin anew, at once.
    pub async fn stand(
        self,
        store: Arc<dyn StateStore>,
        election: Arc<dyn Election>,
        listener: Listener,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        self.start(store, Office::Elective(election), listener, stop)
            .await
    }

    async fn start(
        self,
        store: Arc<dyn StateStore>,
        office: Office,
        listener: Listener,
        stop: CancellationToken,
    ) -> Result<(), RunError> {
        let mut address = self.config.advertise;
        let bound = listener.address().ok_or(RunError::NoAddress)?;
        if address.port() == 0 {
            address.set_port(bound.port());
        }
        let messenger = MessengerConfig {
            tls: self.config.tls.clone(),
            require_peer_match: self.config.require_peer_match,
            ..MessengerConfig::default()
        };
        let messenger = Messenger::with_config(address, messenger);
        let reader = ReadAhead::default();
        let mut actor = messenger.reading_actor("master", move |heard| reader.input(heard))?;
        let mut settings = self.config.settings.clone();
        settings.info = self.config.master_info(address, &self.seed);
        settings.https = self.config.tls.is_some();
        tracing::info!(id = settings.info.id, %address, "the master is starting");
        let stance = self.stance.subscribe();
        let gauges = Arc::new(Gauges {
            connections: self.config.server.load.clone(),
            ..Gauges::default()
        });
        let desk = Desk::new(Arc::clone(&gauges));
        let readers = Readers::start().map_err(RunError::Threads)?;
        let config = Arc::new(self.config);
        let api = http::router(Api {
            master: self.handle,
            config: Arc::clone(&config),
            desk: desk.clone(),
            stance,
            gauges: Arc::clone(&gauges),
            files: http::shown(&config),
            metrics: Turns::new(&config.metrics_limit),
        });
        let halt = stop.child_token();
        let server = messenger.server(api).ssl(config.tls.as_ref());
        let mut server = server.config(config.server.clone());
        if let Some(runtime) = readers.handle() {
            server = server.aside(runtime, http::only_reads);
        }
        let serving = server.serve(listener, halt.clone());
        let deciding = async {
            let (fence, lease, _leadership) = match office {
                Office::Held(fence) => (fence, Lease::endless(CancellationToken::new()), None),
                Office::Elective(election) => {
                    let info = &settings.info;
                    let elected =
                        standby::campaign(&*election, info, &mut actor, &self.stance, &stop);
                    let Some(leadership) = elected.await? else {
                        return Ok(());
                    };
                    self.stance.send_replace(Stance::Recovering);
                    (leadership.fence(), leadership.lease(), Some(leadership))
                }
            };
            let whitelist = config.whitelist.clone();
            let loop_ = Loop {
                core: Master::new(settings, self.allocator, &self.seed, now()),
                actor,
                commands: self.commands,
                registry: Registry {
                    store,
                    store_timeout: config.registry_store_timeout,
                    fetch_timeout: config.registry_fetch_timeout,
                },
                fence,
                lease,
                writing: None,
                requests: BTreeMap::new(),
                next_request: 0,
                sinks: BTreeMap::new(),
                closings: JoinSet::new(),
                whitelist: None,
                watchers: Watchers::new(desk.clone(), Arc::clone(&config)),
                changed: self.changed,
                stance: self.stance,
                gauges,
            };
            let stop = stop.clone();
            let run = async move { loop_.run(whitelist, &stop).await };
            tokio::select! {
                result = threads::apart(run).map_err(RunError::Threads)? => result,
                () = desk.tidy() => Ok(()),
            }
        };
        let (mut serving, mut deciding) = (pin!(serving), pin!(deciding));
        // Told to stop, both end; which first is chance.
        let mut stopped = None;
        let result = tokio::select! {
            result = &mut deciding => result,
            server = &mut serving => {
                stopped = Some(server);
                deciding.await
            }
        };
        if result.is_ok() {
            halt.cancel();
            let Stopped { aborted } = match stopped {
                Some(stopped) => stopped,
                None => serving.await,
            };
            tracing::info!(aborted, "the master has stopped");
        }
        // Whoever may not lead any more cuts its connections by dropping the server.
        result
    }
}

/// Runs a master with the default allocator; see [`Node::run`].
///
/// # Errors
/// [`RunError`]
pub async fn run(
    config: Config,
    store: Arc<dyn StateStore>,
    fence: Fence,
    listener: Listener,
    stop: CancellationToken,
) -> Result<(), RunError> {
    Node::new(config).run(store, fence, listener, stop).await
}

fn now() -> Time {
    dcos_core::time::steady()
}

/// Whoever waits for the answer to a request.
enum Waiting {
    Reply(oneshot::Sender<Reply>, Option<Sink>),
    Snapshot(oneshot::Sender<Arc<Snapshot>>),
    Explained(oneshot::Sender<serde_json::Value>),
    Watch(MediaType, Sight, oneshot::Sender<Body>),
    Measured(oneshot::Sender<Metrics>),
}

/// An open stream. Whoever waits for its reader to go away holds a sender too, so that the stream
/// only ends once that is let go.
struct Stream {
    sink: Sink,
    watch: AbortHandle,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// A write that is under way.
struct Writing {
    id: u64,
    begun: Instant,
    write: BoxFuture<'static, Result<Revision, RunError>>,
}

/// The store, and how long it may take.
#[derive(Clone)]
struct Registry {
    store: Arc<dyn StateStore>,
    store_timeout: Duration,
    fetch_timeout: Duration,
}

impl Registry {
    async fn write(self, transaction: Transaction) -> Result<Revision, RunError> {
        let (limit, flag) = (self.store_timeout, "registry_store_timeout");
        within(limit, flag, "store", self.store.transact(transaction)).await
    }

    async fn read(&self) -> Result<Stored, RunError> {
        let (limit, flag) = (self.fetch_timeout, "registry_fetch_timeout");
        within(limit, flag, "fetch", self.store.scan(PREFIX)).await
    }
}

/// What the registry answers, or [`RunError::Silent`].
async fn within<T>(
    limit: Duration,
    flag: &'static str,
    verb: &'static str,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, RunError> {
    let Ok(answer) = timeout(limit, answer).await else {
        let silent = RunError::Silent { verb, limit, flag };
        // At once: whoever lets go of a disk that hangs may have to wait before the end is told.
        tracing::error!("{silent}");
        return Err(silent);
    };
    Ok(answer?)
}

struct Loop {
    core: Master,
    actor: Actor<Input>,
    commands: mpsc::Receiver<Command>,
    registry: Registry,
    fence: Fence,
    lease: Lease,
    writing: Option<Writing>,
    requests: BTreeMap<RequestId, Waiting>,
    next_request: RequestId,
    sinks: BTreeMap<String, Stream>,
    closings: JoinSet<String>,
    whitelist: Option<Whitelist>,
    watchers: Watchers,
    changed: watch::Sender<u64>,
    stance: watch::Sender<Stance>,
    gauges: Arc<Gauges>,
}

impl Loop {
    async fn run(
        mut self,
        whitelist: Option<PathBuf>,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        // An empty transaction closes the door behind a deposed leader before anything is read.
        let nothing = Transaction::new(self.fence.clone());
        self.registry.clone().write(nothing).await?;
        let begin = Instant::now();
        let entries = self.registry.read().await?;
        self.gauges.fetch.record(begin.elapsed());
        let bytes = entries.entries.iter().map(|entry| entry.value.len());
        self.gauges.registry_bytes.set(bytes.sum());
        let lacking = registry::lacking(&entries);
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            return Err(RunError::Outdated { lacking });
        }
        if let Some(path) = whitelist {
            let list = Whitelist::open(&path);
            let list = list.map_err(|source| RunError::Whitelist { path, source })?;
            self.feed(Input::Whitelist(Some(list.names())));
            self.whitelist = Some(list);
        }
        self.feed(Input::Recovered(entries));
        self.stance.send_replace(Stance::Leading);
        loop {
            // Asked right before acting: a process that was frozen may not know what it missed.
            if !self.lease.holds() {
                return Err(RunError::Deposed);
            }
            self.carry_out()?;
            self.measure();
            let deadline = self.core.next_deadline();
            let due = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep(now().until(deadline)).await,
                    None => pending().await,
                }
            };
            let written = async {
                match &mut self.writing {
                    Some(Writing { id, begun, write }) => (*id, *begun, write.await),
                    None => pending().await,
                }
            };
            let allowed = async {
                match &mut self.whitelist {
                    Some(list) => list.changed().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.lease.lost() => return Err(RunError::Deposed),
                (id, begun, result) = written => {
                    self.writing = None;
                    self.gauges.store.record(begun.elapsed());
                    self.feed(Input::Stored { id, revision: result? });
                }
                () = due => self.feed(Input::Tick),
                names = allowed => self.feed(Input::Whitelist(Some(names))),
                Some(stream_id) = self.closings.join_next() => {
                    if let Ok(stream_id) = stream_id {
                        self.sinks.remove(&stream_id);
                        self.feed(Input::StreamClosed { stream_id });
                    }
                }
                Some(heard) = self.actor.recv() => self.feed(heard),
                Some(command) = self.commands.recv() => self.obey(command),
            }
            // What came meanwhile is taken in first, so that one write serves many.
            for _ in 0..BATCH {
                if let Some(heard) = self.actor.try_recv() {
                    self.feed(heard);
                } else if let Ok(command) = self.commands.try_recv() {
                    self.obey(command);
                } else {
                    break;
                }
            }
        }
    }

    /// The core takes in what happened.
    fn feed(&mut self, input: Input) {
        let (runs, begin) = (self.core.counters.allocation_runs, Instant::now());
        self.core.handle(now(), input);
        if self.core.counters.allocation_runs > runs {
            self.gauges.allocation.record(begin.elapsed());
        }
    }

    /// Notes what only the loop can see.
    fn measure(&self) {
        let gauges = &self.gauges;
        gauges.messages.set(self.actor.waiting());
        gauges.commands.set(self.commands.len());
        gauges.subscribers.set(self.watchers.count());
        let queued = self.core.queued_writes();
        gauges.queued_writes.set(queued);
    }

    fn obey(&mut self, command: Command) {
        self.next_request += 1;
        let request = self.next_request;
        let (waiting, input) = match command {
            Command::Call {
                stream_id,
                principal,
                call,
                sink,
                answer,
            } => (
                Waiting::Reply(answer, sink),
                Input::Call {
                    request,
                    stream_id,
                    principal,
                    call,
                },
            ),
            Command::Operator {
                principal,
                call,
                answer,
            } => (
                Waiting::Reply(answer, None),
                Input::Operator {
                    request,
                    principal,
                    call,
                },
            ),
            Command::Priorities {
                principal,
                priorities,
                answer,
            } => (
                Waiting::Reply(answer, None),
                Input::Priorities {
                    request,
                    principal,
                    priorities,
                },
            ),
            Command::Measure(answer) => (Waiting::Measured(answer), Input::Measure { request }),
            Command::Read(answer) => (Waiting::Snapshot(answer), Input::Read { request }),
            Command::Explain(framework_id, role, wish, reader, answer) => (
                Waiting::Explained(answer),
                Input::Explain {
                    request,
                    framework_id,
                    role,
                    wish,
                    reader,
                },
            ),
            Command::Watch(media, sight, answer) => (
                Waiting::Watch(media, sight, answer),
                Input::Read { request },
            ),
        };
        self.requests.insert(request, waiting);
        self.feed(input);
    }

    fn carry_out(&mut self) -> Result<(), RunError> {
        while let Some(action) = self.core.poll() {
            match action {
                Action::Persist { id, writes } => {
                    let mut transaction = Transaction::new(self.fence.clone());
                    transaction.writes = writes;
                    let registry = self.registry.clone();
                    self.writing = Some(Writing {
                        id,
                        begun: Instant::now(),
                        write: registry.write(transaction).boxed(),
                    });
                }
                Action::Reply { request, reply } => self.answer(request, reply),
                Action::Event { stream_id, event } => {
                    let lost = self
                        .sinks
                        .get(&stream_id)
                        .is_some_and(|stream| !stream.sink.send(event));
                    if lost {
                        tracing::info!(
                            stream_id,
                            "a scheduler does not keep up with its events; cut"
                        );
                        self.sinks.remove(&stream_id);
                        self.core.handle(now(), Input::StreamClosed { stream_id });
                    }
                }
                Action::Close { stream_id } => {
                    self.sinks.remove(&stream_id);
                }
                Action::Send { to, message } => {
                    if let Ok(to) = to.parse::<Upid>() {
                        self.actor.send(&to, &message.name, message.body);
                    }
                }
                Action::Link { pid } => {
                    if let Ok(pid) = pid.parse::<Upid>() {
                        self.actor.link(&pid);
                    }
                }
                Action::Snapshot { request, snapshot } => match self.requests.remove(&request) {
                    Some(Waiting::Snapshot(answer)) => drop(answer.send(snapshot)),
                    Some(Waiting::Watch(media, sight, answer)) => {
                        drop(answer.send(self.watchers.add(media, sight, snapshot)));
                    }
                    _ => {}
                },
                Action::Measured { request, metrics } => {
                    if let Some(Waiting::Measured(waiting)) = self.requests.remove(&request) {
                        drop(waiting.send(metrics));
                    }
                }
                Action::Explained { request, answer } => {
                    if let Some(Waiting::Explained(waiting)) = self.requests.remove(&request) {
                        drop(waiting.send(answer));
                    }
                }
                Action::Publish(news) => {
                    self.watchers.publish(news);
                    self.changed.send_modify(|changes| *changes += 1);
                }
                Action::Stop { reason } => return Err(RunError::Stopped { reason }),
            }
        }
        Ok(())
    }

    fn answer(&mut self, request: RequestId, reply: Reply) {
        let Some(Waiting::Reply(answer, sink)) = self.requests.remove(&request) else {
            return;
        };
        if let (Reply::Subscribed { stream_id }, Some(sink)) = (&reply, sink) {
            let (closed, stream_id) = (sink.closed(), stream_id.clone());
            let watched = stream_id.clone();
            let watch = self.closings.spawn(async move {
                closed.await;
                watched
            });
            self.sinks.insert(stream_id, Stream { sink, watch });
        }
        drop(answer.send(reply));
    }
}
