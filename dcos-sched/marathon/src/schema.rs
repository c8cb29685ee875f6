//! Is a JSON document of the right shape? Answers with the paths and error names Marathon answers with.
//!
//! Shapes are tables ([`crate::model::shape`]) rather than code, so that reading (serde) and refusing
//! (here) cannot be mixed up: a document that passes its table always deserialises. Unknown fields
//! pass, as in the original; `null` stands for absent.

use serde_json::{Map, Value};

use crate::Timestamp;
use crate::error::{Error, Violation};

/// What a value may look like.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// Text of at least this many bytes.
    Text(usize),
    /// Text of at least one byte and at most so many.
    Within(usize),
    /// A name of at most so many bytes: lower-case letters and digits, and inside it dashes and these characters.
    Name(usize, &'static str),
    /// A whole number within bounds.
    Int(i64, i64),
    /// A number within bounds.
    Number(f64, f64),
    /// `true` or `false`.
    Bool,
    /// A moment, ISO 8601.
    Time,
    /// One of these texts, in any case, unless `exact`.
    OneOf(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// A map with free keys.
    Map(&'static Shape),
    /// An object with known fields.
    Object(&'static [Field]),
    /// Text, or an object with known fields.
    TextOr(&'static [Field]),
    /// A port number.
    Port,
    /// Anything.
    Any,
}

/// A field of an object.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
}

/// A field that may be missing.
pub(crate) const fn may(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: false,
    }
}

/// A field that must be there.
pub(crate) const fn must(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        required: true,
    }
}

/// Parses `body` and checks it against `shape`.
pub(crate) fn parse(body: &[u8], shape: Shape) -> Result<Value, Error> {
    let mut value: Value =
        serde_json::from_slice(body).map_err(|error| Error::NotJson(error.to_string()))?;
    check(&mut value, shape)?;
    Ok(value)
}

/// Checks `value` and brings enumerated texts into their canonical case; drops `null` fields.
pub(crate) fn check(value: &mut Value, shape: Shape) -> Result<(), Error> {
    let mut violations = Vec::new();
    visit(value, shape, "", &mut violations);
    if violations.is_empty() {
        Ok(())
    } else {
        Err(Error::Shape(violations))
    }
}

fn visit(value: &mut Value, shape: Shape, path: &str, out: &mut Vec<Violation>) {
    let error = match (shape, &mut *value) {
        (Shape::Text(min), Value::String(text)) => (text.len() < min)
            .then_some("error.minLength")
            .map(str::to_owned),
        (Shape::Within(max), Value::String(text)) => out_of(text, max).map(str::to_owned),
        (Shape::Name(max, inside), Value::String(text)) => {
            let wrong = || (!is_name(text, inside)).then_some("error.pattern");
            out_of(text, max).or_else(wrong).map(str::to_owned)
        }
        (Shape::Int(min, max), Value::Number(number)) => match whole(number) {
            Some(n) if n < min => Some("error.min".to_owned()),
            Some(n) if n > max => Some("error.max".to_owned()),
            Some(n) => {
                *value = n.into();
                None
            }
            None => Some("error.expected.int".to_owned()),
        },
        (Shape::Port, Value::Number(number)) => match whole(number) {
            Some(n) if n < 0 => Some("error.min".to_owned()),
            Some(n) if n > 65535 => Some("error.max".to_owned()),
            Some(n) => {
                *value = n.into();
                None
            }
            None => Some("error.expected.int".to_owned()),
        },
        (Shape::Number(min, max), Value::Number(number)) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if number < min {
                Some("error.min".to_owned())
            } else if number > max {
                Some("error.max".to_owned())
            } else {
                None
            }
        }
        (Shape::Bool, Value::Bool(_)) | (Shape::Any, _) | (Shape::TextOr(_), Value::String(_)) => {
            None
        }
        (Shape::Time, Value::String(text)) => text
            .parse::<Timestamp>()
            .is_err()
            .then(|| "error.expected.date.isoformat".to_owned()),
        (Shape::OneOf(known), Value::String(text)) => {
            match known.iter().find(|name| name.eq_ignore_ascii_case(text)) {
                Some(name) => {
                    *text = (*name).to_owned();
                    None
                }
                None => Some("error.unknown.enum.literal".to_owned()),
            }
        }
        (Shape::List(item), Value::Array(items)) => {
            for (index, value) in items.iter_mut().enumerate() {
                visit(value, *item, &format!("{path}({index})"), out);
            }
            None
        }
        (Shape::Map(item), Value::Object(fields)) => {
            fields.retain(|_, value| !value.is_null());
            for (name, value) in fields {
                visit(value, *item, &format!("{path}/{name}"), out);
            }
            None
        }
        (Shape::Object(known) | Shape::TextOr(known), Value::Object(fields)) => {
            visit_object(fields, known, path, out);
            None
        }
        (shape, _) => Some(format!("error.expected.{}", expected(shape))),
    };
    if let Some(error) = error {
        out.push(Violation {
            path: path.to_owned(),
            error,
        });
    }
}

fn out_of(text: &str, max: usize) -> Option<&'static str> {
    match text.len() {
        0 => Some("error.minLength"),
        length if length > max => Some("error.maxLength"),
        _ => None,
    }
}

/// Whether `text` is `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, with more characters `inside`.
fn is_name(text: &str, inside: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain)
        && text.ends_with(plain)
        && text
            .chars()
            .all(|c| plain(c) || c == '-' || inside.contains(c))
}

fn visit_object(
    fields: &mut Map<String, Value>,
    known: &[Field],
    path: &str,
    out: &mut Vec<Violation>,
) {
    fields.retain(|_, value| !value.is_null());
    for field in known {
        let path = format!("{path}/{}", field.name);
        match fields.get_mut(field.name) {
            Some(value) => visit(value, field.shape, &path, out),
            None if field.required => {
                out.push(Violation {
                    path,
                    error: "error.path.missing".to_owned(),
                });
            }
            None => {}
        }
    }
}

/// `3` and `3.0` are whole, `3.5` is not.
fn whole(number: &serde_json::Number) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "guarded by the range check before it"
    )]
    number.as_i64().or_else(|| {
        number
            .as_f64()
            .filter(|n| n.fract() == 0.0 && n.abs() < 9.0e15)
            .map(|n| n as i64)
    })
}

fn expected(shape: Shape) -> &'static str {
    match shape {
        Shape::Int(..) | Shape::Number(..) | Shape::Port => "jsnumber",
        Shape::Bool => "jsboolean",
        Shape::List(_) => "jsarray",
        Shape::Map(_) | Shape::Object(_) => "jsobject",
        Shape::Text(_)
        | Shape::Within(_)
        | Shape::Name(..)
        | Shape::Time
        | Shape::OneOf(_)
        | Shape::TextOr(_)
        | Shape::Any => "jsstring",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SHAPE: Shape = Shape::Object(&[
        must("id", Shape::Text(0)),
        may("instances", Shape::Int(0, 10)),
        may("mode", Shape::OneOf(&["HOST", "BRIDGE"])),
        may(
            "list",
            Shape::List(&Shape::Object(&[must("uri", Shape::Text(1))])),
        ),
    ]);

    fn errors(body: &str) -> Vec<(String, String)> {
        match parse(body.as_bytes(), SHAPE) {
            Err(Error::Shape(violations)) => {
                violations.into_iter().map(|v| (v.path, v.error)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_wrong_place_is_named() {
        let found =
            errors(r#"{"instances": -1, "mode": "x", "list": [{"uri": "a"}, {"uri": 1}, 2]}"#);
        let expected = [
            ("/id", "error.path.missing"),
            ("/instances", "error.min"),
            ("/mode", "error.unknown.enum.literal"),
            ("/list(1)/uri", "error.expected.jsstring"),
            ("/list(2)", "error.expected.jsobject"),
        ];
        assert_eq!(
            found,
            expected.map(|(path, error)| (path.to_owned(), error.to_owned()))
        );
    }

    #[test]
    fn names_of_ports_and_networks_have_rules() {
        let wrong = |field: &str, value: Value| {
            let mut app = json!({"id": "/a", field: [value]});
            match check(&mut app, crate::model::shape::APP) {
                Ok(()) => String::new(),
                Err(Error::Shape(found)) => format!("{}: {}", found[0].path, found[0].error),
                Err(other) => panic!("{other:?}"),
            }
        };
        let port = |name: &str| wrong("portDefinitions", json!({"name": name}));
        let network = |name: &str| wrong("networks", json!({"mode": "container", "name": name}));
        let long = "x".repeat(64);
        for good in ["http", "h2-c", "0", &long] {
            assert_eq!(port(good), "", "{good}");
        }
        for bad in [
            "HTTP",
            "http port",
            "-http",
            "http-",
            "http_port",
            "h\u{e4}",
        ] {
            assert_eq!(
                port(bad),
                "/portDefinitions(0)/name: error.pattern",
                "{bad}"
            );
        }
        assert_eq!(port(""), "/portDefinitions(0)/name: error.minLength");
        assert_eq!(network("my_net-2"), "");
        assert_eq!(network("_net"), "/networks(0)/name: error.pattern");
        assert_eq!(network(&long), "/networks(0)/name: error.maxLength");
        let long = "x".repeat(1025);
        assert_eq!(
            wrong("fetch", json!({"uri": long})),
            "/fetch(0)/uri: error.maxLength"
        );
    }

    #[test]
    fn nulls_vanish_and_enumerated_texts_get_their_case() {
        let value = parse(
            br#"{"id": "a", "instances": 3.0, "mode": "host", "list": null}"#,
            SHAPE,
        );
        assert_eq!(
            value,
            Ok(json!({"id": "a", "instances": 3, "mode": "HOST"}))
        );
    }

    #[test]
    fn what_is_not_json_is_a_bad_request() {
        assert_eq!(parse(b"{", SHAPE).unwrap_err().status(), 400);
    }
}
