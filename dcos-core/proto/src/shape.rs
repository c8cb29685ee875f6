//! Which fields of a message must be there, checked on its bytes: the structs can't tell an absent
//! required field from one that holds its zero value.

use prost::bytes::Buf;

use crate::Message;

/// The required fields of a message and where its nested messages are.
#[derive(Debug)]
pub struct Shape {
    /// The message's full name.
    pub name: &'static str,
    /// Number and name of each required field.
    pub required: &'static [(u32, &'static str)],
    /// The fields that hold messages, with their shapes.
    pub nested: &'static [(u32, ShapeOf)],
}

/// Leads to the shape of a nested message; a function, because shapes refer to each other in circles.
pub type ShapeOf = fn() -> &'static Shape;

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are no protobuf message of this type.
    #[error("not a {message}: {reason}")]
    Malformed {
        /// The full name of the message.
        message: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// A required field is not there.
    #[error("missing required field {field} of {message}")]
    Missing {
        /// The full name of the innermost message.
        message: &'static str,
        /// The field's name.
        field: &'static str,
    },
}

/// Decodes protobuf bytes and refuses them if a required field is missing, as Mesos does. Unknown
/// fields and enum values are accepted.
///
/// # Errors
/// [`DecodeError`]
pub fn decode<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    let message = M::decode(bytes).map_err(|error| malformed(M::SHAPE, error.to_string()))?;
    check(bytes, M::SHAPE, 0)?;
    Ok(message)
}

/// As deep as prost itself goes.
const DEPTH_LIMIT: usize = 100;

fn check(mut bytes: &[u8], shape: &'static Shape, depth: usize) -> Result<(), DecodeError> {
    if shape.required.is_empty() && shape.nested.is_empty() {
        return Ok(());
    }
    if depth > DEPTH_LIMIT {
        return Err(malformed(shape, "nested too deeply".to_owned()));
    }
    // Which of `shape.required` were seen; no message of Mesos has more than 32 required fields.
    let mut seen = 0_u32;
    while bytes.has_remaining() {
        let (number, content) = field(&mut bytes)
            .ok_or_else(|| malformed(shape, "ends in the middle of a field".to_owned()))?;
        if let Some(index) = shape
            .required
            .iter()
            .position(|(required, _)| *required == number)
        {
            seen |= 1 << index;
        }
        let nested = shape.nested.iter().find(|(nested, _)| *nested == number);
        if let (Some((_, nested)), Some(content)) = (nested, content) {
            check(content, nested(), depth + 1)?;
        }
    }
    match shape
        .required
        .iter()
        .enumerate()
        .find(|(index, _)| seen & (1 << index) == 0)
    {
        Some((_, (_, field))) => Err(DecodeError::Missing {
            message: shape.name,
            field,
        }),
        None => Ok(()),
    }
}

/// Takes one field off `bytes`: its number and, if it is length-delimited, its content.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let key = prost::encoding::decode_varint(bytes).ok()?;
    let number = u32::try_from(key >> 3).ok()?;
    let skip = match key & 7 {
        0 => {
            prost::encoding::decode_varint(bytes).ok()?;
            0
        }
        1 => 8,
        5 => 4,
        2 => {
            let length = usize::try_from(prost::encoding::decode_varint(bytes).ok()?).ok()?;
            let content = bytes.get(..length)?;
            *bytes = &bytes[length..];
            return Some((number, Some(content)));
        }
        // Groups: no message of Mesos has one, so what is inside is nobody's; prost skipped it.
        3 | 4 => 0,
        _ => return None,
    };
    *bytes = bytes.get(skip..)?;
    Some((number, None))
}

fn malformed(shape: &Shape, reason: String) -> DecodeError {
    DecodeError::Malformed {
        message: shape.name,
        reason,
    }
}
