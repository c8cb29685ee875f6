//! Reservations, volumes and what is launched on them, ready to be used in
//! [`Handle::accept`](super::Handle::accept).
//!
//! Operations of one ACCEPT are carried out in order, and each may use what those before it made:
//!
//! ```
//! use dcos_core::resources::scalar_resource;
//! use dcos_sched::sdk::operations::{create, launch, reserve, reserved_for, volume, with_id};
//! # use dcos_proto::mesos::TaskInfo;
//!
//! let disk = reserved_for(scalar_resource("disk", 1024.0), "db", Some("me"));
//! let cpus = reserved_for(scalar_resource("cpus", 1.0), "db", Some("me"));
//! let data = volume(disk.clone(), "data-1", Some("me"), "data");
//! let task = TaskInfo { resources: vec![cpus.clone(), data.clone()], ..TaskInfo::default() };
//! let operations = vec![
//!     // `Scheduler::operation_update` hears of those with an id.
//!     with_id(reserve(vec![disk, cpus]), "reserve-1"),
//!     create(vec![data]),
//!     launch(vec![task]),
//! ];
//! # assert_eq!(operations.len(), 3);
//! ```
//!
//! Resources here are in the refined format (`RESERVATION_REFINEMENT`), which a framework declares
//! among its capabilities.

use dcos_core::resources::convert::{dynamic_reservation, upgrade};
use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::offer::operation::{
    self, Create, Destroy, GrowVolume, Launch, Reserve, ShrinkVolume, Type, Unreserve,
};
use dcos_proto::mesos::resource::SharedInfo;
use dcos_proto::mesos::resource::disk_info::Persistence;
use dcos_proto::mesos::{
    ExecutorInfo, OperationId, Resource, TaskGroupInfo, TaskInfo, Volume, value, volume as mounted,
};

/// `resource`, kept for `role` from now on: on top of the reservations it has already. A framework
/// with a principal has to name it.
#[must_use]
pub fn reserved_for(mut resource: Resource, role: &str, principal: Option<&str>) -> Resource {
    upgrade(&mut resource);
    let principal = principal.map(ToOwned::to_owned);
    resource
        .reservations
        .push(dynamic_reservation(role, principal));
    resource
}

/// The persistent volume called `id` on a reserved `disk`, which tasks find at `container_path` in
/// their sandbox. Ids are unique for each role on an agent.
#[must_use]
pub fn volume(
    mut disk: Resource,
    id: &str,
    principal: Option<&str>,
    container_path: &str,
) -> Resource {
    let info = disk.disk.get_or_insert_default();
    info.persistence = Some(Persistence {
        id: id.to_owned(),
        principal: principal.map(ToOwned::to_owned),
    });
    info.volume = Some(Volume {
        container_path: container_path.to_owned(),
        mode: mounted::Mode::Rw.into(),
        ..Volume::default()
    });
    disk
}

/// A volume that several tasks may use at once (`SHARED_RESOURCES`).
#[must_use]
pub fn shared(volume: Resource) -> Resource {
    Resource {
        shared: Some(SharedInfo {}),
        ..volume
    }
}

/// The operation with an id: what becomes of it is told, and to be acknowledged.
#[must_use]
pub fn with_id(operation: Operation, id: impl Into<OperationId>) -> Operation {
    Operation {
        id: Some(id.into()),
        ..operation
    }
}

fn of(kind: Type) -> Operation {
    Operation {
        r#type: Some(kind.into()),
        ..Operation::default()
    }
}

/// Keeps `resources` for the role their innermost reservation names.
pub fn reserve(resources: Vec<Resource>) -> Operation {
    let source = Vec::new();
    Operation {
        reserve: Some(Reserve { resources, source }),
        ..of(Type::Reserve)
    }
}

/// Takes the innermost reservation of `resources` away.
pub fn unreserve(resources: Vec<Resource>) -> Operation {
    Operation {
        unreserve: Some(Unreserve { resources }),
        ..of(Type::Unreserve)
    }
}

/// Makes volumes of reserved disks.
pub fn create(volumes: Vec<Resource>) -> Operation {
    Operation {
        create: Some(Create { volumes }),
        ..of(Type::Create)
    }
}

/// Deletes volumes with all they hold. Their disks stay reserved.
pub fn destroy(volumes: Vec<Resource>) -> Operation {
    Operation {
        destroy: Some(Destroy { volumes }),
        ..of(Type::Destroy)
    }
}

/// Adds a reserved disk to a volume that nobody uses.
pub fn grow(volume: Resource, addition: Resource) -> Operation {
    Operation {
        grow_volume: Some(GrowVolume { volume, addition }),
        ..of(Type::GrowVolume)
    }
}

/// Takes `megabytes` from a volume that nobody uses.
pub fn shrink(volume: Resource, megabytes: f64) -> Operation {
    let subtract = value::Scalar { value: megabytes };
    Operation {
        shrink_volume: Some(ShrinkVolume { volume, subtract }),
        ..of(Type::ShrinkVolume)
    }
}

/// Launches tasks, each for itself.
pub fn launch(task_infos: Vec<TaskInfo>) -> Operation {
    Operation {
        launch: Some(Launch { task_infos }),
        ..of(Type::Launch)
    }
}

/// Launches tasks that live and end together, in one executor.
pub fn launch_group(executor: ExecutorInfo, tasks: Vec<TaskInfo>) -> Operation {
    let task_group = TaskGroupInfo { tasks };
    Operation {
        launch_group: Some(operation::LaunchGroup {
            executor,
            task_group,
        }),
        ..of(Type::LaunchGroup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_core::resources::operation::conversions;
    use dcos_core::resources::{ResourceExt, Resources, scalar_resource};

    #[test]
    fn they_are_what_the_master_understands() {
        let disk = reserved_for(scalar_resource("disk", 8.0), "db", Some("me"));
        let data = volume(disk.clone(), "v", Some("me"), "data");
        let start = Resources::parse("disk:10").unwrap();
        let step = |held: Resources, operation: Operation| {
            held.convert_all(&conversions(&operation).unwrap()).unwrap()
        };
        let held = step(start.clone(), reserve(vec![disk.clone()]));
        let held = step(held, create(vec![data.clone()]));
        let held = step(held, shrink(data.clone(), 3.0));
        let smaller = reserved_for(scalar_resource("disk", 5.0), "db", Some("me"));
        let held = step(
            held,
            destroy(vec![volume(smaller, "v", Some("me"), "data")]),
        );
        let end = step(held, unreserve(vec![disk]));
        assert_eq!(end, start);
        assert!(shared(data).is_shared());
    }
}
