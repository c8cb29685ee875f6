//! What offer operations do to resources.
//!
//! RESERVE, UNRESERVE, CREATE, DESTROY, `GROW_VOLUME` and `SHRINK_VOLUME` exchange some resources
//! for others of the same amount: each is a list of [`Conversion`]s. Their outcome is known
//! beforehand, so master and agent book it at once. `CREATE_DISK` and `DESTROY_DISK` are a resource
//! provider's work; nobody but it knows what comes out.
//!
//! Source: Mesos 1.11 `getResourceConversions` and `applyCheckpointedResources`
//! (`common/resources_utils.cpp`), `getConsumedResources` (`common/protobuf_utils.cpp`).

use dcos_proto::mesos::offer::{Operation, operation::Type};
use dcos_proto::mesos::resource::reservation_info;
use dcos_proto::mesos::{Resource, ResourceProviderId};

use super::Resources;
use super::convert::upgrade;
use super::display::Shown;
use super::resource::{ResourceExt, scalar, set_scalar};
use super::value::Scalar;

/// An exchange of resources for others.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// What is used up.
    pub consumed: Resources,
    /// What comes of it.
    pub converted: Resources,
    /// A volume of which nothing may be left afterwards: somebody else would still use it.
    pub destroyed: Option<Resource>,
}

impl Conversion {
    /// An exchange without further conditions.
    pub const fn new(consumed: Resources, converted: Resources) -> Self {
        Self {
            consumed,
            converted,
            destroyed: None,
        }
    }

    /// The exchange that takes this one back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self::new(self.converted.clone(), self.consumed.clone())
    }
}

/// Why an operation cannot be applied. Messages are Mesos's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Inapplicable {
    /// Its type is none there is.
    #[error("Unknown operation")]
    Unknown,
    /// It has no outcome that could be booked beforehand.
    #[error("Operation not supported")]
    Unsupported,
    /// It does not exist for resources of a provider.
    #[error("Operation not supported for resource provider")]
    Provider,
    /// What it uses up is not there.
    #[error("{held} does not contain {wanted}")]
    Missing {
        /// What is there.
        held: String,
        /// What it wants.
        wanted: String,
    },
    /// A volume is to be destroyed that somebody else still uses.
    #[error("Persistent volume {0} cannot be removed due to additional shared copies")]
    StillShared(String),
}

/// What was kept of an agent does not fit what it has now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incompatible {
    /// Something that is not kept: no dynamic reservation and no volume.
    #[error("Unexpected checkpointed resources {0}")]
    Unexpected(String),
    /// What it was made of is no longer there.
    #[error("Incompatible agent resources: {total} does not contain {wanted}")]
    Missing {
        /// What is left of what the agent has.
        total: String,
        /// What something that was kept is made of.
        wanted: String,
    },
}

/// The conversions an operation consists of, in order. Its resources are valid and refined.
///
/// # Errors
/// [`Inapplicable`] for an operation whose outcome only a resource provider knows, or that is
/// none.
pub fn conversions(operation: &Operation) -> Result<Vec<Conversion>, Inapplicable> {
    let one = |resource: &Resource| Resources::from_messages([resource]);
    Ok(match operation.r#type() {
        Type::Unknown => return Err(Inapplicable::Unknown),
        Type::Launch | Type::LaunchGroup | Type::CreateDisk | Type::DestroyDisk => {
            return Err(Inapplicable::Unsupported);
        }
        Type::Reserve => {
            let reserve = operation.reserve.clone().unwrap_or_default();
            let converted = Resources::from(&reserve.resources);
            let consumed = if reserve.source.is_empty() {
                converted.pop_reservation()
            } else {
                Resources::from(&reserve.source)
            };
            vec![Conversion::new(consumed, converted)]
        }
        Type::Unreserve => listed(operation)
            .into_iter()
            .map(|reserved| Conversion::new(one(reserved), one(reserved).pop_reservation()))
            .collect(),
        Type::Create => listed(operation)
            .into_iter()
            .map(|volume| Conversion::new(one(&without_volume(volume)), one(volume)))
            .collect(),
        Type::Destroy => listed(operation)
            .into_iter()
            .map(|volume| Conversion {
                destroyed: Some(volume.clone()),
                ..Conversion::new(one(volume), one(&without_volume(volume)))
            })
            .collect(),
        Type::GrowVolume => {
            let grow = operation.grow_volume.clone().unwrap_or_default();
            if grow.volume.provider_id.is_some() {
                return Err(Inapplicable::Provider);
            }
            let mut grown = grow.volume.clone();
            set_scalar(&mut grown, scalar(&grow.volume) + scalar(&grow.addition));
            let consumed = &one(&grow.volume) + &one(&grow.addition);
            vec![Conversion::new(consumed, one(&grown))]
        }
        Type::ShrinkVolume => {
            let shrink = operation.shrink_volume.clone().unwrap_or_default();
            if shrink.volume.provider_id.is_some() {
                return Err(Inapplicable::Provider);
            }
            let less = Scalar::from_f64(shrink.subtract.value);
            let mut freed = without_volume(&shrink.volume);
            set_scalar(&mut freed, less);
            let mut shrunk = shrink.volume.clone();
            set_scalar(&mut shrunk, scalar(&shrink.volume).saturating_sub(less));
            let converted = &one(&shrunk) + &one(&freed);
            vec![Conversion::new(one(&shrink.volume), converted)]
        }
    })
}

/// Everything an operation uses up, those of resource providers included.
///
/// # Errors
/// [`Inapplicable`] for launches and for what is no operation.
pub fn consumed(operation: &Operation) -> Result<Resources, Inapplicable> {
    match operation.r#type() {
        Type::CreateDisk | Type::DestroyDisk => Ok(Resources::from_messages(listed(operation))),
        _ => {
            let mut total = Resources::new();
            for conversion in conversions(operation)? {
                total += &conversion.consumed;
            }
            Ok(total)
        }
    }
}

/// Whether its outcome is known beforehand.
pub fn is_speculative(kind: Type) -> bool {
    matches!(
        kind,
        Type::Reserve
            | Type::Unreserve
            | Type::Create
            | Type::Destroy
            | Type::GrowVolume
            | Type::ShrinkVolume
    )
}

/// The resources an operation other than a launch names.
fn listed(operation: &Operation) -> Vec<&Resource> {
    let mut all: Vec<&Resource> = Vec::new();
    if let Some(reserve) = &operation.reserve {
        all.extend(reserve.resources.iter().chain(&reserve.source));
    }
    if let Some(unreserve) = &operation.unreserve {
        all.extend(&unreserve.resources);
    }
    if let Some(create) = &operation.create {
        all.extend(&create.volumes);
    }
    if let Some(destroy) = &operation.destroy {
        all.extend(&destroy.volumes);
    }
    if let Some(grow) = &operation.grow_volume {
        all.extend([&grow.volume, &grow.addition]);
    }
    if let Some(shrink) = &operation.shrink_volume {
        all.push(&shrink.volume);
    }
    if let Some(create) = &operation.create_disk {
        all.push(&create.source);
    }
    if let Some(destroy) = &operation.destroy_disk {
        all.push(&destroy.source);
    }
    all
}

/// Changes each resource an operation other than a launch names.
pub fn change_resources(operation: &mut Operation, mut change: impl FnMut(&mut Resource)) {
    if let Some(reserve) = &mut operation.reserve {
        reserve.resources.iter_mut().for_each(&mut change);
        reserve.source.iter_mut().for_each(&mut change);
    }
    if let Some(unreserve) = &mut operation.unreserve {
        unreserve.resources.iter_mut().for_each(&mut change);
    }
    if let Some(create) = &mut operation.create {
        create.volumes.iter_mut().for_each(&mut change);
    }
    if let Some(destroy) = &mut operation.destroy {
        destroy.volumes.iter_mut().for_each(&mut change);
    }
    if let Some(grow) = &mut operation.grow_volume {
        change(&mut grow.volume);
        change(&mut grow.addition);
    }
    if let Some(shrink) = &mut operation.shrink_volume {
        change(&mut shrink.volume);
    }
    if let Some(create) = &mut operation.create_disk {
        change(&mut create.source);
    }
    if let Some(destroy) = &mut operation.destroy_disk {
        change(&mut destroy.source);
    }
}

/// The operation on resources that are allocated to nobody, as agents book it.
#[must_use]
pub fn unallocated(operation: &Operation) -> Operation {
    let mut operation = operation.clone();
    change_resources(&mut operation, |resource| {
        upgrade(resource);
        resource.allocation_info = None;
    });
    operation
}

/// The resource provider whose resources an operation is about; `None` for the agent's own.
pub fn provider(operation: &Operation) -> Option<&ResourceProviderId> {
    listed(operation).first()?.provider_id.as_ref()
}

/// The disk a persistent volume is made of.
#[must_use]
pub fn without_volume(volume: &Resource) -> Resource {
    let mut plain = volume.clone();
    plain.shared = None;
    if let Some(disk) = &mut plain.disk {
        disk.persistence = None;
        disk.volume = None;
        if disk.source.is_none() {
            plain.disk = None;
        }
    }
    plain
}

/// Whether an agent has to keep it on disk: a reservation or volume made at run time. What
/// belongs to a resource provider is the provider's to keep.
pub fn is_checkpointed(resource: &Resource) -> bool {
    resource.provider_id.is_none()
        && (resource.is_dynamically_reserved() || resource.is_persistent_volume())
}

impl Resources {
    /// What is left after an exchange.
    ///
    /// # Errors
    /// [`Inapplicable::Missing`] or [`Inapplicable::StillShared`].
    pub fn convert(&self, conversion: &Conversion) -> Result<Self, Inapplicable> {
        let after = self
            .exchange(&conversion.consumed, &conversion.converted)
            .ok_or_else(|| Inapplicable::Missing {
                held: self.to_string(),
                wanted: conversion.consumed.to_string(),
            })?;
        match &conversion.destroyed {
            Some(volume) if after.contains_message(volume) => {
                Err(Inapplicable::StillShared(Shown(volume).to_string()))
            }
            _ => Ok(after),
        }
    }

    /// What is left after several exchanges, one after the other.
    ///
    /// # Errors
    /// As [`convert`](Self::convert), for the first that cannot be made.
    pub fn convert_all<'a>(
        &self,
        conversions: impl IntoIterator<Item = &'a Conversion>,
    ) -> Result<Self, Inapplicable> {
        conversions
            .into_iter()
            .try_fold(self.clone(), |held, conversion| held.convert(conversion))
    }

    /// Those that an agent has to keep on disk.
    #[must_use]
    pub fn checkpointed(&self) -> Self {
        self.filter(is_checkpointed)
    }

    /// Those several tasks may use at once.
    #[must_use]
    pub fn shared(&self) -> Self {
        self.filter(ResourceExt::is_shared)
    }

    /// Those one task at a time may use.
    #[must_use]
    pub fn unshared(&self) -> Self {
        self.filter(|resource| !resource.is_shared())
    }

    /// Everything an agent has, from what it was started with and what was reserved and created
    /// of it since.
    ///
    /// # Errors
    /// [`Incompatible`] if what was kept is not made of what the agent was started with.
    pub fn with_checkpointed(&self, checkpointed: &Self) -> Result<Self, Incompatible> {
        let mut total = self.clone();
        for resource in checkpointed.iter() {
            if !is_checkpointed(resource) {
                return Err(Incompatible::Unexpected(Shown(resource).to_string()));
            }
            let mut plain = without_volume(resource);
            if resource.is_dynamically_reserved() {
                plain.reservations.truncate(1);
                plain
                    .reservations
                    .retain(|reservation| reservation.r#type() == reservation_info::Type::Static);
            }
            let plain = Self::from_messages([&plain]);
            let kept = Self::from_messages([resource]);
            total = total
                .exchange(&plain, &kept)
                .ok_or_else(|| Incompatible::Missing {
                    total: total.to_string(),
                    wanted: plain.to_string(),
                })?;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests;
