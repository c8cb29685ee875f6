//! How schema names become Rust names: the same rules as `prost-build`.

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::MessageDescriptor;

/// The messages that are ids: they get a total order, so that ordered maps can be keyed by them.
pub(crate) const ID_MESSAGES: &[&str] = &[
    ".mesos.v1.FrameworkID",
    ".mesos.v1.OfferID",
    ".mesos.v1.AgentID",
    ".mesos.v1.TaskID",
    ".mesos.v1.ExecutorID",
    ".mesos.v1.ContainerID",
    ".mesos.v1.ResourceProviderID",
    ".mesos.v1.OperationID",
    ".mesos.v1.UUID",
    ".mesos.v1.MachineID",
];

/// The Rust path of a message or enum from the root of the generated modules, such as
/// `mesos::framework_info::Capability`.
pub(crate) fn rust_path(package: &str, full_name: &str) -> String {
    let mut parts: Vec<String> = full_name[package.len() + 1..]
        .split('.')
        .map(str::to_owned)
        .collect();
    let name = parts.pop().unwrap_or_default();
    let mut path = vec![module(package).to_owned()];
    path.extend(parts.iter().map(|part| part.to_snake_case()));
    path.push(type_name(&name));
    path.join("::")
}

/// The module that holds a package's code in `dcos-proto`.
pub(crate) fn module(package: &str) -> &str {
    match package {
        "mesos.v1" => "mesos",
        "mesos.resource_provider.registry" => "resource_provider_registry",
        other => other.rsplit('.').next().unwrap_or(other),
    }
}

fn type_name(name: &str) -> String {
    let name = name.to_upper_camel_case();
    if name == "Self" {
        "Self_".to_owned()
    } else {
        name
    }
}

/// A field's Rust name.
pub(crate) fn field(name: &str) -> String {
    let name = name.to_snake_case();
    match name.as_str() {
        "type" | "ref" | "match" | "use" | "mod" | "move" | "enum" | "struct" | "fn" | "loop" => {
            format!("r#{name}")
        }
        _ => name,
    }
}

/// Every message of `messages` and those nested in them, map entries left out.
pub(crate) fn flatten(messages: impl Iterator<Item = MessageDescriptor>) -> Vec<MessageDescriptor> {
    let mut all = Vec::new();
    for message in messages {
        if message.is_map_entry() {
            continue;
        }
        let children = flatten(message.child_messages());
        all.push(message);
        all.extend(children);
    }
    all
}
