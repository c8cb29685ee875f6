//! Durations, sizes and percentages in the spelling of Mesos's flags: `10secs`, `2GB`, `80%`.
//!
//! Source: Mesos 1.11 `Duration::parse` and `Bytes::parse` in stout; messages are its messages.

use std::time::Duration;

/// Why a text is not a duration, size or percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// There is no unit at the end.
    #[error("Invalid {kind} '{text}'")]
    Invalid {
        /// `duration` or `bytes`.
        kind: &'static str,
        /// What was given.
        text: String,
    },
    /// What stands before the unit is not a number.
    #[error("Failed to convert '{text}' to number")]
    Number {
        /// What stands before the unit.
        text: String,
    },
    /// The unit is not one of ours.
    #[error("Unknown {kind} unit '{unit}'; supported units are {supported}")]
    Unit {
        /// `duration` or `bytes`.
        kind: &'static str,
        /// The unit as given.
        unit: String,
        /// The units there are.
        supported: &'static str,
    },
    /// Sizes are whole.
    #[error("Fractional bytes '{text}'")]
    Fractional {
        /// What was given.
        text: String,
    },
    /// The value does not fit.
    #[error("'{text}' is out of range")]
    Range {
        /// What was given.
        text: String,
    },
}

const DURATION_UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("secs", 1_000_000_000),
    ("mins", 60_000_000_000),
    ("hrs", 3_600_000_000_000),
    ("days", 86_400_000_000_000),
    ("weeks", 604_800_000_000_000),
];

const BYTE_UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("KB", 1 << 10),
    ("MB", 1 << 20),
    ("GB", 1 << 30),
    ("TB", 1 << 40),
];

/// Reads a duration such as `10secs`, `1.5mins` or `2weeks`.
///
/// # Errors
/// [`UnitError`] if the number, the unit or the range (292 years) is wrong. Negative durations do
/// not exist.
///
/// ```
/// use dcos_core::units::parse_duration;
/// use std::time::Duration;
///
/// assert_eq!(parse_duration("1.5mins"), Ok(Duration::from_secs(90)));
/// assert!(parse_duration("10").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split_unit("duration", text, |c| c.is_ascii_digit() || c == '.')?;
    let value: f64 = number.parse().map_err(|_| UnitError::Number {
        text: number.to_owned(),
    })?;
    let (_, factor) = DURATION_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| UnitError::Unit {
            kind: "duration",
            unit: unit.to_owned(),
            supported: "'ns', 'us', 'ms', 'secs', 'mins', 'hrs', 'days', and 'weeks'",
        })?;
    nanos(value, *factor).ok_or_else(|| UnitError::Range {
        text: text.to_owned(),
    })
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product is checked against the range first; a fraction of a nanosecond is dropped"
)]
fn nanos(value: f64, factor: u64) -> Option<Duration> {
    let nanos = value * factor as f64;
    (nanos < i64::MAX as f64).then(|| Duration::from_nanos(nanos as u64))
}

/// Writes a duration in the largest unit that suits it, as Mesos prints it.
///
/// ```
/// use dcos_core::units::format_duration;
/// use std::time::Duration;
///
/// assert_eq!(format_duration(Duration::from_secs(90)), "90secs");
/// assert_eq!(format_duration(Duration::from_millis(1500)), "1500ms");
/// assert_eq!(format_duration(Duration::from_secs(1209600)), "2weeks");
/// ```
pub fn format_duration(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let at = DURATION_UNITS
        .iter()
        .rposition(|(_, factor)| nanos >= *factor)
        .unwrap_or(0);
    let (mut name, mut factor) = DURATION_UNITS[at];
    if at > 0 && !nanos.is_multiple_of(factor) && nanos.is_multiple_of(DURATION_UNITS[at - 1].1) {
        (name, factor) = DURATION_UNITS[at - 1];
    }
    format!("{}{name}", significant(nanos, factor))
}

/// `nanos / factor` with 15 significant digits, the precision of stout's printer.
#[expect(
    clippy::cast_precision_loss,
    reason = "15 digits are kept of the 15.9 a double has"
)]
fn significant(nanos: u64, factor: u64) -> f64 {
    let value = nanos as f64 / factor as f64;
    format!("{value:.14e}").parse().unwrap_or(value)
}

/// Reads a size such as `512B`, `64KB` or `2GB` (powers of 1024) as a number of bytes.
///
/// # Errors
/// [`UnitError`] if the number is not whole, the unit is unknown or the size exceeds `u64`.
///
/// ```
/// assert_eq!(dcos_core::units::parse_bytes("2GB"), Ok(2 << 30));
/// ```
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    if text
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .starts_with('.')
    {
        return Err(UnitError::Fractional {
            text: text.to_owned(),
        });
    }
    let (number, unit) = split_unit("bytes", text, |c| c.is_ascii_digit())?;
    let value: u64 = number.parse().map_err(|_| UnitError::Number {
        text: number.to_owned(),
    })?;
    let upper = unit.to_ascii_uppercase();
    let (_, factor) = BYTE_UNITS
        .iter()
        .find(|(name, _)| *name == upper)
        .ok_or_else(|| UnitError::Unit {
            kind: "bytes",
            unit: unit.to_owned(),
            supported: "'B', 'KB', 'MB', 'GB', and 'TB'",
        })?;
    value.checked_mul(*factor).ok_or_else(|| UnitError::Range {
        text: text.to_owned(),
    })
}

/// Writes a size in the largest unit that divides it: `2GB`, `1536MB`.
///
/// ```
/// assert_eq!(dcos_core::units::format_bytes(1536 << 20), "1536MB");
/// ```
pub fn format_bytes(bytes: u64) -> String {
    let (name, factor) = BYTE_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .unwrap_or(&BYTE_UNITS[0]);
    format!("{}{name}", bytes / factor)
}

/// Reads a percentage such as `80%` as the fraction 0.8. It may exceed 100 %.
///
/// # Errors
/// [`UnitError`] if the sign is missing or the number is not a finite, positive one.
///
/// ```
/// assert_eq!(dcos_core::units::parse_percent("12.5%"), Ok(0.125));
/// ```
pub fn parse_percent(text: &str) -> Result<f64, UnitError> {
    let invalid = || UnitError::Invalid {
        kind: "percentage",
        text: text.to_owned(),
    };
    let number = text.strip_suffix('%').ok_or_else(invalid)?;
    let value: f64 = number.parse().map_err(|_| UnitError::Number {
        text: number.to_owned(),
    })?;
    if value.is_finite() && value >= 0.0 {
        Ok(value / 100.0)
    } else {
        Err(invalid())
    }
}

fn split_unit<'a>(
    kind: &'static str,
    text: &'a str,
    numeric: impl Fn(char) -> bool,
) -> Result<(&'a str, &'a str), UnitError> {
    let at = text
        .find(|c| !numeric(c))
        .ok_or_else(|| UnitError::Invalid {
            kind,
            text: text.to_owned(),
        })?;
    Ok(text.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, nanos) in [
            ("3ns", 3),
            ("10secs", 10_000_000_000),
            ("1.5mins", 90_000_000_000),
            (".5hrs", 1_800_000_000_000),
            ("2weeks", 1_209_600_000_000_000),
            ("0ns", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, message) in [
            ("10", "Invalid duration '10'"),
            ("secs", "Failed to convert '' to number"),
            ("-1secs", "Failed to convert '' to number"),
            ("1.2.3secs", "Failed to convert '1.2.3' to number"),
            ("99999weeks", "'99999weeks' is out of range"),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), message);
        }
        let unknown = parse_duration("10sec").unwrap_err().to_string();
        assert!(unknown.starts_with("Unknown duration unit 'sec'; supported units are 'ns'"));
    }

    #[test]
    fn durations_are_written_as_mesos_writes_them() {
        for (text, expected) in [
            ("0ns", "0ns"),
            ("1500us", "1500us"),
            ("15secs", "15secs"),
            ("75secs", "75secs"),
            ("10mins", "10mins"),
            ("90mins", "90mins"),
            ("8days", "8days"),
            ("36hrs", "36hrs"),
            ("100500ms", "1.675mins"),
        ] {
            assert_eq!(
                format_duration(parse_duration(text).unwrap()),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(parse_bytes("10mb"), Ok(10 << 20));
        assert_eq!(
            parse_bytes("1.5GB").unwrap_err().to_string(),
            "Fractional bytes '1.5GB'"
        );
        assert_eq!(
            parse_bytes("12").unwrap_err().to_string(),
            "Invalid bytes '12'"
        );
        assert_eq!(
            parse_bytes("99999999TB"),
            Err(UnitError::Range {
                text: "99999999TB".into()
            })
        );
        assert_eq!(format_bytes(0), "0B");
        assert_eq!(format_bytes(1025), "1025B");
        assert_eq!(format_bytes(4 << 40), "4TB");
    }

    #[test]
    fn percentages_are_fractions() {
        assert_eq!(parse_percent("100%"), Ok(1.0));
        assert!(parse_percent("100").is_err());
        assert!(parse_percent("-1%").is_err());
        assert!(parse_percent("inf%").is_err());
    }
}
