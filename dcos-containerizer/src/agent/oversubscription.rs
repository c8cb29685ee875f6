//! Oversubscription: what the estimator found goes to the master, whom the controller names goes.
//!
//! Source: Mesos 1.11 `Slave::_forwardOversubscribed`, `Slave::_qosCorrections`.

use dcos_core::resources::Resources;
use dcos_proto::mesos::framework_info::capability;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{Resource, TaskState};

use super::core::Agent;
use super::records::{Executor, ExecutorKey, ExecutorState, Verdict};
use crate::containerizer::ContainerTermination;
use crate::oversubscription::QosCorrection;

impl Agent {
    /// The estimator found `more` beside what is lent already.
    pub(super) fn oversubscribable(&mut self, more: &[Resource]) {
        let lent = self
            .executors()
            .filter(|executor| !executor.state.is_over());
        let lent = lent.flat_map(Executor::resources);
        let lent = lent.filter(|resource| resource.revocable.is_some());
        let all = lent.chain(more.iter().cloned());
        let all: Vec<_> = all
            .map(|resource| Resource {
                allocation_info: None,
                ..resource
            })
            .collect();
        let total = Resources::from(&all);
        if self.oversubscribed.as_ref() != Some(&total) {
            self.oversubscribed = Some(total);
            self.forward_oversubscribed();
        }
    }

    /// Tells the master the newest estimate, if there has been one.
    pub(super) fn forward_oversubscribed(&mut self) {
        if self.oversubscribed.is_some()
            && let Some(update) = self.agent_update()
        {
            self.send_master(update);
        }
    }

    /// Does what the controller of the quality of service asks for.
    pub(super) fn correct(&mut self, correction: QosCorrection) {
        let QosCorrection::Kill {
            framework,
            executor,
            container,
        } = correction;
        let key = ExecutorKey {
            framework,
            executor,
        };
        let Some(framework) = self.frameworks.get(&key.framework) else {
            return;
        };
        let partition_aware = framework.can(capability::Type::PartitionAware);
        let live = framework.executors.get(&key.executor).filter(|executor| {
            let meant = container
                .as_ref()
                .is_none_or(|id| *id == executor.container);
            let state = executor.state;
            meant && matches!(state, ExecutorState::Registering | ExecutorState::Running)
        });
        if framework.terminating || live.is_none() {
            return;
        }
        let state = if partition_aware {
            TaskState::TaskGone
        } else {
            TaskState::TaskLost
        };
        self.counters.executors_preempted += 1;
        self.sentence(
            &key,
            Verdict {
                state,
                termination: ContainerTermination {
                    reason: Some(Reason::ContainerPreempted),
                    message: Some("Container preempted by QoS correction".to_owned()),
                    ..ContainerTermination::default()
                },
            },
        );
    }
}
