//! One `Resource` message: what can be asked of it, and when two of them are of one kind.
//!
//! Source: Mesos 1.11 `common/resources.cpp`. Everything here expects the refined format
//! (`reservations`, with `role` and `reservation` unset); see [`super::convert`].

use dcos_proto::mesos::resource::disk_info::{Source, source};
use dcos_proto::mesos::resource::{DiskInfo, ReservationInfo, reservation_info};
use dcos_proto::mesos::{Labels, Resource, value};

use super::value::{Ranges, Scalar, set_contains, set_plus};
use crate::{labels, roles};

/// Questions about one resource in the refined format.
pub trait ResourceExt {
    /// Whether there is nothing of it: zero, no ranges, no items.
    fn is_empty(&self) -> bool;
    /// Whether it is kept for no role.
    fn is_unreserved(&self) -> bool;
    /// Whether it is kept for `role`.
    fn is_reserved_to(&self, role: &str) -> bool;
    /// Whether it is kept for `role` or a role below it.
    fn is_reserved_to_subtree(&self, role: &str) -> bool;
    /// The role it is kept for: the innermost of its reservations.
    fn reservation_role(&self) -> Option<&str>;
    /// Whether a framework in `role` may be offered it: unreserved, or kept for the role or an
    /// ancestor of it.
    fn is_allocatable_to(&self, role: &str) -> bool;
    /// Whether its innermost reservation was made at run time.
    fn is_dynamically_reserved(&self) -> bool;
    /// Whether a reservation was refined.
    fn has_refined_reservations(&self) -> bool;
    /// Whether it is a persistent volume.
    fn is_persistent_volume(&self) -> bool;
    /// Whether it is a disk with a source of this type.
    fn is_disk(&self, kind: source::Type) -> bool;
    /// Whether it may be taken away at any time.
    fn is_revocable(&self) -> bool;
    /// Whether several tasks may use it at once.
    fn is_shared(&self) -> bool;
    /// The role it is offered or allocated to.
    fn allocation_role(&self) -> Option<&str>;
    /// The amount, if it is a scalar.
    fn scalar_value(&self) -> Option<Scalar>;
}

impl ResourceExt for Resource {
    fn is_empty(&self) -> bool {
        match self.r#type() {
            value::Type::Scalar => scalar(self).is_zero(),
            value::Type::Ranges => self.ranges.as_ref().is_none_or(|r| r.range.is_empty()),
            value::Type::Set => self.set.as_ref().is_none_or(|set| set.item.is_empty()),
            value::Type::Text => false,
        }
    }

    fn is_unreserved(&self) -> bool {
        self.reservations.is_empty()
    }

    fn is_reserved_to(&self, role: &str) -> bool {
        self.reservation_role() == Some(role)
    }

    fn is_reserved_to_subtree(&self, role: &str) -> bool {
        self.reservation_role()
            .is_some_and(|reserved| reserved == role || roles::is_strict_subrole(reserved, role))
    }

    fn reservation_role(&self) -> Option<&str> {
        self.reservations
            .last()
            .map(|reservation| reservation.role.as_deref().unwrap_or_default())
    }

    fn is_allocatable_to(&self, role: &str) -> bool {
        self.reservation_role()
            .is_none_or(|reserved| roles::may_use_reservation(role, reserved))
    }

    fn is_dynamically_reserved(&self) -> bool {
        self.reservations
            .last()
            .is_some_and(|reservation| reservation.r#type() == reservation_info::Type::Dynamic)
    }

    fn has_refined_reservations(&self) -> bool {
        self.reservations.len() > 1
    }

    fn is_persistent_volume(&self) -> bool {
        self.disk
            .as_ref()
            .is_some_and(|disk| disk.persistence.is_some())
    }

    fn is_disk(&self, kind: source::Type) -> bool {
        disk_source(self).is_some_and(|source| source.r#type() == kind)
    }

    fn is_revocable(&self) -> bool {
        self.revocable.is_some()
    }

    fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    fn allocation_role(&self) -> Option<&str> {
        self.allocation_info.as_ref()?.role.as_deref()
    }

    fn scalar_value(&self) -> Option<Scalar> {
        (self.r#type() == value::Type::Scalar).then(|| scalar(self))
    }
}

fn disk_source(resource: &Resource) -> Option<&Source> {
    resource.disk.as_ref()?.source.as_ref()
}

/// The amount of a scalar; zero if the message lacks it.
pub(crate) fn scalar(resource: &Resource) -> Scalar {
    Scalar::from_f64(
        resource
            .scalar
            .map(|scalar| scalar.value)
            .unwrap_or_default(),
    )
}

/// The ranges; none if the message lacks them.
pub(crate) fn ranges(resource: &Resource) -> Ranges {
    resource
        .ranges
        .as_ref()
        .map(Ranges::from_proto)
        .unwrap_or_default()
}

/// The items; none if the message lacks them.
pub(crate) fn items(resource: &Resource) -> &[String] {
    resource
        .set
        .as_ref()
        .map(|set| &*set.item)
        .unwrap_or_default()
}

/// Whether both are the same resource in the same amount. How a disk is mounted does not count,
/// since each task may mount it differently.
pub fn same(one: &Resource, other: &Resource) -> bool {
    same_kind(one, other)
        && one.shared.is_some() == other.shared.is_some()
        && match one.r#type() {
            value::Type::Scalar => scalar(one) == scalar(other),
            value::Type::Ranges => one.ranges == other.ranges || ranges(one) == ranges(other),
            value::Type::Set => {
                set_contains(items(one), items(other)) && set_contains(items(other), items(one))
            }
            value::Type::Text => false,
        }
}

/// Whether both can be put together into one resource.
pub(crate) fn addable(left: &Resource, right: &Resource) -> bool {
    if left.shared.is_some() || right.shared.is_some() {
        return same(left, right);
    }
    same_kind(left, right) && is_divisible(left)
}

/// A disk that stands alone: two of them never become one.
fn is_divisible(resource: &Resource) -> bool {
    !resource.is_persistent_volume()
        && disk_source(resource).is_none_or(|source| match source.r#type() {
            source::Type::Path | source::Type::Unknown => true,
            source::Type::Raw => source.id.is_none(),
            source::Type::Mount | source::Type::Block => false,
        })
}

/// Whether `right` can be taken out of `left`: of one kind, and whole where it is indivisible.
pub(crate) fn subtractable(left: &Resource, right: &Resource) -> bool {
    if left.shared.is_some() || right.shared.is_some() {
        return same(left, right);
    }
    same_kind(left, right) && (is_divisible(left) || same(left, right))
}

/// Whether all of `right` is in `left`.
pub fn contains(left: &Resource, right: &Resource) -> bool {
    subtractable(left, right)
        && match left.r#type() {
            value::Type::Scalar => scalar(right) <= scalar(left),
            // Mostly they are equal as they stand, and nothing has to be brought in order.
            value::Type::Ranges => {
                left.ranges == right.ranges || ranges(left).contains(&ranges(right))
            }
            value::Type::Set => set_contains(items(left), items(right)),
            value::Type::Text => false,
        }
}

/// Adds `right`, which is [`addable`] and not shared.
pub(crate) fn add(left: &mut Resource, right: &Resource) {
    match left.r#type() {
        value::Type::Scalar => set_scalar(left, scalar(left) + scalar(right)),
        value::Type::Ranges => left.ranges = Some(ranges(left).plus(&ranges(right)).to_proto()),
        value::Type::Set => {
            set_plus(&mut left.set.get_or_insert_default().item, items(right));
        }
        value::Type::Text => {}
    }
}

/// Takes away `right`, which is [`subtractable`] and not shared.
pub(crate) fn subtract(left: &mut Resource, right: &Resource) {
    match left.r#type() {
        value::Type::Scalar => set_scalar(left, scalar(left) - scalar(right)),
        value::Type::Ranges => left.ranges = Some(ranges(left).minus(&ranges(right)).to_proto()),
        value::Type::Set => {
            left.set
                .get_or_insert_default()
                .item
                .retain(|item| !items(right).contains(item));
        }
        value::Type::Text => {}
    }
}

pub(crate) fn set_scalar(resource: &mut Resource, amount: Scalar) {
    resource.scalar = Some(value::Scalar {
        value: amount.as_f64(),
    });
}

/// Cuts a scalar down to `target` if it is more. Returns `false`, and changes nothing, if the
/// resource is an indivisible disk.
pub fn shrink(resource: &mut Resource, target: Scalar) -> bool {
    if scalar(resource) <= target {
        return true;
    }
    if !is_divisible(resource) {
        return false;
    }
    set_scalar(resource, target);
    true
}

/// Whether both agree in everything but amount and sharing.
pub(crate) fn same_kind(left: &Resource, right: &Resource) -> bool {
    left.name == right.name
        && left.r#type == right.r#type
        && left.allocation_info == right.allocation_info
        && left.reservations.len() == right.reservations.len()
        && left
            .reservations
            .iter()
            .zip(&right.reservations)
            .all(|(l, r)| same_reservation(l, r))
        && both(left.disk.as_deref(), right.disk.as_deref(), same_disk)
        && left.revocable.is_some() == right.revocable.is_some()
        && left.provider_id == right.provider_id
}

/// Whether both reservations are the same one.
pub fn same_reservation(left: &ReservationInfo, right: &ReservationInfo) -> bool {
    left.r#type() == right.r#type()
        && left.role.as_deref().unwrap_or_default() == right.role.as_deref().unwrap_or_default()
        && left.principal == right.principal
        && same_labels(left.labels.as_ref(), right.labels.as_ref())
}

fn same_disk(left: &DiskInfo, right: &DiskInfo) -> bool {
    both(left.source.as_ref(), right.source.as_ref(), same_source)
        && both(
            left.persistence.as_ref(),
            right.persistence.as_ref(),
            |l, r| l.id == r.id,
        )
}

fn same_source(left: &Source, right: &Source) -> bool {
    left.r#type == right.r#type
        && left.path == right.path
        && left.mount == right.mount
        && left.vendor == right.vendor
        && left.id == right.id
        && left.profile == right.profile
        && same_labels(left.metadata.as_ref(), right.metadata.as_ref())
}

pub(crate) fn same_labels(left: Option<&Labels>, right: Option<&Labels>) -> bool {
    both(left, right, labels::equal)
}

fn both<T>(left: Option<T>, right: Option<T>, same: impl FnOnce(T, T) -> bool) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => same(left, right),
        (None, None) => true,
        _ => false,
    }
}
