//! Containers that a foreign runtime makes: its monitor is what the launcher knows of them.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::time::Duration;

use dcos_launcher::{Cgroup, Mount, Namespaces, Plan, Scope, Variable};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::lifecycle::{Made, gone, text};
use super::{Container, Exit, Inner};
use crate::containerizer::{ContainerizerError, DEFAULT_PATH};
use crate::descriptors;
use crate::isolator::Draft;
use crate::oci::{Bundle, Command, Runtime, Said, Status, arguments};

/// How long a runtime may take to tell about or remove a container.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has the runtime make the container; its first process.
pub(super) async fn start(
    inner: &Inner,
    container: &Container,
    made: Made,
    runtime: &Runtime,
) -> Result<u32, ContainerizerError> {
    let id = &container.id;
    let step = format!("start by {}", runtime.name);
    refuse_links(&made.draft)
        .map_err(|reason| ContainerizerError::launch(id, "look at what is mounted", reason))?;
    let cgroups = made.draft.cgroups.clone();
    let mut monitor = monitor(inner, container, made, runtime)
        .await
        .map_err(|reason| ContainerizerError::launch(id, step.clone(), reason))?;
    let run = async {
        let pid = match monitor.hear().await? {
            Said::Created(pid) => pid,
            Said::Failed(why) => return Err(why),
            Said::Started => return Err("it started before it was created".to_owned()),
        };
        join(&cgroups, pid).map_err(|error| format!("join cgroups: {error}"))?;
        let isolated = inner.config.isolators.isolate(id, pid).await;
        isolated.map_err(|error| format!("isolate: {}", text(&error)))?;
        monitor.go().await?;
        match monitor.hear().await? {
            Said::Started => Ok(pid),
            Said::Failed(why) => Err(why),
            Said::Created(_) => Err("it was created twice".to_owned()),
        }
    };
    let mut doomed = container.doomed.subscribe();
    let started = tokio::select! {
        started = run => started,
        _ = doomed.wait_for(|doomed| *doomed) => Err("destroyed".to_owned()),
    };
    let destroyed = *container.doomed.borrow();
    let reason = match started {
        Ok(pid) if !destroyed => return Ok(pid),
        Ok(_) => String::new(),
        Err(reason) => reason,
    };
    inner.signal(container, libc::SIGKILL, Scope::All).await;
    gone(container).await;
    inner.launcher.forget(&container.name());
    Err(if destroyed {
        ContainerizerError::Destroyed(id.clone())
    } else {
        ContainerizerError::launch(id, step, reason)
    })
}

/// Refuses links on the way to what is mounted from places that tasks can write to.
///
/// Runtimes follow links, and mount nothing by a descriptor from outside of their mount namespace: one
/// that comes up after this look is not noticed.
fn refuse_links(draft: &Draft) -> Result<(), String> {
    for mount in draft.spec.mounts().iter().flatten() {
        let source = mount.source().as_ref();
        let Some(source) = source.filter(|_| draft.no_links.contains(mount.destination())) else {
            continue;
        };
        let (flags, resolve) = (OFlags::PATH | OFlags::CLOEXEC, ResolveFlags::NO_SYMLINKS);
        openat2(CWD, source, flags, Mode::empty(), resolve)
            .map_err(|error| format!("{}: {error}", source.display()))?;
    }
    Ok(())
}

/// Puts a container that waits into its cgroups; runtimes know those of one version only.
fn join(cgroups: &[Cgroup], pid: u32) -> std::io::Result<()> {
    for cgroup in cgroups {
        std::fs::write(cgroup.path.join("cgroup.procs"), pid.to_string())?;
    }
    Ok(())
}

/// The agent's side of a monitor's socket.
struct Monitor(BufReader<tokio::net::UnixStream>);

impl Monitor {
    async fn hear(&mut self) -> Result<Said, String> {
        let mut line = String::new();
        let heard = self.0.read_line(&mut line).await;
        heard.map_err(|error| error.to_string())?;
        Said::parse(&line).ok_or_else(|| "its monitor died".to_owned())
    }

    async fn go(&mut self) -> Result<(), String> {
        let written = self.0.write_all(b"g").await;
        written.map_err(|error| error.to_string())
    }
}

/// Writes the bundle and starts a monitor for it.
async fn monitor(
    inner: &Inner,
    container: &Container,
    made: Made,
    runtime: &Runtime,
) -> Result<Monitor, String> {
    let failed = |error: std::io::Error| error.to_string();
    let bundle = bundle(inner, container);
    let host = bundle.rootfs();
    let spec = made.draft.to_oci(&host).map_err(|error| text(&error))?;
    bundle.write(&spec).map_err(failed)?;
    let state = Bundle::state_of(&inner.config.runtime_dir, runtime);
    let program = &inner.config.runtimes.monitor;
    let mut words = vec![program.program.to_string_lossy().into_owned()];
    words.extend(program.arguments.iter().cloned());
    words.extend(arguments(
        &runtime.program.to_string_lossy(),
        &state.to_string_lossy(),
        &bundle.path().to_string_lossy(),
        &container.name(),
    ));
    let mut plan = Plan {
        id: container.name(),
        arguments: words,
        environment: vec![Variable {
            name: "PATH".into(),
            value: DEFAULT_PATH.into(),
        }],
        directory: Some("/".into()),
        ..Plan::default()
    };
    if made.draft.spec.root().is_none() {
        // The host's files, seen by this monitor and its container only.
        plan.new = Namespaces {
            mount: true,
            ..Namespaces::default()
        };
        plan.mounts.push(Mount {
            target: host,
            source: "/".into(),
            flags: libc::MS_BIND | libc::MS_REC,
            ..Mount::default()
        });
    }
    let (near, far) = UnixStream::pair().map_err(failed)?;
    let streams = made.streams.each_ref().map(AsFd::as_fd);
    descriptors::send(&near, &streams).map_err(failed)?;
    let started = inner.launcher.launch(&plan, &[far.as_fd()]).await;
    started.map_err(|error| text(&error))?;
    near.set_nonblocking(true).map_err(failed)?;
    let near = tokio::net::UnixStream::from_std(near).map_err(failed)?;
    Ok(Monitor(BufReader::new(near)))
}

/// The first process of a container found running; none for those the launcher made itself.
pub(super) fn pid(inner: &Inner, container: &Container) -> Option<u32> {
    container.record().runtime?;
    bundle(inner, container).pid()
}

/// How a container really ended: the launcher knows the end of its monitor.
pub(super) fn exit(inner: &Inner, container: &Container, exit: Exit) -> Exit {
    if container.record().runtime.is_none() {
        return exit;
    }
    let told = bundle(inner, container).exit();
    told.map_or(exit, Exit::Status)
}

/// Whether the runtime says that a container found after a restart came to life; one that was
/// being made then is taken away by its monitor.
pub(super) async fn runs(inner: &Inner, container: &Container) -> bool {
    let Some(runtime) = container.record().runtime else {
        return true;
    };
    let command = Command::new(&inner.config.runtime_dir, &runtime, &container.name());
    let answer = call(command.state()).await;
    let status = answer
        .ok()
        .and_then(|answer| Command::status_in(&answer.stdout));
    matches!(
        status,
        Some(Status::Running | Status::Paused | Status::Stopped)
    )
}

/// Removes what the runtime keeps of a container, and its bundle.
pub(super) async fn clean_up(inner: &Inner, container: &Container) -> Result<(), String> {
    let Some(runtime) = container.record().runtime else {
        return Ok(());
    };
    let bundle = bundle(inner, container);
    if !bundle.exists() {
        return Ok(());
    }
    let command = Command::new(&inner.config.runtime_dir, &runtime, &container.name());
    let answer = call(command.delete()).await?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        let said = said.trim();
        return Err(format!("{} could not delete it: {said}", runtime.name));
    }
    bundle.remove().map_err(|error| error.to_string())
}

async fn call(mut command: process::Command) -> Result<process::Output, String> {
    command.stderr(process::Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the runtime does not answer in {PATIENCE:?}")),
    }
}

fn bundle(inner: &Inner, container: &Container) -> Bundle {
    Bundle::new(&inner.config.runtime_dir, &container.name())
}
