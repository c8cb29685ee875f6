//! The default containerizer: isolators shape a container, the launcher makes it.
//!
//! ```text
//! launch ─► sandbox ─► image ─► fetch ─► logs ─► isolators ─► launcher ─► runs
//!                                                                           │ exit, limit, destroy
//! removed ◄─ termination on disk ◄─ isolators, image, logs cleaned up ◄─────┘
//! ```
//!
//! The launcher process is the parent of all containers and outlives us. What is needed to take
//! containers up again is in [`store`]; what a container goes through is in [`lifecycle`].

mod command;
mod foreign;
mod ids;
mod launcher;
mod lifecycle;
mod recovery;
mod store;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use dcos_core::time::Time;
use dcos_launcher::Scope;
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{ContainerId, ContainerStatus, Resource, ResourceStatistics};
use tokio::sync::{OnceCell, mpsc, watch};

use self::launcher::{Launcher, News};
use self::store::{Record, Store};
use super::processes::is_below;
use super::runtime::parse_id;
use super::{
    ContainerConfig, ContainerTermination, Containerizer, ContainerizerError, Origins, Recovered,
};
use crate::fetcher::Fetcher;
use crate::isolator::{Isolators, Limitation, UserNamespaces};
use crate::logger::ContainerLogger;
use crate::oci::Runtimes;
use crate::provisioner::Provisioner;
use crate::switchboard::Switchboard;

/// How a [`Universal`] containerizer is put together.
#[derive(Debug)]
pub struct UniversalConfig {
    /// State that is lost with the host: what runs, the launcher's socket. `--runtime_dir`.
    pub runtime_dir: PathBuf,
    /// What is executed if no launcher runs.
    pub launcher: LauncherProgram,
    /// What is executed beside a container that others may attach to.
    pub switchboard: SwitchboardProgram,
    /// Who else may make containers.
    pub runtimes: Runtimes,
    /// What confines containers.
    pub isolators: Isolators,
    /// Where images come from, if they do.
    pub provisioner: Option<Arc<dyn Provisioner>>,
    /// What brings files.
    pub fetcher: Arc<dyn Fetcher>,
    /// What keeps output.
    pub logger: Arc<dyn ContainerLogger>,
    /// Run commands as their user; otherwise as ours. `--switch_user`.
    pub switch_user: bool,
    /// Where containers with an image see their sandbox. `--sandbox_directory`.
    pub sandbox_directory: PathBuf,
    /// In which containers root is nobody on the node.
    pub user_namespaces: UserNamespaces,
    /// After what time it is an error that a container does not end. `--cgroups_destroy_timeout`
    pub destroy_timeout: Duration,
}

/// What calls [`dcos_launcher::main`].
#[derive(Debug, Clone)]
pub struct LauncherProgram {
    /// The program.
    pub program: PathBuf,
    /// Arguments before those that [`dcos_launcher::Client::connect_or_start`] adds.
    pub arguments: Vec<String>,
}

/// What calls [`switchboard::main`](crate::switchboard::main).
#[derive(Debug, Clone)]
pub struct SwitchboardProgram {
    /// The program.
    pub program: PathBuf,
    /// Arguments before those that the containerizer adds.
    pub arguments: Vec<String>,
}

/// Where the launcher listens, in the runtime directory.
const SOCKET: &str = "launcher.sock";

/// Where the launcher of an agent with this `--runtime_dir` listens.
pub fn launcher_socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join(SOCKET)
}

/// Runs containers through isolators and the launcher.
#[derive(Debug, Clone)]
pub struct Universal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: UniversalConfig,
    store: Store,
    launcher: Launcher,
    /// What the launcher says, until recovery has found out whom it speaks of.
    news: Mutex<Option<mpsc::Receiver<News>>>,
    containers: Mutex<BTreeMap<ContainerId, Arc<Container>>>,
    /// The user namespace that maps ids of mounts, once there is one.
    namespace: OnceCell<File>,
}

/// One container, from before its launch to its removal.
#[derive(Debug)]
struct Container {
    id: ContainerId,
    record: Mutex<Record>,
    phase: watch::Sender<Phase>,
    /// The raw wait status, or that nobody will ever know it.
    exit: watch::Sender<Option<Exit>>,
    /// Somebody wants it gone.
    doomed: watch::Sender<bool>,
    /// The first limit it exceeded.
    limitation: Mutex<Option<Limitation>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Launching,
    Running {
        pid: u32,
    },
    Ended(ContainerTermination),
    /// Its launch failed, and it is known no longer.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Exit {
    Status(i32),
    Lost(String),
}

impl Universal {
    /// Makes the containerizer and connects to its launcher, which is started if none runs.
    ///
    /// # Errors
    /// [`ContainerizerError::Broken`] if there is no launcher to be had, or `runtime_dir` cannot
    /// be written.
    pub async fn new(config: UniversalConfig) -> Result<Self, ContainerizerError> {
        let broken = |doing: &str| {
            let doing = doing.to_owned();
            move |error: std::io::Error| ContainerizerError::Broken {
                doing,
                reason: error.to_string(),
            }
        };
        let store = Store::open(config.runtime_dir.join("containers"))
            .map_err(broken("opening the runtime directory"))?;
        let socket = launcher_socket(&config.runtime_dir);
        let (launcher, news) = Launcher::start(socket, config.launcher.clone())
            .await
            .map_err(broken("starting the launcher"))?;
        let inner = Arc::new(Inner {
            config,
            store,
            launcher,
            news: Mutex::new(Some(news)),
            containers: Mutex::default(),
            namespace: OnceCell::new(),
        });
        Ok(Self(inner))
    }

    /// Ends the launcher, and with it whatever still runs: for a node that signs off for good.
    pub async fn stop(&self) {
        self.detach();
        let socket = launcher_socket(&self.0.config.runtime_dir);
        let stopped = tokio::task::spawn_blocking(move || {
            dcos_launcher::Client::connect(&socket).and_then(dcos_launcher::Client::stop)
        });
        match stopped.await {
            Ok(Ok(())) => tracing::info!("the launcher has stopped"),
            // One that is gone already is what was wanted.
            Ok(Err(error)) => tracing::debug!(%error, "stopping the launcher"),
            Err(error) => tracing::warn!(%error, "stopping the launcher"),
        }
    }

    /// Lets go of all containers, which go on; another [`Universal`] may take them up.
    ///
    /// For programs that outlive their containerizer, such as a cluster in one process: what
    /// waits for a container here waits for ever afterwards.
    pub fn detach(&self) {
        self.0.launcher.close();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Container>>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &ContainerId) -> Result<Arc<Container>, ContainerizerError> {
        let found = self.lock().get(id).cloned();
        found.ok_or_else(|| ContainerizerError::Unknown(id.clone()))
    }

    fn below(&self, id: &ContainerId) -> Vec<Arc<Container>> {
        let containers = self.lock();
        let mut below: Vec<_> = containers
            .values()
            .filter(|other| is_below(&other.id, id))
            .cloned()
            .collect();
        below.sort_by_key(|container| std::cmp::Reverse(container.id.depth()));
        below
    }

    /// Listens to the launcher from now on.
    fn listen(self: &Arc<Self>) {
        let news = self
            .news
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut news) = news else { return };
        let weak: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(news) = news.recv().await {
                let Some(inner) = weak.upgrade() else { return };
                inner.hear(news);
            }
        });
    }

    /// Takes in what the launcher says.
    fn hear(self: &Arc<Self>, news: News) {
        match news {
            News::Exited { name, status } if streams::is_board(&name) => {
                streams::ended(self, &name, status);
            }
            News::Exited { name, status } => {
                let container = self.named(&name);
                match container {
                    Some(container) => container.exited(Exit::Status(status)),
                    // Nobody's: left over from a launch that failed at our side.
                    None => self.launcher.forget(&name),
                }
            }
            News::Reconnected => {
                let inner = Arc::clone(self);
                tokio::spawn(async move { inner.find_lost().await });
            }
        }
    }

    /// Finds out which containers ended with a launcher that is gone.
    async fn find_lost(&self) {
        // Asked after it is known which run: those that are launched meanwhile are not among them.
        let running: Vec<_> = self.lock().values().cloned().collect();
        let running = running.into_iter();
        let running: Vec<_> = running.filter(|one| one.pid().is_some()).collect();
        let known = match self.launcher.list().await {
            Ok(known) => known,
            // The connection broke again, and is told of again.
            Err(dcos_launcher::Error::Connection(_)) => return,
            Err(error) => {
                let error = dcos_core::error::chain(&error).to_string();
                tracing::error!(
                    error,
                    "which containers a lost launcher took with it is not known"
                );
                return;
            }
        };
        let known: BTreeSet<String> = known.into_iter().map(|one| one.id).collect();
        for container in running {
            if !known.contains(&container.name()) {
                let why = "the launcher that watched over it is gone";
                container.exited(Exit::Lost(why.into()));
            }
        }
    }

    fn named(&self, name: &str) -> Option<Arc<Container>> {
        self.lock().get(&parse_id(name)).cloned()
    }

    async fn signal(&self, container: &Container, signal: i32, scope: Scope) {
        if container.exit.borrow().is_some() {
            return;
        }
        let name = container.name();
        match self.launcher.kill(&name, signal, scope).await {
            Ok(()) | Err(dcos_launcher::Error::Unknown) => {}
            Err(error) => {
                let error = dcos_core::error::chain(&error).to_string();
                tracing::warn!(container = %container.id, signal, error, "could not signal");
            }
        }
    }
}

impl Container {
    fn new(id: ContainerId, record: Record, phase: Phase) -> Arc<Self> {
        Arc::new(Self {
            id,
            record: Mutex::new(record),
            phase: watch::Sender::new(phase),
            exit: watch::Sender::new(None),
            doomed: watch::Sender::new(false),
            limitation: Mutex::default(),
        })
    }

    /// What the launcher calls it.
    fn name(&self) -> String {
        self.id.to_string()
    }

    fn record(&self) -> Record {
        let record = self.record.lock();
        record.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_record(&self, record: Record) {
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
    }

    fn pid(&self) -> Option<u32> {
        match *self.phase.borrow() {
            Phase::Running { pid } => Some(pid),
            _ => None,
        }
    }

    fn exited(&self, exit: Exit) {
        self.exit.send_if_modified(|known| {
            let news = known.is_none();
            known.get_or_insert(exit);
            news
        });
    }

    /// Waits for its end; `None` if its launch failed.
    async fn end(&self) -> Option<ContainerTermination> {
        let mut phase = self.phase.subscribe();
        let ended = phase
            .wait_for(|phase| matches!(phase, Phase::Ended(_) | Phase::Failed))
            .await;
        match ended.as_deref() {
            Ok(Phase::Ended(termination)) => Some(termination.clone()),
            _ => None,
        }
    }
}

#[async_trait]
impl Containerizer for Universal {
    fn name(&self) -> &'static str {
        "mesos"
    }

    fn survives(&self) -> bool {
        true
    }

    async fn recover(
        &self,
        known: &BTreeSet<ContainerId>,
    ) -> Result<BTreeMap<ContainerId, Recovered>, ContainerizerError> {
        recovery::recover(&self.0, known).await
    }

    async fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
    ) -> Result<(), ContainerizerError> {
        lifecycle::launch(&self.0, id, config).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        let end = self.0.find(id)?.end().await;
        end.ok_or_else(|| ContainerizerError::Unknown(id.clone()))
    }

    async fn update(
        &self,
        id: &ContainerId,
        resources: &[Resource],
        limits: &BTreeMap<String, Scalar>,
    ) -> Result<(), ContainerizerError> {
        self.0.find(id)?;
        let limits = command::limits(resources, limits);
        let updated = self.0.config.isolators.update(id, &limits).await;
        updated.map_err(|error| ContainerizerError::Update {
            id: id.clone(),
            reason: dcos_core::error::chain(&error).to_string(),
        })
    }

    async fn usage(&self, id: &ContainerId) -> Result<ResourceStatistics, ContainerizerError> {
        let container = self.0.find(id)?;
        if container.pid().is_none() {
            return Err(ContainerizerError::Unknown(id.clone()));
        }
        let mut usage = self.0.config.isolators.usage(id).await;
        usage.timestamp = Time::from_system(SystemTime::now()).as_secs_f64();
        Ok(usage)
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerizerError> {
        let container = self.0.find(id)?;
        let Some(pid) = container.pid() else {
            return Err(ContainerizerError::Unknown(id.clone()));
        };
        let mut status = self.0.config.isolators.status(id).await;
        status.container_id = Some(id.clone());
        status.executor_pid = Some(pid);
        Ok(status)
    }

    async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerizerError> {
        let container = self.0.find(id)?;
        let mut phase = container.phase.subscribe();
        // A launch that is under way is waited for: nothing could be signalled yet.
        let running = phase
            .wait_for(|phase| *phase != Phase::Launching)
            .await
            .is_ok_and(|phase| matches!(*phase, Phase::Running { .. }));
        if running {
            self.0.signal(&container, signal, Scope::Command).await;
        }
        Ok(())
    }

    async fn destroy(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        let container = self.0.find(id)?;
        lifecycle::doom(&self.0, &container).await;
        let timeout = self.0.config.destroy_timeout;
        let end = tokio::time::timeout(timeout, container.end()).await;
        let end = end.map_err(|_| ContainerizerError::Broken {
            doing: format!("ending container {id}"),
            reason: format!(
                "killed {} s ago, it still runs; maybe it waits for a disk",
                timeout.as_secs()
            ),
        })?;
        Ok(end
            .unwrap_or_else(|| ContainerTermination::lost("destroyed while it was being launched")))
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerizerError> {
        let Ok(container) = self.0.find(id) else {
            return Ok(());
        };
        if !matches!(*container.phase.borrow(), Phase::Ended(_) | Phase::Failed) {
            return Err(ContainerizerError::Running(id.clone()));
        }
        let removed = self.0.store.remove(id);
        removed.map_err(|error| ContainerizerError::Broken {
            doing: format!("removing the state of container {id}"),
            reason: error.to_string(),
        })?;
        self.0.lock().retain(|other, container| {
            let stays = other != id && !is_below(other, id);
            if !stays {
                streams::removed(container);
            }
            stays
        });
        Ok(())
    }

    async fn switchboard(&self, id: &ContainerId) -> Result<Switchboard, ContainerizerError> {
        let board = self.0.find(id)?.record().switchboard;
        let board = board.ok_or_else(|| ContainerizerError::NotAttachable(id.clone()))?;
        Ok(board.into())
    }

    async fn containers(&self) -> BTreeSet<ContainerId> {
        self.0.lock().keys().cloned().collect()
    }

    async fn origins(&self) -> Origins {
        let launcher = self.0.launcher.pid();
        let containers = self.0.lock();
        let first = containers
            .values()
            .filter_map(|one| Some((one.pid()?, one.id.clone())));
        Origins {
            first: first.collect(),
            // While it begins or ends a container is the launcher's, and nobody else's.
            hidden: launcher.is_none() && !containers.is_empty(),
            makers: launcher.into_iter().collect(),
        }
    }
}
