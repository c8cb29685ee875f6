//! [`Desk`]: the master's half. Agents register here, and are told of each other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use dcos_core::time::steady;
use dcos_store::{Fence, StateStore, StoreError, Transaction, Write};
use dcos_wire::records::{Limits, RecordSender, stream};
use dcos_wire::{Body, MediaType, Refusal, reply};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::document;
use crate::news::HEARTBEAT;
use crate::roll::Registered;
use crate::{AgentNetwork, Allocation, NetworkConfig, News, Registration, Report, Roll};

/// Where agents' networks lie in the store, an entry each.
const AGENTS: &str = "overlay/agents/";
/// What is taken in before it is stored, all at once: stores take about a hundred writes together.
const BATCH: usize = 64;
/// Questions that wait while something is stored; more than this wait in their connections.
const WAITING: usize = 1024;
/// What an agent says of itself is shorter, in bytes.
const LARGEST: usize = 256 << 10;

/// Why overlays are not given out any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeskError {
    /// The store does not answer, or another one leads.
    #[error("keeping the networks of agents")]
    Store(#[from] StoreError),
    /// What is stored was written by something newer.
    #[error("the stored network of agent {agent}")]
    Garbled {
        /// Whose.
        agent: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

enum Command {
    Register(Box<Registration>, oneshot::Sender<Result<Body, Refusal>>),
    Report(Report, oneshot::Sender<bool>),
    Delete(Vec<IpAddr>, oneshot::Sender<Deleted>),
    State(oneshot::Sender<Value>),
}

/// Which agents were deleted, and which were not because they are there.
type Deleted = (Vec<IpAddr>, Vec<IpAddr>);

/// The overlays' desk of one master. Clones are the same desk; it is open while
/// [`lead`](Self::lead) runs.
#[derive(Clone, Debug)]
pub struct Desk {
    config: Arc<NetworkConfig>,
    patience: Duration,
    commands: mpsc::Sender<Command>,
    /// Whoever leads takes it.
    waiting: Arc<Mutex<Option<mpsc::Receiver<Command>>>>,
    open: Arc<AtomicBool>,
}

impl Desk {
    /// A closed desk for these overlays. Agents that are silent for `patience` count as gone: their
    /// networks stay theirs, and the others forget the way to them.
    pub fn new(config: NetworkConfig, patience: Duration) -> Self {
        let (commands, waiting) = mpsc::channel(WAITING);
        Self {
            config: Arc::new(config),
            patience,
            commands,
            waiting: Arc::new(Mutex::new(Some(waiting))),
            open: Arc::default(),
        }
    }

    /// What is asked of it: `/overlay-master/…`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/overlay-master/state", get(state))
            .route("/overlay-master/agents/delete", post(delete))
            .route("/overlay-master/agents/register", post(register))
            .route("/overlay-master/agents/report", post(report))
            .layer(DefaultBodyLimit::max(LARGEST))
            .with_state(self.clone())
    }

    /// Opens the desk, and answers until `stop` is cancelled. It can be opened once.
    ///
    /// # Errors
    /// [`DeskError`]: another master may lead now.
    pub async fn lead(
        &self,
        store: Arc<dyn StateStore>,
        fence: Fence,
        stop: CancellationToken,
    ) -> Result<(), DeskError> {
        // Closes the door before anything is read: nobody of an earlier term writes from now on.
        store.transact(Transaction::new(fence.clone())).await?;
        let stored = recover(&*store).await?;
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut waiting) = waiting else {
            return Ok(());
        };
        let agents = stored.agents().len();
        let roll = Roll::new((*self.config).clone(), stored, self.patience, steady());
        let mut look = interval(roll.interval());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heartbeat = interval(HEARTBEAT);
        let mut office = Office {
            roll,
            store,
            fence,
            followers: BTreeMap::new(),
        };
        self.open.store(true, Ordering::Release);
        tracing::info!(agents, "overlays are given out");
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                read = waiting.recv_many(&mut batch, BATCH) => {
                    if read == 0 {
                        break;
                    }
                    office.carry_out(batch.drain(..)).await?;
                }
                _ = look.tick() => office.look(),
                _ = heartbeat.tick() => office.tell(None, &News::Heartbeat),
            }
        }
        self.open.store(false, Ordering::Release);
        Ok(())
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Refusal> {
        let closed = || Refusal::unavailable("this master does not give out overlays (yet)");
        if !self.open.load(Ordering::Acquire) {
            return Err(closed());
        }
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send(command(answer)).await;
        sent.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())
    }
}

/// What a former leader stored.
async fn recover(store: &dyn StateStore) -> Result<Allocation, DeskError> {
    let snapshot = store.scan(AGENTS).await?;
    let agents = snapshot.entries.iter().map(|entry| {
        let agent = entry.key.strip_prefix(AGENTS).unwrap_or_default();
        let garbled = |source| DeskError::Garbled {
            agent: agent.to_owned(),
            source,
        };
        let network: AgentNetwork = serde_json::from_slice(&entry.value).map_err(garbled)?;
        let ip = serde_json::from_value(Value::from(agent)).map_err(garbled)?;
        Ok((ip, network))
    });
    let agents: Result<Vec<_>, DeskError> = agents.collect();
    Ok(Allocation::new(agents?))
}

/// An open desk.
struct Office {
    roll: Roll,
    store: Arc<dyn StateStore>,
    fence: Fence,
    /// The streams of those who registered.
    followers: BTreeMap<IpAddr, RecordSender>,
}

impl Office {
    /// Carries out what was asked, stores what came of it, and then answers.
    async fn carry_out(&mut self, batch: impl Iterator<Item = Command>) -> Result<(), DeskError> {
        let now = steady();
        let mut writes: BTreeMap<String, Write> = BTreeMap::new();
        let mut news: Vec<News> = Vec::new();
        let mut registered = Vec::new();
        let mut deletions = Vec::new();
        for command in batch {
            match command {
                Command::Register(asked, answer) => match self.roll.register(now, &asked) {
                    Ok(done) => {
                        let Registered {
                            is_new, is_news, ..
                        } = done;
                        let peer = self.roll.peer(asked.ip);
                        if is_new
                            && let Some(network) = self.roll.allocation().agents().get(&asked.ip)
                        {
                            let key = format!("{AGENTS}{}", asked.ip);
                            let value = serde_json::to_vec(network).expect("it has text keys only");
                            writes.insert(key.clone(), Write::Put(key, value.into()));
                        }
                        news.extend(peer.filter(|_| is_news).map(News::Put));
                        registered.push((asked.ip, answer, done));
                    }
                    Err(exhausted) => {
                        tracing::warn!(agent = %asked.ip, "{exhausted}");
                        let _ = answer.send(Err(Refusal::conflict(exhausted.to_string())));
                    }
                },
                Command::Report(report, answer) => {
                    let _ = answer.send(self.roll.report(now, report));
                }
                Command::Delete(agents, answer) => {
                    let is_there = |ip: &IpAddr| self.roll.standing(*ip).is_some();
                    let (there, gone): (Vec<IpAddr>, Vec<IpAddr>) =
                        agents.into_iter().partition(is_there);
                    let deleted: Vec<IpAddr> = gone
                        .into_iter()
                        .filter(|ip| self.roll.remove(*ip))
                        .collect();
                    for ip in &deleted {
                        let key = format!("{AGENTS}{ip}");
                        writes.insert(key.clone(), Write::Delete(key));
                        news.push(News::Gone(*ip));
                    }
                    deletions.push((answer, (deleted, there)));
                }
                Command::State(answer) => {
                    let _ = answer.send(document::state(&self.roll));
                }
            }
        }
        if !writes.is_empty() {
            let mut transaction = Transaction::new(self.fence.clone());
            transaction.writes.extend(writes.into_values());
            self.store.transact(transaction).await?;
        }
        for news in &news {
            let about = match news {
                News::Put(peer) => Some(peer.ip),
                _ => None,
            };
            self.tell(about, news);
        }
        for (answer, deleted) in deletions {
            tracing::info!(agents = ?deleted.0, "networks of agents deleted");
            let _ = answer.send(deleted);
        }
        for (ip, answer, done) in registered {
            let (vtep, is_new) = (done.network.vtep.ip, done.is_new);
            tracing::info!(agent = %ip, %vtep, is_new, "an agent is in the overlays");
            let _ = answer.send(Ok(self.follow(ip)));
        }
        Ok(())
    }

    /// A stream of news for an agent, beginning with everything.
    fn follow(&mut self, ip: IpAddr) -> Body {
        let (sender, body) = stream(Limits::default());
        if let Some(all) = self.roll.all_for(ip) {
            // One that cannot take the first record cannot take any; it sees its stream end.
            if sender.send(encode(&all)).is_ok() {
                self.followers.insert(ip, sender);
            }
        }
        body
    }

    /// Forgets those that were silent too long.
    fn look(&mut self) {
        for agent in self.roll.poll(steady()) {
            tracing::warn!(%agent, "an agent of the overlays is not heard of: the others are told");
            if let Some(stream) = self.followers.remove(&agent) {
                stream.cut();
            }
            self.tell(None, &News::Gone(agent));
        }
    }

    /// Tells all who follow, but for the one it is about.
    fn tell(&mut self, about: Option<IpAddr>, news: &News) {
        let record = encode(news);
        self.followers
            .retain(|agent, stream| about == Some(*agent) || stream.send(record.clone()).is_ok());
    }
}

fn encode(news: &News) -> Bytes {
    serde_json::to_vec(news)
        .expect("it has text keys only")
        .into()
}

async fn state(State(desk): State<Desk>) -> Result<Response, Refusal> {
    let state = desk.ask(Command::State).await?;
    Ok(reply::json(state.to_string()))
}

async fn register(
    State(desk): State<Desk>,
    Json(asked): Json<Registration>,
) -> Result<Response, Refusal> {
    if !asked.ip.is_ipv4() || asked.ip.is_unspecified() || asked.ip.is_loopback() {
        let text = format!("{} is no IPv4 address that tunnels could lead to", asked.ip);
        return Err(Refusal::bad_request(text));
    }
    let asked = Box::new(asked);
    let body = desk
        .ask(|answer| Command::Register(asked, answer))
        .await??;
    Ok(reply::message(MediaType::Json, body))
}

async fn report(State(desk): State<Desk>, Json(report): Json<Report>) -> Result<Response, Refusal> {
    let ip = report.ip;
    if desk.ask(|answer| Command::Report(report, answer)).await? {
        return Ok(reply::accepted());
    }
    Err(Refusal::not_found(format!("agent {ip} is not registered")))
}

#[derive(Deserialize)]
struct Delete {
    agents: Vec<IpAddr>,
}

async fn delete(State(desk): State<Desk>, Json(delete): Json<Delete>) -> Result<Response, Refusal> {
    let deleted = desk
        .ask(|answer| Command::Delete(delete.agents, answer))
        .await?;
    let (deleted, present) = deleted;
    Ok(reply::json(
        json!({ "deleted": deleted, "present": present }).to_string(),
    ))
}
