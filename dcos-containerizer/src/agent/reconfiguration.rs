//! Whether an agent that was reconfigured is still the same agent.
//!
//! Source: Mesos 1.11 `src/slave/compatibility.cpp`, flag `--reconfiguration_policy`.

use dcos_core::attributes;
use dcos_core::resources::{Ranges, Resources};
use dcos_proto::mesos::value::Type;
use dcos_proto::mesos::{AgentInfo, Attribute};

/// How much an agent may change between restarts and keep its id and tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reconfiguration {
    /// Not at all.
    #[default]
    Equal,
    /// It may have more resources and attributes than before, not fewer or others; and it may
    /// learn of its domain.
    Additive,
}

impl Reconfiguration {
    /// Whether `after` may take the place of `before`.
    ///
    /// # Errors
    /// What changed that may not.
    pub(super) fn check(self, before: &AgentInfo, after: &AgentInfo) -> Result<(), String> {
        match self {
            Self::Equal => equal(before, after)
                .map_err(|what| format!("Incompatible agent info detected: its {what} changed")),
            Self::Additive => additive(before, after).map_err(|what| {
                format!("Configuration change not permitted under `additive` policy: {what}")
            }),
        }
    }
}

fn equal(before: &AgentInfo, after: &AgentInfo) -> Result<(), &'static str> {
    let resources = |info: &AgentInfo| Resources::from(&info.resources);
    if before.hostname != after.hostname {
        Err("hostname")
    } else if before.port != after.port {
        Err("port")
    } else if resources(before) != resources(after) {
        Err("resources")
    } else if !attributes::equal(&before.attributes, &after.attributes) {
        Err("attributes")
    } else if before.domain != after.domain {
        Err("domain")
    } else {
        Ok(())
    }
}

fn additive(before: &AgentInfo, after: &AgentInfo) -> Result<(), String> {
    if before.hostname != after.hostname {
        return Err(format!(
            "Hostname changed from {} to {}",
            before.hostname, after.hostname
        ));
    }
    if before.port() != after.port() {
        return Err(format!(
            "Port changed from {} to {}",
            before.port(),
            after.port()
        ));
    }
    if before.domain.is_some() && before.domain != after.domain {
        return Err("Domain changed".to_owned());
    }
    let now = Resources::from(&after.resources);
    for resource in Resources::from(&before.resources).iter() {
        if !now.contains_message(resource) {
            return Err(format!(
                "Resource '{}' decreased or was not found",
                resource.name
            ));
        }
    }
    before
        .attributes
        .iter()
        .try_for_each(|attribute| still_there(attribute, &after.attributes))
}

fn still_there(attribute: &Attribute, now: &[Attribute]) -> Result<(), String> {
    let name = &attribute.name;
    let Some(found) = now.iter().find(|found| found.name == *name) else {
        return Err(format!("Couldn't find attribute '{name}'"));
    };
    if found.r#type() != attribute.r#type() {
        return Err(format!("Type of attribute '{name}' changed"));
    }
    let ranges = |attribute: &Attribute| {
        let ranges = attribute.ranges.as_ref();
        ranges.map(Ranges::from_proto).unwrap_or_default()
    };
    let kept = match attribute.r#type() {
        Type::Ranges => ranges(found).contains(&ranges(attribute)),
        Type::Scalar => found.scalar == attribute.scalar,
        Type::Text => found.text == attribute.text,
        Type::Set => found.set == attribute.set,
    };
    if kept {
        Ok(())
    } else {
        Err(format!(
            "Value of attribute '{name}' changed from {} to {}",
            attributes::value_text(attribute),
            attributes::value_text(found)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(resources: &str, attributes: &str) -> AgentInfo {
        AgentInfo {
            hostname: "host".to_owned(),
            resources: Resources::parse(resources).unwrap().to_messages(),
            attributes: attributes::parse(attributes).unwrap(),
            ..AgentInfo::default()
        }
    }

    /// What each policy says to a change, with `-` for yes.
    fn check(before: (&str, &str), after: (&str, &str)) -> [String; 2] {
        let (before, after) = (info(before.0, before.1), info(after.0, after.1));
        [Reconfiguration::Equal, Reconfiguration::Additive].map(|policy| {
            policy
                .check(&before, &after)
                .err()
                .unwrap_or("-".to_owned())
        })
    }

    #[test]
    fn what_may_change() {
        let old = ("cpus:4;mem:512;ports:[31000-32000]", "rack:r1;hours:[1-5]");
        assert_eq!(check(old, old), ["-", "-"]);
        let more = (
            "cpus:8;mem:512;ports:[30000-32000];disk:9",
            "rack:r1;hours:[1-9];ssd:yes",
        );
        assert_eq!(check(old, more)[1], "-");
        assert_eq!(
            check(old, more)[0],
            "Incompatible agent info detected: its resources changed"
        );
        let refused = |resources: &str, attributes: &str| {
            let [_, refused] = check(old, (resources, attributes));
            let prefix = "Configuration change not permitted under `additive` policy: ";
            refused.strip_prefix(prefix).unwrap_or(&refused).to_owned()
        };
        assert_eq!(
            refused("cpus:3;mem:512;ports:[31000-32000]", old.1),
            "Resource 'cpus' decreased or was not found"
        );
        assert_eq!(
            refused("cpus:4;mem:512;ports:[31001-32000]", old.1),
            "Resource 'ports' decreased or was not found"
        );
        assert_eq!(
            refused(old.0, "hours:[1-5]"),
            "Couldn't find attribute 'rack'"
        );
        assert_eq!(
            refused(old.0, "rack:r2;hours:[1-5]"),
            "Value of attribute 'rack' changed from r1 to r2"
        );
        assert_eq!(
            refused(old.0, "rack:7;hours:[1-5]"),
            "Type of attribute 'rack' changed"
        );
    }
}
