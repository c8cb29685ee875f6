//! One log file, from which what it says goes to journald.
//!
//! How far that has come is noted with the file, in an extended attribute beside the one that says where it begins
//! ([`rotated`]): whoever takes the file up after a restart goes on there.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use dcos_wire::files::rotated::{self, Start};
use dcos_wire::files::{Files, FilesError};
use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

use super::journal::{self, Journal, Sent};
use super::lines::{self, cut};

/// Bytes that one file may send before the others have their turn.
const TURN: u64 = 4 << 20;

/// For how long nothing has to follow what has no end, for it to be a line.
const QUIET: Duration = Duration::from_secs(1);

/// How often it is looked again whether a rotation is over, and the time in between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(1);

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
    /// How long the text was when it was last looked at, and since when.
    seen: u64,
    since: Instant,
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
    /// Takes up `file`, which is called `name` in `folder`: from where it says that it had come, else from its end.
    pub(super) fn new(folder: &Path, name: &'static str, file: File, fields: Vec<u8>) -> Self {
        let files = Files::default();
        files.attach_below(BOX, folder, "");
        let noted = position(&file);
        // A new one is empty. What another logger has kept so far was not to be sent, and what was sent of a file that
        // keeps no notes nobody knows.
        let sent = noted.unwrap_or_else(|| end(&file));
        let tail = Self {
            name,
            path: format!("{BOX}/{name}"),
            file,
            folder: files,
            fields,
            sent,
            seen: sent,
            since: Instant::now(),
        };
        if noted.is_none() {
            tail.note();
        }
        tail
    }

    /// Notes how far it has come. Where that cannot be kept, it begins at the end after a restart.
    fn note(&self) {
        let sent = self.sent.to_string();
        let attribute = rotated::attribute("sent");
        let kept = fsetxattr(&self.file, attribute, sent.as_bytes(), XattrFlags::empty());
        tracing::trace!(?kept, sent, name = self.name, "sent to the journal");
    }

    /// Bytes that were not sent yet.
    pub(super) fn left(&self) -> u64 {
        end(&self.file).saturating_sub(self.sent)
    }

    /// Sends what there is at `now`; a line without an end only if nothing came behind it for a while, or with `all`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn forward(
        &mut self,
        journal: &Journal,
        now: Instant,
        all: bool,
    ) -> Result<Progress, FilesError> {
        let Some((begin, end)) = extent(&self.file) else {
            return Ok(Progress::Done);
        };
        let from = self.sent;
        if end < self.sent {
            tracing::warn!(
                name = self.name,
                "a log was emptied, and nothing says what it had: lines may be lost before the journal took them"
            );
            self.sent = begin;
        }
        if end != self.seen {
            (self.seen, self.since) = (end, now);
        }
        let all = all || now.saturating_duration_since(self.since) >= QUIET;
        let progress = if end > self.sent {
            self.send(journal, all)
        } else {
            Ok(Progress::Done)
        };
        if self.sent != from {
            self.note();
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
                        Sent::Taken | Sent::Refused => {}
                        stuck => return Ok(Progress::Stuck(stuck)),
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
        let next = self.folder.next_kept(&self.path, self.sent);
        let next = next.unwrap_or(begins);
        let lost = next - self.sent;
        tracing::warn!(
            lost,
            name = self.name,
            "lines were lost before the journal took them"
        );
        self.sent = next;
        true
    }
}

/// What was sent of a file, as it says.
fn position(file: &File) -> Option<u64> {
    let mut text = [0; 20];
    let length = fgetxattr(file, rotated::attribute("sent"), &mut text).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.parse().ok()
}

/// Where the text that a file holds begins and ends; none while it is being rotated, which takes a moment.
fn extent(file: &File) -> Option<(u64, u64)> {
    for _ in 0..TRIES {
        let seen = rotated::start(file);
        let begin = match seen {
            Some(Start::At(begin)) => Some(begin),
            None => Some(0),
            Some(Start::Moving(..)) => None,
        };
        let size = file.metadata().ok()?.len();
        if let Some(begin) = begin
            && rotated::start(file) == seen
        {
            return Some((begin, begin.saturating_add(size)));
        }
        std::thread::sleep(PAUSE);
    }
    None
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
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    begin(file).saturating_add(size)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// A sandbox with a log, and who listens in journald's place.
    struct Fixture {
        folder: tempfile::TempDir,
        socket: UnixDatagram,
        journal: Journal,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("socket");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let journal = Journal::new(&path).unwrap();
            Self {
                folder,
                socket,
                journal,
            }
        }

        /// Puts a file of a log there whose first byte is the one at `begins`.
        fn put(&self, name: &str, begins: u64, text: &str) -> File {
            let mut file = self.open(name);
            file.write_all(text.as_bytes()).unwrap();
            rotated::note(&file, Start::At(begins)).unwrap();
            file
        }

        fn open(&self, name: &str) -> File {
            let path = self.folder.path().join(name);
            let mut options = File::options();
            options.read(true).append(true).create(true);
            options.open(path).unwrap()
        }

        fn tail(&self) -> Tail {
            Tail::new(
                self.folder.path(),
                "stdout",
                self.open("stdout"),
                Vec::new(),
            )
        }

        /// What a look at `now` sends.
        fn sent(&self, tail: &mut Tail, now: Instant) -> Vec<String> {
            tail.forward(&self.journal, now, false).unwrap();
            let mut lines = Vec::new();
            let mut buffer = [0; 1024];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                let entry = String::from_utf8_lossy(&buffer[..length]);
                let line = entry.trim_end().strip_prefix("MESSAGE=").unwrap();
                lines.push(line.to_owned());
            }
            lines
        }
    }

    #[test]
    fn a_log_that_is_emptied_without_a_note_goes_on() {
        let fixture = Fixture::new();
        let mut log = fixture.open("stdout");
        let mut tail = fixture.tail();
        let now = Instant::now();
        log.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(fixture.sent(&mut tail, now), ["one", "two"]);
        for line in ["three", "four"] {
            log.set_len(0).unwrap();
            log.write_all(format!("{line}\n").as_bytes()).unwrap();
            assert_eq!(fixture.sent(&mut tail, now), [line]);
            assert_eq!(tail.left(), 0);
        }
        // With one, nothing is said twice either.
        let four = "four\n".len() as u64;
        rotated::note(&log, Start::Moving(0, four)).unwrap();
        assert!(fixture.sent(&mut tail, now).is_empty());
        log.set_len(0).unwrap();
        assert!(fixture.sent(&mut tail, now).is_empty());
        rotated::note(&log, Start::At(four)).unwrap();
        log.write_all(b"5\n").unwrap();
        assert_eq!(fixture.sent(&mut tail, now), ["5"]);
    }

    #[test]
    fn what_was_printed_before_it_is_followed_is_not_sent() {
        let fixture = Fixture::new();
        let mut log = fixture.put("stdout", 100, "of another logger\n");
        fixture.put("stdout.1", 90, "older one\n");
        let mut tail = fixture.tail();
        let now = Instant::now();
        assert!(fixture.sent(&mut tail, now).is_empty());
        drop(tail);
        // That is known after a restart, though nothing was sent.
        log.write_all(b"new\n").unwrap();
        let mut tail = fixture.tail();
        assert_eq!(fixture.sent(&mut tail, now), ["new"]);
        assert!(fixture.sent(&mut fixture.tail(), now).is_empty());
    }

    #[test]
    fn after_a_gap_it_goes_on_with_the_oldest_that_is_kept() {
        let fixture = Fixture::new();
        drop(fixture.tail());
        fixture.put("stdout", 30, "thirty\n");
        fixture.put("stdout.1", 20, "twenty..9\n");
        fixture.put("stdout.2", 10, "ten.....9\n");
        let mut tail = fixture.tail();
        let sent = fixture.sent(&mut tail, Instant::now());
        assert_eq!(sent, ["ten.....9", "twenty..9", "thirty"]);
    }

    #[test]
    fn what_has_no_end_is_a_line_once_nothing_followed_for_a_second() {
        let fixture = Fixture::new();
        let mut log = fixture.open("stdout");
        let mut tail = fixture.tail();
        let begin = Instant::now();
        log.write_all(b"ha").unwrap();
        assert!(fixture.sent(&mut tail, begin).is_empty());
        // It is looked at again at once while others print a lot.
        assert!(fixture.sent(&mut tail, begin).is_empty());
        log.write_all(b"lf").unwrap();
        assert!(fixture.sent(&mut tail, begin + QUIET).is_empty());
        let later = begin + QUIET + QUIET / 2;
        assert!(fixture.sent(&mut tail, later).is_empty());
        assert_eq!(fixture.sent(&mut tail, begin + QUIET * 2), ["half"]);
    }
}
