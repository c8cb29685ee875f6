//! Resources as each framework's capabilities want them.
//!
//! Inside the master resources are refined and carry the role they are allocated to. A framework
//! without `MULTI_ROLE` does not see the latter, and one without `RESERVATION_REFINEMENT` sees
//! reservations in the old form; what they send back is completed on the way in.
//!
//! Source: Mesos 1.11 `docs/roles.md`, `include/mesos/mesos.proto` (`FrameworkInfo.Capability`).

use dcos_core::resources::convert::{downgrade_all, upgrade_all};
use dcos_core::resources::operation::change_resources;
use dcos_proto::mesos::framework_info::capability::Type as Capability;
use dcos_proto::mesos::resource::AllocationInfo;
use dcos_proto::mesos::{ExecutorInfo, FrameworkInfo, Offer, Resource, TaskInfo, offer};

use super::framework::has_capability;

/// The role an offer belongs to.
pub(crate) fn role_of(offer: &Offer) -> String {
    offer
        .allocation_info
        .as_ref()
        .and_then(|allocation| allocation.role.clone())
        .unwrap_or_else(|| "*".to_owned())
}

/// An offer as `framework` is to see it.
pub(crate) fn offer_for(framework: &FrameworkInfo, offer: &Offer) -> Offer {
    let mut offer = offer.clone();
    if !has_capability(framework, Capability::MultiRole) {
        offer.allocation_info = None;
        for resource in &mut offer.resources {
            resource.allocation_info = None;
        }
    }
    resources_for(framework, &mut offer.resources);
    offer
}

/// Reservations in the form `framework` understands.
pub(crate) fn resources_for(framework: &FrameworkInfo, resources: &mut [Resource]) {
    if !has_capability(framework, Capability::ReservationRefinement) {
        // What can't be told in the old form is not granted to such a framework in the first place.
        let _ = downgrade_all(resources);
    }
}

/// Completes resources that came from a framework: refined form, allocated to `role`.
pub(crate) fn from_framework(resources: &mut [Resource], role: &str) {
    upgrade_all(resources);
    for resource in resources {
        let allocation = resource
            .allocation_info
            .get_or_insert_with(AllocationInfo::default);
        allocation.role.get_or_insert_with(|| role.to_owned());
    }
}

/// The same for all that a task brings.
pub(crate) fn task_from_framework(task: &mut TaskInfo, role: &str) {
    from_framework(&mut task.resources, role);
    if let Some(executor) = &mut task.executor {
        executor_from_framework(executor, role);
    }
}

/// The same for an executor.
pub(crate) fn executor_from_framework(executor: &mut ExecutorInfo, role: &str) {
    from_framework(&mut executor.resources, role);
}

/// The same for all that an operation changes or launches.
pub(crate) fn operation_from_framework(operation: &mut offer::Operation, role: &str) {
    change_resources(operation, |resource| {
        from_framework(std::slice::from_mut(resource), role);
    });
    if let Some(launch) = &mut operation.launch {
        for task in &mut launch.task_infos {
            task_from_framework(task, role);
        }
    }
    if let Some(group) = &mut operation.launch_group {
        executor_from_framework(&mut group.executor, role);
        for task in &mut group.task_group.tasks {
            task_from_framework(task, role);
        }
    }
}
