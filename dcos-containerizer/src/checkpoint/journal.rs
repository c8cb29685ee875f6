//! The updates of all tasks of an agent, in one file that grows: one sync makes many of them durable.
//!
//! ```text
//! dcos-checkpoint-journal 1
//! batch <bytes that follow> <sha256 of them, 16 digits>
//! /frameworks/F/executors/E/runs/C/tasks/T         whose the lines below are
//! { ... }                                          what its log is to hold
//! ```
//!
//! A batch is what becomes durable together. The journal is a way-station: `settle` moves what it
//! holds to the logs of the tasks (`task.updates`), which are what is read. That happens when an
//! agent starts, and beside its work whenever a file of the journal is full. Repeating it changes
//! nothing, so it may break off at any instant.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use super::format::{self, FormatError};
use super::read::{bytes, damaged};
use super::settle;
use super::store::CheckpointError;

const HEAD: &str = "dcos-checkpoint-journal 1\n";
const BATCH: &str = "batch ";
/// What the names of its files begin with; a number follows.
const NAME: &str = "updates.journal.";

/// A file is full at this size: what is settled in one go, and read at a start.
const FULL: u64 = if cfg!(test) { 64 << 10 } else { 32 << 20 };

/// Appends to the journal of one agent.
#[derive(Debug)]
pub(super) struct Journal {
    agent: PathBuf,
    current: Option<Current>,
    /// What moves full files to the logs of the tasks.
    settling: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Current {
    file: File,
    length: u64,
}

/// Lines on their way to the journal.
#[derive(Debug, Default)]
pub(super) struct Lines {
    body: String,
    task: Option<String>,
}

impl Lines {
    /// One more line for the log of the task whose directory, below the agent's, is `task`.
    pub(super) fn push(&mut self, task: &Path, line: &str) {
        let task = task.to_string_lossy();
        if self.task.as_deref() != Some(&task) {
            self.body.push('/');
            self.body.push_str(&task);
            self.body.push('\n');
            self.task = Some(task.into_owned());
        }
        self.body.push_str(line);
        self.body.push('\n');
    }
}

impl Journal {
    /// The journal of the agent whose checkpoints are in `agent`.
    pub(super) fn new(agent: PathBuf) -> Self {
        Self {
            agent,
            current: None,
            settling: None,
        }
    }

    /// The directory of the agent it belongs to.
    pub(super) fn agent(&self) -> &Path {
        &self.agent
    }

    /// Returns when `lines` are on stable storage.
    pub(super) fn append(&mut self, lines: &Lines) -> io::Result<()> {
        if lines.body.is_empty() {
            return Ok(());
        }
        // After a failure nobody knows what the file holds: the next batch begins another. So it
        // does if the file was settled behind our back.
        let mut current = match self.current.take() {
            Some(current) if current.file.metadata()?.nlink() > 0 => current,
            _ => self.begin()?,
        };
        let batch = batch(&lines.body);
        current.file.write_all(batch.as_bytes())?;
        current.file.sync_data()?;
        current.length += batch.len() as u64;
        if current.length < FULL || self.is_settling() {
            self.current = Some(current);
        } else {
            self.settle_full_files();
        }
        Ok(())
    }

    fn begin(&self) -> io::Result<Current> {
        let last = files(&self.agent)?.into_keys().next_back().unwrap_or(0);
        let path = self.agent.join(format!("{NAME}{}", last + 1));
        let options = OpenOptions::new().create_new(true).append(true).open(path);
        let mut file = options?;
        file.write_all(HEAD.as_bytes())?;
        File::open(&self.agent)?.sync_all()?;
        let length = HEAD.len() as u64;
        Ok(Current { file, length })
    }

    fn is_settling(&self) -> bool {
        let settling = self.settling.as_ref();
        settling.is_some_and(|settling| !settling.is_finished())
    }

    /// Nobody writes to any file now: the next batch begins another.
    fn settle_full_files(&mut self) {
        let agent = self.agent.clone();
        let full = files(&agent);
        let settle = move || {
            let settled =
                full.and_then(|full| settle_files(&agent, &full).map_err(io::Error::other));
            if let Err(error) = settled {
                // They stay, and the next agent settles them.
                tracing::warn!(?agent, %error, "moving updates to the logs of their tasks");
            }
        };
        self.settling = Some(std::thread::spawn(settle));
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(settling) = self.settling.take() {
            let _ = settling.join();
        }
    }
}

/// Moves everything in the journal to the logs of the tasks.
pub(super) fn settle(agent: &Path) -> Result<(), CheckpointError> {
    let files = files(agent).map_err(|source| super::read::unreadable(agent, source))?;
    settle_files(agent, &files)
}

fn settle_files(agent: &Path, files: &BTreeMap<u64, PathBuf>) -> Result<(), CheckpointError> {
    let mut all = Vec::new();
    for path in files.values() {
        let contents = bytes(path)?.unwrap_or_default();
        all.extend(batches(&contents).map_err(|source| damaged(path, source))?);
    }
    settle::move_to_logs(agent, &all)?;
    for path in files.values() {
        fs::remove_file(path).map_err(|source| CheckpointError::Write {
            work_dir: agent.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// Its files by number.
fn files(agent: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let entries = match fs::read_dir(agent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(NAME));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            files.insert(number, entry.path());
        }
    }
    Ok(files)
}

fn batch(body: &str) -> String {
    format!("{BATCH}{} {}\n{body}", body.len(), format::short(body))
}

/// The bodies of all batches of a file. What a crash left of the last one does not count: nobody
/// was told that it is durable. Damage that whole batches follow does.
fn batches(bytes: &[u8]) -> Result<Vec<String>, FormatError> {
    let Some(mut rest) = bytes.strip_prefix(HEAD.as_bytes()) else {
        // Not even the first line was written in full; what was not may read as zeros.
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let is_torn = HEAD.as_bytes().starts_with(&bytes[..bytes.len() - zeros]);
        return if is_torn {
            Ok(Vec::new())
        } else {
            Err(FormatError::Foreign("dcos-checkpoint-journal 1"))
        };
    };
    let mut bodies = Vec::new();
    while !rest.is_empty() {
        let Some((body, after)) = first(rest) else {
            let marks = rest.windows(BATCH.len()).enumerate().skip(1);
            let mut later = marks.filter(|(_, window)| *window == BATCH.as_bytes());
            return if later.any(|(at, _)| first(&rest[at..]).is_some()) {
                Err(FormatError::Checksum)
            } else {
                Ok(bodies)
            };
        };
        bodies.push(body.to_owned());
        rest = after;
    }
    Ok(bodies)
}

/// The body of the first batch and what follows it; `None` if it is not whole.
fn first(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(BATCH.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (length, sum) = std::str::from_utf8(&rest[..end]).ok()?.split_once(' ')?;
    let (body, after) = rest[end + 1..].split_at_checked(length.parse().ok()?)?;
    let body = std::str::from_utf8(body).ok()?;
    (format::short(body) == sum).then_some((body, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A journal that was cut anywhere, or whose last batch was torn, holds all batches before;
        /// a flipped bit loses no batch but the last unseen.
        #[test]
        fn a_journal_survives_torn_tails(
            count in 0..5_usize,
            cut in 0..700_usize,
            flip in 0..700_usize,
        ) {
            let bodies: Vec<String> = (0..count).map(|n| format!("/t{n}\n{{\"batch \": {n}}}\n")).collect();
            let mut bytes = HEAD.as_bytes().to_vec();
            for body in &bodies {
                bytes.extend(batch(body).into_bytes());
            }
            let cut = cut.min(bytes.len());
            let read = batches(&bytes[..cut]).unwrap();
            prop_assert_eq!(&bodies[..read.len()], &read[..]);
            if cut == bytes.len() {
                prop_assert_eq!(read.len(), count);
            }
            // What the system had not written yet of a longer file reads as zeros.
            let mut zeros = bytes[..cut].to_vec();
            zeros.resize(bytes.len(), 0);
            let read = batches(&zeros).unwrap();
            prop_assert_eq!(&bodies[..read.len()], &read[..]);
            if flip < bytes.len() {
                bytes[flip] ^= 1;
                if let Ok(read) = batches(&bytes) {
                    prop_assert!(read.len() + 1 >= count);
                    prop_assert_eq!(&bodies[..read.len()], &read[..]);
                }
            }
        }
    }

    #[test]
    fn lines_of_one_task_share_its_name() {
        let mut lines = Lines::default();
        lines.push(Path::new("a"), "1");
        lines.push(Path::new("a"), "2");
        lines.push(Path::new("b"), "3");
        lines.push(Path::new("a"), "4");
        assert_eq!(lines.body, "/a\n1\n2\n/b\n3\n/a\n4\n");
    }
}
