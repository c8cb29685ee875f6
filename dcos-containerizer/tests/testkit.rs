//! The test-kit bites: containerizers that break one promise each are noticed.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use dcos_containerizer::containerizer::{
    ContainerConfig, ContainerTermination, Containerizer, ContainerizerError, Origins, Processes,
    Recovered, testkit,
};
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{ContainerId, ContainerStatus, Resource, ResourceStatistics};

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    /// The end is told to the first who asks, and forgotten.
    TellsOnce,
    /// What is not there is launched all the same.
    LaunchesAnything,
    /// What runs is removed.
    RemovesAnything,
    /// The environment is lost.
    ForgetsEnvironment,
    /// Nested containers stay known after their parent's removal.
    KeepsNested,
}

#[derive(Debug)]
struct Flawed(Processes, Flaw);

#[async_trait]
impl Containerizer for Flawed {
    fn name(&self) -> &'static str {
        "flawed"
    }

    fn survives(&self) -> bool {
        false
    }

    async fn recover(
        &self,
        known: &BTreeSet<ContainerId>,
    ) -> Result<BTreeMap<ContainerId, Recovered>, ContainerizerError> {
        self.0.recover(known).await
    }

    async fn launch(
        &self,
        id: &ContainerId,
        mut config: ContainerConfig,
    ) -> Result<(), ContainerizerError> {
        if self.1 == Flaw::ForgetsEnvironment {
            config.environment.clear();
        }
        let launched = self.0.launch(id, config).await;
        match launched {
            Err(ContainerizerError::Launch { .. }) if self.1 == Flaw::LaunchesAnything => Ok(()),
            other => other,
        }
    }

    async fn wait(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        let end = self.0.wait(id).await;
        if self.1 == Flaw::TellsOnce {
            self.0.remove(id).await.ok();
        }
        end
    }

    async fn update(
        &self,
        id: &ContainerId,
        resources: &[Resource],
        limits: &BTreeMap<String, Scalar>,
    ) -> Result<(), ContainerizerError> {
        self.0.update(id, resources, limits).await
    }

    async fn usage(&self, id: &ContainerId) -> Result<ResourceStatistics, ContainerizerError> {
        self.0.usage(id).await
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerizerError> {
        self.0.status(id).await
    }

    async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerizerError> {
        self.0.kill(id, signal).await
    }

    async fn destroy(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        self.0.destroy(id).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerizerError> {
        match self.1 {
            Flaw::RemovesAnything => self.0.remove(id).await.or(Ok(())),
            Flaw::KeepsNested if id.value == "kit-pod" => Ok(()),
            _ => self.0.remove(id).await,
        }
    }

    async fn containers(&self) -> BTreeSet<ContainerId> {
        self.0.containers().await
    }

    async fn origins(&self) -> Origins {
        self.0.origins().await
    }
}

#[test]
fn each_broken_promise_is_noticed() {
    let flaws = [
        Flaw::TellsOnce,
        Flaw::LaunchesAnything,
        Flaw::RemovesAnything,
        Flaw::ForgetsEnvironment,
        Flaw::KeepsNested,
    ];
    for flaw in flaws {
        let noticed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let dir = tempfile::tempdir().unwrap();
            let flawed = Flawed(Processes::new(), flaw);
            runtime.block_on(testkit::all(&flawed, dir.path()));
        });
        assert!(noticed.join().is_err(), "{flaw:?} went unnoticed");
    }
}
