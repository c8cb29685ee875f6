//! RecordIO: the framing of Mesos's event streams. A record is its length in ASCII decimal, a line
//! feed, and that many bytes; nothing stands between records.
//!
//! Source: Mesos 1.11 `docs/recordio.md`, `3rdparty/stout/include/stout/recordio.hpp`.

use bytes::{Buf, Bytes, BytesMut};

/// The largest record a [`Decoder`] accepts unless told otherwise: 64 MiB, well above the state of
/// a large cluster's agent and small enough that a broken peer can't exhaust memory.
pub const DEFAULT_MAX_RECORD: usize = 64 << 20;

/// No length is written with more digits than 2⁶⁴ has.
const MAX_DIGITS: usize = 20;

/// Frames one record.
pub fn encode(record: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(record.len() + MAX_DIGITS + 1);
    framed.extend_from_slice(record.len().to_string().as_bytes());
    framed.push(b'\n');
    framed.extend_from_slice(record);
    framed.into()
}

/// Why a stream can't be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Where a length should stand is something else.
    #[error("expected the length of a record in decimal digits, found {found:?}")]
    BadLength {
        /// What is there.
        found: String,
    },
    /// The record is larger than the decoder accepts.
    #[error("record of {length} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// The announced length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Finds the records in a stream that arrives in pieces of any size.
///
/// ```
/// use dcos_proto::recordio::Decoder;
///
/// let mut decoder = Decoder::default();
/// decoder.push(b"5\nhel");
/// assert_eq!(decoder.next_record()?, None);
/// decoder.push(b"lo3\nabc");
/// assert_eq!(decoder.next_record()?.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(decoder.next_record()?.as_deref(), Some(&b"abc"[..]));
/// assert!(decoder.is_at_boundary());
/// # Ok::<(), dcos_proto::recordio::RecordError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_RECORD)
    }
}

impl Decoder {
    /// A decoder that refuses records of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
        }
    }

    /// Takes in what arrived.
    pub fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next whole record, if it has arrived. Call until it returns `None`.
    ///
    /// # Errors
    /// [`RecordError`]: the stream is broken and can't be read on.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, RecordError> {
        let head = &self.buffer[..self.buffer.len().min(MAX_DIGITS + 1)];
        let Some(digits) = head.iter().position(|byte| *byte == b'\n') else {
            let valid = head.len() <= MAX_DIGITS && head.iter().all(u8::is_ascii_digit);
            return if valid {
                Ok(None)
            } else {
                Err(bad_length(head))
            };
        };
        let length = parse_length(&head[..digits])?;
        let too_large = RecordError::TooLarge {
            length,
            limit: self.limit,
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.limit);
        let length = length.ok_or(too_large)?;
        if self.buffer.len() < digits + 1 + length {
            return Ok(None);
        }
        self.buffer.advance(digits + 1);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether the stream may end here: nothing of a further record has arrived.
    pub fn is_at_boundary(&self) -> bool {
        self.buffer.is_empty()
    }
}

fn parse_length(digits: &[u8]) -> Result<u64, RecordError> {
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| valid);
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| bad_length(digits))
}

fn bad_length(found: &[u8]) -> RecordError {
    RecordError::BadLength {
        found: String::from_utf8_lossy(found).into_owned(),
    }
}
