//! Several containerizers as one: each container is run by the first that takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{ContainerId, ContainerStatus, Resource, ResourceStatistics};

use crate::switchboard::Switchboard;

use super::{
    ContainerConfig, ContainerTermination, Containerizer, ContainerizerError, Origins, Recovered,
};

/// The containerizers that `--containerizers` names, in its order.
///
/// A launch goes to the first that does not answer [`ContainerizerError::Unsupported`]; what is
/// nested in a container goes where that went.
///
/// # Source
/// Mesos 1.11 `ComposingContainerizer` (`src/slave/containerizer/composing.cpp`).
#[derive(Debug)]
pub struct Composing {
    parts: Vec<Arc<dyn Containerizer>>,
    /// Who runs each root container.
    owners: Mutex<BTreeMap<ContainerId, Arc<dyn Containerizer>>>,
}

impl Composing {
    /// Asks `parts` in this order.
    pub fn new(parts: Vec<Arc<dyn Containerizer>>) -> Self {
        Self {
            parts,
            owners: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<dyn Containerizer>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owner(&self, id: &ContainerId) -> Result<Arc<dyn Containerizer>, ContainerizerError> {
        let owner = self.lock().get(id.root_id()).cloned();
        owner.ok_or_else(|| ContainerizerError::Unknown(id.clone()))
    }

    /// Tries one after the other; the owner is known before, so that a launch can be destroyed.
    async fn launch_root(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
    ) -> Result<(), ContainerizerError> {
        for part in &self.parts {
            let taken = self.lock().insert(id.clone(), Arc::clone(part));
            if let Some(owner) = taken.filter(|owner| !Arc::ptr_eq(owner, part)) {
                self.lock().insert(id.clone(), owner);
                return Err(ContainerizerError::Exists(id.clone()));
            }
            match part.launch(id, config.clone()).await {
                Err(ContainerizerError::Unsupported { .. }) => {
                    self.lock().remove(id);
                }
                Err(error) => {
                    if !part.containers().await.contains(id) {
                        self.lock().remove(id);
                    }
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
        let names: Vec<_> = self.parts.iter().map(|part| part.name()).collect();
        Err(ContainerizerError::Unsupported {
            id: id.clone(),
            names: names.join(","),
        })
    }
}

#[async_trait]
impl Containerizer for Composing {
    fn name(&self) -> &'static str {
        "composing"
    }

    fn survives(&self) -> bool {
        self.parts.iter().all(|part| part.survives())
    }

    async fn recover(
        &self,
        known: &BTreeSet<ContainerId>,
    ) -> Result<BTreeMap<ContainerId, Recovered>, ContainerizerError> {
        let mut all = BTreeMap::new();
        for part in &self.parts {
            let recovered = part.recover(known).await?;
            let own = part.containers().await;
            // Standalone ones are there without being asked for.
            for id in own.iter().filter(|id| id.parent.is_none()) {
                self.lock().insert(id.clone(), Arc::clone(part));
            }
            for (id, state) in recovered {
                let is_own = own.contains(&id);
                // What a part says of another's container is that it knows nothing.
                if is_own || !all.contains_key(&id) {
                    all.insert(id, state);
                }
            }
        }
        Ok(all)
    }

    async fn launch(
        &self,
        id: &ContainerId,
        config: ContainerConfig,
    ) -> Result<(), ContainerizerError> {
        if id.parent.is_none() {
            return self.launch_root(id, config).await;
        }
        match self.owner(id) {
            Ok(owner) => owner.launch(id, config).await,
            Err(_) => Err(ContainerizerError::NoParent(id.clone())),
        }
    }

    async fn wait(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        self.owner(id)?.wait(id).await
    }

    async fn update(
        &self,
        id: &ContainerId,
        resources: &[Resource],
        limits: &BTreeMap<String, Scalar>,
    ) -> Result<(), ContainerizerError> {
        self.owner(id)?.update(id, resources, limits).await
    }

    async fn usage(&self, id: &ContainerId) -> Result<ResourceStatistics, ContainerizerError> {
        self.owner(id)?.usage(id).await
    }

    async fn status(&self, id: &ContainerId) -> Result<ContainerStatus, ContainerizerError> {
        self.owner(id)?.status(id).await
    }

    async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), ContainerizerError> {
        self.owner(id)?.kill(id, signal).await
    }

    async fn destroy(&self, id: &ContainerId) -> Result<ContainerTermination, ContainerizerError> {
        self.owner(id)?.destroy(id).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerizerError> {
        let Ok(owner) = self.owner(id) else {
            return Ok(());
        };
        owner.remove(id).await?;
        if id.parent.is_none() {
            self.lock().remove(id);
        }
        Ok(())
    }

    async fn switchboard(&self, id: &ContainerId) -> Result<Switchboard, ContainerizerError> {
        self.owner(id)?.switchboard(id).await
    }

    async fn containers(&self) -> BTreeSet<ContainerId> {
        let mut all = BTreeSet::new();
        for part in &self.parts {
            all.extend(part.containers().await);
        }
        all
    }

    async fn origins(&self) -> Origins {
        let mut all = Origins::default();
        for part in &self.parts {
            all.extend(part.origins().await);
        }
        all
    }
}
