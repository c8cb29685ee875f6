//! [`Flow`]: a large body that is sent while it is being written.
//!
//! Memory that was never used costs more than most of what is written into it. So whoever writes fills one of a
//! few buffers and lets it go; once its bytes are sent, it comes back to be filled again, and a document of any size
//! takes the memory of those few. A reader that is slow is waited for, but not for long: what comes then
//! takes new memory, since whoever writes may keep others waiting.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::Piece;

/// How many buffers a body has for itself.
const BUFFERS: usize = 32;

/// From how many bytes on a buffer is sent.
const FULL: usize = 64 << 10;

/// A buffer that grew beyond this is not kept.
const LARGEST: usize = 1 << 20;

/// A piece of at least so many bytes is sent as it is; a smaller one is copied.
const WORTHWHILE: usize = 4 << 10;

/// A body that ends within so many bytes has a known length. Less than the buffers hold.
const HEAD: usize = 1 << 20;

/// A body and its writer, who waits for a slow reader no longer than `patience` in all.
pub fn flow(patience: Duration) -> (FlowWriter, Flow) {
    // Without a bound of its own: what is under way is bounded by the buffers, and beyond `patience` by the document.
    let (sender, receiver) = mpsc::unbounded_channel();
    let writer = FlowWriter {
        buffer: Vec::new(),
        basin: Arc::default(),
        patience,
        sender,
        closed: false,
    };
    let flow = Flow {
        head: VecDeque::new(),
        length: 0,
        ended: false,
        rest: receiver,
    };
    (writer, flow)
}

/// What is sent, in order.
enum Part {
    Bytes(Bytes),
    /// All of it was written. A body that just stops is broken.
    End,
}

/// Writes a body: for threads that may block.
pub struct FlowWriter {
    buffer: Vec<u8>,
    basin: Arc<Basin>,
    patience: Duration,
    sender: mpsc::UnboundedSender<Part>,
    closed: bool,
}

impl FlowWriter {
    /// Where to write what comes next; say so with [`turn`](Self::turn) now and then.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = self.basin.take(&mut self.patience);
        }
        &mut self.buffer
    }

    /// Sends what was written if that is much.
    pub fn turn(&mut self) {
        if self.buffer.len() >= FULL {
            self.send();
        }
    }

    /// Appends a copy of `text`.
    pub fn text(&mut self, text: impl AsRef<[u8]>) {
        self.buffer().extend_from_slice(text.as_ref());
        self.turn();
    }

    /// Appends a shared piece.
    pub fn push(&mut self, piece: &Piece) {
        if piece.bytes().len() < WORTHWHILE {
            return self.text(piece.bytes());
        }
        self.send();
        self.pass(Part::Bytes(piece.bytes().clone()));
    }

    /// Whether nobody reads any more, so that there is no use in going on.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends the body. Without that its reader is told that it is broken.
    pub fn finish(mut self) {
        self.send();
        self.pass(Part::End);
    }

    fn send(&mut self) {
        if !self.buffer.is_empty() {
            let chunk = Chunk {
                bytes: std::mem::take(&mut self.buffer),
                basin: Arc::clone(&self.basin),
            };
            self.pass(Part::Bytes(Bytes::from_owner(chunk)));
        }
    }

    fn pass(&mut self, part: Part) {
        self.closed |= self.sender.send(part).is_err();
    }
}

impl fmt::Debug for FlowWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowWriter")
    }
}

/// A buffer on its way; it comes back when nobody holds its bytes any more.
struct Chunk {
    bytes: Vec<u8>,
    basin: Arc<Basin>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.basin.give_back(std::mem::take(&mut self.bytes));
    }
}

/// Where buffers wait to be filled.
#[derive(Default)]
struct Basin {
    buffers: Mutex<Buffers>,
    returned: Condvar,
}

#[derive(Default)]
struct Buffers {
    idle: Vec<Vec<u8>>,
    /// How many there are, wherever they are.
    made: usize,
}

impl Basin {
    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer: one that came back, if need be after waiting as long as there is patience left.
    fn take(&self, patience: &mut Duration) -> Vec<u8> {
        let mut buffers = self.buffers();
        loop {
            if let Some(buffer) = buffers.idle.pop() {
                return buffer;
            }
            if buffers.made < BUFFERS || patience.is_zero() {
                buffers.made += 1;
                return Vec::with_capacity(2 * FULL);
            }
            let begin = Instant::now();
            let waited = self.returned.wait_timeout(buffers, *patience);
            (buffers, _) = waited.unwrap_or_else(PoisonError::into_inner);
            *patience = patience.saturating_sub(begin.elapsed());
        }
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers();
        if buffers.made > BUFFERS || buffer.capacity() > LARGEST {
            buffers.made -= 1;
        } else {
            buffer.clear();
            buffers.idle.push(buffer);
        }
        drop(buffers);
        self.returned.notify_one();
    }
}

/// A body that is being written.
pub struct Flow {
    /// What was looked at before it is sent.
    head: VecDeque<Bytes>,
    /// Bytes in `head`.
    length: usize,
    /// Nothing comes behind `head`.
    ended: bool,
    rest: mpsc::UnboundedReceiver<Part>,
}

impl Flow {
    /// Waits until it is known whether it is large; a small body is awaited to its end, and has a known
    /// length. `None` if its writer broke off meanwhile.
    pub async fn begun(mut self) -> Option<Self> {
        while !self.ended && self.length < HEAD {
            match self.rest.recv().await? {
                Part::Bytes(bytes) => {
                    self.length += bytes.len();
                    // What waits here keeps its buffer: with many small ones the writer would run out of them.
                    let is_small = bytes.len() < FULL;
                    let bytes = if is_small {
                        Bytes::copy_from_slice(&bytes)
                    } else {
                        bytes
                    };
                    self.head.push_back(bytes);
                }
                Part::End => self.ended = true,
            }
        }
        Some(self)
    }

    /// All bytes in one place; `None` if its writer broke off.
    pub async fn into_bytes(mut self) -> Option<Bytes> {
        let mut whole = BytesMut::new();
        for bytes in self.head {
            whole.extend_from_slice(&bytes);
        }
        while !self.ended {
            match self.rest.recv().await? {
                Part::Bytes(bytes) => whole.extend_from_slice(&bytes),
                Part::End => self.ended = true,
            }
        }
        Some(whole.freeze())
    }

    /// As a body, of known length if it [began](Self::begun) and was small.
    pub fn into_body(self) -> Body {
        Body::new(FlowBody(self))
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flow")
    }
}

/// The writer of a body broke off.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the document was not written to its end")]
struct Broken;

struct FlowBody(Flow);

impl http_body::Body for FlowBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let flow = &mut self.0;
        if let Some(bytes) = flow.head.pop_front() {
            flow.length -= bytes.len();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if flow.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(flow.rest.poll_recv(cx)) {
            Some(Part::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Part::End) => {
                flow.ended = true;
                None
            }
            None => {
                flow.ended = true;
                Some(Err(Broken))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.ended && self.0.head.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.0.ended {
            SizeHint::with_exact(self.0.length as u64)
        } else {
            SizeHint::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    const ENDLESS: Duration = Duration::from_secs(3600);

    /// Reads a body as a server does: what is sent is let go.
    async fn read(mut body: Body) -> Result<Vec<u8>, axum::Error> {
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            whole.extend_from_slice(frame?.data_ref().unwrap());
        }
        Ok(whole)
    }

    /// Lines, of which every tenth is a shared piece.
    fn write(mut writer: FlowWriter, lines: usize) {
        for at in 0..lines {
            let line = format!("{at} {}\n", "x".repeat(at % 9000));
            if at % 10 == 0 {
                writer.push(&Piece::new(line));
            } else {
                writer.buffer().extend_from_slice(line.as_bytes());
                writer.turn();
            }
        }
        writer.finish();
    }

    fn expected(lines: usize) -> String {
        let line = |at| format!("{at} {}\n", "x".repeat(at % 9000));
        (0..lines).map(line).collect()
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_written() {
        for lines in [0, 1, 50, 5000] {
            let (writer, flow) = flow(ENDLESS);
            let thread = thread::spawn(move || write(writer, lines));
            let flow = flow.begun().await.unwrap();
            let body = flow.into_body();
            let length = body.size_hint().exact();
            let body = read(body).await.unwrap();
            thread.join().unwrap();
            assert_eq!(body, expected(lines).as_bytes());
            let small = u64::try_from(body.len()).unwrap();
            assert_eq!(length, (lines < 5000).then_some(small));
            let (writer, flow) = super::flow(ENDLESS);
            let thread = thread::spawn(move || write(writer, lines));
            assert_eq!(flow.into_bytes().await.unwrap(), expected(lines));
            thread.join().unwrap();
        }
    }

    /// Between shared pieces stands little text, which would take a buffer each.
    #[tokio::test]
    async fn what_waits_for_its_length_keeps_no_buffers() {
        let (mut writer, flow) = flow(ENDLESS);
        let thread = thread::spawn(move || {
            for _ in 0..3 * BUFFERS {
                writer.text("x");
                writer.push(&Piece::new(vec![b'a'; WORTHWHILE]));
            }
            writer.finish();
        });
        let body = flow.begun().await.unwrap().into_body();
        thread.join().unwrap();
        assert_eq!(
            body.size_hint().exact(),
            Some(3 * BUFFERS as u64 * (1 + WORTHWHILE as u64))
        );
    }

    #[tokio::test]
    async fn a_reader_that_comes_along_needs_few_buffers() {
        let (writer, flow) = flow(ENDLESS);
        let basin = Arc::clone(&writer.basin);
        let thread = thread::spawn(move || write(writer, 5000));
        let body = read(flow.into_body()).await.unwrap();
        assert!(body.len() > 2 * BUFFERS * FULL);
        thread.join().unwrap();
        assert!(basin.buffers().made <= BUFFERS);
    }

    #[tokio::test]
    async fn whoever_writes_does_not_wait_for_ever() {
        let (writer, flow) = flow(Duration::from_millis(1));
        // Nobody reads until all is written.
        let basin = Arc::clone(&writer.basin);
        write(writer, 5000);
        assert!(basin.buffers().made > BUFFERS);
        assert_eq!(flow.into_bytes().await.unwrap(), expected(5000));
        assert_eq!(basin.buffers().idle.len(), BUFFERS);
    }

    #[tokio::test]
    async fn a_body_that_just_stops_is_broken() {
        let (mut writer, flow) = flow(ENDLESS);
        writer.text("a");
        drop(writer);
        assert!(flow.begun().await.is_none());
        let (mut writer, flow) = super::flow(ENDLESS);
        let thread = thread::spawn(move || {
            for _ in 0..100 {
                writer.text(vec![b'a'; FULL]);
            }
        });
        let flow = flow.begun().await.unwrap();
        assert!(read(flow.into_body()).await.is_err());
        thread.join().unwrap();
    }

    #[test]
    fn a_writer_learns_that_nobody_reads() {
        let (mut writer, flow) = flow(ENDLESS);
        writer.text("a");
        assert!(!writer.is_closed());
        drop(flow);
        while !writer.is_closed() {
            writer.text(vec![b'a'; FULL]);
        }
    }
}
