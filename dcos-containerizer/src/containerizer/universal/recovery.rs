//! Taking up containers after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_launcher::Scope;
use dcos_proto::mesos::ContainerId;

use super::lifecycle::{doom, finish, log_request, watch_over};
use super::store::Found;
use super::{Container, Exit, Inner, Phase, foreign, streams};
use crate::containerizer::processes::is_below;
use crate::containerizer::{ContainerTermination, ContainerizerError, Recovered};

pub(super) async fn recover(
    inner: &Arc<Inner>,
    known: &BTreeSet<ContainerId>,
) -> Result<BTreeMap<ContainerId, Recovered>, ContainerizerError> {
    let broken = |doing: &str, reason: String| ContainerizerError::Broken {
        doing: doing.to_owned(),
        reason,
    };
    let found = inner.store.load();
    let found =
        found.map_err(|error| broken("reading the runtime directory", error.to_string()))?;
    let launched = inner.launcher.list().await;
    let launched = launched.map_err(|error| {
        let reason = dcos_core::error::chain(&error).to_string();
        broken("asking the launcher", reason)
    })?;
    let mut launched: BTreeMap<String, dcos_launcher::Container> = launched
        .into_iter()
        .map(|container| (container.id.clone(), container))
        .collect();

    let mut taken = Vec::new();
    for found in found {
        let container = take_up(found, &mut launched);
        inner
            .lock()
            .insert(container.id.clone(), Arc::clone(&container));
        taken.push(container);
    }
    let (boards, launched): (Vec<_>, Vec<_>) = launched
        .into_values()
        .partition(|known| streams::is_board(&known.id));
    // What the launcher runs and nobody has a record of.
    for container in launched {
        let name = container.id;
        if container.exit.is_some() {
            inner.launcher.forget(&name);
        } else {
            tracing::warn!(container = name, "killing what nobody knows");
            let killed = inner.launcher.kill(&name, libc::SIGKILL, Scope::All).await;
            if let Err(error) = killed {
                tracing::warn!(container = name, %error, "could not kill it");
            }
        }
    }

    let alive: Vec<ContainerId> = taken
        .iter()
        .filter(|container| !matches!(*container.phase.borrow(), Phase::Ended(_)))
        .map(|container| container.id.clone())
        .collect();
    if let Some(provisioner) = &inner.config.provisioner {
        let recovered = provisioner.recover(&alive).await;
        recovered.map_err(|error| broken("recovering images", error.to_string()))?;
    }
    let recovered = inner.config.isolators.recover(&alive).await;
    recovered.map_err(|error| {
        let reason = dcos_core::error::chain(&error).to_string();
        broken("recovering isolators", reason)
    })?;
    for container in &taken {
        take_up_foreign(inner, container).await;
        resume(inner, container).await;
    }
    streams::recover(inner, boards).await;
    inner.listen();

    let orphans: Vec<_> = taken
        .iter()
        .filter(|container| !known.contains(container.id.root_id()))
        .filter(|container| !container.record().standalone)
        .collect();
    let orphans = orphans.into_iter();
    let orphans: Vec<_> = orphans.filter(|one| one.id.parent.is_none()).collect();
    for orphan in &orphans {
        tracing::info!(container = %orphan.id, "ending what the agent does not know");
        doom(inner, orphan).await;
    }
    let deadline = tokio::time::Instant::now() + inner.config.destroy_timeout;
    let mut lingering = BTreeSet::new();
    for orphan in orphans {
        if tokio::time::timeout_at(deadline, orphan.end())
            .await
            .is_ok()
        {
            let removed = forget(inner, orphan);
            removed.map_err(|error| broken("removing the state of an orphan", error))?;
            continue;
        }
        tracing::error!(container = %orphan.id, "what the agent does not know does not end; the node goes on");
        lingering.insert(orphan.id.clone());
        let (inner, orphan) = (Arc::clone(inner), Arc::clone(orphan));
        tokio::spawn(async move {
            orphan.end().await;
            if let Err(error) = forget(&inner, &orphan) {
                tracing::error!(container = %orphan.id, error, "removing the state of an orphan");
            }
        });
    }
    let mut told = tell(inner, known);
    told.retain(|id, _| !lingering.contains(id.root_id()));
    Ok(told)
}

/// Forgets an orphan that ended, and what was nested in it.
fn forget(inner: &Inner, orphan: &Container) -> Result<(), String> {
    let id = &orphan.id;
    inner
        .lock()
        .retain(|other, _| other != id && !is_below(other, id));
    inner.store.remove(id).map_err(|error| error.to_string())
}

/// What became of a container, as record, launcher and termination say together.
fn take_up(
    found: Found,
    launched: &mut BTreeMap<String, dcos_launcher::Container>,
) -> Arc<Container> {
    let known = launched.remove(&found.id.to_string());
    let record = found.record.unwrap_or_default();
    let readable = record.version != 0;
    let phase = match (&found.termination, &known) {
        (Some(termination), _) => Phase::Ended(termination.clone()),
        (None, Some(known)) => Phase::Running { pid: known.pid },
        (None, None) => Phase::Running { pid: 0 },
    };
    let container = Container::new(found.id, record, phase);
    match known {
        Some(known) => {
            if let Some(exit) = known.exit {
                container.exited(Exit::Status(exit.status));
            } else if !readable {
                tracing::error!(container = %container.id, "its record is damaged: ending it");
                container.doomed.send_replace(true);
            } else if container.record().debug {
                // Whoever launched it (a check, the connection of a session) is gone.
                container.doomed.send_replace(true);
            }
        }
        None => container.exited(Exit::Lost("nothing is known of its end".into())),
    }
    container
}

/// The process of a container that a foreign runtime made; the launcher knows its monitor.
async fn take_up_foreign(inner: &Inner, container: &Container) {
    if container.pid().is_none() || container.exit.borrow().is_some() {
        return;
    }
    if let Some(pid) = foreign::pid(inner, container) {
        container.phase.send_replace(Phase::Running { pid });
    }
    if !foreign::runs(inner, container).await {
        tracing::info!(container = %container.id, "its launch was not over: ending it");
        container.doomed.send_replace(true);
    }
}

/// Goes on with what an earlier process was doing for a container.
async fn resume(inner: &Arc<Inner>, container: &Arc<Container>) {
    let Some(pid) = container.pid() else {
        // It ended, and only the launcher may not have been told.
        inner.launcher.forget(&container.name());
        return;
    };
    // Before what ended is cleaned up: what it said while nobody looked is still to be sent.
    let record = container.record();
    if !record.debug && !record.directory.as_os_str().is_empty() {
        let request = log_request(&container.id, &record);
        if let Err(error) = inner.config.logger.recover(&request).await {
            tracing::warn!(container = %container.id, %error, "its logs are not rotated");
        }
    }
    let ended = container.exit.borrow().clone();
    if let Some(exit) = ended {
        let (inner, container) = (Arc::clone(inner), Arc::clone(container));
        tokio::spawn(async move { finish(&inner, &container, exit).await });
        return;
    }
    if let Err(error) = inner.config.isolators.isolate(&container.id, pid).await {
        let error = dcos_core::error::chain(&error).to_string();
        tracing::warn!(container = %container.id, error, "could not isolate it again");
    }
    let doomed = *container.doomed.borrow();
    if doomed {
        inner.signal(container, libc::SIGKILL, Scope::All).await;
    }
    tokio::spawn(watch_over(Arc::clone(inner), Arc::clone(container)));
}

/// What the agent is told: each root it knows, and what is nested in them.
fn tell(inner: &Inner, known: &BTreeSet<ContainerId>) -> BTreeMap<ContainerId, Recovered> {
    let mut told: BTreeMap<ContainerId, Recovered> = known
        .iter()
        .map(|id| {
            let lost = ContainerTermination::lost("nothing is known of it");
            (id.clone(), Recovered::Ended(lost))
        })
        .collect();
    for (id, container) in &*inner.lock() {
        let recovered = match &*container.phase.borrow() {
            Phase::Ended(termination) => Recovered::Ended(termination.clone()),
            // One that has just ended is still being cleaned up: `wait` tells how it ended.
            _ => Recovered::Running,
        };
        told.insert(id.clone(), recovered);
    }
    told
}
