//! The two ways a reservation is written, and the way between them.
//!
//! | format | unreserved | one reservation | refined |
//! |---|---|---|---|
//! | old (before Mesos 1.4) | `role: "*"` | `role`, and `reservation` if dynamic | cannot say it |
//! | refined | no field | `reservations: [..]` | `reservations: [.., ..]` |
//! | endpoint | as old | both | as refined |
//!
//! Inside, resources are always refined. Peers without the `RESERVATION_REFINEMENT` capability
//! are spoken to in the old format; HTTP endpoints write both.

use dcos_proto::mesos::Resource;
use dcos_proto::mesos::resource::{ReservationInfo, reservation_info};

use crate::roles;

/// A resource whose refined reservation the old format cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Cannot downgrade resources containing refined reservations")]
pub struct RefinedError;

/// Brings a resource into the refined format. Repeating it changes nothing.
pub fn upgrade(resource: &mut Resource) {
    let role = resource.role.take();
    let reservation = resource.reservation.take();
    if !resource.reservations.is_empty() {
        return;
    }
    let role = role.unwrap_or_else(|| roles::DEFAULT.to_owned());
    if role == roles::DEFAULT {
        return;
    }
    let kind = match reservation {
        Some(_) => reservation_info::Type::Dynamic,
        None => reservation_info::Type::Static,
    };
    let mut refined = reservation.unwrap_or_default();
    refined.set_type(kind);
    refined.role = Some(role);
    resource.reservations.push(refined);
}

/// Brings every resource into the refined format.
pub fn upgrade_all(resources: &mut [Resource]) {
    resources.iter_mut().for_each(upgrade);
}

/// Brings a refined resource into the old format.
///
/// # Errors
/// [`RefinedError`] if there is more than one reservation; the resource is unchanged then.
pub fn downgrade(resource: &mut Resource) -> Result<(), RefinedError> {
    if resource.reservations.len() > 1 {
        return Err(RefinedError);
    }
    to_endpoint(resource);
    resource.reservations.clear();
    Ok(())
}

/// Brings every resource into the old format.
///
/// # Errors
/// [`RefinedError`] for the first that has more than one reservation.
pub fn downgrade_all(resources: &mut [Resource]) -> Result<(), RefinedError> {
    resources.iter_mut().try_for_each(downgrade)
}

/// Writes the old fields beside the refined ones, as HTTP endpoints do.
pub fn to_endpoint(resource: &mut Resource) {
    match &*resource.reservations {
        [] => resource.role = Some(roles::DEFAULT.to_owned()),
        [only] => {
            resource.role = Some(only.role.clone().unwrap_or_default());
            if only.r#type() == reservation_info::Type::Dynamic {
                resource.reservation = Some(ReservationInfo {
                    principal: only.principal.clone(),
                    labels: only.labels.clone(),
                    role: None,
                    r#type: None,
                });
            }
        }
        _ => {}
    }
}

/// A static reservation for `role`.
pub fn static_reservation(role: impl Into<String>) -> ReservationInfo {
    reservation(reservation_info::Type::Static, role.into(), None)
}

/// A dynamic reservation for `role`, made by `principal`.
pub fn dynamic_reservation(role: impl Into<String>, principal: Option<String>) -> ReservationInfo {
    reservation(reservation_info::Type::Dynamic, role.into(), principal)
}

fn reservation(
    kind: reservation_info::Type,
    role: String,
    principal: Option<String>,
) -> ReservationInfo {
    ReservationInfo {
        r#type: Some(kind.into()),
        role: Some(role),
        principal,
        labels: None,
    }
}
