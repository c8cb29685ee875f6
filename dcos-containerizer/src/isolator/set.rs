//! All isolators of a node, called together and in order.

use std::sync::Arc;

use dcos_proto::mesos::{ContainerId, ContainerStatus, ResourceStatistics};
use futures::future::{FutureExt, select_all};

use super::{ContainerConfig, Draft, Isolator, IsolatorError, Limitation, Limits};

/// The isolators of a node, in the order in which they prepare; they clean up in reverse.
#[derive(Debug, Clone, Default)]
pub struct Isolators(Vec<Arc<dyn Isolator>>);

impl Isolators {
    /// The given isolators, in this order.
    pub fn new(isolators: Vec<Arc<dyn Isolator>>) -> Self {
        Self(isolators)
    }

    /// Each of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<dyn Isolator>> {
        self.0.iter()
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|isolator| isolator.name())
    }

    /// Tells all of them which containers are still there.
    ///
    /// # Errors
    /// The first isolator's error.
    pub async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        for isolator in &self.0 {
            let known: Vec<_> = containers
                .iter()
                .filter(|id| concerns(&**isolator, id))
                .cloned()
                .collect();
            isolator.recover(&known).await?;
        }
        Ok(())
    }

    /// Lets each edit the draft of a new container; undoes everything if one fails.
    ///
    /// # Errors
    /// The first isolator's error; nothing is left on the host then.
    pub async fn prepare(&self, config: &ContainerConfig) -> Result<Draft, IsolatorError> {
        let mut draft = Draft::new(config)?;
        for isolator in self.concerned(&config.id) {
            if let Err(error) = isolator.prepare(config, &mut draft).await {
                // What could not be made is told; what then cannot be removed is found again by
                // `recover`.
                let _ = self.cleanup(&config.id).await;
                return Err(error);
            }
        }
        Ok(draft)
    }

    /// The container's first process exists.
    ///
    /// # Errors
    /// The first isolator's error.
    pub async fn isolate(&self, id: &ContainerId, pid: u32) -> Result<(), IsolatorError> {
        for isolator in self.concerned(id) {
            isolator.isolate(id, pid).await?;
        }
        Ok(())
    }

    /// Waits until one of them says that the container took too much.
    pub async fn watch(&self, id: &ContainerId) -> Limitation {
        let watches: Vec<_> = self
            .concerned(id)
            .map(|isolator| isolator.watch(id))
            .collect();
        if watches.is_empty() {
            return std::future::pending().await;
        }
        select_all(watches).await.0
    }

    /// Whether a container that has ended did so because it took too much.
    ///
    /// A limit and the end it causes are noticed in any order; this asks without waiting.
    pub fn limitation(&self, id: &ContainerId) -> Option<Limitation> {
        self.watch(id).now_or_never()
    }

    /// Applies new limits.
    ///
    /// # Errors
    /// The first isolator's error; those before it have changed theirs.
    pub async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        for isolator in self.concerned(id) {
            isolator.update(id, limits).await?;
        }
        Ok(())
    }

    /// What all of them measure, the time aside; what one cannot read is left out.
    pub async fn usage(&self, id: &ContainerId) -> ResourceStatistics {
        let mut statistics = ResourceStatistics::default();
        for isolator in self.concerned(id) {
            if let Err(error) = isolator.usage(id, &mut statistics).await {
                tracing::debug!(container = %id, isolator = isolator.name(), %error, "no usage");
            }
        }
        statistics
    }

    /// What all of them know.
    pub async fn status(&self, id: &ContainerId) -> ContainerStatus {
        let mut status = ContainerStatus::default();
        for isolator in self.concerned(id) {
            if let Err(error) = isolator.status(id, &mut status).await {
                tracing::debug!(container = %id, isolator = isolator.name(), %error, "no status");
            }
        }
        status
    }

    /// Lets each remove what it made, in reverse order, whether others fail or not.
    ///
    /// # Errors
    /// The first error, after all have been tried.
    pub async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        let mut outcome = Ok(());
        let concerned: Vec<_> = self.concerned(id).collect();
        for isolator in concerned.into_iter().rev() {
            outcome = outcome.and(isolator.cleanup(id).await);
        }
        outcome
    }

    fn concerned<'a>(&'a self, id: &'a ContainerId) -> impl Iterator<Item = &'a Arc<dyn Isolator>> {
        self.0.iter().filter(|isolator| concerns(&***isolator, id))
    }
}

impl IntoIterator for Isolators {
    type Item = Arc<dyn Isolator>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// Each, in order: to put others before, between or behind them.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Isolators {
    type Item = &'a Arc<dyn Isolator>;
    type IntoIter = std::slice::Iter<'a, Arc<dyn Isolator>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn concerns(isolator: &dyn Isolator, id: &ContainerId) -> bool {
    id.parent.is_none() || isolator.supports_nesting()
}
