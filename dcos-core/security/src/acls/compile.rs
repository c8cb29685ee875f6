//! From Mesos's message with its 56 lists to one table.

use std::collections::BTreeMap;

use dcos_proto::mesos::{AcLs, acl};
use serde_json::Value;

use super::{AclsError, Entity, Line, PATHS};
use crate::Action;

type Lists = BTreeMap<Action, Vec<Line>>;

/// Each list: its name in the file, its objects, whose rules it holds, and the name of its message
/// if its objects are nameless.
macro_rules! table {
    ($mac:ident!($($extra:tt)*)) => {
        $mac! { $($extra)*
            register_frameworks roles RegisterFramework,
            run_tasks users RunTask,
            reserve_resources roles ReserveResources,
            unreserve_resources reserver_principals UnreserveResources,
            create_volumes roles CreateVolume,
            destroy_volumes creator_principals DestroyVolume,
            teardown_frameworks framework_principals TeardownFramework,
            update_weights roles UpdateWeight,
            get_endpoints paths GetEndpointWithPath,
            get_quotas roles GetQuota,
            update_quotas roles UpdateQuota,
            view_frameworks users ViewFramework,
            view_tasks users ViewTask,
            view_executors users ViewExecutor,
            access_sandboxes users AccessSandbox,
            access_mesos_logs logs AccessMesosLog,
            view_roles roles ViewRole,
            view_flags flags ViewFlags,
            launch_nested_containers_as_user users LaunchNestedContainer,
            kill_nested_containers users KillNestedContainer,
            wait_nested_containers users WaitNestedContainer,
            launch_nested_container_sessions_as_user users LaunchNestedContainerSession,
            attach_containers_input users AttachContainerInput,
            attach_containers_output users AttachContainerOutput,
            view_containers users ViewContainer,
            set_log_level level SetLogLevel,
            remove_nested_containers users RemoveNestedContainer,
            register_agents agents RegisterAgent,
            update_maintenance_schedules machines UpdateMaintenanceSchedule,
            get_maintenance_schedules machines GetMaintenanceSchedule,
            start_maintenances machines StartMaintenance,
            stop_maintenances machines StopMaintenance,
            get_maintenance_statuses machines GetMaintenanceStatus,
            mark_agents_gone agents MarkAgentGone,
            launch_standalone_containers users LaunchStandaloneContainer,
            kill_standalone_containers users KillStandaloneContainer,
            wait_standalone_containers users WaitStandaloneContainer,
            remove_standalone_containers users RemoveStandaloneContainer,
            modify_resource_provider_configs resource_providers ModifyResourceProviderConfig,
            view_standalone_containers users ViewStandaloneContainer,
            prune_images images PruneImages,
            resize_volumes roles ResizeVolume,
            create_block_disks roles CreateBlockDisk,
            destroy_block_disks roles DestroyBlockDisk,
            create_mount_disks roles CreateMountDisk,
            destroy_mount_disks roles DestroyMountDisk,
            view_resource_providers resource_providers ViewResourceProvider,
            mark_resource_providers_gone resource_providers MarkResourceProviderGone,
            destroy_raw_disks roles DestroyRawDisk,
            drain_agents agents DrainAgent,
            deactivate_agents agents DeactivateAgent,
            reactivate_agents agents ReactivateAgent,
        }
    };
}

macro_rules! compile {
    ($message:ident, $lists:ident, $($list:ident $objects:ident $action:ident,)+) => {
        $($lists.insert(Action::$action, $message.$list.iter()
            .map(|line| line_of(&line.principals, &line.$objects)).collect());)+
    };
}

macro_rules! names {
    ($($list:ident $objects:ident $action:ident,)+) => { &[$(stringify!($list),)+] };
}

const NAMES: &[&str] = table!(names!());

const PARENTS: [&str; 2] = [
    "launch_nested_containers_under_parent_with_user",
    "launch_nested_container_sessions_under_parent_with_user",
];

/// The rules of every action, and those for the parents of nested containers.
pub(super) fn lists(message: &AcLs) -> (Lists, Lists) {
    let mut lists = Lists::new();
    table!(compile!(message, lists,));
    let updates = lists.get(&Action::UpdateQuota).cloned();
    lists.insert(Action::UpdateQuotaWithConfig, updates.unwrap_or_default());
    let parents = [
        (
            Action::LaunchNestedContainer,
            message
                .launch_nested_containers_under_parent_with_user
                .iter()
                .map(|line| line_of(&line.principals, &line.users))
                .collect(),
        ),
        (
            Action::LaunchNestedContainerSession,
            message
                .launch_nested_container_sessions_under_parent_with_user
                .iter()
                .map(|line| line_of(&line.principals, &line.users))
                .collect(),
        ),
    ];
    (lists, parents.into())
}

fn line_of(principals: &acl::Entity, objects: &acl::Entity) -> Line {
    Line {
        principals: entity(principals),
        objects: entity(objects),
    }
}

fn entity(entity: &acl::Entity) -> Entity {
    match entity.r#type() {
        acl::entity::Type::Some => Entity::Some(entity.values.clone()),
        acl::entity::Type::Any => Entity::Any,
        acl::entity::Type::None => Entity::None,
    }
}

/// Refuses what reading would ignore: lists and types that do not exist.
pub(super) fn check_names(value: &Value) -> Result<(), AclsError> {
    for (name, list) in value.as_object().into_iter().flatten() {
        let known = NAMES.contains(&name.as_str()) || PARENTS.contains(&name.as_str());
        if !known && name != "permissive" {
            let name = name.clone();
            return Err(AclsError::Unknown { name });
        }
        let entities = list.as_array().into_iter().flatten();
        for entity in entities.flat_map(|line| line.as_object().into_iter().flatten()) {
            let kind = entity.1.get("type").and_then(Value::as_str);
            if let Some(name) = kind.filter(|name| !["SOME", "ANY", "NONE"].contains(name)) {
                let name = name.to_owned();
                return Err(AclsError::Type { name });
            }
        }
    }
    Ok(())
}

/// Lists whose objects are not told apart, by the names their messages have in errors.
const NAMELESS: [(Action, &str); 17] = [
    (Action::AccessMesosLog, "AccessMesosLog"),
    (Action::ViewFlags, "ViewFlags"),
    (Action::SetLogLevel, "SetLogLevel"),
    (Action::RegisterAgent, "RegisterAgent"),
    (
        Action::UpdateMaintenanceSchedule,
        "UpdateMaintenanceSchedule",
    ),
    (Action::GetMaintenanceSchedule, "GetMaintenanceSchedule"),
    (Action::StartMaintenance, "StartMaintenance"),
    (Action::StopMaintenance, "StopMaintenance"),
    (Action::GetMaintenanceStatus, "GetMaintenanceStatus"),
    (Action::DrainAgent, "DrainAgent"),
    (Action::DeactivateAgent, "DeactivateAgent"),
    (Action::ReactivateAgent, "ReactivateAgent"),
    (Action::MarkAgentGone, "MarkAgentGone"),
    (
        Action::ModifyResourceProviderConfig,
        "ModifyResourceProviderConfig",
    ),
    (
        Action::MarkResourceProviderGone,
        "MarkResourceProvidersGone",
    ),
    (Action::ViewResourceProvider, "ViewResourceProvider"),
    (Action::PruneImages, "PruneImages"),
];

/// Refuses objects that are never asked about.
pub(super) fn check_objects(lists: &Lists) -> Result<(), AclsError> {
    for (action, list) in NAMELESS {
        let mut lines = lists.get(&action).into_iter().flatten();
        if lines.any(|line| matches!(line.objects, Entity::Some(_))) {
            return Err(AclsError::Nameless { list });
        }
    }
    let endpoints = lists.get(&Action::GetEndpointWithPath);
    for line in endpoints.into_iter().flatten() {
        if let Entity::Some(paths) = &line.objects {
            let mut unknown = paths.iter().filter(|path| !PATHS.contains(&path.as_str()));
            if let Some(path) = unknown.next() {
                let path = path.clone();
                return Err(AclsError::Path { path });
            }
        }
    }
    Ok(())
}
