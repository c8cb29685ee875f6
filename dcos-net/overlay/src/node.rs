//! [`Node`]: an agent's half. Keeps its data path as the overlays want it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use dcos_core::error::chain;
use dcos_wire::{Client, Masters, Refusal, reply};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cni::replace;
use crate::document::{self, Status};
use crate::follow::Follower;
use crate::metrics::{self, Counted};
use crate::{
    AgentNetwork, ContainerNetwork, Dataplane, DataplaneError, NetworkConfig, Networks,
    NetworksError, News, Own, Registration, Report, Step, Tunnels, Wishes,
};

/// How often it is looked whether somebody else changed the data path.
const REVIEW: Duration = Duration::from_secs(60);
/// When what failed is tried again, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// News that are taken in before the data path follows.
const BATCH: usize = 512;
/// News that wait while the data path changes: agents of a cluster that starts.
const WAITING: usize = 4096;
/// What a tunnel adds to a packet: Ethernet, IPv4, UDP, VXLAN.
const TUNNEL: u32 = 50;
/// What is left beside a container's packet: 1420 of 1500, as in the original.
const ROOM: u32 = 80;
/// More is in no packet that leaves a node.
const LARGEST: u32 = 9216;

/// Who a node is, and whom it follows.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The masters.
    pub masters: Masters,
    /// How to speak to them.
    pub client: Client,
    /// The address by which other nodes reach this one.
    pub ip: IpAddr,
    /// What it asks for.
    pub wishes: Wishes,
    /// Where it keeps what it was given, for a start without a master.
    pub state: PathBuf,
    /// What a container's packet may have, in bytes; absent, what the network below leaves.
    pub container_mtu: Option<u32>,
    /// Where containers join.
    pub networks: Vec<Arc<dyn Networks>>,
}

/// What a node was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    config: NetworkConfig,
    own: AgentNetwork,
}

#[derive(Debug, Default)]
struct Known {
    given: Option<Given>,
    report: Option<Report>,
    counted: Counted,
}

/// What a node knows of itself, for those who ask. Clones see the same.
#[derive(Clone, Debug)]
pub struct View {
    ip: IpAddr,
    known: Arc<Mutex<Known>>,
}

impl View {
    /// `/overlay-agent/overlay`
    pub fn router(&self) -> Router {
        async fn overlay(State(view): State<View>) -> Result<Response, Refusal> {
            let known = view.known();
            let given = known.given.as_ref();
            let given =
                given.ok_or_else(|| Refusal::unavailable("this agent has no overlays (yet)"))?;
            let (report, Given { config, own }) = (known.report.as_ref(), given);
            let attempts = report.map_or(0, |report| report.configuration_attempts);
            let status = Status::of(report);
            Ok(reply::json(
                document::agent(config, view.ip, own, status, attempts).to_string(),
            ))
        }
        Router::new()
            .route("/overlay-agent/overlay", get(overlay))
            .with_state(self.clone())
    }

    /// `/v1/metrics/overlay` of dcos-net's REST API, for Prometheus.
    pub fn metrics(&self) -> Router {
        async fn metrics(State(view): State<View>) -> Response {
            let text = {
                let known = view.known();
                let given = known.given.as_ref();
                let networks = given.map_or(0, |given| given.own.overlays.len());
                metrics::exposition(networks, &known.counted)
            };
            let mut response = reply::text(StatusCode::OK, text);
            let prometheus = HeaderValue::from_static("text/plain; version=0.0.4");
            response.headers_mut().insert(CONTENT_TYPE, prometheus);
            response
        }
        Router::new()
            .route("/v1/metrics/overlay", get(metrics))
            .with_state(self.clone())
    }

    /// Nobody panics while holding it; if somebody did, what is known is whole all the same.
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node that does nothing yet.
#[derive(Debug)]
pub struct Node<D> {
    config: NodeConfig,
    work: Work<D>,
    ready: watch::Receiver<bool>,
}

impl<D: Dataplane> Node<D> {
    /// One that will change this data path.
    pub fn new(config: NodeConfig, dataplane: D) -> Self {
        let (became_ready, ready) = watch::channel(false);
        let view = View {
            ip: config.ip,
            known: Arc::default(),
        };
        let work = Work {
            config: config.clone(),
            view,
            dataplane: Some(dataplane),
            peers: None,
            attempts: 0,
            due: None,
            pause: RETRY.0,
            is_right: false,
            reports: watch::Sender::new(None),
            ready: became_ready,
        };
        Self {
            config,
            work,
            ready,
        }
    }

    /// What it knows, now and later.
    pub fn view(&self) -> View {
        self.work.view.clone()
    }

    /// Whether containers can join.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Follows the master until `stop` is cancelled. Overlays go on working after that, as they
    /// were last.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            config, mut work, ..
        } = self;
        let (sender, mut news) = mpsc::channel(WAITING);
        let (ip, wishes, view) = (config.ip, config.wishes, work.view.clone());
        let follower = Follower {
            masters: config.masters,
            client: config.client,
            registration: move || Registration {
                ip,
                wishes,
                former: view.known().given.as_ref().map(|given| given.own.clone()),
            },
            reports: work.reports.subscribe(),
        };
        let working = async {
            work.recall().await;
            let mut batch = Vec::with_capacity(BATCH);
            loop {
                let due = work.due;
                let look = async {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    read = news.recv_many(&mut batch, BATCH) => {
                        if read == 0 {
                            return;
                        }
                        work.take_in(batch.drain(..)).await;
                    }
                    () = look => work.make_right().await,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(working, follower.follow(sender)) ; } => {}
        }
    }
}

#[derive(Debug)]
struct Work<D> {
    config: NodeConfig,
    view: View,
    /// Elsewhere while it works.
    dataplane: Option<D>,
    /// What all others have, once a master told.
    peers: Option<BTreeMap<IpAddr, AgentNetwork>>,
    attempts: u32,
    /// When to look again whether everything is right.
    due: Option<Instant>,
    pause: Duration,
    /// Whether the data path is as `peers` say, as far as is known.
    is_right: bool,
    reports: watch::Sender<Option<Report>>,
    ready: watch::Sender<bool>,
}

/// Why a node is not as it should be.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    #[error(transparent)]
    Networks(#[from] NetworksError),
    #[error("the data path is lost: overlays stay as they are until the agent starts anew")]
    Lost,
}

impl<D: Dataplane> Work<D> {
    /// Begins with what an earlier process was given: its tunnel end is made right, and containers
    /// can join, whether or not a master answers. The ways to others stay as they are.
    async fn recall(&mut self) {
        let given = std::fs::read(&self.config.state).ok();
        let given = given.and_then(|text| serde_json::from_slice::<Given>(&text).ok());
        if given.is_some() {
            self.view.known().given = given;
            self.make_right().await;
        }
    }

    async fn take_in(&mut self, news: impl Iterator<Item = News>) {
        let begin = Instant::now();
        let is_update = self.carry_out(news).await;
        let mut known = self.view.known();
        known.counted.peers = self.peers.as_ref().map_or(0, BTreeMap::len);
        if is_update {
            known.counted.updates += 1;
            known.counted.took += begin.elapsed();
        }
    }

    /// Does what the news want; says whether they wanted anything.
    async fn carry_out(&mut self, news: impl Iterator<Item = News>) -> bool {
        let mut steps: Vec<Step> = Vec::new();
        let mut all = false;
        for news in news {
            match news {
                News::All {
                    config, own, peers, ..
                } => {
                    self.remember(Given { config, own });
                    let peers = peers.into_iter().map(|peer| (peer.ip, peer.network));
                    self.peers = Some(peers.collect());
                    all = true;
                }
                News::Put(peer) if peer.ip != self.config.ip => {
                    let Some(peers) = &mut self.peers else {
                        continue;
                    };
                    tracing::info!(agent = %peer.ip, vtep = %peer.network.vtep.ip, "an agent is in the overlays");
                    let before = peers.insert(peer.ip, peer.network);
                    let after = peers.get(&peer.ip);
                    steps.extend(Tunnels::change(peer.ip, before.as_ref(), after));
                }
                News::Gone(agent) => {
                    let Some(peers) = &mut self.peers else {
                        continue;
                    };
                    if let Some(before) = peers.remove(&agent) {
                        tracing::info!(%agent, "an agent left the overlays");
                        steps.extend(Tunnels::change(agent, Some(&before), None));
                    }
                }
                News::Put(_) | News::Heartbeat => {}
            }
        }
        if all || !self.is_right {
            if all {
                self.attempts = 0;
            }
            self.make_right().await;
            return true;
        }
        if steps.is_empty() {
            return false;
        }
        let applied = self
            .with_dataplane(move |dataplane| dataplane.apply(&steps))
            .await;
        if let Err(error) = applied {
            self.view.known().counted.failed_updates += 1;
            self.failed(&error);
        }
        true
    }

    /// Keeps what was given, for the next process.
    fn remember(&self, given: Given) {
        let mut known = self.view.known();
        if known.given.as_ref() == Some(&given) {
            return;
        }
        let text = serde_json::to_vec(&given).expect("it has text keys only");
        if let Err(error) = save(&self.config.state, &text) {
            // Without a master, the next process will have to wait for one.
            tracing::warn!(%error, "keeping the overlays of this node");
        }
        let own = &given.own;
        let parts: Vec<String> = own.parts().map(|part| part.to_string()).collect();
        tracing::info!(vtep = %own.vtep.ip, mac = %own.vtep.mac, ?parts, "this node has overlays");
        known.given = Some(given);
    }

    /// Compares everything with what it should be, and makes it so.
    async fn make_right(&mut self) {
        let Some(given) = self.view.known().given.clone() else {
            return;
        };
        self.attempts = self.attempts.saturating_add(1);
        match self.try_to_make_right(given).await {
            Ok(()) => {
                self.is_right = self.peers.is_some();
                self.pause = RETRY.0;
                self.due = Some(Instant::now() + REVIEW);
                // What is reviewed and found right is no attempt.
                let was_fine = self
                    .reports
                    .borrow()
                    .as_ref()
                    .is_some_and(|report| report.error.is_none());
                if was_fine {
                    self.attempts = self.attempts.saturating_sub(1).max(1);
                }
                self.say(None);
                self.ready.send_replace(true);
            }
            Err(error) => {
                self.view.known().counted.failed_configurations += 1;
                self.failed(&error);
            }
        }
    }

    async fn try_to_make_right(&mut self, given: Given) -> Result<(), WorkError> {
        let Given { config, own } = given;
        let node = self.config.ip;
        let below = self
            .with_dataplane(move |dataplane| dataplane.mtu_below(node))
            .await?;
        let below = below.min(LARGEST);
        let mtu = self
            .config
            .container_mtu
            .unwrap_or(below.saturating_sub(ROOM));
        let overlays = config.enabled().filter_map(|overlay| overlay.subnet);
        let overlays: Vec<_> = overlays.collect();
        let all = config
            .enabled()
            .flat_map(|overlay| overlay.subnet.into_iter().chain(overlay.subnet6));
        let wanted = Own {
            vtep: own.vtep,
            mtu: config.vtep_mtu.unwrap_or(below.saturating_sub(TUNNEL)),
            parts: own.parts().collect(),
            overlays: all.collect(),
        };
        let changed = self
            .with_dataplane(move |dataplane| dataplane.establish(&wanted))
            .await?;
        if changed {
            tracing::info!(vtep = %own.vtep.ip, "the tunnel end of this node was made right");
        }
        if let Some(peers) = &self.peers {
            let tunnels = Tunnels::to(peers, overlays);
            let repaired = self
                .with_dataplane(move |dataplane| dataplane.reconcile(&tunnels))
                .await?;
            if repaired > 0 {
                self.view.known().counted.repaired += repaired as u64;
                tracing::info!(
                    entries = repaired,
                    "the ways to other nodes were made right"
                );
            }
        }
        // What is amiss with containers of one kind keeps neither those of another nor the ways to nodes.
        let networks = ContainerNetwork::all(&config, &own, mtu);
        let mut outcome = Ok(());
        for provider in &self.config.networks {
            outcome = outcome.and(provider.provide(&networks).await);
        }
        Ok(outcome?)
    }

    fn failed(&mut self, error: &WorkError) {
        let error = chain(error).to_string();
        tracing::warn!(error, attempts = self.attempts, "overlays of this node");
        self.is_right = false;
        self.due = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(RETRY.1);
        self.say(Some(error));
    }

    /// Tells how it is, if that is new.
    fn say(&self, error: Option<String>) {
        let report = Report {
            ip: self.config.ip,
            configuration_attempts: self.attempts,
            error,
        };
        let said = Some(report);
        self.view.known().report.clone_from(&said);
        self.reports.send_if_modified(|before| {
            let is_news = *before != said;
            *before = said;
            is_news
        });
    }

    /// Works with the data path where blocking is no harm.
    async fn with_dataplane<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut D) -> Result<T, DataplaneError> + Send + 'static,
    ) -> Result<T, WorkError> {
        let mut dataplane = self.dataplane.take().ok_or(WorkError::Lost)?;
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut dataplane);
            (dataplane, done)
        });
        let (dataplane, done) = worked.await.map_err(|error| match error.try_into_panic() {
            // Nobody would ever put right what is there: whoever waits for this task must know.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => WorkError::Lost,
        })?;
        self.dataplane = Some(dataplane);
        Ok(done?)
    }
}

fn save(path: &Path, text: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    replace(path, text)
}
