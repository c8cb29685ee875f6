//! Where instances may run: `["hostname", "UNIQUE"]`, `["rack", "GROUP_BY", "3"]`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One rule about one property of agents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Constraint {
    /// `hostname`, `@hostname`, `@region`, `@zone`, or the name of an attribute.
    pub field: String,
    /// The rule.
    pub operator: Operator,
    /// Its parameter.
    pub value: Option<String>,
}

/// What a constraint asks of an agent's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// No two instances share it.
    Unique,
    /// All instances share it.
    Cluster,
    /// Instances spread evenly over its values.
    GroupBy,
    /// It matches a regular expression.
    Like,
    /// It does not match, or is missing.
    Unlike,
    /// At most so many instances share it.
    MaxPer,
    /// It is exactly this.
    Is,
}

const NAMES: [(Operator, &str); 7] = [
    (Operator::Unique, "UNIQUE"),
    (Operator::Cluster, "CLUSTER"),
    (Operator::GroupBy, "GROUP_BY"),
    (Operator::Like, "LIKE"),
    (Operator::Unlike, "UNLIKE"),
    (Operator::MaxPer, "MAX_PER"),
    (Operator::Is, "IS"),
];

impl Operator {
    /// Reads a name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map(|(op, _)| *op)
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            NAMES
                .iter()
                .find(|(op, _)| op == self)
                .map_or("", |(_, name)| name),
        )
    }
}

impl TryFrom<Vec<String>> for Constraint {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        let mut words = words.into_iter();
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(field), Some(operator), value, None) => {
                let operator = Operator::parse(&operator).ok_or("unknown operator")?;
                Ok(Self {
                    field,
                    operator,
                    value,
                })
            }
            _ => Err("Each constraint must have either 2 or 3 fields".to_owned()),
        }
    }
}

impl From<Constraint> for Vec<String> {
    fn from(constraint: Constraint) -> Self {
        let mut words = vec![constraint.field, constraint.operator.to_string()];
        words.extend(constraint.value);
        words
    }
}
