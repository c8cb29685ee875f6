//! Lending twice what is lent and lies idle, and taking it back when that goes wrong.
//!
//! | plug point | decides | defaults |
//! |---|---|---|
//! | [`ResourceEstimator`] | what more can be lent, as revocable resources | [`NoEstimator`], [`FixedEstimator`] |
//! | [`QosController`] | which executors have to go, because they harm others | [`NoQosController`], [`LoadQosController`] |
//!
//! The agent asks the first again and again and tells the master what it says; it does what the
//! second says, whenever it says so. Only frameworks with the capability `REVOCABLE_RESOURCES` are
//! offered what was found; their tasks are told `REASON_CONTAINER_PREEMPTED` when they have to go.
//! `docs/oversubscription.md` is the guide.
//!
//! Source: Mesos 1.11 `include/mesos/slave/resource_estimator.hpp`, `qos_controller.hpp`. Departure:
//! both are given a way to measure with each question, instead of once at their start.

mod fixed;
mod load;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

use std::fmt;

use async_trait::async_trait;
use dcos_core::resources::Resources;
use dcos_proto::mesos::{ContainerId, ExecutorId, FrameworkId, ResourceUsage};

pub use fixed::FixedEstimator;
pub use load::{LoadAverages, LoadQosController};

/// Measures what executors were given and what they use.
#[async_trait]
pub trait Usage: fmt::Debug + Send + Sync {
    /// The node now: all it has, and each executor that runs, with what it has and (if that can
    /// be learnt) what it uses.
    async fn measure(&self) -> ResourceUsage;
}

/// Why there is no answer this time; the question is asked again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {reason}")]
pub struct OversubscriptionError {
    /// What was being done.
    pub doing: String,
    /// Why it failed.
    pub reason: String,
}

/// Finds what can be lent although it is lent already.
///
/// # Contract
/// 1. The answer is what can be lent *beyond* the revocable resources that executors have at the
///    moment: the agent adds the two and tells the master the sum.
/// 2. Everything in the answer is revocable and without an allocation.
/// 3. The future may take as long as it likes, and may be dropped at any time; one that never
///    ends leaves things as they are. After each answer the agent pauses for
///    `--oversubscribed_resources_interval`.
/// 4. What is reserved, or given and merely idle, is never part of the answer unless the estimator
///    can take it back at once: a revocable task is killed late or not at all
///    (MESOS-4967).
///
/// # Source
/// Mesos 1.11 `mesos::slave::ResourceEstimator`.
///
/// # Implementing
/// Run `oversubscription::testkit::estimator` (feature `testkit`) in your tests.
#[async_trait]
pub trait ResourceEstimator: fmt::Debug + Send + Sync + 'static {
    /// The name in logs and in `--resource_estimator`.
    fn name(&self) -> &'static str;

    /// What can be lent beyond what is.
    ///
    /// # Errors
    /// [`OversubscriptionError`] if nothing could be learnt; what the master knows stays.
    async fn oversubscribable(&self, usage: &dyn Usage)
    -> Result<Resources, OversubscriptionError>;
}

/// What is to be done for the sake of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QosCorrection {
    /// End an executor with all its tasks.
    Kill {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
        /// The run of it that was measured; a later one is left alone. Absent, whichever runs.
        container: Option<ContainerId>,
    },
}

/// Watches over the quality of service of those who pay for theirs.
///
/// # Contract
/// 1. The future ends when something is to be corrected, or at any earlier time with nothing;
///    it may never end, and may be dropped at any time.
/// 2. A correction may be repeated; one that names nothing that runs is ignored.
/// 3. After each answer the agent pauses for `--qos_correction_interval_min`.
///
/// # Source
/// Mesos 1.11 `mesos::slave::QoSController`.
///
/// # Implementing
/// Run `oversubscription::testkit::controller` (feature `testkit`) in your tests.
#[async_trait]
pub trait QosController: fmt::Debug + Send + Sync + 'static {
    /// The name in logs and in `--qos_controller`.
    fn name(&self) -> &'static str;

    /// What has to go.
    ///
    /// # Errors
    /// [`OversubscriptionError`] if nothing could be learnt.
    async fn corrections(
        &self,
        usage: &dyn Usage,
    ) -> Result<Vec<QosCorrection>, OversubscriptionError>;
}

/// Finds nothing: the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEstimator;

#[async_trait]
impl ResourceEstimator for NoEstimator {
    fn name(&self) -> &'static str {
        "noop"
    }

    async fn oversubscribable(&self, _: &dyn Usage) -> Result<Resources, OversubscriptionError> {
        std::future::pending().await
    }
}

/// Corrects nothing: the default.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoQosController;

#[async_trait]
impl QosController for NoQosController {
    fn name(&self) -> &'static str {
        "noop"
    }

    async fn corrections(
        &self,
        _: &dyn Usage,
    ) -> Result<Vec<QosCorrection>, OversubscriptionError> {
        std::future::pending().await
    }
}

/// The revocable resources that executors have, as they are before they are allocated.
pub fn revocable(usage: &ResourceUsage) -> Resources {
    let lent = usage
        .executors
        .iter()
        .flat_map(|executor| &executor.allocated);
    let lent = lent.filter(|resource| resource.revocable.is_some());
    let lent: Vec<_> = lent
        .map(|resource| dcos_proto::mesos::Resource {
            allocation_info: None,
            ..resource.clone()
        })
        .collect();
    Resources::from(&lent)
}
