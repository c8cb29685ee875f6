//! Calls of v0 drivers, as far as their bytes differ from API v1.
//!
//! All but one are the same. `Subscribe` got a field `force` in v0 that v1 does not have, so what follows it has other
//! numbers (Mesos 1.11 `include/mesos/scheduler/scheduler.proto` and its namesake below `v1`). Drivers send it as soon as
//! they have an id: when they come back, or find another leading master.

use bytes::Bytes;
use dcos_proto::mesos::{FrameworkId, FrameworkInfo};
use dcos_proto::scheduler::{Call, OfferConstraints, call};
use dcos_proto::{Message, decode};
use prost::Message as _;

use super::Packet;

#[derive(Clone, PartialEq, prost::Message)]
struct OldCall {
    #[prost(message, optional, tag = "1")]
    framework_id: Option<FrameworkId>,
    #[prost(int32, optional, tag = "2")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "3")]
    subscribe: Option<OldSubscribe>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OldSubscribe {
    #[prost(bytes = "bytes", tag = "1")]
    framework_info: Bytes,
    #[prost(bool, optional, tag = "2")]
    force: Option<bool>,
    #[prost(string, repeated, tag = "3")]
    suppressed_roles: Vec<String>,
    #[prost(message, optional, tag = "4")]
    offer_constraints: Option<OfferConstraints>,
}

/// The call in a driver's message, if it is one and can be read; for SUBSCRIBE, also whether it takes over from whoever
/// spoke for the framework before.
pub(super) fn read(packet: &Packet) -> Option<(Call, bool)> {
    if packet.name != Call::V0_NAME {
        return None;
    }
    let old = OldCall::decode(packet.body.as_ref()).ok()?;
    let Some(subscribe) = old.subscribe else {
        return Some((decode(&packet.body).ok()?, false));
    };
    let force = subscribe.force.unwrap_or(false);
    let framework_info: FrameworkInfo = decode(&subscribe.framework_info).ok()?;
    let call = Call {
        framework_id: old.framework_id,
        r#type: old.kind,
        subscribe: Some(call::Subscribe {
            framework_info,
            suppressed_roles: subscribe.suppressed_roles,
            offer_constraints: subscribe.offer_constraints,
        }),
        ..Call::default()
    };
    Some((call, force))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_comes_back_is_understood() {
        let info = FrameworkInfo {
            id: Some("f".into()),
            user: "root".to_owned(),
            name: "old".to_owned(),
            ..FrameworkInfo::default()
        };
        // What libmesos 1.11 sends: `force` is there, and so are empty constraints.
        let old = OldCall {
            framework_id: Some("f".into()),
            kind: Some(call::Type::Subscribe.into()),
            subscribe: Some(OldSubscribe {
                framework_info: info.encode_to_vec().into(),
                force: Some(true),
                suppressed_roles: vec!["r".to_owned()],
                offer_constraints: Some(OfferConstraints::default()),
            }),
        };
        let packet = Packet {
            name: Call::V0_NAME.to_owned(),
            body: old.encode_to_vec().into(),
        };
        let (call, force) = read(&packet).unwrap();
        assert!(force);
        assert_eq!(call.r#type(), call::Type::Subscribe);
        assert_eq!(call.framework_id, info.id);
        let subscribe = call.subscribe.unwrap();
        assert_eq!(subscribe.framework_info, info);
        assert_eq!(subscribe.suppressed_roles, ["r"]);
        assert!(subscribe.offer_constraints.is_some());
    }
}
