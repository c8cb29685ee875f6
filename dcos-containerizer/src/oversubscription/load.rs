//! Ending what is revocable when the node is overloaded.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::{OversubscriptionError, QosController, QosCorrection, Usage};

/// How often the kernel counts anew how many processes want to run.
const PERIOD: Duration = Duration::from_secs(5);

/// The load averages of the last 1, 5 and 15 minutes.
pub type LoadAverages = [f64; 3];

/// Ends every executor that has revocable resources once the node's load average of 5 or of 15
/// minutes exceeds a threshold.
///
/// Source: Mesos 1.11 `LoadQoSController` (`src/slave/qos_controllers/load.cpp`), whose parameters
/// are `load_threshold_5min` and `load_threshold_15min`.
pub struct LoadQosController {
    five: Option<f64>,
    fifteen: Option<f64>,
    period: Duration,
    measure: Box<dyn Fn() -> LoadAverages + Send + Sync>,
}

impl LoadQosController {
    /// Watches this node's load; an absent threshold is never exceeded.
    pub fn new(five: Option<f64>, fifteen: Option<f64>) -> Self {
        Self::measuring(five, fifteen, PERIOD, of_this_node)
    }

    /// Watches what `measure` tells, each `period`.
    pub fn measuring(
        five: Option<f64>,
        fifteen: Option<f64>,
        period: Duration,
        measure: impl Fn() -> LoadAverages + Send + Sync + 'static,
    ) -> Self {
        let measure = Box::new(measure);
        Self {
            five,
            fifteen,
            period,
            measure,
        }
    }

    fn is_overloaded(&self) -> bool {
        let [_, five, fifteen] = (self.measure)();
        let above = |load: f64, threshold: Option<f64>| threshold.is_some_and(|most| load > most);
        above(five, self.five) || above(fifteen, self.fifteen)
    }
}

impl fmt::Debug for LoadQosController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("LoadQosController");
        shown
            .field("five", &self.five)
            .field("fifteen", &self.fifteen);
        shown.finish_non_exhaustive()
    }
}

#[async_trait]
impl QosController for LoadQosController {
    fn name(&self) -> &'static str {
        "load"
    }

    async fn corrections(
        &self,
        usage: &dyn Usage,
    ) -> Result<Vec<QosCorrection>, OversubscriptionError> {
        while !self.is_overloaded() {
            tokio::time::sleep(self.period).await;
        }
        // Who is ended lowers the load, which is an average and follows slowly: the pause lets
        // nobody be ended for what another did.
        let usage = usage.measure().await;
        let lent = usage.executors.into_iter().filter(|executor| {
            let mut resources = executor.allocated.iter();
            resources.any(|resource| resource.revocable.is_some())
        });
        let corrections: Vec<_> = lent
            .map(|executor| QosCorrection::Kill {
                framework: executor.executor_info.framework_id.unwrap_or_default(),
                executor: executor.executor_info.executor_id,
                container: Some(executor.container_id),
            })
            .collect();
        if corrections.is_empty() {
            tokio::time::sleep(self.period).await;
        }
        Ok(corrections)
    }
}

/// What the kernel says.
#[expect(clippy::cast_precision_loss, reason = "a load needs no more precision")]
fn of_this_node() -> LoadAverages {
    // The kernel counts in 65536ths.
    rustix::system::sysinfo()
        .loads
        .map(|load| load as f64 / 65536.0)
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{self, Node};
    use super::*;

    fn controller(load: LoadAverages) -> LoadQosController {
        let millisecond = Duration::from_millis(1);
        LoadQosController::measuring(Some(10.0), Some(5.0), millisecond, move || load)
    }

    #[tokio::test]
    async fn keeps_the_controllers_promises() {
        testkit::controller(&controller([1.0, 11.0, 1.0])).await;
        testkit::controller(&controller([0.0, 0.0, 0.0])).await;
    }

    #[tokio::test]
    async fn only_those_with_revocable_resources_go() {
        let node = Node::default()
            .with_executor("paid", "cpus:4", "")
            .with_executor("lent", "cpus:1", "cpus:2");
        for load in [[0.0, 11.0, 0.0], [0.0, 0.0, 6.0]] {
            let corrections = controller(load).corrections(&node).await.unwrap();
            let [QosCorrection::Kill { executor, .. }] = &corrections[..] else {
                panic!("{corrections:?}")
            };
            assert_eq!(executor.value, "lent");
        }
    }

    #[tokio::test]
    async fn below_the_thresholds_nothing_happens() {
        let node = Node::default().with_executor("lent", "", "cpus:2");
        // Only the short average is high.
        let calm = controller([99.0, 10.0, 5.0]);
        let waited = tokio::time::timeout(Duration::from_millis(50), calm.corrections(&node)).await;
        assert!(waited.is_err());
    }
}
