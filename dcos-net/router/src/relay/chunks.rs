//! The chunks of a body, taken apart where they lie (RFC 9112 section 7.1); pure.

/// Bytes around chunks (extensions, trailers) that a body may have: nobody is shown them.
const MOST_AROUND: usize = 16 << 10;

/// Where in a chunked body we are.
#[derive(Debug)]
pub(crate) struct Chunks {
    at: At,
    /// Bytes around chunks so far.
    around: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the size of a chunk: its value, and how many digits it had.
    Size(u64, u8),
    /// Behind the size, where nothing but space may stand, ...
    Space(u64),
    /// ... or in what follows a semicolon.
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the begin of a line behind the last chunk, ...
    Line,
    /// ... or in it.
    Trailer,
    TrailerLf,
    /// At the end of the empty line.
    LastLf,
    End,
    /// At bytes that are no chunks.
    Broken,
}

/// Bytes that are no chunks.
#[derive(Debug, PartialEq, Eq)]
struct Broken;

/// What was found in some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// So many bytes of data stand at their begin now.
    pub(crate) data: usize,
    /// So many were looked at: fewer than there are, if the body has ended or broken before.
    pub(crate) seen: usize,
}

impl Chunks {
    pub(crate) const fn new() -> Self {
        let (at, around) = (At::Size(0, 0), 0);
        Self { at, around }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.at == At::End
    }

    /// Whether what came is no chunk: nothing is to come any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.at == At::Broken
    }

    /// Moves the data among `bytes` to their begin.
    pub(crate) fn unwrap(&mut self, bytes: &mut [u8]) -> Found {
        let (mut data, mut seen) = (0, 0);
        while seen < bytes.len() && !matches!(self.at, At::End | At::Broken) {
            if let At::Data(left) = self.at {
                let here = bytes.len() - seen;
                let length = usize::try_from(left).map_or(here, |left| left.min(here));
                bytes.copy_within(seen..seen + length, data);
                (data, seen) = (data + length, seen + length);
                self.at = match left - length as u64 {
                    0 => At::DataCr,
                    left => At::Data(left),
                };
            } else {
                self.at = self.step(bytes[seen]).unwrap_or(At::Broken);
                seen += 1;
            }
        }
        Found { data, seen }
    }

    fn step(&mut self, byte: u8) -> Result<At, Broken> {
        if matches!(self.at, At::Space(_) | At::Extension(_) | At::Trailer) {
            self.around += 1;
            if self.around > MOST_AROUND {
                return Err(Broken);
            }
        }
        Ok(match (self.at, byte) {
            (At::Size(size, digits), byte) if byte.is_ascii_hexdigit() => {
                // Fifteen digits are more than anybody sends, and never too large.
                if digits == 15 {
                    return Err(Broken);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                At::Size((size << 4) | u64::from(digit), digits + 1)
            }
            (At::Size(_, 0), _) | (At::Extension(_) | At::Line | At::Trailer, b'\n') => {
                return Err(Broken);
            }
            (At::Size(size, _) | At::Space(size) | At::Extension(size), b'\r') => At::SizeLf(size),
            (At::Size(size, _) | At::Space(size), b' ' | b'\t') => At::Space(size),
            (At::Size(size, _) | At::Space(size), b';') | (At::Extension(size), _) => {
                At::Extension(size)
            }
            (At::SizeLf(0) | At::TrailerLf, b'\n') => At::Line,
            (At::SizeLf(size), b'\n') => At::Data(size),
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size(0, 0),
            (At::Line, b'\r') => At::LastLf,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::Line | At::Trailer, _) => At::Trailer,
            (At::LastLf, b'\n') => At::End,
            _ => return Err(Broken),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of a body that comes in pieces of so many bytes, and what follows it.
    fn unwrapped(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), Broken> {
        let (mut chunks, mut all, mut seen) = (Chunks::new(), Vec::new(), 0);
        for piece in bytes.chunks(piece) {
            let mut piece = piece.to_vec();
            let found = chunks.unwrap(&mut piece);
            if chunks.is_broken() {
                return Err(Broken);
            }
            all.extend_from_slice(&piece[..found.data]);
            seen += found.seen;
        }
        Ok((all, seen, chunks.has_ended()))
    }

    #[test]
    fn broken_chunks_are_none() {
        for chunks in [
            "zz\r\nhello\r\n0\r\n\r\n",
            "-1\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "5 \t\nhello\r\n0\r\n\r\n",
            "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            "3\r\nhello\r\n0\r\n\r\n",
            "\r\n\r\n",
            "0\r\n\n",
            "0\r\nA: 1\n\r\n",
        ] {
            assert_eq!(unwrapped(chunks.as_bytes(), 64), Err(Broken), "{chunks:?}");
        }
        let around = format!("1;{}\r\na\r\n", "x".repeat(MOST_AROUND + 1));
        assert_eq!(unwrapped(around.as_bytes(), 64), Err(Broken));
        let mut bytes = *b"2\r\nok\r\nzz";
        let found = Chunks::new().unwrap(&mut bytes);
        assert_eq!(
            (found.data, &bytes[..2]),
            (2, &b"ok"[..]),
            "what came before"
        );
    }

    proptest! {
        #[test]
        fn data_comes_out_however_it_is_cut(
            chunks in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..40), "[ \t]{0,2}(;[a-z]{0,5})?"), 0..6),
            trailer in "(A: b\r\n){0,2}",
            piece in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            for (data, extension) in &chunks {
                bytes.extend_from_slice(format!("{:X}{extension}\r\n", data.len()).as_bytes());
                bytes.extend_from_slice(data);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
            let length = bytes.len();
            bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
            let data: Vec<u8> = chunks.into_iter().flat_map(|(data, _)| data).collect();
            prop_assert_eq!(unwrapped(&bytes, piece), Ok((data, length, true)));
        }
    }
}
