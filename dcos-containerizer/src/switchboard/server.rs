//! The loop: one container's streams, a log, and whoever has a line.
//!
//! Nothing is buffered without bound. Output is read only while every output line has room for
//! it, so a slow reader slows the container down, as a terminal would. Where the output is kept
//! in a log, too, a reader that takes nothing for [`STALL`] is cut off instead: a forgotten client
//! must not stop a service.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};

use super::frame::{ACCEPTED, BUSY, DATA, END, Greeting, STDERR, STDOUT, WINDOW};
use super::process::Descriptors;

mod lines;

use lines::{Reader, Writer};

/// How long an output line of a service may take nothing.
const STALL: Duration = Duration::from_secs(10);
/// The same once the container has ended, and where output is not kept anywhere else.
const LAST_STALL: Duration = Duration::from_mins(5);
/// How long an ended container waits for the first line to hear what it said, and then for whoever
/// still has its streams open to say more.
const AFTERMATH: Duration = Duration::from_secs(10);
/// Bytes taken from a stream at once.
const PIECE: usize = 32 << 10;
/// Input that waits for the container, at most so much and what one read brings.
const INPUT: usize = 64 << 10;
/// Lines at a time; whoever comes then is turned away.
const MAX_LINES: usize = 64;

/// Standard output or standard error of the container.
struct Source {
    fd: Option<OwnedFd>,
    kind: u8,
    log: std::fs::File,
}

/// One container's switchboard.
pub(super) struct Server {
    listener: UnixListener,
    terminal: bool,
    stdin: Option<OwnedFd>,
    sources: Vec<Source>,
    first_line: FirstLine,
    /// What was read last.
    piece: Vec<u8>,
    /// Connections that have not said what they want.
    newcomers: Vec<Option<UnixStream>>,
    readers: Vec<Reader>,
    writer: Option<Writer>,
    /// What the container has not taken yet.
    input: VecDeque<u8>,
    /// Nothing follows behind that.
    input_ends: bool,
    /// When output last came.
    heard: Instant,
    /// When the container's end was told.
    ended: Option<Instant>,
    /// The terminal that nobody has open any more, and since when. Closing it would send SIGHUP to
    /// a process that closed its streams and is about to exit, whose status would be lost.
    hung_up: Option<(Instant, OwnedFd)>,
}

/// Whether output waits for somebody to hear it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstLine {
    /// It is kept in a log.
    NotNeeded,
    /// It is kept nowhere, and nothing is read yet.
    Awaited,
    /// It is kept nowhere, and somebody listens or did.
    Heard,
}

/// What a descriptor in the poll set is.
#[derive(Debug, Clone, Copy)]
enum Who {
    Listener,
    Newcomer(usize),
    Reader(usize),
    Writer,
    Stdin,
    Source(usize),
}

impl Server {
    pub(super) fn new(fds: Descriptors, terminal: bool, waiting: bool) -> io::Result<Self> {
        let listener = UnixListener::from(fds.listener);
        listener.set_nonblocking(true)?;
        let mut sources = vec![Source {
            fd: Some(fds.stdout),
            kind: STDOUT,
            log: fds.stdout_log.into(),
        }];
        if !terminal {
            sources.push(Source {
                fd: Some(fds.stderr),
                kind: STDERR,
                log: fds.stderr_log.into(),
            });
        }
        let streams = sources.iter().filter_map(|source| source.fd.as_ref());
        for fd in streams.chain([&fds.stdin]) {
            rustix::fs::fcntl_setfl(fd, rustix::fs::fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        Ok(Self {
            listener,
            terminal,
            stdin: Some(fds.stdin),
            sources,
            first_line: if waiting {
                FirstLine::Awaited
            } else {
                FirstLine::NotNeeded
            },
            piece: vec![0; PIECE],
            newcomers: Vec::new(),
            readers: Vec::new(),
            writer: None,
            input: VecDeque::new(),
            input_ends: false,
            heard: Instant::now(),
            ended: None,
            hung_up: None,
        })
    }

    /// Serves until the container's output has ended and every line has heard it all.
    pub(super) fn serve(mut self) -> io::Result<()> {
        loop {
            let silent = self.sources.iter().all(|source| source.fd.is_none());
            if silent && self.readers.iter().all(Reader::is_done) {
                if !self.awaits_the_end() {
                    return Ok(());
                }
                self.readers.clear();
            }
            for who in self.wait()? {
                match who {
                    Who::Listener => self.accept(),
                    Who::Newcomer(place) => self.greet(place),
                    Who::Reader(place) => self.readers[place].turn(),
                    Who::Writer => self.listen(),
                    Who::Stdin => self.feed(),
                    Who::Source(place) => self.forward(place),
                }
            }
            self.newcomers.retain(Option::is_some);
            self.look_at_the_clock();
        }
    }

    /// Whether a process may be exiting behind the terminal it closed.
    fn awaits_the_end(&self) -> bool {
        let closed = self.hung_up.as_ref();
        self.ended.is_none() && closed.is_some_and(|(since, _)| since.elapsed() < AFTERMATH)
    }

    /// Sleeps until there is something to do; what is ready.
    fn wait(&self) -> io::Result<Vec<Who>> {
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        let mut whos = vec![Who::Listener];
        for (place, stream) in self.newcomers.iter().enumerate() {
            if let Some(stream) = stream {
                fds.push(PollFd::new(stream, PollFlags::IN));
                whos.push(Who::Newcomer(place));
            }
        }
        for (place, reader) in self.readers.iter().enumerate() {
            fds.push(PollFd::new(&reader.stream, reader.wanted()));
            whos.push(Who::Reader(place));
        }
        // Not even the line's end is looked for while there is no room: it would be found again
        // and again.
        if let Some(writer) = self.writer.as_ref().filter(|_| self.input.len() < INPUT) {
            fds.push(PollFd::new(&writer.stream, PollFlags::IN));
            whos.push(Who::Writer);
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            fds.push(PollFd::new(stdin, PollFlags::OUT));
            whos.push(Who::Stdin);
        }
        if self.first_line != FirstLine::Awaited && self.readers.iter().all(Reader::has_room) {
            for (place, source) in self.sources.iter().enumerate() {
                if let Some(fd) = &source.fd {
                    fds.push(PollFd::new(fd, PollFlags::IN));
                    whos.push(Who::Source(place));
                }
            }
        }
        // Deadlines are coarse: to look once a second is enough, and only while there are any.
        let behind = self.readers.iter().any(|reader| !reader.is_done());
        let waiting = behind || self.ended.is_some() || self.hung_up.is_some();
        let timeout = waiting.then_some(Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let ready = fds
            .iter()
            .zip(whos)
            .filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, who)| who).collect())
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let lines = self.newcomers.len() + self.readers.len();
            if lines < MAX_LINES && stream.set_nonblocking(true).is_ok() {
                self.newcomers.push(Some(stream));
            }
        }
    }

    /// Hears what a newcomer wants; one that makes no sense is dropped.
    fn greet(&mut self, place: usize) {
        let Some(stream) = self.newcomers[place].take() else {
            return;
        };
        let mut byte = [0];
        let said = match rustix::io::read(&stream, &mut byte) {
            Ok(1) => Greeting::of(byte[0]),
            Err(Errno::AGAIN | Errno::INTR) => {
                self.newcomers[place] = Some(stream);
                return;
            }
            _ => None,
        };
        // One byte always fits into a new connection.
        let answer = |byte| rustix::io::write(&stream, &[byte]).is_ok();
        match said {
            Some(Greeting::Output) if answer(ACCEPTED) => {
                if self.first_line == FirstLine::Awaited {
                    self.first_line = FirstLine::Heard;
                }
                self.readers.push(Reader::new(stream));
            }
            Some(Greeting::Input) if self.writer.is_some() => {
                answer(BUSY);
            }
            Some(Greeting::Input) if answer(ACCEPTED) => self.writer = Some(Writer::new(stream)),
            Some(Greeting::Ended) => {
                answer(ACCEPTED);
                self.ended.get_or_insert_with(Instant::now);
            }
            _ => {}
        }
    }

    /// Takes what the input line says.
    fn listen(&mut self) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let open = writer.receive(|kind, payload| match (kind, payload) {
            // Once nobody reads it, input goes nowhere, as with `command | head -n 0`.
            (DATA, data) if self.stdin.is_some() => self.input.extend(data),
            (END, _) => self.input_ends = true,
            (WINDOW, &[a, b, c, d]) if self.terminal => {
                let size = Winsize {
                    ws_row: u16::from_be_bytes([a, b]),
                    ws_col: u16::from_be_bytes([c, d]),
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                if let Some(terminal) = &self.stdin {
                    // The other end may be gone already.
                    let _ = tcsetwinsize(terminal, size);
                }
            }
            _ => {}
        });
        if !open {
            self.writer = None;
        }
        self.feed();
    }

    /// Hands input to the container, as much as it takes.
    fn feed(&mut self) {
        while let Some(stdin) = self.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            match rustix::io::write(stdin, self.input.as_slices().0) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.stdin = None;
                    self.input.clear();
                }
            }
        }
        // The end of a terminal's input is a character like any other, and the client's to send.
        if self.input_ends && !self.terminal {
            self.stdin = None;
        }
    }

    /// Moves a piece of output from the container to its log and its readers.
    fn forward(&mut self, place: usize) {
        let source = &mut self.sources[place];
        let Some(fd) = &source.fd else { return };
        match rustix::io::read(fd, &mut self.piece[..]) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal that nobody has open any more fails instead of ending.
            Ok(0) | Err(_) => {
                let closed = source.fd.take().filter(|_| self.terminal);
                self.hung_up = closed.map(|fd| (Instant::now(), fd));
            }
            Ok(count) => {
                self.heard = Instant::now();
                let piece = &self.piece[..count];
                // A full disk costs the log, not the container.
                let _ = source.log.write_all(piece);
                for reader in &mut self.readers {
                    reader.push(source.kind, piece);
                }
            }
        }
    }

    /// Gives up on what will never end by itself.
    fn look_at_the_clock(&mut self) {
        let kept = self.first_line == FirstLine::NotNeeded;
        let patience = if !kept || self.ended.is_some() {
            LAST_STALL
        } else {
            STALL
        };
        self.readers.retain(|reader| reader.keeps_up(patience));
        let Some(ended) = self.ended else { return };
        if ended.elapsed() < AFTERMATH {
            return;
        }
        if self.first_line == FirstLine::Awaited {
            self.first_line = FirstLine::Heard;
            self.heard = Instant::now();
        } else if self.heard.elapsed() >= AFTERMATH && self.readers.iter().all(Reader::has_room) {
            // Somebody outside of the container has its streams.
            for source in &mut self.sources {
                source.fd = None;
            }
        }
    }
}
