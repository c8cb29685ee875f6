//! A stream that watches the clock while hyper reads and writes.
//!
//! hyper's own header timeout also ends connections that are idle between requests, and its
//! detection of HTTP/2 waits for the first byte without end. Here every silence has its own limit,
//! and a half-sent head is answered with 408.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::ServerConfig;
use crate::io::Stream;

/// What the connection is doing, told by the handler of its requests.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose answer is not finished.
    busy: AtomicUsize,
    /// A head was read to its end since bytes last came.
    head_read: AtomicBool,
    /// Silence between requests is fine.
    patient: AtomicBool,
    /// A client that does not read is fine.
    slow_readers: AtomicBool,
    /// Who reads, to be told when an answer is finished and the clock starts again.
    reader: AtomicWaker,
}

impl Activity {
    /// Marks a request as begun, until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        self.head_read.store(true, Ordering::Release);
        Busy(Arc::clone(self))
    }

    /// Lets the connection stay silent for ever from now on.
    pub(super) fn be_patient(&self) {
        self.patient.store(true, Ordering::Release);
    }

    /// Lets writes take as long as the client likes from now on.
    pub(super) fn bear_slow_readers(&self) {
        self.slow_readers.store(true, Ordering::Release);
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
        self.0.reader.wake();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    Silent,
    /// Part of a head has come.
    Head,
    /// A request is being answered.
    Busy,
    /// Between requests.
    Idle,
}

pub(super) struct Timed {
    io: Stream,
    activity: Arc<Activity>,
    config: Arc<ServerConfig>,
    phase: Phase,
    http2: bool,
    silence: Option<Pin<Box<Sleep>>>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    pub(super) fn new(io: Stream, activity: Arc<Activity>, config: Arc<ServerConfig>) -> Self {
        Self {
            io,
            activity,
            config,
            phase: Phase::Silent,
            http2: false,
            silence: None,
            stall: None,
        }
    }

    /// Takes in what the handler did since the last look.
    fn update_phase(&mut self) {
        let seen = self.activity.head_read.swap(false, Ordering::AcqRel);
        let next = if self.activity.busy.load(Ordering::Acquire) > 0 {
            Phase::Busy
        } else if self.phase == Phase::Busy || seen {
            Phase::Idle
        } else {
            return;
        };
        self.enter(next);
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            self.silence = None;
        }
    }

    /// How long nothing may come, from when the phase began.
    fn patience(&self) -> Option<Duration> {
        match self.phase {
            Phase::Silent => Some(self.config.first_byte_timeout),
            Phase::Head => Some(self.config.header_timeout),
            Phase::Busy => None,
            Phase::Idle if self.activity.patient.load(Ordering::Acquire) => None,
            Phase::Idle => Some(self.config.idle_timeout),
        }
    }

    fn received(&mut self, data: &[u8]) {
        if self.phase == Phase::Silent && data.starts_with(b"PRI") {
            self.http2 = true;
        }
        match self.phase {
            // Frames of HTTP/2 come between requests too; its heads are short-lived anyway.
            Phase::Silent | Phase::Idle if self.http2 => self.enter(Phase::Idle),
            Phase::Silent | Phase::Idle => self.enter(Phase::Head),
            Phase::Head | Phase::Busy => {}
        }
    }

    fn give_up(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        const LATE: &[u8] =
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        if self.phase != Phase::Head {
            return Ok(());
        }
        // If not even these few bytes fit, the client does not listen either.
        let _ = Pin::new(&mut self.io).poll_write(cx, LATE);
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Fails a write that has been pending for too long.
    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() || self.activity.slow_readers.load(Ordering::Acquire) {
            self.stall = None;
            return written;
        }
        let timeout = self.config.write_timeout;
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.activity.reader.register(cx.waker());
        this.update_phase();
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, buf) {
            this.received(&buf.filled()[before..]);
            return Poll::Ready(read);
        }
        let Some(patience) = this.patience() else {
            this.silence = None;
            return Poll::Pending;
        };
        let silence = this
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + patience)));
        ready!(silence.as_mut().poll(cx));
        // An empty read is the end of the stream: hyper closes without a word.
        Poll::Ready(this.give_up(cx))
    }
}

impl AsyncWrite for Timed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, data);
        self.watch_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.watch_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch_write(cx, closed)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, data);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
