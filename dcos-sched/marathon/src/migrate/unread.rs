//! Fields of a message that whoever read it knows nothing of.
//!
//! A reader of protobuf passes over what it does not know. Written out again, such a field is missing: that way it shows.

use std::collections::BTreeMap;

/// A field's value, as far as the wire tells.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

type Fields<'a> = BTreeMap<u64, Vec<Value<'a>>>;

/// The numbers of the fields of `message` that say something and are missing in `understood`, which is the same message
/// written by who read it; those inside of other fields with the way there, such as `19.2.4`.
pub fn unread(message: &[u8], understood: &[u8]) -> Vec<String> {
    let mut missing = Vec::new();
    if let (Some(message), Some(understood)) = (fields(message), fields(understood)) {
        compare(&message, &understood, "", &mut missing);
    }
    missing.dedup();
    missing
}

fn compare(message: &Fields<'_>, understood: &Fields<'_>, way: &str, missing: &mut Vec<String>) {
    for (number, values) in message {
        let here = format!("{way}{number}");
        let Some(known) = understood.get(number) else {
            if values.iter().any(|value| value.says_something()) {
                missing.push(here);
            }
            continue;
        };
        for (value, known) in values.iter().zip(known) {
            if let (Value::Bytes(value), Value::Bytes(known)) = (value, known)
                && value != known
                && let (Some(value), Some(known)) = (fields(value), fields(known))
            {
                compare(&value, &known, &format!("{here}."), missing);
            }
        }
    }
}

impl Value<'_> {
    /// What is 0 or empty is what an absent field is, too.
    fn says_something(self) -> bool {
        match self {
            Self::Number(number) => number != 0,
            Self::Bytes(bytes) => fields(bytes).is_none_or(|inside| {
                let mut values = inside.values().flatten();
                values.any(|value| value.says_something())
            }),
        }
    }
}

/// The fields of what may be a message; `None` if it is none.
fn fields(mut data: &[u8]) -> Option<Fields<'_>> {
    let mut fields = Fields::new();
    while !data.is_empty() {
        let key = varint(&mut data)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut data)?),
            1 => Value::Number(u64::from_le_bytes(*take(&mut data, 8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(varint(&mut data)?).ok()?;
                Value::Bytes(take(&mut data, length)?)
            }
            5 => Value::Number(u32::from_le_bytes(*take(&mut data, 4)?.first_chunk()?).into()),
            _ => return None,
        };
        fields.entry(key >> 3).or_default().push(value);
    }
    Some(fields)
}

fn take<'a>(data: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(taken)
}

fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(data, 1)? else { return None };
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// What somebody wrote.
    #[derive(Clone, PartialEq, Message)]
    struct Whole {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(double, optional, tag = "2")]
        share: Option<f64>,
        #[prost(message, repeated, tag = "3")]
        parts: Vec<Whole>,
        #[prost(uint32, optional, tag = "40")]
        later: Option<u32>,
    }

    /// What is read of it.
    #[derive(Clone, PartialEq, Message)]
    struct Part {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, repeated, tag = "3")]
        parts: Vec<Part>,
    }

    fn found(whole: &Whole) -> Vec<String> {
        let written = whole.encode_to_vec();
        let read = Part::decode(written.as_slice()).unwrap();
        unread(&written, &read.encode_to_vec())
    }

    #[test]
    fn fields_are_named_wherever_they_are() {
        let inner = Whole {
            later: Some(7),
            ..Whole::default()
        };
        let empty = Whole {
            name: "n".into(),
            share: Some(0.0),
            ..Whole::default()
        };
        let whole = Whole {
            name: "whole".into(),
            share: Some(0.5),
            parts: vec![empty.clone(), inner],
            later: Some(0),
        };
        assert_eq!(found(&whole), ["2", "3.40"]);
        assert!(found(&empty).is_empty());
    }

    proptest! {
        /// No bytes bring it down, and whoever understood all missed nothing.
        #[test]
        fn any_bytes_do(data in prop::collection::vec(any::<u8>(), 0..60), other in prop::collection::vec(any::<u8>(), 0..60)) {
            unread(&data, &other);
            prop_assert!(unread(&data, &data).is_empty());
        }
    }
}
