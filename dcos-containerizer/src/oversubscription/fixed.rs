//! The same amount for ever.

use async_trait::async_trait;
use dcos_core::resources::Resources;
use dcos_proto::mesos::resource::RevocableInfo;

use super::{OversubscriptionError, ResourceEstimator, Usage, revocable};

/// Lends a fixed amount, whatever else happens: for nodes whose services are known to use less
/// than they have.
///
/// Source: Mesos 1.11 `FixedResourceEstimator` (`src/slave/resource_estimators/fixed.cpp`).
#[derive(Debug, Clone)]
pub struct FixedEstimator {
    total: Resources,
}

impl FixedEstimator {
    /// Lends `total`, which need not say that it is revocable.
    pub fn new(total: &Resources) -> Self {
        let mut all = total.to_messages();
        for resource in &mut all {
            resource.revocable = Some(RevocableInfo {});
        }
        let total = all.iter().collect();
        Self { total }
    }
}

#[async_trait]
impl ResourceEstimator for FixedEstimator {
    fn name(&self) -> &'static str {
        "fixed"
    }

    async fn oversubscribable(
        &self,
        usage: &dyn Usage,
    ) -> Result<Resources, OversubscriptionError> {
        Ok(&self.total - &revocable(&usage.measure().await))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{self, Node};
    use super::*;

    #[tokio::test]
    async fn keeps_the_estimators_promises() {
        let estimator = FixedEstimator::new(&"cpus:4;mem:512".parse().unwrap());
        testkit::estimator(&estimator).await;
    }

    #[tokio::test]
    async fn what_is_lent_is_not_lent_again() {
        let estimator = FixedEstimator::new(&"cpus:4;mem:512".parse().unwrap());
        let node = Node::default().with_executor("e", "cpus:1", "cpus:3;mem:128");
        let left = estimator.oversubscribable(&node).await.unwrap();
        assert_eq!((left.cpus(), left.mem()), (Some(1.0), Some(384.0)));
    }
}
