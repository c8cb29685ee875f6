//! [`Feed`]: one log of events, and any number of readers of it.
//!
//! An event is kept once, however many readers have still to take it, and encoded once for each
//! form that readers ask for. The log is bounded: a reader that is still at its beginning when it
//! is full is cut, so that neither many nor slow readers cost memory.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use dcos_proto::recordio;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use http_body::Frame;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{Limits, PIECE, SendError};
use crate::Rope;

/// How often the log is searched for what all have read: each so many events.
const TRIM: u64 = 256;

/// A log of events of type `E`. Clones write to the same log.
pub struct Feed<E> {
    shared: Arc<Shared<E>>,
}

struct Shared<E> {
    limits: Limits,
    log: Mutex<Log<E>>,
    /// Oldest first.
    readers: Mutex<Vec<Arc<Reader>>>,
    open: AtomicUsize,
    news: Notify,
}

struct Log<E> {
    /// The number of the first entry.
    first: u64,
    entries: VecDeque<(Arc<E>, usize)>,
    bytes: usize,
}

struct Reader {
    /// The number of the entry it takes next.
    next: AtomicU64,
    cut: AtomicBool,
    gone: AtomicBool,
    waker: AtomicWaker,
}

/// Makes a record of an event, framed by [`frame`]; `None` of one that is not to be seen.
pub type View<E> = Box<dyn Fn(&E) -> Option<Bytes> + Send + Sync>;

/// How one reader wants its events.
pub struct Subscription<E> {
    /// What it is sent before all events, as one record; `None` ends the stream.
    pub opening: BoxFuture<'static, Option<Rope>>,
    /// What it is sent of each event.
    pub view: View<E>,
    /// A framed record that is sent behind the opening, and then whenever this time has passed.
    pub heartbeat: (Bytes, Duration),
}

/// A record as it stands in a stream.
pub fn frame(record: &[u8]) -> Bytes {
    recordio::encode(record)
}

impl<E: Send + Sync + 'static> Feed<E> {
    /// A log that holds at most `limits`, for all readers together.
    pub fn new(limits: Limits) -> Self {
        let log = Log {
            first: 0,
            entries: VecDeque::new(),
            bytes: 0,
        };
        let shared = Shared {
            limits,
            log: Mutex::new(log),
            readers: Mutex::default(),
            open: AtomicUsize::new(0),
            news: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// How many readers there are.
    pub fn readers(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Appends an event that takes about `size` bytes of memory. Never waits; what it costs does
    /// not depend on the number of readers, who are woken by [`Feed::run`].
    pub fn publish(&self, event: E, size: usize) {
        if self.readers() == 0 {
            return;
        }
        let shared = &self.shared;
        let mut log = shared.log();
        log.entries.push_back((Arc::new(event), size));
        log.bytes += size;
        let full = log.bytes > shared.limits.bytes || log.entries.len() > shared.limits.records;
        if full || log.end().is_multiple_of(TRIM) {
            shared.trim(&mut log);
        }
        drop(log);
        shared.news.notify_one();
    }

    /// A reader of all that is published from now on; while there are `most` already, the oldest
    /// is cut. The stream is its body.
    pub fn subscribe(&self, most: usize, subscription: Subscription<E>) -> Body {
        let shared = Arc::clone(&self.shared);
        let next = shared.log().end();
        let reader = Arc::new(Reader {
            next: AtomicU64::new(next),
            cut: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let mut readers = shared.readers();
        readers.retain(|reader| reader.is_open());
        let surplus = (readers.len() + 1).saturating_sub(most.max(1));
        for oldest in readers.drain(..surplus) {
            oldest.cut();
        }
        readers.push(Arc::clone(&reader));
        shared.open.fetch_add(1, Ordering::AcqRel);
        drop(readers);
        let (beat, every) = subscription.heartbeat;
        let mut timer = interval_at(Instant::now() + every, every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Body::new(FeedBody {
            shared,
            reader,
            opening: Some(subscription.opening),
            ready: None,
            view: subscription.view,
            beat,
            timer,
        })
    }

    /// Wakes readers when there is something for them, for ever. Readers stand still without it.
    pub async fn run(self) {
        loop {
            self.shared.news.notified().await;
            let readers = self.shared.readers().clone();
            for reader in &readers {
                reader.waker.wake();
            }
            // What is published meanwhile is for the next round.
            tokio::task::yield_now().await;
        }
    }
}

impl<E> Log<E> {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn drop_first(&mut self) {
        if let Some((_, size)) = self.entries.pop_front() {
            self.bytes -= size;
            self.first += 1;
        }
    }
}

impl<E> Shared<E> {
    fn log(&self) -> MutexGuard<'_, Log<E>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Arc<Reader>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what every reader has, and as much more as the limits ask for; whoever needed that is
    /// cut.
    fn trim(&self, log: &mut Log<E>) {
        let mut readers = self.readers();
        readers.retain(|reader| reader.is_open());
        let slowest = readers
            .iter()
            .map(|reader| reader.next.load(Ordering::Acquire));
        let needed = slowest.min().unwrap_or(u64::MAX).min(log.end());
        while log.first < needed {
            log.drop_first();
        }
        while log.bytes > self.limits.bytes || log.entries.len() > self.limits.records {
            log.drop_first();
        }
        for reader in readers.iter() {
            if reader.next.load(Ordering::Acquire) < log.first {
                reader.cut();
            }
        }
    }
}

impl Reader {
    fn is_open(&self) -> bool {
        !self.cut.load(Ordering::Acquire) && !self.gone.load(Ordering::Acquire)
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.waker.wake();
    }
}

type Chunks = Box<dyn Iterator<Item = Bytes> + Send + Sync>;

struct FeedBody<E> {
    shared: Arc<Shared<E>>,
    reader: Arc<Reader>,
    opening: Option<BoxFuture<'static, Option<Rope>>>,
    /// The rest of the opening.
    ready: Option<Chunks>,
    view: View<E>,
    beat: Bytes,
    timer: Interval,
}

/// Events that are looked at while the log is locked.
const TAKEN: usize = 64;

impl<E> FeedBody<E> {
    /// Events this reader has not had, encoded; `None` if there are none now.
    fn gather(&self) -> Result<Option<Bytes>, SendError> {
        let mut piece = BytesMut::new();
        while piece.len() < PIECE {
            let next = self.reader.next.load(Ordering::Acquire);
            let taken: Vec<Arc<E>> = {
                let log = self.shared.log();
                let Some(skip) = next.checked_sub(log.first) else {
                    return Err(SendError::Slow);
                };
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                let rest = log.entries.iter().skip(skip).take(TAKEN);
                rest.map(|(event, _)| Arc::clone(event)).collect()
            };
            if taken.is_empty() {
                break;
            }
            for event in &taken {
                if let Some(record) = (self.view)(event) {
                    piece.extend_from_slice(&record);
                }
            }
            let next = next + taken.len() as u64;
            self.reader.next.store(next, Ordering::Release);
        }
        Ok((!piece.is_empty()).then(|| piece.freeze()))
    }

    /// Turns the opening into the pieces of one record, and the first heartbeat behind it.
    fn open(&mut self, opening: Rope) {
        let length = Bytes::from(format!("{}\n", opening.len()));
        let chunks = std::iter::once(length).chain(opening.into_chunks());
        self.ready = Some(Box::new(chunks.chain([self.beat.clone()])));
    }
}

impl<E> http_body::Body for FeedBody<E> {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let this = &mut *self;
        this.reader.waker.register(cx.waker());
        if this.reader.cut.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(SendError::Slow)));
        }
        if let Some(opening) = &mut this.opening {
            let opening = ready!(opening.as_mut().poll(cx));
            this.opening = None;
            match opening {
                Some(opening) => this.open(opening),
                None => return Poll::Ready(None),
            }
        }
        let chunk = this.ready.as_mut().and_then(Iterator::next);
        let next = match chunk {
            Some(chunk) => Ok(chunk),
            None => match this.gather() {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => {
                    ready!(this.timer.poll_tick(cx));
                    Ok(this.beat.clone())
                }
                Err(error) => Err(error),
            },
        };
        Poll::Ready(Some(next.map(Frame::data)))
    }
}

impl<E> Drop for FeedBody<E> {
    fn drop(&mut self) {
        self.reader.gone.store(true, Ordering::Release);
        self.shared.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<E> Clone for Feed<E> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<E> fmt::Debug for Feed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.shared.log();
        f.debug_struct("Feed")
            .field("readers", &self.shared.open)
            .field("events", &log.entries.len())
            .field("bytes", &log.bytes)
            .finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Subscription<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use http_body_util::BodyExt;

    fn subscription(opening: &'static str) -> Subscription<u32> {
        let opening = std::future::ready(Some(Rope::from(opening)));
        Subscription {
            opening: opening.boxed(),
            view: Box::new(|event| (event % 10 != 9).then(|| frame(event.to_string().as_bytes()))),
            heartbeat: (frame(b"beat"), Duration::from_secs(15)),
        }
    }

    async fn text(body: &mut Body) -> String {
        let frame = body.frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    fn limits(records: usize, bytes: usize) -> Limits {
        Limits { records, bytes }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_gets_the_opening_the_events_it_may_see_and_heartbeats() {
        let feed = Feed::new(limits(100, 10_000));
        let running = tokio::spawn(feed.clone().run());
        feed.publish(1, 10);
        let mut body = feed.subscribe(10, subscription("hello"));
        for event in [8, 9, 10] {
            feed.publish(event, 10);
        }
        let mut seen = String::new();
        for _ in 0..4 {
            seen += &text(&mut body).await;
        }
        assert_eq!(seen, "5\nhello4\nbeat1\n82\n10");
        assert_eq!(text(&mut body).await, "4\nbeat");
        let waiting = tokio::spawn(async move { text(&mut body).await });
        tokio::task::yield_now().await;
        feed.publish(7, 10);
        assert_eq!(waiting.await.unwrap(), "1\n7");
        assert_eq!(feed.readers(), 0);
        running.abort();
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_cut_and_the_others_are_not() {
        let feed = Feed::new(limits(1000, 1000));
        let mut slow = feed.subscribe(10, subscription("s"));
        let mut quick = feed.subscribe(10, subscription("q"));
        for _ in 0..3 {
            text(&mut quick).await;
        }
        for event in 0..101 {
            feed.publish(event, 100);
            if event % 10 != 9 {
                text(&mut quick).await;
            }
        }
        while slow.frame().await.unwrap().is_ok() {}
        assert!(feed.shared.log().bytes <= 1000);
        drop(slow);
        assert_eq!(feed.readers(), 1);
    }

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let feed = Feed::new(limits(10, 1000));
        let mut readers: Vec<Body> = (0..3)
            .map(|_| feed.subscribe(2, subscription("s")))
            .collect();
        assert!(readers[0].frame().await.unwrap().is_err());
        assert_eq!(text(&mut readers[1]).await, "1\n");
        assert_eq!(text(&mut readers[2]).await, "1\n");
    }
}
