//! Logs that are rotated, for readers: one long text, whatever file a byte of it is in by now.
//!
//! The file of a log holds the end of the text, `<name>.1`, `<name>.2`, ... what came before, some of
//! them packed (`<name>.3.gz`). Whoever rotates notes with each at which byte of the text it begins, in an
//! extended attribute: as root of the node in one that tasks, whose files these are, neither see nor change. A
//! file without a note is no such log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::sync::LazyLock;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

use super::{Files, FilesError, MAX_READ, Piece};

/// What names of packed files end in.
pub const PACKED: &str = ".gz";

/// How often a reader looks again while a file is being rotated, and how long it waits in between.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(1);
/// How often it looks for an older file: it may be on its way from one name to the next.
const SEARCHES: u32 = 5;
/// Older files are numbered without a gap; more than this are not looked at.
const MOST: u32 = 1000;

/// At which byte of the text a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At this one.
    At(u64),
    /// At the first, until what it holds is taken out of it, which is happening; then at the second.
    Moving(u64, u64),
}

/// The extended attribute in which this process keeps the note `name` with a log.
///
/// Root of the node keeps it where no task sees it. Root of another user namespace is refused there, and is told that
/// there is no note when it reads one (Linux, `xattr_permission`): it takes what everybody may, as an ordinary user.
pub fn attribute(name: &str) -> String {
    static TRUSTED: LazyLock<bool> = LazyLock::new(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
        whole && rustix::process::geteuid().is_root()
    });
    let class = if *TRUSTED { "trusted" } else { "user" };
    format!("{class}.dcos.{name}")
}

/// Where a file of a log begins; `None` if it was never rotated.
pub fn start(file: impl AsFd) -> Option<Start> {
    let mut text = [0; 64];
    let length = fgetxattr(file, attribute("start"), &mut text).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    match text.split_once('>') {
        None => Some(Start::At(text.parse().ok()?)),
        Some((from, to)) => Some(Start::Moving(from.parse().ok()?, to.parse().ok()?)),
    }
}

/// Notes where a file of a log begins.
///
/// # Errors
/// Its file system keeps no such notes.
pub fn note(file: impl AsFd, start: Start) -> io::Result<()> {
    let text = match start {
        Start::At(offset) => offset.to_string(),
        Start::Moving(from, to) => format!("{from}>{to}"),
    };
    let flags = XattrFlags::empty();
    let attribute = attribute("start");
    Ok(fsetxattr(file, attribute, text.as_bytes(), flags)?)
}

impl Files {
    /// A piece of the text that the log at `path` is; of any other file, of that.
    pub(super) fn read_rotated(
        &self,
        path: &str,
        offset: u64,
        length: u64,
    ) -> Result<Piece, FilesError> {
        let mut searches = 0;
        for _ in 0..TRIES {
            let (file, _) = self.file(path)?;
            let seen = start(&file);
            let begins = match seen {
                None => 0,
                Some(Start::At(begins)) => begins,
                Some(Start::Moving(..)) => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
            };
            let failed = |source| FilesError::Read {
                path: path.to_owned(),
                source,
            };
            // Only now: what was in it before may have been taken out meanwhile.
            let size = begins.saturating_add(file.metadata().map_err(failed)?.len());
            let data = if offset >= size {
                Vec::new()
            } else if offset >= begins {
                piece(&file, offset - begins, length).map_err(failed)?
            } else if let Some(data) = self.older(path, offset, length).map_err(failed)? {
                data
            } else if searches < SEARCHES {
                searches += 1;
                std::thread::sleep(PAUSE);
                continue;
            } else {
                // It is no longer kept.
                Vec::new()
            };
            if start(&file) == seen {
                return Ok(Piece { size, data });
            }
        }
        let source = io::Error::new(io::ErrorKind::TimedOut, "it is being rotated");
        let path = path.to_owned();
        Err(FilesError::Read { path, source })
    }

    /// Where the first of the older files of the log at `path` begins of those that begin behind `offset`: where one
    /// goes on who finds that the byte at `offset` is no longer kept. None, if it is the log itself.
    pub fn next_kept(&self, path: &str, offset: u64) -> Option<u64> {
        let (mut next, mut missing) = (None, false);
        for number in 1..MOST {
            let found = ["", PACKED].map(|suffix| self.file(&format!("{path}.{number}{suffix}")));
            let Some((file, _)) = found.into_iter().flatten().next() else {
                // One number has no file for a moment while they are moved on.
                if missing {
                    break;
                }
                missing = true;
                continue;
            };
            missing = false;
            match start(&file) {
                Some(Start::At(begins)) if begins > offset => next = Some(begins),
                _ => break,
            }
        }
        next
    }

    /// From the youngest of the older files that begins at or before `offset`.
    fn older(&self, path: &str, offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        for number in 1..MOST {
            let plain = self.file(&format!("{path}.{number}"));
            let (file, packed) = match plain {
                Ok((file, _)) => (file, false),
                Err(_) => match self.file(&format!("{path}.{number}{PACKED}")) {
                    Ok((file, _)) => (file, true),
                    Err(_) => return Ok(None),
                },
            };
            let Some(Start::At(begins)) = start(&file) else {
                return Ok(None);
            };
            if offset < begins {
                continue;
            }
            let inside = offset - begins;
            if !packed {
                return piece(&file, inside, length).map(Some);
            }
            let mut text = MultiGzDecoder::new(&file);
            io::copy(&mut (&mut text).take(inside), &mut io::sink())?;
            let mut data = Vec::new();
            text.take(length).read_to_end(&mut data)?;
            return Ok(Some(data));
        }
        Ok(None)
    }
}

fn piece(mut file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut data = Vec::new();
    file.take(length.min(MAX_READ)).read_to_end(&mut data)?;
    Ok(data)
}
