//! Bodies on their way: counted, limited, and never held.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// What is seen of a request's body while it passes.
#[derive(Debug)]
pub(crate) struct Passing {
    begun: Instant,
    /// Milliseconds after `begun` at which a piece was last taken.
    last: AtomicU64,
    /// Bytes so far.
    bytes: AtomicU64,
    too_large: AtomicBool,
}

impl Passing {
    /// Nothing so far of a request that has `begun`.
    pub(crate) fn new(begun: Instant) -> Arc<Self> {
        Arc::new(Self {
            begun,
            last: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            too_large: AtomicBool::new(false),
        })
    }

    /// How much of `patience` is left since the last piece.
    pub(crate) fn left(&self, patience: Duration) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        (last + patience).saturating_sub(self.begun.elapsed())
    }

    /// Whether the body was cut for its size.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn take(&self, length: u64, limit: u64) -> bool {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
        let fits = self.bytes.fetch_add(length, Ordering::Relaxed) + length <= limit;
        if !fits {
            self.too_large.store(true, Ordering::Relaxed);
        }
        fits
    }
}

/// Why a body broke off here.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the body broke off")]
    Broken(#[source] axum::Error),
}

/// A request's body that is cut when it grows beyond `limit` bytes.
pub(crate) fn limited(body: Body, limit: u64, passing: &Arc<Passing>) -> Body {
    let passing = Arc::clone(passing);
    Body::new(Limited {
        body,
        limit,
        passing,
    })
}

struct Limited {
    body: Body,
    limit: u64,
    passing: Arc<Passing>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                if self.passing.take(length, self.limit) {
                    // Trailers are of this connection only: nobody behind has asked for them.
                    frame.into_data().ok().map(|data| Ok(Frame::data(data)))
                } else {
                    Some(Err(Cut::TooLarge(self.limit)))
                }
            }
            Some(Err(error)) => Some(Err(Cut::Broken(error))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is done with the number of an answer's bytes when it has ended, however it ended.
pub(crate) trait AtEnd: Send + Unpin + 'static {
    /// The answer has ended after so many bytes.
    fn ended(&mut self, bytes: u64);
}

/// An answer's body that tells when it has ended.
pub(crate) fn counted<B, E: AtEnd>(body: B, end: E) -> Body
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    let bytes = 0;
    Body::new(Counted { body, bytes, end })
}

struct Counted<B, E: AtEnd> {
    body: B,
    bytes: u64,
    end: E,
}

impl<B, E: AtEnd> HttpBody for Counted<B, E>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            self.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B, E: AtEnd> Drop for Counted<B, E> {
    fn drop(&mut self) {
        self.end.ended(self.bytes);
    }
}
