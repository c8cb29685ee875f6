//! The two kinds of lines, as the switchboard sees them.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::super::frame::{self, HEAD};

/// Bytes that wait for a reader before the container has to.
const ROOM: usize = 256 << 10;
/// Bytes taken from a line at once.
const PIECE: usize = 16 << 10;

/// An output line.
pub(super) struct Reader {
    pub(super) stream: UnixStream,
    queue: VecDeque<u8>,
    /// When it last took something, or had nothing to take.
    progress: Instant,
    gone: bool,
}

impl Reader {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            queue: VecDeque::new(),
            progress: Instant::now(),
            gone: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < ROOM
    }

    /// It has all that was said, or wants no more.
    pub(super) fn is_done(&self) -> bool {
        self.gone || self.queue.is_empty()
    }

    pub(super) fn keeps_up(&self, patience: Duration) -> bool {
        !self.gone && (self.queue.is_empty() || self.progress.elapsed() < patience)
    }

    /// What to wait for: its end, and room.
    pub(super) fn wanted(&self) -> PollFlags {
        if self.queue.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        }
    }

    pub(super) fn push(&mut self, kind: u8, data: &[u8]) {
        if self.queue.is_empty() {
            self.progress = Instant::now();
        }
        self.queue.extend(frame::head(kind, data.len()));
        self.queue.extend(data);
        self.flush();
    }

    /// Something happened on it.
    pub(super) fn turn(&mut self) {
        // A reader says nothing: what can be read is its end.
        match recv(&self.stream, &mut [0; 64][..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.gone = true,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.gone = true,
        }
        self.flush();
    }

    fn flush(&mut self) {
        while !self.gone && !self.queue.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.stream, self.queue.as_slices().0, flags) {
                Ok(count) => {
                    self.queue.drain(..count);
                    self.progress = Instant::now();
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.gone = true,
            }
        }
    }
}

/// The input line.
pub(super) struct Writer {
    pub(super) stream: UnixStream,
    incoming: Vec<u8>,
}

impl Writer {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            incoming: Vec::new(),
        }
    }

    /// Reads once and hands each whole frame on; whether more may come.
    pub(super) fn receive(&mut self, mut take: impl FnMut(u8, &[u8])) -> bool {
        let mut piece = [0; PIECE];
        match recv(&self.stream, &mut piece[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return false,
            Ok((count, _)) => self.incoming.extend_from_slice(&piece[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        }
        let mut rest = &self.incoming[..];
        while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
            let Some((kind, length)) = frame::parse(*head) else {
                return false;
            };
            let Some((payload, after)) = after.split_at_checked(length) else {
                break;
            };
            take(kind, payload);
            rest = after;
        }
        let taken = self.incoming.len() - rest.len();
        self.incoming.drain(..taken);
        true
    }
}
