//! The agent's shell: waits for whatever happens, feeds the core, carries out what it decides.
//!
//! One loop owns the core. What takes time (launching, waiting for an end, checking) runs in tasks
//! that report back through the loop's inbox; writing checkpoints is waited for, since nothing
//! that follows a write may happen before it.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::error::chain;
use dcos_core::resources::{ParseError, Resources};
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::DecodeError;
use dcos_proto::mesos::{AgentInfo, Resource};
use dcos_wire::files::Files;
use dcos_wire::libprocess::{Actor, Event, Messenger, MessengerConfig, NameTaken, Upid};
use dcos_wire::{Listener, Server};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::core::Agent;
use super::estimates::{self, Measured};
use super::handle::{Handle, Work};
use super::leader::Leader;
use super::occupancy::occupy;
use super::operations::VolumeWork;
use super::runner::Runner;
use super::socket::{self, ExecutorSocket};
use super::words::{Action, FromDriver, FromMaster, Input, Settings};
use super::{detect, http, volumes};
use crate::checkpoint::takeover::{self, Takeover};
use crate::checkpoint::{CheckpointError, Store, Write};
use crate::containerizer::{Containerizer, ContainerizerError, WithAdopted};

/// The Mesos release whose agent this one stands in for.
pub(super) const VERSION: &str = "1.11.0";

/// The agent's name among the actors of its process.
pub(super) const ACTOR: &str = "slave(1)";

/// Inputs that wait for the loop. They come from tasks that wait for room; the bound only has to
/// be large enough for bursts of container ends.
const INBOX: usize = 1024;

/// Why an agent stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The master's address makes no sense or leads nowhere.
    #[error("finding the master `{master}`")]
    Master {
        /// As configured.
        master: String,
        /// Why.
        source: io::Error,
    },
    /// `--resources` makes no sense.
    #[error("reading the agent's resources")]
    Resources(#[from] ParseError),
    /// The node does not tell what it has.
    #[error("detecting what this node has")]
    Detect(#[source] io::Error),
    /// State can be neither kept nor read; going on would break promises.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The containerizer cannot take up what an earlier one left.
    #[error("recovering containers")]
    Containers(#[from] ContainerizerError),
    /// Another agent has the work directory.
    #[error(
        "another agent runs in {work_dir:?}; an agent of its own needs its own `--work_dir`, `--runtime_dir` and `--port`"
    )]
    Occupied {
        /// Which.
        work_dir: PathBuf,
    },
    /// The work directory cannot be used.
    #[error("using the work directory {work_dir:?}")]
    WorkDir {
        /// Which.
        work_dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Executors can't be given the socket they are promised.
    #[error("listening on the executors' socket {socket:?}")]
    Socket {
        /// Its path or its name.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The listener has no address to be known by.
    #[error("the agent needs a TCP listener")]
    Listener,
    /// Another agent runs in this process on this address.
    #[error(transparent)]
    Name(#[from] NameTaken),
    /// The core cannot go on.
    #[error("{reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// The master sent it away: all it ran has ended, and it will never be that agent again.
    #[error("{reason}")]
    Gone {
        /// Why.
        reason: String,
    },
}

/// Runs an agent until `cancel`, or until it cannot go on.
///
/// Serves HTTP and libprocess on `listener`. When cancelled, containers keep running if the
/// containerizer's survive, and the next agent takes them up.
///
/// # Errors
/// [`AgentError`]. The agent may be started again, and goes on from what is on disk.
pub async fn run(
    config: Config,
    containerizer: Arc<dyn Containerizer>,
    listener: Listener,
    cancel: CancellationToken,
) -> Result<(), AgentError> {
    let begun = self::now();
    let bound = listener.address().ok_or(AgentError::Listener)?;
    let mut leader = Leader::of(&config).await?;
    let ip = match config.advertise.0 {
        Some(ip) => ip,
        None if !bound.ip().is_unspecified() => bound.ip(),
        // The address by which a master is reached is the one it can reach us at.
        None => match leader.address(&cancel).await {
            Some(master) => detect::address(bound.ip(), master.ip()),
            None => return Ok(()),
        },
    };
    let address = SocketAddr::new(ip, config.advertise.1.unwrap_or(bound.port()));
    let messenger = MessengerConfig {
        tls: config.tls.clone(),
        require_peer_match: config.require_peer_match,
        ..MessengerConfig::default()
    };
    let messenger = Messenger::with_config(address, messenger);
    let actor = messenger.actor(ACTOR)?;

    let _occupied = match config.occupied.clone() {
        Some(file) => file,
        None => Arc::new(occupy(&config.work_dir).await?),
    };
    take_over(&config.work_dir)?;
    let mut store = Store::open(&config.work_dir)?;
    let mut info = describe(&config, address)?;
    config.hooks.decorate_agent(&mut info);
    volumes::check_disks(&config.work_dir, &Resources::from(&info.resources)).map_err(
        |reason| AgentError::Stopped {
            reason: format!("reading the agent's resources: {reason}"),
        },
    )?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let state = store.read(boot_id.trim())?;
    check_resources(&info, &state.resources)?;
    let left = volumes::sweep(&config.work_dir, &info);
    tokio::task::spawn_blocking(move || volumes::discard(&left));
    let known = if state.rebooted || config.cleanup {
        BTreeSet::new()
    } else {
        state.containers()
    };
    let adopted = state.adopted();
    let containerizer = if adopted.is_empty() {
        containerizer
    } else {
        Arc::new(WithAdopted::new(containerizer, adopted))
    };
    let containers = containerizer.recover(&known).await?;
    if config.cleanup {
        store.forget()?;
        return Ok(());
    }
    let recovered = state.agent.clone();
    let now = dcos_core::time::steady();
    let opened = config.executor_socket.as_ref().map(ExecutorSocket::open);
    let opened = opened.transpose();
    let opened = opened.map_err(|(socket, source)| AgentError::Socket { socket, source })?;
    let (path, sockets) = opened.map(|all| (all.path, all.listeners)).unzip();
    let settings = settings(&config, address, path);
    let mut agent = Agent::recover(now, settings, &Seed::from_os(), info, state, containers);
    if let (Some(before), Some(_)) = (&recovered, agent.id()) {
        let compatible = config.reconfiguration.check(before, agent.info());
        compatible.map_err(|what| AgentError::Stopped {
            reason: format!(
                "{what}; remove `meta/slaves/latest` below the work directory to start as a new agent"
            ),
        })?;
    }
    tracing::info!(%address, agent = ?agent.id().map(ToString::to_string), "agent recovered");
    agent.handle(now, Input::Detected(leader.upid()));

    let (inbox, work) = mpsc::channel(INBOX);
    let handle = Handle::new(inbox);
    let stop = cancel.child_token();
    let files = Files::default();
    if let Some(log) = config.log_file.as_ref().or(config.own_log.as_ref()) {
        files.attach("/slave/log", log);
    }
    let context = http::Context::new(
        handle.clone(),
        &config,
        Arc::clone(&containerizer),
        files.clone(),
        begun,
    );
    let routes = http::router(context, config.routes.clone());
    let mut executors = JoinSet::new();
    for socket in sockets.into_iter().flatten() {
        let server = Server::new(socket::only_executors(routes.clone()));
        executors.spawn(server.serve(socket, stop.clone()));
    }
    let routes = config.origins.protect(routes);
    let routes = config.firewall.protect(routes);
    let server = messenger.server(routes).ssl(config.tls.as_ref());
    let server = server.config(config.server.clone());
    let server = tokio::spawn(server.serve(listener, stop.clone()));
    let measured = Measured {
        handle: handle.clone(),
        containerizer: Arc::clone(&containerizer),
    };
    let mut oversubscription = JoinSet::new();
    oversubscription.spawn(estimates::estimate(
        config.estimator,
        measured.clone(),
        config.oversubscribed_resources_interval,
    ));
    oversubscription.spawn(estimates::correct(
        config.qos_controller,
        measured,
        config.qos_correction_interval_min,
    ));
    let runner = Runner::new(containerizer, handle, files, config.work_dir.clone());
    let disk = (config.work_dir.clone(), config.disk_watch_interval);
    let shell = Shell {
        agent,
        store: Some(store),
        actor,
        runner,
        work,
        leader,
        disk,
    };
    let result = shell.run(cancel, config.sign_off).await;
    oversubscription.shutdown().await;
    stop.cancel();
    let _ = server.await;
    executors.join_all().await;
    result
}

struct Shell {
    agent: Agent,
    /// Elsewhere only while it writes.
    store: Option<Store>,
    actor: Actor,
    runner: Runner,
    work: mpsc::Receiver<Work>,
    leader: Leader,
    disk: (PathBuf, Duration),
}

impl Shell {
    async fn run(
        mut self,
        cancel: CancellationToken,
        sign_off: CancellationToken,
    ) -> Result<(), AgentError> {
        let mut signing_off = false;
        let mut disk = tokio::time::interval(self.disk.1.max(Duration::from_millis(1)));
        loop {
            match self.carry_out().await {
                Err(AgentError::Stopped { .. } | AgentError::Gone { .. }) if signing_off => {
                    return Ok(());
                }
                done => done?,
            }
            let deadline = self.agent.next_deadline();
            let pause = deadline.map(|at| now().until(at));
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = sign_off.cancelled(), if !signing_off => {
                    signing_off = true;
                    self.agent.handle(now(), Input::Unregister);
                }
                event = self.actor.recv() => self.event(event),
                work = self.work.recv() => self.work(work),
                master = self.leader.changed() => {
                    tracing::info!(?master, "another master leads");
                    self.agent.handle(now(), Input::Detected(master));
                }
                _ = disk.tick() => self.measure_disk(),
                () = tokio::time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
            }
            // What came meanwhile shares one round of writes.
            while let Some(event) = self.actor.try_recv() {
                self.event(Some(event));
            }
            while let Ok(work) = self.work.try_recv() {
                self.work(Some(work));
            }
            self.agent.tick(now());
        }
    }

    fn event(&mut self, event: Option<Event>) {
        let input = match event {
            None => return,
            Some(Event::Exited(peer)) => {
                tracing::warn!(%peer, "connection lost");
                Input::Disconnected(peer.to_string())
            }
            Some(Event::Message(message)) => {
                let from = message.from.to_string();
                if let Some(said) = FromDriver::decode(&message.name, &message.body) {
                    return self.driver(from, said);
                }
                match FromMaster::decode(&message.name, &message.body) {
                    Some(Ok(message)) => Input::Message { from, message },
                    Some(Err(error)) => {
                        let error = chain(&error);
                        return tracing::warn!(from, name = message.name, %error, "bad message");
                    }
                    None => {
                        return tracing::debug!(
                            from,
                            name = message.name,
                            "message not for agents"
                        );
                    }
                }
            }
        };
        self.agent.handle(now(), input);
    }

    /// An executor on the libmesos driver said something.
    fn driver(&mut self, from: String, said: Result<FromDriver, DecodeError>) {
        match said {
            Ok(message) => self.agent.handle(now(), Input::Driver { from, message }),
            Err(error) => tracing::warn!(from, error = %chain(&error), "bad message"),
        }
    }

    fn work(&mut self, work: Option<Work>) {
        match work {
            Some(Work::Input(input)) => self.agent.handle(now(), *input),
            Some(Work::Query(query)) => query(&self.agent),
            Some(Work::Subscribe {
                key,
                subscribe,
                stream,
            }) => {
                self.runner.streams.insert(key.clone(), stream);
                self.agent.handle(now(), Input::Subscribe(key, subscribe));
            }
            Some(Work::StreamEnded { key, id }) if self.runner.streams.remove_if(&key, id) => {
                self.agent.handle(now(), Input::Unsubscribed(key));
            }
            None | Some(Work::StreamEnded { .. }) => {}
        }
    }

    fn measure_disk(&mut self) {
        match detect::disk_usage(&self.disk.0) {
            Ok(usage) => self.agent.handle(now(), Input::DiskUsage(usage)),
            Err(error) => tracing::warn!(%error, "measuring the use of the disk"),
        }
    }

    /// Carries out everything the core wants: first all writes, in one batch, then the rest in
    /// order. A write may always come earlier than it has to.
    async fn carry_out(&mut self) -> Result<(), AgentError> {
        let mut actions = self.decided().await?;
        let agent = self.agent.id().cloned().unwrap_or_default();
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Stop { reason, fresh } => return self.stop(reason, fresh),
                Action::Volumes(work) => {
                    let (operation, outcome) = self.change_volumes(work).await;
                    self.agent.handle(now(), Input::Volumes(operation, outcome));
                    actions.extend(self.decided().await?);
                }
                action => self.runner.carry_out(action, &self.actor, &agent),
            }
        }
        Ok(())
    }

    /// What the core wants besides writing, which is done.
    async fn decided(&mut self) -> Result<VecDeque<Action>, AgentError> {
        let (mut writes, mut actions) = (Vec::new(), VecDeque::new());
        while let Some(action) = self.agent.poll() {
            match action {
                Action::Write(write) => writes.push(write),
                action => actions.push_back(action),
            }
        }
        self.flush(writes).await?;
        Ok(actions)
    }

    /// Makes and deletes volumes while everything else waits: a task that uses one may be next.
    async fn change_volumes(&self, mut work: VolumeWork) -> (Option<Vec<u8>>, Result<(), String>) {
        tracing::info!(make = ?work.make, delete = ?work.delete, empty = ?work.empty, "volumes");
        let operation = work.operation.take();
        let done = tokio::task::spawn_blocking(move || volumes::change(&work)).await;
        let outcome = match done {
            Ok(Ok(aside)) => {
                if !aside.is_empty() {
                    tokio::task::spawn_blocking(move || volumes::discard(&aside));
                }
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &outcome {
            tracing::error!(error, "changing persistent volumes");
        }
        (operation, outcome)
    }

    #[expect(
        clippy::vec_box,
        reason = "they come boxed, and copying them costs more"
    )]
    async fn flush(&mut self, batch: Vec<Box<Write>>) -> Result<(), AgentError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut store = self
            .store
            .take()
            .expect("it comes back before the next flush");
        let done = tokio::task::spawn_blocking(move || {
            let result = store.apply(&batch);
            (store, result)
        });
        let (store, result) = done.await.map_err(|error| AgentError::Stopped {
            reason: format!("writing checkpoints broke off: {error}"),
        })?;
        self.store = Some(store);
        Ok(result?)
    }

    fn stop(&mut self, reason: String, fresh: bool) -> Result<(), AgentError> {
        if !fresh {
            return Err(AgentError::Stopped { reason });
        }
        if let Some(store) = &mut self.store {
            store.forget()?;
        }
        Err(AgentError::Gone { reason })
    }
}

pub(super) fn now() -> Time {
    dcos_core::time::steady()
}

/// If an original Mesos agent lived in `work_dir` last, makes what it left this agent's.
fn take_over(work_dir: &Path) -> Result<(), CheckpointError> {
    takeover::complete(work_dir)?;
    let Some(found) = Takeover::find(work_dir)? else {
        return Ok(());
    };
    found.carry_out(work_dir)?;
    let executors = found.live();
    tracing::warn!(executors, "took the place of an original Mesos agent");
    Ok(())
}

/// The agent as it presents itself.
fn describe(config: &Config, address: SocketAddr) -> Result<AgentInfo, AgentError> {
    let given = Resources::parse_for(&config.resources, &config.default_role)?;
    let mut detected =
        detect::Capacity::of_this_node(&config.work_dir).map_err(AgentError::Detect)?;
    detected.gpus = config.gpus;
    let resources = detect::complete(&given, &detected.to_resources());
    Ok(AgentInfo {
        hostname: match &config.hostname {
            Some(hostname) => hostname.clone(),
            None if config.hostname_lookup => detect::hostname(),
            None => address.ip().to_string(),
        },
        resources: resources.to_messages(),
        attributes: config.attributes.clone(),
        checkpoint: Some(true),
        port: Some(address.port().into()),
        domain: config.domain.clone(),
        ..AgentInfo::default()
    })
}

/// What was reserved and created has to be made of what there is.
fn check_resources(info: &AgentInfo, checkpointed: &[Resource]) -> Result<(), AgentError> {
    Resources::from(&info.resources)
        .with_checkpointed(&Resources::from_messages(checkpointed))
        .map(drop)
        .map_err(|error| AgentError::Stopped {
            reason: error.to_string(),
        })
}

fn settings(config: &Config, address: SocketAddr, socket: Option<PathBuf>) -> Settings {
    Settings {
        version: VERSION.to_owned(),
        pid: Upid::new(ACTOR, address).to_string(),
        endpoint: address.to_string(),
        work_dir: config.work_dir.clone(),
        registration_backoff_factor: config.registration_backoff_factor,
        executor_registration_timeout: config.executor_registration_timeout,
        executor_reregistration_timeout: config.executor_reregistration_timeout,
        executor_reregistration_retry_interval: config.executor_reregistration_retry_interval,
        executor_shutdown_grace_period: config.executor_shutdown_grace_period,
        docker_stop_timeout: config.docker_stop_timeout,
        recovery_timeout: config.recovery_timeout,
        gc_delay: config.gc_delay,
        gc_disk_headroom: config.gc_disk_headroom,
        max_completed_executors_per_framework: config.max_completed_executors_per_framework,
        switch_user: config.switch_user,
        executor_environment: config.executor_environment.clone(),
        executor_socket: socket,
        credential: config.security.credential.clone(),
        patience: config.security.patience,
        executor_key: config.security.executor_key.clone(),
        drivers: config.security.executor.is_none(),
        authorizer: Some(Arc::clone(&config.security.authorizer)),
        hooks: config.hooks.clone(),
    }
}
