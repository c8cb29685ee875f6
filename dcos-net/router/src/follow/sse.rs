//! Server-sent events, as they come. Source: the HTML standard, section 9.2.

use bytes::BytesMut;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentEvent {
    pub(super) kind: String,
    pub(super) data: String,
}

/// Makes events of pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    waiting: BytesMut,
    kind: String,
    data: String,
    last_was_return: bool,
}

/// Nothing of Marathon's is longer; who sends more is something else.
const LONGEST: usize = 64 << 20;

/// A line or an event has no end.
#[derive(Debug, thiserror::Error)]
#[error("an event without an end")]
pub(super) struct Endless;

impl Decoder {
    /// Takes a piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Endless> {
        if self.waiting.len() + self.data.len() + piece.len() > LONGEST {
            return Err(Endless);
        }
        self.waiting.extend_from_slice(piece);
        Ok(())
    }

    /// The next event that is whole.
    pub(super) fn next(&mut self) -> Option<SentEvent> {
        while let Some(line) = self.line() {
            if !line.is_empty() {
                self.field(&line);
                continue;
            }
            let (kind, mut data) = (
                std::mem::take(&mut self.kind),
                std::mem::take(&mut self.data),
            );
            if data.ends_with('\n') {
                data.pop();
            }
            if !kind.is_empty() || !data.is_empty() {
                return Some(SentEvent { kind, data });
            }
        }
        None
    }

    /// The next line; it ends with a return, a newline, or both.
    fn line(&mut self) -> Option<String> {
        if self.last_was_return && self.waiting.first() == Some(&b'\n') {
            let _ = self.waiting.split_to(1);
        }
        let end = self
            .waiting
            .iter()
            .position(|byte| matches!(byte, b'\r' | b'\n'))?;
        self.last_was_return = self.waiting[end] == b'\r';
        let line = self.waiting.split_to(end + 1);
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // Comments keep the connection alive; ids are not used.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> Vec<(String, String)> {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for piece in pieces {
            decoder.push(piece.as_bytes()).unwrap();
            while let Some(event) = decoder.next() {
                events.push((event.kind, event.data));
            }
        }
        events
    }

    #[test]
    fn events_come_in_any_pieces() {
        let text = ": hello\n\nevent: a\ndata: 1\ndata: 2\n\nevent:b\r\ndata:3\r\n\r\ndata: late";
        let expected = vec![
            ("a".to_owned(), "1\n2".to_owned()),
            ("b".to_owned(), "3".to_owned()),
        ];
        assert_eq!(read(&[text]), expected);
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn a_stream_without_ends_is_refused() {
        let mut decoder = Decoder::default();
        let piece = vec![b'x'; LONGEST];
        decoder.push(&piece).unwrap();
        assert!(decoder.next().is_none());
        assert!(decoder.push(b"x").is_err());
    }
}
