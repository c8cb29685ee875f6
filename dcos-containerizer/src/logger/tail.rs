//! One log file, from which what it says goes to journald.
//!
//! How far that has come is noted with the file, in an extended attribute beside the one that says where it begins
//! ([`rotated`]): whoever takes the file up after a restart goes on there.

use std::fs::File;
use std::io;
use std::path::Path;

use dcos_wire::files::rotated::{self, Start};
use dcos_wire::files::{Files, FilesError};
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};
use rustix::io::Errno;

use super::journal::{self, Journal, Sent};
use super::lines::{self, cut};

/// Bytes that one file may send before the others have their turn.
const TURN: u64 = 4 << 20;

/// What readers call its folder.
const BOX: &str = "/box";

/// A log file on its way to journald.
#[derive(Debug)]
pub(super) struct Tail {
    name: &'static str,
    /// What readers call it.
    path: String,
    /// The file that was opened at launch, whatever its name has become.
    file: File,
    /// The folder, for readers that know what was rotated out of it.
    folder: Files,
    /// The fields that each entry has besides its text.
    fields: Vec<u8>,
    /// What was sent of the text.
    sent: u64,
    /// How long the text was when it was last looked at.
    seen: u64,
}

/// How far a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All that can be sent was.
    Done,
    /// There is more, and it is the others' turn.
    More,
    /// journald takes nothing now.
    Stuck(Sent),
}

impl Tail {
    /// Takes up `file`, which is called `name` in `folder`.
    pub(super) fn new(folder: &Path, name: &'static str, file: File, fields: Vec<u8>) -> Self {
        let files = Files::default();
        files.attach_below(BOX, folder, "");
        let sent = match position(&file) {
            Ok(sent) => sent,
            // What was said while nobody listened is not known from what was sent.
            Err(_) => end(&file),
        };
        Self {
            name,
            path: format!("{BOX}/{name}"),
            file,
            folder: files,
            fields,
            sent,
            seen: sent,
        }
    }

    /// Bytes that were not sent yet.
    pub(super) fn left(&self) -> u64 {
        end(&self.file).saturating_sub(self.sent)
    }

    /// Sends what there is; a line without an end only if nothing came behind it for a while, or with `all`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn forward(&mut self, journal: &Journal, all: bool) -> Result<Progress, FilesError> {
        let end = end(&self.file);
        let all = all || end == self.seen;
        self.seen = end;
        if end <= self.sent {
            return Ok(Progress::Done);
        }
        let from = self.sent;
        let progress = self.send(journal, all);
        if self.sent != from {
            // Where it cannot be kept, it begins at the end after a restart.
            let sent = self.sent.to_string();
            let kept = fsetxattr(
                &self.file,
                attribute(),
                sent.as_bytes(),
                XattrFlags::empty(),
            );
            tracing::trace!(?kept, sent, name = self.name, "sent to the journal");
        }
        progress
    }

    fn send(&mut self, journal: &Journal, all: bool) -> Result<Progress, FilesError> {
        let until = self.sent.saturating_add(TURN);
        let mut entry = Vec::new();
        while self.sent < until {
            let text = self.read()?;
            if text.is_empty() {
                if self.skip() {
                    continue;
                }
                return Ok(Progress::Done);
            }
            // What does not end here may be going on behind it.
            let whole = text.len() < lines::LONGEST;
            let begin = self.sent;
            let lines = cut(&text, all && whole);
            if lines.is_empty() {
                return Ok(Progress::Done);
            }
            for (line, end) in lines {
                if !line.is_empty() {
                    entry.clear();
                    entry.extend(&self.fields);
                    journal::add(&mut entry, "MESSAGE", line);
                    match journal.send(&entry) {
                        Ok(Sent::Taken) => {}
                        Ok(stuck) => return Ok(Progress::Stuck(stuck)),
                        Err(error) => {
                            let length = line.len();
                            tracing::warn!(%error, length, "a line was not sent to the journal");
                        }
                    }
                }
                self.sent = begin + end as u64;
            }
        }
        Ok(Progress::More)
    }

    /// The text from what was sent on, as much as makes a line at most.
    fn read(&self) -> Result<Vec<u8>, FilesError> {
        let mut text = Vec::new();
        while text.len() <= lines::LONGEST {
            let from = self.sent + text.len() as u64;
            let piece = self.folder.read(&self.path, from, None)?.data;
            if piece.is_empty() {
                break;
            }
            text.extend(piece);
        }
        Ok(text)
    }

    /// Goes on with what is still kept, if what would come next is not.
    fn skip(&mut self) -> bool {
        let begins = begin(&self.file);
        if begins <= self.sent {
            return false;
        }
        let lost = begins - self.sent;
        tracing::warn!(
            lost,
            name = self.name,
            "lines were lost before the journal took them"
        );
        self.sent = begins;
        true
    }
}

fn attribute() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "trusted.dcos.sent"
    } else {
        "user.dcos.sent"
    }
}

/// What was sent of a file, as it says; the system's reason if it cannot say such things.
fn position(file: &File) -> Result<u64, Errno> {
    let mut text = [0; 20];
    match fgetxattr(file, attribute(), &mut text) {
        Ok(length) => {
            let text = std::str::from_utf8(&text[..length]).unwrap_or_default();
            Ok(text.parse().unwrap_or_else(|_| end(file)))
        }
        Err(Errno::NODATA) => Ok(0),
        Err(error) => Err(error),
    }
}

fn begin(file: &File) -> u64 {
    match rotated::start(file) {
        Some(Start::At(begin) | Start::Moving(begin, _)) => begin,
        None => 0,
    }
}

/// How long the text is of which a file is the end.
fn end(file: &File) -> u64 {
    // What is being taken out of it counts as being in it.
    let before = begin(file);
    before + size(file).unwrap_or_default()
}

fn size(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.len())
}
