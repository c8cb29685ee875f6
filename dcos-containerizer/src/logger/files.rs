//! Rotating files in the sandbox, without a process or a pipe between task and file.
//!
//! The task writes to a file opened for appending. The agent looks at its size now and then;
//! when it is too large, it copies the file to `stdout.1` (after moving older ones on) and
//! truncates it. While no agent runs, the file grows; nothing else happens.
//!
//! A task owns its sandbox and may put anything in the place of its logs. So the file that was
//! opened at launch is what is measured and truncated, never a name; and names are only made
//! anew, never followed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use dcos_proto::mesos::ContainerId;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

use dcos_wire::files::rotated::{self, PACKED, Start};

use crate::containerizer::sandbox;

use super::{ContainerLogger, LogRequest, LoggerError, Logs, Rotation};

/// Keeps output in the sandbox files `stdout` and `stderr`.
#[derive(Debug, Clone)]
pub struct RotatingFiles {
    rotation: Rotation,
    watched: Arc<Mutex<Watched>>,
}

/// Held for moments only: launches and ends of containers wait for it.
type Watched = BTreeMap<ContainerId, Arc<Vec<Log>>>;

/// How often sizes are looked at. A task that prints a gigabyte a second overshoots by that much.
const INTERVAL: Duration = Duration::from_secs(1);

/// One log file that is looked after.
#[derive(Debug)]
struct Log {
    file: File,
    directory: OwnedFd,
    name: &'static str,
    rotation: Rotation,
    owner: Option<(u32, u32)>,
    /// When what is in the file began to be written.
    since: Mutex<SystemTime>,
}

impl RotatingFiles {
    /// Rotates as `rotation` says, where a task does not say otherwise.
    ///
    /// Call it inside a tokio runtime: it looks after the files from there until it is dropped.
    pub fn new(rotation: Rotation) -> Self {
        let watched = Arc::new(Mutex::new(Watched::new()));
        tokio::spawn(look_after(Arc::downgrade(&watched)));
        Self { rotation, watched }
    }

    fn open(&self, request: &LogRequest, flags: OFlags) -> Result<Vec<Log>, LoggerError> {
        [("stdout", "STDOUT"), ("stderr", "STDERR")]
            .into_iter()
            .map(|(name, stream)| {
                let failed = |source| LoggerError::Open {
                    path: request.directory.join(name),
                    source,
                };
                let rotation = self.rotation.for_task(stream, &request.environment)?;
                let (_, directory) = sandbox::open(&request.directory).map_err(failed)?;
                let file = open_log(&directory, name, flags).map_err(failed)?;
                if let Some((uid, gid)) = request.owner {
                    fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
                }
                settle(&file).map_err(failed)?;
                Ok(Log {
                    since: Mutex::new(began(&directory, name, &file)),
                    file,
                    directory,
                    name,
                    rotation,
                    owner: request.owner,
                })
            })
            .collect()
    }
}

#[async_trait]
impl ContainerLogger for RotatingFiles {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn prepare(&self, request: &LogRequest) -> Result<Logs, LoggerError> {
        let logs = self.open(request, OFlags::CREATE)?;
        let handle = |index: usize, name| {
            logs[index]
                .file
                .try_clone()
                .map_err(|source| LoggerError::Open {
                    path: request.directory.join(name),
                    source,
                })
        };
        let handles = Logs {
            stdout: handle(0, "stdout")?,
            stderr: handle(1, "stderr")?,
        };
        lock(&self.watched).insert(request.id.clone(), Arc::new(logs));
        Ok(handles)
    }

    async fn recover(&self, request: &LogRequest) -> Result<(), LoggerError> {
        let logs = self.open(request, OFlags::empty())?;
        lock(&self.watched).insert(request.id.clone(), Arc::new(logs));
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) {
        lock(&self.watched).remove(id);
    }
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look_after(watched: Weak<Mutex<Watched>>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(watched) = watched.upgrade() else {
            return;
        };
        // Copying may take a while.
        let rotation = tokio::task::spawn_blocking(move || rotate_all(&watched));
        if let Err(error) = rotation.await {
            tracing::error!(%error, "rotating logs");
        }
    }
}

fn rotate_all(watched: &Mutex<Watched>) {
    let now = SystemTime::now();
    let due: Vec<_> = lock(watched)
        .iter()
        .filter(|(_, logs)| logs.iter().any(|log| log.is_due(now)))
        .map(|(id, logs)| (id.clone(), Arc::clone(logs)))
        .collect();
    for (id, logs) in due {
        for log in logs.iter().filter(|log| log.is_due(now)) {
            if let Err(error) = log.rotate() {
                tracing::warn!(container = %id, file = log.name, %error, "could not rotate a log");
            }
        }
    }
}

fn size(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// Opens a log for appending; refuses what is not a plain file of its own.
pub(super) fn open_log(directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags
        | OFlags::RDWR
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::from(0o644))?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() > 1 {
        let kind = io::ErrorKind::InvalidInput;
        return Err(io::Error::new(kind, "not a file with one name"));
    }
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// When the content of a log found after a restart began: when the youngest old one was written,
/// else when the file was made.
fn began(directory: &OwnedFd, name: &str, file: &File) -> SystemTime {
    if size(file) == 0 {
        // It has yet to begin.
        return SystemTime::now();
    }
    let written = |suffix: &str| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let old = openat(directory, format!("{name}.1{suffix}"), flags, Mode::empty()).ok()?;
        File::from(old).metadata().ok()?.modified().ok()
    };
    let made = || file.metadata().ok()?.created().ok();
    let known = written("").or_else(|| written(PACKED)).or_else(made);
    known.unwrap_or_else(SystemTime::now)
}

/// Tells where a log begins whose rotation broke off: one that is shorter than what was taken out of it
/// has been emptied, one that is not still holds that.
fn settle(file: &File) -> io::Result<()> {
    match rotated::start(file) {
        Some(Start::Moving(from, to)) if size(file) < to.saturating_sub(from) => {
            rotated::note(file, Start::At(to))
        }
        Some(Start::Moving(from, _)) => rotated::note(file, Start::At(from)),
        _ => Ok(()),
    }
}

impl Log {
    fn is_due(&self, now: SystemTime) -> bool {
        let size = size(&self.file);
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes nothing old.
        let age = now.duration_since(since).unwrap_or_default();
        size > self.rotation.max_size
            || (size > 0 && self.rotation.max_age.is_some_and(|most| age >= most))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match renameat(&self.directory, from, &self.directory, to) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What a copy is called until it is whole.
    fn unfinished(&self) -> String {
        format!(".{}.rotating", self.name)
    }

    /// Copies what there is, which begins at `begins` of all that was ever printed; says how many bytes. A copy that fails,
    /// such as on a full disk, costs no older one its place.
    fn copy_out(&self, begins: u64, size: u64) -> io::Result<u64> {
        let name = self.unfinished();
        self.remove(&name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut copy = File::from(openat(
            &self.directory,
            name.as_str(),
            flags,
            Mode::from(0o644),
        )?);
        let mut copying = || {
            if let Some((uid, gid)) = self.owner {
                fchown(&copy, Some(uid), Some(gid))?;
            }
            // Where such notes cannot be kept, readers see the file alone.
            let noted = rotated::note(&copy, Start::At(begins));
            tracing::trace!(?noted, name = self.name, "rotating");
            let mut log = &self.file;
            log.seek(SeekFrom::Start(0))?;
            copy_log(log, &mut copy, size, self.rotation.compress)
        };
        let copied = copying().inspect_err(|_| {
            self.remove(&name).ok();
        })?;
        if copied >= most(size) {
            tracing::warn!(
                file = self.name,
                "a task prints faster than its log is copied: some of it is lost"
            );
        }
        Ok(copied)
    }

    fn rotate(&self) -> io::Result<()> {
        let old = |number: u32, suffix: &str| format!("{}.{number}{suffix}", self.name);
        let keep = self.rotation.keep;
        let begins = match rotated::start(&self.file) {
            Some(Start::At(begins)) => begins,
            _ => 0,
        };
        let mut taken = size(&self.file);
        if keep > 0 {
            taken = self.copy_out(begins, taken)?;
            // The oldest goes, and with it what a lower count left behind. A task may have been
            // launched with another mind about packing, so that there may be both kinds.
            for suffix in ["", PACKED] {
                self.remove(&old(keep, suffix))?;
                for number in (1..keep).rev() {
                    self.rename(&old(number, suffix), &old(number + 1, suffix))?;
                }
                self.remove(&old(1, suffix))?;
            }
            let suffix = if self.rotation.compress { PACKED } else { "" };
            self.rename(&self.unfinished(), &old(1, suffix))?;
        }
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
        // What the task prints between the last read and here is lost: some microseconds' worth.
        let ends = begins.saturating_add(taken);
        let noted = rotated::note(&self.file, Start::Moving(begins, ends));
        self.file.set_len(0)?;
        match noted {
            Ok(()) => rotated::note(&self.file, Start::At(ends)),
            Err(_) => Ok(()),
        }
    }
}

/// What a task prints while so many bytes are copied is copied behind them, up to as much again and a bit: who prints
/// faster than a disk writes would never be done.
const REST: u64 = 16 << 20;

fn most(size: u64) -> u64 {
    size.saturating_mul(2).saturating_add(REST)
}

/// Copies a log that has `size` bytes and may grow; says how many were copied.
fn copy_log(from: &File, to: &mut File, size: u64, packs: bool) -> io::Result<u64> {
    let (mut body, mut rest) = (from.take(size), from.take(most(size) - size));
    if !packs {
        return Ok(io::copy(&mut body, to)? + io::copy(&mut rest, to)?);
    }
    let mut packer = GzEncoder::new(&mut *to, Compression::fast());
    let copied = io::copy(&mut body, &mut packer)?;
    packer.finish()?;
    // What was printed meanwhile becomes a member of its own: no packing delays the truncation that follows.
    let mut packer = GzEncoder::new(to, Compression::none());
    let more = io::copy(&mut rest, &mut packer)?;
    packer.finish()?;
    Ok(copied + more)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use dcos_wire::files::Files;
    use std::path::Path;

    fn request(directory: &Path) -> LogRequest {
        LogRequest {
            id: ContainerId::root("c"),
            directory: directory.to_owned(),
            ..LogRequest::default()
        }
    }

    fn read(directory: &Path, name: &str) -> String {
        std::fs::read_to_string(directory.join(name)).unwrap_or_else(|_| "-".into())
    }

    #[tokio::test]
    async fn keeps_the_youngest_and_goes_on_in_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_size: 4,
            keep: 2,
            ..Rotation::default()
        };
        let logger = RotatingFiles::new(rotation);
        let mut logs = logger.prepare(&request(dir.path())).await.unwrap();
        for text in ["first", "second", "third", "4"] {
            logs.stdout.write_all(text.as_bytes()).unwrap();
            rotate_all(&logger.watched);
        }
        let found = ["stdout", "stdout.1", "stdout.2", "stdout.3", "stderr.1"]
            .map(|name| read(dir.path(), name));
        assert_eq!(found, ["4", "third", "second", "-", "-"]);
    }

    #[tokio::test]
    async fn what_cannot_be_copied_costs_no_older_one_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_size: 4,
            keep: 2,
            ..Rotation::default()
        };
        let logger = RotatingFiles::new(rotation);
        let mut logs = logger.prepare(&request(dir.path())).await.unwrap();
        for text in ["first", "second"] {
            logs.stdout.write_all(text.as_bytes()).unwrap();
            rotate_all(&logger.watched);
        }
        logs.stdout.write_all(b"third").unwrap();
        let obstacle = dir.path().join(".stdout.rotating");
        std::fs::create_dir(&obstacle).unwrap();
        let names = ["stdout", "stdout.1", "stdout.2"];
        for _ in 0..3 {
            rotate_all(&logger.watched);
            let found = names.map(|name| read(dir.path(), name));
            assert_eq!(found, ["third", "second", "first"]);
        }
        std::fs::remove_dir(&obstacle).unwrap();
        rotate_all(&logger.watched);
        let found = names.map(|name| read(dir.path(), name));
        assert_eq!(found, ["", "third", "second"]);
        assert!(!obstacle.exists());
    }

    #[test]
    fn who_prints_without_end_is_not_followed_to_it() {
        let endless = File::open("/dev/zero").unwrap();
        for packs in [false, true] {
            let mut copy = tempfile::tempfile().unwrap();
            let copied = copy_log(&endless, &mut copy, 4096, packs).unwrap();
            assert_eq!(copied, most(4096), "{packs}");
        }
    }

    #[tokio::test]
    async fn a_task_cannot_lead_the_rotation_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let sandbox = dir.path().join("sandbox");
        std::fs::create_dir(&sandbox).unwrap();
        let rotation = Rotation {
            max_size: 4,
            keep: 1,
            ..Rotation::default()
        };
        let logger = RotatingFiles::new(rotation);
        let mut logs = logger.prepare(&request(&sandbox)).await.unwrap();
        std::fs::remove_file(sandbox.join("stdout")).unwrap();
        std::os::unix::fs::symlink(&victim, sandbox.join("stdout")).unwrap();
        std::os::unix::fs::symlink(&victim, sandbox.join("stdout.1")).unwrap();
        logs.stdout.write_all(b"a lot").unwrap();
        rotate_all(&logger.watched);
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(read(&sandbox, "stdout.1"), "a lot");
        // Nor is a link taken up after a restart.
        assert!(logger.recover(&request(&sandbox)).await.is_err());
        std::fs::remove_file(sandbox.join("stdout")).unwrap();
        std::fs::hard_link(&victim, sandbox.join("stdout")).unwrap();
        assert!(logger.recover(&request(&sandbox)).await.is_err());
    }

    #[tokio::test]
    async fn old_files_are_packed_and_hold_every_byte() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_size: 4,
            keep: 2,
            compress: true,
            ..Rotation::default()
        };
        let logger = RotatingFiles::new(rotation);
        std::fs::write(dir.path().join("stdout.1"), "of a time without packing").unwrap();
        let mut logs = logger.prepare(&request(dir.path())).await.unwrap();
        for text in ["first", "second", "third", "4"] {
            logs.stdout.write_all(text.as_bytes()).unwrap();
            rotate_all(&logger.watched);
        }
        let unpacked = |name: &str| {
            let file = File::open(dir.path().join(name)).unwrap();
            let mut text = String::new();
            flate2::read::MultiGzDecoder::new(file)
                .read_to_string(&mut text)
                .unwrap();
            text
        };
        assert_eq!(
            ["stdout.1.gz", "stdout.2.gz"].map(unpacked),
            ["third", "second"]
        );
        let found = ["stdout", "stdout.1", "stdout.2", "stdout.3.gz"];
        assert_eq!(
            found.map(|name| read(dir.path(), name)),
            ["4", "-", "-", "-"]
        );
    }

    /// The rest of a log from a byte on, as somebody reads who follows it.
    fn follow(files: &Files, from: u64) -> Vec<u8> {
        let mut text = Vec::new();
        loop {
            let piece = files.read("/box/stdout", from + text.len() as u64, Some(3));
            let data = piece.unwrap().data;
            if data.is_empty() {
                return text;
            }
            text.extend(data);
        }
    }

    #[tokio::test]
    async fn readers_find_every_byte_where_it_was() {
        for compress in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let rotation = Rotation {
                max_size: 4,
                keep: 2,
                compress,
                ..Rotation::default()
            };
            let logger = RotatingFiles::new(rotation);
            let mut logs = logger.prepare(&request(dir.path())).await.unwrap();
            let files = Files::default();
            files.attach("/box", dir.path());
            let mut text = Vec::new();
            for (word, kept) in [
                ("first", [0, 0]),
                ("second", [0, 0]),
                ("third", [0, 5]),
                ("fourth", [5, 11]),
            ] {
                logs.stdout.write_all(word.as_bytes()).unwrap();
                text.extend(word.as_bytes());
                for rotated in [false, true] {
                    // The oldest goes with the rotation.
                    let kept = kept[usize::from(rotated)];
                    if rotated {
                        rotate_all(&logger.watched);
                    }
                    for from in kept..=text.len() {
                        let found = follow(&files, from as u64);
                        let found = String::from_utf8_lossy(&found).into_owned();
                        let wanted = String::from_utf8_lossy(&text[from..]);
                        assert_eq!(found, wanted, "from {from}, {word}, {rotated}, {compress}");
                    }
                    let size = files.read("/box/stdout", 0, None).unwrap().size;
                    assert_eq!(size, text.len() as u64);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_log_is_read_exactly_while_it_is_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_size: 40,
            keep: 1000,
            ..Rotation::default()
        };
        let logger = RotatingFiles::new(rotation);
        let mut logs = logger.prepare(&request(dir.path())).await.unwrap();
        let files = Files::default();
        files.attach("/box", dir.path());
        let lines: Vec<_> = (0..500).map(|number| format!("line {number}\n")).collect();
        let wanted = lines.concat();
        let length = wanted.len();
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            while text.len() < length {
                let piece = files.read("/box/stdout", text.len() as u64, None);
                text.extend(piece.unwrap().data);
            }
            String::from_utf8(text).unwrap()
        });
        for line in wanted.split_inclusive('\n') {
            logs.stdout.write_all(line.as_bytes()).unwrap();
            rotate_all(&logger.watched);
        }
        assert_eq!(reader.join().unwrap(), wanted);
    }

    #[tokio::test]
    async fn a_rotation_that_broke_off_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let logger = RotatingFiles::new(Rotation::default());
        drop(logger.prepare(&request(dir.path())).await.unwrap());
        let log = File::options()
            .write(true)
            .open(dir.path().join("stdout"))
            .unwrap();
        for (text, expected) in [("four", 10), ("longer than five", 5)] {
            std::fs::write(dir.path().join("stdout"), text).unwrap();
            rotated::note(&log, Start::Moving(5, 10)).unwrap();
            logger.recover(&request(dir.path())).await.unwrap();
            assert_eq!(rotated::start(&log), Some(Start::At(expected)), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_old_is_rotated_though_it_is_small() {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            max_age: Some(Duration::from_hours(1)),
            ..Rotation::default()
        };
        let logger = RotatingFiles::new(rotation);
        let mut logs = logger.prepare(&request(dir.path())).await.unwrap();
        let due = |hours| {
            let now = SystemTime::now() + Duration::from_hours(hours);
            lock(&logger.watched)
                .values()
                .flat_map(|logs| logs.iter())
                .any(|log| log.is_due(now))
        };
        assert!(!due(2), "an empty file stays");
        logs.stdout.write_all(b"x").unwrap();
        assert!(due(2));
        assert!(!due(0));
        // After a restart the youngest old file tells.
        let old = File::create(dir.path().join("stdout.1")).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_hours(2))
            .unwrap();
        logger.recover(&request(dir.path())).await.unwrap();
        assert!(due(0));
    }
}
