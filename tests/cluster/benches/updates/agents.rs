//! Whole agents, with their disks, whose containers cost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use dcos_containerizer::agent::{self, Config};
use dcos_containerizer::containerizer::{
    ContainerConfig, ContainerTermination, Containerizer, ContainerizerError, Origins, Recovered,
};
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{ContainerId, ContainerStatus, Resource, ResourceStatistics};
use dcos_wire::Listener;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::scheduler::Master;
use super::{Size, executors};

/// Enough for a thousand tasks.
const RESOURCES: &str = "cpus:1000;mem:100000;disk:1000;ports:[]";

/// Agents that run.
pub(crate) struct Agents {
    begin: watch::Sender<bool>,
    stop: CancellationToken,
    running: JoinSet<()>,
    _folder: TempDir,
}

/// Starts all agents, with work directories of their own below `directory`.
pub(crate) async fn start(master: &Master, size: Size, directory: &Path) -> Agents {
    let stop = CancellationToken::new();
    let folder = tempfile::tempdir_in(directory).unwrap();
    let begin = watch::Sender::new(false);
    let mut running = JoinSet::new();
    for agent in 0..size.agents {
        let config = Config {
            resources: RESOURCES.to_owned(),
            hostname: Some(format!("agent-{agent}")),
            ..Config::new(
                master.address.to_string(),
                folder.path().join(agent.to_string()),
            )
        };
        let containers = Containers {
            size,
            begin: begin.subscribe(),
            stop: stop.clone(),
        };
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let run = agent::run(config, Arc::new(containers), listener, stop.clone());
        running.spawn(async move { run.await.unwrap() });
    }
    Agents {
        begin,
        stop,
        running,
        _folder: folder,
    }
}

impl Agents {
    /// Lets the executors tell all they have to tell.
    pub(crate) fn begin(&self) {
        self.begin.send_replace(true);
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

/// Its containers are executors in this process, and never end.
#[derive(Debug)]
struct Containers {
    size: Size,
    begin: watch::Receiver<bool>,
    stop: CancellationToken,
}

#[async_trait]
impl Containerizer for Containers {
    fn name(&self) -> &'static str {
        "none"
    }

    fn survives(&self) -> bool {
        false
    }

    async fn recover(
        &self,
        _: &BTreeSet<ContainerId>,
    ) -> Result<BTreeMap<ContainerId, Recovered>, ContainerizerError> {
        Ok(BTreeMap::new())
    }

    async fn launch(
        &self,
        _: &ContainerId,
        config: ContainerConfig,
    ) -> Result<(), ContainerizerError> {
        let (updates, stop) = (self.size.updates, self.stop.clone());
        let executor = executors::run(config.environment, updates, self.begin.clone());
        tokio::spawn(async move { stop.run_until_cancelled(executor).await });
        Ok(())
    }

    async fn wait(&self, _: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        std::future::pending().await
    }

    async fn update(
        &self,
        _: &ContainerId,
        _: &[Resource],
        _: &BTreeMap<String, Scalar>,
    ) -> Result<(), ContainerizerError> {
        Ok(())
    }

    async fn usage(&self, _: &ContainerId) -> Result<ResourceStatistics, ContainerizerError> {
        Ok(ResourceStatistics::default())
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerizerError> {
        Ok(ContainerStatus {
            container_id: Some(id.clone()),
            ..ContainerStatus::default()
        })
    }

    async fn kill(&self, _: &ContainerId, _: i32) -> Result<(), ContainerizerError> {
        Ok(())
    }

    async fn destroy(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        Err(ContainerizerError::Unknown(id.clone()))
    }

    async fn remove(&self, _: &ContainerId) -> Result<(), ContainerizerError> {
        Ok(())
    }

    async fn containers(&self) -> BTreeSet<ContainerId> {
        BTreeSet::new()
    }

    async fn origins(&self) -> Origins {
        Origins::default()
    }
}
