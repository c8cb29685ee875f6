//! What the master counts, under the names of Mesos 1.11 (`src/master/metrics.cpp`).

use std::collections::BTreeMap;

use dcos_proto::json::{Dialect, JsonEnum as _};
use dcos_proto::mesos::{TaskState, TaskStatus};

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $name:literal,)*) => {
        /// Numbers that only grow.
        #[derive(Debug, Clone, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $field: u64,)*
            /// Ends of tasks by state.
            pub ends: BTreeMap<String, u64>,
            /// Ends of tasks by state, source and reason, under their metric's name.
            pub ends_by_reason: BTreeMap<String, u64>,
            /// Operations by type and the states they ended in, as `reserve/finished`.
            pub operations: BTreeMap<String, u64>,
        }

        impl Counters {
            /// Each counter with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field)),*]
            }
        }
    };
}

counters! {
    /// Messages and events that had no receiver.
    dropped_messages => "master/dropped_messages",
    /// Drivers and agents that began to authenticate.
    messages_authenticate => "master/messages_authenticate",
    /// Agents that were not admitted: they did not authenticate, or may not register.
    refused_agents => "master/slave_registrations_refused",
    /// First subscriptions.
    messages_register_framework => "master/messages_register_framework",
    /// Later subscriptions.
    messages_reregister_framework => "master/messages_reregister_framework",
    /// Drivers that stopped taking offers.
    messages_deactivate_framework => "master/messages_deactivate_framework",
    /// KILL calls.
    messages_kill_task => "master/messages_kill_task",
    /// ACCEPT calls that launch.
    messages_launch_tasks => "master/messages_launch_tasks",
    /// DECLINE calls.
    messages_decline_offers => "master/messages_decline_offers",
    /// REVIVE calls.
    messages_revive_offers => "master/messages_revive_offers",
    /// SUPPRESS calls.
    messages_suppress_offers => "master/messages_suppress_offers",
    /// RECONCILE calls.
    messages_reconcile_tasks => "master/messages_reconcile_tasks",
    /// `RECONCILE_OPERATIONS` calls.
    messages_reconcile_operations => "master/messages_reconcile_operations",
    /// Statuses of operations from agents.
    messages_operation_status_update => "master/messages_operation_status_update",
    /// `ACKNOWLEDGE_OPERATION_STATUS` calls.
    messages_operation_status_update_acknowledgement => "master/messages_operation_status_update_acknowledgement",
    /// Statuses of known operations.
    valid_operation_status_updates => "master/valid_operation_status_updates",
    /// Statuses of unknown operations.
    invalid_operation_status_updates => "master/invalid_operation_status_updates",
    /// Acknowledgements of operations that had an agent to go to.
    valid_operation_status_update_acknowledgements => "master/valid_operation_status_update_acknowledgements",
    /// Acknowledgements of operations that had none.
    invalid_operation_status_update_acknowledgements => "master/invalid_operation_status_update_acknowledgements",
    /// REQUEST calls.
    messages_resource_request => "master/messages_resource_request",
    /// ACKNOWLEDGE calls.
    messages_status_update_acknowledgement => "master/messages_status_update_acknowledgement",
    /// MESSAGE calls.
    messages_framework_to_executor => "master/messages_framework_to_executor",
    /// Messages of executors.
    messages_executor_to_framework => "master/messages_executor_to_framework",
    /// Registrations of agents, tries included.
    messages_register_slave => "master/messages_register_slave",
    /// Re-registrations of agents, tries included.
    messages_reregister_slave => "master/messages_reregister_slave",
    /// Agents that left by themselves.
    messages_unregister_slave => "master/messages_unregister_slave",
    /// TEARDOWN calls of frameworks.
    messages_unregister_framework => "master/messages_unregister_framework",
    /// Changes of agents' resources.
    messages_update_slave => "master/messages_update_slave",
    /// Updates from agents.
    messages_status_update => "master/messages_status_update",
    /// Ends of executors.
    messages_exited_executor => "master/messages_exited_executor",
    /// Messages to executors that had an agent to go to.
    valid_framework_to_executor_messages => "master/valid_framework_to_executor_messages",
    /// Messages to executors that had none.
    invalid_framework_to_executor_messages => "master/invalid_framework_to_executor_messages",
    /// Messages of executors whose framework is known.
    valid_executor_to_framework_messages => "master/valid_executor_to_framework_messages",
    /// Messages of executors whose framework is not.
    invalid_executor_to_framework_messages => "master/invalid_executor_to_framework_messages",
    /// Updates about known tasks.
    valid_status_updates => "master/valid_status_updates",
    /// Updates about unknown tasks, frameworks or agents.
    invalid_status_updates => "master/invalid_status_updates",
    /// Acknowledgements that had an agent to go to.
    valid_status_update_acknowledgements => "master/valid_status_update_acknowledgements",
    /// Acknowledgements that had none.
    invalid_status_update_acknowledgements => "master/invalid_status_update_acknowledgements",
    /// Agents admitted.
    slave_registrations => "master/slave_registrations",
    /// Agents that came back.
    slave_reregistrations => "master/slave_reregistrations",
    /// Agents removed for any reason.
    slave_removals => "master/slave_removals",
    /// Agents removed because they did not answer.
    removals_unhealthy => "master/slave_removals/reason_unhealthy",
    /// Agents that left by themselves.
    removals_unregistered => "master/slave_removals/reason_unregistered",
    /// Agents replaced by another at the same address.
    removals_registered => "master/slave_removals/reason_registered",
    /// Agents to be declared unreachable, at once or as fast as is allowed.
    slave_unreachable_scheduled => "master/slave_unreachable_scheduled",
    /// Agents that answered before that.
    slave_unreachable_canceled => "master/slave_unreachable_canceled",
    /// Agents found unreachable by pings.
    slave_unreachable_completed => "master/slave_unreachable_completed",
    /// Agents of a former master that did not come back.
    recovery_slave_removals => "master/recovery_slave_removals",
    /// Rounds in which the allocator decided.
    allocation_runs => "allocator/mesos/allocation_runs",
    /// Offers made.
    offers_sent => "master/offers_sent",
    /// Offers accepted.
    offers_accepted => "master/offers_accepted",
    /// Offers declined.
    offers_declined => "master/offers_declined",
    /// Offers taken back.
    offers_rescinded => "master/offers_rescinded",
}

impl Counters {
    /// Counts a task's end, if `status` is one.
    pub(crate) fn count_end(&mut self, status: &TaskStatus) {
        let state = short(status.state().name(), "TASK_");
        if matches!(status.state(), TaskState::TaskUnreachable) {
            return;
        }
        *self
            .ends
            .entry(format!("master/tasks_{state}"))
            .or_default() += 1;
        if status.reason.is_some() {
            let source = status.source().name_in(Dialect::V0).to_lowercase();
            let reason = status.reason().name_in(Dialect::V0).to_lowercase();
            let name = format!("master/task_{state}/{source}/{reason}");
            *self.ends_by_reason.entry(name).or_default() += 1;
        }
    }
}

fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}
