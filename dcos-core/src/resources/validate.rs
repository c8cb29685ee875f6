//! Whether a resource makes sense, before it is believed. Messages are Mesos's, since frameworks
//! and operators receive them.

use dcos_proto::mesos::resource::disk_info::source;
use dcos_proto::mesos::resource::{ReservationInfo, reservation_info};
use dcos_proto::mesos::{Labels, Resource, value};

use super::display::Shown;
use super::resource::{ResourceExt, same_labels, scalar};
use super::value::Scalar;
use crate::labels;
use crate::roles::{self, RoleError};

/// What is wrong with a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// It has no name.
    #[error("Empty resource name")]
    Name,
    /// Its type is none of those there are.
    #[error("Invalid resource type")]
    Type,
    /// A text cannot be a resource.
    #[error("Unsupported resource type")]
    Unsupported,
    /// The value does not fit the type.
    #[error("Invalid {0} resource")]
    Value(&'static str),
    /// A scalar is negative, or too small to count.
    #[error("Invalid scalar resource: value <= 0")]
    Negative,
    /// A range runs backwards.
    #[error("Invalid ranges resource: begin > end")]
    Inverted,
    /// Two ranges share a number.
    #[error("Invalid ranges resource: overlapping ranges")]
    Overlapping,
    /// A set holds an item twice.
    #[error("Invalid set resource: duplicated elements")]
    Duplicated,
    /// Something else than `disk` has disk information.
    #[error("DiskInfo should not be set for {0} resource")]
    Disk(String),
    /// A raw or block disk has a mount point or path.
    #[error("{field} should not be set for {source_type} disk source")]
    DiskSource {
        /// `Mount` or `Path`.
        field: &'static str,
        /// `RAW` or `BLOCK`.
        source_type: &'static str,
    },
    /// The type of the disk's source is unknown.
    #[error("Unsupported 'DiskInfo.Source.Type' in 'UNKNOWN'")]
    DiskSourceType,
    /// A role's name is wrong.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// The old reservation has a field of the refined one.
    #[error("'Resource.ReservationInfo.{0}' must not be set for the 'Resource.reservation' field")]
    OldReservation(&'static str),
    /// A dynamic reservation for `*`, in the old format.
    #[error("Invalid reservation: role \"*\" cannot be dynamically reserved")]
    DefaultDynamic,
    /// A refined reservation lacks a field.
    #[error("Invalid reservation: 'Resource.ReservationInfo.{0}' field must be set.")]
    Missing(&'static str),
    /// A reservation for `*`.
    #[error("Invalid reservation: role \"*\" cannot be reserved")]
    DefaultReserved,
    /// A static reservation on top of another.
    #[error("Invalid refined reservation: A refined reservation cannot be STATIC")]
    StaticRefinement,
    /// A refinement for a role that is not below the one it refines.
    #[error("Invalid refined reservation: role '{descendant}' is not a refinement of '{ancestor}'")]
    Refinement {
        /// The role of the refinement.
        descendant: String,
        /// The role of what it refines.
        ancestor: String,
    },
    /// Old and refined fields disagree.
    #[error("Invalid resource format: {0}")]
    Format(String),
    /// The type of a reservation is unknown.
    #[error("Unsupported 'Resource.ReservationInfo.Type'")]
    ReservationType,
    /// Only disks can be shared.
    #[error("Resource {0} cannot be shared")]
    Shared(String),
    /// Only persistent volumes can be shared.
    #[error("Only persistent volumes can be shared")]
    SharedDisk,
    /// One of several resources is wrong.
    #[error("Resource '{resource}' is invalid: {reason}")]
    One {
        /// The resource, as it is printed.
        resource: String,
        /// What is wrong with it.
        reason: Box<Invalid>,
    },
}

/// Checks one resource, in either format.
///
/// # Errors
/// [`Invalid`] names the first rule that is broken.
pub fn validate(resource: &Resource) -> Result<(), Invalid> {
    if resource.name.is_empty() {
        return Err(Invalid::Name);
    }
    value_fits(resource)?;
    disk_fits(resource)?;
    if resource.reservations.is_empty() {
        old_format_fits(resource)?;
    } else {
        refined_format_fits(resource)?;
    }
    if resource.is_shared() {
        if resource.name != "disk" {
            return Err(Invalid::Shared(resource.name.clone()));
        }
        if !resource.is_persistent_volume() {
            return Err(Invalid::SharedDisk);
        }
    }
    Ok(())
}

/// Checks several resources.
///
/// # Errors
/// [`Invalid::One`] for the first that is wrong.
pub fn validate_all(resources: &[Resource]) -> Result<(), Invalid> {
    resources.iter().try_for_each(|resource| {
        validate(resource).map_err(|reason| Invalid::One {
            resource: Shown(resource).to_string(),
            reason: Box::new(reason),
        })
    })
}

fn value_fits(resource: &Resource) -> Result<(), Invalid> {
    let kind = value::Type::try_from(resource.r#type).map_err(|_| Invalid::Type)?;
    let given = (
        resource.scalar.is_some(),
        resource.ranges.is_some(),
        resource.set.is_some(),
    );
    match (kind, given) {
        (value::Type::Scalar, (true, false, false)) => {
            let value = resource
                .scalar
                .map(|scalar| scalar.value)
                .unwrap_or_default();
            let nothing = value == 0.0;
            if !nothing && (scalar(resource) <= Scalar::ZERO || value.is_nan()) {
                return Err(Invalid::Negative);
            }
            Ok(())
        }
        (value::Type::Ranges, (false, true, false)) => ranges_fit(resource),
        (value::Type::Set, (false, false, true)) => set_fits(resource),
        (value::Type::Scalar, _) => Err(Invalid::Value("scalar")),
        (value::Type::Ranges, _) => Err(Invalid::Value("ranges")),
        (value::Type::Set, _) => Err(Invalid::Value("set")),
        (value::Type::Text, _) => Err(Invalid::Unsupported),
    }
}

fn ranges_fit(resource: &Resource) -> Result<(), Invalid> {
    let ranges = resource
        .ranges
        .as_ref()
        .map(|ranges| &*ranges.range)
        .unwrap_or_default();
    if ranges.iter().any(|range| range.begin > range.end) {
        return Err(Invalid::Inverted);
    }
    let mut sorted: Vec<_> = ranges
        .iter()
        .map(|range| (range.begin, range.end))
        .collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
        return Err(Invalid::Overlapping);
    }
    Ok(())
}

fn set_fits(resource: &Resource) -> Result<(), Invalid> {
    let mut items: Vec<_> = super::resource::items(resource).iter().collect();
    items.sort_unstable();
    if items.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Invalid::Duplicated);
    }
    Ok(())
}

fn disk_fits(resource: &Resource) -> Result<(), Invalid> {
    let Some(disk) = &resource.disk else {
        return Ok(());
    };
    if resource.name != "disk" {
        return Err(Invalid::Disk(resource.name.clone()));
    }
    let Some(source) = &disk.source else {
        return Ok(());
    };
    match source.r#type() {
        source::Type::Path | source::Type::Mount => Ok(()),
        kind @ (source::Type::Block | source::Type::Raw) => {
            let source_type = kind.as_str_name();
            if source.mount.is_some() {
                return Err(Invalid::DiskSource {
                    field: "Mount",
                    source_type,
                });
            }
            if source.path.is_some() {
                return Err(Invalid::DiskSource {
                    field: "Path",
                    source_type,
                });
            }
            Ok(())
        }
        source::Type::Unknown => Err(Invalid::DiskSourceType),
    }
}

fn old_format_fits(resource: &Resource) -> Result<(), Invalid> {
    let role = resource.role.as_deref().unwrap_or(roles::DEFAULT);
    roles::validate(role)?;
    let Some(reservation) = &resource.reservation else {
        return Ok(());
    };
    if reservation.r#type.is_some() {
        return Err(Invalid::OldReservation("type"));
    }
    if reservation.role.is_some() {
        return Err(Invalid::OldReservation("role"));
    }
    if role == roles::DEFAULT {
        return Err(Invalid::DefaultDynamic);
    }
    Ok(())
}

fn refined_format_fits(resource: &Resource) -> Result<(), Invalid> {
    for reservation in &resource.reservations {
        if reservation.r#type.is_none() {
            return Err(Invalid::Missing("type"));
        }
        let role = reservation
            .role
            .as_deref()
            .ok_or(Invalid::Missing("role"))?;
        roles::validate(role)?;
        if role == roles::DEFAULT {
            return Err(Invalid::DefaultReserved);
        }
    }
    for pair in resource.reservations.windows(2) {
        if pair[1].r#type() == reservation_info::Type::Static {
            return Err(Invalid::StaticRefinement);
        }
        let (ancestor, descendant) = (role_of(&pair[0]), role_of(&pair[1]));
        if !roles::is_strict_subrole(descendant, ancestor) {
            return Err(Invalid::Refinement {
                descendant: descendant.to_owned(),
                ancestor: ancestor.to_owned(),
            });
        }
    }
    if let [only] = &*resource.reservations {
        return endpoint_format_fits(resource, only);
    }
    let field = match (&resource.role, &resource.reservation) {
        (Some(_), _) => "Resource.role",
        (None, Some(_)) => "Resource.reservation",
        (None, None) => return Ok(()),
    };
    Err(Invalid::Format(format!(
        "'{field}' must not be set if there is more than one reservation in \
         'Resource.reservations'"
    )))
}

/// The old fields may stand beside a single reservation if they say the same.
fn endpoint_format_fits(resource: &Resource, only: &ReservationInfo) -> Result<(), Invalid> {
    if let Some(role) = &resource.role
        && role != role_of(only)
    {
        return Err(Invalid::Format(format!(
            "'Resource.role' field with '{role}' does not match the role '{}' in \
             'Resource.reservations'",
            role_of(only)
        )));
    }
    match only.r#type() {
        reservation_info::Type::Static if resource.reservation.is_some() => Err(Invalid::Format(
            "'Resource.reservation' must not be set if the single reservation in \
             'Resource.reservations' is STATIC"
                .to_owned(),
        )),
        reservation_info::Type::Static => Ok(()),
        reservation_info::Type::Dynamic => dynamic_fields_agree(resource, only),
        reservation_info::Type::Unknown => Err(Invalid::ReservationType),
    }
}

fn dynamic_fields_agree(resource: &Resource, only: &ReservationInfo) -> Result<(), Invalid> {
    if resource.role.is_some() != resource.reservation.is_some() {
        return Err(Invalid::Format(
            "'Resource.role' and 'Resource.reservation' must either be both set or both not set \
             if the single reservation in 'Resource.reservations' is DYNAMIC"
                .to_owned(),
        ));
    }
    let Some(old) = &resource.reservation else {
        return Ok(());
    };
    let (theirs, ours) = (principal_of(old), principal_of(only));
    if theirs != ours {
        return Err(Invalid::Format(format!(
            "'Resource.reservation.principal' field with '{theirs}' does not match the principal \
             '{ours}' in 'Resource.reservations'"
        )));
    }
    let none = Labels::default();
    let (theirs, ours) = (
        old.labels.as_ref().unwrap_or(&none),
        only.labels.as_ref().unwrap_or(&none),
    );
    if !same_labels(Some(theirs), Some(ours)) {
        return Err(Invalid::Format(format!(
            "'Resource.reservation.labels' field with '{}' does not match the labels '{}' in \
             'Resource.reservations'",
            labels::display(theirs),
            labels::display(ours)
        )));
    }
    Ok(())
}

fn role_of(reservation: &ReservationInfo) -> &str {
    reservation.role.as_deref().unwrap_or_default()
}

fn principal_of(reservation: &ReservationInfo) -> &str {
    reservation.principal.as_deref().unwrap_or_default()
}
