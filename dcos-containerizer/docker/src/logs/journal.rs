//! How far a stream of output was taken over, exact to the byte wherever we are killed.
//!
//! Before each write the journal says where the stream stands, how long the file is and how much
//! will be added; after it, where the stream stands then. Whoever finds the first kind of note
//! compares the file with it, and knows how much of the write has happened.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::{Buf as _, BufMut as _, Bytes};

/// One entry of the engine's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Nanoseconds since 1970; 0 if it is not known.
    pub(crate) time: u64,
    pub(crate) bytes: Bytes,
}

impl Entry {
    /// An entry as the engine writes it: a time, a space, the bytes. What has no time is part of
    /// a terminal's line, which has only one.
    pub(crate) fn parse(bytes: &Bytes, tty: bool) -> Option<Self> {
        let end = bytes.iter().take(40).position(|&byte| byte == b' ');
        let time = end.and_then(|end| nanoseconds(std::str::from_utf8(&bytes[..end]).ok()?));
        match (time, end) {
            (Some(time), Some(end)) => Some(Self {
                time,
                bytes: bytes.slice(end + 1..),
            }),
            _ if tty => Some(Self {
                time: 0,
                bytes: bytes.clone(),
            }),
            _ => None,
        }
    }
}

/// Where a stream stands: so many bytes of the entries of that time were taken over, and all of
/// those before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Position {
    time: u64,
    count: u64,
}

impl Position {
    fn after(self, time: u64, bytes: u64) -> Self {
        // Entries without a time belong to the one before.
        if time == self.time || time == 0 {
            Self {
                time: self.time,
                count: self.count + bytes,
            }
        } else {
            Self { time, count: bytes }
        }
    }
}

/// One stream of one container, on its way into a file.
#[derive(Debug)]
pub(crate) struct Channel {
    file: File,
    journal: File,
    position: Position,
    /// Bytes after `position` that an earlier agent wrote without being able to note it.
    ahead: u64,
    /// What is still to be passed over of entries that come again.
    skip: Option<Skip>,
}

#[derive(Debug, Clone, Copy)]
struct Skip {
    to: Position,
    ahead: u64,
}

/// Version, time and count; length of the file before; length of the write, 0 if it is done.
const NOTE: usize = 40;
const VERSION: u64 = 1;

impl Channel {
    pub(crate) fn open(file: File, path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let journal = options.open(path)?;
        let mut note = [0; NOTE];
        let (mut position, mut ahead) = (Position::default(), 0);
        if journal.read_exact_at(&mut note, 0).is_ok() {
            let mut note = &note[..];
            if note.get_u64() == VERSION {
                position.time = note.get_u64();
                position.count = note.get_u64();
                let (before, adding) = (note.get_u64(), note.get_u64());
                let now = file.metadata()?.len();
                // A file that is shorter was rotated, which happens after writes.
                ahead = now.checked_sub(before).unwrap_or(adding).min(adding);
            }
        }
        let mut channel = Self {
            file,
            journal,
            position,
            ahead,
            skip: None,
        };
        channel.rewind();
        Ok(channel)
    }

    /// Entries will come again that were taken over already.
    pub(crate) fn rewind(&mut self) {
        let began = self.position.time != 0;
        self.skip = (began || self.ahead > 0).then_some(Skip {
            to: self.position,
            ahead: self.ahead,
        });
    }

    /// The second from which entries are needed; 0 for all.
    pub(crate) fn since(&self) -> u64 {
        self.position.time / 1_000_000_000
    }

    /// Writes `entries` and takes out what was written.
    pub(crate) fn write(&mut self, entries: &mut Vec<Entry>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut position = self.position;
        for entry in entries.drain(..) {
            let rest = self.passed_over(&entry, &mut position);
            if !rest.is_empty() {
                bytes.extend_from_slice(&rest);
                position = position.after(entry.time, rest.len() as u64);
            }
        }
        if bytes.is_empty() {
            self.position = position;
            return Ok(());
        }
        let mut done = 0;
        let written = self.note(Some(bytes.len() as u64)).and_then(|()| {
            while done < bytes.len() {
                match self.file.write(&bytes[done..]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => done += written,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        match written {
            Ok(()) => {
                self.position = position;
                self.note(None)
            }
            Err(error) => {
                // The rest stays with the caller, as bytes that belong to the last entry.
                let rest = bytes.split_off(done);
                let left = rest.len() as u64;
                self.position = Position {
                    count: position.count.saturating_sub(left),
                    ..position
                };
                entries.push(Entry {
                    time: 0,
                    bytes: rest.into(),
                });
                self.note(None).ok();
                Err(error)
            }
        }
    }

    /// What of an entry is new.
    fn passed_over(&mut self, entry: &Entry, position: &mut Position) -> Bytes {
        let Some(skip) = &mut self.skip else {
            return entry.bytes.clone();
        };
        let mut bytes = entry.bytes.clone();
        if entry.time < skip.to.time {
            return Bytes::new();
        }
        if entry.time == skip.to.time {
            let old = usize::try_from(skip.to.count).unwrap_or(usize::MAX);
            let old = old.min(bytes.len());
            bytes.advance(old);
            skip.to.count -= old as u64;
        } else {
            skip.to.count = 0;
        }
        let old = usize::try_from(skip.ahead).unwrap_or(usize::MAX);
        let old = old.min(bytes.len());
        bytes.advance(old);
        skip.ahead -= old as u64;
        self.ahead = skip.ahead;
        *position = position.after(entry.time, old as u64);
        if skip.ahead == 0 && skip.to.count == 0 {
            self.skip = None;
        }
        bytes
    }

    fn note(&self, adding: Option<u64>) -> io::Result<()> {
        let mut note = Vec::with_capacity(NOTE);
        note.put_u64(VERSION);
        note.put_u64(self.position.time);
        note.put_u64(self.position.count);
        let length = match adding {
            Some(_) => self.file.metadata()?.len(),
            None => 0,
        };
        note.put_u64(length);
        note.put_u64(adding.unwrap_or(0));
        self.journal.write_all_at(&note, 0)
    }
}

/// The nanoseconds since 1970 of `2026-01-02T03:04:05.000000006Z`.
pub(crate) fn nanoseconds(text: &str) -> Option<u64> {
    let text = text
        .strip_suffix('Z')
        .or_else(|| text.strip_suffix("+00:00"))?;
    let (date, time) = text.split_once('T')?;
    let number = |text: &str| text.parse::<u64>().ok();
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (
        number(date.next()?)?,
        number(date.next()?)?,
        number(date.next()?)?,
    );
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) = (
        number(time.next()?)?,
        number(time.next()?)?,
        number(time.next()?)?,
    );
    if !(1970..2500).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    // Years that begin in March, so that the leap day is the last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let seconds = (days.checked_sub(719_468)? * 24 + hour) * 3600 + minute * 60 + second;
    let padded = format!("{fraction:0<9}");
    Some(seconds * 1_000_000_000 + number(padded.get(..9)?)?)
}

#[cfg(test)]
mod tests;
