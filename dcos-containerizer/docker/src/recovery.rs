//! Taking up containers after a restart of the agent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::models::ContainerState;
use bollard::query_parameters::ListContainersOptionsBuilder;
use dcos_containerizer::containerizer::{ContainerTermination, ContainerizerError, Recovered};
use dcos_proto::mesos::ContainerId;

use crate::containerizer::{Container, Inner, Phase, name};
use crate::engine::is_alive;
use crate::exec::Exec;
use crate::lifecycle::{self, CONTAINER_LABEL, NODE_LABEL};
use crate::logs::Tap;
use crate::store::{Found, Record};

pub(crate) async fn recover(
    inner: &Arc<Inner>,
    known: &BTreeSet<ContainerId>,
) -> Result<BTreeMap<ContainerId, Recovered>, ContainerizerError> {
    let broken = |doing: &str, reason: String| ContainerizerError::Broken {
        doing: doing.to_owned(),
        reason,
    };
    let found = inner.store.load();
    let found =
        found.map_err(|error| broken("reading the state of containers", error.to_string()))?;
    let mut listed = listed(inner)
        .await
        .map_err(|error| broken("listing containers", error))?;
    let mut told: BTreeMap<ContainerId, Recovered> = known
        .iter()
        .map(|id| {
            let lost = ContainerTermination::lost("nothing is known of it");
            (id.clone(), Recovered::Ended(lost))
        })
        .collect();
    for found in found {
        let id = found.id.clone();
        let there = listed.remove(&id);
        if !known.contains(&id) {
            forget(inner, &id, found.record, there).await;
            continue;
        }
        let recovered = take_up(inner, found)
            .await
            .map_err(|error| broken("inspecting a container", error))?;
        told.insert(id, recovered);
    }
    // Those whose state was removed with their task, which stay known to the engine for a while.
    for id in listed {
        forget(inner, &id, None, true).await;
    }
    Ok(told)
}

/// The engine's containers that are ours.
async fn listed(inner: &Inner) -> Result<BTreeSet<ContainerId>, String> {
    let label = format!("{NODE_LABEL}={}", inner.node);
    let filters = HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    let listed = inner.engine.api().list_containers(Some(options)).await;
    let listed = listed.map_err(|error| inner.engine.text(&error))?;
    let labels = listed
        .into_iter()
        .filter_map(|one| one.labels?.remove(CONTAINER_LABEL));
    Ok(labels.map(ContainerId::root).collect())
}

/// Ends what nobody waits for. What ended already is removed when its time has come.
async fn forget(inner: &Arc<Inner>, id: &ContainerId, record: Option<Record>, there: bool) {
    let inspected = if there {
        inner.engine.inspect(&name(id)).await
    } else {
        Ok(None)
    };
    let is_unclear = inspected.is_err();
    let state = inspected.ok().flatten().and_then(|one| one.state);
    let container = Container::new(id.clone(), record.unwrap_or_default(), Phase::Running);
    let may_run = is_unclear || state.as_ref().is_some_and(is_alive);
    let has_gpus = may_run && lifecycle::hold_gpus(inner, &container);
    if let Some(state) = &state {
        if is_alive(state) {
            if !inner.config.kill_orphans {
                tracing::warn!(container = %id, "nobody waits for it, and it runs on");
                return;
            }
            tracing::info!(container = %id, "ending what the agent does not know");
            if let Err(error) = inner.signal(&container, libc::SIGKILL).await {
                tracing::warn!(container = %id, error, "could not end it");
            }
        }
        let delay = left(inner.config.remove_delay, state);
        tokio::spawn(lifecycle::remove_later(
            Arc::clone(inner),
            id.clone(),
            delay,
        ));
    }
    if !has_gpus && let Err(error) = inner.store.remove(id) {
        tracing::warn!(container = %id, %error, "removing its state");
    }
}

/// What is left of the time that a container stays known after its end.
fn left(delay: Duration, state: &ContainerState) -> Duration {
    let finished = state.finished_at.as_deref().and_then(crate::logs::time_of);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    match (finished, now) {
        (Some(finished), Ok(now)) => {
            delay.saturating_sub(now.saturating_sub(Duration::from_nanos(finished)))
        }
        _ => delay,
    }
}

async fn take_up(inner: &Arc<Inner>, found: Found) -> Result<Recovered, String> {
    let id = found.id;
    let record = found.record.unwrap_or_default();
    if let Some(termination) = found.termination {
        let container = Container::new(id.clone(), record, Phase::Ended(termination.clone()));
        inner.lock().insert(id.clone(), container);
        let inspected = inner.engine.inspect(&name(&id)).await.ok().flatten();
        if let Some(state) = inspected.and_then(|one| one.state) {
            let delay = left(inner.config.remove_delay, &state);
            tokio::spawn(lifecycle::remove_later(Arc::clone(inner), id, delay));
        }
        return Ok(Recovered::Ended(termination));
    }
    let inspected = inner.engine.inspect(&name(&id)).await;
    let inspected = inspected.map_err(|error| inner.engine.text(&error))?;
    let state = inspected.and_then(|one| one.state);
    let started = state.as_ref().is_some_and(|state| {
        is_alive(state)
            || state
                .started_at
                .as_deref()
                .and_then(crate::logs::time_of)
                .is_some_and(|at| at > 0)
    });
    if !started {
        // Its launch was under way when the agent died.
        lifecycle::discard(inner, &id).await;
        let lost =
            ContainerTermination::lost("the agent ended while the container was being launched");
        inner
            .store
            .end(&id, &lost)
            .map_err(|error| error.to_string())?;
        let container = Container::new(id.clone(), record, Phase::Ended(lost.clone()));
        inner.lock().insert(id, container);
        return Ok(Recovered::Ended(lost));
    }
    let container = Container::new(id.clone(), record.clone(), Phase::Running);
    inner.lock().insert(id.clone(), Arc::clone(&container));
    if let Some(pool) = &inner.config.gpus {
        pool.keep(&id, record.gpus.clone());
    }
    for exec in inner.store.execs(&id) {
        // Nobody hears it any more.
        let left = Exec::left(inner.engine.clone(), exec.clone());
        match left.signal(libc::SIGKILL).await {
            Ok(()) => inner.store.remove_exec(&id, &exec),
            Err(error) => {
                tracing::warn!(container = %id, exec, error, "a session of an earlier agent may still run");
            }
        }
    }
    // Its output passes through us, so the logger begins anew with it.
    let request = lifecycle::log_request(&id, &record);
    let logs = inner.config.logger.prepare(&request).await;
    let logs = logs.map_err(|error| error.to_string())?;
    let folder = inner.store.folder(&id);
    let tap = Tap::open(inner.engine.clone(), name(&id), record.tty, logs, &folder);
    let tap = tap.map_err(|error| error.to_string())?;
    let live = if record.unlogged {
        Tap::listen(&inner.engine, &name(&id)).await.ok()
    } else {
        None
    };
    tokio::spawn(lifecycle::watch_over(
        Arc::clone(inner),
        container,
        tap,
        live,
    ));
    Ok(Recovered::Running)
}
