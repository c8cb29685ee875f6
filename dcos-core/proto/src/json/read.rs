//! Reading: from a JSON tree, with the place of a mistake in its error.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Dialect, Json, JsonEnum};

/// Why a document is not the message it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is not JSON.
    #[error("not valid JSON: {reason}")]
    Syntax {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// A value has another type than its field.
    #[error("{field}: expected {expected}, found {found}")]
    Type {
        /// Where, such as `accept.offer_ids[0].value`.
        field: String,
        /// What would be right.
        expected: &'static str,
        /// What is there, shortened.
        found: String,
    },
    /// A required field is not there.
    #[error("missing required field {field}")]
    Missing {
        /// Where, such as `framework_info.user`.
        field: String,
    },
}

/// Reads a message from JSON text.
///
/// # Errors
/// [`JsonError`]: the text is not JSON, or not this message.
pub fn from_slice<M: Json>(text: &[u8], dialect: Dialect) -> Result<M, JsonError> {
    let value: Value = serde_json::from_slice(text).map_err(|error| JsonError::Syntax {
        reason: error.to_string(),
    })?;
    from_value(&value, dialect)
}

/// Reads a message from a JSON tree.
///
/// # Errors
/// [`JsonError`]: the tree is not this message.
pub fn from_value<M: Json>(value: &Value, dialect: Dialect) -> Result<M, JsonError> {
    M::read_json(
        value,
        &Place {
            parent: None,
            step: Step::Root,
        },
        dialect,
    )
}

/// The way from the document's root to a value; built only on the stack.
#[derive(Debug)]
pub struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Debug)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl Place<'_> {
    fn wrong(&self, expected: &'static str, found: &Value) -> JsonError {
        let mut found = match found {
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            other => other.to_string(),
        };
        if found.len() > 64 {
            let end = (0..=60)
                .rev()
                .find(|end| found.is_char_boundary(*end))
                .unwrap_or(0);
            found.truncate(end);
            found.push('…');
        }
        JsonError::Type {
            field: self.to_string(),
            expected,
            found,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nested = self
            .parent
            .is_some_and(|parent| !matches!(parent.step, Step::Root));
        if let Some(parent) = self.parent.filter(|_| nested) {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => f.write_str("the document"),
            Step::Field(name) if nested => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// One JSON object that is being read as a message.
#[derive(Debug)]
pub struct Object<'a> {
    fields: &'a Map<String, Value>,
    dialect: Dialect,
    place: &'a Place<'a>,
}

impl Object<'_> {
    /// A required field.
    ///
    /// # Errors
    /// [`JsonError::Missing`], or the field is of another type.
    pub fn required<T: ReadJson>(&self, v1: &str, v0: &str) -> Result<T, JsonError> {
        self.optional(v1, v0)?.ok_or_else(|| self.missing(v1, v0))
    }

    /// An optional field.
    ///
    /// # Errors
    /// The field is of another type.
    pub fn optional<T: ReadJson>(&self, v1: &str, v0: &str) -> Result<Option<T>, JsonError> {
        let Some((name, value)) = self.find(v1, v0) else {
            return Ok(None);
        };
        T::read_json(value, &self.at(name), self.dialect).map(Some)
    }

    /// A repeated field; absent is empty.
    ///
    /// # Errors
    /// The field is no list, or an item is of another type.
    pub fn list<T: ReadJson>(&self, v1: &str, v0: &str) -> Result<Vec<T>, JsonError> {
        self.items(v1, v0, |value, place| {
            T::read_json(value, place, self.dialect).map(Some)
        })
    }

    /// A map field; absent is empty.
    ///
    /// # Errors
    /// The field is no object, or a value is of another type.
    pub fn map<V: ReadJson>(&self, v1: &str, v0: &str) -> Result<BTreeMap<String, V>, JsonError> {
        let Some((name, value)) = self.find(v1, v0) else {
            return Ok(BTreeMap::new());
        };
        let place = self.at(name);
        let entries = value
            .as_object()
            .ok_or_else(|| place.wrong("an object", value))?;
        let read = |(key, value): (&String, &Value)| {
            let place = Place {
                parent: Some(&place),
                step: Step::Field(key),
            };
            Ok((key.clone(), V::read_json(value, &place, self.dialect)?))
        };
        entries.iter().map(read).collect()
    }

    /// A required enum.
    ///
    /// # Errors
    /// [`JsonError::Missing`], or a name this enum does not have.
    pub fn required_enum<E: JsonEnum>(&self, v1: &str, v0: &str) -> Result<i32, JsonError> {
        let Some((name, value)) = self.find(v1, v0) else {
            return Err(self.missing(v1, v0));
        };
        let place = self.at(name);
        self.enumeration::<E>(value, &place)?
            .ok_or_else(|| place.wrong("the name of a known value", value))
    }

    /// An optional enum; a name this enum does not have counts as unset.
    ///
    /// # Errors
    /// The field is no name.
    pub fn optional_enum<E: JsonEnum>(&self, v1: &str, v0: &str) -> Result<Option<i32>, JsonError> {
        let Some((name, value)) = self.find(v1, v0) else {
            return Ok(None);
        };
        self.enumeration::<E>(value, &self.at(name))
    }

    /// A repeated enum; unknown names are left out.
    ///
    /// # Errors
    /// The field is no list of names.
    pub fn enums<E: JsonEnum>(&self, v1: &str, v0: &str) -> Result<Vec<i32>, JsonError> {
        self.items(v1, v0, |value, place| self.enumeration::<E>(value, place))
    }

    fn enumeration<E: JsonEnum>(
        &self,
        value: &Value,
        place: &Place<'_>,
    ) -> Result<Option<i32>, JsonError> {
        match value {
            Value::String(name) => Ok(E::parse_in(name, self.dialect).map(Into::into)),
            other => Err(place.wrong("a name in a string", other)),
        }
    }

    fn items<T>(
        &self,
        v1: &str,
        v0: &str,
        read: impl Fn(&Value, &Place<'_>) -> Result<Option<T>, JsonError>,
    ) -> Result<Vec<T>, JsonError> {
        let Some((name, value)) = self.find(v1, v0) else {
            return Ok(Vec::new());
        };
        let place = self.at(name);
        let values = value
            .as_array()
            .ok_or_else(|| place.wrong("a list", value))?;
        let mut items = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            items.extend(read(
                value,
                &Place {
                    parent: Some(&place),
                    step: Step::Index(index),
                },
            )?);
        }
        Ok(items)
    }

    fn find<'n>(&self, v1: &'n str, v0: &'n str) -> Option<(&'n str, &Value)> {
        let name = if self.dialect == Dialect::V0 { v0 } else { v1 };
        self.fields
            .get(name)
            .filter(|value| !value.is_null())
            .map(|value| (name, value))
    }

    fn at<'n>(&'n self, name: &'n str) -> Place<'n> {
        Place {
            parent: Some(self.place),
            step: Step::Field(name),
        }
    }

    fn missing(&self, v1: &str, v0: &str) -> JsonError {
        let name = if self.dialect == Dialect::V0 { v0 } else { v1 };
        JsonError::Missing {
            field: self.at(name).to_string(),
        }
    }
}

/// A value of a field.
pub trait ReadJson: Sized {
    /// Reads the value that stands at `place`.
    ///
    /// # Errors
    /// The value is of another type.
    fn read_json(value: &Value, place: &Place<'_>, dialect: Dialect) -> Result<Self, JsonError>;
}

impl<M: Json> ReadJson for M {
    fn read_json(value: &Value, place: &Place<'_>, dialect: Dialect) -> Result<Self, JsonError> {
        let fields = value
            .as_object()
            .ok_or_else(|| place.wrong("an object", value))?;
        M::read(&Object {
            fields,
            dialect,
            place,
        })
    }
}

impl ReadJson for String {
    fn read_json(value: &Value, place: &Place<'_>, _: Dialect) -> Result<Self, JsonError> {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| place.wrong("a string", value))
    }
}

impl ReadJson for Vec<u8> {
    fn read_json(value: &Value, place: &Place<'_>, _: Dialect) -> Result<Self, JsonError> {
        value
            .as_str()
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or_else(|| place.wrong("bytes as base64", value))
    }
}

impl ReadJson for bool {
    fn read_json(value: &Value, place: &Place<'_>, _: Dialect) -> Result<Self, JsonError> {
        match value {
            Value::Bool(value) => Ok(*value),
            Value::String(text) => text
                .parse()
                .map_err(|_| place.wrong("`true` or `false`", value)),
            _ => Err(place.wrong("`true` or `false`", value)),
        }
    }
}

impl ReadJson for f64 {
    fn read_json(value: &Value, place: &Place<'_>, _: Dialect) -> Result<Self, JsonError> {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| place.wrong("a number", value))
    }
}

impl ReadJson for f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the field is declared `float`"
    )]
    fn read_json(value: &Value, place: &Place<'_>, dialect: Dialect) -> Result<Self, JsonError> {
        f64::read_json(value, place, dialect).map(|value| value as f32)
    }
}

/// The whole number in `value`, which may also stand in a string or be written `12.0`.
fn integer(value: &Value) -> Option<i128> {
    let whole = |float: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be whole and in range"
        )]
        (float.fract() == 0.0 && float.abs() < 1e20).then_some(float as i128)
    };
    match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().and_then(whole)),
        Value::String(text) => text
            .parse()
            .ok()
            .or_else(|| text.parse::<f64>().ok().and_then(whole)),
        _ => None,
    }
}

macro_rules! integers {
    ($($kind:ty => $expected:literal),*) => {$(
        impl ReadJson for $kind {
            fn read_json(
                value: &Value,
                place: &Place<'_>,
                _: Dialect,
            ) -> Result<Self, JsonError> {
                integer(value)
                    .and_then(|number| number.try_into().ok())
                    .ok_or_else(|| place.wrong($expected, value))
            }
        }
    )*};
}

integers!(
    i32 => "a 32-bit integer",
    i64 => "a 64-bit integer",
    u32 => "an unsigned 32-bit integer",
    u64 => "an unsigned 64-bit integer"
);
