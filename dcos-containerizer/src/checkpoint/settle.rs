//! From the journal to the logs of the tasks.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::files::side_by_side;
use super::format;
use super::read::{bytes, damaged};
use super::store::CheckpointError;

/// From so many files on, everything the file system holds back is written in one go: cheaper than
/// one journal commit of the file system after the other.
const MANY: usize = 64;

/// Appends to the logs of tasks, below `agent`, what bodies of batches say and the logs do not hold
/// yet; returns when all is on stable storage. Tasks that were deleted are passed over.
pub(super) fn move_to_logs(agent: &Path, bodies: &[String]) -> Result<(), CheckpointError> {
    let mut changed = Vec::new();
    for (task, lines) in by_task(bodies) {
        let task = agent.join(task);
        if task.is_dir() {
            changed.extend(complete(&task.join("task.updates"), &lines)?);
        }
    }
    sync(agent, &changed).map_err(|source| failed(agent, source))
}

/// The lines of each task, oldest first.
fn by_task(bodies: &[String]) -> BTreeMap<&str, Vec<&str>> {
    let mut tasks = BTreeMap::<&str, Vec<&str>>::new();
    for body in bodies {
        let mut task = "";
        for line in body.lines() {
            match line.strip_prefix('/') {
                Some(named) => task = named,
                None => tasks.entry(task).or_default().push(line),
            }
        }
    }
    tasks
}

/// Appends what is missing to a log, cutting off what a crash left unfinished of it.
fn complete(path: &Path, lines: &[&str]) -> Result<Option<(PathBuf, File)>, CheckpointError> {
    let before = bytes(path)?.unwrap_or_default();
    let log = format::read_log(&before).map_err(|source| damaged(path, source))?;
    let known: HashSet<&[u8]> = before[..log.good].split(|byte| *byte == b'\n').collect();
    let mut more = Vec::new();
    if log.good == 0 {
        more.extend_from_slice(format::log_head());
    }
    let head = more.len();
    for line in lines {
        let line = format::log_line(line);
        if !known.contains(line.trim_ascii_end()) {
            more.extend(line);
        }
    }
    if more.len() == head {
        return Ok(None);
    }
    let append = || {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.set_len(log.good as u64)?;
        file.write_all(&more)?;
        Ok::<_, io::Error>(file)
    };
    match append() {
        Ok(file) => Ok(Some((path.to_owned(), file))),
        // The task was deleted meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

fn sync(agent: &Path, changed: &[(PathBuf, File)]) -> io::Result<()> {
    if changed.len() >= MANY {
        return Ok(rustix::fs::syncfs(File::open(agent)?)?);
    }
    side_by_side(changed, |(_, file)| file.sync_all())?;
    let directories: Vec<_> = changed
        .iter()
        .filter_map(|(path, _)| path.parent())
        .collect();
    side_by_side(&directories, |directory| match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        directory => directory?.sync_all(),
    })
}

fn failed(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Write {
        work_dir: path.to_owned(),
        source,
    }
}
