//! [`Buffer`]: bytes that were read and not used yet.
//!
//! It has room only while there are any, and takes it from what other buffers of the thread have left: thousands of
//! connections that wait have none, and those that work use what is still in the processor's cache.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Bytes that are read at a time; no head of a plain request is larger.
pub(crate) const ROOM: usize = 16 << 10;
/// Rooms that a thread keeps: beyond what is used at a time.
const SPARE: usize = 8;

thread_local! {
    static ROOMS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes, and room for more.
#[derive(Default)]
pub(crate) struct Buffer {
    /// None while there are no bytes.
    room: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl Buffer {
    /// A buffer of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut buffer = Self::default();
        if !bytes.is_empty() {
            buffer.room = vec![0; ROOM.max(bytes.len())].into();
            buffer.room[..bytes.len()].copy_from_slice(bytes);
            buffer.end = bytes.len();
        }
        buffer
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.room[self.begin..self.end]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.begin..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// Whether no room is left that could be read into.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.begin >= self.room.len().max(ROOM)
    }

    /// Whether the end of a head may have come behind the `seen` bytes that had none. Heads that come in small pieces are
    /// not looked through anew for each.
    pub(crate) fn may_end_head(&self, seen: usize) -> bool {
        let new = self.bytes().get(seen.saturating_sub(2)..);
        let mut new = new.unwrap_or_default().iter();
        let mut begins_line = false;
        seen == 0
            || new.any(|byte| {
                let ends = begins_line && *byte == b'\n';
                if *byte != b'\r' {
                    begins_line = *byte == b'\n';
                }
                ends
            })
    }

    /// Forgets the first so many bytes.
    pub(crate) fn skip(&mut self, length: usize) {
        self.begin = (self.begin + length).min(self.end);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        (self.begin, self.end) = (0, 0);
        let room = std::mem::take(&mut self.room);
        if room.len() == ROOM {
            // A thread that ends keeps none.
            let _ = ROOMS.try_with(|rooms| {
                let mut rooms = rooms.borrow_mut();
                if rooms.len() < SPARE {
                    rooms.push(room);
                }
            });
        }
    }

    /// Makes twice the room of a full buffer, unless that would be more than `most`; says whether it did.
    pub(crate) fn grow(&mut self, most: usize) -> bool {
        let length = self.room.len() * 2;
        if length <= most {
            let mut room = vec![0; length].into_boxed_slice();
            room[..self.bytes().len()].copy_from_slice(self.bytes());
            (self.begin, self.end) = (0, self.bytes().len());
            self.room = room;
        }
        length <= most
    }

    /// Reads into what room is left, of which there must be some; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<usize>> {
        if self.room.is_empty() {
            let spare = ROOMS.try_with(|rooms| rooms.borrow_mut().pop());
            let spare = spare.ok().flatten();
            self.room = spare.unwrap_or_else(|| vec![0; ROOM].into());
        } else if self.begin > 0 {
            self.room.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let mut free = ReadBuf::new(&mut self.room[self.end..]);
        let read = Pin::new(from).poll_read(cx, &mut free);
        let length = free.filled().len();
        self.end += length;
        if self.is_empty() {
            self.clear();
        }
        read.map_ok(|()| length)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn ends_of_heads_are_found_wherever_they_are_cut() {
        for head in ["GET /\r\nA: b\r\n\r\n", "GET /\nA: b\n\n"] {
            let whole = Buffer::of(head.as_bytes());
            let half = Buffer::of(&head.as_bytes()[..head.len() - 1]);
            for seen in 1..head.len() {
                assert!(whole.may_end_head(seen), "{head:?}, {seen}");
                assert!(!half.may_end_head(seen), "{head:?}, {seen}");
            }
        }
    }

    #[tokio::test]
    async fn bytes_are_used_in_order_whatever_room_there_is() {
        let sent: Vec<u8> = (0..60_000_u32)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        let (mut from, mut buffer, mut used) = (&sent[..], Buffer::of(b""), Vec::new());
        let mut steps = [1, 7, 5000, 16 << 10].into_iter().cycle();
        while !from.is_empty() || !buffer.is_empty() {
            if !buffer.is_full() {
                let read = poll_fn(|cx| buffer.poll_read(cx, &mut from)).await.unwrap();
                assert!(read > 0 || from.is_empty());
            } else if buffer.grow(32 << 10) {
                assert!(!buffer.is_full());
            }
            let length = steps.next().unwrap().min(buffer.bytes().len());
            used.extend_from_slice(&buffer.bytes()[..length]);
            buffer.skip(length);
        }
        assert_eq!(used, sent);
        assert!(buffer.room.is_empty(), "what is empty has no room");
    }
}
