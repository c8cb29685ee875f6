//! The JSON dialects and the bytes, rule by rule (Mesos 1.11 `stout/protobuf.hpp`, `jsonify.hpp`).

use dcos_proto::json::{self, Dialect, JsonError};
use dcos_proto::{DecodeError, Message, internal, mesos, scheduler};
use prost::Message as _;

fn read<M: Message>(text: &str) -> Result<M, JsonError> {
    json::from_slice(text.as_bytes(), Dialect::V1)
}

#[test]
fn defaults_are_written_unless_obsolete() {
    let framework = mesos::FrameworkInfo {
        user: "root".into(),
        name: "f".into(),
        ..mesos::FrameworkInfo::default()
    };
    assert_eq!(
        json::to_string(&framework, Dialect::V1),
        r#"{"user":"root","name":"f","failover_timeout":0.0,"checkpoint":false}"#
    );
}

#[test]
fn numbers_and_booleans_may_stand_in_strings() {
    let filters: mesos::Filters = read(r#"{"refuse_seconds":"7.5"}"#).unwrap();
    assert_eq!(filters.refuse_seconds, Some(7.5));
    let port: mesos::Port = read(r#"{"number":"80"}"#).unwrap();
    assert_eq!(port.number, 80);
    let port: mesos::Port = read(r#"{"number":12.0}"#).unwrap();
    assert_eq!(port.number, 12);
    let uri: mesos::command_info::Uri = read(r#"{"value":"x","extract":"false"}"#).unwrap();
    assert_eq!(uri.extract, Some(false));
}

#[test]
fn mistakes_name_their_place() {
    let error = read::<scheduler::Call>(
        r#"{"type":"ACCEPT","accept":{"offer_ids":[{"value":"a"},{"value":5}]}}"#,
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "accept.offer_ids[1].value: expected a string, found 5"
    );
    let error = read::<scheduler::Call>(r#"{"subscribe":{"framework_info":{"name":"x"}}}"#);
    assert_eq!(
        error.unwrap_err().to_string(),
        "missing required field subscribe.framework_info.user"
    );
}

#[test]
fn unknown_enum_names_are_unset_or_refused_if_required() {
    let call: scheduler::Call = read(r#"{"type":"FLY"}"#).unwrap();
    assert_eq!(call.r#type, None);
    assert!(
        read::<mesos::TaskStatus>(r#"{"task_id":{"value":"t"},"state":"TASK_FLYING"}"#).is_err()
    );
}

#[test]
fn api_v0_says_slave() {
    let status = mesos::TaskStatus {
        task_id: "t".into(),
        agent_id: Some("a".into()),
        reason: Some(mesos::task_status::Reason::AgentRemoved.into()),
        source: Some(mesos::task_status::Source::Agent.into()),
        ..mesos::TaskStatus::default()
    };
    let v0 = json::to_string(&status, Dialect::V0);
    assert!(v0.contains(r#""slave_id":{"value":"a"}"#), "{v0}");
    assert!(
        v0.contains("REASON_SLAVE_REMOVED") && v0.contains("SOURCE_SLAVE"),
        "{v0}"
    );
    let back: mesos::TaskStatus = json::from_slice(v0.as_bytes(), Dialect::V0).unwrap();
    assert_eq!(back, status);
    assert_eq!(
        <scheduler::Call as Message>::V0_NAME,
        "mesos.scheduler.Call"
    );
    assert_eq!(<mesos::AgentInfo as Message>::V0_NAME, "mesos.SlaveInfo");
    assert_eq!(
        <internal::RegisterSlaveMessage as Message>::V0_NAME,
        "mesos.internal.RegisterSlaveMessage"
    );
}

#[test]
fn bytes_lacking_a_required_field_are_refused() {
    let whole = scheduler::Call {
        r#type: Some(scheduler::call::Type::Kill.into()),
        kill: Some(scheduler::call::Kill {
            task_id: "t".into(),
            ..Default::default()
        }),
        ..scheduler::Call::default()
    };
    assert_eq!(
        dcos_proto::decode::<scheduler::Call>(&whole.encode_to_vec()).unwrap(),
        whole
    );

    // Field 6 (kill) holding an empty message: its task_id is missing.
    let kill_tag = (6 << 3) | 2;
    let error = dcos_proto::decode::<scheduler::Call>(&[kill_tag, 0]).unwrap_err();
    assert_eq!(
        error,
        DecodeError::Missing {
            message: "mesos.v1.scheduler.Call.Kill",
            field: "task_id"
        }
    );
    assert!(dcos_proto::decode::<scheduler::Call>(&[kill_tag, 9, 1]).is_err());
}

#[test]
fn what_a_newer_peer_adds_does_not_break_decoding() {
    let status = mesos::TaskStatus {
        task_id: "t".into(),
        state: 99,
        ..mesos::TaskStatus::default()
    };
    let mut bytes = status.encode_to_vec();
    // Field 900, a varint, which this schema does not have.
    prost::encoding::uint64::encode(900, &7, &mut bytes);
    let back: mesos::TaskStatus = dcos_proto::decode(&bytes).unwrap();
    assert_eq!(back.state, 99);
    assert_eq!(
        json::to_string(&back, Dialect::V1),
        r#"{"task_id":{"value":"t"}}"#
    );
}

#[test]
fn infinity_is_a_string() {
    let limit: mesos::value::Scalar = read(r#"{"value":"Infinity"}"#).unwrap();
    assert!(limit.value.is_infinite());
    assert_eq!(
        json::to_string(&limit, Dialect::V1),
        r#"{"value":"Infinity"}"#
    );
}
