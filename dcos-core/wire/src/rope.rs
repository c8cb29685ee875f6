//! [`Rope`]: a large body made of pieces that many answers share.
//!
//! A reader's copy of a document costs a pointer a piece, and so does the next version of it if
//! most pieces are still good. Each piece is compressed at most once, for all who want it so.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Crc, FlushCompress};
use http_body::{Frame, SizeHint};

/// Some bytes of a body, and their compressed form once somebody asked for it.
#[derive(Debug)]
pub struct Piece {
    plain: Bytes,
    packed: OnceLock<Packed>,
}

#[derive(Debug)]
struct Packed {
    /// A run of whole deflate blocks that refer to nothing before them.
    blocks: Bytes,
    crc: Crc,
}

impl Piece {
    /// A piece to be shared.
    pub fn new(plain: impl Into<Bytes>) -> Arc<Self> {
        Arc::new(Self {
            plain: plain.into(),
            packed: OnceLock::new(),
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.plain
    }

    fn packed(&self, packer: &mut Compress) -> &Packed {
        self.packed.get_or_init(|| {
            let mut crc = Crc::new();
            crc.update(&self.plain);
            let blocks = deflate(packer, &self.plain);
            Packed { blocks, crc }
        })
    }
}

/// Deflate blocks that end at the border of a byte and are not the last of their stream.
fn deflate(packer: &mut Compress, mut plain: &[u8]) -> Bytes {
    packer.reset();
    let mut blocks = Vec::with_capacity(plain.len() / 4 + 64);
    loop {
        let before = packer.total_in();
        // A flush is complete once there is room left behind it.
        if packer
            .compress_vec(plain, &mut blocks, FlushCompress::Sync)
            .is_err()
        {
            unreachable!("compressing into memory does not fail");
        }
        let taken = usize::try_from(packer.total_in() - before).unwrap_or(plain.len());
        plain = &plain[taken..];
        if plain.is_empty() && blocks.len() < blocks.capacity() {
            return blocks.into();
        }
        blocks.reserve(blocks.capacity().max(64));
    }
}

/// A body in pieces.
///
/// ```
/// use dcos_wire::{Piece, Rope};
///
/// let shared = Piece::new("1,2,3");
/// let mut rope = Rope::new();
/// rope.text("{\"numbers\":[");
/// rope.push(shared);
/// rope.text("]}");
/// assert_eq!(rope.len(), 19);
/// assert_eq!(rope.to_bytes(), "{\"numbers\":[1,2,3]}");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Rope {
    pieces: Vec<Arc<Piece>>,
    /// Bytes behind the last piece that are not one yet.
    tail: BytesMut,
    length: usize,
}

impl Rope {
    /// An empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a copy of `text`.
    pub fn text(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        self.length += text.len();
        self.tail.extend_from_slice(text);
    }

    /// Appends a shared piece.
    pub fn push(&mut self, piece: Arc<Piece>) {
        self.seal();
        self.length += piece.plain.len();
        self.pieces.push(piece);
    }

    /// Appends another rope.
    pub fn append(&mut self, other: Self) {
        self.seal();
        self.length += other.length;
        self.pieces.extend(other.pieces);
        self.tail = other.tail;
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(Piece::new(self.tail.split().freeze()));
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes piece by piece.
    pub fn into_chunks(mut self) -> impl Iterator<Item = Bytes> + Send + Sync {
        self.seal();
        self.pieces.into_iter().map(|piece| piece.plain.clone())
    }

    /// All bytes in one place.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.length);
        for piece in &self.pieces {
            bytes.extend_from_slice(&piece.plain);
        }
        bytes.extend_from_slice(&self.tail);
        bytes.freeze()
    }

    /// The same as a gzip file. What was not asked for before takes milliseconds a megabyte: not
    /// for the threads of the server.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.seal();
        let mut packer = Compress::new(Compression::fast(), false);
        let (mut whole, mut crc) = (Self::new(), Crc::new());
        // Deflate, no name, no time, fastest, no particular system.
        whole.text([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 0xff]);
        for piece in &self.pieces {
            let packed = piece.packed(&mut packer);
            crc.combine(&packed.crc);
            whole.push(Piece::new(packed.blocks.clone()));
        }
        // An empty last block, then the sum and the size modulo 2^32.
        whole.text([3, 0]);
        whole.text(crc.sum().to_le_bytes());
        whole.text(crc.amount().to_le_bytes());
        whole
    }

    /// As a body of known length.
    pub fn into_body(mut self) -> Body {
        self.seal();
        let left = self.length as u64;
        let pieces = self.pieces.into_iter();
        Body::new(RopeBody { pieces, left })
    }
}

impl<T: Into<Bytes>> From<T> for Rope {
    fn from(bytes: T) -> Self {
        let mut rope = Self::new();
        rope.push(Piece::new(bytes));
        rope
    }
}

struct RopeBody {
    pieces: std::vec::IntoIter<Arc<Piece>>,
    left: u64,
}

impl http_body::Body for RopeBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.pieces.next().map(|piece| piece.plain.clone());
        self.left -= next.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(next.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gzip::unpack;

    fn rope(pieces: &[&[u8]]) -> Rope {
        let mut rope = Rope::new();
        for (at, piece) in pieces.iter().enumerate() {
            if at % 2 == 0 {
                rope.push(Piece::new(piece.to_vec()));
            } else {
                rope.text(piece);
            }
        }
        rope
    }

    #[test]
    fn a_compressed_rope_is_one_gzip_file() {
        let noise: Vec<u8> = (0..200_000_u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
            .collect();
        let text = "all work and no play ".repeat(5000);
        for pieces in [
            &[&b""[..]][..],
            &[b"x"],
            &[b"a", b"b", b"", b"c"],
            &[text.as_bytes(), b",", &noise, text.as_bytes()],
        ] {
            let rope = rope(pieces);
            let packed = rope.clone().gzip().to_bytes();
            let plain = unpack(&packed, 1 << 20).expect("it is gzip");
            assert_eq!(plain, Some(rope.to_bytes()));
            assert_eq!(rope.len(), rope.to_bytes().len());
        }
        let packed = rope(&[text.as_bytes()]).gzip();
        assert!(packed.len() < text.len() / 20, "{} bytes", packed.len());
    }
}
