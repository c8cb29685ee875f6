//! All that an agent keeps of frameworks, executors and tasks, in one place that grows: one sync makes the
//! facts of a whole round durable, of however many launches.
//!
//! `journal.N`, beside the agent's `slave.info`, with the lines of [`lines`](super::lines) in batches.
//! When the last file is full, the next is begun; when much of what they hold may be about launches that were
//! deleted, or [tasks that are over](super::over), all full ones are written anew as one, without that. Its first line says from which number on
//! it stands for all before it, so that a crash at any instant leaves either the old files or the new one in force.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use dcos_proto::mesos::FrameworkId;

use super::batches::{Bodies, head};
use super::format::FormatError;
use super::lines::{DELETED, EXECUTOR, FRAMEWORK, Lines, framework_at, lines};
use super::over::Over;
use super::read::{damaged, unreadable};
use super::replay::{Replay, is_over};
use super::store::CheckpointError;
use super::{FrameworkCheckpoint, Run, RunCheckpoint, former};

/// The first line; the number of the first file that this one stands for follows.
const HEAD: &str = "dcos-checkpoint-journal 2 from ";
/// What the names of its files begin with; a number follows.
const NAME: &str = "journal.";

/// A file is full at this size.
const FULL: u64 = if cfg!(test) { 32 << 10 } else { 32 << 20 };
/// A file is filled with zeros so far ahead: to sync what overwrites them costs the file system no entry in a
/// journal of its own.
const AHEAD: u64 = if cfg!(test) { 4 << 10 } else { 1 << 20 };

/// So many files are one too many: each life of an agent begins another.
const MANY: usize = 16;

type Files = BTreeMap<u64, PathBuf>;

/// Appends to the journal of one agent.
#[derive(Debug)]
pub(super) struct Journal {
    agent: PathBuf,
    current: Option<Current>,
    /// Bytes of what was left when the full files were last written anew.
    kept: u64,
    /// Bytes of those that became full since.
    since: u64,
    /// What writes them anew; the size of the outcome.
    compacting: Option<JoinHandle<Option<u64>>>,
}

#[derive(Debug)]
struct Current {
    file: File,
    length: u64,
    /// Up to here the file has zeros.
    ahead: u64,
}

impl Current {
    /// Returns when a batch of `body` is on stable storage.
    fn append(&mut self, body: &[u8]) -> io::Result<()> {
        let head = head(body);
        let begin = self.length + head.len() as u64;
        let end = begin + body.len() as u64;
        while self.ahead < end {
            let zeros = vec![0; usize::try_from(AHEAD).unwrap_or_default()];
            // Where there is no room for all of them there may be for the batch.
            let filled = self.file.write_all_at(&zeros, self.ahead).is_ok();
            self.ahead = if filled { self.ahead + AHEAD } else { end };
        }
        self.file.write_all_at(head.as_bytes(), self.length)?;
        self.file.write_all_at(body, begin)?;
        self.file.sync_data()?;
        self.length = end;
        Ok(())
    }
}

impl Journal {
    /// The journal of the agent whose checkpoints are in `agent`.
    pub(super) fn new(agent: PathBuf) -> Self {
        let sizes: Vec<_> = files(&agent)
            .into_iter()
            .flat_map(Files::into_values)
            .map(|path| fs::metadata(path).map_or(0, |data| data.len()))
            .collect();
        // The first is what those before it were written to, if they were.
        let kept = sizes.first().copied().unwrap_or(0);
        Self {
            agent,
            current: None,
            kept,
            since: sizes.iter().sum::<u64>() - kept,
            compacting: None,
        }
    }

    /// The directory of the agent it belongs to.
    pub(super) fn agent(&self) -> &Path {
        &self.agent
    }

    /// Returns when `lines` are on stable storage.
    pub(super) fn append(&mut self, lines: &Lines) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        // After a failure nobody knows what the file holds: the next batch begins another. So it
        // does if somebody has taken the file away.
        let mut current = match self.current.take() {
            Some(current) if current.file.metadata()?.nlink() > 0 => current,
            _ => {
                if files(&self.agent)?.len() >= MANY && !self.is_compacting() {
                    self.compact();
                }
                self.begin()?
            }
        };
        current.append(lines.as_bytes())?;
        if current.length < FULL || self.is_compacting() {
            self.current = Some(current);
        } else {
            // Whether the zeros behind it go now or never does not matter.
            current.file.set_len(current.length).ok();
            self.since += current.length;
            if let Some(Ok(Some(kept))) = self.compacting.take().map(JoinHandle::join) {
                self.kept = kept;
            }
            if self.since >= self.kept + FULL {
                self.compact();
            }
        }
        Ok(())
    }

    fn begin(&self) -> io::Result<Current> {
        let last = files(&self.agent)?.into_keys().next_back().unwrap_or(0);
        let path = self.agent.join(format!("{NAME}{}", last + 1));
        let file = private().create_new(true).open(&path)?;
        let head = format!("{HEAD}{}\n", last + 1);
        let written = file.write_all_at(head.as_bytes(), 0);
        // One without a head is as good as none, but it counts.
        written.inspect_err(|_| drop(fs::remove_file(&path)))?;
        File::open(&self.agent)?.sync_all()?;
        let length = head.len() as u64;
        Ok(Current {
            file,
            length,
            ahead: length,
        })
    }

    fn is_compacting(&self) -> bool {
        let compacting = self.compacting.as_ref();
        compacting.is_some_and(|compacting| !compacting.is_finished())
    }

    /// Begins to write all files anew beside the work. Nobody writes to any of them now: the next batch begins another.
    fn compact(&mut self) {
        let Ok(full) = files(&self.agent) else { return };
        let agent = self.agent.clone();
        self.since = 0;
        let compacting = std::thread::Builder::new().spawn(move || match compact(&agent, &full) {
            Ok(kept) => Some(kept),
            Err(error) => {
                // They stay as they are.
                tracing::warn!(?agent, %error, "writing the journal anew");
                None
            }
        });
        if let Err(error) = &compacting {
            tracing::warn!(agent = ?self.agent, %error, "no thread to write the journal anew");
        }
        self.compacting = compacting.ok();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(compacting) = self.compacting.take() {
            let _ = compacting.join();
        }
    }
}

/// What is known of an agent's frameworks. What an agent of an earlier version left, in a directory for each
/// launch, is made a journal first; if there is one, that agent came back in between, and what it did is added.
pub(super) fn recover(
    agent: &Path,
) -> Result<BTreeMap<FrameworkId, FrameworkCheckpoint>, CheckpointError> {
    let files = files(agent).map_err(|source| unreadable(agent, source))?;
    let left = former::frameworks(agent)?;
    if files.is_empty() {
        found_on(agent, &left)?;
        return aside(agent).map(|()| left);
    }
    for path in files.values() {
        fs::remove_file(unfinished(path)).ok();
    }
    let known = replay(&files)?;
    let lines = missed(left, &known);
    if lines.is_empty() {
        // It may have died before this was done, or there is nothing to do.
        return aside(agent).map(|()| known);
    }
    let next = files.keys().next_back().map_or(1, |last| last + 1);
    let written = Anew::begin(agent, next, next).and_then(|mut anew| {
        anew.append(lines.as_bytes())?;
        anew.finish()
    });
    written.map_err(|source| failed(agent, source))?;
    aside(agent)?;
    replay(&self::files(agent).map_err(|source| unreadable(agent, source))?)
}

/// What an earlier version left is in the journal.
fn aside(agent: &Path) -> Result<(), CheckpointError> {
    former::remove(agent).map_err(|source| failed(agent, source))
}

fn replay(files: &Files) -> Result<BTreeMap<FrameworkId, FrameworkCheckpoint>, CheckpointError> {
    let mut replay = Replay::default();
    each(files, |body| replay.take(body))?;
    Ok(replay.finish())
}

/// What an agent of the earlier version did after the journal was begun: launches that it does not have.
///
/// That agent knew of none of the journal's, ended what ran, and told the master so. An executor may have come
/// back under its name; then the launch before is forgotten, since an executor runs once.
fn missed(
    left: BTreeMap<FrameworkId, FrameworkCheckpoint>,
    known: &BTreeMap<FrameworkId, FrameworkCheckpoint>,
) -> Lines {
    let mut lines = Lines::default();
    for (id, mut framework) in left {
        let before: Vec<_> = known
            .get(&id)
            .into_iter()
            .flat_map(|it| &it.executors)
            .collect();
        let is_known = |run: &RunCheckpoint| {
            let mut runs = before.iter().flat_map(|executor| &executor.runs);
            runs.any(|other| other.container == run.container)
        };
        for executor in &mut framework.executors {
            executor.runs.retain(|run| !is_known(run));
        }
        framework
            .executors
            .retain(|executor| !executor.runs.is_empty());
        if framework.executors.is_empty() {
            continue;
        }
        for executor in &framework.executors {
            let name = &executor.info.executor_id;
            let same = before
                .iter()
                .filter(|other| other.info.executor_id == *name);
            for run in same.flat_map(|other| &other.runs).filter(|run| {
                run.ended.is_none() || !run.tasks.iter().all(|it| is_over(&it.updates))
            }) {
                let container = &run.container;
                tracing::warn!(%container, executor = %name, "forgotten: an agent of an earlier version launched it anew");
                lines.forget(&Run {
                    framework: id.clone(),
                    executor: name.clone(),
                    container: container.clone(),
                });
            }
        }
        lines.all(&framework);
    }
    lines
}

/// Begins the journal of an agent with what is known.
pub(super) fn found_on(
    agent: &Path,
    known: &BTreeMap<FrameworkId, FrameworkCheckpoint>,
) -> Result<(), CheckpointError> {
    if known.is_empty() {
        return Ok(());
    }
    let written = || {
        let mut anew = Anew::begin(agent, 1, 1)?;
        for framework in known.values() {
            let mut lines = Lines::default();
            lines.all(framework);
            anew.append(lines.as_bytes())?;
        }
        anew.finish()
    };
    written().map(drop).map_err(|source| failed(agent, source))
}

/// Writes all of `files` anew as one, without what was deleted, is over or was replaced.
fn compact(agent: &Path, files: &Files) -> Result<u64, CheckpointError> {
    let (Some(first), Some(last)) = (files.keys().next(), files.keys().next_back()) else {
        return Ok(0);
    };
    let mut launches = HashSet::new();
    let mut deleted = HashSet::new();
    let mut over = Over::default();
    // The number of its last line among all of its kind, which is the one that counts.
    let (mut frameworks, mut count) = (HashMap::new(), 0);
    each(files, |body| {
        for (owner, word, contents) in lines(body) {
            over.take(owner, word, contents);
            match word {
                FRAMEWORK => {
                    count += 1;
                    frameworks.insert(owner.to_owned(), count);
                }
                EXECUTOR => drop(launches.insert(owner.to_owned())),
                DELETED => drop(deleted.insert(owner.to_owned())),
                _ => {}
            }
        }
        Ok(())
    })?;
    launches.retain(|launch| !deleted.contains(launch));
    let forgotten = over.finish();
    let used: BTreeSet<_> = launches.iter().filter_map(|it| framework_at(it)).collect();
    frameworks.retain(|owner, _| framework_at(owner).is_some_and(|id| used.contains(&id)));
    let mut anew = Anew::begin(agent, *first, *last).map_err(|source| failed(agent, source))?;
    let (mut count, mut refused) = (0, None);
    each(files, |body| {
        let mut left = Lines::default();
        for (owner, word, contents) in lines(body) {
            let stays = if word == FRAMEWORK {
                count += 1;
                frameworks.get(owner) == Some(&count)
            } else {
                launches.contains(owner) && !forgotten.holds(owner, word, contents)
            };
            if stays {
                left.push(owner, word, contents);
            }
        }
        if refused.is_none() {
            refused = anew.append(left.as_bytes()).err();
        }
        Ok(())
    })?;
    let finished = match refused {
        None => anew.finish(),
        Some(refused) => Err(refused),
    };
    let size = finished.map_err(|source| {
        fs::remove_file(unfinished(&files[last])).ok();
        failed(agent, source)
    })?;
    let before = files.iter().filter(|(number, _)| *number < last);
    for (_, path) in before {
        fs::remove_file(path).map_err(|source| failed(agent, source))?;
    }
    Ok(size)
}

/// What a file is called until it is complete.
fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// For what may hold secrets: environments of tasks.
fn private() -> OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

/// A file that takes the place of others once it is complete.
struct Anew {
    agent: PathBuf,
    path: PathBuf,
    file: BufWriter<File>,
    size: u64,
}

impl Anew {
    /// It stands for all from `first` to `last`.
    fn begin(agent: &Path, first: u64, last: u64) -> io::Result<Self> {
        let path = agent.join(format!("{NAME}{last}"));
        let file = private()
            .create(true)
            .truncate(true)
            .open(unfinished(&path))?;
        let file = BufWriter::new(file);
        let mut anew = Self {
            agent: agent.to_owned(),
            path,
            file,
            size: 0,
        };
        anew.write(format!("{HEAD}{first}\n").as_bytes())?;
        Ok(anew)
    }

    fn append(&mut self, body: &[u8]) -> io::Result<()> {
        if body.is_empty() {
            return Ok(());
        }
        self.write(head(body).as_bytes())?;
        self.write(body)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Its size.
    fn finish(self) -> io::Result<u64> {
        self.file.into_inner()?.sync_all()?;
        fs::rename(unfinished(&self.path), &self.path)?;
        File::open(self.agent)?.sync_all()?;
        Ok(self.size)
    }
}

/// Hands on the batches of all files that are in force, oldest first.
fn each(
    files: &Files,
    mut take: impl FnMut(&str) -> Result<(), FormatError>,
) -> Result<(), CheckpointError> {
    let open = |path| {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| unreadable(path, source))?,
        };
        Bodies::open(BufReader::new(file), HEAD).map_err(|error| error.at(path))
    };
    let mut in_force: Vec<(u64, &Path)> = Vec::new();
    for (number, path) in files {
        let Some((first, _)) = open(path)? else {
            continue;
        };
        let first = first.parse::<u64>();
        let first = first.map_err(|_| damaged(path, FormatError::Foreign(HEAD)))?;
        // It stands for those.
        in_force.retain(|(before, _)| *before < first);
        in_force.push((*number, path));
    }
    // One at a time: a process may have so many files open and no more.
    for (_, path) in in_force {
        let Some((_, mut bodies)) = open(path)? else {
            continue;
        };
        while let Some(body) = bodies.next().map_err(|error| error.at(path))? {
            take(&body).map_err(|source| damaged(path, source))?;
        }
    }
    Ok(())
}

/// Its files by number.
fn files(agent: &Path) -> io::Result<Files> {
    let entries = match fs::read_dir(agent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Files::new()),
        entries => entries?,
    };
    let mut files = Files::new();
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

fn failed(agent: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Write {
        work_dir: agent.to_owned(),
        source,
    }
}
