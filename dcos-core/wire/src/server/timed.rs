//! A stream that watches the clock while hyper reads and writes.
//!
//! hyper's own header timeout also ends connections that are idle between requests, and its
//! detection of HTTP/2 waits for the first byte without end. Here every silence has its own limit,
//! and a half-sent head is answered with 408.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::ServerConfig;
use crate::alarm::Alarm;
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
    /// While there are such answers a client that does not read is fine.
    slow_readers: AtomicUsize,
    /// Requests whose body is read.
    uploads: AtomicUsize,
    /// The connection speaks something else than HTTP.
    elsewhere: AtomicBool,
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

    /// Marks the body of a request as being read, until the guard is dropped.
    pub(super) fn upload(self: &Arc<Self>) -> Upload {
        self.uploads.fetch_add(1, Ordering::AcqRel);
        Upload(Arc::clone(self))
    }

    /// Whether requests are answered, and nothing is to come of them any more.
    fn only_answers(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
            && self.uploads.load(Ordering::Acquire) == 0
            && !self.elsewhere.load(Ordering::Acquire)
    }

    /// Lets the connection stay silent for ever from now on.
    pub(super) fn be_patient(&self) {
        self.patient.store(true, Ordering::Release);
    }

    /// The connection speaks something else from now on, in which silence and slow readers are fine.
    pub(super) fn leave(&self) {
        self.elsewhere.store(true, Ordering::Release);
        self.be_patient();
        self.bear_slow_readers();
    }

    /// Whether silence between requests is fine.
    pub(super) fn is_patient(&self) -> bool {
        self.patient.load(Ordering::Acquire)
    }

    /// Lets writes take as long as the client likes, until [`mind_slow_readers`](Self::mind_slow_readers).
    pub(super) fn bear_slow_readers(&self) {
        self.slow_readers.fetch_add(1, Ordering::AcqRel);
    }

    /// One of those who bore them has ended.
    pub(super) fn mind_slow_readers(&self) {
        self.slow_readers.fetch_sub(1, Ordering::AcqRel);
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

/// A request whose body is read.
#[derive(Debug)]
pub(super) struct Upload(Arc<Activity>);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.uploads.fetch_sub(1, Ordering::AcqRel);
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

/// Silence between requests after which what HTTP needs for a connection (two buffers, tasks, tables) is given back until
/// the next one comes. Long enough that a connection in use never pays for it.
pub(super) const PARKED_AFTER: Duration = Duration::from_secs(1);

/// Bytes that a client may send ahead while it is answered: a hundred requests.
const AHEAD: usize = 64 << 10;

/// The answer to half of a head.
pub(super) const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Where a stream is left when its connection is parked.
#[derive(Debug, Clone, Default)]
pub(super) struct Parking(Arc<Mutex<Option<Stream>>>);

impl Parking {
    /// The stream, if its connection was parked.
    pub(super) fn take(&self) -> Option<Stream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each on its own")]
pub(super) struct Timed {
    io: Stream,
    /// Bytes that came while nobody read: while it was parked, or behind a request that is answered.
    first: Vec<u8>,
    /// Since when the rest of the first head is awaited, if that began before.
    since: Option<Instant>,
    activity: Arc<Activity>,
    config: Arc<ServerConfig>,
    parking: Parking,
    phase: Phase,
    http2: bool,
    /// What came last ended with the end of a head: nobody else has read the beginning of the next one.
    whole: bool,
    parked: bool,
    /// Bytes were written that may not have left yet: hyper lets go of an answer once it has a copy of the rest.
    unflushed: bool,
    /// Somebody reads and waits for that.
    held: bool,
    /// Whoever reads waits for more, and is told.
    awaited: bool,
    /// Since when nothing more is taken ahead.
    full: Option<Instant>,
    /// When the silence of this phase is too long.
    deadline: Option<Instant>,
    /// Rings then at the latest: it is not set anew for each request.
    alarm: Alarm,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    /// A stream of which `first` was read already; the rest of a head that begins there is awaited `since` then.
    pub(super) fn new(
        io: Stream,
        (first, since): (Vec<u8>, Instant),
        activity: Arc<Activity>,
        config: Arc<ServerConfig>,
        parking: Parking,
    ) -> Self {
        Self {
            io,
            since: (!first.is_empty()).then_some(since),
            first,
            activity,
            config,
            parking,
            phase: Phase::Silent,
            http2: false,
            whole: false,
            parked: false,
            unflushed: false,
            held: false,
            awaited: false,
            full: None,
            deadline: None,
            alarm: Alarm::default(),
            stall: None,
        }
    }

    /// Takes in what the handler did since the last look.
    fn update_phase(&mut self) {
        let seen = self.activity.head_read.swap(false, Ordering::AcqRel);
        let begun = seen || self.phase == Phase::Busy;
        self.held = begun && self.unflushed;
        let next = if self.held || self.activity.busy.load(Ordering::Acquire) > 0 {
            Phase::Busy
        } else if begun {
            Phase::Idle
        } else {
            return;
        };
        self.enter(next);
    }

    fn enter(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            self.deadline = None;
        }
    }

    /// How long nothing may come, from when the phase began.
    fn patience(&self) -> Option<Duration> {
        match self.phase {
            Phase::Silent => Some(self.config.first_byte_timeout),
            Phase::Head => Some(self.config.header_timeout),
            Phase::Busy => None,
            Phase::Idle if self.may_park() => Some(PARKED_AFTER),
            Phase::Idle if self.activity.is_patient() => None,
            Phase::Idle => Some(self.config.idle_timeout),
        }
    }

    fn may_park(&self) -> bool {
        let http1 = !self.http2 && !self.activity.elsewhere.load(Ordering::Acquire);
        self.whole && http1 && self.config.idle_timeout > PARKED_AFTER
    }

    fn received(&mut self, data: &[u8]) {
        if self.phase == Phase::Silent && data.starts_with(b"PRI") {
            self.http2 = true;
        }
        self.whole = data.ends_with(b"\r\n\r\n");
        match self.phase {
            // Frames of HTTP/2 come between requests too; its heads are short-lived anyway.
            Phase::Silent | Phase::Idle if self.http2 => self.enter(Phase::Idle),
            Phase::Silent | Phase::Idle => {
                self.enter(Phase::Head);
                let since = self.since.take();
                self.deadline = since.map(|since| since + self.config.header_timeout);
            }
            Phase::Head | Phase::Busy => {}
        }
    }

    /// Waits until the silence of this phase is too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(patience) = self.patience() else {
            self.deadline = None;
            return Poll::Pending;
        };
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Instant::now() + patience);
        self.alarm.poll(deadline, cx)
    }

    /// Looks whether the client has gone while it is answered: hyper does not once it has read more than one request. What
    /// comes is kept for it, up to a size; who goes on beyond that has to get its answer in the time of a silence.
    fn look_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.awaited || self.http2 || !self.activity.only_answers() {
            return Ok(());
        }
        while self.first.len() < AHEAD {
            let mut piece = [0; 4096];
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.io).poll_read(cx, &mut piece) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(())) if piece.filled().is_empty() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Ready(Ok(())) => self.first.extend_from_slice(piece.filled()),
            }
        }
        let full = *self.full.get_or_insert_with(Instant::now);
        match self.alarm.poll(full + self.config.idle_timeout, cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn give_up(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.phase != Phase::Head {
            self.parked = self.phase == Phase::Idle && self.may_park();
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
        if written.is_ready() || self.activity.slow_readers.load(Ordering::Acquire) > 0 {
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
        let first = this.first.len().min(buf.remaining());
        buf.put_slice(&this.first[..first]);
        this.first.drain(..first);
        (this.awaited, this.full) = (false, None);
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if read.is_ready() || first > 0 {
            this.received(&buf.filled()[before..]);
            return if first > 0 { Poll::Ready(Ok(())) } else { read };
        }
        this.awaited = true;
        ready!(this.poll_silence(cx));
        // An empty read is the end of the stream: hyper closes without a word.
        Poll::Ready(this.give_up(cx))
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        if self.parked {
            let stream = std::mem::replace(&mut self.io, Stream::new(tokio::io::empty()));
            let place = self.parking.0.lock();
            *place.unwrap_or_else(PoisonError::into_inner) = Some(stream);
        }
    }
}

impl AsyncWrite for Timed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        let written = Pin::new(&mut self.io).poll_write(cx, data);
        self.watch_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.unflushed = false;
            if std::mem::take(&mut self.held) {
                self.activity.reader.wake();
            }
        }
        // Whoever drives HTTP/1 comes here each time.
        self.look_ahead(cx)?;
        self.watch_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.parked {
            // HTTP is through with it, we are not.
            return Poll::Ready(Ok(()));
        }
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch_write(cx, closed)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, data);
        self.watch_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
