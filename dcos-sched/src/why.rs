//! Why a framework is offered nothing, or not enough: the words of question and answer.
//!
//! The master answers `GET /allocator/explain` with [`Explanations`]; the SDK asks with
//! [`Handle::why`](crate::sdk::Handle::why), people with `dcos why`. See `docs/why.md`.

use std::collections::BTreeMap;

use dcos_core::resources::{ParseError, Resources};
use dcos_proto::mesos::FrameworkId;
use dcos_proto::scheduler::attribute_constraint::{Predicate, Selector, predicate, selector};
use dcos_proto::scheduler::offer_constraints::{RoleConstraints, role_constraints};
use dcos_proto::scheduler::{AttributeConstraint, OfferConstraints};
use serde::{Deserialize, Serialize};

use crate::allocator::Constraints;

/// What a framework would launch, if it were offered it.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// How much: names and amounts count, reservations do not.
    pub resources: Resources,
    /// Where: `rack=a`, `rack!=a`, `rack` (there is such an attribute), `!rack`; `@hostname`,
    /// `@region` and `@zone` stand for what is no attribute. All of them have to hold.
    pub conditions: Vec<String>,
}

/// A wish that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WishError {
    /// The resources are not in the form of `cpus:1;mem:1024`.
    #[error("reading the resources of a wish")]
    Resources(#[from] ParseError),
    /// A condition is not in the form of `rack=a`.
    #[error("{text:?} is no condition: {reason}")]
    Condition {
        /// The condition.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Wish {
    /// Reads `cpus:1;mem:1024` and conditions separated by commas.
    ///
    /// # Errors
    /// [`WishError`]
    pub fn parse(resources: &str, conditions: &str) -> Result<Self, WishError> {
        let conditions = conditions.split(',').map(str::trim);
        let wish = Self {
            resources: Resources::parse(resources)?,
            conditions: conditions
                .filter(|condition| !condition.is_empty())
                .map(ToOwned::to_owned)
                .collect(),
        };
        wish.constraints("*")?;
        Ok(wish)
    }

    /// The amounts of its resources.
    pub(crate) fn amounts(&self) -> BTreeMap<String, f64> {
        amounts(&self.resources)
    }

    /// Its conditions, for one role.
    pub(crate) fn constraints(&self, role: &str) -> Result<Constraints, WishError> {
        if self.conditions.is_empty() {
            return Ok(Constraints::default());
        }
        let attribute_constraints = self.conditions.iter().map(|text| condition(text)).collect();
        let constraints = RoleConstraints {
            groups: vec![role_constraints::Group {
                attribute_constraints,
            }],
        };
        let constraints = OfferConstraints {
            role_constraints: [(role.to_owned(), constraints)].into(),
        };
        Constraints::compile(&constraints).map_err(|error| WishError::Condition {
            text: self.conditions.join(","),
            reason: error.to_string(),
        })
    }
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Only this framework.
    pub framework_id: Option<FrameworkId>,
    /// Only this role.
    pub role: Option<String>,
    /// What it would launch.
    pub wish: Option<Wish>,
}

impl Question {
    /// The path and query of the question.
    pub fn path(&self) -> String {
        let mut parts = Vec::new();
        let mut part = |name: &str, value: &str| parts.push(format!("{name}={}", escape(value)));
        if let Some(id) = &self.framework_id {
            part("framework_id", &id.value);
        }
        if let Some(role) = &self.role {
            part("role", role);
        }
        if let Some(wish) = &self.wish {
            part("resources", &wish.resources.to_string());
            part("conditions", &wish.conditions.join(","));
        }
        format!("/allocator/explain?{}", parts.join("&"))
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The amount of each resource: scalars as they are, ports and sets by how many there are.
pub(crate) fn amounts(resources: &Resources) -> BTreeMap<String, f64> {
    let names = resources.names().into_iter();
    names
        .map(|name| {
            let amount = match resources.scalar(name) {
                Some(scalar) => scalar.as_f64(),
                #[expect(clippy::cast_precision_loss, reason = "there are 65,536 ports")]
                None => resources.ranges(name).len() as f64,
            };
            (name.to_owned(), amount)
        })
        .collect()
}

fn condition(text: &str) -> AttributeConstraint {
    let mut predicate = Predicate::default();
    let name = if let Some((name, value)) = text.split_once("!=") {
        predicate.text_not_equals = Some(predicate::TextNotEquals {
            value: value.to_owned(),
        });
        name
    } else if let Some((name, value)) = text.split_once('=') {
        predicate.text_equals = Some(predicate::TextEquals {
            value: value.to_owned(),
        });
        name
    } else if let Some(name) = text.strip_prefix('!') {
        predicate.not_exists = Some(predicate::NotExists {});
        name
    } else {
        predicate.exists = Some(predicate::Exists {});
        text
    };
    let mut selector = Selector::default();
    let pseudo = match name {
        "@hostname" => Some(selector::PseudoattributeType::Hostname),
        "@region" => Some(selector::PseudoattributeType::Region),
        "@zone" => Some(selector::PseudoattributeType::Zone),
        _ => None,
    };
    match pseudo {
        Some(kind) => selector.pseudoattribute_type = Some(kind.into()),
        None => selector.attribute_name = Some(name.to_owned()),
    }
    AttributeConstraint {
        selector,
        predicate,
    }
}

/// All answers to one question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanations {
    /// One a framework and role that was asked about.
    pub explanations: Vec<Explanation>,
    /// How many frameworks and roles were asked about that have none: one question is answered for a bounded number of
    /// agents.
    #[serde(default, skip_serializing_if = "is_none")]
    pub left_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// Why one role of one framework is not offered more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The framework.
    pub framework_id: String,
    /// Its name.
    #[serde(default)]
    pub framework_name: String,
    /// The role.
    pub role: String,
    /// The wish, if there was one, in the form of `cpus:1; mem:1024`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<String>,
    /// Reasons, and how many agents each holds for; most agents first.
    #[serde(default)]
    pub summary: Vec<Group>,
    /// The reason for each agent.
    pub not_offered: Vec<Answer>,
}

impl Explanation {
    /// One line: `3 agents: not enough mem (has 512, wish 1024); 2: reserved for x`.
    pub fn sentence(&self) -> String {
        let mut agents = " agents";
        let groups = self.summary.iter().map(|group| {
            let unit = std::mem::take(&mut agents);
            let unit = if group.count == 1 && !unit.is_empty() {
                " agent"
            } else {
                unit
            };
            format!("{}{unit}: {}", group.count, group.reason)
        });
        groups.collect::<Vec<_>>().join("; ")
    }
}

/// Agents that are not offered for the same reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// How many.
    pub count: usize,
    /// The reason in one word, for programs: `too_small`, `held`, `reserved`, `filtered`, ...
    pub kind: String,
    /// The reason, for people.
    pub reason: String,
    /// Some of the agents' ids.
    pub agents: Vec<String>,
}

/// Why one agent is not offered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The agent's id.
    pub agent_id: String,
    /// Its host name.
    #[serde(default)]
    pub hostname: String,
    /// The reason in one word, for programs.
    #[serde(default)]
    pub kind: String,
    /// The reason, for people.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_or_says_what_is_wrong() {
        let wish = Wish::parse("cpus:1;mem:64", "rack=a, !gpu,@hostname!=b").unwrap();
        assert_eq!(wish.conditions, ["rack=a", "!gpu", "@hostname!=b"]);
        assert!((wish.amounts()["mem"] - 64.0).abs() < 1e-9);
        assert!(Wish::parse("cpus", "").is_err());
        assert!(Wish::parse("", "").unwrap().resources.is_empty());
    }

    #[test]
    fn an_answer_is_one_sentence() {
        let group = |count, reason: &str| Group {
            count,
            reason: reason.to_owned(),
            ..Group::default()
        };
        let explanation = Explanation {
            summary: vec![group(3, "not enough mem"), group(1, "reserved for x")],
            ..Explanation::default()
        };
        assert_eq!(
            explanation.sentence(),
            "3 agents: not enough mem; 1: reserved for x"
        );
    }
}
