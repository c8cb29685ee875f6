//! Whether an offer operation can be carried out.
//!
//! Source: Mesos 1.11 `validateAndUpgradeResources` (`src/common/resources_utils.cpp`) and the
//! namespace `operation` of `src/master/validation.cpp`.

use dcos_core::resources::display::Shown;
use dcos_core::resources::operation::without_volume;
use dcos_core::resources::{ResourceExt, Resources, Scalar, validate, validate_all};
use dcos_proto::mesos::agent_info::capability::Type as AgentCapability;
use dcos_proto::mesos::framework_info::capability::Type as FrameworkCapability;
use dcos_proto::mesos::offer::{Operation, operation, operation::Type};
use dcos_proto::mesos::resource::disk_info::source::Type as Disk;
use dcos_proto::mesos::{Resource, volume};

use super::resources::{all_volumes_differ, one_provider, one_role, resources};
use super::task::Check;
use crate::master::{Agent, Framework};

/// Whether an operation has what its type needs, and its resources make sense on their own.
pub(crate) fn form(operation: &Operation) -> Check {
    let lacks = |name: &str, article: &str, dot: &str| {
        let field = name.to_lowercase();
        Err(format!(
            "{article} {name} offer operation must have the Offer.Operation.{field} field set{dot}"
        ))
    };
    let valid = |all: &[Resource]| validate_all(all).map_err(|error| error.to_string());
    let valid_one = |one: &Resource| validate(one).map_err(|error| error.to_string());
    match operation.r#type() {
        Type::Reserve => match &operation.reserve {
            Some(reserve) => {
                valid(&reserve.resources)?;
                valid(&reserve.source)
            }
            None => lacks("RESERVE", "A", "."),
        },
        Type::Unreserve => match &operation.unreserve {
            Some(unreserve) => valid(&unreserve.resources),
            None => lacks("UNRESERVE", "An", "."),
        },
        Type::Create => match &operation.create {
            Some(create) => valid(&create.volumes),
            None => lacks("CREATE", "A", "."),
        },
        Type::Destroy => match &operation.destroy {
            Some(destroy) => valid(&destroy.volumes),
            None => lacks("DESTROY", "A", "."),
        },
        Type::GrowVolume => match &operation.grow_volume {
            Some(grow) => {
                valid_one(&grow.volume)?;
                valid_one(&grow.addition)
            }
            None => Err(
                "A GROW_VOLUME operation must have the Offer.Operation.grow_volume field set"
                    .to_owned(),
            ),
        },
        Type::ShrinkVolume => match &operation.shrink_volume {
            Some(shrink) => valid_one(&shrink.volume),
            None => lacks("SHRINK_VOLUME", "A", ""),
        },
        Type::CreateDisk => match &operation.create_disk {
            Some(create) => valid_one(&create.source),
            None => lacks("CREATE_DISK", "A", "."),
        },
        Type::DestroyDisk => match &operation.destroy_disk {
            Some(destroy) => valid_one(&destroy.source),
            None => lacks("DESTROY_DISK", "A", "."),
        },
        Type::Launch => match &operation.launch {
            Some(launch) => launch.task_infos.iter().try_for_each(|task| {
                valid(&task.resources)?;
                let executor = task.executor.as_ref();
                executor.map_or(Ok(()), |executor| valid(&executor.resources))
            }),
            None => lacks("LAUNCH", "A", "."),
        },
        Type::LaunchGroup => match &operation.launch_group {
            Some(group) => {
                valid(&group.executor.resources)?;
                group.task_group.tasks.iter().try_for_each(|task| {
                    valid(&task.resources)?;
                    let executor = task.executor.as_ref();
                    executor.map_or(Ok(()), |executor| valid(&executor.resources))
                })
            }
            None => lacks("LAUNCH_GROUP", "A", "."),
        },
        Type::Unknown => Err("Unknown offer operation".to_owned()),
    }
}

/// Who wants an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Actor<'a> {
    /// A framework, on resources it was offered.
    Framework(&'a Framework),
    /// An operator, on resources nobody holds, under this principal if any.
    Operator(Option<&'a str>),
}

impl<'a> Actor<'a> {
    fn principal(self) -> Option<&'a str> {
        match self {
            Self::Framework(framework) => framework.info.principal.as_deref(),
            Self::Operator(principal) => principal,
        }
    }

    fn framework(self) -> Option<&'a Framework> {
        match self {
            Self::Framework(framework) => Some(framework),
            Self::Operator(_) => None,
        }
    }
}

/// Whether an operation of a sound [`form`], with refined resources, may be carried out on an
/// agent.
pub(crate) fn operation(operation: &Operation, actor: Actor<'_>, agent: &Agent) -> Check {
    if let Some(reserve) = &operation.reserve {
        self::reserve(reserve, actor, agent)?;
    }
    if let Some(unreserve) = &operation.unreserve {
        self::unreserve(unreserve)?;
    }
    if let Some(create) = &operation.create {
        self::create(create, actor, agent)?;
    }
    if let Some(destroy) = &operation.destroy {
        self::destroy(destroy, agent)?;
    }
    if let Some(grow) = &operation.grow_volume {
        grow_volume(grow, agent)?;
    }
    if let Some(shrink) = &operation.shrink_volume {
        shrink_volume(shrink, agent)?;
    }
    if let Some(create) = &operation.create_disk {
        create_disk(create)?;
    }
    if let Some(destroy) = &operation.destroy_disk {
        destroy_disk(destroy)?;
    }
    Ok(())
}

fn reserve(reserve: &operation::Reserve, actor: Actor<'_>, agent: &Agent) -> Check {
    resources(&reserve.resources).map_err(|error| format!("Invalid resources: {error}"))?;
    resources(&reserve.source).map_err(|error| format!("Invalid source: {error}"))?;
    if !reserve.source.is_empty() {
        reserved_alike(&reserve.source).map_err(|error| format!("Invalid source: {error}"))?;
        reserved_alike(&reserve.resources)
            .map_err(|error| format!("Invalid resources: {error}"))?;
        let source = Resources::from(&reserve.source).to_unreserved();
        let target = Resources::from(&reserve.resources).to_unreserved();
        if source != target {
            return Err(format!(
                "Source and target resources should refer to identical resource quantities: \
                 {source} vs. {target}"
            ));
        }
    }
    one_provider(&reserve.resources).map_err(|error| format!("Invalid resources: {error}"))?;
    for resource in &reserve.resources {
        let shown = Shown(resource);
        if !resource.is_dynamically_reserved() {
            return Err(format!("Resource {shown} is not dynamically reserved"));
        }
        let role = resource.reservation_role().unwrap_or_default();
        if !agent.has(AgentCapability::HierarchicalRole) && role.contains('/') {
            return Err(format!(
                "Resource {shown} with reservation for hierarchical role '{role}' cannot be \
                 reserved on an agent without HIERARCHICAL_ROLE capability"
            ));
        }
        if !agent.has(AgentCapability::ReservationRefinement) && resource.has_refined_reservations()
        {
            return Err(format!(
                "Resource {shown} with reservation refinement cannot be reserved on an agent \
                 without RESERVATION_REFINEMENT capability"
            ));
        }
        if let Some(principal) = actor.principal() {
            reserved_by(resource, principal)?;
        }
        match actor.framework() {
            Some(framework) => reserved_for(resource, role, framework)?,
            None if resource.allocation_info.is_some() => {
                return Err(
                    "A reserve operation was attempted with an allocated resource, but the \
                     operator API only allows reservations to be made to unallocated resources"
                        .to_owned(),
                );
            }
            None => {}
        }
    }
    if actor.framework().is_some() {
        one_role(&reserve.resources)
            .map_err(|error| format!("Invalid reservation resources: {error}"))?;
    }
    Ok(())
}

/// All have the same stack of reservations.
fn reserved_alike(resources: &[Resource]) -> Check {
    let Some(first) = resources.first() else {
        return Err("Resource cannot be empty".to_owned());
    };
    if resources
        .iter()
        .any(|resource| resource.reservations != first.reservations)
    {
        let shown = Resources::from(resources);
        return Err(format!("Mixed reservations are not supported{shown}"));
    }
    Ok(())
}

fn reserved_by(resource: &Resource, principal: &str) -> Check {
    let own = resource
        .reservations
        .last()
        .and_then(|reservation| reservation.principal.as_deref());
    match own {
        None => Err(format!(
            "A reserve operation was attempted by principal '{principal}', but there is a reserved \
             resource in the request with no principal set"
        )),
        Some(own) if own != principal => Err(format!(
            "A reserve operation was attempted by authenticated principal '{principal}', which \
             does not match a reserved resource in the request with principal '{own}'"
        )),
        Some(_) => Ok(()),
    }
}

fn reserved_for(resource: &Resource, role: &str, framework: &Framework) -> Check {
    let shown = Shown(resource);
    let Some(allocated) = resource.allocation_role() else {
        return Err(format!(
            "A reserve operation was attempted on unallocated resource {shown}, but frameworks can \
             only perform reservations on allocated resources"
        ));
    };
    if allocated != role {
        return Err(format!(
            "A reserve operation was attempted for a resource with role '{role}', but the resource \
             was allocated to role '{allocated}'"
        ));
    }
    let roles = framework.roles();
    if !roles.iter().any(|own| own == allocated) {
        let all = format!("{{ {} }}", roles.join(", "));
        return Err(format!(
            "A reserve operation was attempted for a resource allocated to role '{allocated}', but \
             the framework only has roles '{all}'"
        ));
    }
    Ok(())
}

fn unreserve(unreserve: &operation::Unreserve) -> Check {
    resources(&unreserve.resources).map_err(|error| format!("Invalid resources: {error}"))?;
    one_provider(&unreserve.resources).map_err(|error| format!("Invalid resources: {error}"))?;
    for resource in &unreserve.resources {
        let shown = Shown(resource);
        if !resource.is_dynamically_reserved() {
            return Err(format!("Resource {shown} is not dynamically reserved"));
        }
        if resource.is_persistent_volume() {
            return Err(format!(
                "A dynamically reserved persistent volume {shown} cannot be unreserved directly. \
                 Please destroy the persistent volume first then unreserve the resource"
            ));
        }
    }
    Ok(())
}

/// All are persistent volumes that can be written to.
fn volumes(volumes: &[Resource]) -> Check {
    for resource in volumes {
        let Some(disk) = &resource.disk else {
            return Err(format!(
                "Resource {} does not have DiskInfo",
                Shown(resource)
            ));
        };
        if disk.persistence.is_none() {
            return Err("'persistence' is not set in DiskInfo".to_owned());
        }
        let Some(mounted) = &disk.volume else {
            return Err("Expecting 'volume' to be set for persistent volume".to_owned());
        };
        if mounted.mode() == volume::Mode::Ro {
            return Err("Read-only persistent volume not supported".to_owned());
        }
    }
    Ok(())
}

fn create(create: &operation::Create, actor: Actor<'_>, agent: &Agent) -> Check {
    resources(&create.volumes).map_err(|error| format!("Invalid resources: {error}"))?;
    one_provider(&create.volumes).map_err(|error| format!("Invalid resources: {error}"))?;
    volumes(&create.volumes).map_err(|error| format!("Not a persistent volume: {error}"))?;
    let wanted = Resources::from(&create.volumes).unallocated();
    all_volumes_differ(&(&agent.total.checkpointed() + &wanted))?;
    for resource in &create.volumes {
        let shown = Shown(resource);
        if let Some(framework) = actor.framework()
            && resource.is_shared()
            && !framework.has(FrameworkCapability::SharedResources)
        {
            return Err(format!(
                "Create volume operation for '{shown}' has been attempted by framework '{}' with \
                 no SHARED_RESOURCES capability",
                framework.id()
            ));
        }
        let role = resource.reservation_role().unwrap_or_default();
        if !agent.has(AgentCapability::HierarchicalRole) && role.contains('/') {
            return Err(format!(
                "Volume {shown} with reservation for hierarchical role '{role}' cannot be created \
                 on an agent without HIERARCHICAL_ROLE capability"
            ));
        }
        if !agent.has(AgentCapability::ReservationRefinement) && resource.has_refined_reservations()
        {
            return Err(format!(
                "Volume {shown} with reservation refinement cannot be created on an agent without \
                 RESERVATION_REFINEMENT capability"
            ));
        }
        if let Some(principal) = actor.principal() {
            created_by(resource, principal)?;
        }
    }
    if actor.framework().is_some() {
        one_role(&create.volumes).map_err(|error| format!("Invalid volume resources: {error}"))?;
    }
    Ok(())
}

fn created_by(resource: &Resource, principal: &str) -> Check {
    let persistence = resource
        .disk
        .as_ref()
        .and_then(|disk| disk.persistence.as_ref());
    match persistence.and_then(|persistence| persistence.principal.as_deref()) {
        None => Err(format!(
            "Create volume operation attempted by principal '{principal}', but there is a volume \
             in the operation with no principal set in 'disk.persistence'"
        )),
        Some(own) if own != principal => Err(format!(
            "Create volume operation attempted by authenticated principal '{principal}', which \
             does not match a volume in the operation with principal '{own}' set in \
             'disk.persistence'"
        )),
        Some(_) => Ok(()),
    }
}

fn destroy(destroy: &operation::Destroy, agent: &Agent) -> Check {
    let plain: Vec<Resource> = destroy
        .volumes
        .iter()
        .map(|volume| Resource {
            allocation_info: None,
            ..volume.clone()
        })
        .collect();
    resources(&plain).map_err(|error| format!("Invalid resources: {error}"))?;
    one_provider(&plain).map_err(|error| format!("Invalid resources: {error}"))?;
    volumes(&plain).map_err(|error| format!("Not a persistent volume: {error}"))?;
    let kept = agent.total.checkpointed();
    let unknown =
        |volume: &&Resource| volume.provider_id.is_none() && !kept.contains_message(volume);
    if plain.iter().any(|volume| unknown(&volume)) {
        return Err("Persistent volumes not found".to_owned());
    }
    for used in agent.used.values() {
        let used = used.unallocated();
        if plain.iter().any(|volume| used.contains_message(volume)) {
            return Err("Persistent volumes in use".to_owned());
        }
    }
    Ok(())
}

fn grow_volume(grow: &operation::GrowVolume, agent: &Agent) -> Check {
    validate(&grow.volume)
        .map_err(|error| format!("Invalid resource in the 'GrowVolume.volume' field: {error}"))?;
    validate(&grow.addition)
        .map_err(|error| format!("Invalid resource in the 'GrowVolume.addition' field: {error}"))?;
    if grow.addition.scalar_value().unwrap_or_default() <= Scalar::ZERO {
        return Err("The size of 'GrowVolume.addition' field must be greater than zero".to_owned());
    }
    if grow.volume.provider_id.is_some() {
        return Err("Growing a volume from a resource provider is not supported".to_owned());
    }
    volumes(std::slice::from_ref(&grow.volume)).map_err(|error| {
        format!("Invalid persistent volume in the 'GrowVolume.volume' field: {error}")
    })?;
    if grow.volume.is_shared() {
        return Err("Growing a shared persistent volume is not supported".to_owned());
    }
    let together = Resources::from_messages([&without_volume(&grow.volume), &grow.addition]);
    if together.len() != 1 {
        return Err(
            "Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields"
                .to_owned(),
        );
    }
    if !agent.has(AgentCapability::ResizeVolume) {
        return Err(format!(
            "Volume {} cannot be grown on an agent without RESIZE_VOLUME capability",
            Shown(&grow.volume)
        ));
    }
    Ok(())
}

fn shrink_volume(shrink: &operation::ShrinkVolume, agent: &Agent) -> Check {
    validate(&shrink.volume)
        .map_err(|error| format!("Invalid resource in the 'ShrinkVolume.volume' field: {error}"))?;
    let less = Scalar::from_f64(shrink.subtract.value);
    if less <= Scalar::ZERO {
        return Err("Value of 'ShrinkVolume.subtract' must be greater than zero".to_owned());
    }
    if shrink.volume.scalar_value().unwrap_or_default() <= less {
        return Err(
            "Value of 'ShrinkVolume.subtract' must be smaller than the size of \
             'ShrinkVolume.volume'"
                .to_owned(),
        );
    }
    if shrink.volume.provider_id.is_some() {
        return Err("Shrinking a volume from a resource provider is not supported".to_owned());
    }
    if shrink.volume.is_disk(Disk::Mount) {
        return Err("Shrinking a volume on a MOUNT disk is not supported".to_owned());
    }
    volumes(std::slice::from_ref(&shrink.volume)).map_err(|error| {
        format!("Invalid persistent volume in the 'ShrinkVolume.volume' field: {error}")
    })?;
    if shrink.volume.is_shared() {
        return Err("Shrinking a shared persistent volume is not supported".to_owned());
    }
    if !agent.has(AgentCapability::ResizeVolume) {
        return Err(format!(
            "Volume {} cannot be shrunk on an agent without RESIZE_VOLUME capability",
            Shown(&shrink.volume)
        ));
    }
    Ok(())
}

fn create_disk(create: &operation::CreateDisk) -> Check {
    let source = &create.source;
    resources(std::slice::from_ref(source))
        .map_err(|error| format!("Invalid resource: {error}"))?;
    if source.provider_id.is_none() {
        return Err("'source' is not managed by a resource provider".to_owned());
    }
    if !source.is_disk(Disk::Raw) {
        return Err("'source' is not a RAW disk resource".to_owned());
    }
    if !matches!(create.target_type(), Disk::Mount | Disk::Block) {
        return Err("'target_type' is neither MOUNT or BLOCK".to_owned());
    }
    let has_profile = source
        .disk
        .as_ref()
        .and_then(|disk| disk.source.as_ref())
        .is_some_and(|disk| disk.profile.is_some());
    match (has_profile, create.target_profile.is_some()) {
        (true, true) => {
            Err("'target_profile' must not be set when 'source' has a profile".to_owned())
        }
        (false, false) => {
            Err("'target_profile' must be set when 'source' has no profile".to_owned())
        }
        _ => Ok(()),
    }
}

fn destroy_disk(destroy: &operation::DestroyDisk) -> Check {
    let source = &destroy.source;
    resources(std::slice::from_ref(source))
        .map_err(|error| format!("Invalid resource: {error}"))?;
    if source.provider_id.is_none() {
        return Err("'source' is not managed by a resource provider".to_owned());
    }
    if ![Disk::Mount, Disk::Block, Disk::Raw]
        .into_iter()
        .any(|kind| source.is_disk(kind))
    {
        return Err("'source' is neither a MOUNT, BLOCK or RAW disk resource".to_owned());
    }
    let id = source
        .disk
        .as_ref()
        .and_then(|disk| disk.source.as_ref()?.id.as_ref());
    if id.is_none() {
        return Err("'source' is not backed by a CSI volume".to_owned());
    }
    if source.is_persistent_volume() {
        return Err(format!(
            "A disk resource containing a persistent volume {} cannot be destroyed directly. \
             Please destroy the persistent volume first then destroy the disk resource",
            Shown(source)
        ));
    }
    Ok(())
}
