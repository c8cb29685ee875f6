//! Resources as operators write them: `cpus(web):4;ports:[1-9]` or a JSON array.

use std::collections::BTreeMap;

use dcos_proto::json::{Dialect, from_value};
use dcos_proto::mesos::{Resource, value};
use serde_json::Value as Json;

use super::convert::{static_reservation, upgrade};
use super::resource::ResourceExt;
use super::validate::{Invalid, validate};
use super::value::{Parsed, ValueError, parse_value};
use super::{Resources, scalar_resource};
use crate::roles;

/// Why a text does not hold resources. Messages are Mesos's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A piece is not `name:value`.
    #[error("Bad value for resources, missing or extra ':' in {0}")]
    Colon(String),
    /// A role's parenthesis is not closed.
    #[error("Bad value for resources, mismatched parentheses in {0}")]
    Parentheses(String),
    /// The value cannot be read.
    #[error("Failed to parse resource {name} value {text} error {reason}")]
    Value {
        /// The resource's name.
        name: String,
        /// The value as written.
        text: String,
        /// What is wrong with it.
        reason: ValueError,
    },
    /// The value is a text, which cannot be a resource.
    #[error("Bad type for resource {name} value {text} type TEXT")]
    Text {
        /// The resource's name.
        name: String,
        /// The value as written.
        text: String,
    },
    /// The JSON array holds something else than resources.
    #[error("Some JSON resources were not formatted properly: {0}")]
    Json(String),
    /// A resource breaks a rule.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A resource has something that only a running cluster gives.
    #[error("{0}")]
    NotForOperators(&'static str),
    /// One name stands for two types.
    #[error("Resources with the same name ('{0}') but different types are not allowed")]
    Types(String),
}

impl Resources {
    /// Reads resources as an agent's `--resources` takes them: `name(role):value` separated by
    /// `;`, or a JSON array of `Resource`. Those without a role are kept for `default_role`.
    ///
    /// # Errors
    /// [`ParseError`] for what cannot be read, breaks a rule, or is not for operators to give
    /// (volumes, revocable resources, dynamic reservations).
    ///
    /// ```
    /// use dcos_core::resources::Resources;
    ///
    /// let resources = Resources::parse_for("cpus(web):2;cpus:1;ports:[5-9,1-4]", "*").unwrap();
    /// assert_eq!(resources.cpus(), Some(3.0));
    /// assert_eq!(resources.reserved("web").cpus(), Some(2.0));
    /// assert_eq!(resources.ports().to_string(), "[1-9]");
    /// ```
    pub fn parse_for(text: &str, default_role: &str) -> Result<Self, ParseError> {
        let mut resources = Self::default();
        for resource in parse_list(text, default_role)? {
            validate(&resource)?;
            resources.insert(resource, 1);
        }
        for_operators(&resources)?;
        Ok(resources)
    }

    /// [`Resources::parse_for`] the default role `*`.
    ///
    /// # Errors
    /// As there.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_for(text, roles::DEFAULT)
    }
}

impl std::str::FromStr for Resources {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// Reads resources without checking or combining them; empty ones stay.
///
/// # Errors
/// [`ParseError`] for what cannot be read.
pub fn parse_list(text: &str, default_role: &str) -> Result<Vec<Resource>, ParseError> {
    match serde_json::from_str(text) {
        Ok(Json::Array(items)) => from_json(items, default_role),
        _ => from_text(text, default_role),
    }
}

fn from_json(items: Vec<Json>, default_role: &str) -> Result<Vec<Resource>, ParseError> {
    items
        .into_iter()
        .map(|item| {
            let mut resource: Resource = from_value(&item, Dialect::V1)
                .map_err(|error| ParseError::Json(error.to_string()))?;
            if resource.role.is_none() && resource.reservations.is_empty() {
                resource.role = Some(default_role.to_owned());
            }
            upgrade(&mut resource);
            Ok(resource)
        })
        .collect()
}

fn from_text(text: &str, default_role: &str) -> Result<Vec<Resource>, ParseError> {
    text.split(';')
        .filter(|token| !token.is_empty())
        .map(|token| one(token, default_role))
        .collect()
}

fn one(token: &str, default_role: &str) -> Result<Resource, ParseError> {
    let pieces: Vec<&str> = token.split(':').filter(|piece| !piece.is_empty()).collect();
    let [key, text] = *pieces else {
        return Err(ParseError::Colon(token.to_owned()));
    };
    let (name, role) = match key.split_once('(') {
        None => (key, default_role),
        Some((name, rest)) => {
            let (role, _) = rest
                .split_once(')')
                .ok_or_else(|| ParseError::Parentheses(token.to_owned()))?;
            (name, role)
        }
    };
    from_parts(name.trim(), text, role.trim())
}

fn from_parts(name: &str, text: &str, role: &str) -> Result<Resource, ParseError> {
    let parsed = parse_value(text).map_err(|reason| ParseError::Value {
        name: name.to_owned(),
        text: text.to_owned(),
        reason,
    })?;
    let mut resource = match parsed {
        Parsed::Scalar(number) => scalar_resource(name, number),
        Parsed::Ranges(ranges) => super::ranges_resource(name, &ranges),
        Parsed::Set(items) => {
            let mut resource = Resource {
                name: name.to_owned(),
                ..Resource::default()
            };
            resource.set_type(value::Type::Set);
            resource.set = Some(value::Set { item: items });
            resource
        }
        Parsed::Text(_) => {
            return Err(ParseError::Text {
                name: name.to_owned(),
                text: text.to_owned(),
            });
        }
    };
    if role != roles::DEFAULT {
        resource.reservations.push(static_reservation(role));
    }
    Ok(resource)
}

fn for_operators(resources: &Resources) -> Result<(), ParseError> {
    let mut types = BTreeMap::new();
    for resource in resources.iter() {
        if resource.is_persistent_volume() {
            return Err(ParseError::NotForOperators(
                "Persistent volumes cannot be specified at the command line",
            ));
        }
        if resource.is_revocable() {
            return Err(ParseError::NotForOperators(
                "Revocable resources cannot be specified at the command line; do not include a \
                 'revocable' key in the resources JSON",
            ));
        }
        if resource.is_dynamically_reserved() {
            return Err(ParseError::NotForOperators(
                "Dynamic reservations cannot be specified at the command line; do not include a \
                 reservation with DYNAMIC type in the resources JSON",
            ));
        }
        if *types.entry(&resource.name).or_insert(resource.r#type) != resource.r#type {
            return Err(ParseError::Types(resource.name.clone()));
        }
    }
    Ok(())
}
