//! Asks the estimator and the controller of the quality of service, and measures for them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dcos_core::error::chain;
use dcos_proto::mesos::{ResourceUsage, resource_usage};

use super::handle::Handle;
use super::view::{ExecutorView, View};
use super::words::Input;
use crate::containerizer::Containerizer;
use crate::oversubscription::{QosController, ResourceEstimator, Usage};

/// No question follows an answer sooner: one that answers at once would fill the agent's loop.
const PAUSE_AT_LEAST: Duration = Duration::from_millis(100);

/// What the agent's executors have and use.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) handle: Handle,
    pub(super) containerizer: Arc<dyn Containerizer>,
}

#[async_trait]
impl Usage for Measured {
    async fn measure(&self) -> ResourceUsage {
        let view = self.handle.ask(super::core::Agent::view).await;
        let Some(view) = view else {
            return ResourceUsage::default();
        };
        let mut executors = Vec::new();
        for executor in running(&view) {
            let statistics = self.containerizer.usage(&executor.container).await.ok();
            executors.push(resource_usage::Executor {
                executor_info: executor.info.clone(),
                allocated: executor.resources.clone(),
                statistics,
                container_id: executor.container.clone(),
                tasks: executor.launched.iter().map(task).collect(),
            });
        }
        ResourceUsage {
            executors,
            total: view.info.resources,
        }
    }
}

fn running(view: &View) -> impl Iterator<Item = &ExecutorView> {
    let all = view.frameworks.iter();
    let all = all.flat_map(|framework| &framework.executors);
    all.filter(|executor| !executor.over)
}

fn task(task: &dcos_proto::mesos::Task) -> resource_usage::executor::Task {
    resource_usage::executor::Task {
        name: task.name.clone(),
        id: task.task_id.clone(),
        resources: task.resources.clone(),
        labels: task.labels.clone(),
    }
}

/// Asks `estimator` for as long as the agent runs, with `pause` between.
pub(super) async fn estimate(
    estimator: Arc<dyn ResourceEstimator>,
    measured: Measured,
    pause: Duration,
) {
    loop {
        tokio::time::sleep(pause.max(PAUSE_AT_LEAST)).await;
        match estimator.oversubscribable(&measured).await {
            Ok(more) => {
                let more = Input::Oversubscribable(more.to_messages());
                measured.handle.input(more).await;
            }
            Err(error) => {
                let (estimator, error) = (estimator.name(), chain(&error).to_string());
                tracing::warn!(estimator, error, "no estimate of what can be lent twice");
            }
        }
    }
}

/// Does what `controller` says for as long as the agent runs, with `pause` between.
pub(super) async fn correct(
    controller: Arc<dyn QosController>,
    measured: Measured,
    pause: Duration,
) {
    loop {
        match controller.corrections(&measured).await {
            Ok(corrections) => {
                for correction in corrections {
                    tracing::info!(?correction, "correcting the quality of service");
                    measured.handle.input(Input::Correct(correction)).await;
                }
            }
            Err(error) => {
                let (controller, error) = (controller.name(), chain(&error).to_string());
                tracing::warn!(controller, error, "no corrections");
            }
        }
        tokio::time::sleep(pause.max(PAUSE_AT_LEAST)).await;
    }
}
