//! What describes an agent: `rack:r1;cores:8;ports:[1-10]`, typed by how it is written.
//!
//! Source: Mesos 1.11 `common/attributes.cpp`. Where the original aborts the process, this
//! returns an error.

use dcos_proto::mesos::{Attribute, value};
use serde_json::{Map, Value as Json};

use crate::resources::value::{Parsed, ValueError, parse_value};
use crate::resources::{Ranges, Scalar};

/// Why a text does not hold attributes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// A piece is not `name:value`.
    #[error("Invalid attribute key:value pair '{0}'")]
    Pair(String),
    /// The value cannot be read.
    #[error("Failed to parse attribute {name} text {text}")]
    Value {
        /// The attribute's name.
        name: String,
        /// The value as written.
        text: String,
        /// What is wrong with it.
        source: ValueError,
    },
    /// Attributes cannot be sets.
    #[error("Bad type for attribute {name} text {text} type SET")]
    Set {
        /// The attribute's name.
        name: String,
        /// The value as written.
        text: String,
    },
}

/// Reads attributes such as `rack:r1;zone:eu;cores:8`.
///
/// # Errors
/// The first [`AttributeError`].
///
/// ```
/// let attributes = dcos_core::attributes::parse("rack:r1;cores:8").unwrap();
/// assert_eq!(attributes[0].text.as_ref().unwrap().value, "r1");
/// assert_eq!(attributes[1].scalar.as_ref().unwrap().value, 8.0);
/// ```
pub fn parse(text: &str) -> Result<Vec<Attribute>, AttributeError> {
    text.split([';', '\n'])
        .filter(|piece| !piece.is_empty())
        .map(parse_one)
        .collect()
}

fn parse_one(piece: &str) -> Result<Attribute, AttributeError> {
    let (name, text) = piece
        .split_once(':')
        .filter(|(name, text)| !name.is_empty() && !text.is_empty())
        .ok_or_else(|| AttributeError::Pair(piece.to_owned()))?;
    let mut attribute = Attribute {
        name: name.to_owned(),
        ..Attribute::default()
    };
    let parsed = parse_value(text).map_err(|source| AttributeError::Value {
        name: name.to_owned(),
        text: text.to_owned(),
        source,
    })?;
    match parsed {
        Parsed::Scalar(number) => {
            attribute.set_type(value::Type::Scalar);
            attribute.scalar = Some(value::Scalar { value: number });
        }
        Parsed::Ranges(ranges) => {
            attribute.set_type(value::Type::Ranges);
            attribute.ranges = Some(ranges.to_proto());
        }
        Parsed::Text(text) => {
            attribute.set_type(value::Type::Text);
            attribute.text = Some(value::Text { value: text });
        }
        Parsed::Set(_) => {
            return Err(AttributeError::Set {
                name: name.to_owned(),
                text: text.to_owned(),
            });
        }
    }
    Ok(attribute)
}

/// Whether both lists hold the same attributes, whatever their order and repetition.
pub fn equal(one: &[Attribute], other: &[Attribute]) -> bool {
    let within = |part: &[Attribute], whole: &[Attribute]| {
        part.iter()
            .all(|attribute| whole.iter().any(|other| same(attribute, other)))
    };
    one.len() == other.len() && within(one, other) && within(other, one)
}

fn same(one: &Attribute, other: &Attribute) -> bool {
    one.name == other.name
        && one.r#type == other.r#type
        && match one.r#type() {
            value::Type::Scalar => {
                let scalar = |attribute: &Attribute| {
                    attribute
                        .scalar
                        .map(|scalar| Scalar::from_f64(scalar.value))
                };
                scalar(one) == scalar(other)
            }
            value::Type::Ranges => {
                let ranges =
                    |attribute: &Attribute| attribute.ranges.as_ref().map(Ranges::from_proto);
                ranges(one) == ranges(other)
            }
            value::Type::Text => one.text == other.text,
            value::Type::Set => one.set == other.set,
        }
}

/// The value as text, the way endpoints and constraints see it.
pub fn value_text(attribute: &Attribute) -> String {
    match attribute.r#type() {
        value::Type::Scalar => Scalar::from_f64(
            attribute
                .scalar
                .map(|scalar| scalar.value)
                .unwrap_or_default(),
        )
        .to_string(),
        value::Type::Ranges => attribute
            .ranges
            .as_ref()
            .map(Ranges::from_proto)
            .unwrap_or_default()
            .to_string(),
        value::Type::Text => attribute
            .text
            .as_ref()
            .map(|text| text.value.clone())
            .unwrap_or_default(),
        value::Type::Set => {
            let items = attribute
                .set
                .as_ref()
                .map(|set| set.item.join(", "))
                .unwrap_or_default();
            format!("{{{items}}}")
        }
    }
}

/// The object that v0 endpoints serve: scalars are numbers, all else is text.
pub fn to_endpoint_json(attributes: &[Attribute]) -> Map<String, Json> {
    attributes
        .iter()
        .map(|attribute| {
            let json = match &attribute.scalar {
                Some(scalar) if attribute.r#type() == value::Type::Scalar => scalar.value.into(),
                _ => value_text(attribute).into(),
            };
            (attribute.name.clone(), json)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_typed_by_their_syntax() {
        let all = parse("rack:r1;cores:8;ports:[1-10,5-12];url:http://x:80").unwrap();
        let shown: Vec<String> = all.iter().map(value_text).collect();
        assert_eq!(shown, ["r1", "8", "[1-12]", "http://x:80"]);
        let json = Json::Object(to_endpoint_json(&all)).to_string();
        assert!(json.contains(r#""cores":8.0"#), "{json}");
        assert!(json.contains(r#""ports":"[1-12]""#), "{json}");
    }

    #[test]
    fn order_is_not_part_of_equality() {
        let one = parse("a:1;b:x").unwrap();
        assert!(equal(&one, &parse("b:x;a:1.0001").unwrap()));
        assert!(!equal(&one, &parse("b:x;a:2").unwrap()));
        assert!(!equal(&one, &parse("b:x").unwrap()));
    }

    #[test]
    fn what_is_no_attribute_is_refused() {
        for (text, message) in [
            ("rack", "Invalid attribute key:value pair 'rack'"),
            ("rack:", "Invalid attribute key:value pair 'rack:'"),
            ("a:{x,y}", "Bad type for attribute a text {x,y} type SET"),
            ("a:[1-2", "Failed to parse attribute a text [1-2"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
        assert_eq!(parse(""), Ok(vec![]));
    }
}
