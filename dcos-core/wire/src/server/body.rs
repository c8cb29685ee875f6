//! The body of a request, with its limits, and what became of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::timed::{Activity, Upload};

/// Why a request's body could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is larger than [`ServerConfig::body_limit`](super::ServerConfig::body_limit).
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// It paused for longer than [`ServerConfig::body_timeout`](super::ServerConfig::body_timeout).
    #[error("the body did not go on within {timeout:?}")]
    Slow {
        /// The limit.
        timeout: Duration,
    },
    /// The client went away in the middle, or broke its framing.
    #[error("the body broke off")]
    Truncated {
        /// What the connection said.
        source: hyper::Error,
    },
}

impl BodyError {
    /// The status that tells the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Truncated { .. } => StatusCode::BAD_REQUEST,
        }
    }
}

/// Takes the limits off a request that is a conversation: neither the length of its body nor a
/// pause in it, nor a client that reads its answer slowly, ends it any more.
///
/// It is among the extensions of each request; a handler calls [`Unhurried::allow`] once it knows
/// whom it talks to.
#[derive(Debug, Clone)]
pub struct Unhurried(Arc<Allowance>);

#[derive(Debug)]
struct Allowance {
    is_given: AtomicBool,
    /// The status of the error that ended the body, for whoever writes the answer. Extractors turn any
    /// error of a body into their own status; this keeps the right one.
    failure: AtomicU16,
    activity: Arc<Activity>,
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if *self.is_given.get_mut() {
            self.activity.mind_slow_readers();
        }
    }
}

impl Unhurried {
    pub(super) fn new(activity: &Arc<Activity>) -> Self {
        Self(Arc::new(Allowance {
            is_given: AtomicBool::new(false),
            failure: AtomicU16::new(0),
            activity: Arc::clone(activity),
        }))
    }

    /// Takes the limits off until the answer has ended. As long a slow reader is borne on the whole connection, which other
    /// requests of an HTTP/2 client share.
    pub fn allow(&self) {
        if !self.0.is_given.swap(true, Ordering::AcqRel) {
            self.0.activity.bear_slow_readers();
        }
    }

    /// The connection leaves HTTP, such as for a WebSocket: nothing on it is timed any more.
    pub fn hand_over(&self) {
        self.allow();
        self.0.activity.leave();
    }

    fn fail(&self, error: &BodyError) {
        let status = error.status().as_u16();
        self.0.failure.store(status, Ordering::Release);
    }

    /// The status the client should see, if reading its body failed.
    pub(super) fn failure(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.0.failure.load(Ordering::Acquire)).ok()
    }

    fn is_allowed(&self) -> bool {
        self.0.is_given.load(Ordering::Acquire)
    }
}

pub(super) struct RequestBody {
    inner: Incoming,
    left: u64,
    limit: u64,
    timeout: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    unhurried: Unhurried,
    /// Until it has ended.
    upload: Option<Upload>,
}

impl RequestBody {
    pub(super) fn new(
        inner: Incoming,
        limit: u64,
        timeout: Duration,
        unhurried: Unhurried,
    ) -> Self {
        let upload = Some(unhurried.0.activity.upload());
        Self {
            inner,
            left: limit,
            limit,
            timeout,
            pause: None,
            unhurried,
            upload,
        }
    }

    fn fail(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.unhurried.fail(&error);
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if self.unhurried.is_allowed() {
                self.pause = None;
                return Poll::Pending;
            }
            let timeout = self.timeout;
            let pause = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
            return match pause.as_mut().poll(cx) {
                Poll::Ready(()) => self.fail(BodyError::Slow { timeout }),
                Poll::Pending => Poll::Pending,
            };
        };
        self.pause = None;
        if self.inner.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            self.upload = None;
        }
        match frame {
            Some(Ok(frame)) if self.unhurried.is_allowed() => Poll::Ready(Some(Ok(frame))),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(left) = self.left.checked_sub(length) else {
                    let limit = self.limit;
                    return self.fail(BodyError::TooLarge { limit });
                };
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(source)) => self.fail(BodyError::Truncated { source }),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
