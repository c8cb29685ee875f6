//! The log as files of `--log_dir`, named as Mesos's logging library (glog) names them.
//!
//! `dcos-master.INFO` is a link to the file that is being written, `dcos-master.HOST.USER.log.INFO.DATE-TIME.PID`. A file of
//! 100 MB is followed by a new one. Of the old ones of one program those stay that were written last: 1 GB, and a thousand files, beside those whose process lives.
//! (glog begins anew after 1.8 GB and removes nothing.) All levels are in the one file: glog's `WARNING` and `ERROR` would say the same lines again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Zoned;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{self, Pid};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes after which a new file begins.
const LARGEST: u64 = 100 << 20;

/// How many bytes of old files stay, and how many files.
const KEPT: (u64, usize) = (1 << 30, 1_000);

/// The link to what `program` logs into `folder`.
pub(crate) fn link(folder: &Path, program: &str) -> PathBuf {
    folder.join(format!("{program}.INFO"))
}

/// Writes lines into the newest file of a folder.
pub(crate) struct LogFile {
    folder: PathBuf,
    program: String,
    /// Of the file's name, what is the same for all of this process.
    owner: String,
    largest: u64,
    kept: (u64, usize),
    open: Mutex<Open>,
}

struct Open {
    file: File,
    written: u64,
}

impl LogFile {
    /// Begins a file in `folder`, which is made if it is not there.
    pub(crate) fn begin(folder: &Path, program: &str) -> io::Result<Self> {
        Self::bounded(folder, program, LARGEST, KEPT)
    }

    fn bounded(folder: &Path, program: &str, largest: u64, kept: (u64, usize)) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let user = std::env::var("USER").unwrap_or_else(|_| match process::getuid() {
            root if root.is_root() => "root".to_owned(),
            other => other.as_raw().to_string(),
        });
        let owner = format!("{host}.{user}").replace('/', "_");
        let open = start(folder, program, &owner, kept)?;
        Ok(Self {
            folder: folder.to_owned(),
            program: program.to_owned(),
            owner,
            largest,
            kept,
            open: Mutex::new(open),
        })
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.written >= self.largest {
            // Where no new one can begin, the log goes on in the old one.
            match start(&self.folder, &self.program, &self.owner, self.kept) {
                Ok(next) => *open = next,
                Err(_) => open.written = 0,
            }
        }
        open.file.write_all(line)?;
        open.written += line.len() as u64;
        Ok(())
    }
}

/// A new file, the link to it, and room for it.
fn start(folder: &Path, program: &str, owner: &str, kept: (u64, usize)) -> io::Result<Open> {
    let now = Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let begins = format!("{program}.{owner}.log.INFO.");
    let name = format!("{begins}{now}.{}", std::process::id());
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o640);
    // Whoever may write into the folder chooses no other file for us.
    let file = file.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let file = file.open(folder.join(&name))?;
    let written = file.metadata()?.len();

    let link = link(folder, program);
    let new = folder.join(format!(".{program}.INFO.{}", std::process::id()));
    let _ = fs::remove_file(&new);
    symlink(&name, &new)?;
    fs::rename(&new, link)?;

    let mut old: Vec<_> = fs::read_dir(folder)?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let other = entry.file_name().into_string().ok()?;
            let is_old = other.starts_with(&begins) && other != name && !is_written(&other);
            let about = is_old.then(|| entry.metadata().ok())??;
            Some((about.modified().ok()?, about.len(), other))
        })
        .collect();
    old.sort_unstable_by(|a, b| b.cmp(a));
    let (most, files) = kept;
    let mut bytes = 0;
    for (at, (_, length, name)) in old.iter().enumerate() {
        bytes += length;
        if bytes > most || at >= files {
            let _ = fs::remove_file(folder.join(name));
        }
    }
    Ok(Open { file, written })
}

/// Whether another process writes this file: another agent of the host may have the same folder.
fn is_written(name: &str) -> bool {
    let pid = name.rsplit_once('.').and_then(|(_, pid)| pid.parse().ok());
    let pid = pid
        .and_then(Pid::from_raw)
        .filter(|pid| *pid != process::getpid());
    pid.is_some_and(|pid| process::test_kill_process(pid) != Err(Errno::SRCH))
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// Takes what belongs to one line, which the subscriber writes at once.
pub(crate) struct Line<'a>(&'a LogFile);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn files_follow_each_other_and_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("log");
        fs::create_dir(&folder).unwrap();
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy().into_owned();
        let user = std::env::var("USER").unwrap_or_else(|_| "root".into());
        // Of a clock that was ahead: it says nothing of who came first.
        // Of processes that are no more: no pid is as high.
        let named = |time: &str| folder.join(format!("demo.{host}.{user}.log.INFO.{time}.4194305"));
        let old = ["21000101-000000", "21000102-000000", "21000103-000000"].map(named);
        let begin = SystemTime::now() - Duration::from_secs(3600);
        for (path, minute) in old.iter().rev().zip(0..) {
            fs::write(path, [b'x'; 40]).unwrap();
            let file = File::options().append(true).open(path).unwrap();
            file.set_modified(begin + Duration::from_secs(60 * minute))
                .unwrap();
        }
        fs::write(folder.join("demo.other.txt"), "somebody else's").unwrap();
        // The first process lives, and may write there.
        let living = folder.join(format!("demo.{host}.{user}.log.INFO.20000101-000000.1"));
        fs::write(&living, [b'x'; 400]).unwrap();
        let is_there = || old.each_ref().map(|path| path.exists());

        // Two of 40 bytes are within 100; the one that was written first goes.
        let log = LogFile::bounded(&folder, "demo", 8, (100, 10)).unwrap();
        let link = link(&folder, "demo");
        log.make_writer().write_all(b"one line\n").unwrap();
        assert_eq!(fs::read(&link).unwrap(), b"one line\n");
        assert_eq!(is_there(), [true, true, false]);
        assert!(folder.join("demo.other.txt").exists());

        // The next one's name says its second; within the same one the file goes on.
        let first = fs::read_link(&link).unwrap();
        while fs::read_link(&link).unwrap() == first {
            log.make_writer().write_all(b"another\n").unwrap();
        }
        assert_eq!(fs::read(&link).unwrap(), b"another\n");
        drop(log);

        let _log = LogFile::bounded(&folder, "demo", 8, (u64::MAX, 1)).unwrap();
        assert_eq!(is_there(), [false; 3], "one old file may stay");
        assert!(living.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(LogFile::begin(&file.path().join("log"), "demo").is_err());
    }
}
