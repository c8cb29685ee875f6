//! The promises of [`ResourceEstimator`] and [`QosController`] as functions, and a node to try
//! them on.

use std::time::Duration;

use async_trait::async_trait;
use dcos_core::resources::Resources;
use dcos_proto::mesos::resource::{AllocationInfo, RevocableInfo};
use dcos_proto::mesos::{ContainerId, ExecutorInfo, Resource, ResourceUsage, resource_usage};

use super::{QosController, QosCorrection, ResourceEstimator, Usage, revocable};

/// How long an implementation may think before the kit takes it for one that never answers.
const PATIENCE: Duration = Duration::from_millis(250);

/// A node that exists on paper only.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// What [`Usage::measure`] tells.
    pub usage: ResourceUsage,
}

impl Node {
    /// One more executor, of framework `f`, with `own` resources and with `lent`, revocable ones;
    /// both as text such as `cpus:1;mem:32`, or empty.
    ///
    /// # Panics
    /// If a text is no resources.
    #[must_use]
    pub fn with_executor(mut self, id: &str, own: &str, lent: &str) -> Self {
        let parse = |text: &str| {
            let parsed: Result<Resources, _> = text.parse();
            parsed.expect("it is made of resources").to_messages()
        };
        let given = |mut resource: Resource| {
            resource.allocation_info = Some(AllocationInfo {
                role: Some("r".to_owned()),
            });
            resource
        };
        let lent = parse(lent).into_iter().map(|mut resource| {
            resource.revocable = Some(RevocableInfo {});
            resource
        });
        let allocated = parse(own).into_iter().chain(lent).map(given).collect();
        self.usage.executors.push(resource_usage::Executor {
            executor_info: ExecutorInfo {
                executor_id: id.into(),
                framework_id: Some("f".into()),
                ..ExecutorInfo::default()
            },
            allocated,
            container_id: ContainerId::root(format!("container-of-{id}")),
            ..resource_usage::Executor::default()
        });
        self
    }
}

#[async_trait]
impl Usage for Node {
    async fn measure(&self) -> ResourceUsage {
        self.usage.clone()
    }
}

/// Runs every promise of an estimator.
///
/// # Panics
/// If one is broken.
pub async fn estimator(estimator: &dyn ResourceEstimator) {
    answers_are_revocable_and_free(estimator).await;
    a_dropped_question_harms_nothing(estimator).await;
}

/// Runs every promise of a controller.
///
/// # Panics
/// If one is broken.
pub async fn controller(controller: &dyn QosController) {
    corrections_name_what_runs(controller).await;
    an_empty_node_has_nothing_to_correct(controller).await;
}

/// Promise 2: on an empty node, and beside executors that have some already.
///
/// # Panics
/// If it is broken.
pub async fn answers_are_revocable_and_free(estimator: &dyn ResourceEstimator) {
    let nodes = [
        Node::default(),
        Node::default().with_executor("e", "cpus:1;mem:64", "cpus:0.5"),
    ];
    for node in nodes {
        let asked = tokio::time::timeout(PATIENCE, estimator.oversubscribable(&node)).await;
        let Ok(Ok(answer)) = asked else { continue };
        for resource in answer.to_messages() {
            assert!(resource.revocable.is_some(), "not revocable: {resource:?}");
            assert!(
                resource.allocation_info.is_none(),
                "allocated: {resource:?}"
            );
        }
    }
}

/// Promise 3: the next question is answered (or not) as if the dropped one had not been asked.
///
/// # Panics
/// If it is broken.
pub async fn a_dropped_question_harms_nothing(estimator: &dyn ResourceEstimator) {
    let node = Node::default();
    let ask = || tokio::time::timeout(PATIENCE, estimator.oversubscribable(&node));
    let before = ask().await.ok();
    let dropped = tokio::time::timeout(Duration::ZERO, estimator.oversubscribable(&node));
    let _ = dropped.await;
    assert_eq!(ask().await.ok(), before, "an answer changed");
}

/// Promise 2: whatever it corrects was measured.
///
/// # Panics
/// If it is broken.
pub async fn corrections_name_what_runs(controller: &dyn QosController) {
    let node = Node::default()
        .with_executor("own", "cpus:1", "")
        .with_executor("lent", "cpus:1", "cpus:4");
    assert!(!revocable(&node.usage).is_empty());
    let asked = tokio::time::timeout(PATIENCE, controller.corrections(&node)).await;
    let Ok(Ok(corrections)) = asked else { return };
    for QosCorrection::Kill {
        framework,
        executor,
        container,
    } in corrections
    {
        let known = node.usage.executors.iter().any(|known| {
            known.executor_info.executor_id == executor
                && known.executor_info.framework_id.as_ref() == Some(&framework)
                && container
                    .as_ref()
                    .is_none_or(|id| *id == known.container_id)
        });
        assert!(known, "nobody runs {executor} of framework {framework}");
    }
}

/// Promise 1: where nothing runs there is nothing to correct.
///
/// # Panics
/// If it is broken.
pub async fn an_empty_node_has_nothing_to_correct(controller: &dyn QosController) {
    let node = Node::default();
    let asked = tokio::time::timeout(PATIENCE, controller.corrections(&node)).await;
    if let Ok(Ok(corrections)) = asked {
        assert_eq!(corrections, [], "nothing runs");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NoEstimator, NoQosController, OversubscriptionError};
    use super::*;
    use futures::FutureExt as _;
    use std::panic::AssertUnwindSafe;

    #[tokio::test]
    async fn the_defaults_pass() {
        estimator(&NoEstimator).await;
        controller(&NoQosController).await;
    }

    /// Lends what cannot be taken back.
    #[derive(Debug)]
    struct Careless;

    #[async_trait]
    impl ResourceEstimator for Careless {
        fn name(&self) -> &'static str {
            "careless"
        }

        async fn oversubscribable(
            &self,
            _: &dyn Usage,
        ) -> Result<Resources, OversubscriptionError> {
            Ok("cpus:1".parse().expect("it is resources"))
        }
    }

    #[async_trait]
    impl QosController for Careless {
        fn name(&self) -> &'static str {
            "careless"
        }

        async fn corrections(
            &self,
            _: &dyn Usage,
        ) -> Result<Vec<QosCorrection>, OversubscriptionError> {
            Ok(vec![QosCorrection::Kill {
                framework: "f".into(),
                executor: "nobody".into(),
                container: None,
            }])
        }
    }

    #[tokio::test]
    async fn the_kit_bites() {
        let lends = AssertUnwindSafe(answers_are_revocable_and_free(&Careless));
        assert!(lends.catch_unwind().await.is_err());
        let kills = AssertUnwindSafe(corrections_name_what_runs(&Careless));
        assert!(kills.catch_unwind().await.is_err());
        let kills = AssertUnwindSafe(an_empty_node_has_nothing_to_correct(&Careless));
        assert!(kills.catch_unwind().await.is_err());
    }
}
