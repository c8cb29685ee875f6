//! What a container goes through: launch, life, end.

use std::collections::BTreeMap;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerState, HostConfigLogConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    WaitContainerOptions,
};
use dcos_containerizer::containerizer::{
    ContainerConfig, ContainerTermination, ContainerizerError, Stdio, sandbox,
};
use dcos_containerizer::fetcher::FetchRequest;
use dcos_containerizer::logger::LogRequest;
use dcos_containerizer::secret::variables;
use dcos_containerizer::switchboard::Switchboard;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::value::{self, Scalar};
use dcos_proto::mesos::{ContainerId, Resource};
use futures::StreamExt as _;
use tokio::sync::watch;

use crate::containerizer::{Container, Inner, Phase, name};
use crate::credentials;
use crate::engine::{is_alive, is_status};
use crate::exec::Exec;
use crate::gpus;
use crate::logs::Tap;
use crate::pull;
use crate::shape::Shape;
use crate::store::Record;

/// What was killed and still runs is killed again after this long.
const KILL_AGAIN: Duration = Duration::from_secs(5);

/// The label that says whose a container is.
pub(crate) const NODE_LABEL: &str = "dcos.node";
/// The label that says which.
pub(crate) const CONTAINER_LABEL: &str = "dcos.container";

/// Launches a container; goes on to the end even if the caller does not wait for it.
pub(crate) async fn launch(
    inner: &Arc<Inner>,
    id: &ContainerId,
    config: ContainerConfig,
) -> Result<(), ContainerizerError> {
    let record = record_of(inner, &config)
        .map_err(|why| ContainerizerError::launch(id, "find user", why))?;
    let container = admit(inner, id, record)?;
    let inner = Arc::clone(inner);
    let launch = tokio::spawn(async move {
        let mut doomed = container.doomed.subscribe();
        let destroyed = || ContainerizerError::Destroyed(container.id.clone());
        let made = tokio::select! {
            made = make(&inner, &container, config) => made,
            // Whatever was begun is cleaned up below.
            _ = doomed.wait_for(|doomed| *doomed) => Err(destroyed()),
        };
        let started = match made {
            Ok(tap) => start(&inner, &container, tap).await,
            Err(error) => Err(error),
        };
        match started {
            Ok((tap, hears)) => {
                container.phase.send_replace(Phase::Running);
                if *container.doomed.borrow() {
                    inner.signal(&container, libc::SIGKILL).await.ok();
                }
                tracing::info!(container = %container.id, "launched");
                tokio::spawn(watch_over(inner, container, tap, hears));
                Ok(())
            }
            Err(error) => {
                tracing::info!(container = %container.id, %error, "launch failed");
                let is_gone = discard(&inner, &container.id).await;
                inner.config.logger.cleanup(&container.id).await;
                if is_gone {
                    inner.release(&container.id);
                } else {
                    tokio::spawn(discard_at_last(Arc::clone(&inner), container.id.clone()));
                }
                inner.lock().remove(&container.id);
                container.phase.send_replace(Phase::Failed);
                Err(error)
            }
        }
    });
    let launched = launch.await;
    launched.unwrap_or_else(|error| Err(ContainerizerError::launch(id, "launch", error)))
}

/// Reserves the id.
fn admit(
    inner: &Inner,
    id: &ContainerId,
    record: Record,
) -> Result<Arc<Container>, ContainerizerError> {
    let mut containers = inner.lock();
    if containers.contains_key(id) {
        return Err(ContainerizerError::Exists(id.clone()));
    }
    let container = Container::new(id.clone(), record, Phase::Launching);
    containers.insert(id.clone(), Arc::clone(&container));
    Ok(container)
}

fn record_of(inner: &Inner, config: &ContainerConfig) -> Result<Record, String> {
    let user = sandbox::asked_user(config, inner.config.switch_user)?;
    let logger = config.environment.iter();
    let logger = logger.filter(|(name, _)| name.starts_with("CONTAINER_LOGGER_"));
    let network = config
        .container
        .as_ref()
        .and_then(|info| info.network_infos.first());
    Ok(Record {
        version: Record::VERSION,
        directory: config.directory.clone(),
        // Whom it names on this host; a user of the image only owns no sandbox.
        owner: sandbox::owner(user, None).ok().flatten(),
        origin: config.origin.clone(),
        logger: logger
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        network: network.map(prost::Message::encode_to_vec),
        ..Record::default()
    })
}

/// Everything up to the container that only has to be started.
async fn make(
    inner: &Inner,
    container: &Container,
    mut config: ContainerConfig,
) -> Result<Tap, ContainerizerError> {
    let id = &container.id;
    let failed =
        |step: &'static str| move |reason: String| ContainerizerError::launch(id, step, reason);
    let name = name(id);
    let mut shape =
        Shape::new(&name, &config, &inner.settings).map_err(failed("create docker run options"))?;
    if let Some(command) = &config.command {
        let found = variables(inner.config.secrets.as_ref(), command).await;
        let found = found.map_err(|error| failed("look secrets up")(error.0))?;
        shape.environment.extend(found);
    }
    let mut record = container.record();
    let pool = inner.config.gpus.as_ref();
    record.gpus = gpus::give(pool, id, &config.resources).map_err(failed("give GPUs"))?;
    if let Some(pool) = pool {
        gpus::show(&mut shape.host, pool, &record.gpus, inner.has_nvidia);
    }
    let user = config
        .command
        .as_ref()
        .and_then(|command| command.user.clone());
    sandbox::make(&record.directory, record.owner)
        .map_err(|error| failed("make the sandbox")(error.to_string()))?;
    inner
        .store
        .save(id, &record)
        .map_err(|error| failed("checkpoint")(error.to_string()))?;
    own_volumes(&config, &record).map_err(failed("prepare volumes"))?;

    let uris = config
        .command
        .as_mut()
        .map(|command| std::mem::take(&mut command.uris));
    if let Some(uris) = uris.filter(|uris| !uris.is_empty()) {
        let request = FetchRequest {
            container: id.clone(),
            uris,
            directory: record.directory.clone(),
            owner: record.owner,
            user: user.or_else(|| config.user.clone()),
        };
        let fetched = inner.config.fetcher.fetch(&request).await;
        fetched.map_err(|error| failed("fetch")(error.to_string()))?;
    }
    // The task's own come before the node's, as in the original.
    let own = credentials::of_sandbox(&record.directory).map_err(failed("read credentials"))?;
    pull::ensure(
        &inner.engine,
        &shape.image,
        &shape.platform,
        shape.pull,
        own.as_ref().unwrap_or(&inner.config.credentials),
    )
    .await
    .map_err(failed("provision image"))?;
    let image = inner.engine.api().inspect_image(&shape.image).await;
    let image = image
        .ok()
        .and_then(|image| image.config)
        .unwrap_or_default();

    choose_log_driver(inner, &mut shape);
    let log = shape
        .host
        .log_config
        .as_ref()
        .and_then(|log| log.typ.as_deref());
    record.unlogged = log == Some("none");
    record.tty = shape.body.tty == Some(true);
    record.ephemeral = shape.ephemeral;
    record.stop_signal = shape.body.stop_signal.clone().or(image.stop_signal);
    inner
        .store
        .save(id, &record)
        .map_err(|error| failed("checkpoint")(error.to_string()))?;
    *container
        .record
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = record.clone();

    shape
        .labels
        .insert(NODE_LABEL.to_owned(), inner.node.clone());
    shape
        .labels
        .insert(CONTAINER_LABEL.to_owned(), id.to_string());
    let logs = inner.config.logger.prepare(&log_request(id, &record)).await;
    let logs = logs.map_err(|error| failed("open the logs")(error.to_string()))?;
    let options = CreateContainerOptionsBuilder::new()
        .name(&name)
        .platform(&shape.platform)
        .build();
    let created = inner
        .engine
        .api()
        .create_container(Some(options), shape.to_body())
        .await;
    let created = created.map_err(|error| failed("create")(inner.engine.text(&error)))?;
    for warning in created.warnings {
        tracing::warn!(container = %id, warning, "Docker Engine warns");
    }
    let folder = inner.store.folder(id);
    Tap::open(inner.engine.clone(), name, record.tty, logs, &folder)
        .map_err(|error| failed("open the logs")(error.to_string()))
}

/// Bytes as they are, and not for ever: what the task printed is in its sandbox.
fn choose_log_driver(inner: &Inner, shape: &mut Shape) {
    let named = shape
        .host
        .log_config
        .as_ref()
        .is_some_and(|log| log.typ.is_some());
    if let Some(driver) = inner.log_driver.clone().filter(|_| !named) {
        let mut options = shape
            .host
            .log_config
            .take()
            .and_then(|log| log.config)
            .unwrap_or_default();
        let defaults = [
            ("max-size", "64m"),
            ("max-file", "4"),
            ("compress", "false"),
        ];
        for (option, value) in defaults {
            options
                .entry(option.to_owned())
                .or_insert_with(|| value.to_owned());
        }
        shape.host.log_config = Some(HostConfigLogConfig {
            typ: Some(driver),
            config: Some(options),
        });
    }
}

/// Persistent volumes belong to whoever owns the sandbox, unless others use them too.
fn own_volumes(config: &ContainerConfig, record: &Record) -> Result<(), String> {
    let Some((uid, gid)) = record.owner else {
        return Ok(());
    };
    let own = config.volumes.iter().filter(|volume| !volume.keep_owner);
    for volume in own {
        let source: &Path = &volume.source;
        chown(source, Some(uid), Some(gid))
            .map_err(|error| format!("giving {} to its task: {error}", source.display()))?;
    }
    Ok(())
}

/// From here on something may run, and a destroyed launch is a killed one.
async fn start(
    inner: &Inner,
    container: &Container,
    tap: Tap,
) -> Result<(Tap, Option<crate::logs::Live>), ContainerizerError> {
    let id = &container.id;
    let failed = |error: &bollard::errors::Error| {
        ContainerizerError::launch(id, "start", inner.engine.text(error))
    };
    let live = if container.record().unlogged {
        Some(
            Tap::listen(&inner.engine, &name(id))
                .await
                .map_err(|error| failed(&error))?,
        )
    } else {
        None
    };
    let options = None::<StartContainerOptions>;
    let started = inner.engine.api().start_container(&name(id), options).await;
    started.map_err(|error| failed(&error))?;
    if *container.doomed.borrow() {
        return Err(ContainerizerError::Destroyed(id.clone()));
    }
    Ok((tap, live))
}

/// Waits for a running container's end, and tells it.
pub(crate) async fn watch_over(
    inner: Arc<Inner>,
    container: Arc<Container>,
    tap: Tap,
    live: Option<crate::logs::Live>,
) {
    let ended = watch::Sender::new(false);
    let listener = ended.subscribe();
    let logged = tokio::spawn(async move {
        match live {
            Some(live) => tap.hear(live).await,
            None => tap.follow(listener).await,
        }
    });
    let state = gone(&inner, &container).await;
    ended.send_replace(true);
    logged.await.ok();
    finish(&inner, &container, state.as_ref()).await;
}

/// Returns when a container was to end and has had its time: who asked for it may have met an engine that was away.
async fn overdue(container: &Container) {
    let mut doomed = container.doomed.subscribe();
    if doomed.wait_for(|doomed| *doomed).await.is_ok() {
        tokio::time::sleep(KILL_AGAIN).await;
    }
}

/// What the engine says of the container once it does not run; `None` if it knows it no longer.
/// An engine that is away is waited for: what it runs may go on without it.
pub(crate) async fn gone(inner: &Inner, container: &Container) -> Option<ContainerState> {
    let name = name(&container.id);
    let mut pause = Duration::from_millis(100);
    let mut told = false;
    loop {
        let mut waited = inner
            .engine
            .api()
            .wait_container(&name, None::<WaitContainerOptions>);
        // An exit code other than 0 comes as an error, as do real ones: the state tells.
        let heard = tokio::select! {
            heard = waited.next() => heard,
            () = overdue(container) => None,
        };
        drop(waited);
        match inner.engine.inspect(&name).await {
            Ok(None) => return None,
            Ok(Some(inspected)) => {
                let state = inspected.state.unwrap_or_default();
                if !is_alive(&state) {
                    return Some(state);
                }
                if *container.doomed.borrow() {
                    let killed = inner.signal(container, libc::SIGKILL).await;
                    if let Err(error) = killed {
                        tracing::debug!(container = %container.id, error, "killing it once more");
                    }
                }
                if matches!(heard, Some(Ok(_))) {
                    pause = Duration::from_millis(100);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    let error = inner.engine.text(&error);
                    tracing::warn!(container = %container.id, error, "waiting for its engine");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Ends what runs in it, makes its end known, and has it removed later.
pub(crate) async fn finish(
    inner: &Arc<Inner>,
    container: &Container,
    state: Option<&ContainerState>,
) {
    let id = &container.id;
    for nested in inner.below(id) {
        doom(inner, &nested).await.ok();
        nested.end().await;
    }
    let termination = match state {
        None => ContainerTermination::lost("Docker Engine knows the container no longer"),
        Some(state) => termination(state, inner.engine_memory(id).await),
    };
    inner.config.logger.cleanup(id).await;
    inner.free_gpus(id);
    if let Err(error) = inner.store.end(id, &termination) {
        tracing::error!(container = %id, %error, "could not keep how it ended");
    }
    tracing::info!(container = %id, end = termination.describe(), "ended");
    let delay = if container.record().ephemeral {
        Duration::ZERO
    } else {
        inner.config.remove_delay
    };
    container.phase.send_replace(Phase::Ended(termination));
    tokio::spawn(remove_later(Arc::clone(inner), id.clone(), delay));
}

impl Inner {
    /// Megabytes that a container may use.
    async fn engine_memory(&self, id: &ContainerId) -> Option<i64> {
        let inspected = self.engine.inspect(&name(id)).await.ok().flatten()?;
        inspected.host_config?.memory.filter(|&memory| memory > 0)
    }
}

fn termination(state: &ContainerState, memory: Option<i64>) -> ContainerTermination {
    let code = state.exit_code.unwrap_or(-1);
    let mut termination = ContainerTermination::exited(wait_status(code));
    if state.oom_killed == Some(true) {
        let megabytes = memory.map(|bytes| bytes >> 20);
        termination.reason = Some(Reason::ContainerLimitationMemory);
        termination.message = Some(match megabytes {
            Some(megabytes) => format!("Memory limit exceeded: Requested: {megabytes}MB"),
            None => "Memory limit exceeded".to_owned(),
        });
        termination.limited = megabytes.into_iter().map(scalar).collect();
    } else if let Some(error) = state.error.as_deref().filter(|error| !error.is_empty()) {
        termination.message = Some(error.to_owned());
    }
    termination
}

fn scalar(megabytes: i64) -> Resource {
    #[expect(
        clippy::cast_precision_loss,
        reason = "amounts of memory are far below"
    )]
    let value = megabytes as f64;
    Resource {
        name: "mem".to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(Scalar { value }),
        ..Resource::default()
    }
}

/// As `wait(2)` tells an exit: Docker tells of signals as codes above 128, as shells do.
pub(crate) fn wait_status(code: i64) -> i32 {
    i32::try_from(code & 0xff).unwrap_or(0xff) << 8
}

/// Has a container killed, now or as soon as there is something to kill.
pub(crate) async fn doom(inner: &Inner, container: &Container) -> Result<(), String> {
    container.doomed.send_replace(true);
    if container.is_running() {
        inner.signal(container, libc::SIGKILL).await?;
    }
    Ok(())
}

/// Removes what there is of a container that nobody needs, whatever it does; whether nothing is left.
pub(crate) async fn discard(inner: &Inner, id: &ContainerId) -> bool {
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    let removed = inner
        .engine
        .api()
        .remove_container(&name(id), Some(options))
        .await;
    if let Err(error) = removed
        && !is_status(&error, 404)
    {
        let error = inner.engine.text(&error);
        tracing::warn!(container = %id, error, "could not remove it from Docker");
        return false;
    }
    true
}

/// Removes what was not to be removed at once, however long that takes: until then its GPUs are nobody else's.
async fn discard_at_last(inner: Arc<Inner>, id: ContainerId) {
    let mut pause = Duration::from_millis(100);
    loop {
        tokio::time::sleep(pause).await;
        if discard(&inner, &id).await {
            return inner.release(&id);
        }
        pause = (pause * 2).min(Duration::from_mins(1));
    }
}

/// Whether a container that nobody waits for has GPUs: they are its own until it ended, and so long it is written down.
pub(crate) fn hold_gpus(inner: &Arc<Inner>, container: &Arc<Container>) -> bool {
    let gpus = container.record().gpus;
    let Some(pool) = inner.config.gpus.as_ref().filter(|_| !gpus.is_empty()) else {
        return false;
    };
    pool.keep(&container.id, gpus);
    let (inner, container) = (Arc::clone(inner), Arc::clone(container));
    tokio::spawn(async move {
        gone(&inner, &container).await;
        inner.release(&container.id);
    });
    true
}

pub(crate) async fn remove_later(inner: Arc<Inner>, id: ContainerId, delay: Duration) {
    tokio::time::sleep(delay).await;
    discard(&inner, &id).await;
}

pub(crate) fn log_request(id: &ContainerId, record: &Record) -> LogRequest {
    LogRequest {
        id: id.clone(),
        directory: record.directory.clone(),
        owner: record.owner,
        environment: BTreeMap::clone(&record.logger),
        origin: record.origin.clone(),
    }
}

/// The streams of a command, and the switchboard of a session.
fn streams(
    inner: &Inner,
    config: &mut ContainerConfig,
) -> Result<(Option<Switchboard>, Stdio), String> {
    if !config.session {
        return Ok((None, std::mem::take(&mut config.stdio)));
    }
    let terminal = config.container.as_ref();
    let terminal = terminal.and_then(|container| container.tty_info.as_ref());
    let made = Switchboard::local(&inner.config.sockets, terminal);
    let (board, stdio) = made.map_err(|error| format!("opening its streams: {error}"))?;
    Ok((Some(board), stdio))
}

/// Runs a command in a container.
pub(crate) async fn exec(
    inner: &Arc<Inner>,
    id: &ContainerId,
    mut config: ContainerConfig,
) -> Result<(), ContainerizerError> {
    let no_parent = || ContainerizerError::NoParent(id.clone());
    let parent = id.parent.as_deref().ok_or_else(no_parent)?;
    let parent = inner.find(parent).map_err(|_| no_parent())?;
    if !parent.is_running() || parent.exec().is_some() || *parent.doomed.borrow() {
        return Err(no_parent());
    }
    let container = admit(inner, id, Record::default())?;
    let inner = Arc::clone(inner);
    let launch = tokio::spawn(async move {
        let id = &container.id;
        let started = async {
            let (board, stdio) = streams(&inner, &mut config)?;
            let exec = Exec::create(inner.engine.clone(), &name(&parent.id), &config).await?;
            inner.store.save_exec(&parent.id, &exec.name).ok();
            let relay = exec.start(stdio).await?;
            exec.begun().await;
            Ok::<_, String>((exec.with_switchboard(board), relay))
        };
        match started.await {
            Ok((exec, relay)) => {
                let name = exec.name.clone();
                let board = exec.switchboard.clone();
                *container
                    .exec
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(exec);
                container.phase.send_replace(Phase::Running);
                if *container.doomed.borrow() {
                    inner.signal(&container, libc::SIGKILL).await.ok();
                }
                tokio::spawn(async move {
                    let end = relay.await;
                    inner.store.remove_exec(&parent.id, &name);
                    container.phase.send_replace(Phase::Ended(end));
                    if let Some(board) = board {
                        board.end().await;
                    }
                });
                Ok(())
            }
            Err(reason) => {
                inner.lock().remove(id);
                container.phase.send_replace(Phase::Failed);
                Err(ContainerizerError::launch(id, "exec", reason))
            }
        }
    });
    let launched = launch.await;
    launched.unwrap_or_else(|error| Err(ContainerizerError::launch(id, "exec", error)))
}
