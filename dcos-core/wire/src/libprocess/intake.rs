//! Connections that carry nothing but messages, read without an HTTP server.
//!
//! Between masters, agents and drivers, thousands of small messages a second come over one
//! connection, and an HTTP server around each would cost several times what the message does. Here
//! all that came is cut apart at once and answered together. A connection that brings anything
//! else, or anything unusual, goes to the HTTP server from that request on, with every byte of it.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::actor::Event;
use super::frame::{Cut, Cutter, Request};
use super::{Messenger, Upid};
use crate::io::Stream;
use crate::{Peer, ServerConfig};

/// So much room waits for what comes next on a quiet connection, of which there are tens of
/// thousands, ...
const LEAST_ROOM: usize = 1024;
/// ... so much on one that fills it, ...
const MOST_ROOM: usize = 64 * 1024;
/// ... and at most so much is made for what a peer announces.
const ANNOUNCED: usize = 1 << 20;

/// Answers wait for one another up to so many bytes if nobody reads them, ...
const ANSWERS: usize = 4096;
/// ... and for no longer than this.
const ANSWER_DELAY: Duration = Duration::from_millis(20);

const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A connection that brought something else than messages.
pub(crate) struct Foreign {
    /// With that in front.
    pub(crate) stream: Stream,
    /// The first line of that, if it has come.
    pub(crate) line: Option<String>,
}

/// Takes in messages for as long as nothing else comes. Returns the connection if something else
/// did; `None` once it is over.
pub(crate) async fn run(
    messenger: &Messenger,
    peer: &Peer,
    config: &ServerConfig,
    stream: Stream,
    shutdown: &CancellationToken,
) -> Option<Foreign> {
    let mut intake = Intake {
        messenger,
        peer,
        config,
        cutter: Cutter::new(config.head_limit, config.message_limit),
        bytes: BytesMut::new(),
        room: LEAST_ROOM,
        answers: BytesMut::new(),
        urgent: false,
        due: None,
        stream,
    };
    let ended = tokio::select! {
        ended = intake.run() => ended,
        () = shutdown.cancelled() => Ok(End::Over),
    };
    // Whoever is gone needs no answers.
    let flushed = intake.answer().await;
    match (ended, flushed) {
        (Ok(End::Foreign), Ok(())) => Some(intake.hand_over()),
        _ => None,
    }
}

/// Why an intake ends.
enum End {
    Over,
    Foreign,
}

struct Intake<'a> {
    messenger: &'a Messenger,
    peer: &'a Peer,
    config: &'a ServerConfig,
    cutter: Cutter,
    /// What was read and not taken in.
    bytes: BytesMut,
    /// How much is read at once.
    room: usize,
    /// What was not written yet.
    answers: BytesMut,
    /// Whether somebody waits for that.
    urgent: bool,
    /// When it is written at the latest.
    due: Option<Pin<Box<Sleep>>>,
    stream: Stream,
}

impl Intake<'_> {
    async fn run(&mut self) -> io::Result<End> {
        // Whoever begins with half a head is not in a hurry.
        if self.read(1, Some(self.config.first_byte_timeout)).await? == 0 {
            return Ok(End::Over);
        }
        let mut is_first = true;
        // When the head began of which a part has come: all of it has one patience.
        let mut begun: Option<Instant> = None;
        loop {
            let is_strict = self.messenger.inner.config.require_peer_match;
            let ip = self.peer.ip();
            let may_be = |from: &Upid| !is_strict || ip == Some(from.address().ip());
            let (is_body, missing) = match self.cutter.cut(&mut self.bytes, may_be) {
                Cut::Message(request) => {
                    self.take_in(request).await?;
                    is_first = false;
                    begun = None;
                    continue;
                }
                Cut::Part { body, missing } => (body, missing),
                Cut::Foreign => return Ok(End::Foreign),
            };
            if is_first && !is_body {
                return Ok(End::Foreign);
            }
            let patience = if self.bytes.is_empty() {
                None
            } else if is_body {
                Some(self.config.body_timeout)
            } else {
                let begun = begun.get_or_insert_with(Instant::now);
                Some(self.config.header_timeout.saturating_sub(begun.elapsed()))
            };
            match self.read(missing, patience).await {
                // Half a request is for the HTTP server to complain of.
                Ok(0) if !self.bytes.is_empty() => return Ok(End::Foreign),
                Ok(0) => return Ok(End::Over),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    self.answers.extend_from_slice(LATE);
                    return Ok(End::Over);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands a message to its actor, which may have to make room first.
    async fn take_in(&mut self, request: Request) -> io::Result<()> {
        let directory = &self.messenger.inner.directory;
        let event = Event::Message(request.message);
        let known = directory.deliver(&request.actor, event).await;
        self.answers
            .extend_from_slice(if known { ACCEPTED } else { NOT_FOUND });
        self.urgent |= !request.reads_no_answers;
        if self.answers.len() >= ANSWERS {
            self.answer().await?;
        }
        Ok(())
    }

    /// Reads at least one byte of the `missing` ones; 0 at the end of the stream.
    async fn read(&mut self, missing: usize, patience: Option<Duration>) -> io::Result<usize> {
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * self.room {
            self.bytes = BytesMut::new();
        }
        self.bytes.reserve(missing.clamp(self.room, ANNOUNCED));
        let read = self.wait(patience).await?;
        if read >= self.room {
            self.room = MOST_ROOM.min(self.room * 2);
        } else if read < self.room / 4 {
            self.room = LEAST_ROOM.max(self.room / 2);
        }
        Ok(read)
    }

    /// Reads into the room there is. Answers that are due meanwhile are written.
    async fn wait(&mut self, patience: Option<Duration>) -> io::Result<usize> {
        if self.urgent {
            self.answer().await?;
        }
        if !self.answers.is_empty() {
            let delay = || Box::pin(sleep(ANSWER_DELAY));
            let due = self.due.get_or_insert_with(delay);
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.bytes) => return read,
                () = due => self.answer().await?,
            }
        }
        let read = self.stream.read_buf(&mut self.bytes);
        match patience {
            Some(patience) => within(patience, read).await,
            None => read.await,
        }
    }

    async fn answer(&mut self) -> io::Result<()> {
        self.due = None;
        self.urgent = false;
        let written = self.stream.write_all_buf(&mut self.answers);
        within(self.config.write_timeout, written).await
    }

    /// The connection as if nothing had been read of what was not taken in.
    fn hand_over(self) -> Foreign {
        let end = self.bytes.iter().position(|byte| *byte == b'\n');
        let line = end.map(|end| String::from_utf8_lossy(&self.bytes[..end]).into_owned());
        let (reader, writer) = tokio::io::split(self.stream);
        let reader = io::Cursor::new(self.bytes).chain(reader);
        let stream = Stream::new(tokio::io::join(reader, writer));
        Foreign { stream, line }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(limit, work).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
