//! Numbers on the wire: whole ones are written without a fraction, as the original does.

use serde::Serializer;

/// Writes a number, whole if it is.
///
/// # Errors
/// Those of the serializer.
#[expect(
    clippy::cast_possible_truncation,
    reason = "only whole numbers within i64 get here"
)]
pub fn write<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && number.abs() < 9.0e15 {
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f64(*number)
    }
}
