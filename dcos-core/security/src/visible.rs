//! What of resources may be seen: only by whoever may see every role they name.
//!
//! Source: Mesos 1.11 `ObjectApprovers::approved<VIEW_ROLE>` (`src/common/http.hpp`),
//! `Http::getOperations`.

use dcos_core::resources::operation::consumed;
use dcos_proto::mesos::Resource;
use dcos_proto::mesos::offer::Operation;

use crate::{Object, ObjectApprover};

/// Whether a reader sees a resource: its role, those it is reserved for and the one it is
/// allocated to. `roles` is the reader's approver of [`Action::ViewRole`](crate::Action::ViewRole).
pub fn sees_resource(roles: &dyn ObjectApprover, resource: &Resource) -> bool {
    let role = resource.role.as_deref().filter(|role| *role != "*");
    let reserved = resource.reservations.iter();
    let reserved = reserved.filter_map(|reservation| reservation.role.as_deref());
    let allocation = resource.allocation_info.as_ref();
    let allocated = allocation.and_then(|allocation| allocation.role.as_deref());
    let mut named = role.into_iter().chain(reserved).chain(allocated);
    named.all(|role| roles.approved(&Object::value(role)))
}

/// Whether a reader sees an operation: all that it uses up. One of which that is not known is
/// shown to those only who see every role.
pub fn sees_operation(roles: &dyn ObjectApprover, operation: &Operation) -> bool {
    roles.approves_all()
        || consumed(operation).is_ok_and(|used| {
            let used = used.to_messages();
            used.iter().all(|resource| sees_resource(roles, resource))
        })
}

#[cfg(test)]
mod tests {
    use dcos_core::resources::{Resources, scalar_resource};
    use dcos_proto::mesos::offer::operation::{Reserve, Type};
    use dcos_proto::mesos::resource::{AllocationInfo, ReservationInfo, reservation_info};

    use super::*;
    use crate::{Acls, Action, Authorizer as _, Principal};

    fn reserved(roles: &[&str]) -> Resource {
        let reservation = |role: &&str| ReservationInfo {
            r#type: Some(reservation_info::Type::Dynamic.into()),
            role: Some((*role).to_owned()),
            ..ReservationInfo::default()
        };
        Resource {
            reservations: roles.iter().map(reservation).collect(),
            ..scalar_resource("cpus", 1.0)
        }
    }

    #[test]
    fn every_role_that_is_named_counts() {
        let acls: Acls = r#"{"view_roles": [
            {"principals": {"values": ["guest"]}, "roles": {"values": ["a", "a/%"]}},
            {"principals": {"values": ["guest"]}, "roles": {"type": "NONE"}}]}"#
            .parse()
            .unwrap();
        let guest = acls.approver(Some(&Principal::new("guest")), Action::ViewRole);
        let allocated = |role: &str| Resource {
            allocation_info: Some(AllocationInfo {
                role: Some(role.to_owned()),
            }),
            ..reserved(&[])
        };
        let old = Resource {
            role: Some("b".to_owned()),
            ..reserved(&[])
        };
        for (resource, seen) in [
            (reserved(&[]), true),
            (reserved(&["a"]), true),
            (reserved(&["a", "a/x"]), true),
            (reserved(&["b"]), false),
            (reserved(&["b", "a/x"]), false),
            (allocated("a"), true),
            (allocated("b"), false),
            (old, false),
        ] {
            assert_eq!(sees_resource(&*guest, &resource), seen, "{resource:?}");
        }
        let reserve = |role: &str| Operation {
            r#type: Some(Type::Reserve.into()),
            reserve: Some(Reserve {
                resources: Resources::from_messages([&reserved(&[role, &format!("{role}/x")])])
                    .to_messages(),
                ..Reserve::default()
            }),
            ..Operation::default()
        };
        assert!(sees_operation(&*guest, &reserve("a")));
        assert!(!sees_operation(&*guest, &reserve("b")));
        let unknown = Operation::default();
        let admin = acls.approver(Some(&Principal::new("admin")), Action::ViewRole);
        assert!(!sees_operation(&*guest, &unknown));
        assert!(admin.approves_all() && sees_operation(&*admin, &unknown));
    }
}
