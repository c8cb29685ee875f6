//! Event streams: a body that carries RecordIO frames for as long as both ends like.
//!
//! The writer never waits: what a reader has not taken yet is queued up to [`Limits`], and a reader
//! that falls further behind is cut off, so that one slow client costs a bounded amount of memory
//! and never holds up the others. Mesos queues without bound here; a client that was cut has to
//! subscribe again and reconcile, as after any broken connection.

mod feed;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use dcos_proto::recordio;
use futures::task::AtomicWaker;
use http_body::Frame;
use tokio::sync::mpsc;

pub use feed::{Feed, Subscription, View, frame};

/// How far a reader may fall behind.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records that wait to be sent. An event of a busy cluster is about 1 kB, so the default of
    /// 16,384 is some seconds of it.
    pub records: usize,
    /// Bytes that wait to be sent. The default of 64 MiB is the state of a large cluster; a single
    /// larger record is still taken if nothing else waits.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            records: 16 * 1024,
            bytes: 64 << 20,
        }
    }
}

/// Why a record can't be sent. The stream is over in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The reader is gone.
    #[error("the reader of the stream is gone")]
    Closed,
    /// The reader did not keep up and was cut off.
    #[error("the reader of the stream did not keep up and was cut off")]
    Slow,
}

/// A stream: the end that writes records, and the body that carries them.
///
/// Dropping the sender ends the body after what was sent; see also [`RecordSender::cut`].
///
/// ```
/// use dcos_wire::records;
/// use http_body_util::BodyExt;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let (sender, body) = records::stream(records::Limits::default());
/// sender.send("one".into())?;
/// sender.send("three".into())?;
/// drop(sender);
/// assert_eq!(body.collect().await.unwrap().to_bytes(), "3\none5\nthree");
/// # Ok::<(), records::SendError>(()) }).unwrap();
/// ```
pub fn stream(limits: Limits) -> (RecordSender, Body) {
    stream_with_farewell(limits, None)
}

/// The same with a record that a reader is sent last if it is cut, so that it knows why. What it did not take yet is
/// dropped.
pub fn stream_with_farewell(limits: Limits, farewell: Option<Bytes>) -> (RecordSender, Body) {
    let (sender, receiver) = mpsc::channel(limits.records.max(1));
    let shared = Arc::new(Shared {
        waiting: AtomicUsize::new(0),
        cut: AtomicBool::new(false),
        reader: AtomicWaker::new(),
    });
    let body = Body::new(RecordBody {
        receiver,
        shared: Arc::clone(&shared),
        farewell,
    });
    let sender = RecordSender {
        sender,
        shared,
        limit: limits.bytes,
    };
    (sender, body)
}

/// Writes records to one reader. Clones write to the same stream.
#[derive(Debug, Clone)]
pub struct RecordSender {
    sender: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
    limit: usize,
}

#[derive(Debug)]
struct Shared {
    /// Bytes in the channel.
    waiting: AtomicUsize,
    /// The stream breaks instead of ending.
    cut: AtomicBool,
    /// Who waits for records, to be told of a cut.
    reader: AtomicWaker,
}

impl RecordSender {
    /// Sends one record, or cuts the stream if the reader is too far behind. Never waits.
    ///
    /// # Errors
    /// [`SendError`]: nothing sent on this stream any more reaches the reader.
    pub fn send(&self, record: Bytes) -> Result<(), SendError> {
        if self.shared.cut.load(Ordering::Acquire) {
            return Err(SendError::Slow);
        }
        let length = record.len();
        let before = self.shared.waiting.fetch_add(length, Ordering::AcqRel);
        if before > 0 && before.saturating_add(length) > self.limit {
            self.cut();
            return Err(SendError::Slow);
        }
        self.sender.try_send(record).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
            mpsc::error::TrySendError::Full(_) => {
                self.cut();
                SendError::Slow
            }
        })
    }

    /// Breaks the stream: the reader sees a connection that fails, not a stream that ends.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::Release);
        self.shared.reader.wake();
    }

    /// Waits until the reader is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether the stream is over, because the reader is gone or was cut.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.shared.cut.load(Ordering::Acquire)
    }
}

struct RecordBody {
    receiver: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
    /// What a reader that is cut is sent last.
    farewell: Option<Bytes>,
}

/// As many small records as fit are sent as one piece.
const PIECE: usize = 32 * 1024;

impl http_body::Body for RecordBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        self.shared.reader.register(cx.waker());
        if self.shared.cut.load(Ordering::Acquire) {
            let last = self.farewell.take();
            let last = last.map(|record| Frame::data(recordio::encode(&record)));
            return Poll::Ready(Some(last.ok_or(SendError::Slow)));
        }
        let Some(first) = std::task::ready!(self.receiver.poll_recv(cx)) else {
            return Poll::Ready(None);
        };
        let mut taken = first.len();
        let first = recordio::encode(&first);
        let mut piece = BytesMut::new();
        while first.len() + piece.len() < PIECE
            && let Ok(record) = self.receiver.try_recv()
        {
            taken += record.len();
            piece.extend_from_slice(&recordio::encode(&record));
        }
        self.shared.waiting.fetch_sub(taken, Ordering::AcqRel);
        let piece = if piece.is_empty() {
            first
        } else {
            [&first[..], &piece[..]].concat().into()
        };
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_cut() {
        let limits = Limits {
            records: 10,
            bytes: 100,
        };
        let (sender, body) = stream(limits);
        sender.send(vec![0; 1000].into()).unwrap();
        assert_eq!(sender.send("x".into()), Err(SendError::Slow));
        assert!(sender.is_closed());
        assert!(body.collect().await.is_err());

        let (sender, mut body) = stream(limits);
        for _ in 0..100 {
            sender.send(vec![0; 60].into()).unwrap();
            body.frame().await.unwrap().unwrap();
        }
        for _ in 0..10 {
            sender.send("x".into()).unwrap();
        }
        assert_eq!(sender.send("x".into()), Err(SendError::Slow));
    }

    #[tokio::test]
    async fn a_reader_that_is_cut_is_told_why() {
        let limits = Limits {
            records: 2,
            bytes: 100,
        };
        let (sender, mut body) = stream_with_farewell(limits, Some("slow".into()));
        for _ in 0..2 {
            sender.send("x".into()).unwrap();
        }
        assert_eq!(sender.send("x".into()), Err(SendError::Slow));
        let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(last, "4\nslow");
        assert!(
            body.frame().await.unwrap().is_err(),
            "and the stream breaks"
        );
    }

    #[tokio::test]
    async fn a_sender_notices_that_the_reader_is_gone() {
        let (sender, body) = stream(Limits::default());
        drop(body);
        sender.closed().await;
        assert_eq!(sender.send("x".into()), Err(SendError::Closed));
    }
}
