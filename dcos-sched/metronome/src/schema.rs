//! Is a document of the right shape? Says so in the words of the schema validator the original uses.
//!
//! Shapes are tables ([`tables`]), so that they can be read beside the original's schemas. Unlike Marathon's documents,
//! Metronome's may not hold what nobody knows.

pub(crate) mod tables;

use dcos_marathon::Violation;
use serde_json::{Map, Value};

/// What a value may look like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Text of at least so many characters.
    Text(usize),
    /// The name of a job or a schedule.
    Name,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A whole number of at least so much.
    Int(i64),
    /// A number of at least so much.
    Number(f64),
    /// `true` or `false`.
    Bool,
    /// A list.
    List(&'static Shape),
    /// A map with free keys.
    Map(&'static Shape),
    /// An object with these fields and no others.
    Closed(&'static [Field]),
    /// An object with these fields and others nobody looks at.
    Open(&'static [Field]),
    /// Text, or an object with these fields.
    TextOr(&'static [Field]),
}

/// A field of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: &'static str,
    shape: Shape,
    required: bool,
}

/// A field that may be missing.
const fn may(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: false,
    }
}

/// A field that must be there.
const fn must(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: true,
    }
}

/// The pattern names of jobs and schedules match, as it is shown.
const NAME: &str = r"^([a-z0-9]+(\-+[a-z0-9]+)*)(\.([a-z0-9]+(\-+[a-z0-9]+)*))*$";

/// Names are parts of the keys in the store.
const LONGEST_NAME: usize = 512;

/// What is wrong with `value`; nothing if it is of that shape.
pub(crate) fn check(value: &Value, shape: Shape) -> Vec<Violation> {
    let mut out = Vec::new();
    visit(value, shape, "", &mut out);
    out
}

fn visit(value: &Value, shape: Shape, path: &str, out: &mut Vec<Violation>) {
    let mut fail = |error: String| {
        out.push(Violation {
            path: path.to_owned(),
            error,
        });
    };
    match (shape, value) {
        (Shape::Text(least), Value::String(text)) => {
            if text.chars().count() < least {
                fail(format!(
                    "'{text}' does not match minimum length of {least}."
                ));
            }
        }
        (Shape::Name, Value::String(text)) => {
            if text.len() > LONGEST_NAME {
                fail(format!(
                    "'{text}' exceeds maximum length of {LONGEST_NAME}."
                ));
            }
            if !is_name(text) {
                fail(format!("'{text}' does not match pattern '{NAME}'."));
            }
        }
        (Shape::OneOf(known), Value::String(text)) => {
            if !known.contains(&text.as_str()) {
                fail("Instance is invalid enum value.".to_owned());
            }
        }
        (Shape::Int(least), Value::Number(number)) if is_whole(number) => {
            if number
                .as_f64()
                .is_some_and(|number| number < as_float(least))
            {
                fail(format!(
                    "{number} is smaller than required minimum value of {least}."
                ));
            }
        }
        (Shape::Number(least), Value::Number(number)) => {
            if number.as_f64().is_some_and(|number| number < least) {
                fail(format!(
                    "{number} is smaller than required minimum value of {least}."
                ));
            }
        }
        (Shape::Bool, Value::Bool(_)) | (Shape::TextOr(_), Value::String(_)) => {}
        (Shape::List(item), Value::Array(items)) => {
            for (at, value) in items.iter().enumerate() {
                visit(value, *item, &format!("{path}({at})"), out);
            }
        }
        (Shape::Map(item), Value::Object(fields)) => {
            for (name, value) in fields {
                visit(value, *item, &format!("{path}/{name}"), out);
            }
        }
        (Shape::Closed(known), Value::Object(fields)) => {
            let unknown: Vec<&str> = fields
                .keys()
                .map(String::as_str)
                .filter(|name| known.iter().all(|field| field.name != *name))
                .collect();
            if !unknown.is_empty() {
                fail(format!(
                    "Additional properties are not allowed, but found properties {}.",
                    unknown.join(", ")
                ));
            }
            visit_fields(fields, known, path, out);
        }
        (Shape::Open(known) | Shape::TextOr(known), Value::Object(fields)) => {
            visit_fields(fields, known, path, out);
        }
        (Shape::TextOr(_), _) => fail("Instance does not match any schema.".to_owned()),
        (shape, value) => fail(format!(
            "Wrong type. Expected {}, was {}.",
            expected(shape),
            kind(value)
        )),
    }
}

fn visit_fields(
    fields: &Map<String, Value>,
    known: &[Field],
    path: &str,
    out: &mut Vec<Violation>,
) {
    for field in known {
        match fields.get(field.name) {
            Some(value) => visit(value, field.shape, &format!("{path}/{}", field.name), out),
            None if field.required => out.push(Violation {
                path: path.to_owned(),
                error: format!("Property {} missing.", field.name),
            }),
            None => {}
        }
    }
}

/// Labels of lower-case letters, digits and hyphens inside, joined by dots.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.split('.').all(|label| {
        let bytes = label.as_bytes();
        bytes.iter().all(|b| plain(*b) || *b == b'-')
            && bytes.first().copied().is_some_and(plain)
            && bytes.last().copied().is_some_and(plain)
    })
}

fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64()
        || number.is_u64()
        || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

#[expect(clippy::cast_precision_loss, reason = "bounds are small")]
fn as_float(number: i64) -> f64 {
    number as f64
}

fn expected(shape: Shape) -> &'static str {
    match shape {
        Shape::Text(_) | Shape::Name | Shape::OneOf(_) => "string",
        Shape::Int(_) => "integer",
        Shape::Number(_) => "number",
        Shape::Bool => "boolean",
        Shape::List(_) => "array",
        Shape::Map(_) | Shape::Closed(_) | Shape::Open(_) | Shape::TextOr(_) => "object",
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if is_whole(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
