//! What a call to the operator API has to hold, whatever the agent can do.
//!
//! Source: Mesos 1.11 `src/slave/validation.cpp`; the texts are its own.

use dcos_core::ids;
use dcos_proto::agent::{Call, call};
use dcos_proto::mesos::ContainerId;
use dcos_wire::Refusal;

/// The longest id of a container.
const MAX_CONTAINER_ID: usize = 242;

/// Refuses a call that cannot make sense.
pub(super) fn check(call: &Call) -> Result<(), Refusal> {
    if call.r#type.is_none() {
        return Err(invalid("Expecting 'type' to be present"));
    }
    let name = call.r#type().as_str_name().to_lowercase();
    match part(call) {
        Part::Fine => Ok(()),
        Part::Missing => Err(missing(&name)),
        Part::Container(id) => check_id(&name, id),
        Part::Nested(id) => {
            check_id(&name, id)?;
            if id.parent.is_none() {
                return Err(missing(&format!("{name}.container_id.parent")));
            }
            Ok(())
        }
    }
}

/// The part of a call that belongs to its type.
enum Part<'a> {
    /// It is there, or need not be.
    Fine,
    Missing,
    /// It is about this container.
    Container(&'a ContainerId),
    /// It is about this container, which has to be nested.
    Nested(&'a ContainerId),
}

fn part(call: &Call) -> Part<'_> {
    use call::Type;
    macro_rules! of {
        ($part:ident) => {
            call.$part.as_ref().map_or(Part::Missing, |_| Part::Fine)
        };
        ($part:ident, $kind:ident) => {
            call.$part
                .as_ref()
                .map_or(Part::Missing, |part| Part::$kind(&part.container_id))
        };
    }
    match call.r#type() {
        Type::GetMetrics => of!(get_metrics),
        Type::SetLoggingLevel => of!(set_logging_level),
        Type::ListFiles => of!(list_files),
        Type::ReadFile => of!(read_file),
        Type::LaunchNestedContainer => of!(launch_nested_container, Nested),
        Type::WaitNestedContainer => of!(wait_nested_container, Nested),
        Type::KillNestedContainer => of!(kill_nested_container, Nested),
        Type::RemoveNestedContainer => of!(remove_nested_container, Nested),
        Type::LaunchNestedContainerSession => of!(launch_nested_container_session, Nested),
        Type::AttachContainerInput => of!(attach_container_input),
        Type::AttachContainerOutput => of!(attach_container_output, Container),
        Type::LaunchContainer => of!(launch_container, Container),
        Type::WaitContainer => of!(wait_container, Container),
        Type::KillContainer => of!(kill_container, Container),
        Type::RemoveContainer => of!(remove_container, Container),
        Type::AddResourceProviderConfig => of!(add_resource_provider_config),
        Type::UpdateResourceProviderConfig => of!(update_resource_provider_config),
        Type::RemoveResourceProviderConfig => of!(remove_resource_provider_config),
        Type::MarkResourceProviderGone => of!(mark_resource_provider_gone),
        _ => Part::Fine,
    }
}

fn check_id(call: &str, id: &ContainerId) -> Result<(), Refusal> {
    match problem(id) {
        None => Ok(()),
        Some(problem) => Err(invalid(&format!(
            "'{call}.container_id' is invalid: {problem}"
        ))),
    }
}

fn problem(id: &ContainerId) -> Option<String> {
    let value = &id.value;
    if let Err(error) = ids::validate(value) {
        return Some(error.to_string());
    }
    if value.len() > MAX_CONTAINER_ID {
        return Some(format!(
            "'ContainerID.value' '{value}' exceeds the maximum length ({MAX_CONTAINER_ID})"
        ));
    }
    if value.contains(['.', ' ']) {
        return Some(format!(
            "'ContainerID.value' '{value}' contains invalid characters"
        ));
    }
    let parent = problem(id.parent.as_deref()?)?;
    Some(format!("'ContainerID.parent' is invalid: {parent}"))
}

/// A call without what it is about.
fn missing(field: &str) -> Refusal {
    invalid(&format!("Expecting '{field}' to be present"))
}

fn invalid(text: &str) -> Refusal {
    Refusal::bad_request(format!("Failed to validate agent::Call: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_proto::json::{self, Dialect};

    fn refusal(call: &str) -> Option<String> {
        let call = json::from_slice(call.as_bytes(), Dialect::V1).unwrap();
        check(&call).err().map(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn calls_without_their_parts_are_refused() {
        for (call, text) in [
            ("{}", "Expecting 'type' to be present"),
            (
                r#"{"type":"GET_METRICS"}"#,
                "Expecting 'get_metrics' to be present",
            ),
            (
                r#"{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":{"value":"x"}}}"#,
                "Expecting 'wait_nested_container.container_id.parent' to be present",
            ),
            (
                r#"{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"x y"}}}"#,
                "'launch_container.container_id' is invalid: 'ContainerID.value' 'x y' contains invalid characters",
            ),
            (
                r#"{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"x","parent":{"value":"a.b"}}}}"#,
                "'kill_container.container_id' is invalid: 'ContainerID.parent' is invalid: \
                 'ContainerID.value' 'a.b' contains invalid characters",
            ),
        ] {
            let refused = refusal(call).unwrap_or_default();
            assert!(refused.contains(text), "{call}: {refused}");
        }
        assert_eq!(refusal(r#"{"type":"GET_STATE"}"#), None);
        assert_eq!(refusal(r#"{"type":"GET_CONTAINERS"}"#), None);
    }
}
