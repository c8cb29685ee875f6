//! What a container goes through: launch, life, end.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use dcos_launcher::Scope;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{CommandInfo, ContainerId};

use super::store::Record;
use super::{Container, Exit, Inner, Phase, command, foreign, ids, launcher, streams};
use crate::containerizer::{
    ContainerClass, ContainerConfig, ContainerTermination, ContainerizerError, sandbox,
};
use crate::fetcher::FetchRequest;
use crate::isolator::users::User;
use crate::isolator::{self, Limitation};
use crate::logger::LogRequest;
use crate::oci::{LABEL, NATIVE, Runtime};
use crate::provisioner::Provisioned;
use crate::rootless;
use crate::switchboard;

/// Launches a container; goes on to the end even if the caller does not wait for it.
pub(super) async fn launch(
    inner: &Arc<Inner>,
    id: &ContainerId,
    config: ContainerConfig,
) -> Result<(), ContainerizerError> {
    let container = admit(inner, id, &config)?;
    let inner = Arc::clone(inner);
    let launch = tokio::spawn(async move {
        let mut doomed = container.doomed.subscribe();
        let made = tokio::select! {
            made = prepare(&inner, &container, &config) => made,
            // Whatever was begun is cleaned up below.
            _ = doomed.wait_for(|doomed| *doomed) => {
                Err(ContainerizerError::Destroyed(container.id.clone()))
            }
        };
        let connection = inner.launcher.connection();
        let started = match made {
            Ok(made) => start(&inner, &container, made).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(pid) => {
                container.phase.send_replace(Phase::Running { pid });
                // Until now nobody looked for it among those that a lost launcher took with it.
                if inner.launcher.connection() != connection {
                    inner.find_lost().await;
                }
                // Whoever doomed it a moment ago found nothing to kill yet.
                if *container.doomed.borrow() {
                    inner.signal(&container, libc::SIGKILL, Scope::All).await;
                }
                tracing::info!(container = %container.id, pid, "launched");
                tokio::spawn(watch_over(inner, container));
                Ok(())
            }
            Err(error) => {
                tracing::info!(container = %container.id, %error, "launch failed");
                streams::abandon(&inner, &container).await;
                clean_up(&inner, &container).await.ok();
                inner.store.remove(&container.id).ok();
                inner.lock().remove(&container.id);
                container.phase.send_replace(Phase::Failed);
                Err(error)
            }
        }
    });
    launch
        .await
        .unwrap_or_else(|error| Err(ContainerizerError::launch(id, "launch", error)))
}

/// Reserves the id.
fn admit(
    inner: &Inner,
    id: &ContainerId,
    config: &ContainerConfig,
) -> Result<Arc<Container>, ContainerizerError> {
    if config.is_docker() {
        // Its image would be passed over, and the command run on the host's own files.
        return Err(ContainerizerError::unsupported(id, "mesos"));
    }
    let user = sandbox::asked_user(config, inner.config.switch_user)
        .map_err(|why| ContainerizerError::launch(id, "find user", why))?;
    let mut containers = inner.lock();
    if containers.contains_key(id) {
        return Err(ContainerizerError::Exists(id.clone()));
    }
    let mut record = Record {
        version: Record::VERSION,
        directory: config.directory.clone(),
        user: user.map(str::to_owned),
        debug: Record::is_debug(config.class),
        ..Record::default()
    };
    record.standalone = config.standalone;
    record.origin.clone_from(&config.origin);
    record.volumes.clone_from(&config.volumes);
    record.ids = ids::chosen(inner, config, None);
    if let Some(parent) = id.parent.as_deref() {
        let parent = containers.get(parent);
        let Some(parent) = parent.filter(|parent| parent.pid().is_some()) else {
            return Err(ContainerizerError::NoParent(id.clone()));
        };
        if *parent.doomed.borrow() || parent.exit.borrow().is_some() {
            return Err(ContainerizerError::NoParent(id.clone()));
        }
        let parent = parent.record();
        record.ids = ids::chosen(inner, config, Some(&parent));
        record.user = record.user.or(parent.user);
        if record.debug {
            record.directory = parent.directory;
            record.rootfs = parent.rootfs;
            record.environment = parent.environment;
            record.working_directory = parent.working_directory;
        }
    } else if record.debug {
        return Err(ContainerizerError::NoParent(id.clone()));
    }
    let container = Container::new(id.clone(), record, Phase::Launching);
    containers.insert(id.clone(), Arc::clone(&container));
    Ok(container)
}

/// A container of which only the process is missing.
pub(super) struct Made {
    pub(super) draft: isolator::Draft,
    pub(super) streams: [File; 3],
}

async fn prepare(
    inner: &Inner,
    container: &Container,
    config: &ContainerConfig,
) -> Result<Made, ContainerizerError> {
    let id = &container.id;
    let failed =
        |step: &'static str| move |reason: String| ContainerizerError::launch(id, step, reason);
    let mut record = container.record();
    let holder = config.class == ContainerClass::Holder;
    record.runtime = runtime(inner, config).map_err(failed("choose a runtime"))?;
    inner
        .store
        .save(id, &record)
        .map_err(|error| failed("checkpoint")(error.to_string()))?;

    let ids = ids::of(inner, container).await;
    let ids = ids.map_err(failed("make a user namespace"))?;
    if let (Some(_), Some(runtime)) = (&ids, &record.runtime) {
        let why = format!(
            "`{}` makes no container with a user namespace here",
            runtime.name
        );
        return Err(failed("choose a runtime")(why));
    }
    let mut provisioned = Provisioned::default();
    let image = config
        .container
        .as_ref()
        .and_then(|info| info.mesos.as_ref()?.image.as_ref());
    if let Some(image) = image.filter(|_| !record.debug) {
        let Some(provisioner) = &inner.config.provisioner else {
            let reason = "this agent provides no images (`--image_providers`)".to_owned();
            return Err(failed("provision image")(reason));
        };
        provisioned = provisioner
            .provision(id, image, ids.as_ref())
            .await
            .map_err(|error| failed("provision image")(error.to_string()))?;
        record.rootfs = Some(provisioned.rootfs.clone());
        let named = provisioned
            .image
            .user
            .as_deref()
            .filter(|name| !name.is_empty());
        if let Some(name) = named.filter(|_| record.user.is_none() && inner.config.switch_user) {
            // Numbers, since the name may be somebody else's on the host.
            let user = User::find(name, &provisioned.rootfs)
                .ok_or_else(|| failed("find user")(format!("the image has no user `{name}`")))?;
            record.user = Some(format!("{}:{}", user.uid, user.gid));
        }
    }
    record.owner = owner(&record).map_err(failed("find user"))?;
    if !record.debug {
        record.directory = sandbox::make(&record.directory, record.owner)
            .map_err(|error| failed("make the sandbox")(error.to_string()))?;
    }
    let prefix = "CONTAINER_LOGGER_";
    let logger = config
        .environment
        .iter()
        .filter(|(name, _)| name.starts_with(prefix));
    record.logger = logger
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    container.set_record(record.clone());

    let mut command = match (&config.command, holder) {
        (_, true) => CommandInfo::default(),
        (Some(command), false) => command::complete(command, &provisioned.image)
            .map_err(|why| failed("command")(why.to_owned()))?,
        (None, false) => return Err(failed("command")("there is none".to_owned())),
    };
    if !command.uris.is_empty() {
        let request = FetchRequest {
            container: id.clone(),
            uris: std::mem::take(&mut command.uris),
            directory: record.directory.clone(),
            owner: record.owner,
            user: record.user.clone(),
        };
        inner
            .config
            .fetcher
            .fetch(&request)
            .await
            .map_err(|error| failed("fetch")(error.to_string()))?;
    }
    let inside = if record.rootfs.is_some() {
        inner.config.sandbox_directory.clone()
    } else {
        record.directory.clone()
    };
    let parent = id
        .parent
        .as_deref()
        .map(|parent| inner.find(parent))
        .transpose()?;
    let given = record.environment.clone().into_iter();
    let given = given.chain(config.environment.clone()).collect();
    record.environment = command::environment(&given, &provisioned.image, &inside);
    let shape = isolator::ContainerConfig {
        id: id.clone(),
        environment: record.environment.clone().into_iter().collect(),
        command,
        container: config.container.clone(),
        limits: command::limits(&config.resources, &config.limits),
        user: record.user.clone(),
        sandbox: record.directory.clone(),
        rootfs: record.rootfs.clone(),
        ephemeral: provisioned.ephemeral.clone(),
        parent_pid: parent.as_ref().and_then(|parent| parent.pid()),
        parent_volumes: parent
            .as_ref()
            .map(|parent| parent.record().volumes)
            .unwrap_or_default(),
        parent_sandbox: parent.as_ref().map(|parent| parent.record().directory),
        debug: record.debug,
        holder,
        readonly_rootfs: config.readonly_rootfs,
        agent_socket: config.agent_socket,
        volumes: config.volumes.clone(),
        ids: ids.clone(),
    };
    let draft = inner.config.isolators.prepare(&shape).await;
    let mut draft = draft.map_err(|error| failed("isolate")(text(&error)))?;
    if let Some(ids) = &ids {
        let mapped = draft.map_ids(ids, &shape);
        mapped.map_err(|error| failed("map ids")(text(&error)))?;
    }
    if let Some(own) = rootless::own() {
        draft.mount_within(own);
    }
    let directory = config.working_directory.clone();
    let directory = directory.or_else(|| record.working_directory.clone());
    let directory = directory.or_else(|| {
        let directory = provisioned.image.working_directory.clone();
        directory.filter(|directory| directory.is_absolute())
    });
    record.working_directory = directory.map(|directory| inside.join(directory));
    if let Some(directory) = &record.working_directory {
        draft.directory(directory.clone());
    }
    let streams = streams::open(inner, container, &mut record, config)
        .await
        .map_err(failed("open the standard streams"))?;
    let terminal = record.switchboard.as_ref().is_some_and(|it| it.terminal);
    if let Some(process) = draft.spec.process_mut() {
        process.set_terminal(Some(terminal));
    }
    if terminal {
        let name = switchboard::name_of(&streams[0]);
        let name = name.map_err(|error| failed("name the terminal")(error.to_string()))?;
        draft.name_terminal(&name);
    }
    container.set_record(record.clone());
    inner
        .store
        .save(id, &record)
        .map_err(|error| failed("checkpoint")(error.to_string()))?;
    Ok(Made { draft, streams })
}

/// Who makes a container, if it is not the launcher. What only enters or holds namespaces is
/// always the launcher's.
fn runtime(inner: &Inner, config: &ContainerConfig) -> Result<Option<Runtime>, String> {
    if config.class != ContainerClass::Task {
        return Ok(None);
    }
    let chosen = inner.config.runtimes.choose(config.runtime.as_deref());
    let chosen = chosen.map_err(|error| error.to_string())?;
    let terminal = config.container.as_ref();
    let terminal = terminal.is_some_and(|container| container.tty_info.is_some());
    match &chosen {
        Some(runtime) if terminal => Err(format!(
            "`{}` runs no container with a terminal; give the task the label `{LABEL}` with `{NATIVE}`",
            runtime.name
        )),
        _ => Ok(chosen),
    }
}

/// From here on there is a process, and a destroyed launch is a killed one.
async fn start(
    inner: &Inner,
    container: &Container,
    made: Made,
) -> Result<u32, ContainerizerError> {
    let id = &container.id;
    if let Some(runtime) = container.record().runtime {
        return Box::pin(foreign::start(inner, container, made, &runtime)).await;
    }
    let plan = made.draft.to_plan(&container.name());
    let plan = plan.map_err(|error| ContainerizerError::launch(id, "plan", text(&error)))?;
    let fds = launcher::borrow(&made.streams);
    let pid = inner.launcher.launch(&plan, &fds).await;
    let pid = pid.map_err(|error| ContainerizerError::launch(id, "start", text(&error)))?;
    drop(made);
    let isolated = inner.config.isolators.isolate(id, pid).await;
    let destroyed = || *container.doomed.borrow();
    let error = match isolated {
        Ok(()) if !destroyed() => return Ok(pid),
        Ok(()) => ContainerizerError::Destroyed(id.clone()),
        Err(error) => ContainerizerError::launch(id, "isolate", text(&error)),
    };
    inner.signal(container, libc::SIGKILL, Scope::All).await;
    gone(container).await;
    inner.launcher.forget(&container.name());
    Err(error)
}

/// Waits for a running container's end, and tells it.
pub(super) async fn watch_over(inner: Arc<Inner>, container: Arc<Container>) {
    let limits = inner.config.isolators.watch(&container.id);
    tokio::pin!(limits);
    let exit = tokio::select! {
        exit = gone(&container) => exit,
        limitation = &mut limits => {
            tracing::info!(container = %container.id, limitation.message, "exceeded a limit");
            note(&container, limitation);
            inner.signal(&container, libc::SIGKILL, Scope::All).await;
            gone(&container).await
        }
    };
    let limited = || {
        let limitation = container.limitation.lock();
        limitation.unwrap_or_else(PoisonError::into_inner).is_some()
    };
    // The end may have been noticed before its reason: a shell whose child the kernel killed.
    if !limited()
        && !*container.doomed.borrow()
        && let Some(limitation) = inner.config.isolators.limitation(&container.id)
    {
        note(&container, limitation);
    }
    finish(&inner, &container, exit).await;
}

/// Ends what is nested in it, cleans up, and makes its end known.
pub(super) async fn finish(inner: &Inner, container: &Container, exit: Exit) {
    let id = &container.id;
    for nested in inner.below(id) {
        Box::pin(doom(inner, &nested)).await;
        nested.end().await;
    }
    let mut termination = match foreign::exit(inner, container, exit) {
        Exit::Status(status) => ContainerTermination::exited(status),
        Exit::Lost(why) => ContainerTermination::lost(why),
    };
    let limitation = container
        .limitation
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(limitation) = limitation {
        termination.reason = Reason::try_from(limitation.reason).ok();
        termination.limited = limitation.resources;
        termination.message = Some(limitation.message);
    }
    streams::container_ended(container).await;
    if let Err(error) = clean_up(inner, container).await {
        // What is left is found again by the next recovery.
        tracing::error!(container = %id, %error, "could not clean up");
    }
    match inner.store.end(id, &termination) {
        Ok(()) => inner.launcher.forget(&container.name()),
        Err(error) => tracing::error!(container = %id, %error, "could not keep how it ended"),
    }
    tracing::info!(container = %id, end = termination.describe(), "ended");
    container.phase.send_replace(Phase::Ended(termination));
}

/// Has a container killed, now or as soon as there is something to kill.
pub(super) async fn doom(inner: &Inner, container: &Container) {
    container.doomed.send_replace(true);
    if container.pid().is_some() {
        inner.signal(container, libc::SIGKILL, Scope::All).await;
    }
}

async fn clean_up(inner: &Inner, container: &Container) -> Result<(), String> {
    let id = &container.id;
    // First, since it may hold mounts and cgroups that the others remove.
    let foreign = foreign::clean_up(inner, container).await;
    let isolators = inner.config.isolators.cleanup(id).await;
    inner.config.logger.cleanup(id).await;
    if let Some(provisioner) = &inner.config.provisioner {
        provisioner
            .destroy(id)
            .await
            .map_err(|error| error.to_string())?;
    }
    isolators.map_err(|error| text(&error)).and(foreign)
}

pub(super) async fn gone(container: &Container) -> Exit {
    let mut exit = container.exit.subscribe();
    match exit.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(exit)) => exit.clone(),
        _ => Exit::Lost("its supervisor is gone".into()),
    }
}

pub(super) fn note(container: &Container, limitation: Limitation) {
    container
        .limitation
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(limitation);
}

/// User and group of the files in the sandbox: names are those of the host, and else of the image.
fn owner(record: &Record) -> Result<Option<(u32, u32)>, String> {
    let owner = sandbox::owner(record.user.as_deref(), record.rootfs.as_deref())?;
    match record.ids {
        None => Ok(owner),
        Some(ids) => {
            let outside = ids.outside(owner.unwrap_or_default());
            outside.map(Some).map_err(|error| text(&error))
        }
    }
}

pub(super) fn log_request(id: &ContainerId, record: &Record) -> LogRequest {
    LogRequest {
        id: id.clone(),
        directory: PathBuf::clone(&record.directory),
        owner: record.owner,
        environment: record.logger.clone(),
        origin: record.origin.clone(),
    }
}

pub(super) fn text(error: &dyn std::error::Error) -> String {
    dcos_core::error::chain(error).to_string()
}
