//! Runs the checks of one task, for as long as its container runs.

use std::sync::Arc;

use dcos_proto::mesos::{ContainerId, TaskInfo};

use super::handle::Handle;
use super::shell::now;
use super::words::Input;
use crate::check::{CheckAction, CheckError, Checker, ProbeTarget, Prober};
use crate::containerizer::{ContainerConfig, Containerizer};

/// Probes until the container ends; what changes goes to the agent's loop.
pub(super) async fn run(
    containerizer: Arc<dyn Containerizer>,
    handle: Handle,
    container: ContainerId,
    task: TaskInfo,
    config: ContainerConfig,
) {
    let checkers = match checkers(&task) {
        Ok(checkers) => checkers,
        Err(error) => return tracing::warn!(task = %task.task_id, %error, "not checked"),
    };
    let target = ProbeTarget {
        container: container.clone(),
        environment: config.environment,
        user: config.user,
        working_directory: config.working_directory,
    };
    let probes = Probes {
        prober: Prober::new(Arc::clone(&containerizer)),
        handle,
        container: container.clone(),
        task,
        target,
    };
    tokio::select! {
        () = probes.run(checkers) => {}
        _ = containerizer.wait(&container) => {}
    }
}

fn checkers(task: &TaskInfo) -> Result<Vec<Checker>, CheckError> {
    let health = task.health_check.as_ref();
    let health = health.map(|check| Checker::health_check(check, now()));
    let check = task
        .check
        .as_ref()
        .map(|check| Checker::check(check, now()));
    health.into_iter().chain(check).collect()
}

struct Probes {
    prober: Prober,
    handle: Handle,
    container: ContainerId,
    task: TaskInfo,
    target: ProbeTarget,
}

impl Probes {
    async fn run(&self, checkers: Vec<Checker>) {
        let all = checkers.into_iter().map(|checker| self.drive(checker));
        futures::future::join_all(all).await;
    }

    async fn drive(&self, mut checker: Checker) {
        while let Some(due) = checker.next_deadline() {
            tokio::time::sleep(now().until(due)).await;
            let Some(CheckAction::Probe { probe, timeout }) = checker.poll(now()) else {
                continue;
            };
            let outcome = self.prober.probe(&self.target, &probe, timeout).await;
            if let Some(action) = checker.handle(now(), &outcome) {
                self.tell(action).await;
            }
        }
    }

    async fn tell(&self, action: CheckAction) {
        let (container, task) = (self.container.clone(), self.task.task_id.clone());
        match action {
            CheckAction::Health {
                healthy,
                kill,
                message,
            } => {
                tracing::info!(%task, healthy, kill, message, "health");
                let input = Input::Health {
                    container,
                    task,
                    healthy,
                    kill,
                };
                self.handle.input(input).await;
            }
            CheckAction::Status(status) => {
                self.handle
                    .input(Input::Check(container, task, status))
                    .await;
            }
            CheckAction::Probe { .. } => {}
        }
    }
}
