//! The two formats that are read: a file that holds one fact, and a log that grows by lines.
//!
//! ```text
//! dcos-checkpoint 1 <sha256 of the rest, 64 hex digits>     dcos-checkpoint-log 1
//! { ... }                                                   <sha256 of the JSON, 16 digits> {...}
//!                                                           <sha256 of the JSON, 16 digits> {...}
//! ```

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

const FILE: &str = "dcos-checkpoint 1 ";
const LOG: &str = "dcos-checkpoint-log 1\n";
const SHORT: usize = 16;

/// Why bytes are no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The first line names no format this version knows.
    #[error("it does not begin with `{0}`: another format, or a newer version")]
    Foreign(&'static str),
    /// The contents differ from what was written.
    #[error("its checksum does not match")]
    Checksum,
    /// The contents were written as they are, and make no sense.
    #[error("it holds something unexpected: {0}")]
    Contents(String),
}

/// A file that holds `contents`.
pub(super) fn file(contents: &Json) -> Vec<u8> {
    let body = format!("{contents:#}\n");
    format!("{FILE}{}\n{body}", hex(body.as_bytes())).into_bytes()
}

pub(super) fn read_file(bytes: &[u8]) -> Result<Json, FormatError> {
    let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Checksum)?;
    let rest = text
        .strip_prefix(FILE)
        .ok_or(FormatError::Foreign("dcos-checkpoint 1"))?;
    let (sum, body) = rest.split_once('\n').ok_or(FormatError::Checksum)?;
    if sum != hex(body.as_bytes()) {
        return Err(FormatError::Checksum);
    }
    serde_json::from_str(body).map_err(|error| FormatError::Contents(error.to_string()))
}

/// The first line of a log. None is begun any more.
#[cfg(test)]
pub(super) fn log_head() -> &'static [u8] {
    LOG.as_bytes()
}

/// One more line of a log.
pub(super) fn log_line(body: &str) -> Vec<u8> {
    format!("{} {body}\n", short(body.as_bytes())).into_bytes()
}

/// The checksum of a line, and of a batch of the journal.
pub(super) fn short(body: &[u8]) -> String {
    let mut sum = hex(body);
    sum.truncate(SHORT);
    sum
}

/// What a log holds.
#[derive(Debug, PartialEq)]
pub(super) struct Log {
    pub(super) entries: Vec<Json>,
    /// How many bytes are good; what follows is a line that was being written at a crash.
    pub(super) good: usize,
}

/// Reads a log. A damaged last line was never acknowledged to anybody: it does not count.
/// Damage before it does.
pub(super) fn read_log(bytes: &[u8]) -> Result<Log, FormatError> {
    if LOG.as_bytes().starts_with(bytes) {
        // Not even the first line was written in full (or nothing after it).
        let good = if bytes.len() == LOG.len() {
            LOG.len()
        } else {
            0
        };
        return Ok(Log {
            entries: Vec::new(),
            good,
        });
    }
    if !bytes.starts_with(LOG.as_bytes()) {
        return Err(FormatError::Foreign("dcos-checkpoint-log 1"));
    }
    let mut log = Log {
        entries: Vec::new(),
        good: LOG.len(),
    };
    while log.good < bytes.len() {
        let rest = &bytes[log.good..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            break;
        };
        match read_line(&rest[..end]) {
            Ok(entry) => log.entries.push(entry),
            Err(_) if end + 1 == rest.len() => break,
            Err(error) => return Err(error),
        }
        log.good += end + 1;
    }
    Ok(log)
}

fn read_line(line: &[u8]) -> Result<Json, FormatError> {
    let line = std::str::from_utf8(line).map_err(|_| FormatError::Checksum)?;
    let (sum, body) = line.split_once(' ').ok_or(FormatError::Checksum)?;
    if sum != &hex(body.as_bytes())[..SHORT] {
        return Err(FormatError::Checksum);
    }
    serde_json::from_str(body).map_err(|error| FormatError::Contents(error.to_string()))
}

/// SHA-256 of a text, in 64 digits.
pub(crate) fn hex(text: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_file_tells_damage_and_foreign_formats() {
        let bytes = file(&json!({"a": 1}));
        assert_eq!(read_file(&bytes), Ok(json!({"a": 1})));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(read_file(&damaged).is_err(), "byte {at}");
            assert!(read_file(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(
            read_file(b"\x0a\x04"),
            Err(FormatError::Foreign("dcos-checkpoint 1"))
        );
    }

    proptest! {
        /// A log that was cut anywhere holds a prefix of what was appended, and goes on from
        /// there; a flipped bit anywhere loses nothing but the last line silently, and the one
        /// before if it joins the two.
        #[test]
        fn a_log_survives_torn_tails(count in 0..6_usize, cut in 0..600_usize, flip in 0..600_usize) {
            let entries: Vec<_> = (0..count).map(|n| json!({"n": n, "t": "x\ny"})).collect();
            let mut bytes = log_head().to_vec();
            for entry in &entries {
                bytes.extend(log_line(&entry.to_string()));
            }
            let cut = cut.min(bytes.len());
            let log = read_log(&bytes[..cut]).unwrap();
            prop_assert_eq!(&entries[..log.entries.len()], &log.entries[..]);
            prop_assert!(log.good <= cut);
            if cut == bytes.len() {
                prop_assert_eq!(log.entries.len(), count);
            }
            if flip < bytes.len() {
                bytes[flip] ^= 1;
                if let Ok(log) = read_log(&bytes) {
                    prop_assert!(log.entries.len() + 2 >= count);
                    prop_assert_eq!(&entries[..log.entries.len()], &log.entries[..]);
                }
            }
        }
    }
}
