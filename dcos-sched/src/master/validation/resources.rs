//! Rules about the resources of a task or an executor.

use dcos_core::ids;
use dcos_core::resources::display::Shown;
use dcos_core::resources::{Ranges, ResourceExt, Resources, validate_all};
use dcos_proto::mesos::Resource;

use super::task::Check;

/// Each resource on its own.
pub(super) fn resources(resources: &[Resource]) -> Check {
    validate_all(resources).map_err(|error| format!("Invalid resources: {error}"))?;
    for resource in resources {
        let amount = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
        if resource.name == "gpus" && amount.fract() != 0.0 {
            return Err(
                "Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer"
                    .to_owned(),
            );
        }
    }
    for resource in resources {
        disk(resource).map_err(|error| format!("Invalid DiskInfo: {error}"))?;
    }
    for resource in resources {
        if resource.is_dynamically_reserved() && resource.is_revocable() {
            return Err(format!(
                "Invalid ReservationInfo: Dynamically reserved resource {} cannot be created from revocable resources",
                Shown(resource)
            ));
        }
    }
    Ok(())
}

/// A volume is persistent and reserved.
fn disk(resource: &Resource) -> Check {
    let Some(disk) = &resource.disk else {
        return Ok(());
    };
    let Some(persistence) = &disk.persistence else {
        return match (&disk.volume, &disk.source) {
            (Some(_), _) => Err("Non-persistent volume not supported".to_owned()),
            (None, None) => Err("DiskInfo is set but empty".to_owned()),
            (None, Some(_)) => Ok(()),
        };
    };
    if resource.is_revocable() {
        return Err("Persistent volumes cannot be created from revocable resources".to_owned());
    }
    if resource.is_unreserved() {
        return Err("Persistent volumes cannot be created from unreserved resources".to_owned());
    }
    let Some(volume) = &disk.volume else {
        return Err("Expecting 'volume' to be set for persistent volume".to_owned());
    };
    if volume.host_path.is_some() {
        return Err("Expecting 'host_path' to be unset for persistent volume".to_owned());
    }
    ids::validate(&persistence.id)
        .map_err(|error| format!("Invalid persistence ID for persistent volume: {error}"))
}

/// All belong to the agent itself, or all to one resource provider.
pub(super) fn one_provider(resources: &[Resource]) -> Check {
    let providers: std::collections::BTreeSet<_> = resources
        .iter()
        .map(|resource| resource.provider_id.as_ref().map(|id| &*id.value))
        .collect();
    if providers.len() == 1 {
        return Ok(());
    }
    if providers.contains(&None) {
        return Err("Some resources have a resource provider and some do not".to_owned());
    }
    let named: Vec<&str> = providers.into_iter().flatten().collect();
    Err(format!(
        "The resources have multiple resource providers: {}",
        named.join(", ")
    ))
}

/// No two different volumes of a role share an id.
pub(super) fn all_volumes_differ(resources: &Resources) -> Check {
    let volumes: Vec<Resource> = resources
        .iter()
        .filter(|resource| resource.is_persistent_volume())
        .map(|volume| Resource {
            shared: None,
            ..volume.clone()
        })
        .collect();
    unique_persistence(&volumes)
}

/// All are allocated to the same role.
pub(super) fn one_role(resources: &[Resource]) -> Check {
    let mut role: Option<&str> = None;
    for resource in resources {
        let own = resource
            .allocation_info
            .as_ref()
            .and_then(|allocation| allocation.role.as_deref());
        let Some(own) = own else {
            return Err("The resources are not allocated to a role".to_owned());
        };
        let first = *role.get_or_insert(own);
        if first != own {
            return Err(format!(
                "The resources have multiple allocation roles ('{own}' and '{first}') but only one allocation role is allowed"
            ));
        }
    }
    Ok(())
}

/// No two volumes of a role share an id.
pub(super) fn unique_persistence(resources: &[Resource]) -> Check {
    let mut seen = std::collections::BTreeSet::new();
    for resource in resources
        .iter()
        .filter(|resource| resource.shared.is_none())
    {
        let id = resource
            .disk
            .as_ref()
            .and_then(|disk| disk.persistence.as_ref())
            .map(|persistence| &persistence.id);
        let role = resource
            .reservations
            .last()
            .and_then(|reservation| reservation.role.as_ref());
        if let Some(id) = id
            && !seen.insert((role, id))
        {
            return Err(format!("Persistence ID '{id}' is not unique"));
        }
    }
    Ok(())
}

/// Revocable and other amounts of one kind do not mix.
pub(super) fn unmixed(resources: &[Resource]) -> Check {
    let mixed = resources.iter().find(|one| {
        one.revocable.is_some()
            && resources
                .iter()
                .any(|other| other.name == one.name && other.revocable.is_none())
    });
    match mixed {
        Some(one) => Err(format!(
            "Cannot use both revocable and non-revocable '{}' at the same time",
            one.name
        )),
        None => Ok(()),
    }
}

/// Whether ranges of different parts share an element.
pub(super) fn overlap<'a>(parts: impl Iterator<Item = &'a [Resource]>) -> bool {
    let mut together = Resources::default();
    for part in parts {
        for resource in part {
            let Some(ranges) = &resource.ranges else {
                continue;
            };
            let known = together.ranges(&resource.name);
            if known.minus(&Ranges::from_proto(ranges)) != known {
                return true;
            }
        }
        together += &Resources::from(part);
    }
    false
}
