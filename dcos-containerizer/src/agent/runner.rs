//! Carries out what the agent's core decides, except for writing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::error::chain;
use dcos_proto::internal::ShutdownExecutorMessage;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{AgentId, ContainerId, ContainerStatus};
use dcos_wire::files::Files;
use dcos_wire::libprocess::{Actor, Upid};
use tokio_util::task::TaskTracker;

use super::checks;
use super::drivers::Driver;
use super::gc::Remains;
use super::handle::Handle;
use super::sandboxes;
use super::streams::EventStreams;
use super::words::{Action, Input};
use crate::checkpoint::Store;
use crate::containerizer::{ContainerConfig, Containerizer, ContainerizerError};
use crate::isolator::persistent::link;

/// Pauses before a container that resists is destroyed again.
const DESTROY_RETRIES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
];

/// Carries out actions: at once if that takes no time, else in tasks that report to the loop.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) streams: EventStreams,
    containerizer: Arc<dyn Containerizer>,
    handle: Handle,
    files: Files,
    work_dir: PathBuf,
    tasks: TaskTracker,
}

impl Runner {
    pub(super) fn new(
        containerizer: Arc<dyn Containerizer>,
        handle: Handle,
        files: Files,
        work_dir: PathBuf,
    ) -> Self {
        let (streams, tasks) = (EventStreams::default(), TaskTracker::new());
        Self {
            streams,
            containerizer,
            handle,
            files,
            work_dir,
            tasks,
        }
    }

    pub(super) fn carry_out(&mut self, action: Action, actor: &Actor, agent: &AgentId) {
        let (containerizer, handle) = (Arc::clone(&self.containerizer), self.handle.clone());
        match action {
            Action::Link(peer) => {
                if let Ok(peer) = peer.parse::<Upid>() {
                    actor.link(&peer);
                }
            }
            Action::Send(to, message) => {
                let (name, body) = message.encode();
                tracing::debug!(to, name, "sending");
                match to.parse::<Upid>() {
                    Ok(to) => actor.send(&to, name, body.into()),
                    Err(error) => tracing::warn!(to, name, %error, "nobody to send to"),
                }
            }
            Action::Event(key, event) => self.streams.send(actor, &key, agent, &event),
            Action::Reconnect(pid, message) => {
                if let Ok(pid) = pid.parse::<Upid>() {
                    actor.send_message(&pid, &message);
                }
            }
            Action::Admit {
                executor,
                pid,
                again,
            } => {
                if let Ok(pid) = pid.parse::<Upid>() {
                    let driver = Driver::new(pid, again);
                    self.streams.insert_driver(executor, driver);
                }
            }
            Action::Refuse {
                executor,
                pid,
                reason,
                shutdown,
            } => {
                tracing::warn!(%executor, pid, reason, shutdown, "a driver is not heard");
                if let Ok(pid) = pid.parse::<Upid>().as_ref()
                    && shutdown
                {
                    actor.send_message(pid, &ShutdownExecutorMessage::default());
                }
            }
            Action::Close(key) => self.streams.remove(&key),
            Action::Launch(id, config) => {
                tracing::info!(container = %id, "launching");
                self.tasks.spawn(launch(containerizer, handle, id, *config));
            }
            Action::Watch(id) => {
                tracing::info!(container = %id, "taking up");
                self.tasks.spawn(watch(containerizer, handle, id));
            }
            Action::Resize(id, resources, limits) => {
                self.tasks.spawn(async move {
                    let done = containerizer.update(&id, &resources, &limits).await;
                    tell_failure(&id, "resizing", done);
                });
            }
            Action::Signal(id, signal) => {
                tracing::info!(container = %id, signal, "signalling");
                self.tasks.spawn(async move {
                    tell_failure(&id, "signalling", containerizer.kill(&id, signal).await);
                });
            }
            Action::Destroy(id) => {
                tracing::info!(container = %id, "destroying");
                self.tasks.spawn(destroy(containerizer, handle, id));
            }
            Action::Remove(id) => {
                self.tasks.spawn(async move {
                    tell_failure(&id, "forgetting", containerizer.remove(&id).await);
                });
            }
            Action::StartChecks(id, task, config) => {
                let checks = checks::run(containerizer, handle, id, *task, *config);
                self.tasks.spawn(checks);
            }
            Action::LinkVolumes(sandbox, volumes) => {
                for volume in volumes {
                    if let Err(error) = link(&sandbox, &volume) {
                        let path = volume.container_path;
                        tracing::warn!(?sandbox, path, %error, "linking a persistent volume");
                    }
                }
            }
            Action::Show(sandbox) => sandbox.attach(&self.files),
            Action::Delete(remains) => self.delete(remains),
            Action::Write(_) | Action::Volumes(_) | Action::Stop { .. } => {
                unreachable!("the loop keeps these to itself")
            }
        }
    }

    fn delete(&self, remains: Vec<Remains>) {
        let sandboxes = remains.iter().map(|left| left.sandbox.as_path());
        sandboxes::detach(&self.files, &sandboxes.collect());
        let (work_dir, handle) = (self.work_dir.clone(), self.handle.clone());
        self.tasks.spawn(async move {
            let deleting = tokio::task::spawn_blocking(move || delete(work_dir, remains));
            if let Ok((done, failed)) = deleting.await {
                handle.input(Input::Deleted { done, failed }).await;
            }
        });
    }
}

/// Those of these that are gone, and how many are not.
fn delete(work_dir: PathBuf, remains: Vec<Remains>) -> (Vec<Remains>, u64) {
    let all = remains.len();
    let store = match Store::open(work_dir) {
        Ok(store) => store,
        Err(error) => {
            tracing::warn!(%error, "deleting sandboxes");
            return (Vec::new(), all as u64);
        }
    };
    let is_gone = |left: &Remains| {
        let path = &left.sandbox;
        tracing::info!(?path, "deleting");
        let deleted = store.delete(path);
        if let Err(error) = &deleted {
            tracing::warn!(?path, %error, "deleting");
        }
        deleted.is_ok()
    };
    let done: Vec<_> = remains.into_iter().filter(is_gone).collect();
    let failed = (all - done.len()) as u64;
    (done, failed)
}

async fn launch(
    containerizer: Arc<dyn Containerizer>,
    handle: Handle,
    id: ContainerId,
    config: ContainerConfig,
) {
    match containerizer.launch(&id, config).await {
        Ok(()) => watch(containerizer, handle, id).await,
        Err(error) => {
            let message = chain(&error).to_string();
            tracing::warn!(container = %id, error = message, "launch failed");
            handle
                .input(Input::LaunchFailed(id, error.reason(), message))
                .await;
        }
    }
}

/// Tells that a container runs, then how it ended.
async fn watch(containerizer: Arc<dyn Containerizer>, handle: Handle, id: ContainerId) {
    let status = containerizer
        .status(&id)
        .await
        .unwrap_or_else(|_| ContainerStatus {
            container_id: Some(id.clone()),
            ..ContainerStatus::default()
        });
    handle.input(Input::Launched(id.clone(), status)).await;
    match containerizer.wait(&id).await {
        Ok(termination) => {
            tracing::info!(container = %id, how = termination.describe(), "ended");
            handle.input(Input::Ended(id, termination)).await;
        }
        Err(error) => {
            let message = chain(&error).to_string();
            tracing::error!(container = %id, error = message, "its end cannot be learnt");
            let reason = Reason::ExecutorTerminated;
            let termination = crate::containerizer::ContainerTermination {
                reason: Some(reason),
                ..crate::containerizer::ContainerTermination::lost(message)
            };
            handle.input(Input::Ended(id, termination)).await;
        }
    }
}

async fn destroy(containerizer: Arc<dyn Containerizer>, handle: Handle, id: ContainerId) {
    for pause in DESTROY_RETRIES {
        match containerizer.destroy(&id).await {
            Ok(_) | Err(ContainerizerError::Unknown(_)) => return,
            failed @ Err(_) => {
                tell_failure(&id, "destroying", failed.map(|_| ()));
                handle.input(Input::DestroyFailed).await;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

fn tell_failure(id: &ContainerId, doing: &str, done: Result<(), ContainerizerError>) {
    match done {
        // It ended meanwhile; that is told elsewhere.
        Ok(()) | Err(ContainerizerError::Unknown(_)) => {}
        Err(error) => tracing::warn!(container = %id, error = %chain(&error), "{doing} failed"),
    }
}
