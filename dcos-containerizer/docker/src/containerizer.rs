//! [`Docker`]: containers of an engine as containers of Mesos.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bollard::models::HostConfig;
use bollard::query_parameters::KillContainerOptionsBuilder;
use dcos_containerizer::containerizer::{
    ContainerClass, ContainerConfig, ContainerTermination, Containerizer, ContainerizerError,
    Origins, Recovered,
};
use dcos_containerizer::switchboard::Switchboard;
use dcos_core::time::Time;
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{ContainerId, ContainerStatus, Resource, ResourceStatistics};
use futures::StreamExt as _;
use tokio::sync::watch;

use crate::config::DockerConfig;
use crate::engine::{self, Engine, is_status, quickly};
use crate::exec::Exec;
use crate::resources::Amounts;
use crate::shape::Settings;
use crate::store::{Record, Store};
use crate::{gpus, lifecycle, recovery, usage};

/// How long a container that is killed may take to be gone: the engine unmounts and writes.
const KILL: Duration = Duration::from_secs(60);

/// Containers that the engine is asked about at a time.
const ASKED: usize = 16;

/// Has a Docker Engine run containers.
///
/// Containers survive this process, and also the engine, as far as it lets them (`live-restore`).
/// What is nested in a container is a command run in it: class
/// [`Debug`](ContainerClass::Debug) only.
#[derive(Debug, Clone)]
pub struct Docker(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: DockerConfig,
    pub(crate) settings: Settings,
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    /// Whose containers these are, in a label of theirs.
    pub(crate) node: String,
    /// The log driver of containers that name none, as far as we have a say.
    pub(crate) log_driver: Option<String>,
    /// The engine hands GPUs on by NVIDIA's runtime.
    pub(crate) has_nvidia: bool,
    containers: Mutex<BTreeMap<ContainerId, Arc<Container>>>,
}

/// One container, from before its launch to its removal.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) record: Mutex<Record>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Somebody wants it gone.
    pub(crate) doomed: watch::Sender<bool>,
    /// The command in its parent that it is, if it is nested.
    pub(crate) exec: Mutex<Option<Exec>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    Launching,
    Running,
    Ended(ContainerTermination),
    /// Its launch failed, and it is known no longer.
    Failed,
}

impl Docker {
    /// Makes the containerizer and finds its engine, which may take half a minute to come up.
    ///
    /// # Errors
    /// [`ContainerizerError::Broken`] if there is no engine, or the state cannot be written.
    pub async fn new(config: DockerConfig) -> Result<Self, ContainerizerError> {
        let engine = Engine::connect(&config.socket, config.timeout).await?;
        let broken = |error: std::io::Error| ContainerizerError::Broken {
            doing: format!("opening the state in {}", config.state.display()),
            reason: error.to_string(),
        };
        let store = Store::open(config.state.clone()).map_err(broken)?;
        // Those of an earlier agent lead nowhere.
        std::fs::remove_dir_all(&config.sockets).ok();
        let node = store.node().map_err(broken)?;
        let info = engine.api().info().await;
        let info = info.map_err(|error| ContainerizerError::Broken {
            doing: "asking Docker Engine what it is".to_owned(),
            reason: engine.text(&error),
        })?;
        tracing::info!(
            version = info.server_version,
            socket = ?config.socket,
            "found Docker Engine"
        );
        let settings = Settings {
            sandbox_directory: config.sandbox_directory.clone(),
            cfs: config.cfs,
            dns: config.dns.clone(),
            memory: info
                .mem_total
                .and_then(|total| u64::try_from(total).ok())
                .unwrap_or(0),
        };
        // The engine's own default keeps texts only: bytes that are none would be lost.
        let log_driver =
            (info.logging_driver.as_deref() == Some("json-file")).then(|| "local".to_owned());
        let runtimes = info.runtimes.unwrap_or_default();
        let has_nvidia = runtimes.contains_key(gpus::NVIDIA);
        Ok(Self(Arc::new(Inner {
            config,
            settings,
            engine,
            store,
            node,
            log_driver,
            has_nvidia,
            containers: Mutex::default(),
        })))
    }

    /// What removes images and containers nobody uses, if the configuration says so.
    pub fn collector(&self) -> Option<crate::Collector> {
        let config = self.0.config.collect.clone()?;
        let state = self.0.store.path("unused");
        Some(crate::Collector::new(self.0.engine.clone(), config, state))
    }
}

/// What the engine calls a container.
pub(crate) fn name(id: &ContainerId) -> String {
    format!("mesos-{}", id.value)
}

impl Inner {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<Container>>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A container has no use for its GPUs any more.
    pub(crate) fn free_gpus(&self, id: &ContainerId) {
        if let Some(pool) = &self.config.gpus {
            pool.take_back(id);
        }
    }

    /// Nothing is left of a container, so what it had is others', and nothing is written of it.
    pub(crate) fn release(&self, id: &ContainerId) {
        self.free_gpus(id);
        if let Err(error) = self.store.remove(id) {
            tracing::warn!(container = %id, %error, "removing its state");
        }
    }

    pub(crate) fn find(&self, id: &ContainerId) -> Result<Arc<Container>, ContainerizerError> {
        let found = self.lock().get(id).cloned();
        found.ok_or_else(|| ContainerizerError::Unknown(id.clone()))
    }

    /// What runs in a container, by commands of its own.
    pub(crate) fn below(&self, id: &ContainerId) -> Vec<Arc<Container>> {
        let containers = self.lock();
        let below = containers
            .values()
            .filter(|other| other.id.parent.as_deref() == Some(id));
        below.cloned().collect()
    }

    /// The first process of what a container runs, on this host. One that the engine starts at this moment is waited
    /// for by it.
    async fn pid(&self, container: &Container) -> Result<Option<u32>, bollard::errors::Error> {
        if let Some(exec) = container.exec() {
            return exec.pid().await;
        }
        if container.id.parent.is_some() {
            // Its command begins below the container's own.
            return Ok(None);
        }
        let inspected = self.engine.inspect(&name(&container.id)).await?;
        Ok(inspected.as_ref().and_then(engine::pid))
    }

    /// Sends a signal to what a container runs.
    pub(crate) async fn signal(&self, container: &Container, signal: i32) -> Result<(), String> {
        let exec = container.exec();
        if let Some(exec) = exec {
            return exec.signal(signal).await;
        }
        let asked = container.record().stop_signal;
        let signal = match asked {
            Some(asked) if signal == libc::SIGTERM => asked,
            _ => signal.to_string(),
        };
        let options = KillContainerOptionsBuilder::new().signal(&signal).build();
        let killed = self
            .engine
            .api()
            .kill_container(&name(&container.id), Some(options))
            .await;
        match killed {
            Ok(()) => Ok(()),
            // It is gone, or does not run.
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => Ok(()),
            Err(error) => Err(self.engine.text(&error)),
        }
    }
}

impl Container {
    pub(crate) fn new(id: ContainerId, record: Record, phase: Phase) -> Arc<Self> {
        Arc::new(Self {
            id,
            record: Mutex::new(record),
            phase: watch::Sender::new(phase),
            doomed: watch::Sender::new(false),
            exec: Mutex::default(),
        })
    }

    pub(crate) fn record(&self) -> Record {
        let record = self.record.lock();
        record.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn exec(&self) -> Option<Exec> {
        let exec = self.exec.lock();
        exec.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    /// Waits for its end; `None` if its launch failed.
    pub(crate) async fn end(&self) -> Option<ContainerTermination> {
        let mut phase = self.phase.subscribe();
        let over = |phase: &Phase| matches!(phase, Phase::Ended(_) | Phase::Failed);
        let ended = phase.wait_for(over).await;
        match ended.as_deref() {
            Ok(Phase::Ended(termination)) => Some(termination.clone()),
            _ => None,
        }
    }
}

#[async_trait]
impl Containerizer for Docker {
    fn name(&self) -> &'static str {
        "docker"
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
        if id.parent.is_some() {
            if config.class != ContainerClass::Debug {
                let why = "Nested containers are not supported";
                return Err(ContainerizerError::launch(id, "nest", why));
            }
            return lifecycle::exec(&self.0, id, config).await;
        }
        if !config.is_docker() || config.class != ContainerClass::Task {
            return Err(ContainerizerError::unsupported(id, self.name()));
        }
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
        let container = self.0.find(id)?;
        if container.exec().is_some() || !container.is_running() {
            return Ok(());
        }
        let settings = &self.0.settings;
        let amounts = Amounts::new(resources, limits, settings.cfs, settings.memory);
        let api = self.0.engine.api();
        let updated = api.update_container(&name(id), amounts.to_update()).await;
        updated.map_err(|error| ContainerizerError::Update {
            id: id.clone(),
            reason: self.0.engine.text(&error),
        })
    }

    async fn usage(&self, id: &ContainerId) -> Result<ResourceStatistics, ContainerizerError> {
        let unknown = || ContainerizerError::Unknown(id.clone());
        if !self.0.find(id)?.is_running() {
            return Err(unknown());
        }
        let name = name(id.root_id());
        let asked = async {
            let inspected = self.0.engine.inspect(&name).await?;
            Ok((inspected, usage::stats(&self.0.engine, &name).await))
        };
        let (inspected, stats) = quickly(asked).await.map_err(|_| unknown())?;
        let host = inspected.and_then(|one| one.host_config);
        let stats = stats.ok_or_else(unknown)?;
        let host = host.unwrap_or_else(HostConfig::default);
        let mut usage = usage::statistics(&stats, &host);
        usage.timestamp = Time::from_system(SystemTime::now()).as_secs_f64();
        Ok(usage)
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerizerError> {
        let container = self.0.find(id)?;
        let unknown = || ContainerizerError::Unknown(id.clone());
        let broken = |error| ContainerizerError::Broken {
            doing: format!("asking for the status of container {id}"),
            reason: self.0.engine.text(&error),
        };
        if !container.is_running() {
            return Err(unknown());
        }
        if let Some(exec) = container.exec() {
            return Ok(ContainerStatus {
                container_id: Some(id.clone()),
                executor_pid: quickly(exec.pid()).await.map_err(broken)?,
                ..ContainerStatus::default()
            });
        }
        let inspected = quickly(self.0.engine.inspect(&name(id))).await;
        let inspected = inspected.map_err(broken)?.ok_or_else(unknown)?;
        Ok(usage::status(id, &container.record(), &inspected))
    }

    async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerizerError> {
        let container = self.0.find(id)?;
        let mut phase = container.phase.subscribe();
        // A launch that is under way is waited for: nothing could be signalled yet.
        let running = phase.wait_for(|phase| *phase != Phase::Launching).await;
        if !running.is_ok_and(|phase| *phase == Phase::Running) {
            return Ok(());
        }
        let signalled = self.0.signal(&container, signal).await;
        signalled.map_err(|reason| ContainerizerError::Broken {
            doing: format!("signalling container {id}"),
            reason,
        })
    }

    async fn destroy(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        let container = self.0.find(id)?;
        let killed = lifecycle::doom(&self.0, &container).await;
        let end = tokio::time::timeout(KILL, container.end()).await;
        let Ok(end) = end else {
            let reason = killed.err().unwrap_or_else(|| {
                "Docker Engine was asked to kill it and says it still runs".to_owned()
            });
            return Err(ContainerizerError::Destroy {
                id: id.clone(),
                reason,
            });
        };
        let lost = || ContainerTermination::lost("destroyed while it was being launched");
        Ok(end.unwrap_or_else(lost))
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerizerError> {
        let Ok(container) = self.0.find(id) else {
            return Ok(());
        };
        if !matches!(*container.phase.borrow(), Phase::Ended(_) | Phase::Failed) {
            return Err(ContainerizerError::Running(id.clone()));
        }
        if id.parent.is_none() {
            let removed = self.0.store.remove(id);
            removed.map_err(|error| ContainerizerError::Broken {
                doing: format!("removing the state of container {id}"),
                reason: error.to_string(),
            })?;
        }
        let below = |other: &ContainerId| other.parent.as_deref() == Some(id);
        self.0
            .lock()
            .retain(|other, _| other != id && !below(other));
        Ok(())
    }

    async fn switchboard(&self, id: &ContainerId) -> Result<Switchboard, ContainerizerError> {
        let exec = self.0.find(id)?.exec();
        let board = exec.and_then(|exec| exec.switchboard);
        board.ok_or_else(|| ContainerizerError::NotAttachable(id.clone()))
    }

    async fn containers(&self) -> BTreeSet<ContainerId> {
        self.0.lock().keys().cloned().collect()
    }

    async fn origins(&self) -> Origins {
        let containers: Vec<_> = self.0.lock().values().cloned().collect();
        let over = |one: &Container| matches!(*one.phase.borrow(), Phase::Ended(_) | Phase::Failed);
        let pids = containers
            .into_iter()
            .filter(|one| !over(one))
            .map(async |one| (one.id.clone(), quickly(self.0.pid(&one)).await));
        let mut pids = futures::stream::iter(pids).buffer_unordered(ASKED);
        let mut origins = Origins::default();
        while let Some((id, pid)) = pids.next().await {
            match pid {
                Ok(Some(pid)) => drop(origins.first.insert(pid, id)),
                Ok(None) => {}
                Err(error) => {
                    let error = self.0.engine.text(&error);
                    tracing::warn!(container = %id, error, "which processes it has is not known");
                    // Nothing that the others would say changes that, and an engine that hangs would keep the asker for each.
                    origins.hidden = true;
                    break;
                }
            }
        }
        origins
    }
}
