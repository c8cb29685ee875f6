//! What a framework wants of an agent before it is offered anything of it: conditions on
//! attributes, host name, region and zone, by role.
//!
//! Source: Mesos 1.11 `offer_constraints_filter.cpp`; rules F-4 to F-7 of the conformance
//! inventory. Where we differ: patterns are those of the `regex` crate, which knows RE2's syntax,
//! and are limited by what they compile to ([`PROGRAM_LIMIT`]) instead of RE2's own measures.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_proto::mesos::{Attribute, value};
use dcos_proto::scheduler::attribute_constraint::predicate as wire;
use dcos_proto::scheduler::attribute_constraint::selector::PseudoattributeType;
use dcos_proto::scheduler::attribute_constraint::{Predicate as WirePredicate, Selector};
use dcos_proto::scheduler::{AttributeConstraint, OfferConstraints};
use regex::{Regex, RegexBuilder};

use super::words::AgentSpec;

/// How many bytes a compiled pattern may take.
pub const PROGRAM_LIMIT: usize = 64 * 1024;

/// Why constraints cannot be used. Messages are Mesos's, since frameworks receive them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// A role without alternatives: nothing would ever be offered.
    #[error(
        "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role {0}"
    )]
    NoGroups(String),
    /// An alternative without conditions.
    #[error(
        "'OfferConstraints::RoleConstraints::groups' for role {0}contains an empty RoleConstraints::Group"
    )]
    EmptyGroup(String),
    /// A condition is wrong.
    #[error("A role {role} has an invalid 'AttributeConstraint': {reason}")]
    Invalid {
        /// For which role.
        role: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Conditions by role; a role without an entry takes any agent. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Constraints(Arc<BTreeMap<String, Vec<Vec<Condition>>>>);

#[derive(Debug)]
struct Condition {
    subject: Subject,
    predicate: Predicate,
}

#[derive(Debug)]
enum Subject {
    Attribute(String),
    Hostname,
    Region,
    Zone,
}

#[derive(Debug)]
enum Predicate {
    Exists,
    NotExists,
    Equals(String),
    NotEquals(String),
    Matches(Regex),
    NotMatches(Regex),
}

/// What a condition finds on an agent.
enum Found<'a> {
    Nothing,
    Text(&'a str),
    /// An attribute that is no text passes every comparison.
    Other,
}

impl Constraints {
    /// Prepares what a framework sent.
    ///
    /// # Errors
    /// [`ConstraintError`] for the first role that is wrong.
    pub fn compile(constraints: &OfferConstraints) -> Result<Self, ConstraintError> {
        let mut roles = BTreeMap::new();
        for (role, alternatives) in &constraints.role_constraints {
            if alternatives.groups.is_empty() {
                return Err(ConstraintError::NoGroups(role.clone()));
            }
            let mut groups = Vec::with_capacity(alternatives.groups.len());
            for group in &alternatives.groups {
                if group.attribute_constraints.is_empty() {
                    return Err(ConstraintError::EmptyGroup(role.clone()));
                }
                let conditions = group.attribute_constraints.iter().map(Condition::compile);
                let conditions: Result<Vec<_>, String> = conditions.collect();
                groups.push(conditions.map_err(|reason| ConstraintError::Invalid {
                    role: role.clone(),
                    reason,
                })?);
            }
            roles.insert(role.clone(), groups);
        }
        Ok(Self(Arc::new(roles)))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `role` wants nothing of `agent`: it meets none of the alternatives in full.
    pub fn exclude(&self, role: &str, agent: &AgentSpec) -> bool {
        self.0.get(role).is_some_and(|groups| {
            !groups
                .iter()
                .any(|group| group.iter().all(|condition| condition.holds(agent)))
        })
    }
}

impl Condition {
    fn compile(constraint: &AttributeConstraint) -> Result<Self, String> {
        Ok(Self {
            subject: subject(&constraint.selector)?,
            predicate: predicate(&constraint.predicate)?,
        })
    }

    fn holds(&self, agent: &AgentSpec) -> bool {
        let found = match &self.subject {
            Subject::Attribute(name) => {
                let attribute = agent.attributes.iter().find(|other| other.name == *name);
                attribute.map_or(Found::Nothing, found)
            }
            Subject::Hostname => Found::Text(&agent.hostname),
            Subject::Region => agent.region.as_deref().map_or(Found::Nothing, Found::Text),
            Subject::Zone => agent.zone.as_deref().map_or(Found::Nothing, Found::Text),
        };
        match (&self.predicate, found) {
            (Predicate::Exists, found) => !matches!(found, Found::Nothing),
            (Predicate::NotExists, found) => matches!(found, Found::Nothing),
            (Predicate::Equals(_) | Predicate::Matches(_), Found::Nothing) => false,
            (Predicate::NotEquals(_) | Predicate::NotMatches(_), Found::Nothing)
            | (_, Found::Other) => true,
            (Predicate::Equals(value), Found::Text(text)) => text == value,
            (Predicate::NotEquals(value), Found::Text(text)) => text != value,
            (Predicate::Matches(pattern), Found::Text(text)) => pattern.is_match(text),
            (Predicate::NotMatches(pattern), Found::Text(text)) => !pattern.is_match(text),
        }
    }
}

fn found(attribute: &Attribute) -> Found<'_> {
    match &attribute.text {
        Some(text) if attribute.r#type() == value::Type::Text => Found::Text(&text.value),
        _ => Found::Other,
    }
}

fn subject(selector: &Selector) -> Result<Subject, String> {
    match (&selector.attribute_name, selector.pseudoattribute_type) {
        (Some(name), None) => Ok(Subject::Attribute(name.clone())),
        (None, Some(_)) => match selector.pseudoattribute_type() {
            PseudoattributeType::Hostname => Ok(Subject::Hostname),
            PseudoattributeType::Region => Ok(Subject::Region),
            PseudoattributeType::Zone => Ok(Subject::Zone),
            PseudoattributeType::Unknown => Err("Unknown pseudoattribute type".to_owned()),
        },
        _ => Err("Exactly one of 'AttributeConstraint::Selector::name' or \
                  'AttributeConstraint::Selector::pseudoattribute_type' must be set"
            .to_owned()),
    }
}

fn predicate(predicate: &WirePredicate) -> Result<Predicate, String> {
    let WirePredicate {
        exists,
        not_exists,
        text_equals,
        text_not_equals,
        text_matches,
        text_not_matches,
    } = predicate;
    if exists.is_some() {
        return Ok(Predicate::Exists);
    }
    if not_exists.is_some() {
        return Ok(Predicate::NotExists);
    }
    if let Some(wire::TextEquals { value }) = text_equals {
        return Ok(Predicate::Equals(value.clone()));
    }
    if let Some(wire::TextNotEquals { value }) = text_not_equals {
        return Ok(Predicate::NotEquals(value.clone()));
    }
    if let Some(wire::TextMatches { regex }) = text_matches {
        return pattern(regex).map(Predicate::Matches);
    }
    if let Some(wire::TextNotMatches { regex }) = text_not_matches {
        return pattern(regex).map(Predicate::NotMatches);
    }
    Err("Unknown predicate type".to_owned())
}

/// A pattern that has to match the whole text.
fn pattern(text: &str) -> Result<Regex, String> {
    // Checked on its own first: `a)(b` would be a pattern inside our parentheses.
    let build = |text: &str| RegexBuilder::new(text).size_limit(PROGRAM_LIMIT).build();
    build(text)
        .and_then(|_| build(&format!(r"\A(?:{text})\z")))
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("Regex '{text}' is too complex"),
            error => format!("Failed to construct regex from pattern '{text}': {error}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_core::attributes;
    use dcos_proto::json::{Dialect, from_slice};

    fn compile(groups: &str) -> Result<Constraints, ConstraintError> {
        let text = format!(r#"{{"role_constraints": {{"web": {{"groups": {groups}}}}}}}"#);
        Constraints::compile(&from_slice(text.as_bytes(), Dialect::V1).unwrap())
    }

    fn agent() -> AgentSpec {
        AgentSpec {
            hostname: "node-7.example".into(),
            attributes: attributes::parse("rack:r1;cores:8").unwrap(),
            region: Some("eu".into()),
            ..AgentSpec::default()
        }
    }

    /// Whether one condition, written as selector and predicate, accepts the agent.
    fn accepts(selector: &str, predicate: &str) -> bool {
        let groups = format!(
            r#"[{{"attribute_constraints": [{{"selector": {selector}, "predicate": {predicate}}}]}}]"#
        );
        !compile(&groups).unwrap().exclude("web", &agent())
    }

    #[test]
    fn conditions_look_at_attributes_and_places() {
        let rack = r#"{"attribute_name": "rack"}"#;
        let none = r#"{"attribute_name": "none"}"#;
        let cores = r#"{"attribute_name": "cores"}"#;
        let host = r#"{"pseudoattribute_type": "HOSTNAME"}"#;
        let region = r#"{"pseudoattribute_type": "REGION"}"#;
        let zone = r#"{"pseudoattribute_type": "ZONE"}"#;
        for (selector, predicate, expected) in [
            (rack, r#"{"exists": {}}"#, true),
            (rack, r#"{"not_exists": {}}"#, false),
            (none, r#"{"exists": {}}"#, false),
            (zone, r#"{"not_exists": {}}"#, true),
            (rack, r#"{"text_equals": {"value": "r1"}}"#, true),
            (rack, r#"{"text_equals": {"value": "r2"}}"#, false),
            (none, r#"{"text_equals": {"value": "r1"}}"#, false),
            (none, r#"{"text_not_equals": {"value": "r1"}}"#, true),
            (region, r#"{"text_equals": {"value": "eu"}}"#, true),
            (
                host,
                r#"{"text_matches": {"regex": "node-[0-9]+.*"}}"#,
                true,
            ),
            (host, r#"{"text_matches": {"regex": "node"}}"#, false),
            (host, r#"{"text_not_matches": {"regex": "node"}}"#, true),
            // Only texts can be compared; what is none passes.
            (cores, r#"{"text_equals": {"value": "x"}}"#, true),
            (cores, r#"{"text_not_matches": {"regex": ".*"}}"#, true),
        ] {
            assert_eq!(
                accepts(selector, predicate),
                expected,
                "{selector} {predicate}"
            );
        }
    }

    #[test]
    fn groups_are_alternatives() {
        let condition = |rack: &str| {
            format!(
                r#"{{"selector": {{"attribute_name": "rack"}},
                    "predicate": {{"text_equals": {{"value": "{rack}"}}}}}}"#
            )
        };
        let group = |all: &[String]| format!(r#"{{"attribute_constraints": [{}]}}"#, all.join(","));
        let (one, two) = (condition("r1"), condition("r2"));
        let alone = |condition: &String| group(std::slice::from_ref(condition));
        let either = format!("[{}, {}]", alone(&two), alone(&one));
        let both = format!("[{}]", group(&[one, two]));
        assert!(!compile(&either).unwrap().exclude("web", &agent()));
        assert!(compile(&both).unwrap().exclude("web", &agent()));
        assert!(
            !compile(&both).unwrap().exclude("db", &agent()),
            "other roles are free"
        );
    }

    #[test]
    fn wrong_constraints_say_why() {
        let regex = |text: &str| {
            format!(
                r#"[{{"attribute_constraints": [{{"selector": {{"attribute_name": "a"}},
                    "predicate": {{"text_matches": {{"regex": "{text}"}}}}}}]}}]"#
            )
        };
        for (groups, message) in [
            (
                "[]".to_owned(),
                "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for \
                 role web",
            ),
            (
                "[{}]".to_owned(),
                "'OfferConstraints::RoleConstraints::groups' for role webcontains",
            ),
            (
                regex("a)(b"),
                "A role web has an invalid 'AttributeConstraint': Failed to construct regex from \
                 pattern 'a)(b'",
            ),
            (
                regex("(a{1000}){1000}"),
                "A role web has an invalid 'AttributeConstraint': Regex '(a{1000}){1000}' is too \
                 complex",
            ),
            (
                r#"[{"attribute_constraints": [{"selector": {}, "predicate": {"exists": {}}}]}]"#
                    .to_owned(),
                "A role web has an invalid 'AttributeConstraint': Exactly one of",
            ),
            (
                r#"[{"attribute_constraints": [{"selector": {"attribute_name": "a"},
                    "predicate": {}}]}]"#
                    .to_owned(),
                "A role web has an invalid 'AttributeConstraint': Unknown predicate type",
            ),
        ] {
            let error = compile(&groups).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
